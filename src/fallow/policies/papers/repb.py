"""RePB's rule: compare a sample only with its own batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...arrays.selection import smallest
from ...errors import check_flag, check_number, check_share, invalid
from .._shares import capped, check_budget, scored, uniform_draws
from ..base import Policy, PolicyInput, Reason

_SAT_OUT = "repb_sat_out"  # the epochs in which a sample did not train


@dataclass(frozen=True)
class RePB(Policy):
    r"""Leave out, with probability :math:`\rho`, samples that scored below the mean of their own batch.

    A sample that trained in the epoch that ended, with a negative score relative to its batch, sits out the
    next epoch with probability :math:`\rho`; a sample that sat out returns with probability
    :math:`1 - \rho`. All scores of a batch come from the same state of the network, so no stale scores are
    compared. Record them with :class:`fallow.scores.RelativeToBatch`.

    The weights are :math:`E / N_i`: the number of epochs so far over the number in which the sample trained.
    This is the inverse of an observed frequency, not of a probability. It is biased upwards, and a sample
    that returns late gets a weight far above the stationary one of at most :math:`1 / (1 - \rho)`. So
    ``clip`` limits the weights. Their mean over an epoch is above 1.

    A ``budget`` b draws exactly :math:`\mathrm{round}(b N)` samples to sit out, from the n samples that
    scored below their batch's mean or sat out before. Each of them sits out with the same probability
    :math:`\rho = b N / n`, at most 0.9. If n is too small, fewer are left out.

    References:
        Inconsistency Biases in Dynamic Data Pruning (Zhou et al., 2026)

    Args:
        rho: the probability of sitting out, in [0, 1); a budget replaces it.
        weighted: whether to weigh samples; without, every weight is 1.
        clip: the largest weight, at least 1; None for no limit.
        budget: the share of all scored samples to leave out each epoch, in [0, 1); None for ``rho``.

    Raises:
        InvalidValue: if a share is outside [0, 1), or the clip is below 1.

    Example:
        >>> RePB(budget=0.3)
        RePB(rho=0.5, weighted=True, clip=5.0, budget=0.3)
    """

    name: ClassVar[str] = "repb"
    relative_to_batch: ClassVar[bool] = True

    rho: float = 0.5
    weighted: bool = True
    clip: float | None = 5.0
    budget: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "weighted", check_flag("weighted", self.weighted))
        share = check_share("rho", self.rho, closed=False, step="To remove nothing, pass 0.")
        object.__setattr__(self, "rho", share)
        object.__setattr__(self, "budget", check_budget(self.budget))
        if self.clip is not None:
            object.__setattr__(self, "clip", check_number("clip", self.clip, 1.0, "Use None for no limit."))

    def check_range(self, low: float, high: float, score: str) -> None:
        """Raise if scores cannot be negative: then they are not relative to their batch."""
        if low >= 0:
            raise invalid(
                "RePB needs scores relative to their batch, some of them below 0.",
                f"{score} in [{low:g}, {high:g}]",
                "Record `RelativeToBatch(score)(outputs, targets)` from fallow.scores.",
            )

    @property
    def weighs(self) -> bool:
        """The option ``weighted``."""
        return self.weighted

    @property
    def draws(self) -> bool:
        """Samples are left out at random."""
        return True

    def decide(self, inputs: PolicyInput) -> NDArray[np.uint8]:
        """Draw from the fresh scores below 0 and from the samples that sat out."""
        n = len(inputs)
        has_score = scored(inputs)
        sat_out = (inputs.reason != Reason.KEPT) & (inputs.reason != Reason.BY_HAND)
        # Samples removed by hand did not train either, although they are no candidates.
        inputs.column(_SAT_OUT, np.uint16)[:] += inputs.reason != Reason.KEPT
        below = inputs.fresh & (inputs.scores < 0) & (inputs.reason == Reason.KEPT)
        candidate = has_score & (sat_out | below)
        draws = uniform_draws(inputs, candidate)
        if self.budget is None:
            out = np.less_equal(draws(0, n), np.float32(self.rho))  # false for NaN: no candidate
        else:
            count = capped(self.budget, int(np.count_nonzero(has_score)), int(np.count_nonzero(candidate)))
            out = smallest(draws, n, count)
        return np.where(out, np.uint8(Reason.NOT_DRAWN), np.uint8(Reason.KEPT))

    def weights(self, inputs: PolicyInput, reason: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Return the epochs so far over the epochs trained in, at most ``clip``."""
        if not self.weighted:
            return None
        used = inputs.epoch - inputs.column(_SAT_OUT, np.uint16).astype(np.float32)
        weight = np.asarray(np.float32(inputs.epoch) / np.maximum(used, 1), np.float32)
        return weight if self.clip is None else np.minimum(weight, np.float32(self.clip))
