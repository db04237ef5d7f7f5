"""Watching only: no sample is left out, and what the default would have done is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .base import Policy, PolicyInput, Reason
from .error_mass import ErrorMass

WOULD = "would."  # saved in states; do not rename
"""Prefix of the columns and notes of the policy that would have decided."""


@dataclass(frozen=True)
class Watch(Policy):
    """Leave nothing out, and keep beside the training what :class:`ErrorMass` would have done.

    The training is that without fallow. Scores, predictions and history are kept as under every policy. At
    the end of each epoch the default decides, from the scores that it would have seen: a sample that it
    leaves out keeps its last score until it would have come back. What the data showed is printed after the
    last epoch, and is in :meth:`fallow.Subsampler.findings`.

    Args:
        error: that of :class:`ErrorMass`.

    Raises:
        InvalidValue, InvalidType: if it is out of range.

    Example:
        >>> Watch()
        Watch(error=0.15)
    """

    name: ClassVar[str] = "watch"

    error: float = 0.15

    def __post_init__(self) -> None:
        object.__setattr__(self, "error", self.watched.error)

    @property
    def watched(self) -> ErrorMass:
        """The policy that would have decided."""
        return ErrorMass(self.error)

    @property
    def reads_predictions(self) -> bool:
        """Always, as the default does."""
        return True

    def check_range(self, low: float, high: float, score: str) -> None:
        """Raise if scores may be negative."""
        self.watched.check_range(low, high, score)

    def kept_count(self, n: int) -> int:
        """Return ``n``."""
        return n

    def decide(self, inputs: PolicyInput) -> NDArray[np.uint8]:
        """Keep every sample."""
        return np.full(len(inputs), Reason.KEPT, np.uint8)
