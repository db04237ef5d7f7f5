"""Kept steps: an epoch makes as many steps as full training, and what is left out thins its batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays.distributed import Ranks
from ..errors import WrongState, wrong_state

FEWEST = 8
"""No batch of all ranks has fewer samples than this, or than half of a whole one."""
FEWEST_OF_A_RANK = 2
"""No batch of a rank has fewer samples than this, or than half of a whole one."""
THINNEST = 8
"""No batch is thinner than this part of a whole one: batch norm needs samples, and a device needs work."""


@dataclass(frozen=True)
class KeptSteps:
    r"""The batches of an epoch that keeps its number of steps.

    Of the n samples of full training, an epoch keeps K. It makes the
    :math:`S = \lceil n / (B R a) \rceil` steps of full training, for batches of B samples on R ranks whose
    gradients add up over a batches to a step. Each step has the
    :math:`m = \lceil \lceil K / (B R) \rceil / S \rceil` batches that its samples fill, at most a: under
    accumulation there are fewer batches instead of thinner ones. Global batch i begins at position
    :math:`\lfloor i K / (S m) \rfloor` of the order.

    Args:
        batch_size: B, per rank.
        accumulate: a, the number of batches to a step of full training.
        ranks: the R ranks.
    """

    batch_size: int
    accumulate: int
    ranks: Ranks

    @property
    def _width(self) -> int:
        return self.batch_size * self.ranks.size

    def steps(self, full: int) -> int:
        """Return S, the number of steps of an epoch of full training with ``full`` samples."""
        return max(1, -(-full // (self._width * self.accumulate)))

    def fewest(self, full: int) -> int:
        """Return the smallest number of samples of an epoch, so that no batch is thinner than allowed."""
        each = min(FEWEST_OF_A_RANK, max(1, self.batch_size // 2))
        # On up to four ranks the global batch alone decides, so that they are the run of one.
        thinnest = max(self.ranks.size * each, min(FEWEST, -(-self._width // 2)), self._width // THINNEST)
        return min(full, self.steps(full) * thinnest)

    def multiple(self, full: int) -> int:
        """Return the number that the samples of an epoch are rounded up to a multiple of."""
        # Batches of one sample cannot be thinned: a step has one batch less, or not.
        return self.steps(full) * self.ranks.size if self.batch_size == 1 and self.accumulate > 1 else 1

    def batches_per_step(self, kept: int, full: int) -> int:
        """Return m, the number of batches to a step of an epoch that keeps ``kept`` of ``full`` samples."""
        # Rounded up: a batch must not be larger than a whole one, which fills the memory.
        whole = -(-kept // self._width)
        return max(1, min(self.accumulate, -(-whole // self.steps(full))))

    def count(self, kept: int, full: int) -> int:
        """Return the number of batches of the whole epoch."""
        # Each rank needs a sample of each batch, also if the floors were those of another number of ranks.
        most = max(1, kept // self.ranks.size)
        return min(self.steps(full) * self.batches_per_step(kept, full), most)

    def cuts(self, kept: int, full: int, used: int = 0) -> NDArray[np.int64]:
        """Return the positions at which the remaining global batches begin, and the end of the last one.

        Positions count from ``used``, the number of samples used before a resume. The batches after it are
        those that the epoch had planned.
        """
        count = self.count(kept, full)
        done = -(-used * count // max(1, kept))
        cuts = np.arange(done, count + 1, dtype=np.int64) * kept // count - used
        if cuts.size and cuts[0] > 0:
            # Resumed inside a global batch, on another number of ranks: its rest is a batch of its own, or
            # joins the next one if it has no sample for each rank.
            size = self.ranks.size
            if cuts[-1] < size:
                raise too_few(int(cuts[-1]), size)
            cuts = np.concatenate([[0], cuts[int(cuts[0] < size) :]])
        return cuts


def too_few(found: int, ranks: int) -> WrongState:
    """Return the error for an epoch, or the rest of one, with fewer samples than ranks."""
    return wrong_state(
        f"An epoch needs a sample for each rank. Found {found} for {ranks} ranks.",
        f"Set min_kept={ranks} or more, or start fewer ranks.",
    )
