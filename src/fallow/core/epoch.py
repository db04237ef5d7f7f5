"""The epoch under way: its planned samples, their order, and the scores recorded so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..arrays.bitset import Bitset
from ..arrays.keyed import mix
from ..errors import WrongState, invalid, wrong_state
from ..policies.base import Policy, Reason
from .class_ids import ClassIds
from .epoch_scores import EpochScores
from .kept_steps import KeptSteps
from .order import Order, RemainingOrder
from .plan import Floors, Plan, apply_floors, full_count


@dataclass(frozen=True)
class Ending:
    """A training that ends early.

    Attributes:
        start: the epoch from which on progress runs to its end.
        progress: the progress at its beginning.
        end: the number of epochs of the training.
    """

    start: int
    progress: float
    end: int


class Observer(Protocol):
    """Is told of the epochs of a training, on every rank."""

    def epoch_begins(self) -> None:
        """Called before a loader gives its first batch of an epoch, or of what is left of it."""

    def epoch_ended(self) -> None:
        """Called at the end of ``step()``; the last record of the history is that of the epoch."""


class Epoch:
    """The epoch under way, as the loader and the integrations see it.

    A :class:`fallow.Subsampler` keeps one object for the whole training; each ``step()`` begins the next
    epoch in it.

    Args:
        plan: the plan of the first epoch.
        scores: the scores of the epoch.
        floors: the samples to keep regardless of the policy.
        seed: the seed of the training.
        epochs: the number of epochs of the training.

    Attributes:
        plan, scores, floors, seed, epochs: the arguments, as they are now.
        planned: a function that returns how many samples this rank, and all ranks together, still get from
            the newest loader; None before a loader is made.
        ending: the end of the training, if it was brought forward.
        reached: a function from the number of samples that this rank has recorded to that of all ranks
            together, in batches of uneven sizes; None if all have the same.
        share_of_batch: a function from the number of samples that this rank has recorded, and that of its
            next batch, to its share of that batch times the number of ranks; None before a loader is made.
        whole_batch: the batch size per rank that each epoch is rounded up to, or None.
        kept_steps: the batches of an epoch that keeps its number of steps; None if steps are dropped.
        drops_steps: whether there is a loader that drops steps.
        observers: objects that are told when an epoch begins and ends.
    """

    def __init__(self, plan: Plan, scores: EpochScores, floors: Floors, seed: int, epochs: int) -> None:
        self.plan, self.scores, self.floors, self.seed, self.epochs = plan, scores, floors, seed, epochs
        self._planned_epochs = epochs
        self.planned: Callable[[], tuple[int, int]] | None = None
        self.ending: Ending | None = None
        self.reached: Callable[[int], int] | None = None
        self.share_of_batch: Callable[[int, float], float] | None = None
        self.whole_batch: int | None = None
        self.kept_steps: KeptSteps | None = None
        self.drops_steps = False
        self.observers: list[Observer] = []
        self._orders: dict[bool, Order] = {}
        self._yielded: list[NDArray[np.int64]] = []
        self._all_yielded = False

    @property
    def progress(self) -> float:
        """The share of the training that is done; see ``Subsampler.progress``."""
        if self.number >= self.epochs:
            return 1.0
        if (ending := self.ending) is None:
            return (self.number + self.share) / self.epochs
        done = (self.number - ending.start + self.share) / (ending.end - ending.start)
        return ending.progress + (1 - ending.progress) * done

    def finish(self, epochs: int) -> None:
        """Make this and the next ``epochs - 1`` epochs the last ones, unless the training ends before."""
        end = min(self.epochs, self.number + epochs)
        self.ending = Ending(self.number, self.progress, end)
        self.epochs = end

    @property
    def number(self) -> int:
        """The number of the epoch, from 0; ``epochs`` when all are done."""
        return self.plan.epoch

    @property
    def name(self) -> str:
        """The epoch in words, counted from 1: ``epoch 3 of 30``."""
        return self.name_of(self.number)

    def name_of(self, number: int) -> str:
        """Return the name of another epoch, numbered from 0."""
        return f"epoch {number + 1} of {self.epochs}"

    @property
    def class_ids(self) -> ClassIds:
        """The numbers from 0 that stand for class ids in policies and in the files of a run."""
        return self.scores.class_ids

    def begin(self, plan: Plan) -> None:
        """Begin the epoch of a plan, with nothing recorded."""
        self.plan, self._orders = plan, {}
        self._yielded, self._all_yielded = [], False
        self.scores.begin(plan.epoch)

    def resume(self, plan: Plan, scores: EpochScores, ending: Ending | None = None) -> None:
        """Replace plan, scores and end by those of a loaded state."""
        self.plan, self.scores, self._orders = plan, scores, {}
        self._yielded, self._all_yielded = [], False
        self.ending = ending
        self.epochs = self._planned_epochs if ending is None else ending.end

    def replan(self) -> None:
        """Plan the epoch again from the samples kept now, if nothing is recorded in it."""
        if self.scores.untouched:
            table = self.scores.table
            apply_floors(table.reason, table.scores, self.rounded_floors())
            self.plan = replace(
                self.plan,
                kept=Bitset(table.reason == Reason.KEPT),
                full=full_count(table.reason),
                learned=int(np.count_nonzero(table.reason == Reason.LEARNED)),
            )
            self._orders = {}

    def join(self, count: int) -> None:
        """Add ``count`` samples at the end, which this epoch keeps, whatever is recorded in it."""
        self.scores.join(count)
        kept = np.concatenate([self.plan.kept.mask(), np.ones(count, np.bool_)])
        self.plan = replace(self.plan, kept=Bitset(kept), full=self.plan.full + count)
        self._orders = {}

    def round_up(self, batch_size: int) -> None:
        """Round this and every later epoch up to whole batches on all ranks.

        Raises:
            InvalidValue: if another loader rounds to another batch size.
        """
        if self.whole_batch not in (None, batch_size):
            found = f"{self.whole_batch} and {batch_size}"
            raise invalid("Loaders with full_batches must agree on the batch size.", found)
        self.whole_batch = batch_size
        self.replan()

    def keep_steps(self, steps: KeptSteps) -> None:
        """Keep the number of steps of this and every later epoch.

        Raises:
            InvalidValue: if another loader keeps those of other batches.
        """
        if self.kept_steps not in (None, steps):
            found = " and ".join(
                f"batch_size={one.batch_size} with accumulate={one.accumulate}"
                for one in (self.kept_steps, steps)
                if one is not None
            )
            step = "Make all loaders with the same batch_size and accumulate."
            raise invalid("Loaders with kept_steps must agree on the batches.", found, step)
        self.kept_steps = steps
        self.replan()

    def gradient_factor(self, rows: float) -> float:
        """Return the factor of the gradient of this rank's mean loss over its next ``rows`` samples.

        Under kept steps a batch is a part of a whole one. If steps are dropped, it makes up for ranks that
        have different numbers of samples of a batch, since their gradients are averaged.
        """
        if self.kept_steps is None:
            return 1.0 if self.share_of_batch is None else self.share_of_batch(self._recorded, rows)
        plan, size = self.plan, self.scores.ranks.size
        kept = len(plan.kept)
        batches = self.kept_steps.count(kept, plan.full)
        return rows * size * batches / (kept + plan.learned)

    @property
    def accumulate(self) -> int:
        """The number of batches to a step in this epoch, if the loader keeps steps; else 1."""
        if self.kept_steps is None:
            return 1
        return self.kept_steps.batches_per_step(len(self.plan.kept), self.plan.full)

    def rounded_floors(self) -> Floors:
        """Return the floors, raised to those of the batches: whole ones, or the thinnest allowed."""
        if self.kept_steps is not None:
            return self.thinned_floors(self.kept_steps)
        if self.whole_batch is None:
            return self.floors
        return replace(self.floors, multiple=self.whole_batch * self.scores.ranks.size)

    def thinned_floors(self, steps: KeptSteps) -> Floors:
        """Return the floors, raised to those of the thinnest batches."""
        full = full_count(self.scores.table.reason)
        return replace(self.floors, thinnest=steps.fewest(full), multiple=steps.multiple(full))

    def fewest_kept(self, policy: Policy) -> int:
        """Return the minimum number of samples an epoch keeps by the floors, the policy and whole batches."""
        floors, n = self.rounded_floors(), len(self.scores.table)
        least = max(policy.kept_count(n) or 0, floors.least)
        if floors.labels is not None:
            least = max(least, int(np.minimum(np.bincount(floors.labels), floors.per_class).sum()))
        # -(-a // b) rounds up without a float, which is inexact for huge numbers.
        return min(n, -(-least // floors.multiple) * floors.multiple)

    def order(self, *, shuffle: bool = True) -> Order:
        """Return the order of the epoch, without the samples used before a resume."""
        if shuffle not in self._orders:
            order = Order(self.plan.kept, self.seed, self.number, shuffle=shuffle)
            used = self.scores.resumed
            self._orders[shuffle] = order if used is None else RemainingOrder(order, used)
        return self._orders[shuffle]

    def key(self, *words: int) -> int:
        """Return a 64-bit key made of the seed, the epoch and ``words``."""
        return mix(self.seed, self.number, *words)

    @property
    def resumed(self) -> bool:
        """Whether part of the epoch was recorded before a state was loaded."""
        return self.scores.resumed is not None

    @property
    def exhausted(self) -> bool:
        """Whether the loaded state is from after the last batch of the epoch: only ``step()`` remains."""
        return self.resumed and self.planned is not None and self.planned()[1] == 0

    @property
    def share(self) -> float:
        """The share of the epoch's samples that is recorded, in [0, 1]; equal on all ranks after a batch."""
        left = len(self.order())
        # Samples used before a resume are not in the order any more, but count as done.
        before = len(self.plan.kept) - left
        this_rank, all_ranks = self.planned() if self.planned else (left, left)
        recorded = self._recorded
        if recorded >= this_rank:
            return 1.0
        if self.reached is not None:
            return (before + self.reached(recorded)) / (before + all_ranks)
        # An estimate: ranks may get different numbers of samples from the last batch.
        return min(1.0, (before + recorded * self.scores.ranks.size) / (before + all_ranks))

    @property
    def _recorded(self) -> int:
        """The number of samples that this rank has seen since the epoch began or was resumed."""
        return self.scores.recorded + self.scores.waiting

    def check_running(self) -> None:
        """Raise if all epochs are done."""
        if self.number >= self.epochs:
            step = "Plan more epochs, or loop while subsampler.epoch < subsampler.epochs."
            raise wrong_state(f"All {self.epochs} epochs are done.", step)

    @property
    def _awaits_first(self) -> bool:
        """Whether the epoch was resumed, and nothing is recorded since."""
        return (self.resumed or self.scores.loaded > 0) and self._recorded == self.scores.loaded

    def expect(self, index: NDArray[np.int64] | None) -> None:
        """Note a batch that a loader yields after a resume, until one is recorded; None for their end."""
        if not self._awaits_first:
            return
        if index is None:
            self._all_yielded = True
        else:
            self._yielded.append(index)

    def check_follows(self, rows: NDArray[np.int64]) -> None:
        """Raise if the first batch after a resume comes after as many as had been recorded before.

        Then something skips batches that the loader has left out already.
        """
        if not self._yielded:
            return
        yielded, self._yielded = self._yielded, []
        if not self._awaits_first:
            return
        skipped = 0
        for index in yielded:
            if np.isin(index, rows).any():
                break
            skipped += index.size
        else:
            return
        before = self.scores.loaded
        if self.scores.resumed is not None:
            before += int(np.count_nonzero(self.scores.resumed)) // self.scores.ranks.size
        if skipped and abs(skipped - before) < yielded[0].size:
            self._yielded = yielded
            raise self._skipped()

    def check_followed(self) -> None:
        """Raise if the loader has yielded all batches that are left after a resume, and none was recorded."""
        if self._yielded and self._all_yielded and self._awaits_first:
            raise self._skipped()

    def _skipped(self) -> WrongState:
        return wrong_state(
            f"{self.name.capitalize()} was resumed, and batches after that were not recorded. The loader "
            "leaves out by itself what was recorded before.",
            "Skip no batches: remove Accelerate's skip_first_batches, a `continue` over the first batches, "
            "or a loader's own state that is loaded as well.",
        )

    def check_open(self, planned: int) -> None:
        """Raise if all ``planned`` samples of this rank are recorded, or all epochs are done."""
        self.check_running()
        recorded = self._recorded
        # A state from the very end of an epoch may be loaded: the loader then yields no batches.
        if recorded > self.scores.loaded and recorded >= planned:
            raise wrong_state(
                f"{self.name.capitalize()} has ended: all its samples are recorded.",
                "Call `subsampler.step()` before the next epoch. For evaluation, use a loader of your own.",
            )

    def check_untouched(self, call: str) -> None:
        """Raise if something is recorded: ``call`` is allowed between two epochs only."""
        if not self.scores.untouched:
            raise wrong_state(f"{self.name.capitalize()} is under way.", f"Call {call}() right after step().")
