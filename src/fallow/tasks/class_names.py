"""The class that a cell of a list names."""

from __future__ import annotations

from ..runs.data_file import readable


def ids_by_name(classes: tuple[str, ...]) -> dict[str, int]:
    """Return the class ids by name; lists hold names that are not UTF-8 in an escaped form."""
    escaped = readable(classes) or ()
    return {name: id_ for names in (escaped, classes) for id_, name in enumerate(names)}


def class_id(label: str, ids: dict[str, int]) -> int | None:
    """Return the class id that a label names, or None.

    >>> class_id(" 3.0", {"2": 0, "3": 1}), class_id("ash", {"2": 0}) is None
    (1, True)
    """
    stripped = label.strip()
    # pandas writes 3 as 3.0 if a label in the column is missing.
    number = stripped.removesuffix(".0") if stripped.removesuffix(".0").isdecimal() else stripped
    return next((ids[name] for name in (label, stripped, number) if name in ids), None)
