"""Names of samples: their files relative to the data, and the sample with a given name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from difflib import get_close_matches

from ..errors import invalid
from ..spelling import one_line

_LISTED = 8
"""Maximum number of samples that an error lists."""
_COMPARED = 20_000
"""Maximum number of names that are compared to find the nearest."""


def relative(file: str, data: str) -> str:
    """Return a file relative to the data folder; files elsewhere are returned unchanged.

    >>> relative("/pictures/ash/1.png", "/pictures"), relative("d.csv:7", "/tables/d.csv")
    ('ash/1.png', 'd.csv:7')
    """
    folder = data.rstrip("/") + "/"
    return file.removeprefix(folder) or file


def find(files: Sequence[str], wanted: str, data: str) -> int:
    """Return the sample of a file.

    Args:
        files: the files of all samples in the run; a row of a table is ``d.csv:7``.
        wanted: a path, a path relative to the data folder, or the end of one, such as the base name.
        data: the data folder, or other data that was trained on.

    Raises:
        InvalidValue: if several files match, which are listed, or none, with the nearest names.
    """
    whole = os.path.abspath(wanted)
    ways = (
        lambda file: file == wanted,
        lambda file: file == whole,
        lambda file: relative(file, data) == wanted,
        lambda file: file.endswith("/" + wanted),
        lambda file: wanted in (one_line(file), one_line(relative(file, data))),  # escaped, as in samples.csv
    )
    for matches in ways:
        samples = [sample for sample, file in enumerate(files) if matches(file)]
        if len(samples) == 1:
            return samples[0]
        if samples:
            listed = [f"{sample} ({relative(files[sample], data)})" for sample in samples[:_LISTED]]
            listed += [f"and {len(samples) - _LISTED:,} more"] * (len(samples) > _LISTED)
            step = f"Give the index of one: {', '.join(listed)}."
            raise invalid("A name must match one sample.", f"{len(samples):,} called {wanted}", step)
    near = _nearest(files, wanted, data)
    step = f"Did you mean {' or '.join(near)}?" if near else "samples.csv lists index and file of all."
    raise invalid("A name must be the file or the index of a sample in the training set.", wanted, step)


def _nearest(files: Sequence[str], wanted: str, data: str) -> list[str]:
    """Return up to three similar names."""
    names = list(dict.fromkeys(relative(file, data) for file in files))
    if len(names) > _COMPARED:  # difflib is slow: compare only names with the same beginning or end
        alike = [name for name in names if name[:3] == wanted[:3] or name[-7:] == wanted[-7:]]
        names = alike[:_COMPARED]
    near = get_close_matches(wanted, names, n=3, cutoff=0.6)
    if near:
        return near
    # Reversed, so that the first of several files with one base name is suggested.
    by_base = {os.path.basename(name): name for name in reversed(names)}
    return [by_base[base] for base in get_close_matches(os.path.basename(wanted), by_base, n=3, cutoff=0.6)]
