"""Which samples are held out: drawn by what each sample is, never by its place, its name or their number.

A draw orders samples by a keyed hash of their content and takes the smallest. So a sample that is added,
deleted, renamed, moved or given another label leaves all others where they are, but for one or two at the
border. Copies have one hash and stay together, wherever that leaves something on both sides.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..arrays.keyed import mix

Keys: TypeAlias = NDArray[np.uint64]
Sides: TypeAlias = NDArray[np.int8]

TEST, VALIDATION, SAMPLES = 0x7E57, 0x7A11, 0x5A3B
"""Words in the key of each draw, so that they do not depend on each other."""
TRAINED, FREE, HELD = np.int8(-1), np.int8(0), np.int8(1)
"""On which side a sample stays, or that it is drawn."""


def keyed(content: Keys, *words: int) -> Keys:
    """Return what a draw goes by: a hash of each checksum under a key made of ``words``, ``(N,)``.

    >>> keyed(np.array([3, 3], np.uint64), 1).tolist() == keyed(np.array([3], np.uint64), 1).tolist() * 2
    True
    """
    x = content ^ np.uint64(mix(*words))  # then the finaliser of SplitMix64
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def held_out_by_class(
    keys: Keys, labels: NDArray[np.integer], share: float, sides: Sides | None = None
) -> NDArray[np.bool_]:
    """Return which samples are held out: of each class its share, rounded, with the smallest keys.

    Each part of a class gets at least one sample, if the class has two.

    Args:
        keys: ``(N,)``, equal for copies.
        labels: class ids ``(N,)``.
        share: in (0, 1).
        sides: int8 ``(N,)``, which samples stay trained or held out; the others are drawn. All by default.

    >>> held_out_by_class(np.array([5, 1, 9, 7], np.uint64), np.array([0, 0, 1, 1]), 0.5).tolist()
    [False, True, False, True]
    """
    sides = np.zeros(keys.size, np.int8) if sides is None else sides
    out: NDArray[np.bool_] = sides == HELD
    order = np.argsort(labels, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        free, held = rows[sides[rows] == FREE], int(np.count_nonzero(out[rows]))
        wanted = min(max(round(share * rows.size), 1), rows.size - 1) - held
        most = free.size - (not (sides[rows] == TRAINED).any())
        if wanted > 0 and most > 0:
            out[free[_smallest(keys[free], min(wanted, most), 0 if held else 1, most)]] = True
    return out


def held_out_of_all(
    keys: Keys, labels: NDArray[np.integer] | None, count: int, sides: Sides | None = None
) -> NDArray[np.bool_]:
    """Return which samples are held out: ``count`` of all, with the smallest keys.

    Each class keeps a sample to train on, that with the largest key. So fewer than ``count`` are held out if
    there are more classes than that leaves room for, none if each sample has a class of its own.

    Args:
        keys: ``(N,)``, equal for copies.
        labels: class ids ``(N,)``; None if there are no classes.
        count: how many.
        sides: int8 ``(N,)``, which samples stay trained or held out; the others are drawn. All by default.

    >>> held_out_of_all(np.array([5, 1, 9, 7], np.uint64), np.array([0, 1, 0, 0]), 2).tolist()
    [True, False, False, True]
    """
    sides = np.zeros(keys.size, np.int8) if sides is None else sides
    labels = np.zeros(keys.size, np.int8) if labels is None else labels
    out: NDArray[np.bool_] = sides == HELD
    free = np.flatnonzero(sides == FREE)
    held = int(np.count_nonzero(out))
    order = free[np.lexsort((keys[free], labels[free]))]
    last = order[np.flatnonzero(np.diff(labels[order], append=labels[order[-1:]] - 1))]
    last = last[~np.isin(labels[last], labels[sides == TRAINED])]
    spared = np.zeros(keys.size, np.bool_)
    spared[last] = True
    # A copy of what is trained on would measure nothing, if there is anything else.
    together = free[~np.isin(keys[free], keys[last])]
    open_ = together if together.size else free[~spared[free]]
    wanted, most = min(count - held, open_.size), open_.size if together.size else count
    if wanted > 0:
        out[open_[_smallest(keys[open_], wanted, 0 if held else 1, most)]] = True
    return out


def smallest_of(keys: Keys, count: int, first: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Return a mask of the ``count`` samples with the smallest keys; those in ``first`` before others."""
    ranks = (keys,) if first is None else (keys, ~first)
    out = np.zeros(keys.size, np.bool_)
    out[np.lexsort(ranks)[:count]] = True
    return out


def _smallest(keys: Keys, wanted: int, least: int, most: int) -> NDArray[np.int64]:
    """Return the places of ``wanted`` of the smallest keys.

    Equal keys are taken together, or passed over where they are too many. Where that leaves fewer than
    ``least``, the smallest group is taken, and cut if it is larger than ``most``.

    Args:
        keys: ``(N,)``.
        wanted: how many.
        least: at least so many, 0 or 1.
        most: at most so many.
    """
    order = np.argsort(keys, kind="stable").astype(np.int64)
    starts = np.flatnonzero(np.diff(keys[order], prepend=~keys[order[:1]]))
    sizes = np.diff(starts, append=keys.size)
    taken, left = np.zeros(sizes.size, np.bool_), wanted
    open_ = np.flatnonzero(sizes <= left)
    while open_.size and left:
        first = open_[: int(np.searchsorted(np.cumsum(sizes[open_]), left, side="right"))]
        taken[first] = True
        left -= int(sizes[first].sum())
        open_ = open_[first.size :]
        open_ = open_[sizes[open_] <= left]
    if least and not taken.any():
        group = int(sizes.argmin())
        count = int(sizes[group]) if sizes[group] <= most else wanted
        return order[starts[group] : starts[group] + count]
    return order[np.repeat(taken, sizes)]
