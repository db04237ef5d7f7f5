"""``fallow suspects`` on the terminal: samples, confused classes, and copies with different labels."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..report.text import name, path, plural
from ..runs.run_files import RunFiles
from ..runs.suspects import Copy, Suspects
from ..terminal.rich_console import RichConsole

PAIRS, COPIES, ALIKE = 8, 8, 4
"""The most pairs, groups of copies and copies of a group that are shown."""
_CLASS = 18
_LEAST = 14
"""Least and usual widths of columns, in characters."""


def print_suspects(run: RunFiles, found: Suspects, exported: Path | None) -> None:
    """Print the suspects; the columns fit the terminal."""
    console = RichConsole()
    where = str(run.directory.path)
    passes = plural(found.epochs, "pass", "passes")
    if not found.found:
        console.print(Text(f"{where}: no label of {found.samples:,} samples looks wrong in {passes}."))
    else:
        verb = "label looks" if found.found == 1 else "labels look"
        said = f"{where}: {found.found:,} {verb} wrong of {plural(found.samples, 'sample')}, by {passes}."
        console.print(Text(said))
        if len(found.suspects) < found.found:
            console.print(Text(f"The first {len(found.suspects):,}; --count shows more."))
        console.print()
        console.print(_samples(run, found, console.width))
    if found.pairs:
        console.print()
        console.print("Classes that are confused:")
        console.print(Padding(_pairs(found), (0, 0, 0, 2)))
        if (more := len(found.pairs) - PAIRS) > 0:
            console.print(f"  and {plural(more, 'pair')} more")
    _print_copies(run, found, console)
    if exported is not None:
        console.print()
        console.print(Text("Fill in the column label of the list where you know better. Then train on:"))
        config = run.directory.config_path
        # All options of the run are in its file; one of a loop of your own has none.
        data = quote(run.shown_options.data or "DATA")
        source = f"--config {quote(str(config))}" if config.exists() else f"--data {data}"
        # Whole, so that it can be copied, however narrow the terminal is.
        console.print(Text(f"  fallow train {source} --labels {quote(str(exported))}"), soft_wrap=True)
    elif found.found:
        console.print()
        console.print("To correct them in a spreadsheet:")
        console.print(Text(f"  fallow suspects {quote(where)} --export suspects.csv"), soft_wrap=True)


def _samples(run: RunFiles, found: Suspects, width: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("sample", justify="right", no_wrap=True)
    named = any(one.file is not None for one in found.suspects)
    # Names of classes may take a third of the line, file names what is left of it.
    of_class = max(8, min(_CLASS, width // 5))
    given = [name(one.given, of_class) for one in found.suspects]
    suggested = ["-" if one.suggested is None else name(one.suggested, of_class) for one in found.suspects]
    used = sum(max(map(len, part)) for part in ((*given, "given"), (*suggested, "looks like")))
    indices = max(len("sample"), *(len(str(one.index)) for one in found.suspects))
    rest = max(_LEAST, width - used - indices - len("sure") - 8)
    if named:
        table.add_column("row" if _of_table(found) else "file", overflow="fold", max_width=rest)
    for head in ("given", "looks like"):
        table.add_column(head, overflow="fold", no_wrap=True)
    table.add_column("sure", justify="right", no_wrap=True)
    folder = run.shown_options.data
    for one, a, b in zip(found.suspects, given, suggested, strict=True):
        place = [Text("" if one.file is None else path(one.file, rest, folder))] if named else []
        table.add_row(str(one.index), *place, Text(a), Text(b), f"{one.confidence:.0%}")
    return table


def _of_table(found: Suspects) -> bool:
    return all(one.file is None or "/" not in one.file for one in found.suspects)


def _pairs(found: Suspects) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for pair in found.pairs[:PAIRS]:
        table.add_row(f"{pair.count:,}", Text(f"{name(pair.given, 30)} → {name(pair.suggested, 30)}"))
    return table


def _print_copies(run: RunFiles, found: Suspects, console: RichConsole) -> None:
    if found.copies is None:
        console.print()
        console.print(Text("Copies are not looked for: the run knows its samples by their names alone."))
        return
    if not found.copies:
        return
    console.print()
    groups = plural(len(found.copies), "sample has", "samples have")
    console.print(Text(f"{groups} copies with other labels, so that some are wrong:"))
    for group in found.copies[:COPIES]:
        listed = ", ".join(_copy(run, one) for one in group[:ALIKE]) + ", ..." * (len(group) > ALIKE)
        console.print(Padding(Text(listed), (0, 0, 0, 2)))
    if (more := len(found.copies) - COPIES) > 0:
        console.print(f"  and {plural(more, 'group')} more; --json lists them")


def _copy(run: RunFiles, one: Copy) -> str:
    place = str(one.index) if one.file is None else path(one.file, 40, run.shown_options.data)
    return f"{place} ({name(one.given, 30)})"
