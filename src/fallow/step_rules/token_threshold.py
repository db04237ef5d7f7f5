"""Train on the tokens between two thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..errors import check_number, check_share, invalid


@dataclass(frozen=True)
class TokenThreshold:
    r"""Leave tokens that are learned, and those that look like mistakes, out of the gradient.

    A token that scores below ``low`` is learned, one above ``high`` is an outlier, like a sample under
    :class:`~fallow.Threshold`. The forward pass covers all tokens of a kept sequence anyway and measures all
    of them, so nothing has to be re-admitted. The rule saves no time; it only changes which tokens have a
    gradient. The loss stays a mean over all tokens: tokens left out count as 0, and the weight of the others
    does not change.

    References:
        Rho-1: Not All Tokens Are What You Need (Lin et al., 2024), which selects a share by the score of
        another model.

    Args:
        low: in nats; None for no threshold.
        high: in nats; None for no threshold.
        start: training progress from which the rule applies, in [0, 1).

    Raises:
        InvalidValue: if ``low`` is not below ``high``, or ``start`` is outside [0, 1).

    Example:
        >>> import torch
        >>> TokenThreshold(low=0.1, high=8.0)(torch.tensor([0.05, 2.0, 9.0])).tolist()
        [False, True, False]
    """

    name: ClassVar[str] = "token-threshold"

    low: float | None = None
    high: float | None = None
    start: float = 0.0

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, check_number(name, value, 0.0))
        object.__setattr__(self, "start", check_share("start", self.start, closed=False))
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise invalid("`low` must be below `high`.", f"low={self.low}, high={self.high}")

    def acts(self, progress: float) -> bool:
        """Return whether the rule applies at this training progress, in [0, 1]; if not, all tokens train."""
        return progress >= self.start

    def __call__(self, scores: Tensor) -> Tensor:
        """Return which tokens to train on: bool, of the shape of ``scores``."""
        return ~(self.learned(scores) | self.outliers(scores))

    def learned(self, scores: Tensor) -> Tensor:
        """Return which tokens score below ``low``."""
        return scores < (-float("inf") if self.low is None else self.low)

    def outliers(self, scores: Tensor) -> Tensor:
        """Return which tokens score above ``high``."""
        return scores > (float("inf") if self.high is None else self.high)
