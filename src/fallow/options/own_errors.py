"""Errors of the user's own code as the rule, the value found and the next step. Loads no torch by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import FallowError, InvalidValue, invalid
from .usage_errors import place_of

ENDINGS = (SystemExit, GeneratorExit)
"""Exceptions that end a process, or a generator, without a message."""
_INIT = "Call super().__init__() first in its __init__."
_DEPENDS = "The loss of {name} must depend on weights that learn."
_GRADIENT = (
    "Compute outputs in torch with gradients on, do not detach() them, and leave some weights trainable."
)
_KNOWN = (
    ("does not require grad", _DEPENDS, _GRADIENT),
    ("call numpy() on Tensor that requires grad", _DEPENDS, _GRADIENT),
    (
        "empty parameter list",
        "{name} must have weights to train.",
        "Give it a layer with weights, created in its __init__.",
    ),
    ("before Module.__init__() call", "{name} must be a fully initialised module.", _INIT),
    ("has no attribute 'training'", "{name} must be a fully initialised module.", _INIT),
    ("has no attribute '_modules'", "{name} must be a fully initialised module.", _INIT),
    ("has no attribute '_parameters'", "{name} must be a fully initialised module.", _INIT),
)
"""Part of torch's message for a common mistake, the rule, and the next step."""


def exit_error(name: str, error: BaseException) -> InvalidValue:
    """Return the error for the user's own code that ends the process."""
    place = place_of(error)
    found = f"{type(error).__name__}({error})" + (f" in {place}" if place else "")
    return invalid(f"{name} must not end the process.", found, "Raise an error there instead.")


def known_error(name: str, error: BaseException) -> InvalidValue | None:
    """Return a clearer error for a known one of torch, else None.

    >>> print(known_error("own:Net", ValueError("optimizer got an empty parameter list")))
    own:Net must have weights to train. Found none. Give it a layer with weights, created in its __init__.
    """
    if isinstance(error, FallowError):
        return None
    message = " ".join(str(error).split())
    for part, rule, step in _KNOWN:
        if part in message:
            place = place_of(error)
            found = "none" if part == "empty parameter list" else message[:200].removesuffix(".")
            return invalid(rule.format(name=name), found + (f" ({place})" if place else ""), step)
    return None


@contextmanager
def calling(name: str, method: str) -> Iterator[None]:
    """Name the user's own class and its method in the errors of the block.

    Raises:
        InvalidValue: if the block raises an error that is not one of fallow's.
    """
    try:
        yield
    # A missing file or too little memory is no fault of the class.
    except (FallowError, OSError, MemoryError):
        raise
    except ENDINGS as error:
        raise exit_error(f"{name}.{method}()", error) from error
    except Exception as error:
        if (known := known_error(name, error)) is not None:
            raise known from error
        place = place_of(error)
        found = " ".join(f"{type(error).__name__}: {error}".split())[:200].removesuffix(".")
        rule = f"{name}.{method}() must end without an error."
        raise invalid(rule, found + (f" ({place})" if place else ""), f"Check its {method}().") from error
