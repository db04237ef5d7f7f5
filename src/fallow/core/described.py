"""Descriptions of policies and schedules in a state: the class name and the fields that differ from defaults.

So a field that is added later, with a default that changes nothing, leaves older states equal to newer ones.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

NAME = "name"
_MAX_CHARACTERS = 10_000
"""Longer descriptions of older states are not parsed."""


def describe(settings: Any) -> dict[str, Any] | str:
    """Return the class name of a dataclass and the fields that differ from their defaults, as plain values.

    Objects that are not dataclasses, or have fields that are not plain, are described by their ``repr``, or
    by their class name if they define none.

    >>> from fallow import Fraction
    >>> describe(Fraction(0.5)), describe(Fraction(0.25, exponent=0.5))
    ({'name': 'Fraction', 'fraction': 0.5}, {'name': 'Fraction', 'fraction': 0.25, 'exponent': 0.5})
    """
    if not is_dataclass(settings):
        # object.__repr__ shows only the address, which differs in every process.
        own = any("__repr__" in vars(kind) for kind in type(settings).__mro__[:-1])
        return repr(settings) if own else {NAME: type(settings).__qualname__}
    description: dict[str, Any] = {NAME: type(settings).__qualname__}
    for field in fields(settings):
        value = _plain(getattr(settings, field.name))
        # A field called `name` would overwrite the name of the class.
        if value is MISSING or field.name == NAME:
            return repr(settings)
        if field.default is MISSING or value != _plain(field.default):
            description[field.name] = value
    return description


def same(saved: Any, settings: Any) -> bool:
    """Return whether the description in a state is that of ``settings``; older states hold a ``repr``."""
    now = describe(settings)
    if saved == now or saved == repr(settings):
        return True
    if not isinstance(saved, str) or not isinstance(now, dict) or not is_dataclass(settings):
        return False
    before = _parsed(saved)
    if before is None or before.pop(NAME) != now[NAME]:
        return False
    defaults = {field.name: _plain(field.default) for field in fields(settings)}
    # A repr lists the fields that are at their defaults; a description leaves them out.
    for name, default in defaults.items():
        if name in before and name not in now and before[name] == default:
            del before[name]
    return before == {name: value for name, value in now.items() if name != NAME}


def as_code(description: Any) -> str:
    """Return a description as Python code that makes the object.

    >>> as_code({"name": "Fraction", "fraction": 0.5})
    'Fraction(fraction=0.5)'
    """
    if not isinstance(description, Mapping):
        return str(description)
    values = ", ".join(f"{name}={value!r}" for name, value in description.items() if name != NAME)
    return f"{description.get(NAME)}({values})"


def _plain(value: Any) -> Any:
    """Return ``value`` if it is plain, a list for a sequence of plain values, and ``MISSING`` otherwise."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        parts = [_plain(part) for part in value]
        return MISSING if any(part is MISSING for part in parts) else parts
    return MISSING


def _parsed(text: str) -> dict[str, Any] | None:
    """Return the name and the fields in the ``repr`` of a dataclass; None for any other text."""
    if len(text) > _MAX_CHARACTERS:
        return None
    try:
        call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not isinstance(call.func, ast.Name):
            return None
        values = {str(each.arg): _plain(ast.literal_eval(each.value)) for each in call.keywords}
    # Text that is nested too deeply ends the parser with MemoryError or RecursionError.
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return None
    return {NAME: call.func.id, **values}
