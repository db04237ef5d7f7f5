"""From options to the objects of the library: policy, schedule, the user's own classes."""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from .._checks import invalid
from ..policies import BelowMean, Fraction, Policy, RandomFraction, Threshold
from ..schedule import Schedule
from .options import TrainOptions


def make_policy(options: TrainOptions) -> Policy:
    """Return the policy that the options name."""
    share = 0.5 if options.fraction is None else options.fraction
    if options.policy == "threshold":
        quantiles = bool(options.quantiles)
        low = (0.3 if quantiles else 0.1) if options.low is None else options.low
        return Threshold(low, options.high, visits=options.visits or 1, quantiles=quantiles)
    if options.policy == "soft":
        return Fraction(share, exponent=0.5 if options.exponent is None else options.exponent)
    if options.policy == "fraction":
        return Fraction(share)
    if options.policy == "below-mean":
        return BelowMean(share)
    return RandomFraction(0.0 if options.policy == "full" else share)


def make_schedule(options: TrainOptions, epochs: int) -> Schedule:
    """Return the schedule; the threshold method re-admits and ends on full epochs unless told otherwise."""
    published = options.policy == "threshold"
    every = (5 if published else 0) if options.readmit_every is None else options.readmit_every
    tail = (0.1 if published else 0.0) if options.full_tail is None else options.full_tail
    return Schedule(
        epochs=epochs,
        warmup=options.warmup,
        readmit_every=every or None,
        readmit_at=tuple(options.readmit_at),
        stagger=options.stagger,
        full_tail=tail,
        outliers=options.outliers,
    )


def is_import_path(name: str) -> bool:
    """Return whether ``name`` is of the form ``package.module:Class``."""
    module, colon, attribute = name.partition(":")
    return bool(colon) and attribute.isidentifier() and all(p.isidentifier() for p in module.split("."))


def import_class(path: str, arguments: dict[str, Any]) -> Any:
    """Return an instance of the class at ``package.module:Class``, from here or installed.

    Raises:
        InvalidValue: where it is not there, is no class, or does not take the arguments.
    """
    module_name, _, name = path.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(import_module(module_name), name)
    except ModuleNotFoundError as error:
        raise invalid(
            f"{path} must be importable.", str(error), "Run fallow where its module lies."
        ) from None
    except AttributeError:
        raise invalid(f"{module_name} must define {name}.", "no such name", "Check the spelling.") from None
    if not callable(found):
        raise invalid(f"{path} must be a class or a function.", type(found).__name__)
    try:
        inspect.signature(found).bind(**arguments)
    except TypeError as error:
        raise invalid(f"{path} must take the arguments it is given.", str(error)) from None
    return found(**arguments)
