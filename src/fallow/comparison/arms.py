"""Arms: the options of ``fallow train`` that each arm sets to reach a given saving.

Every policy that takes a share is an arm by its own name; the table here holds the few other names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from ..core.plan import thin_epochs
from ..errors import FallowError, invalid, unknown_name
from ..options.checks import check
from ..options.factories import make_policy, make_schedule
from ..options.resolve import ResolvedOptions, as_given, resolve
from ..options.train_options import OPTIONS, POLICIES, TrainOptions
from ..policies import policy_names
from .options import OF_AN_ARM, read_saved

FULL, FEWER, RANDOM = "full", "fewer-epochs", "random"
CONTROLS = (FEWER, RANDOM)
"""They train on the same number of samples as a rule, without looking at any score."""

_NAMED: dict[str, dict[str, Any]] = {
    "default": {"policy": "auto"},
    "soft": {"policy": "soft", "high": "none", "doubt": 0.0, "keep_rare": False, "calibrate": False},
    "hard": {"policy": "fraction", "high": "none", "kept_steps": False},
    "infobatch": {"policy": "infobatch", "full_tail": 0.125},
}
"""Options of the arms that are more than the policy of their name."""


@dataclass(frozen=True)
class Arm:
    """One arm at one saving.

    Attributes:
        name: as given in ``--arms``.
        saved: the share of full training's samples to save; None for full training and for an arm of your
            own.
        options: of ``fallow train``, without seed and folder.
    """

    name: str
    saved: float | None
    options: ResolvedOptions

    @property
    def label(self) -> str:
        """Name and saving, also part of the folder's name: ``soft-0.5``."""
        return self.name if self.saved is None else f"{self.name}-{self.saved:g}"


def known_arms() -> tuple[str, ...]:
    """Return the names of all arms that need no options."""
    shares = (name for name in (*POLICIES, *policy_names()) if name not in OPTIONS["fraction"].without)
    return tuple(dict.fromkeys((FULL, FEWER, RANDOM, *_NAMED, "threshold", *shares)))


def make_arms(
    own_options: dict[str, dict[str, Any] | None], saved: tuple[float, ...], base: TrainOptions
) -> list[Arm]:
    """Return every arm at every saving.

    Args:
        own_options: by name, with options for arms of the user's own; ``soft@0.5`` has one saving only.
        saved: the savings in (0, 1).
        base: the options that all arms share.

    Raises:
        InvalidValue: if an arm is unknown, sets an option that it cannot set, or cannot reach a saving.
    """
    arms: list[Arm] = []
    for word, own in own_options.items():
        name, at, alone = word.partition("@")
        if own is not None:
            arms.append(Arm(word, None, _own(word, own, base)))
        elif name not in known_arms():
            raise unknown_name("arm", word, known_arms())
        elif name == FULL:
            if at:
                raise invalid("Full training saves nothing.", word, f"Name it {FULL}, without @{alone}.")
            arms.append(full_arm(base))
        else:
            shares = read_saved(alone) if at else saved
            arms += [Arm(name, share, _solved(name, share, base)) for share in shares]
    for arm in arms:
        _check(arm)
    labels = [arm.label for arm in arms]
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise invalid("Arms must differ in name.", f"{twice} twice", "Leave one of them out.")
    return arms


def _check(arm: Arm) -> None:
    """Raise if the options of an arm are invalid, as far as that shows without data."""
    try:
        check(arm.options)
        make_policy(arm.options)
        make_schedule(arm.options)
    except FallowError as error:
        # Of the same type, on which the exit code depends.
        raise type(error)(f"The arm {arm.label}: {error}") from None


def _own(name: str, own: dict[str, Any], base: TrainOptions) -> ResolvedOptions:
    """Return the options of an arm of the user's own."""
    if name in known_arms():
        raise invalid("Your own arm needs a name of its own.", name, f"Call it my-{name}.")
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name.startswith("."):
        raise invalid("An arm's name must be letters, digits, - and _.", repr(name))
    for option in own:
        if option.replace("-", "_") not in OF_AN_ARM:
            raise unknown_name(f"option of the arm {name}", option, OF_AN_ARM)
    given = {option.replace("-", "_"): value for option, value in own.items()}
    return _with(base, {"policy": "auto", **given})


def _with(base: TrainOptions, own: dict[str, Any]) -> ResolvedOptions:
    """Return the options of an arm, with those that were not given chosen anew for it."""
    return resolve(replace(as_given(base), **own))


def full_arm(base: TrainOptions) -> Arm:
    """Return full training."""
    return Arm(FULL, None, _with(base, {"policy": "full"}))


def _solved(name: str, saved: float, base: TrainOptions) -> ResolvedOptions:
    """Return the options with which ``name`` saves the share ``saved`` of full training's samples."""
    epochs = full_arm(base).options.epochs
    if epochs == 1:
        step = "Train for more epochs, or compare full alone."
        raise invalid("One epoch cannot save: the first is always full.", "--epochs 1", step)
    if name == FEWER:
        return _with(base, {"policy": "full", "epochs": fewer_epochs(epochs, saved)})
    own = _NAMED.get(name, {"policy": name})
    # As a quantile, a threshold leaves out a known share.
    share, own = ("low", own | {"quantiles": True}) if name == "threshold" else ("fraction", own)
    # The schedule may depend on whether there is a share, and the share depends on the schedule.
    return _with(base, own | {share: epoch_share(name, saved, _with(base, own | {share: saved}))})


def fewer_epochs(epochs: int, saved: float) -> int:
    """Return the smallest number of full epochs that saves at most the share ``saved`` of ``epochs``.

    >>> fewer_epochs(20, 0.7), fewer_epochs(20, 0.33)
    (6, 14)
    """
    # 20 * (1 - 0.3) is a little above 14 in floats.
    return max(1, math.ceil(epochs * (1 - saved) - 1e-9))


def epoch_share(name: str, saved: float, options: ResolvedOptions) -> float:
    r"""Return the share to leave out of each epoch so that the whole run saves ``saved``.

    :math:`f = s E / (E - F)`, if F of the E epochs are full: warm-up, full tail, re-admission, and those
    before a rule has seen enough.

    Raises:
        InvalidValue: if that is more than the whole epoch.
    """
    epochs = options.epochs
    thin = thin_epochs(make_policy(options), make_schedule(options))
    if saved * epochs >= thin:
        most = thin / epochs
        raise invalid(
            f"An arm must be able to save its share: {name} saves less than {most:.2g}, "
            f"since {epochs - thin} of {epochs} epochs {'is' if epochs - thin == 1 else 'are'} full.",
            f"saved {saved:g}",
            f"Ask for less, train for more epochs, or name the savings that {name} can have: "
            f"{name}@{_possible(most)}.",
        )
    return saved * epochs / thin


def _possible(most: float) -> str:
    """Return a round share below ``most``."""
    return f"{max(0.0, math.ceil(10 * most - 1e-9) - 1) / 10:g}"
