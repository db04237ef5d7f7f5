"""Output on the terminal during training: a progress bar, and one line per epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ..core.history import EpochRecord
from ..core.subsampler import Subsampler
from ..core.watching import OUT
from ..options.train_options import TrainOptions
from ..policies import ErrorMass, Watch
from ..policies.watch import WOULD
from ..spelling import one_line
from ..terminal.rich_console import RichConsole, cell
from ..terminal.streams import complain
from .launched import launched_rank

_COLUMNS = (
    "epoch", "kept", "learned", "outliers", "back", "measured", "left out", "error", "loss", "train", "test",
    "so far",
)  # fmt: skip
_COUNTS = ("kept", "learned", "outliers", "back", "measured")
_LEAST = ("train", "measured", "back", "outliers", "learned")
"""Columns that are left out of a narrow terminal, in this order."""


class Console:
    """Printer to standard output: a live bar on a terminal, plain lines elsewhere.

    Args:
        rich: the console to print to.
        silent: whether to print nothing, as on all ranks but the first.
        quiet: whether to print warnings alone, on standard error.
    """

    def __init__(self, rich: RichConsole, *, silent: bool = False, quiet: bool = False) -> None:
        self.rich, self.silent, self._quiet = rich, silent or quiet, quiet and not silent
        self._progress: Progress | None = None
        self._task: Any = None
        self._widths: dict[str, int] = {}

    @staticmethod
    def here() -> Console:
        """Return the console of this process."""
        return Console(RichConsole(), silent=launched_rank() > 0)

    @staticmethod
    def of(options: TrainOptions) -> Console:
        """Return the console of this process that options ask for."""
        rich = RichConsole(stderr=options.json)
        return Console(rich, silent=launched_rank() > 0, quiet=options.quiet)

    @staticmethod
    def nowhere() -> Console:
        """Return a console that prints nothing."""
        return Console(RichConsole(quiet=True), silent=True)

    @staticmethod
    def beside() -> Console:
        """Return a console that shows progress on standard error."""
        return Console(RichConsole(stderr=True))

    @property
    def live(self) -> bool:
        """Whether a moving bar can be shown."""
        return self.rich.is_terminal and not self.silent

    def line(self, text: str = "") -> None:
        """Print one line; line breaks, which a name may hold, are escaped."""
        if not self.silent:
            # As Text, since rich would read brackets in a name as markup.
            self.rich.print(Text(one_line(text)), soft_wrap=True)

    def passage(self, text: str) -> None:
        """Print a sentence, wrapped between words on a terminal."""
        if self.live:
            self.rich.print(text, markup=False)
        else:
            self.line(text)

    def warn(self, text: str) -> None:
        """Print a sentence that matters even if nothing else is printed."""
        if self._quiet:
            complain(f"fallow: {text}")
        else:
            self.passage(text)

    @contextmanager
    def reading(self, name: str) -> Iterator[Callable[[int, int], None] | None]:
        """Show the progress of reading the data; None on anything but a terminal."""
        if not self.live:
            yield None
            return
        with Progress(
            TextColumn("Reading {task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            console=self.rich,
            transient=True,
        ) as bar:
            task = bar.add_task(one_line(name), total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    def begin(
        self,
        subsampler: Subsampler,
        batches: int,
        options: TrainOptions,
        opening: Sequence[tuple[str, str]],
    ) -> None:
        """Print what is trained, and the head of the table of epochs.

        Args:
            subsampler: before the first epoch.
            batches: the number of batches in the first epoch.
            options: of the training.
            opening: facts about the training, by name.
        """
        epochs = subsampler.schedule.epochs
        self.facts(opening)
        bits = "bits a character" if options.task == "language-model" else "accuracy"
        loss = "mean loss" if subsampler.policy.relative_to_batch else "mean score"
        heads = {name: name for name in _COLUMNS}
        heads |= {"learned": "not drawn"} if subsampler.policy.draws else {}
        heads |= {"test": "valid"} if options.validation is not None else {}
        watches = isinstance(subsampler.policy, Watch)
        has_error = watches or isinstance(subsampler.policy, ErrorMass)
        heads |= {"left out": "would leave"} if watches else {}
        needless = {"train"} if subsampler.labels is None else set()
        needless |= set() if has_error else {"left out", "error"}
        needless |= {"learned", "outliers", "back", "measured"} if watches else set()
        left_out = self._set_widths(heads, subsampler.n, epochs, needless)
        legend = [f"loss: {loss} of the samples trained on"]
        if has_error:
            rule = "the default would leave" if watches else "the policy leaves"
            legend.insert(
                0,
                f"error: share of the error still to be learned that {rule} out, as expected and before "
                "samples come back",
            )
        if watches:
            legend.insert(0, "would leave: share of the samples that the default would leave out")
        legend += ["train: accuracy on them, while training"] if "train" in self._widths else []
        legend += [f"{heads['test']}: {bits}", "so far: share of full training's samples"]
        self.passage(f"{'; '.join(legend)}.")
        if left_out:
            self.passage(f"No room for {', '.join(left_out)}: see summary.json, or widen the terminal.")
        self._row(heads)
        if self.live:
            self._progress = Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("loss {task.fields[loss]}"),
                TimeRemainingColumn(compact=True),
                console=self.rich,
                transient=True,
            )
            self._progress.start()
            self._task = self._progress.add_task("train", total=batches, epoch=f"1/{epochs}", loss="-")

    def batch(self, epoch: int, epochs: int, done: int, total: int, loss: float | None) -> None:
        """Move the bar."""
        if self._progress is not None:
            shown = "-" if loss is None else number(loss)
            self._progress.update(
                self._task, completed=done, total=total, epoch=f"{epoch + 1}/{epochs}", loss=shown
            )

    def epoch(
        self,
        record: EpochRecord,
        epochs: int,
        measured: int,
        loss: float | None,
        tested: str,
        so_far: float,
        trained: str = "-",
    ) -> None:
        """Print the line of a finished epoch.

        ``tested`` is the result of its evaluation, ``trained`` the accuracy on the samples trained on.
        """
        out = record.notes.get(OUT, record.n - record.kept)
        held = record.notes.get("error", record.notes.get(f"{WOULD}error", 0.0))
        self._row(
            {
                "epoch": f"{record.epoch + 1}/{epochs}",
                "kept": f"{record.kept:,}",
                "learned": f"{record.learned + record.not_drawn:,}",
                "outliers": f"{record.outliers:,}",
                "back": f"{record.readmitted:,}",
                "measured": f"{measured:,}",
                "left out": f"{out / record.n:.1%}",
                "error": f"{held:.1%}",
                "loss": "-" if loss is None else number(loss),
                "train": trained,
                "test": tested,
                "so far": f"{so_far:.1%}",
            }
        )

    def _set_widths(self, heads: dict[str, str], n: int, epochs: int, needless: set[str]) -> list[str]:
        """Set the width of each column; return the columns that do not fit on the terminal."""
        needed = {"epoch": f"{epochs}/{epochs}"} | dict.fromkeys(_COUNTS, f"{n:,}")
        needed |= dict.fromkeys(("so far", "left out", "error"), "100.0%")
        needed |= dict.fromkeys(("loss", "train", "test"), "100.00%")
        names = [name for name in _COLUMNS if name not in needless]
        self._widths = {name: max(len(heads[name]), len(needed[name])) for name in names}
        left_out = []
        for name in _LEAST:
            if self.live and sum(self._widths.values()) + len(self._widths) > self.rich.width:
                left_out += [name] if self._widths.pop(name, None) is not None else []
        return [name for name in _COLUMNS if name in left_out]

    def _row(self, cells: dict[str, str]) -> None:
        self.line(" ".join(f"{cells[name]:>{width}}" for name, width in self._widths.items()))

    def end(self) -> None:
        """Remove the bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def facts(self, rows: Sequence[tuple[str, str]]) -> None:
        """Print facts by name: wrapped on a terminal, elsewhere one line each."""
        if self.live:
            self.table(rows)
        else:
            widest = max(len(name) for name, _ in rows)
            for name, value in rows:
                self.line(f"{name:<{widest}}  {value}")
        self.line()

    def table(self, rows: Sequence[tuple[str, str]]) -> None:
        """Print a table of two columns."""
        if self.silent:
            return
        table = Table(show_header=False, box=None, pad_edge=False)
        table.add_column(style="bold" if self.live else None)
        # rich would cut a long word, such as a path, with an ellipsis.
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(cell(name), cell(value))
        self.rich.print()
        self.rich.print(table)


def number(value: float) -> str:
    """Return a loss with four decimals, in scientific form if very large, a dash if not finite.

    >>> number(0.12345), number(7.36e18), number(float("nan"))
    ('0.1235', '7.4e+18', '-')
    """
    if not math.isfinite(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 1e5 else f"{value:.1e}"
