"""The groups that were measured, in their order: 16 bytes each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import damaged

COLUMNS = {
    "row": np.uint32,
    "step": np.uint32,
    "attempts": np.uint16,
    "right": np.uint16,
    "tokens": np.uint32,
}
"""What is noted of a group: the prompt, the step, its rollouts, how many were right, and their tokens."""
MOST = 2**16 - 1
"""The most rollouts of one group."""
_FIRST = 1024


class GroupLog:
    """An append-only table of groups.

    Example:
        >>> log = GroupLog()
        >>> log.add(row=np.array([4, 2]), step=0, attempts=np.array([8, 8]), right=np.array([8, 3]), tokens=0)
        >>> log["right"].tolist(), len(log)
        ([8, 3], 2)
    """

    def __init__(self) -> None:
        self._size = 0
        self._columns: dict[str, NDArray[Any]] = {name: np.zeros(0, kind) for name, kind in COLUMNS.items()}

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return a column: ``(K,)``."""
        return self._columns[name][: self._size]

    def add(self, **columns: Any) -> None:
        """Add groups; a number stands for all of them."""
        count = len(columns["row"])
        need = self._size + count
        if need > self._columns["row"].size:
            size = max(_FIRST, 2 * need)
            for name, kind in COLUMNS.items():
                wider = np.zeros(size, kind)
                wider[: self._size] = self[name]
                self._columns[name] = wider
        for name in COLUMNS:
            self._columns[name][self._size : need] = columns[name]
        self._size = need

    def part(self, start: int, stop: int | None = None) -> dict[str, NDArray[Any]]:
        """Return copies of the columns of some groups."""
        return {name: self[name][start:stop].copy() for name in COLUMNS}

    @staticmethod
    def checked(parts: Mapping[str, Any], prompts: int, name: str, step: str) -> dict[str, NDArray[Any]]:
        """Return columns that were read, once they are known to be whole.

        Args:
            parts: the columns; others are ignored.
            prompts: the number of prompts, which rows must be below.
            name: of the file, for errors.
            step: the next step, for errors.

        Raises:
            DamagedData: if a column is missing, too short, or holds what cannot be.
        """
        columns: dict[str, NDArray[Any]] = {}
        for column, kind in COLUMNS.items():
            found = parts.get(column)
            if not isinstance(found, np.ndarray) or found.dtype != kind or found.ndim != 1:
                raise damaged(
                    f"{name} must hold `{column}` of each group, {kind.__name__} (K,).", "another", step
                )
            columns[column] = found
        lengths = {len(column) for column in columns.values()}
        if len(lengths) != 1:
            raise damaged(f"The columns of {name} must be of one length.", sorted(lengths), step)
        if (columns["row"] >= prompts).any():
            raise damaged(f"{name} must hold rows below {prompts:,}.", int(columns["row"].max()), step)
        if (columns["right"] > columns["attempts"]).any():
            raise damaged(f"{name} must hold no more successes than rollouts.", "a group with more", step)
        return columns
