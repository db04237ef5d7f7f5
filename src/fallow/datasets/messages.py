"""Paths, counts and errors as they are written in messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from ..spelling import plural as plural

LONGEST = 200
"""Characters of a path that a message shows."""


def shown(path: Path | str) -> str:
    r"""Return a path on one line of printable characters; only the end of a long one.

    >>> shown("a\nb\udce9.png")
    'a\\nb\\udce9.png'
    """
    text = str(path)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= LONGEST else f"...{text[-LONGEST:]}"


def error_text(error: BaseException) -> str:
    """Return the message of an error on one line, or the name of its class if there is no message."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def counted(kinds: Mapping[str, int]) -> str:
    """Return the count of each of the six commonest kinds, the commonest first, and of all others.

    >>> counted({".txt": 1, "hidden": 3})
    '3 hidden, 1 .txt'
    """
    order = sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0]))
    counts = [f"{count:,} {shown(kind)}" for kind, count in order[:6]]
    if rest := sum(count for _, count in order[6:]):
        counts.append(f"{rest:,} others")
    return ", ".join(counts)


def no_images(kinds: Counter[str]) -> str:
    """Return a sentence on files that are not images.

    >>> no_images(Counter({".txt": 2, "hidden": 1}))
    'Left out 3 files that are not images: 2 .txt, 1 hidden.'
    """
    count = kinds.total()
    files = "1 file that is not an image" if count == 1 else f"{count:,} files that are not images"
    return f"Left out {files}: {counted(kinds)}."
