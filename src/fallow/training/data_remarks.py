"""Remarks on the samples before training: empty classes, copies, and copies with different labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from ..report.text import plural
from ..runs.data_file import DataFile

SHOWN = 3
"""The number of examples that a remark names."""


def data_remarks(data: DataFile, noun: str, held_out_name: Callable[[int], str] | None = None) -> list[str]:
    """Return remarks on the samples, each a sentence or two.

    Args:
        data: the samples.
        noun: the word for a sample, such as ``image``.
        held_out_name: returns the name of a held-out sample by its position in ``data.held_out``.
    """
    train, test = data.content, data.held_out
    if noun == "text" and data.identity is not None:  # the content of a text includes its labels
        train, test = data.identity, data.held_out_identity
    if train is None:
        return _empty_classes(data, noun)
    # By label within copies, so that neighbours show whether their labels differ.
    order = np.argsort(train, kind="stable") if data.labels is None else np.lexsort((data.labels, train))
    ordered = train[order]
    same = ordered[1:] == ordered[:-1]
    copies = []
    if test is not None and (leaked := np.flatnonzero(np.isin(test, ordered))).size:
        pairs = []
        for position in leaked[:SHOWN].tolist():
            first = int(order[np.searchsorted(ordered, test[position])])
            name = f"held-out {noun} {position}" if held_out_name is None else held_out_name(position)
            pairs.append(f"{_short(name)} = {_name(data, first, noun)}")
        total = plural(test.size, f"held-out {noun}")
        kind = f"is a copy of a training {noun}" if leaked.size == 1 else f"are copies of training {noun}s"
        copies.append(f"{leaked.size:,} of the {total} {kind} ({_listed(pairs, leaked.size)})")
    if (index := np.flatnonzero(same)).size:
        pairs = [
            f"{_name(data, int(order[i + 1]), noun)} = {_name(data, int(order[i]), noun)}"
            for i in index[:SHOWN]
        ]
        total = plural(data.n, f"training {noun}")
        kind = "is a copy of another" if index.size == 1 else "are copies of others"
        copies.append(f"{index.size:,} of the {total} {kind} ({_listed(pairs, index.size)})")
    sentence = [f"{'; '.join(copies)}."] if copies else []
    return _empty_classes(data, noun) + sentence + _conflicting_labels(data, order, same, noun)


def _empty_classes(data: DataFile, noun: str) -> list[str]:
    if data.labels is None or data.classes is None:
        return []
    sizes = np.bincount(data.labels[data.labels >= 0], minlength=len(data.classes))
    empty = np.flatnonzero(sizes[: len(data.classes)] == 0)
    if not empty.size:
        return []
    names = _listed([data.class_name(int(label)) for label in empty[:SHOWN]], empty.size)
    verb = "has" if empty.size == 1 else "have"
    return [
        f"{empty.size:,} of {len(data.classes):,} classes {verb} no training {noun} and cannot be learned: "
        f"{names}{_end(names)}"
    ]


def _conflicting_labels(
    data: DataFile, order: NDArray[np.int64], same: NDArray[np.bool_], noun: str
) -> list[str]:
    """Return a remark on copies with different labels, of which at most one can be right."""
    if data.labels is None:
        return []
    labels = data.labels[order]
    # A negative label is an unknown one, which contradicts nothing.
    index = np.flatnonzero(same & (labels[1:] != labels[:-1]) & (labels[:-1] >= 0))
    if not index.size:
        return []
    group = np.concatenate([[0], np.cumsum(~same)])
    conflicting = np.zeros(int(group[-1]) + 1, np.bool_)
    conflicting[group[index]] = True
    count = int(np.count_nonzero(conflicting[group]))
    pairs = [
        " = ".join(
            f"{_name(data, int(order[i]), noun)} ({data.class_name(int(labels[i]))})"
            for i in (first, first + 1)
        )
        for first in index[:SHOWN].tolist()
    ]
    names = _listed(pairs, index.size)
    return [
        f"{count:,} training {noun}s are copies with different labels, so some of these labels are wrong: "
        f"{names}{_end(names)}"
    ]


def _name(data: DataFile, sample: int, noun: str) -> str:
    return f"{noun} {sample}" if data.files is None else _short(data.files[sample])


def _short(name: str) -> str:
    """Return a path's file and folder."""
    return "/".join(PurePath(name).parts[-2:]) or name


def _listed(names: list[str], count: int) -> str:
    return ", ".join(names) + (", ..." if count > len(names) else "")


def _end(listed: str) -> str:
    return "" if listed.endswith("...") else "."
