"""The course of a comparison: its stages, each made from what the stages before it found out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..options.resolve import ResolvedOptions
from .arms import LEAST, Arm, OwnOptions, finders, full_arm, make_arms, waiting
from .choosing import (
    RATES,
    TUNE,
    best_factors,
    best_length,
    check_choices,
    lengths_plan,
    own_rate,
    rates_plan,
    with_rates,
)
from .folder import Folder
from .measure import rate_text
from .plan import Plan, shared_settings
from .statistics import mean

IF_NONE_FINDS = 0.5
"""The saving of ``auto`` if no arm finds its share itself."""


@dataclass
class Course:
    """A comparison as it was asked for, and what it found out so far.

    Attributes:
        names: every arm that was asked for, with the options of those of the user's own.
        base: the options that all runs share, before ``--tune``.
        saved: the savings; None if they are to be found.
        seeds, out: as in :class:`Plan`.
        asked: the choices to make first: ``tune``, ``rates``.
        say: prints what was found out.
    """

    names: OwnOptions
    base: ResolvedOptions
    saved: tuple[float, ...] | None
    seeds: tuple[int, ...]
    out: Path
    asked: tuple[str, ...] = ()
    say: Callable[[str], None] = lambda text: None

    def __post_init__(self) -> None:
        # Without these choices the settings are those of a comparison of an older version.
        self.folder = Folder(self.out, shared_settings(self.base) | dict.fromkeys(self.asked, True))
        if self.saved is None and not finders(make_arms(self.names, None, self.base)):
            self.saved = (IF_NONE_FINDS,)
        self.checked_arms()
        check_choices(self.base, self.names, self.asked)

    def checked_arms(self) -> list[Arm]:
        """Return all arms; those that wait for a saving are made for a small one.

        Raises:
            InvalidValue: if an arm is invalid, as far as that shows without data.
        """
        return make_arms(self.names, self.saved or (LEAST,), self.base, self.folder.found.full)

    @property
    def finders(self) -> list[str]:
        """The names of the arms whose saving is found."""
        return [arm.name for arm in finders(self.checked_arms())]

    @property
    def known_saving(self) -> float | None:
        """The saving that these arms have found, in this process or before; None if it is to be found."""
        found = self.folder.found
        return found.saved if found.finders in (None, self.finders) else None

    def first(self) -> Plan:
        """Return the plan of the arms that do not wait for a saving."""
        return self._plan(self.base, self.saved)

    def _plan(self, base: ResolvedOptions, saved: tuple[float, ...] | None, *, most: bool = False) -> Plan:
        arms = make_arms(self.names, saved, base, self.folder.found.full, most=most)
        return Plan(base, tuple(arms), saved or (), self.seeds, self.out)

    def ahead(self) -> list[Plan]:
        """Return every stage, as far as it is known now; the last one has all runs that are compared."""
        return list(self.stages(ahead=True))

    def stages(self, *, ahead: bool = False) -> Iterator[Plan]:
        """Yield the plan of each stage; its runs must be trained before the next is asked for.

        Args:
            ahead: nothing is trained: what is not known yet is left as it is, and arms that wait for a
                saving are full training under their names.
        """
        base = self.base
        if TUNE in self.asked:
            if self.folder.found.epochs is None:
                plan = lengths_plan(base, self.folder.found.full, self.out)
                yield plan
                if not ahead:
                    self._keep_length(plan)
            base = replace(base, epochs=self.folder.found.epochs or base.epochs)
        plan = yield from self._phase(self._plan(base, self.saved), ahead=ahead)
        names = [] if self.saved is not None else waiting(self.names, base)
        if not names:
            return
        if not ahead and self.known_saving is None:
            self._keep_saving(plan)
        saved = self.known_saving
        if saved is None and ahead:
            arms = (*plan.arms, *(replace(full_arm(base), name=name) for name in names))
            yield from self._phase(replace(plan, arms=arms), ahead=ahead)
        elif saved is not None and saved >= LEAST:
            plan = self._plan(base, (saved,), most=True)
            less = [arm.label for arm in plan.arms if arm.name in names and (arm.saved or saved) < saved]
            if less and not ahead:
                self.say(f"{', '.join(less)}: more cannot be saved.")
            yield from self._phase(plan, ahead=ahead)

    def _phase(self, plan: Plan, *, ahead: bool) -> Generator[Plan, Any, Plan]:
        """Yield the plan, and before it the choice of learning rates if there is one; return the plan."""
        if RATES in self.asked:
            found = self.folder.found
            arms = [arm for arm in plan.arms if arm.label not in found.rates]
            if arms:
                tried = rates_plan(plan, arms, found.full)
                yield tried
                if not ahead:
                    self._keep_rates(tried, arms)
            plan = with_rates(plan, self.folder.found.rates, found.full)
        yield plan
        return plan

    def _keep_length(self, plan: Plan) -> None:
        if (best := best_length(plan)) is None:
            self.say(f"No length was chosen, since none finished: {self.base.epochs} epochs are trained.")
            return
        epochs, sentence = best
        self.folder.keep(epochs=epochs)
        self.say(sentence)

    def _keep_rates(self, plan: Plan, arms: list[Arm]) -> None:
        factors = best_factors(plan, arms)
        self.folder.keep(rates=self.folder.found.rates | factors)
        chosen = with_rates(replace(plan, arms=tuple(arms)), factors, self.folder.found.full).arms
        shown = [f"{arm.label} {rate_text(arm.rate, arm.factor)}" for arm in chosen if arm.rate is not None]
        if shown:
            self.say(f"Learning rates: {', '.join(shown)}.")

    def _keep_saving(self, plan: Plan) -> None:
        arms = finders(list(plan.arms))
        saved = [
            1
            - finished.summary.samples_backward / (finished.summary.epochs[0].samples_full * plan.base.epochs)
            for run in plan.runs()
            if run.arm in arms and (finished := run.summary()) is not None
        ]
        names = ", ".join(arm.name for arm in arms)
        if not saved:
            self.say(f"The saving is not known, since no run of {names} finished.")
            return
        found = min(1.0, max(0.0, round(mean(saved), 2)))
        self.folder.keep(saved=found, finders=self.finders)
        rest = "too little for a control" if found < LEAST else "the others run at that saving"
        self.say(f"{names} saved {found:.0%}: {rest}.")

    def check_rate(self) -> None:
        """Raise if a choice is asked for and the user's own module sets its learning rate."""
        full = self.folder.found.full
        if self.asked and full is not None and full.learning_rate is None:
            raise own_rate(self.asked, f"--model {self.base.model}")
