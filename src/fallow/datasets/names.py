"""Names of data that the user may give, and what is wrong with others. Loads no torch."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import InvalidValue, invalid, unknown_name
from ..files.regular_file import kind_at

KNOWN = ("digits",)
"""Data sets known by name: images with classes, bundled with scikit-learn."""
REMOVED = ("fashion-mnist", "cifar10", "cifar10n", "20newsgroups", "r8", "shakespeare")
"""Data sets that earlier versions fetched; ``python -m benchmarks.data`` writes each of them as a file."""
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
"""Endings of files that are tables."""
TOKENIZERS = ("bpe", "byte")
"""What cuts texts into tokens."""
TEST_SHARE, SHARE_OF_TEXT = 0.2, 0.1
"""The share of data without a test part that is held out by default; of a FILE.txt."""


def check_exists(data: str, *, resumed: bool = False) -> None:
    """Raise if ``data`` is neither a known name nor a file or a folder.

    Raises:
        InvalidValue: with the nearest name, the kind of thing at that path, or, for data of a run that is
            resumed, the way to get them.
    """
    if data not in KNOWN and not os.path.exists(data):
        raise not_found(Path(data), data, resumed=resumed)


def not_found(path: Path, data: str, *, resumed: bool = False) -> InvalidValue:
    """Return the error for ``data`` that is neither a known name nor a folder nor an npz file."""
    if data in REMOVED:
        rule = "The data must be digits, a folder, a file or hf:NAME."
        return invalid(rule, f"{data}, which is not fetched any more", how_to_get(data, resumed=resumed))
    if path.is_file():
        step = "Or name a folder of images; texts are for --task text."
        return invalid("A file of images must be a FILE.npz.", data, step)
    if kind := kind_at(path):
        return invalid(f"The data {data} must be a folder or a file.", kind, "Check the path.")
    if path.suffix or len(path.parts) > 1:
        return invalid(f"The data {data} must exist.", "no such file or folder", "Check the path.")
    step = "A folder of images, a FILE.npz, a table, a FILE.txt of texts or hf:NAME may be named too."
    return InvalidValue(f"{unknown_name('data', data, KNOWN)} {step}")


def how_to_get(data: str, *, resumed: bool = False, option: str = "--data") -> str:
    """Return the command that writes a removed data set as a file, and the option that takes it."""
    script = f"`python -m benchmarks.data {data} --out FOLDER`"
    step = f"Run {script} in a checkout of fallow, and name the path that it"
    if data == "shakespeare":
        # Its works were the documents then, so a run on them has other windows and cannot be resumed.
        prints = "prints in a new run" if resumed else "prints"
        return f"{step} {prints}; --test_share 0.10678 holds out the plays that were held out before."
    return f"{step} prints by {option}{', and add --accept data' if resumed else ''}."
