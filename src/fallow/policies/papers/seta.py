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
from .._shares import check_budget, check_part, left_out, scored, uniform_draws
from ..base import Policy, PolicyInput, Reason

_BEGAN = "seta_began"


@dataclass(frozen=True)
class SeTa(Policy):
    r"""Keep those of a random subset that lie in a window of difficulty, which moves every epoch.

    In each epoch:

    1. :math:`N - \mathrm{round}(f N)` samples are drawn uniformly;
    2. k-means splits their last scores into g groups, sorted by their means;
    3. :math:`w = \mathrm{round}(g \cdot \text{window})` neighbouring groups are kept, starting with group
       :math:`t \bmod (g - w + 1)`; t counts the decisions so far.

    In the last ``annealing`` share of the epochs, only step 1 applies. There are at most as many groups as
    distinct scores. Weights stay 1. The number of samples left out depends on the groups: the hard ones are
    small, so an epoch with them can be short.

    A ``budget`` b keeps exactly :math:`K = N - \mathrm{round}(b N)` samples in every epoch: all scores are
    grouped, and K samples inside the window are drawn. If there are fewer, all of them are kept, and the
    rest are drawn from the groups next to the window, the nearest first, and the easier of two.

    References:
        Scale Efficient Training for Large Datasets (Zhou et al., 2025)

    Args:
        fraction: the share that the uniform draw leaves out, in [0, 1); a budget replaces it.
        groups: number of groups, at least 1.
        window: the share of the groups to keep, in (0, 1].
        annealing: the last share of the epochs, in which only the uniform draw applies.
        budget: the share of all scored samples to leave out each epoch, in [0, 1); None for ``fraction``.

    Raises:
        InvalidValue: if a share is outside its interval, or ``groups`` is below 1.

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
        """Samples are left out at random."""
        return True

    def decide(self, inputs: PolicyInput) -> NDArray[np.uint8]:
        """Draw the subset and the window of the planned epoch."""
        n = len(inputs)
        scores = inputs.scores
        has_score = scored(inputs)
        count = int(np.count_nonzero(has_score))
        keep = count - left_out(self.fraction if self.budget is None else self.budget, count)
        decided = np.where(has_score, np.uint8(Reason.NOT_DRAWN), np.uint8(Reason.KEPT))
        # The window starts at the easiest group, however long the warm-up was.
        first_epoch = int(inputs.notes.setdefault(_BEGAN, float(inputs.epoch)))
        draws = uniform_draws(inputs, has_score)
        if not count:
            return decided
        if self._anneals(inputs):
            decided[smallest(draws, n, keep)] = Reason.KEPT
            return decided
        pool = has_score if self.budget is not None else smallest(draws, n, keep)
        edges = group_edges(scores[pool], self.groups)
        start, stop = self._window(edges.size + 1, inputs.epoch - first_epoch)
        if self.budget is None:
            for a, b in blocks(n, 1 << 16):
                inside = _distance(scores[a:b], edges, start, stop) == 0
                decided[a:b][inside & pool[a:b]] = Reason.KEPT
            return decided
        # Draws are at most 1, so distance comes first and the draw decides within a group.
        nearest = smallest(lambda a, b: _distance(scores[a:b], edges, start, stop) + draws(a, b), n, keep)
        decided[nearest] = Reason.KEPT
        return decided

    def _anneals(self, inputs: PolicyInput) -> bool:
        # Halves round up; `round` would take them to the even number.
        return inputs.epoch >= inputs.epochs - math.floor(self.annealing * inputs.epochs + 0.5)

    def _window(self, groups: int, turn: int) -> tuple[int, int]:
        """Return the first group of the window and one past its last."""
        width = max(1, round(groups * self.window))
        start = turn % (groups - width + 1)
        return start, start + width


def _distance(
    scores: NDArray[np.float32], edges: NDArray[np.float32], start: int, stop: int
) -> NDArray[np.float32]:
    """Return the distance of each score's group to the window: 0 inside, 1, 3, .. below, 2, 4, .. above."""
    group = np.arange(edges.size + 1)
    distance = np.where(group < start, 2 * (start - group) - 1, 2 * np.maximum(group - stop + 1, 0))
    return distance.astype(np.float32)[np.searchsorted(edges, scores, side="right")]
