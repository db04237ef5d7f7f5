"""What can be read off a subsampler at any time; nothing here changes it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arrays.bitset import Bitset
from ..arrays.distributed import rank_and_size
from ..arrays.keyed import mix
from ..errors import check_flag, invalid, wrong_state
from ..policies.base import Policy, Reason
from . import loading
from .class_ids import ClassIds
from .history import EpochRecord
from .ledger import Ledger
from .loading import EpochBatches
from .order import Order, Rest
from .plan import Floors, Plan, planned_counts
from .schedule import Schedule
from .table import PREDICTED

_PROGRESS = "Drive the learning rate with `subsampler.progress`."


class Readings:
    """The readable side of a :class:`fallow.Subsampler`."""

    n: int
    seed: int
    policy: Policy
    schedule: Schedule
    history: list[EpochRecord]
    _ledger: Ledger
    _plan: Plan
    _floors: Floors
    _full_batch: int | None
    _batches: EpochBatches | None
    _orders: dict[bool, Order]

    def __repr__(self) -> str:
        kept = len(self._plan.kept)
        where = f"epoch={self.epoch}, kept={kept}"
        return f"Subsampler({self.n}, {self.policy!r}, {self.schedule!r}, seed={self.seed}: {where})"

    @property
    def epoch(self) -> int:
        """The epoch under way, from 0; ``schedule.epochs`` when all are done."""
        return self._plan.epoch

    @property
    def reason(self) -> Tensor:
        """Why each sample is left out, a :class:`Reason`: uint8 ``(N,)``; 0 is kept."""
        return torch.from_numpy(self._ledger.table.reason.copy())

    @property
    def kept(self) -> Tensor:
        """Which samples are kept: bool ``(N,)``."""
        return torch.from_numpy(self._ledger.table.reason == Reason.KEPT)

    @property
    def removed(self) -> Tensor:
        """Which samples are left out: bool ``(N,)``."""
        return ~self.kept

    @property
    def scores(self) -> Tensor:
        """The last score of each sample: float32 ``(N,)``, NaN where there is none.

        In the middle of an epoch: with what this rank has recorded so far, which waits for the device.
        """
        self._ledger.flush()
        return torch.from_numpy(self._ledger.table.scores.copy())

    @property
    def last_scored(self) -> Tensor:
        """The epoch of each sample's last score: int64 ``(N,)``, -1 for never."""
        self._ledger.flush()
        return torch.from_numpy(self._ledger.table.scored_in.astype(np.int64) - 1)

    @property
    def predicted(self) -> Tensor:
        """The class last predicted for each sample: int64 ``(N,)``, -1 where its last visit told none.

        If ids are renumbered (see :class:`ClassIds`), a class that no sample has is none either.
        """
        self._ledger.flush()
        column = self._ledger.table.columns.get(PREDICTED, np.zeros(self.n, np.int32))
        return torch.from_numpy(self.class_ids.decode(column - 1))

    @property
    def labels(self) -> Tensor | None:
        """The class ids that were given: int64 ``(N,)``, or None."""
        labels = self._floors.labels
        return None if labels is None else torch.from_numpy(self.class_ids.decode(labels))

    def _ids(self) -> NDArray[Any] | None:
        """Return the class ids in whatever type they are kept in."""
        labels = self._floors.labels
        return self.class_ids.decode(labels) if labels is not None and self.class_ids.renumbered else labels

    @property
    def class_ids(self) -> ClassIds:
        """Which number, from 0, the policy and the files of a run know each class id by."""
        return self._ledger.class_ids

    @property
    def min_kept(self) -> int:
        """How many samples are kept at least."""
        return self._floors.kept

    @property
    def fewest_kept(self) -> int:
        """How many samples an epoch keeps, whatever they score: by its floors, rule and whole batches."""
        floors = self._floors_now()
        least = max(self.policy.kept_count(self.n) or 0, floors.kept)
        if floors.labels is not None:
            least = max(least, int(np.minimum(np.bincount(floors.labels), floors.per_class).sum()))
        return min(self.n, -(-least // floors.multiple) * floors.multiple)

    @property
    def min_kept_per_class(self) -> int:
        """How many samples of each class are kept at least."""
        return self._floors.per_class

    @property
    def record_seconds(self) -> float:
        """Time spent inside ``record`` so far, in seconds."""
        return sum(epoch.record_seconds for epoch in self.history) + self._ledger.seconds

    def order(self, epoch: int | None = None, *, shuffle: bool = True) -> Order:
        """Return the order of an epoch: ``len()``, and ``[a:b]`` gives int64 positions a to b.

        Args:
            epoch: the epoch under way by default, without the samples used before a resume; or a past
                one, with the samples that were used in it.
            shuffle: False gives ascending order.

        Raises:
            InvalidValue: for an epoch that is not planned yet.
        """
        check_flag("shuffle", shuffle)
        if epoch is None or epoch == self.epoch:
            if shuffle not in self._orders:
                order = Order(self._plan.kept, self.seed, self.epoch, shuffle=shuffle)
                done = self._ledger.resumed
                self._orders[shuffle] = order if done is None else Rest(order, done)
            return self._orders[shuffle]
        if not 0 <= epoch < self.epoch:
            step = "It is numbered from 0, as `subsampler.epoch` is; others are not planned yet."
            raise invalid(f"An epoch that has an order must be in [0, {self.epoch}].", epoch, step)
        return Order(Bitset(self.history[epoch].used.numpy()), self.seed, epoch, shuffle=shuffle)

    def weights(self, index: Tensor | NDArray[np.int64]) -> Tensor | None:
        """Return the loss weights of a batch, float32 ``(B,)`` on the host; None where all are 1."""
        if self._plan.weights is None:
            return None
        return torch.from_numpy(self._plan.weights[np.asarray(index)])

    def key(self, *words: int) -> int:
        """Return a 64-bit key of the seed, the epoch under way and the words."""
        return mix(self.seed, self.epoch, *words)

    def already_used(self) -> NDArray[np.bool_] | None:
        """Return which samples this rank recorded since the epoch began or was resumed, or None."""
        return self._ledger.done_here()

    def resumed(self) -> bool:
        """Return whether the epoch under way was begun before a state was loaded."""
        return self._ledger.resumed is not None

    @property
    def exhausted(self) -> bool:
        """Whether a state was loaded from after the last batch of an epoch: only its end is left."""
        return self.resumed() and self._batches is not None and self._batches.planned()[1] == 0

    @property
    def progress(self) -> float:
        """How much of the training is done, by samples: 0 before the first batch, 1 after the last step.

        ``(epoch + recorded / planned) / epochs``, the same on all ranks after the same number of batches.
        """
        if self.epoch >= self.schedule.epochs:
            return 1.0
        return (self.epoch + self._epoch_share()) / self.schedule.epochs

    def _epoch_share(self) -> float:
        left = len(self.order())
        before = len(self._plan.kept) - left
        mine, everyone = self._batches.planned() if self._batches else (left, left)
        recorded = self._ledger.recorded + self._ledger.waiting
        if recorded >= mine:
            return 1.0
        _, size = rank_and_size()
        return min(1.0, (before + recorded * size) / (before + everyone))

    def _floors_now(self) -> Floors:
        """Return the floors; whole batches are whole on all the ranks that there are now."""
        if self._full_batch is None:
            return self._floors
        return replace(self._floors, multiple=self._full_batch * rank_and_size()[1])

    def total_steps(self, batch_size: int, *, drop_last: bool = False) -> int:
        """Return the number of batches a rank of the whole training, where the policy fixes it.

        Args:
            batch_size: samples a rank and step.
            drop_last: as it is given to the loader.

        Raises:
            WrongState: where the scores, or removals by hand, decide how many samples are kept.
        """
        loading.check_batch_size(batch_size)
        check_flag("drop_last", drop_last)
        if (self._ledger.table.reason == Reason.BY_HAND).any():
            raise wrong_state("The number of steps is not fixed: samples were removed by hand.", _PROGRESS)
        counts = planned_counts(self.policy, self.schedule, self._floors_now(), self.n)
        full = self._full_batch is not None
        return sum(
            loading.count_batches(kept, batch_size, drop_last=drop_last, full_batches=full) for kept in counts
        )
