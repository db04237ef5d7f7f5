"""A group of samples on the page: a title, a sentence and cards."""

from __future__ import annotations

from typing import Any

AT_ONCE = 12
"""Number of samples of a group that are visible; the others are behind *show all*."""


def group(key: str, title: str, sentence: str, cards: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """Return a group for the page; ``more`` are further parts of it."""
    parts = {"first": cards[:AT_ONCE], "rest": cards[AT_ONCE:], "pairs": [], "copies": []}
    return {"key": key, "title": title, "sentence": sentence, **parts, **more}
