"""What samples are called: their files relative to the data, and the one that a person means by a name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from difflib import get_close_matches

from ..errors import invalid
from ..spelling import one_line

_LISTED = 8
"""Samples that an error lists, at most."""
_COMPARED = 20_000
"""Names that are compared to find the nearest, at most."""


def relative(file: str, data: str) -> str:
    """Return a file as it is called within the folder of the data; others stay as they are.

    >>> relative("/pictures/ash/1.png", "/pictures"), relative("d.csv:7", "/tables/d.csv")
    ('ash/1.png', 'd.csv:7')
    """
    folder = data.rstrip("/") + "/"
    return file.removeprefix(folder) or file


def find(files: Sequence[str], wanted: str, data: str) -> int:
    """Return the sample of a file.

    Args:
        files: of all samples, as the run keeps them; rows of a table are called ``d.csv:7``.
        wanted: a file's path, its path within the folder of the data, or the end of it, as its base name.
        data: the folder of the data, or what else was trained on.

    Raises:
        InvalidValue: for a name of several files, which are listed, or of none, with the nearest.
    """
    whole = os.path.abspath(wanted)
    ways = (
        lambda file: file == wanted,
        lambda file: file == whole,
        lambda file: relative(file, data) == wanted,
        lambda file: file.endswith("/" + wanted),
        lambda file: wanted in (one_line(file), one_line(relative(file, data))),  # as samples.csv spells it
    )
    for is_meant in ways:
        found = [sample for sample, file in enumerate(files) if is_meant(file)]
        if len(found) == 1:
            return found[0]
        if found:
            listed = [f"{sample} ({relative(files[sample], data)})" for sample in found[:_LISTED]]
            listed += [f"and {len(found) - _LISTED:,} more"] * (len(found) > _LISTED)
            step = f"Say which, by its index: {', '.join(listed)}."
            raise invalid("A name must be that of one sample.", f"{len(found):,} called {wanted}", step)
    near = _nearest(files, wanted, data)
    step = f"Did you mean {' or '.join(near)}?" if near else "samples.csv lists all, by index and file."
    raise invalid("A name must be the file or the index of a sample in the training set.", wanted, step)


def _nearest(files: Sequence[str], wanted: str, data: str) -> list[str]:
    """Return up to three names that look most like one; among very many, those that begin or end alike."""
    names = list(dict.fromkeys(relative(file, data) for file in files))
    if len(names) > _COMPARED:
        alike = [name for name in names if name[:3] == wanted[:3] or name[-7:] == wanted[-7:]]
        names = alike[:_COMPARED]
    near = get_close_matches(wanted, names, n=3, cutoff=0.6)
    if near:
        return near
    by_base = {os.path.basename(name): name for name in reversed(names)}
    return [by_base[base] for base in get_close_matches(os.path.basename(wanted), by_base, n=3, cutoff=0.6)]
