"""Make the objects that the options name: policy, score, density, step rule, schedule."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ..core.schedule import Schedule
from ..errors import check_share, unknown_name
from ..policies import ErrorMass, Fraction, Policy, RandomFraction, Threshold, Watch, policy_names
from .own_classes import import_class, is_import_path
from .resolve import ResolvedOptions, high_side
from .train_options import DENSITY

if TYPE_CHECKING:  # these load torch, and a comparison is planned without it
    from ..densities import Density
    from ..scores import Score
    from ..step_rules import StepRule


def make_policy(options: ResolvedOptions) -> Policy:
    """Return the policy that the options name."""
    if options.policy in ("full", "selective-backprop"):
        # Selective backprop chooses by a step rule, inside the batches.
        return RandomFraction(0.0)
    if options.policy == "watch":
        assert options.error is not None
        return Watch(options.error)
    if options.policy not in ("error-mass", "soft", "fraction", "threshold"):
        return policy_names()[options.policy].with_share(options.fraction)
    sides: dict[str, Any] = {"high": high_side(options), "visits": options.visits}
    if options.policy == "error-mass":
        assert options.error is not None
        return ErrorMass(options.error, **sides)
    if options.policy == "threshold":
        return Threshold(options.low, **sides, quantiles=bool(options.quantiles))
    drawn = ("exponent",) if options.policy == "soft" else ()
    more: dict[str, Any] = {name: getattr(options, name) for name in ("fraction", *drawn)}
    return Fraction(**more, **sides)


def make_score(options: ResolvedOptions) -> Score:
    """Return the score that the options name."""
    # Here, because scores load torch.
    from ..scores import RelativeToBatch, score_by_name, score_names

    if options.by_density:
        from ..activations import ActivationDensity

        return ActivationDensity.score
    if options.score not in (names := score_names()):
        raise unknown_name("score", options.score, [*names, DENSITY])
    score = score_by_name(options.score)
    policy = policy_names().get(options.policy)
    return RelativeToBatch(score) if policy is not None and policy.relative_to_batch else score


def make_density(options: ResolvedOptions) -> Density:
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
    # Not every density draws.
    if "seed" not in taken:
        arguments = {name: value for name, value in arguments.items() if name != "seed"}
    for name in arguments:
        if name not in taken:
            raise unknown_name("argument in --density_args", name, taken)
    density: Density = kind(**arguments)
    return density


def make_step_rule(options: ResolvedOptions) -> StepRule | None:
    """Return the step rule that the options name, or None."""
    if options.policy != "selective-backprop":
        return None
    from ..step_rules import SelectiveBackprop

    if options.fraction is None:
        return SelectiveBackprop()
    share = check_share("fraction", options.fraction, closed=False, step="To remove nothing, pass 0.")
    return SelectiveBackprop(keep=1 - share)


def make_schedule(options: ResolvedOptions) -> Schedule:
    """Return the schedule that the options describe."""
    return Schedule(
        epochs=options.epochs,
        warmup=options.warmup,
        # 0 on the command line is None in a schedule: never.
        readmit_every=options.readmit_every or None,
        full_tail=options.full_tail,
        outliers=options.outliers,
    )
