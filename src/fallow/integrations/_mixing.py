"""The order in which a mixin and the class that it changes are named."""

from __future__ import annotations

from typing import Any

from ..errors import invalid_type


def check_order(made: type, mixin: type, changed: Any, step: str) -> None:
    """Raise if a class names a mixin after the class that the mixin changes."""
    order = made.__mro__
    if changed in order and order.index(changed) < order.index(mixin):
        found = f"class {made.__name__}({', '.join(base.__name__ for base in made.__bases__)})"
        raise invalid_type(f"{mixin.__name__} must be named before {changed.__name__}.", found, step)
