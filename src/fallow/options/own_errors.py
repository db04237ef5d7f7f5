"""Errors of a user's own network, module or data, said as the rule, what was found, and the next step.

Loads no torch by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import FallowError, InvalidValue, invalid
from .usage_errors import place_of

ENDINGS = (SystemExit, GeneratorExit)
"""What ends a process, or a part of it, without a word."""
_INIT = "Call super().__init__() first in its __init__."
_DEPENDS = "The loss of {name} must depend on weights that learn."
_GRADIENT = (
    "Compute outputs with torch and with gradients on, do not detach() them, and leave some weights free."
)
_KNOWN = (
    ("does not require grad", _DEPENDS, _GRADIENT),
    ("call numpy() on Tensor that requires grad", _DEPENDS, _GRADIENT),
    (
        "empty parameter list",
        "{name} must have weights to train.",
        "Give it a layer with weights, made in its __init__.",
    ),
    ("before Module.__init__() call", "{name} must be a module that was made whole.", _INIT),
    ("has no attribute 'training'", "{name} must be a module that was made whole.", _INIT),
    ("has no attribute '_modules'", "{name} must be a module that was made whole.", _INIT),
    ("has no attribute '_parameters'", "{name} must be a module that was made whole.", _INIT),
)
"""What torch says of common mistakes, the rule, and the next step."""


def ended(name: str, error: BaseException) -> InvalidValue:
    """Return the error for own code that ends the process."""
    place = place_of(error)
    said = f"{type(error).__name__}({error})" + (f" in {place}" if place else "")
    return invalid(f"{name} must not end the process.", said, "Raise an error there instead.")


def clearer(name: str, error: BaseException) -> InvalidValue | None:
    """Return an error that says what to do about one of torch's; None for one that is not known.

    >>> print(clearer("own:Net", ValueError("optimizer got an empty parameter list")))
    own:Net must have weights to train. Found none. Give it a layer with weights, made in its __init__.
    """
    if isinstance(error, FallowError):
        return None
    said = " ".join(str(error).split())
    for words, rule, step in _KNOWN:
        if words in said:
            place = place_of(error)
            found = "none" if words == "empty parameter list" else said[:200].removesuffix(".")
            return invalid(rule.format(name=name), found + (f" ({place})" if place else ""), step)
    return None


@contextmanager
def calling(name: str, method: str) -> Iterator[None]:
    """Name own code, and its method, in whatever goes wrong inside of it.

    Raises:
        InvalidValue: for any error that is none of fallow's.
    """
    try:
        yield
    except (FallowError, OSError, MemoryError):
        raise
    except ENDINGS as error:
        raise ended(f"{name}.{method}()", error) from error
    except Exception as error:  # whatever somebody else's code raises
        if (known := clearer(name, error)) is not None:
            raise known from error
        place = place_of(error)
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200].removesuffix(".")
        rule = f"{name}.{method}() must end without an error."
        raise invalid(rule, said + (f" ({place})" if place else ""), f"Look at its {method}().") from error
