"""Arms: the options of ``fallow train`` that each arm sets to reach a given saving.

Every policy is an arm by its own name; the table here holds the few other names. An arm either takes a share,
which follows from the saving, or finds its share itself; then it has no saving.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ..core.plan import thin_epochs
from ..errors import FallowError, invalid, unknown_name
from ..options.checks import check
from ..options.factories import make_policy, make_schedule
from ..options.kinds import check_kinds
from ..options.resolve import ResolvedOptions, as_given, resolve
from ..options.train_options import OPTIONS, POLICIES, TrainOptions
from ..policies import policy_names
from ..runs.schema import FullTraining
from .options import OF_AN_ARM, read_shares

FULL, DEFAULT = "full", "default"
FEWER, THIN, RANDOM, DROPPED = "fewer-epochs", "fewer-epochs-thin", "random", "random-dropped"
CONTROLS = (FEWER, THIN, RANDOM, DROPPED)
"""They train on the same number of samples as a rule, without looking at any score."""
LEAST = 0.02
"""The smallest saving that controls are run for."""

_NAMED: dict[str, dict[str, Any]] = {
    DEFAULT: {"policy": "auto"},
    DROPPED: {"policy": "random", "kept_steps": False},
    "soft": {"policy": "soft", "high": "none"},
    "hard": {"policy": "fraction", "high": "none"},
    "infobatch": {"policy": "infobatch", "full_tail": 0.125},
    # As a quantile, a threshold leaves out a known share.
    "threshold": {"policy": "threshold", "quantiles": True},
}
"""Options of the arms that are more than the policy of their name."""
LONGEST = 60
"""Letters of an arm's name, which is part of the names of folders."""
_WHOLE = ("full", "selective-backprop")
"""Policies that leave no sample out of an epoch, so that there are no steps to keep."""

OwnOptions = Mapping[str, dict[str, Any] | None]
"""By the name of an arm, its options if it is one of the user's own."""


@dataclass(frozen=True)
class Arm:
    """One arm at one saving.

    Attributes:
        name: as given in ``--arms``.
        saved: the share of full training's samples to save; None for full training, for an arm of your own
            and for one that finds its share itself.
        options: of ``fallow train``, without seed and folder.
        rate: the learning rate that ``--rates`` chose, if it did.
        factor: that rate as a multiple of the one that the arm has otherwise.
    """

    name: str
    saved: float | None
    options: ResolvedOptions
    rate: float | None = None
    factor: float = 1.0

    @property
    def label(self) -> str:
        """Name and saving, also part of the folder's name: ``soft-0.5``."""
        return self.name if self.saved is None else f"{self.name}-{self.saved:g}"


def known_arms() -> tuple[str, ...]:
    """Return the names of all arms that need no options."""
    return tuple(dict.fromkeys((FULL, *CONTROLS, *_NAMED, *POLICIES, *policy_names())))


def make_arms(
    own_options: OwnOptions,
    saved: tuple[float, ...] | None,
    base: TrainOptions,
    full: FullTraining | None = None,
    *,
    most: bool = False,
) -> list[Arm]:
    """Return every arm at every saving; an arm that finds its share itself is one arm.

    Args:
        own_options: by name, with options for arms of the user's own; ``soft@0.5`` has one saving only.
        saved: the savings in (0, 1); None if they are not known yet, which leaves out the :func:`waiting`.
        base: the options that all arms share.
        full: the facts on full training. Without them a thinned control still has the batch of full training.
        most: if an arm cannot save that much, it saves as much as it can; otherwise that is an error.

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
        elif name == FULL or not takes_share(name, base):
            if at:
                rule = "Full training saves nothing." if name == FULL else f"{name} finds its share itself."
                raise invalid(rule, word, f"Name it {name}, without @{alone}.")
            arms.append(full_arm(base) if name == FULL else Arm(name, None, _with(base, _named(name))))
        else:
            shares = read_shares(alone) if at else saved or ()
            if most:
                shares = tuple(_reachable(name, share, base) for share in shares)
            arms += [Arm(name, share, _solved(name, share, base, full)) for share in shares]
    # A saving that is found may be one that was named as well.
    unique: dict[str, Arm] = {}
    for arm in arms:
        _check(arm)
        unique.setdefault(arm.label, arm)
    return list(unique.values())


def waiting(own_options: OwnOptions, base: TrainOptions) -> list[str]:
    """Return the names of the arms that can only be made when the saving is known."""
    return [
        name
        for name, own in own_options.items()
        if own is None and "@" not in name and name != FULL and takes_share(name, base)
    ]


def finders(arms: list[Arm]) -> list[Arm]:
    """Return the arms whose saving the other arms are run at: ``default``, or all that find theirs."""
    own = [arm for arm in arms if arm.saved is None and arm.options.policy not in _WHOLE]
    return [arm for arm in own if arm.name == DEFAULT] or own


def takes_share(name: str, base: TrainOptions) -> bool:
    """Return whether a known arm other than full training is made for a given saving."""
    if name in (FEWER, THIN):
        return True
    options = _with(base, _named(name))
    return bool(options.quantiles) or options.policy not in OPTIONS["fraction"].without


def _check(arm: Arm) -> None:
    """Raise if the options of an arm are invalid, as far as that shows without data."""
    with _naming(arm.label):
        check(arm.options)
        make_policy(arm.options)
        make_schedule(arm.options)


@contextmanager
def _naming(arm: str) -> Iterator[None]:
    """Name the arm in errors."""
    try:
        yield
    except FallowError as error:
        # Of the same type, on which the exit code depends.
        raise type(error)(f"The arm {arm}: {error}") from None


def _own(name: str, own: dict[str, Any], base: TrainOptions) -> ResolvedOptions:
    """Return the options of an arm of the user's own."""
    known, _, share = name.rpartition("-")
    if name in known_arms() or (known in known_arms() and share.replace(".", "").isdecimal()):
        raise invalid("Your own arm needs a name of its own.", name, f"Call it my-{name}.")
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name.startswith("."):
        raise invalid("An arm's name must be letters, digits, - and _.", repr(name))
    if len(name) > LONGEST:
        rule = f"An arm's name must have at most {LONGEST} letters: it names folders."
        raise invalid(rule, f"{len(name)}: {name[:20]}...", "Choose a shorter one.")
    for option in own:
        if option.replace("-", "_") not in OF_AN_ARM:
            raise unknown_name(f"option of the arm {name}", option, OF_AN_ARM)
    given = {option.replace("-", "_"): value for option, value in own.items()}
    options = {"policy": "auto", **given}
    with _naming(name):
        # What is chosen from the options relies on their types.
        check_kinds(replace(as_given(base), **options))
    return _with(base, options)


def _named(name: str) -> dict[str, Any]:
    """Return the options of a known arm beside its share."""
    return _NAMED.get(name, {"policy": name})


def _with(base: TrainOptions, own: dict[str, Any]) -> ResolvedOptions:
    """Return the options of an arm, with those that were not given chosen anew for it.

    Whatever leaves samples out keeps its steps unless ``own`` says otherwise: a comparison of which some arms
    drop steps would compare that.
    """
    options = resolve(replace(as_given(base), **own))
    if "kept_steps" in own or options.policy in _WHOLE or options.kept_steps:
        return options
    return resolve(replace(as_given(base), **own, kept_steps=True))


def full_arm(base: TrainOptions) -> Arm:
    """Return full training."""
    return Arm(FULL, None, _with(base, {"policy": "full"}))


def _solved(name: str, saved: float, base: TrainOptions, full: FullTraining | None) -> ResolvedOptions:
    """Return the options with which ``name`` saves the share ``saved`` of full training's samples."""
    epochs = full_arm(base).options.epochs
    if epochs == 1:
        step = "Train for more epochs, or compare full alone."
        raise invalid("One epoch cannot save: the first is always full.", "--epochs 1", step)
    if name in (FEWER, THIN):
        fewer = fewer_epochs(epochs, saved)
        own: dict[str, Any] = {"policy": "full", "epochs": fewer}
        if name == THIN and full is not None:
            # A learning rate that is not given follows the batch by itself, for tasks that use SGD.
            own["batch_size"] = thin_batch(full.samples, full.batch_size, epochs, fewer)
        return _with(base, own)
    share, own = _share_of(name), _named(name)
    # The schedule may depend on whether there is a share, and the share depends on the schedule.
    return _with(base, own | {share: epoch_share(name, saved, _with(base, own | {share: saved}))})


def _share_of(name: str) -> str:
    """Return the option that is the share of an epoch."""
    return "low" if _named(name).get("quantiles") else "fraction"


def fewer_epochs(epochs: int, saved: float) -> int:
    """Return the smallest number of full epochs that saves at most the share ``saved`` of ``epochs``.

    >>> fewer_epochs(20, 0.7), fewer_epochs(20, 0.33)
    (6, 14)
    """
    # 20 * (1 - 0.3) is a little above 14 in floats.
    return max(1, math.ceil(epochs * (1 - saved) - 1e-9))


def thin_batch(samples: int, batch_size: int, epochs: int, fewer: int) -> int:
    """Return the batch size with which ``fewer`` epochs make about as many steps as ``epochs`` do.

    >>> thin_batch(10_000, 256, 20, 12)
    150
    """
    if fewer == epochs:
        return batch_size
    steps = epochs * math.ceil(samples / batch_size)
    return math.ceil(samples / min(samples, max(1, round(steps / fewer))))


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


def _reachable(name: str, saved: float, base: TrainOptions) -> float:
    """Return ``saved``, or the most per cent that ``name`` can save if that is less."""
    if name in CONTROLS:
        return saved
    options = _with(base, _named(name) | {_share_of(name): saved})
    thin = thin_epochs(make_policy(options), make_schedule(options)) / options.epochs
    most = (math.ceil(100 * thin - 1e-9) - 1) / 100
    return min(saved, most) if most > 0 else saved


def _possible(most: float) -> str:
    """Return a round share below ``most``."""
    return f"{max(0.0, math.ceil(10 * most - 1e-9) - 1) / 10:g}"
