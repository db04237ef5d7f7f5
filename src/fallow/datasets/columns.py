"""The columns of a table that are wanted, whatever kind of file they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Columns:
    """The columns of a part that are wanted.

    Attributes:
        name: what the part is called, for errors.
        texts: of its rows.
        labels: of each column of labels, the cells of its rows.
        rows: the numbers that people give its rows: of a file of text the line in which each begins, else its
            place, from 0.
        unit: what they number, ``"line"`` or ``"row"``.
        classes: names of the classes where the table knows them, by id; else None.
    """

    name: str
    texts: list[str]
    labels: list[list[Any]]
    rows: Sequence[int]
    unit: str
    classes: tuple[str, ...] | None = None

    def take(self, rows: NDArray[np.int64]) -> Columns:
        """Return some of the rows."""
        picked = rows.tolist()
        labels = [[column[row] for row in picked] for column in self.labels]
        texts, numbers = [self.texts[row] for row in picked], [self.rows[row] for row in picked]
        return replace(self, texts=texts, labels=labels, rows=numbers)

    def titles(self) -> list[str]:
        """Return what each row is called: ``x.csv:7`` by its line, or ``x.parquet, row 5``."""
        between = ":" if self.unit == "line" else ", row "
        return [f"{self.name}{between}{row}" for row in self.rows]
