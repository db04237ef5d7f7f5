"""SeTa's rule: a window that slides over groups of samples, from easy to hard."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...arrays.selection import blocks, smallest
from ...errors import check_integer, check_share
from .._groups import group_edges
from .._shares import check_budget, check_part, left_out, lots, scored
from ..base import Policy, PolicyInput, Reason

_BEGAN = "seta_began"


@dataclass(frozen=True)
class SeTa(Policy):
    r"""Keep a random subset's samples inside a window of difficulty that moves on every epoch.

    In each epoch:

    1. :math:`N - \mathrm{round}(f N)` samples are drawn uniformly;
    2. their last scores are parted into g groups by k-means, in order of their means;
    3. :math:`w = \mathrm{round}(g \cdot \text{window})` neighbouring groups are kept, from group
       :math:`t \bmod (g - w + 1)` on, where t counts the decisions made so far.

    In the last ``annealing`` share of the epochs step 1 alone decides. Fewer distinct scores than groups
    make fewer groups. Weights stay 1. How much is left out depends on the groups: the hard ones are
    small, so that an epoch that trains on them can be short.

    With a ``budget`` b exactly :math:`K = N - \mathrm{round}(b N)` samples are kept in every epoch: groups
    are made of all scores, and K of those inside the window are drawn. Where there are fewer, all of
    them are kept and the rest are drawn from the groups next to the window, nearest and easier first.

    References:
        Scale Efficient Training for Large Datasets (Zhou et al., 2025)

    Args:
        fraction: the share that the uniform draw leaves out, in [0, 1); a budget takes its place.
        groups: how many groups, at least 1.
        window: the share of the groups that is kept, in (0, 1].
        annealing: the last share of the epochs, in which only the uniform draw decides.
        budget: the share of all scored samples to leave out of each epoch, in [0, 1); None for ``fraction``.

    Raises:
        InvalidValue: for a share outside its interval, or no group.

    Example:
        >>> SeTa(budget=0.3).kept_count(10)
        7
    """

    name: ClassVar[str] = "seta"

    fraction: float = 0.1
    groups: int = 10
    window: float = 0.5
    annealing: float = 0.125
    budget: float | None = None

    def __post_init__(self) -> None:
        share = check_share("fraction", self.fraction, closed=False, step="To draw all, pass 0.")
        object.__setattr__(self, "fraction", share)
        object.__setattr__(self, "groups", check_integer("groups", self.groups, 1))
        object.__setattr__(self, "window", check_part("window", self.window))
        object.__setattr__(self, "annealing", check_share("annealing", self.annealing, closed=True))
        object.__setattr__(self, "budget", check_budget(self.budget))

    def kept_count(self, n: int) -> int | None:
        """Return ``n - round(budget * n)``, at least 1; None without a budget."""
        return None if self.budget is None else n - left_out(self.budget, n)

    @property
    def draws(self) -> bool:
        """Return True."""
        return True

    def decide(self, inputs: PolicyInput) -> NDArray[np.uint8]:
        """Draw and place the window of the planned epoch."""
        n, scores, there = len(inputs), inputs.scores, scored(inputs)
        count = int(np.count_nonzero(there))
        keep = count - left_out(self.fraction if self.budget is None else self.budget, count)
        decided = np.where(there, np.uint8(Reason.NOT_DRAWN), np.uint8(Reason.KEPT))
        began = int(inputs.notes.setdefault(_BEGAN, float(inputs.epoch)))
        lot = lots(inputs, there)
        if not count:
            return decided
        if self._anneals(inputs):
            decided[smallest(lot, n, keep)] = Reason.KEPT
            return decided
        pool = there if self.budget is not None else smallest(lot, n, keep)
        edges = group_edges(scores[pool], self.groups)
        start, stop = self._place(edges.size + 1, inputs.epoch - began)
        if self.budget is None:
            for a, b in blocks(n, 1 << 16):
                inside = _distance(scores[a:b], edges, start, stop) == 0
                decided[a:b][inside & pool[a:b]] = Reason.KEPT
            return decided
        # A lot is at most 1, and so never carries a sample past those of a nearer group.
        near = smallest(lambda a, b: _distance(scores[a:b], edges, start, stop) + lot(a, b), n, keep)
        decided[near] = Reason.KEPT
        return decided

    def _anneals(self, inputs: PolicyInput) -> bool:
        return inputs.epoch >= inputs.epochs - math.floor(self.annealing * inputs.epochs + 0.5)

    def _place(self, groups: int, turn: int) -> tuple[int, int]:
        """Return the first group of the window and one past its last."""
        width = max(1, round(groups * self.window))
        start = turn % (groups - width + 1)
        return start, start + width


def _distance(
    scores: NDArray[np.float32], edges: NDArray[np.float32], start: int, stop: int
) -> NDArray[np.float32]:
    """Return how far from the window a score's group lies: 0 inside, 1, 3, ... below, 2, 4, ... above."""
    group = np.arange(edges.size + 1)
    far = np.where(group < start, 2 * (start - group) - 1, 2 * np.maximum(group - stop + 1, 0))
    return far.astype(np.float32)[np.searchsorted(edges, scores, side="right")]
