"""Selected columns of a table, whatever kind of file they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Columns:
    """The selected columns of a table.

    Attributes:
        name: of the table, for errors.
        texts: the text of each row.
        labels: for each column of labels, the cells of all rows.
        rows: the number of each row: in a text file the line in which it begins, else its position, from 0.
        unit: what ``rows`` counts, ``"line"`` or ``"row"``.
        classes: names of the classes, by id, if the table holds them.
    """

    name: str
    texts: list[str]
    labels: list[list[Any]]
    rows: Sequence[int]
    unit: str
    classes: tuple[str, ...] | None = None

    def titles(self) -> list[str]:
        """Return the title of each row: ``x.csv:7`` by its line, or ``x.parquet, row 5``."""
        between = ":" if self.unit == "line" else ", row "
        return [f"{self.name}{between}{row}" for row in self.rows]
