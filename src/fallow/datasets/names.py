"""What data may be called, and what is wrong with a name. Loads no torch."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import InvalidValue, invalid, unknown_name
from ..files.regular_file import what_lies_at

IMAGES = ("digits", "fashion-mnist", "cifar10", "cifar10n")
TEXTS = ("20newsgroups", "r8")
CORPORA = ("shakespeare",)
KNOWN = (*IMAGES, *TEXTS, *CORPORA)
"""Data sets that are known by name: images with classes, texts with classes, and texts without."""
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
"""Endings of files that are tables."""
TOKENIZERS = ("bpe", "byte")
"""What cuts texts into tokens."""
TEST_SHARE, SHARE_OF_TEXT = 0.2, 0.1
"""The share of data without a test part that is held out by default; of a FILE.txt."""


def check_there(data: str) -> None:
    """Raise if ``data`` is neither known by name nor a file or a folder.

    Raises:
        InvalidValue: with the nearest name, or what lies there instead.
    """
    if data not in KNOWN and not os.path.exists(data):
        raise not_found(Path(data), data)


def not_found(path: Path, data: str) -> InvalidValue:
    """Return the error for ``data`` that is neither known nor a folder nor an npz file."""
    step = "A folder of images, a FILE.npz, a table or a FILE.txt of texts may be named too."
    if path.is_file():
        return invalid(
            "A file of images must be a FILE.npz.",
            data,
            "Or name a folder of images; texts are for --task text.",
        )
    if found := what_lies_at(path):
        return invalid(f"The data {data} must be a folder or a file.", found, "Check the path.")
    if path.suffix or len(path.parts) > 1:
        return invalid(f"The data {data} must exist.", "no such file or folder", "Check the path.")
    return InvalidValue(f"{unknown_name('data', data, KNOWN)} {step}")
