"""RePB's rule: compare a sample with its own batch only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...arrays.selection import smallest
from ...errors import check_flag, check_share, invalid, invalid_type
from .._shares import capped, check_budget, lots, scored
from ..base import Policy, PolicyInput, Reason

_SAT_OUT = "repb_sat_out"


@dataclass(frozen=True)
class RePB(Policy):
    r"""Leave out, with probability :math:`\rho`, what scored below the mean of its own batch.

    A sample that was trained on in the epoch that ended and whose score relative to its batch is negative
    sits out the next one with probability :math:`\rho`; one that sat out returns with probability
    :math:`1 - \rho`. Scores of one batch come from one state of the network, so nothing stale is
    compared. Record them with :class:`fallow.scores.RelativeToBatch`.

    The weights are :math:`E / N_i`: the epochs so far over those in which the sample was trained on. That is
    the inverse of an observed frequency, not of a probability; its expectation is above the inverse of the
    frequency's expectation, and a sample that returns late gets a weight far above its stationary one of
    at most :math:`1 / (1 - \rho)`. So weights end at ``clip``. Their mean over an epoch is above 1.

    With a ``budget`` b, exactly :math:`\mathrm{round}(b N)` samples are drawn to sit out, from all that
    scored below their batch's mean and all that sat out before: each of these n sits out with one probability
    :math:`\rho = b N / n`, at most 0.9. Where that is too little, fewer are left out.

    References:
        Inconsistency Biases in Dynamic Data Pruning (Zhou et al., 2026)

    Args:
        rho: the probability of sitting out, in [0, 1); a budget takes its place.
        weighted: False leaves every weight at 1.
        clip: the largest weight, at least 1; None for no end.
        budget: the share of all scored samples to leave out of each epoch, in [0, 1); None for ``rho``.

    Raises:
        InvalidValue: for a share outside [0, 1) or a clip below 1.

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
        if self.clip is None:
            return
        if isinstance(self.clip, bool) or not isinstance(self.clip, int | float):
            raise invalid_type("`clip` must be a number or None.", repr(self.clip))
        if not 1 <= self.clip < math.inf:
            raise invalid("`clip` must be at least 1 and finite.", self.clip, "None is no end.")
        object.__setattr__(self, "clip", float(self.clip))

    def check_range(self, low: float, high: float, score: str) -> None:
        """Raise where no score can lie below 0: they are not relative to their batch."""
        if low >= 0:
            raise invalid(
                "RePB needs scores relative to their batch, some of them below 0.",
                f"{score} in [{low:g}, {high:g}]",
                "Record `RelativeToBatch(score)(outputs, targets)` from fallow.scores.",
            )

    @property
    def weighs(self) -> bool:
        """Whether ``weighted`` was asked for."""
        return self.weighted

    @property
    def draws(self) -> bool:
        """Return True."""
        return True

    def decide(self, inputs: PolicyInput) -> NDArray[np.uint8]:
        """Judge the fresh scores below 0, and draw again for those that sat out."""
        n, there = len(inputs), scored(inputs)
        sat_out = (inputs.reason != Reason.KEPT) & (inputs.reason != Reason.BY_HAND)
        inputs.column(_SAT_OUT, np.uint16)[:] += inputs.reason != Reason.KEPT
        below = inputs.fresh & (inputs.scores < 0) & (inputs.reason == Reason.KEPT)
        among = there & (sat_out | below)
        lot = lots(inputs, among)
        if self.budget is None:
            out = np.less_equal(lot(0, n), np.float32(self.rho))
        else:
            count = capped(self.budget, int(np.count_nonzero(there)), int(np.count_nonzero(among)))
            out = smallest(lot, n, count)
        return np.where(out, np.uint8(Reason.NOT_DRAWN), np.uint8(Reason.KEPT))

    def weights(self, inputs: PolicyInput, reason: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Return the epochs so far over the epochs trained in, at most ``clip``."""
        if not self.weighted:
            return None
        used = inputs.epoch - inputs.column(_SAT_OUT, np.uint16).astype(np.float32)
        weight = np.asarray(np.float32(inputs.epoch) / np.maximum(used, 1), np.float32)
        return weight if self.clip is None else np.minimum(weight, np.float32(self.clip))
