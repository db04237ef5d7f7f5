"""The batches of a very large epoch, by position."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..arrays.bitset import Bitset
from ..arrays.keyed import mix
from ..errors import invalid, wrong_state
from .kept_steps import KeptSteps, too_few
from .loading import FETCH, Batches, KeyedBatch, read_batches, shares
from .order import Order

_RULE = "Batches must be recorded once each, in the order in which the loader yields them."


@dataclass
class Position:
    """How far an epoch is.

    Attributes:
        epoch: the number of the epoch, from 0.
        epochs: the number of epochs of the training.
        n: the number of samples in the training set.
        seed: of the order.
        kept: the samples of the epoch.
        readmitted: how many of them were left out of the epoch before.
        used: the number of samples that all ranks recorded before a resume.
        recorded: the number of samples that this rank recorded since.
        waiting: batches whose gradients wait for an optimizer step: indices and scores.
    """

    epoch: int
    epochs: int
    n: int
    seed: int
    kept: Bitset
    readmitted: int = 0
    used: int = 0
    recorded: int = 0
    waiting: list[tuple[NDArray[np.int64], Tensor]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The epoch, in words."""
        return f"epoch {self.epoch + 1} of {self.epochs}"

    @property
    def seen(self) -> int:
        """The number of samples that this rank has had since a resume."""
        return self.recorded + sum(rows.size for rows, _ in self.waiting)

    def order(self, *, shuffle: bool = True) -> Order:
        """Return the order of the epoch, from its beginning."""
        return Order(self.kept, self.seed, self.epoch, shuffle=shuffle)


class PositionBatches(Batches):
    """This rank's batches of the present epoch, from where it was resumed.

    Args:
        position: of the epoch; set it anew when an epoch begins or is resumed.
        steps: the steps of an epoch.
        shuffle: if False, samples come in dataset order.
    """

    def __init__(self, position: Position, steps: KeptSteps, *, shuffle: bool) -> None:
        self.position, self.steps, self._shuffle = position, steps, shuffle
        self.ranks = steps.ranks
        self._made: tuple[Position, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None = None
        self._yielded: deque[NDArray[np.int64]] = deque()

    def __len__(self) -> int:
        return self._cuts()[0].size - 1

    def planned(self) -> tuple[int, int]:
        """Return how many samples this rank, and all ranks, get in this epoch since it was resumed."""
        cuts, _, ends = self._cuts()
        return int(ends[-1]), int(cuts[-1])

    def reached(self, recorded: int) -> int:
        """Return how many samples all ranks have used since a resume when this one has used ``recorded``."""
        cuts, _, ends = self._cuts()
        return int(cuts[np.searchsorted(ends[1:], recorded, side="right")])

    def _cuts(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return where global batches begin, this rank's parts of them, and how many samples it has by then.

        All count from the position of the resume.
        """
        position, kept = self.position, len(self.position.kept)
        if self._made is None or self._made[0] is not position:
            if kept < self.ranks.size:
                raise too_few(kept, self.ranks.size)
            cuts = np.zeros(1, np.int64)
            if position.used < kept:
                cuts = self.steps.cuts(kept, position.n, position.used)
            offsets, counts = shares(np.diff(cuts), self.ranks.rank, self.ranks.size)
            ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
            self._made = position, cuts, cuts[:-1] + offsets, ends
        return self._made[1:]

    def check_next(self, rows: NDArray[np.int64]) -> None:
        """Check that a batch, or a part of it, is the next one to be recorded.

        Raises:
            WrongState: if it is not.
        """
        if not self._yielded:
            step = "Record what the loader yields, and nothing else."
            raise wrong_state(f"{_RULE} Found one that it has not yielded.", step)
        head = self._yielded[0]
        if rows.size > head.size or not np.array_equal(rows, head[: rows.size]):
            found = f"Found samples {rows[:3].tolist()}, ... where {head[:3].tolist()}, ... come next."
            raise wrong_state(f"{_RULE} {found}", "Skip no batch, and give each sample one row.")

    def count_next(self, rows: NDArray[np.int64]) -> None:
        """Note that a batch, or a part of it, is recorded."""
        rest = self._yielded[0][rows.size :]
        if rest.size:
            self._yielded[0] = rest
        else:
            self._yielded.popleft()

    def __iter__(self) -> Iterator[list[int]]:
        # Not a generator, so that these errors are raised by iter() and not by the first batch.
        position = self.position
        if position.epoch >= position.epochs:
            raise wrong_state(f"All {position.epochs} epochs are done.", "Plan more epochs.")
        check_length(self._dataset, position.n)
        self._warn_apart()
        _, starts, ends = self._cuts()
        done = position.seen
        if done and done >= ends[-1]:
            step = "Call `subsampler.step()` before the next epoch."
            raise wrong_state(f"{position.name.capitalize()} has ended: all its samples are recorded.", step)
        first = int(np.searchsorted(ends[1:], done, side="right"))
        # Nothing that an iterator before has fetched ahead is recorded any more.
        self._yielded.clear()
        return self._read(position, starts[first:], np.diff(ends)[first:], done - int(ends[first]))

    def _read(
        self, position: Position, starts: NDArray[np.int64], counts: NDArray[np.int64], skipped: int
    ) -> Iterator[list[int]]:
        order = position.order(shuffle=self._shuffle)
        for batch in read_batches(order, starts + position.used, counts, self.steps.batch_size):
            if position is not self.position:
                step = "Call iter(loader) again after step() and load_state_dict()."
                raise wrong_state(f"This iterator is one of {position.name}, which is over.", step)
            index, skipped = batch[skipped:], 0
            self._yielded.append(index)
            yield KeyedBatch.of(index, mix(position.seed, position.epoch, FETCH, int(index[0])))


def check_length(dataset: Any, n: int) -> None:
    """Raise if a dataset with a length does not have ``n`` samples."""
    if hasattr(dataset, "__len__") and len(dataset) != n:
        rule = f"The dataset must be the training set of {n:,} samples that the subsampler was made for."
        raise invalid(rule, f"{len(dataset):,} samples", "An index must always name the same sample.")
