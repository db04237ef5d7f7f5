"""KAKURENBO's rule: hide samples with a low loss and a confident, correct prediction."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...arrays.selection import smallest
from ...errors import InvalidValue, check_share, invalid, invalid_type
from .._shares import left_out, scored
from ..base import Policy, PolicyInput, Reason

DECAY = (1.0, 0.8, 0.6, 0.4)
"""Factor of ``fraction`` before the first step and after each; the paper has four stages."""


@dataclass(frozen=True)
class Kakurenbo(Policy):
    r"""Hide at most :math:`F_e N` samples with low scores and a confident, correct prediction.

    Of the :math:`\mathrm{round}(F_e N)` lowest last scores, those are left out whose predicted class is the
    label and whose label has a probability :math:`p_i = e^{-s_i}` of at least ``confidence``. :math:`F_e` is
    ``fraction`` times 1, 0.8, 0.6 and 0.4; it falls at each of ``steps``. So the share left out is at most
    :math:`F_e` and often far less; there is no budget. A forward pass measures hidden samples in every epoch.

    The probability is that of the softmax over the classes; the KL score of a class id is
    :math:`s_i = -\log p_i`. (The authors' scripts take the softmax over the batch.) N counts the samples with
    a score. The paper also multiplies the learning rate by :math:`1 / (1 - F_e)`; this class does not change
    the learning rate.

    References:
        KAKURENBO: Adaptively Hiding Samples in Deep Neural Network Training (Nguyen et al., 2023)

    Args:
        fraction: the largest share to hide, in [0, 1).
        confidence: minimum probability of the label, in [0, 1].
        steps: the shares of all epochs at which ``fraction`` falls, ascending, at most three. The default is
            that of the paper's CIFAR runs (epochs 60, 120 and 160 of 200); empty for a constant share.

    Raises:
        InvalidValue: if a share is outside its interval, or the steps do not ascend; in ``decide`` if labels
            or predictions are missing.

    Example:
        >>> Kakurenbo(0.3, steps=())
        Kakurenbo(fraction=0.3, confidence=0.7, steps=())
    """

    name: ClassVar[str] = "kakurenbo"
    measures_removed: ClassVar[bool] = True

    fraction: float = 0.3
    confidence: float = 0.7
    steps: tuple[float, ...] = (0.3, 0.6, 0.8)

    def __post_init__(self) -> None:
        share = check_share("fraction", self.fraction, closed=False, step="To remove nothing, pass 0.")
        object.__setattr__(self, "fraction", share)
        object.__setattr__(self, "confidence", check_share("confidence", self.confidence, closed=True))
        if not isinstance(self.steps, Iterable):
            raise invalid_type("`steps` must list shares of the epochs.", repr(self.steps), "Try (0.3, 0.6).")
        steps = tuple(check_share("steps", step, closed=True) for step in self.steps)
        if list(steps) != sorted(set(steps)) or len(steps) >= len(DECAY):
            raise invalid(f"`steps` must be at most {len(DECAY) - 1} ascending shares.", self.steps)
        object.__setattr__(self, "steps", steps)

    @classmethod
    def with_share(cls, share: float | None) -> Kakurenbo:
        """Return the rule as published, or with at most ``share`` of all samples hidden in each epoch."""
        return cls() if share is None else cls(share, steps=())

    def check_range(self, low: float, high: float, score: str) -> None:
        """Raise if the score cannot be minus the logarithm of a probability."""
        if high < math.inf:
            raise invalid(
                "Kakurenbo needs a score without an upper bound, -log p of the label.",
                f"{score} in [{low:g}, {high:g}]",
                "Use KLDivergence with class ids.",
            )

    @property
    def reads_predictions(self) -> bool:
        """True: samples that are predicted wrong are not hidden."""
        return True

    def check_labels(self, has_labels: bool) -> None:
        """Raise if there are no labels."""
        if not has_labels:
            raise _missing("labels")

    def decide(self, inputs: PolicyInput) -> NDArray[np.uint8]:
        """Hide the confident, correct ones among the lowest scores; keep all others."""
        if inputs.labels is None:
            raise _missing("labels")
        if inputs.predicted is None:
            raise _missing("predicted")
        n, scores = len(inputs), inputs.scores
        most = left_out(self.largest(inputs), int(np.count_nonzero(scored(inputs))))
        hidden = smallest(lambda a, b: scores[a:b], n, most, inputs.uniform)
        hidden &= inputs.predicted == inputs.labels
        # math.log(0) raises, and a confidence of 0 excludes nothing.
        if self.confidence > 0:
            hidden &= scores <= -math.log(self.confidence)
        return np.where(hidden, np.uint8(Reason.LEARNED), np.uint8(Reason.KEPT))

    def largest(self, inputs: PolicyInput) -> float:
        """Return the largest share to hide in the planned epoch."""
        passed = sum(inputs.epoch >= step * inputs.epochs for step in self.steps)
        return self.fraction * DECAY[passed]


def _missing(name: str) -> InvalidValue:
    step = "Pass `labels=` (n,) class ids to the Subsampler."
    if name == "predicted":
        step = "Pass `predicted=logits.argmax(1)` to `record`, and return it with the scores when measuring."
    return invalid(f"Kakurenbo needs `{name}` to know which samples are predicted right.", "none", step)
