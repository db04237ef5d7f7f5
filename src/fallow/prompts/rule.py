"""What is known of a prompt's success rate, and how likely its next group of rollouts is mixed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import check_integer, check_number, check_share, invalid

Floats = NDArray[np.float32] | NDArray[np.float64]
_PRIOR = (0.5, 0.5)
"""Jeffreys' prior of a rate, until enough prompts were measured to fit one."""
_ENOUGH = 32
"""Prompts that must be measured before a prior is fitted."""
_LEAST_SPREAD, _MOST_SPREAD = 0.01, 0.999


def chance_of_mixed(right: Floats, wrong: Floats, group: int) -> NDArray[np.float64]:
    r"""Return the chance that a group holds both right and wrong rollouts.

    With a Beta posterior of parameters a and b for the success rate p of a prompt, and G rollouts in a group,

    .. math:: 1 - E[p^G] - E[(1-p)^G]
        = 1 - \prod_{i<G} \frac{a + i}{a + b + i} - \prod_{i<G} \frac{b + i}{a + b + i}.

    Args:
        right: a of each prompt, ``(N,)``, above 0.
        wrong: b of each prompt, ``(N,)``, above 0.
        group: G, at least 1.

    Returns:
        float64 ``(N,)``, in [0, 1].

    >>> chance_of_mixed(np.array([0.5, 8.5, 4.5]), np.array([0.5, 0.5, 4.5]), 8).round(2).tolist()
    [0.61, 0.29, 0.95]
    """
    a, b = right.astype(np.float64), wrong.astype(np.float64)
    all_right, all_wrong = np.ones_like(a), np.ones_like(a)
    total = a + b
    for i in range(group):
        all_right *= (a + i) / (total + i)
        all_wrong *= (b + i) / (total + i)
    chance: NDArray[np.float64] = np.clip(1 - all_right - all_wrong, 0, 1)
    return chance


def fitted_prior(right: Floats, wrong: Floats) -> tuple[float, float]:
    r"""Fit a Beta prior to the successes of many prompts, by moments.

    A prompt with n rollouts has a share of successes with mean m and variance
    :math:`m (1 - m) (1 + (n - 1) \rho) / n` over the prompts, where :math:`\rho = 1 / (a + b + 1)`. If
    prompts are nearly all solved or hopeless, :math:`\rho` is near 1 and one group tells almost all.

    Args:
        right: successes of each prompt, ``(N,)``.
        wrong: failures, ``(N,)``; prompts with neither are left out.

    Returns:
        a and b; those of Jeffreys' prior if fewer than 32 prompts have at least two rollouts.

    >>> fitted_prior(np.repeat([8.0, 0.0], 50), np.repeat([0.0, 8.0], 50))[0] < 0.01
    True
    """
    count = (right + wrong).astype(np.float64)
    measured = count >= 2
    if np.count_nonzero(measured) < _ENOUGH:
        return _PRIOR
    count = count[measured]
    share = right[measured] / count
    # One success and one failure more, so that the mean is neither 0 nor 1.
    mean = float((share.sum() + 1) / (share.size + 2))
    one = mean * (1 - mean)
    within = float((1 / count).mean())
    spread = (float(((share - mean) ** 2).mean()) / one - within) / (1 - within)
    strength = 1 / min(max(spread, _LEAST_SPREAD), _MOST_SPREAD) - 1
    return mean * strength, (1 - mean) * strength


@dataclass(frozen=True)
class Rule:
    """When a prompt is left out of an epoch, and how often it comes back.

    Attributes:
        group: rollouts that a prompt gets at a time.
        bound: a prompt is left out if its chance of a mixed group is below this share of the highest chance,
            which is that of a rate of one half, 1 - 2^(1 - G).
        revisit: the lowest odds at which a prompt that is left out comes back in an epoch.
        memory: the share of older rollouts that is kept when a prompt is measured again: the network moves.
    """

    group: int
    bound: float = 0.3
    revisit: float = 1 / 16
    memory: float = 0.5

    def __post_init__(self) -> None:
        step = "It is the number of rollouts that a prompt gets at a time, such as 8."
        check_integer("group", self.group, 2, step)
        check_share("bound", self.bound, closed=False)
        check_share("memory", self.memory, closed=True)
        check_number("revisit", self.revisit, 0.0)
        if not 0 < self.revisit <= 1:
            step = "Prompts that never come back are forgotten unseen: try 1/16."
            raise invalid("`revisit` must be above 0 and at most 1.", self.revisit, step)

    def odds(self, chance: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the odds at which each prompt is in an epoch, by its chance of a mixed group: ``(N,)``.

        They are 1 from :attr:`lowest` on, and fall in proportion below it, down to ``revisit``.
        """
        if self.bound == 0:
            return np.ones(chance.size, np.float32)
        return np.clip(chance / self.lowest, self.revisit, 1).astype(np.float32)

    @property
    def lowest(self) -> float:
        """The lowest chance of a mixed group with which a prompt is drawn in each epoch."""
        return self.bound * (1 - 2.0 ** (1 - self.group))
