"""Choices that are made before arms are compared, on held-out training samples: length and learning rates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..errors import invalid
from ..options.own_classes import is_import_path
from ..options.resolve import ResolvedOptions, as_given, rate_follows_batch, resolve
from ..options.train_options import TrainOptions
from ..runs.schema import FullTraining
from .arms import Arm, OwnOptions, full_arm
from .measure import ACCURACY, Measure, measure_in
from .plan import Plan
from .statistics import deviation, mean

FACTORS = (0.5, 1.0, 2.0)
"""Of the learning rate of an arm."""
LENGTHS = (0.5, 0.75, 1.0, 1.5)
"""Of full training, as shares of its epochs."""
HELD_OUT = 0.2
"""The share of the training samples that a choice is made on."""
SEEDS = (1000, 1001)
"""Seeds of their own, so that no run that counts has had a part in its own choice."""
TUNE, RATES = "tune", "rates"
"""The folders of these runs."""


def check_choices(base: ResolvedOptions, names: OwnOptions, asked: Sequence[str]) -> None:
    """Raise if the choices in ``asked``, by the names of their options, cannot be made."""
    if not asked:
        return
    if is_import_path(base.data):
        raise own_rate(asked, base.data)
    if base.validation is not None:
        rule = f"--{asked[0]} holds out a validation split of its own, and the arms are compared on the rest."
        raise invalid(rule, f"--validation {base.validation:g}", "Leave it out.")
    for name, own in names.items():
        if RATES in asked and own is not None and "model" in own and "learning_rate" not in own:
            rule = "With --rates, an arm with a model of its own must name its learning rate."
            raise invalid(rule, f"none in the arm {name}", "Add learning_rate to its options.")


def own_rate(asked: Sequence[str], found: str) -> Exception:
    """Return the error for a module of the user's that sets its own rate."""
    rule = f"--{' and --'.join(asked)} must train a network whose learning rate fallow sets."
    return invalid(rule, f"{found}, which sets its own", f"Leave --{' and --'.join(asked)} out.")


def lengths_plan(base: ResolvedOptions, full: FullTraining | None, out: Path) -> Plan:
    """Return full training at several numbers of epochs."""
    lengths = dict.fromkeys(max(2, round(length * base.epochs)) for length in LENGTHS)
    arms = (full_arm(replace(base, epochs=epochs)) for epochs in lengths)
    tried = (replace(arm, name=f"{arm.name}-{arm.options.epochs}") for arm in arms)
    return _held_out_plan(base, full, [(arm, None) for arm in tried], out, TUNE)


def rates_plan(plan: Plan, arms: Iterable[Arm], full: FullTraining | None) -> Plan:
    """Return some arms of ``plan``, each at several learning rates."""
    tried = [
        (
            Arm(_tried(arm, factor), None, arm.options),
            None if full is None else factor * usual_rate(arm.options, full),
        )
        for arm in arms
        for factor in FACTORS
    ]
    return _held_out_plan(plan.base, full, tried, plan.out, RATES)


def _tried(arm: Arm, factor: float) -> str:
    return f"{arm.label}-x{factor:g}"


def _held_out_plan(
    base: ResolvedOptions,
    full: FullTraining | None,
    arms: Iterable[tuple[Arm, float | None]],
    out: Path,
    place: str,
) -> Plan:
    """Return a plan whose arms train on a part, at the given rates."""
    tried = []
    for arm, rate in arms:
        options = replace(as_given(arm.options), validation=HELD_OUT)
        if full is not None and options.batch_size is None:
            options.batch_size = full.batch_size  # fewer samples may have another default
        if rate is not None:
            options.learning_rate = rate
        tried.append(replace(arm, options=resolve(options)))
    return Plan(base, tuple(tried), (), SEEDS, out, place, 1 - HELD_OUT)


def usual_rate(options: TrainOptions, full: FullTraining) -> float:
    """Return the learning rate that an arm has if none is chosen for it."""
    given = as_given(options)
    if given.learning_rate is not None:
        return given.learning_rate
    assert full.learning_rate is not None  # else choosing one is refused
    if given.batch_size is None or not rate_follows_batch(options):
        return full.learning_rate
    return full.learning_rate * given.batch_size / full.batch_size


def with_rates(plan: Plan, factors: Mapping[str, float], full: FullTraining | None) -> Plan:
    """Return the plan with the learning rate of each arm that one was chosen for."""
    if full is None:
        return plan
    arms = []
    for arm in plan.arms:
        if (factor := factors.get(arm.label)) is not None:
            rate = factor * usual_rate(arm.options, full)
            options = arm.options
            if factor != 1:  # otherwise a run is the same as without the choice
                options = resolve(replace(as_given(options), learning_rate=rate))
            arm = replace(arm, options=options, rate=rate, factor=factor)
        arms.append(arm)
    return replace(plan, arms=tuple(arms))


class Tried(NamedTuple):
    """What the runs of a choice ended with.

    Attributes:
        measure: the number that they are judged by.
        step: the smallest step of it that means anything.
        values: by the name of an arm, a value for each seed, more is better; -inf if it diverged. Arms of
            which a run is not finished are left out.
    """

    measure: Measure
    step: float
    values: dict[str, list[float]]

    @staticmethod
    def of(plan: Plan) -> Tried:
        """Read the runs of a plan."""
        finished = {(run.arm.name, run.seed): run.summary() for run in plan.runs()}
        sound = [each for each in finished.values() if each is not None]
        measure = measure_in([each.plain for each in sound])
        evaluated = [each.summary.samples_evaluated for each in sound if each.summary.samples_evaluated]
        values: dict[str, list[float]] = {}
        for arm in plan.arms:
            own = [finished[arm.name, seed] for seed in plan.seeds]
            found = [_worth(each.plain, measure) for each in own if each is not None]
            if len(found) == len(own) and None not in found:
                values[arm.name] = [value for value in found if value is not None]
        return Tried(measure, 1 / min(evaluated) if evaluated and measure == ACCURACY else 0.0, values)

    def error(self, values: Sequence[float]) -> float:
        """Return the standard error of a mean."""
        return max(deviation(values) or 0.0, self.step) / math.sqrt(len(values))

    def shown(self, name: str) -> str:
        """Return the mean of an arm, with its unit."""
        middle = mean(self.values[name])
        return self.measure.show(math.exp(-middle) if self.measure.relative else middle)


def _worth(row: Mapping[str, object], measure: Measure) -> float | None:
    if row.get("diverged"):
        return -math.inf
    value = measure.of(row)
    return -value if value is not None and measure.relative else value


def best_length(plan: Plan) -> tuple[int, str] | None:
    """Return the shortest length within one standard error of the best, and a sentence on all of them.

    None if no length has finished all its runs without diverging.
    """
    tried = Tried.of(plan)
    lengths = {arm.name: arm.options.epochs for arm in plan.arms}
    values = {name: own for name, own in tried.values.items() if math.isfinite(min(own))}
    if not values:
        return None
    best = max(values, key=lambda name: mean(values[name]))
    enough = mean(values[best]) - tried.error(values[best])
    chosen = min(lengths[name] for name, own in values.items() if mean(own) >= enough)
    each = ", ".join(f"{lengths[name]} ({tried.shown(name)})" for name in values)
    more = " Longer may be better still: raise --epochs." if chosen == max(lengths.values()) else ""
    return chosen, f"Full training is {chosen} epochs long, chosen among {each}.{more}"


def best_factors(plan: Plan, arms: Iterable[Arm]) -> dict[str, float]:
    """Return the factor of the learning rate for each of the ``arms`` that :func:`rates_plan` tried.

    It is 1 unless another rate is better by more than twice the standard error of the difference. An arm
    whose runs at its usual rate are not finished has none.
    """
    tried = Tried.of(plan)
    factors = {}
    for arm in arms:
        usual = tried.values.get(_tried(arm, 1.0))
        if usual is None:
            continue
        better = {1.0: mean(usual)} if math.isfinite(min(usual)) else {}
        for factor in FACTORS:
            own = tried.values.get(_tried(arm, factor))
            if own is not None and math.isfinite(min(own)) and _is_better(own, usual, tried):
                better[factor] = mean(own)
        factors[arm.label] = max(better, key=better.__getitem__, default=1.0)
    return factors


def _is_better(own: Sequence[float], usual: Sequence[float], tried: Tried) -> bool:
    """Return whether a rate is certainly better than the usual one, seed by seed."""
    if not math.isfinite(min(usual)):
        return True
    differences = [a - b for a, b in zip(own, usual, strict=True)]
    return mean(differences) > 2 * tried.error(differences)
