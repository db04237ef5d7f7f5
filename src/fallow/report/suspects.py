"""The samples whose labels look wrong, the classes that are confused, and copies with different labels."""

from __future__ import annotations

from typing import Any

from ..runs.suspects import Copy, Suspects
from . import text
from .groups import group
from .source import Source

PAIRS, COPIES, ALIKE = 12, 12, 6
"""The most pairs, groups of copies and copies of a group that are shown."""
_FILE, _WHOLE = 40, 400


def groups(source: Source, cards: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the group of suspects for the page; nothing if the run has no labels to judge.

    Args:
        source: the run.
        cards: of the shown samples, by index.
    """
    found = source.suspects
    if found is None:
        return []
    shown = [
        cards[one.index]
        | {
            "looks_like": None if one.suggested is None else text.name(one.suggested),
            "wrong": one.suggested is not None,
            "sure": text.share(one.confidence, 0),
        }
        for one in found.suspects
    ]
    pairs = [
        (text.name(pair.given), text.name(pair.suggested), f"{pair.count:,}") for pair in found.pairs[:PAIRS]
    ]
    copies = [[_copy(source, one) for one in alike[:ALIKE]] for alike in (found.copies or ())[:COPIES]]
    said = _sentence(found)
    return [group("suspects", "Labels that look wrong", said, shown, pairs=pairs, copies=copies)]


def _sentence(found: Suspects) -> str:
    passes = text.plural(found.epochs, "pass", "passes")
    if not found.found:
        return f"No label of {text.plural(found.samples, 'sample')} looks wrong, by the mean over {passes}."
    verb = "label looks" if found.found == 1 else "labels look"
    sentence = (
        f"{found.found:,} {verb} wrong of {text.plural(found.samples, 'sample')}, by the mean over {passes}: "
        "most of them took the sample for another class. Below the given class stands the one that it looks "
        "like, and how sure that is."
    )
    if len(found.suspects) < found.found:
        sentence += f" The {len(found.suspects)} surest are shown."
    return sentence


def _copy(source: Source, one: Copy) -> dict[str, str | None]:
    file = one.file
    return {
        "index": f"{one.index:,}",
        "given": text.name(one.given),
        "file": None if file is None else text.path(file, _FILE, source.folder),
        "whole": None if file is None else text.path(file, _WHOLE),
    }
