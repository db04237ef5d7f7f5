"""Train on the tokens between two thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..errors import check_number, check_share, invalid


@dataclass(frozen=True)
class TokenThreshold:
    r"""Leave out of the gradient the tokens that are learned, and those that look like mistakes.

    A token that scores below ``low`` is learned, one above ``high`` an outlier, as a sample is under
    :class:`~fallow.Threshold`. It is measured in the same forward pass, which goes over all tokens of a kept
    sequence in any case: so there is nothing to re-admit, and what is saved is not time but whose gradient
    counts. The loss
    stays a mean over all tokens: those that are left out count as 0 in it, and the others weigh what they
    weighed.

    References:
        Rho-1: Not All Tokens Are What You Need (Lin et al., 2024), which takes a share by another model's
        score.

    Args:
        low: in the unit of the score, nats; None for no such side.
        high: likewise.
        start: the progress of the training from which the rule acts, in [0, 1).

    Raises:
        InvalidValue: where ``low`` is not below ``high``.

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
        """Return whether the rule acts at that progress of the training, in [0, 1]; else all tokens train."""
        return progress >= self.start

    def __call__(self, scores: Tensor) -> Tensor:
        """Return which tokens are trained on: bool, of the shape of ``scores``."""
        return ~(self.learned(scores) | self.outliers(scores))

    def learned(self, scores: Tensor) -> Tensor:
        """Return which tokens score below ``low``."""
        return scores < (-float("inf") if self.low is None else self.low)

    def outliers(self, scores: Tensor) -> Tensor:
        """Return which tokens score above ``high``."""
        return scores > (float("inf") if self.high is None else self.high)
