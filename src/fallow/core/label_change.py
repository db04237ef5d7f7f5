"""Differences between the present samples or labels and earlier ones, as typed values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Change:
    """One difference.

    Attributes:
        kind: whether the number of samples, their labels or the class names differ.
        text: the difference in words.
    """

    kind: Literal["length", "labels", "classes"]
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def label_change(
    before: NDArray[Any] | None,
    now: NDArray[Any] | None,
    name_before: Callable[[int], str] = str,
    name_now: Callable[[int], str] = str,
) -> Change | None:
    """Compare the labels of the samples that exist in both, and return None if they agree.

    Args:
        before: the earlier labels, ``(N,)``, or None.
        now: the present labels, ``(M,)``, or None.
        name_before: returns the name of an earlier class.
        name_now: returns the name of a present class.

    Example:
        >>> print(label_change(np.array([0, 1, 1]), np.array([0, 0, 1])))
        labels: 1 of 3 differs, the first at sample 1: it was 1 and is 0
    """
    if before is None or now is None:
        same = before is None and now is None
        return None if same else Change("labels", f"there were {_count(before)} and are {_count(now)}")
    n = min(before.size, now.size)
    differ = np.flatnonzero(before[:n] != now[:n])
    if not differ.size:
        return None
    first = int(differ[0])
    return Change(
        "labels",
        f"{differ.size:,} of {n:,} differ{'s' * (differ.size == 1)}, the first at sample {first}: "
        f"it was {name_before(int(before[first]))} and is {name_now(int(now[first]))}",
    )


def _count(labels: NDArray[Any] | None) -> str:
    return "none" if labels is None else f"some ({labels.size:,})"
