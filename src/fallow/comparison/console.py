"""The progress and the table of a comparison, as a terminal shows them."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Sequence
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from ..spelling import one_line
from ..terminal.rich_console import RichConsole, cell
from .forecast import duration, weight
from .measure import measure_in
from .plan import Run
from .pool import Event
from .table import caption, rows

PLAIN_WIDTH = 140
"""Columns if the output is no terminal."""


class Console:
    """Prints lines and, on a terminal, progress bars.

    Args:
        rich: where to print.
        silent: print nothing.
    """

    def __init__(self, rich: RichConsole, *, silent: bool = False) -> None:
        self.rich, self.silent = rich, silent
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._all: TaskID | None = None
        self._work = _Work([])

    @staticmethod
    def here(*, on_stderr: bool = False, silent: bool = False) -> Console:
        """Return the console of this process."""
        stream = sys.stderr if on_stderr else sys.stdout
        # For a file rich assumes 80 columns, which would cut the table.
        width = None if stream.isatty() else PLAIN_WIDTH
        return Console(RichConsole(stderr=on_stderr, width=width), silent=silent)

    def line(self, text: str = "") -> None:
        """Print one line; line breaks, which a name may hold, are escaped."""
        if not self.silent:  # a file gets whole lines: they are searched by line
            self.rich.print(Text(one_line(text)), soft_wrap=not self.rich.is_terminal)

    def begin(self, runs: Sequence[Run], n: float, seconds: float | None, done: int) -> None:
        """Start the progress bars, with ``done`` runs finished before."""
        self._work = _Work(runs, n, seconds)
        self._count, self._done = done + len(runs), done
        if self.rich.is_terminal and not self.silent:
            self._bars = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[left]}"),
                console=self.rich,
                transient=True,
            )
            self._bars.start()
            self._all = self._bars.add_task("all runs", total=self._count, completed=done, left="")

    def happened(self, event: Event) -> None:
        """Show an event."""
        name = event.run.name
        self._work.note(event)
        if event.kind in ("done", "failed"):
            self._done += 1
            self._finished(event)
        if self._bars is None or self._all is None:
            return
        if event.kind == "began":
            epochs = event.run.options.epochs
            self._tasks[name] = self._bars.add_task(one_line(name), total=epochs, left="epochs")
        elif event.kind == "epoch":
            self._bars.update(self._tasks[name], completed=event.epoch)
        elif name in self._tasks:
            self._bars.remove_task(self._tasks.pop(name))
        left = self._work.seconds_left()
        remaining = "" if left is None else f"{duration(left)} left"
        self._bars.update(self._all, completed=self._done, left=remaining)

    def _finished(self, event: Event) -> None:
        place = f"{self._done}/{self._count} {event.run.name}:"
        if event.kind == "failed":
            first, *others = event.reason.splitlines() or [""]
            self.line(f"{place} failed: {first}")
            for line in others:  # indented: a library's text must not pass for a line of fallow
                self.line(f"    {line}")
            return
        result, seconds = "done", 0.0
        if (finished := event.run.summary()) is not None:
            measure = measure_in([finished.plain])
            value = getattr(finished.summary, measure.name)
            result = "done" if value is None else measure.show(value)
            result += ", diverged" if finished.summary.diverged else ""
            seconds = finished.summary.seconds or 0.0
        left = self._work.seconds_left()
        rest = f", {duration(left)} left" if left and self._done < self._count else ""
        self.line(f"{place} {result}, {seconds:.1f} s{rest}")

    def end(self) -> None:
        """Remove the bars."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def table(self, results: dict[str, Any]) -> None:
        """Print the results as a table, with as many columns as fit."""
        if not self.silent:
            self.rich.print(make_table(results, self.rich.width))
            self.line(caption(results))
            if left := left_out(results, self.rich.width):
                self.line(left)


class _Work:
    """The share of the work that is done, in samples, and the time that the rest takes."""

    def __init__(self, runs: Sequence[Run], n: float = 0, seconds: float | None = None) -> None:
        self._weights = {run.name: weight(run, n) for run in runs}
        self._shares = dict.fromkeys(self._weights, 0.0)
        self._first, self._began = seconds, time.monotonic()

    def note(self, event: Event) -> None:
        """Count a finished epoch or run."""
        epochs = event.run.options.epochs
        self._shares[event.run.name] = event.epoch / epochs if event.kind == "epoch" else 0.0
        if event.kind in ("done", "failed"):
            self._shares[event.run.name] = 1.0

    def seconds_left(self) -> float | None:
        """Return the time for the rest at the pace so far; before 2 % are done, by the probe."""
        all_ = sum(self._weights.values())
        done = sum(self._weights[name] * share for name, share in self._shares.items())
        past = time.monotonic() - self._began
        if done < 0.02 * all_:  # too little for a pace
            return None if self._first is None else max(0.0, self._first - past)
        return past * (all_ - done) / done


def make_table(results: dict[str, Any], width: int) -> Table:
    """Return the table for a terminal of ``width`` columns; the last columns of the table go first."""
    heads, cells = rows(results)
    shown, widths = _room(heads, cells, width)
    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
    for head, needed in zip(heads[:shown], widths, strict=False):
        side: Any = "left" if head == "arm" else "right"
        table.add_column(head, justify=side, vertical="bottom", width=needed, overflow="fold")
    for line in cells:
        table.add_row(*map(cell, line[:shown]))
    return table


def _room(heads: list[str], cells: list[list[str]], width: int) -> tuple[int, list[int]]:
    """Return how many columns of the table fit, and the width of each."""
    widths = [max(len(line[i]) for line in [*cells, [""] * len(heads)]) for i in range(len(heads))]
    widths = [max(w, *(len(word) for word in head.split())) for w, head in zip(widths, heads, strict=True)]
    shown = len(heads)
    # Arm, saving, result and the first difference are what a comparison is for.
    while shown > 4 and sum(widths[:shown]) + 2 * (shown - 1) > width:
        shown -= 1
    return shown, widths


def left_out(results: dict[str, Any], width: int) -> str:
    """Return a sentence on the columns that do not fit into ``width``; empty if all do."""
    heads, cells = rows(results)
    missing = heads[_room(heads, cells, width)[0] :]
    return f"No room for {', '.join(missing)}: see results.json, or widen the terminal." if missing else ""


def table_text(results: dict[str, Any], width: int = PLAIN_WIDTH) -> str:
    """Return the table as plain text."""
    file = io.StringIO()
    RichConsole(file=file, width=width, no_color=True).print(make_table(results, width))
    left = left_out(results, width)
    return f"{file.getvalue()}{caption(results)}" + (f"\n{left}" if left else "")
