"""What a person sees while a network trains: one bar that moves, and one line an epoch."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ..history import EpochRecord
from ..spelling import one_line
from ..step_rules import StepRule
from ..subsampler import Subsampler
from .options import TrainOptions
from .rich_console import RichConsole, cell

_COLUMNS = {
    "epoch": 7,
    "kept": 10,
    "learned": 9,
    "outliers": 8,
    "back": 8,
    "measured": 8,
    "loss": 7,
    "test": 7,
    "so far": 7,
}
_DRAWN = ("soft", "below-mean", "infobatch", "seta", "repb", "random")
_WIDE_ONLY = ("outliers", "back", "measured")


class Console:
    """Prints to standard output: a live bar on a terminal, plain lines anywhere else.

    Args:
        rich: where to print.
        silent: print nothing, as on any but the first rank.
    """

    def __init__(self, rich: RichConsole, *, silent: bool = False) -> None:
        self.rich, self.silent = rich, silent
        self._progress: Progress | None = None
        self._task: Any = None

    @staticmethod
    def here() -> Console:
        """Return the console of this process."""
        silent = any(int(os.environ.get(name, "0") or 0) for name in ("RANK", "LOCAL_RANK"))
        return Console(RichConsole(), silent=silent)

    @staticmethod
    def nowhere() -> Console:
        """Return a console that prints nothing."""
        return Console(RichConsole(quiet=True), silent=True)

    @staticmethod
    def beside() -> Console:
        """Return a console that shows how far work is on standard error."""
        return Console(RichConsole(stderr=True))

    @property
    def live(self) -> bool:
        """Whether a moving bar can be shown."""
        return self.rich.is_terminal and not self.silent

    def line(self, text: str = "") -> None:
        """Print one line; a line break in it, as a name may hold, is spelled."""
        if not self.silent:
            self.rich.print(Text(one_line(text)), soft_wrap=True)

    @contextmanager
    def reading(self, name: str) -> Iterator[Callable[[int, int], None] | None]:
        """Show how far reading the data is, where that takes a while."""
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
        self, subsampler: Subsampler, batches: int, options: TrainOptions, step_rule: StepRule | None = None
    ) -> None:
        """Say what is trained, and head the table."""
        epochs = subsampler.schedule.epochs
        rule = "nothing left out" if options.policy == "full" else repr(step_rule or subsampler.policy)
        self.line(f"{options.data}: {subsampler.n:,} samples, {epochs} epoch{'s'[: epochs != 1]}, {rule}")
        bits = "; test: bits a character" if options.task == "language-model" else ""
        loss = "mean loss" if options.policy == "repb" else "mean score"
        self.line(f"loss: {loss} of the samples trained on; so far: share of full training's samples{bits}")
        if not self._wide:
            self.line(f"No room for {', '.join(_WIDE_ONLY)}: see summary.json, or widen the terminal.")
        drawn = options.policy in _DRAWN
        heads = {name: name for name in _COLUMNS} | ({"learned": "not drawn"} if drawn else {})
        self._row(heads | ({"test": "valid"} if options.validation is not None else {}))
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
    ) -> None:
        """Print the line of a finished epoch; ``tested`` says what its evaluation found."""
        place = f"{record.epoch + 1}/{epochs}"
        removed = record.learned + record.not_drawn
        self._row(
            {
                "epoch": place,
                "kept": f"{record.kept:,}",
                "learned": f"{removed:,}",
                "outliers": f"{record.outliers:,}",
                "back": f"{record.readmitted:,}",
                "measured": f"{measured:,}",
                "loss": "-" if loss is None else number(loss),
                "test": tested,
                "so far": f"{so_far:.1%}",
            }
        )

    @property
    def _wide(self) -> bool:
        """Whether there is room for every column."""
        return not self.live or self.rich.width > sum(_COLUMNS.values()) + len(_COLUMNS) - 1

    def _row(self, cells: dict[str, str]) -> None:
        """Print a row of the table; a terminal too narrow for it gets the columns that matter most."""
        shown = [name for name in cells if self._wide or name not in _WIDE_ONLY]
        self.line(" ".join(f"{cells[name]:>{_COLUMNS[name]}}" for name in shown))

    def end(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def table(self, rows: list[tuple[str, str]]) -> None:
        """Print a table of two columns."""
        if self.silent:
            return
        table = Table(show_header=False, box=None, pad_edge=False)
        table.add_column(style="bold" if self.live else None)
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(cell(name), cell(value))
        self.rich.print()
        self.rich.print(table)


def number(value: float) -> str:
    """Return a loss with four decimals, or short if it is very large; a dash if it is not finite.

    >>> number(0.12345), number(7.36e18), number(float("nan"))
    ('0.1235', '7.4e+18', '-')
    """
    if not math.isfinite(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 1e5 else f"{value:.1e}"
