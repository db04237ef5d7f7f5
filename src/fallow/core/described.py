"""What an object of settings is, as a state keeps it: its name and the fields that are not as by default.

A field that is added later, with a default that changes nothing, leaves older states equal to newer ones.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

NAME = "name"
_LONGEST = 10_000
"""Characters of an older description that are read, at most."""


def describe(settings: Any) -> dict[str, Any] | str:
    """Return the name of a dataclass and its fields that differ from their defaults, as plain values.

    An object that is no dataclass, or that has a field of another kind, is described by its ``repr``, or by
    its name if it has no ``repr`` of its own.

    >>> from fallow import Fraction
    >>> describe(Fraction(0.5)), describe(Fraction(0.25, exponent=0.5))
    ({'name': 'Fraction', 'fraction': 0.5}, {'name': 'Fraction', 'fraction': 0.25, 'exponent': 0.5})
    """
    if not is_dataclass(settings):
        # The repr of object says where the object lies, and no more.
        own = any("__repr__" in vars(kind) for kind in type(settings).__mro__[:-1])
        return repr(settings) if own else {NAME: type(settings).__qualname__}
    found: dict[str, Any] = {NAME: type(settings).__qualname__}
    for field in fields(settings):
        value = _plain(getattr(settings, field.name))
        if value is MISSING or field.name == NAME:
            return repr(settings)
        if field.default is MISSING or value != _plain(field.default):
            found[field.name] = value
    return found


def same(saved: Any, settings: Any) -> bool:
    """Return whether what a state holds describes ``settings``; states of before hold their ``repr``."""
    now = describe(settings)
    if saved == now or saved == repr(settings):
        return True
    if not isinstance(saved, str) or not isinstance(now, dict):
        return False
    before = _parsed(saved)
    if before is None or before.pop(NAME) != now[NAME]:
        return False
    if not is_dataclass(settings):
        return False
    defaults = {field.name: _plain(field.default) for field in fields(settings)}
    for name, default in defaults.items():
        if name in before and name not in now and before[name] == default:
            del before[name]
    return before == {name: value for name, value in now.items() if name != NAME}


def shown(description: Any) -> str:
    """Return a description as code that makes the object.

    >>> shown({"name": "Fraction", "fraction": 0.5})
    'Fraction(fraction=0.5)'
    """
    if not isinstance(description, Mapping):
        return str(description)
    values = ", ".join(f"{name}={value!r}" for name, value in description.items() if name != NAME)
    return f"{description.get(NAME)}({values})"


def _plain(value: Any) -> Any:
    """Return a number, text or None, or a list of them for a sequence; ``MISSING`` for anything else."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        parts = [_plain(part) for part in value]
        return MISSING if any(part is MISSING for part in parts) else parts
    return MISSING


def _parsed(text: str) -> dict[str, Any] | None:
    """Return the name and the fields in the ``repr`` of a dataclass; None for another text."""
    if len(text) > _LONGEST:
        return None
    try:
        call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not isinstance(call.func, ast.Name):
            return None
        values = {str(word.arg): _plain(ast.literal_eval(word.value)) for word in call.keywords}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return None
    return {NAME: call.func.id, **values}
