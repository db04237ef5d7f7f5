"""The epoch under way: the samples planned for it, their order, and what has been recorded so far."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..arrays.bitset import Bitset
from ..arrays.distributed import rank_and_size
from ..arrays.keyed import mix
from ..errors import invalid, wrong_state
from ..policies.base import Policy, Reason
from .class_ids import ClassIds
from .epoch_scores import EpochScores
from .order import Order, Rest
from .plan import Floors, Plan, hold

if TYPE_CHECKING:
    from collections.abc import Callable


class Epoch:
    """The epoch under way, as the loader and the trainers' integrations see it.

    A :class:`fallow.Subsampler` holds one for good, and each of its ``step()`` begins the next epoch in it.

    Args:
        plan: of the first epoch.
        scores: where its scores are recorded.
        floors: what is kept whatever the policy says.
        seed: of the training.
        epochs: how many the training has.

    Attributes:
        plan, scores, floors, seed, epochs: as given, or as they are now.
        planned: returns how many samples this rank and all ranks together get from here on, as the newest
            loader splits them into batches; None before there is one.
        whole_batch: the batch size of a rank that each epoch is rounded up to, or None.
    """

    def __init__(self, plan: Plan, scores: EpochScores, floors: Floors, seed: int, epochs: int) -> None:
        self.plan, self.scores, self.floors, self.seed, self.epochs = plan, scores, floors, seed, epochs
        self.planned: Callable[[], tuple[int, int]] | None = None
        self.whole_batch: int | None = None
        self._orders: dict[bool, Order] = {}

    @property
    def number(self) -> int:
        """Which epoch, from 0; ``epochs`` when all are done."""
        return self.plan.epoch

    @property
    def name(self) -> str:
        """The epoch as people count, from 1: ``epoch 3 of 30``."""
        return self.name_of(self.number)

    def name_of(self, number: int) -> str:
        """Return the name of another epoch, numbered from 0."""
        return f"epoch {number + 1} of {self.epochs}"

    @property
    def class_ids(self) -> ClassIds:
        """The number, from 0, by which the policy and the files of a run know each class id."""
        return self.scores.class_ids

    def begin(self, plan: Plan) -> None:
        """Begin the epoch of a plan: nothing is recorded in it yet."""
        self.plan, self._orders = plan, {}
        self.scores.begin(plan.epoch)

    def resume(self, plan: Plan, scores: EpochScores) -> None:
        """Take over a plan and scores that were loaded."""
        self.plan, self.scores, self._orders = plan, scores, {}

    def replan(self) -> None:
        """Plan the samples that are kept now, if the epoch has not begun."""
        if self.scores.unbegun:
            table = self.scores.table
            hold(table.reason, table.scores, self.rounded_floors())
            self.plan = replace(self.plan, kept=Bitset(table.reason == Reason.KEPT))
            self._orders = {}

    def round_up(self, batch_size: int) -> None:
        """Round this and every later epoch up to whole batches on all ranks.

        Raises:
            InvalidValue: if it is rounded to another batch size already.
        """
        if self.whole_batch not in (None, batch_size):
            found = f"{self.whole_batch} and {batch_size}"
            raise invalid("Loaders with full_batches must agree on the batch size.", found)
        self.whole_batch = batch_size
        self.replan()

    def rounded_floors(self) -> Floors:
        """Return the floors, rounded up to whole batches on as many ranks as there are now."""
        if self.whole_batch is None:
            return self.floors
        return replace(self.floors, multiple=self.whole_batch * rank_and_size()[1])

    def fewest_kept(self, policy: Policy) -> int:
        """Return how many samples an epoch keeps at least: by the floors, the policy and whole batches."""
        floors, n = self.rounded_floors(), len(self.scores.table)
        least = max(policy.kept_count(n) or 0, floors.kept)
        if floors.labels is not None:
            least = max(least, int(np.minimum(np.bincount(floors.labels), floors.per_class).sum()))
        return min(n, -(-least // floors.multiple) * floors.multiple)

    def order(self, *, shuffle: bool = True) -> Order:
        """Return the order of the samples that are left: all of them, or those not used before a resume."""
        if shuffle not in self._orders:
            order = Order(self.plan.kept, self.seed, self.number, shuffle=shuffle)
            used = self.scores.resumed
            self._orders[shuffle] = order if used is None else Rest(order, used)
        return self._orders[shuffle]

    def key(self, *words: int) -> int:
        """Return a 64-bit key of the seed, the epoch and the words."""
        return mix(self.seed, self.number, *words)

    @property
    def resumed(self) -> bool:
        """Whether the epoch was begun before a state was loaded."""
        return self.scores.resumed is not None

    @property
    def exhausted(self) -> bool:
        """Whether a state was loaded from after the epoch's last batch: only ``step()`` is left to do."""
        return self.resumed and self.planned is not None and self.planned()[1] == 0

    @property
    def share(self) -> float:
        """How much of the epoch is done, by samples, in [0, 1]; the same on all ranks after a batch."""
        left = len(self.order())
        before = len(self.plan.kept) - left
        mine, everyone = self.planned() if self.planned else (left, left)
        recorded = self.scores.recorded + self.scores.waiting
        if recorded >= mine:
            return 1.0
        _, size = rank_and_size()
        return min(1.0, (before + recorded * size) / (before + everyone))

    def used_here(self) -> NDArray[np.bool_] | None:
        """Return which samples this rank has recorded since the epoch began or was resumed, or None."""
        return self.scores.recorded_here()

    def check_running(self) -> None:
        """Raise if all epochs are done."""
        if self.number >= self.epochs:
            raise wrong_state(f"All {self.epochs} epochs are done.", "Plan more epochs.")

    def check_open(self, planned: int) -> None:
        """Raise if all ``planned`` samples of this rank are recorded, or all epochs are done.

        A state may be saved at the very end of an epoch. Then the loader yields no batches, once.
        """
        self.check_running()
        recorded = self.scores.recorded + self.scores.waiting
        if recorded > self.scores.loaded and recorded >= planned:
            raise wrong_state(
                f"{self.name.capitalize()} has ended: all its samples are recorded.",
                "Call `subsampler.step()` before the next epoch.",
            )

    def check_unbegun(self, call: str) -> None:
        """Raise if the epoch is under way: ``call`` belongs between two epochs."""
        if not self.scores.unbegun:
            raise wrong_state(f"{self.name.capitalize()} is under way.", f"Call {call}() right after step().")
