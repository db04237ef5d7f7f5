"""What a parameter must be, in words: made from the bounds that are checked."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ..spelling import one_line

FORM = "x-form"
"""The key of a schema that says in words what a pattern says."""
_PLACE = re.compile(r"`\$\.(\w+)(?:\[([0-9]+)\])?`")
_LONGEST = 60
_KINDS = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}


def broken(ask: Any, plain: Any, error: Exception) -> str:
    """Return the rule that a request breaks, and the value found.

    Args:
        ask: the class of the parameters.
        plain: what was asked, as plain values.
        error: of msgspec.
    """
    if not isinstance(plain, dict):
        return f"The body must be an object of JSON. Found {_shown(plain)}."
    schema = _schema(ask)
    fields: dict[str, Any] = schema["properties"]
    for name in plain:
        if name not in fields:
            known = ", ".join(fields) or "none"
            return f"The parameters of this route are: {known}. Found {_shown(name)}."
    for name in schema.get("required", ()):
        if name not in plain:
            return f"`{name}` must be given: {rule(fields[name])}."
    place = _PLACE.search(str(error))
    if place is None:
        return f"A parameter must be a plain text or number. Found {one_line(str(error))[:_LONGEST]}."
    name, at = place[1], place[2]
    value = plain[name] if at is None else plain[name][int(at)]
    found = f"{len(value)} of them" if isinstance(value, list) else _shown(value)
    if name == "token":  # what is nearly one is not repeated
        found = "another"
    return f"`{name}` must be {rule(fields[name])}. Found {found}."


def rule(schema: dict[str, Any]) -> str:
    """Return what a schema of a parameter asks for.

    >>> rule({"type": "integer", "minimum": 1, "exclusiveMaximum": 9})
    'a whole number from 1 to 8'
    """
    options = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    found = options[0]
    if FORM in found:
        return str(found[FORM])
    if "enum" in found:
        return _one_of(found["enum"])
    if found["type"] == "array":
        return f"given {found['minItems']} to {found['maxItems']} times, each {rule(found['items'])}"
    if found["type"] == "string":
        least, most = found.get("minLength", 0), found.get("maxLength")
        bounds = f"{least} to {most}" if least else f"at most {most}"
        return "a text" if most is None else f"a text of {bounds} letters"
    least = found.get("minimum")
    most = found.get("maximum", found.get("exclusiveMaximum", 1) - 1)
    bounds = "" if least is None else f" from {_number(least)} to {_number(most)}"
    return f"{_KINDS[found['type']]}{bounds}"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _one_of(names: Any) -> str:
    *most, last = map(str, names) if names else [""]
    return f"{', '.join(most)} or {last}" if most else last


def _shown(value: Any) -> str:
    text = one_line(repr(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _schema(ask: Any) -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components([ask])
    found: dict[str, Any] = schemas[ask.__name__]
    return found
