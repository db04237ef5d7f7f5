"""The options of ``fallow compare`` that ``fallow train`` does not have. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import FallowError, check_integer, check_share, invalid
from ..options.train_options import EITHER, NEVER, OWN, named

AUTO = "auto"
"""The saving that is found by the arms that find their share themselves."""
NOT_SHARED = named(arm=OWN) | named(arm=NEVER)
"""Options of ``fallow train`` that an arm, a seed or the comparison itself sets."""
OF_AN_ARM = named(arm=OWN) | named(arm=EITHER)
"""Options of ``fallow train`` that an arm of your own may set."""


@dataclass
class CompareOptions:
    """Which arms, savings and seeds are compared.

    Args:
        arms: Names, as full,fewer-epochs,random,default; hard@0.5 for one saving only. fewer-epochs-thin
            thins the batches of fewer epochs, so that they make as many steps as full training;
            random-dropped drops steps, random does not. default is fallow train without a policy, soft a
            draw by score alone, hard leaves out the lowest scores, and all other names are policies. Also a
            list or, in a --config file, a mapping: a name alone, or the name of your own arm with its options
            of fallow train.
        saved: auto, or shares of the samples of full training that a whole run is to save, as 0.3,0.5,0.7.
            auto runs the arms that find their share themselves first, and all others at the saving that was
            found; if there are none, at 0.5.
        seeds: The number k of seeds, 0 to k-1, or a list, as [0,1,7]. Three are few, five are better.
        out: The folder for all runs and results; a comparison in it is resumed. Default: comparisons/DATA.
        rates: Choose the learning rate of each arm among half, once and twice its rate: on 0.2 of the
            training samples, held out, with two seeds of their own.
        tune: First choose the length of full training among 1/2, 3/4, 1 and 1.5 of the epochs, in the same
            way; all arms use it.
        jobs: Runs at a time, each a process with one thread that holds the data. Default: one a core, on an
            accelerator 1.
        dry_run: Print what would be trained and how long it takes, and stop.
        json: Print results.json on standard output, and everything else on standard error.
        quiet: Print only errors, and runs that failed, on standard error; the exit code tells the rest.
    """

    arms: Any = "full,fewer-epochs,fewer-epochs-thin,random,default"
    saved: Any = AUTO
    seeds: Any = 5
    out: str | None = None
    rates: bool = False
    tune: bool = False
    jobs: int | None = None
    dry_run: bool = False
    json: bool = False
    quiet: bool = False


def read_arms(arms: Any) -> dict[str, dict[str, Any] | None]:
    """Return each arm's own options, or None for an arm that is known by its name.

    >>> read_arms("full, soft")
    {'full': None, 'soft': None}
    >>> read_arms(["full", {"mine": {"policy": "threshold", "low": 0.05}}])
    {'full': None, 'mine': {'policy': 'threshold', 'low': 0.05}}
    """
    if isinstance(arms, str):
        arms = [word.strip() for word in arms.split(",") if word.strip()]
    own_options: dict[str, dict[str, Any] | None] = {}
    for part in arms if isinstance(arms, Sequence) else [arms]:
        if not isinstance(part, str | Mapping):
            raise invalid("Arms must be names, or a name with options.", repr(part), "Try full,random,soft.")
        for name, own in [(part, None)] if isinstance(part, str) else part.items():
            if name in own_options:
                raise invalid("An arm must be named once.", f"{name} twice", "Leave one of them out.")
            if own is not None and not isinstance(own, Mapping):
                raise invalid(f"The arm {name} must map options of fallow train to values.", repr(own))
            own_options[str(name)] = None if own is None else dict(own)
    if not own_options:
        raise invalid("There must be an arm to compare.", "none", f"Try {CompareOptions.arms}.")
    return own_options


def read_saved(saved: Any) -> tuple[float, ...] | None:
    """Return the savings in ascending order, each once; None for ``auto``.

    >>> read_saved("0.7, 0.3")
    (0.3, 0.7)
    """
    if saved == AUTO:
        return None
    return read_shares(saved)


def read_shares(saved: Any) -> tuple[float, ...]:
    """Return the savings in ascending order, each once."""
    if isinstance(saved, str):
        saved = [_number(word) for word in saved.split(",") if word.strip()]
    values = list(saved) if isinstance(saved, Sequence) else [saved]
    if not values:
        raise _no_share("none")
    return tuple(sorted(set(map(_share, values))))


def _share(value: Any) -> float:
    try:
        share = check_share("saved", value, closed=False)
    except FallowError:
        raise _no_share(repr(value)) from None
    if share == 0:
        raise _no_share(value)
    return share


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise _no_share(repr(word)) from None


def _no_share(value: Any) -> FallowError:
    return invalid("`saved` must name shares in (0, 1), or be auto alone.", value, "Try 0.3,0.5,0.7 or auto.")


def read_seeds(seeds: Any) -> tuple[int, ...]:
    """Return the seeds: 0 to k-1 for a number k, or those listed.

    >>> read_seeds(3), read_seeds("1,5")
    ((0, 1, 2), (1, 5))
    """
    if isinstance(seeds, str) and seeds.strip().isdecimal():
        seeds = int(seeds)
    if isinstance(seeds, str):
        words = [word.strip() for word in seeds.split(",") if word.strip()]
        seeds = [int(word) if word.isdecimal() else word for word in words]
    if not isinstance(seeds, Sequence):
        return tuple(range(check_integer("seeds", seeds, 1)))
    listed = tuple(check_integer("seeds", seed, 0) for seed in seeds)
    if not listed or len(set(listed)) < len(listed):
        raise invalid("`seeds` must list each seed once.", list(listed), "Try 5, for the seeds 0 to 4.")
    return listed
