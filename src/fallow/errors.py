"""The one form of error that fallow raises: the rule, the value found, the next step.

>>> raise invalid("`fraction` must be in [0, 1).", 1.3, "To remove nothing, pass 0.")
Traceback (most recent call last):
    ...
fallow.InvalidValue: `fraction` must be in [0, 1). Found 1.3. To remove nothing, pass 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from operator import index
from typing import Any

from .spelling import one_line

_LISTED = 100
"""Names that an error lists at most."""


class FallowError(Exception):
    """An error that the user can fix; its message says how."""


class InvalidValue(FallowError, ValueError):
    """A value breaks the rule in the message."""


class InvalidType(FallowError, TypeError):
    """A value has the wrong type."""


class WrongState(FallowError, RuntimeError):
    """The call is not possible in the present state."""


class DamagedData(InvalidValue):
    """A file is missing, truncated, or not what its name says."""


class NotWritten(FallowError, RuntimeError):
    """A file could not be written; the previous file is unchanged."""


for _error in (FallowError, InvalidValue, InvalidType, WrongState, DamagedData, NotWritten):
    _error.__module__ = "fallow"  # tracebacks then name the module that users import from


def sentence(rule: str, found: Any, step: str) -> str:
    """Return the rule, the value found and the next step as one line."""
    return one_line(f"{rule} Found {str(found).removesuffix('.')}. {step}".strip())


def invalid(rule: str, found: Any, step: str = "") -> InvalidValue:
    """Return the error for a value that breaks ``rule``."""
    return InvalidValue(sentence(rule, found, step))


def damaged(rule: str, found: Any, step: str = "") -> DamagedData:
    """Return the error for a file that breaks ``rule``."""
    return DamagedData(sentence(rule, found, step))


def invalid_type(rule: str, found: Any, step: str = "") -> InvalidType:
    """Return the error for an argument of the wrong kind."""
    return InvalidType(sentence(rule, found, step))


def wrong_state(problem: str, step: str) -> WrongState:
    """Return the error for a call at the wrong moment."""
    return WrongState(f"{problem} {step}")


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InvalidValue:
    """Return the error for a name that is not in ``known``, with the closest match; few names are all listed.

    >>> print(unknown_name("policy", "treshold", ["threshold", "soft"]))
    Unknown policy. Found 'treshold'. Did you mean 'threshold'? Known: soft, threshold.
    """
    names = sorted(known)
    by_lower = {each.lower(): each for each in names}
    matches = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    guess = f"Did you mean '{by_lower[matches[0]]}'? " if matches else ""
    listed = f"{len(names):,} names" if len(names) > _LISTED else ", ".join(names)
    return invalid(f"Unknown {kind}.", repr(name), f"{guess}Known: {listed}.")


def check_integer(name: str, value: Any, low: int, step: str = "") -> int:
    """Return ``value`` as an int if it is a whole number of at least ``low``."""
    rule = f"`{name}` must be a whole number."
    if isinstance(value, bool):  # Python's bool is an int
        raise invalid_type(rule, value, step)
    try:
        number = index(value)
    except TypeError:
        raise invalid_type(rule, repr(value), step) from None
    if number < low:
        raise invalid(f"`{name}` must be at least {low}.", number, step)
    return number


def check_real(name: str, value: Any) -> float:
    """Return ``value`` as a float if it is a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid_type(f"`{name}` must be a number.", repr(value))
    return float(value)


def check_number(name: str, value: Any, low: float, step: str = "") -> float:
    """Return ``value`` as a float if it is a finite number of at least ``low``."""
    rule = f"`{name}` must be a number of at least {low:g}."
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid_type(rule, repr(value), step)
    if not low <= value < float("inf"):
        raise invalid(rule, value, step)
    return float(value)


def check_flag(name: str, value: Any, step: str = "") -> bool:
    """Return ``value`` as a bool if it is one. Truthiness is not enough: the text "no" is true."""
    if type(value).__name__ not in ("bool", "bool_"):  # by name, so that numpy is not imported here
        raise invalid_type(f"`{name}` must be True or False.", repr(value), step)
    return bool(value)


def check_share(name: str, value: Any, *, closed: bool, step: str = "") -> float:
    """Return ``value`` as a float in [0, 1), or in [0, 1] if ``closed``."""
    rule = f"`{name}` must be in [0, 1{']' if closed else ')'}."
    if isinstance(value, bool | str | bytes):
        raise invalid_type(rule, repr(value), step)
    try:
        share = float(value)
    except (TypeError, ValueError):
        raise invalid_type(rule, repr(value), step) from None
    if not (0.0 <= share < 1.0 or (closed and share == 1.0)):
        raise invalid(rule, value, step)
    return share


def missing_extra(feature: str, package: str, extra: str = "all") -> ModuleNotFoundError:
    """Return the error for an optional package that ``feature`` needs."""
    return ModuleNotFoundError(f'{feature} needs {package}. Run `pip install "fallow[{extra}]"`.')
