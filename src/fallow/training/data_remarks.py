"""What is worth knowing of the samples before anything is trained: empty classes, and copies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from ..runs.data_file import DataFile

SHOWN = 3
"""So many of each kind are named."""


def data_remarks(data: DataFile, noun: str, held_out_name: Callable[[int], str] | None = None) -> list[str]:
    """Return what to know of the samples, a sentence or two each; nothing where there is nothing.

    Args:
        data: what the samples are.
        noun: what one is called: ``image``.
        held_out_name: how a held-out sample is called, by its place in ``data.held_out``.
    """
    said = _empty_classes(data, noun)
    train, test = data.content, data.held_out
    if noun == "text" and data.identity is not None:  # whose content tells of labels too
        train, test = data.identity, data.held_out_identity
    if train is None:
        return said
    order = np.argsort(train, kind="stable") if data.labels is None else np.lexsort((data.labels, train))
    ordered = train[order]
    same = ordered[1:] == ordered[:-1]
    copies = []
    if test is not None and (found := np.flatnonzero(np.isin(test, ordered))).size:
        named = []
        for place in found[:SHOWN].tolist():
            first = int(order[np.searchsorted(ordered, test[place])])
            called = f"held-out {noun} {place}" if held_out_name is None else held_out_name(place)
            named.append(f"{_short(called)} = {_name(data, first, noun)}")
        what = f"{found.size:,} of the {test.size:,} held-out {_many(test.size, noun)}"
        whose = f"a copy of a training {noun}" if found.size == 1 else f"copies of training {noun}s"
        copies.append(f"{what} {_be(found.size)} {whose} ({_listed(named, found.size)})")
    if (at := np.flatnonzero(same)).size:
        named = [
            f"{_name(data, int(order[i + 1]), noun)} = {_name(data, int(order[i]), noun)}" for i in at[:SHOWN]
        ]
        what = f"{at.size:,} of the {data.n:,} training {_many(data.n, noun)}"
        whose = "a copy of another" if at.size == 1 else "copies of others"
        copies.append(f"{what} {_be(at.size)} {whose} ({_listed(named, at.size)})")
    if copies:
        said.append(f"{'; '.join(copies)}.")
    return said + _other_labels(data, order, same, noun)


def _empty_classes(data: DataFile, noun: str) -> list[str]:
    if data.labels is None or data.classes is None:
        return []
    there = np.bincount(data.labels[data.labels >= 0], minlength=len(data.classes))
    empty = np.flatnonzero(there[: len(data.classes)] == 0)
    if not empty.size:
        return []
    named = _listed([data.class_name(int(label)) for label in empty[:SHOWN]], empty.size)
    verb = "has" if empty.size == 1 else "have"
    what = f"{empty.size:,} of {len(data.classes):,} classes {verb} no training {noun}"
    return [f"{what} and cannot be learned: {named}{_end(named)}"]


def _other_labels(data: DataFile, order: NDArray[np.int64], same: NDArray[np.bool_], noun: str) -> list[str]:
    """Say which copies have different labels: of each group of them one label at most is right."""
    if data.labels is None:
        return []
    labels = data.labels[order]
    at = np.flatnonzero(same & (labels[1:] != labels[:-1]) & (labels[:-1] >= 0))
    if not at.size:
        return []
    group = np.concatenate([[0], np.cumsum(~same)])
    odd = np.zeros(int(group[-1]) + 1, np.bool_)
    odd[group[at]] = True
    count = int(np.count_nonzero(odd[group]))
    named = []
    for place in at[:SHOWN].tolist():
        pair = [
            f"{_name(data, int(order[i]), noun)} ({data.class_name(int(labels[i]))})"
            for i in (place, place + 1)
        ]
        named.append(" = ".join(pair))
    listed = _listed(named, at.size)
    return [
        f"{count:,} training {noun}s are copies with different labels, so that some of these are wrong: "
        f"{listed}{_end(listed)}"
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


def _many(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"


def _be(count: int) -> str:
    return "is" if count == 1 else "are"
