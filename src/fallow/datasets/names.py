"""What data may be called, and what is wrong with a name. Loads no torch."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import InvalidValue, invalid, unknown_name
from ..files.regular_file import kind_at

KNOWN = ("digits",)
"""The data set that is known by name: images with classes, which scikit-learn carries."""
LEFT = ("fashion-mnist", "cifar10", "cifar10n", "20newsgroups", "r8", "shakespeare")
"""Data sets that earlier versions fetched: a script beside the package writes each of them as a file."""


def check_there(data: str, *, resumed: bool = False) -> None:
    """Raise if ``data`` is neither known by name nor a file or a folder.

    Args:
        data: what was named.
        resumed: whether it is the name that a run was begun with.

    Raises:
        InvalidValue: with the nearest name, or what lies there instead.
    """
    if data not in KNOWN and not os.path.exists(data):
        raise not_found(Path(data), data, resumed=resumed)


def not_found(path: Path, data: str, *, resumed: bool = False) -> InvalidValue:
    """Return the error for ``data`` that is neither known nor a folder nor an npz file."""
    step = "A folder of images, a FILE.npz, a table, a FILE.txt of texts or hf:NAME may be named too."
    if data in LEFT:
        rule = "The data must be digits, a folder, a file or hf:NAME."
        return invalid(rule, f"{data}, which is not fetched any more", how_to_get(data, resumed=resumed))
    if path.is_file():
        return invalid(
            "A file of images must be a FILE.npz.",
            data,
            "Or name a folder of images; texts are for --task text.",
        )
    if found := kind_at(path):
        return invalid(f"The data {data} must be a folder or a file.", found, "Check the path.")
    if path.suffix or len(path.parts) > 1:
        return invalid(f"The data {data} must exist.", "no such file or folder", "Check the path.")
    return InvalidValue(f"{unknown_name('data', data, KNOWN)} {step}")


def how_to_get(data: str, *, resumed: bool = False, option: str = "--data") -> str:
    """Return how a data set that has left the package is had as a file."""
    script = f"`python -m benchmarks.data {data} --out FOLDER`"
    step = f"Run {script} in a checkout of fallow, and name the path that it"
    if data == "shakespeare":  # its works were documents; a run on them has other windows
        plays = "prints in a new run" if resumed else "prints"
        return f"{step} {plays}; --test_share 0.10678 holds out the plays that were held out before."
    return f"{step} prints by {option}{', and add --accept data' if resumed else ''}."
