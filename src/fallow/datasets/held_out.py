"""The draw of held-out samples: by their content, never by their position, their name or their number.

A draw orders samples by a keyed hash of their content and takes the smallest. So if a sample is added,
deleted, renamed, moved or relabelled, all others stay in their part, except for one or two at the border.
Copies have the same hash and stay together, if that leaves a sample in each part.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..arrays.keyed import mix

Keys: TypeAlias = NDArray[np.uint64]
Sides: TypeAlias = NDArray[np.int8]

TEST, VALIDATION, SAMPLES = 0x7E57, 0x7A11, 0x5A3B
"""A word in the key of each draw makes the draws independent."""
TRAINED, FREE, HELD = np.int8(-1), np.int8(0), np.int8(1)
"""A sample stays in the training part, is drawn, or stays held out."""


def keyed(content: Keys, *words: int) -> Keys:
    """Return the keys of a draw: a hash of each checksum under ``words``, ``(N,)``.

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
    """Return the mask of held-out samples: the share of each class, rounded, with the smallest keys.

    Both parts get at least one sample of a class that has two.

    Args:
        keys: ``(N,)``, equal for copies.
        labels: class ids ``(N,)``.
        share: in (0, 1).
        sides: int8 ``(N,)``, whether each sample stays in a part or is drawn; by default all are drawn.

    >>> held_out_by_class(np.array([5, 1, 9, 7], np.uint64), np.array([0, 0, 1, 1]), 0.5).tolist()
    [False, True, False, True]
    """
    sides = np.zeros(keys.size, np.int8) if sides is None else sides
    out: NDArray[np.bool_] = sides == HELD
    order = np.argsort(labels, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        free = rows[sides[rows] == FREE]
        held = int(np.count_nonzero(out[rows]))
        wanted = min(max(round(share * rows.size), 1), rows.size - 1) - held
        # One has to stay for training, if none does so already.
        most = free.size - (not (sides[rows] == TRAINED).any())
        if wanted > 0 and most > 0:
            out[free[_smallest(keys[free], min(wanted, most), 0 if held else 1, most)]] = True
    return out


def held_out_of_all(
    keys: Keys, labels: NDArray[np.integer] | None, count: int, sides: Sides | None = None
) -> NDArray[np.bool_]:
    """Return the mask of held-out samples: the ``count`` with the smallest keys.

    Each class keeps the sample with its largest key for training. So fewer than ``count`` are held out if
    there are too many classes, and none if each sample has its own class.

    Args:
        keys: ``(N,)``, equal for copies.
        labels: class ids ``(N,)``; None if there are no classes.
        count: the number of samples to hold out.
        sides: int8 ``(N,)``, whether each sample stays in a part or is drawn; by default all are drawn.

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
    # A held-out copy of a training sample measures nothing, so copies are drawn only if all are copies.
    distinct = free[~np.isin(keys[free], keys[last])]
    candidates = distinct if distinct.size else np.setdiff1d(free, last)
    wanted = min(count - held, candidates.size)
    most = distinct.size or count
    if wanted > 0:
        out[candidates[_smallest(keys[candidates], wanted, 0 if held else 1, most)]] = True
    return out


def smallest_of(keys: Keys, count: int, first: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Return the mask of the ``count`` samples with the smallest keys; those in ``first`` before others."""
    ranks = (keys,) if first is None else (keys, ~first)
    out = np.zeros(keys.size, np.bool_)
    out[np.lexsort(ranks)[:count]] = True
    return out


def _smallest(keys: Keys, wanted: int, least: int, most: int) -> NDArray[np.int64]:
    """Return the positions of at most ``wanted`` of the smallest keys.

    Equal keys are taken together, or skipped if they are too many. If that leaves fewer than ``least``, which
    is 0 or 1, the smallest group is taken, and cut if it is larger than ``most``.
    """
    order = np.argsort(keys, kind="stable").astype(np.int64)
    # A key differs from its complement, so the first key starts a group.
    starts = np.flatnonzero(np.diff(keys[order], prepend=~keys[order[:1]]))
    sizes = np.diff(starts, append=keys.size)
    taken = np.zeros(sizes.size, np.bool_)
    left = wanted
    groups = np.flatnonzero(sizes <= left)
    # Groups are taken in the order of their keys up to one that is too large, then the smaller ones after it.
    while groups.size and left:
        first = groups[: int(np.searchsorted(np.cumsum(sizes[groups]), left, side="right"))]
        taken[first] = True
        left -= int(sizes[first].sum())
        groups = groups[first.size :]
        groups = groups[sizes[groups] <= left]
    if least and not taken.any():
        group = int(sizes.argmin())
        count = int(sizes[group]) if sizes[group] <= most else wanted
        return order[starts[group] : starts[group] + count]
    return order[np.repeat(taken, sizes)]
