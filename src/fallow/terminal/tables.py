"""Tables as wide as the terminal: columns that matter least go first, and long names are folded."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence

from rich.cells import cell_len
from rich.table import Table

from ..spelling import one_line
from .rich_console import RichConsole, cell

_GAP = 2
"""Columns of space between two columns."""
_NARROWEST = 12
"""The width that a column keeps in any terminal."""
_WIDEST = 20
"""The width above which a column of a block is folded for another one beside it."""


def width_here() -> int | None:
    """Return the columns of the terminal; None if standard output is none, as lines are then whole."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def print_table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None,
    *,
    least: Mapping[str, int] | None = None,
    left: Iterable[str] = (),
) -> list[str]:
    """Print a table, and return the heads of the columns that had no room.

    Args:
        heads: a name for each column.
        rows: of cells; the first column is folded if nothing else helps.
        width: columns of the terminal; None for as many as are needed.
        least: columns that may go, the first of them first, each with the width below which the first column
            is not folded to keep it.
        left: columns whose cells begin at the left; the first one does too.
    """
    cells = [[one_line(text) for text in row] for row in rows]
    widths = {
        head: max(map(cell_len, [head, *(row[place] for row in cells)])) for place, head in enumerate(heads)
    }
    gone: list[str] = []
    whole = widths[heads[0]]
    for head, enough in (least or {}).items():
        if width is None or _total(widths) - whole + min(whole, enough) <= width:
            continue
        if widths.pop(head, None) is not None:
            gone.append(head)
    if width is not None:
        widths[heads[0]] = max(_NARROWEST, whole - max(0, _total(widths) - width))
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
    for head, needed in widths.items():
        side = "left" if head in (heads[0], *left) else "right"
        table.add_column(cell(head), justify=side, width=needed, overflow="fold")  # type: ignore[arg-type]
    for row in cells:
        table.add_row(*(cell(text) for head, text in zip(heads, row, strict=True) if head in widths))
    RichConsole(width=max(_total(widths), width or 0), soft_wrap=False).print(table)
    return [head for head in heads if head in gone]


def print_blocks(heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], width: int | None) -> None:
    """Print a table with a column for each head, in as many parts below each other as the terminal needs.

    Args:
        heads: of the columns.
        rows: the name of each row and a cell for each head.
        width: columns of the terminal; None for one part.
    """
    first = max((cell_len(one_line(name)) for name, _ in rows), default=0)
    natural = max(
        (cell_len(one_line(text)) for text in [*heads, *(c for _, row in rows for c in row)]), default=0
    )
    needed = min(max(natural, _NARROWEST), _WIDEST) + _GAP
    most = len(heads) if width is None else max(1, (width - first) // needed)
    for start in range(0, len(heads), most):
        if start:
            RichConsole().print()
        shown = slice(start, start + most)
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
        table.add_column("", width=first)
        for head in heads[shown]:
            table.add_column(cell(head), justify="right", overflow="fold")
        for name, cells in rows:
            table.add_row(cell(name), *map(cell, cells[shown]))
        # Without a terminal, lines are as long as they must be.
        RichConsole(width=width or 1 << 12).print(table)


def _total(widths: dict[str, int]) -> int:
    return sum(widths.values()) + _GAP * (len(widths) - 1)
