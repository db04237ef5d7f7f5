"""From options to the objects of the library: policy, score, schedule, the user's own classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..core.schedule import Schedule
from ..errors import check_share, unknown_name
from ..policies import (
    IES,
    UCB,
    BelowMean,
    Fraction,
    Kakurenbo,
    OrderDP,
    Policy,
    RandomFraction,
    RePB,
    SeTa,
    Threshold,
)
from .own_classes import import_class, is_import_path
from .resolve import high_side, resolve
from .train_options import DENSITY, TrainOptions

if TYPE_CHECKING:  # they load torch, which the plan of a comparison does without
    from ..densities import Density
    from ..scores import Score
    from ..step_rules import StepRule


def make_policy(options: TrainOptions) -> Policy:
    """Return the policy that the options name."""
    options = resolve(options)
    usual = 0.25 if options.task == "language-model" else 0.5
    share = usual if options.fraction is None else options.fraction
    if options.policy == "threshold":
        quantiles = bool(options.quantiles)
        low = (0.3 if quantiles else 0.1) if options.low is None else options.low
        visits = (3 if high_side(options) == "auto" else 1) if options.visits is None else options.visits
        return Threshold(low, high_side(options), visits=visits, quantiles=quantiles)
    if options.policy in ("soft", "fraction"):
        visits = 3 if options.visits is None else options.visits
        hard = Fraction(share, high=high_side(options), visits=visits)
        return hard if options.policy == "fraction" else _soft(hard, options)
    if options.policy == "ucb":
        return UCB(share)
    if options.policy == "random":
        return RandomFraction(share)
    if options.policy in ("full", "selective-backprop"):
        return RandomFraction(0.0)
    return _with_budget(options.policy, options.fraction)


def _soft(hard: Fraction, options: TrainOptions) -> Fraction:
    return replace(
        hard,
        exponent=0.5 if options.exponent is None else options.exponent,
        doubt=1.0 if options.doubt is None else options.doubt,
        keep_rare=options.keep_rare is not False,
        calibrate=options.calibrate is not False,
    )


def _with_budget(name: str, share: float | None) -> Policy:
    """Return the rule of a paper: as published, or leaving out ``share`` of all samples in each epoch."""
    if name == "kakurenbo":
        return Kakurenbo() if share is None else Kakurenbo(share, steps=())
    if name == "order-dp":
        # Near its authors' pool of 0.8 where they leave out 0.7, and never less than what is kept.
        return OrderDP() if share is None else OrderDP(pool=1 - share / 4, budget=share)
    rules: dict[str, Callable[..., Policy]] = {
        "below-mean": BelowMean, "infobatch": BelowMean, "seta": SeTa, "repb": RePB, "ies": IES
    }  # fmt: skip
    return rules[name](budget=share)


def make_score(options: TrainOptions) -> Score:
    """Return the score that is recorded; RePB's is relative to its batch."""
    from ..scores import RelativeToBatch, score_by_name, score_names

    if options.by_density:
        from ..activations import ActivationDensity

        return ActivationDensity.score
    if options.score not in (names := score_names()):
        raise unknown_name("score", options.score, [*names, DENSITY])
    score = score_by_name(options.score)
    return RelativeToBatch(score) if options.policy == "repb" else score


def make_density(options: TrainOptions) -> Density:
    """Return the density that the options name."""
    from .. import densities
    from ..densities.own import METHODS, as_density

    if is_import_path(options.density):
        own = import_class(options.density, options.density_args, methods=METHODS, run=options.resume)
        return as_density(own, options.seed)
    kinds: dict[str, Any] = {
        getattr(kind, "name", ""): kind for kind in vars(densities).values() if isinstance(kind, type)
    }
    kind, arguments = kinds[options.density], {"seed": options.seed, **options.density_args}
    taken = inspect.signature(kind).parameters
    if options.density == "gaussian-mixture":
        arguments = {"iterations": 10, **arguments}
    if "seed" not in taken:
        arguments = {name: value for name, value in arguments.items() if name != "seed"}
    for name in arguments:
        if name not in taken:
            raise unknown_name("argument in --density_args", name, taken)
    found: Density = kind(**arguments)
    return found


def make_step_rule(options: TrainOptions) -> StepRule | None:
    """Return the step rule that the options name, or None."""
    if options.policy != "selective-backprop":
        return None
    from ..step_rules import SelectiveBackprop

    if options.fraction is None:
        return SelectiveBackprop()
    share = check_share("fraction", options.fraction, closed=False, step="To remove nothing, pass 0.")
    return SelectiveBackprop(keep=1 - share)


def make_schedule(options: TrainOptions, epochs: int) -> Schedule:
    """Return the schedule; the threshold method re-admits, and it and InfoBatch end on full epochs."""
    published = options.policy == "threshold"
    every = (5 if published else 0) if options.readmit_every is None else options.readmit_every
    tail = options.full_tail
    if tail is None:
        tail = 0.1 if published else 0.0
        if options.policy == "infobatch" and options.fraction is None:
            tail = 0.125
    return Schedule(
        epochs=epochs,
        warmup=options.warmup,
        readmit_every=every or None,
        full_tail=tail,
        outliers=options.outliers,
    )
