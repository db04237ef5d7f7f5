"""The base class of policies: from the table, never a batch, to the samples that the next epoch leaves out.

A policy is a small frozen object without state. It stores numbers per sample in columns of the table,
and single numbers in ``notes``, so that both are saved and resumed with everything else.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import IntEnum
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import invalid


class Reason(IntEnum):
    """Why a sample is left out; 0 if it is kept."""

    KEPT = 0
    LEARNED = 1
    OUTLIER = 2
    NOT_DRAWN = 3
    BY_HAND = 4

    @property
    def text(self) -> str:
        """The reason as displayed, such as ``not drawn``."""
        return self.name.lower().replace("_", " ")


IN_TURN = "in_turn"  # saved in states; do not rename
"""Column of the samples that the last decision left out and that the schedule gave back at once: bool."""


@dataclass(frozen=True)
class PolicyInput:
    """The input of a policy at the end of an epoch. ``N`` is the number of samples.

    Attributes:
        scores: float32 ``(N,)``, the last score of each sample; NaN if it has none.
        fresh: bool ``(N,)``, whether the sample was scored in the epoch that just ended.
        reason: uint8 ``(N,)``, the :class:`Reason` that applied in that epoch.
        epoch: the epoch to plan, out of ``epochs``.
        labels: int32 ``(N,)``, the class ids given to the subsampler, or None.
        predicted: int32 ``(N,)``, the class predicted for each sample on its last visit, -1 for none; None if
            no prediction was ever recorded.
        uniform: ``(start, stop) -> (stop - start,)`` draws in (0, 1], a pure function of seed, epoch
            and sample.
        column: ``(name, dtype) -> (N,)``, the policy's own memory of each sample, initially zero.
        notes: numbers that the policy remembers between epochs, such as a threshold that it chose; the
            history keeps a copy for each epoch.
        largest: the largest value that the score can have; infinite if there is none, as in nats.
    """

    scores: NDArray[np.float32]
    fresh: NDArray[np.bool_]
    reason: NDArray[np.uint8]
    epoch: int
    uniform: Callable[[int, int], NDArray[np.float32]]
    column: Callable[[str, type[np.generic]], NDArray[Any]]
    epochs: int = 0
    labels: NDArray[np.int32] | None = None
    predicted: NDArray[np.int32] | None = None
    notes: dict[str, float] = field(default_factory=dict)
    largest: float = math.inf

    def __len__(self) -> int:
        return int(self.scores.size)

    @cached_property
    def by_hand(self) -> NDArray[np.bool_] | None:
        """The samples removed by hand, which count as none of the set, ``(N,)``; None if none is."""
        removed = self.reason == Reason.BY_HAND
        return removed if removed.any() else None

    @cached_property
    def class_sizes(self) -> NDArray[np.int64]:
        """The number of samples of each class id, ``(C,)``, without those removed by hand.

        Empty without labels.
        """
        if self.labels is None:
            return np.zeros(0, np.int64)
        sizes = np.bincount(self.labels)
        if self.by_hand is not None:
            sizes -= np.bincount(self.labels[self.by_hand], minlength=sizes.size)
        return sizes.astype(np.int64)

    @cached_property
    def rare(self) -> NDArray[np.bool_] | None:
        """Which samples are of a class with at most half of its even share, ``(N,)``; None if none is."""
        sizes = self.class_sizes
        # `size <= n / classes / 2`, without a division.
        rare = (sizes > 0) & (2 * sizes * np.count_nonzero(sizes) <= sizes.sum())
        return None if self.labels is None or not rare.any() else rare.take(self.labels)

    def error_of(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the error of each score; see :func:`error_of`."""
        return error_of(scores, self.largest)


def error_of(scores: NDArray[np.float32], largest: float) -> NDArray[np.float32]:
    r"""Return the error of each score, in [0, 1]: :math:`1 - e^{-s}`, or s / largest if that is finite.

    For a score in nats that is the probability which the network does not give to the label.
    """
    if math.isfinite(largest):
        return np.asarray(np.clip(scores / np.float32(largest), 0, 1), np.float32)
    return np.asarray(-np.expm1(-np.maximum(scores, np.float32(0))), np.float32)


class Policy(ABC):
    """Decides from the scores which samples the next epoch leaves out.

    Only ``decide`` is required. It writes to nothing but its own columns and notes; the subsampler applies
    the result, after re-admission, floors and by-hand choices.

    Attributes:
        name: name on the command line.
        aliases: other names there.
        relative_to_batch: whether it reads scores less the mean of their batch.
        measures_removed: whether all removed samples are measured, forward only, in every epoch.
        keeps_steps: whether a loader thins the batches instead of dropping steps, unless told otherwise.
        fewest_samples: how many samples it needs to leave any out.
        returns_every: k, if left-out samples come back in k turns, or in as many as the schedule has epochs
            between re-admissions. The column ``IN_TURN`` then says which samples came back.
    """

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    relative_to_batch: ClassVar[bool] = False
    measures_removed: ClassVar[bool] = False
    keeps_steps: ClassVar[bool] = False
    fewest_samples: ClassVar[int] = 1
    returns_every: ClassVar[int | None] = None

    @classmethod
    def with_share(cls, share: float | None) -> Policy:
        """Return the rule as the command line makes it: one that leaves out ``share`` of all samples.

        That is its field ``budget``, or else ``fraction``. None stands for the rule as it was published.
        """
        if share is None:
            return cls()
        known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        for name in ("budget", "fraction"):
            if name in known:
                return cls(**{name: share})
        raise invalid(f"The policy {cls.name} takes no share.", share, "Leave --fraction out.")

    @abstractmethod
    def decide(self, inputs: PolicyInput) -> NDArray[np.uint8]:
        """Return the :class:`Reason` of each sample for the planned epoch: uint8 ``(N,)``.

        A kept sample without a score (NaN) must stay kept.
        """

    def weights(self, inputs: PolicyInput, reason: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Return the loss weight of each sample, float32 ``(N,)``, or None if all are 1."""
        return None

    def first_epoch(self) -> int:
        """Return the first epoch that can leave samples out, if all samples are measured in each epoch."""
        return 1

    def kept_count(self, n: int) -> int | None:
        """Return how many of ``n`` scored samples are kept, or None if the policy does not fix it."""
        return None

    @property
    def draws(self) -> bool:
        """Whether samples are left out at random. Then their reason is NOT_DRAWN instead of LEARNED."""
        return False

    @property
    def finds_outliers(self) -> bool:
        """Whether the policy may leave samples out as outliers, which are not re-admitted with the others."""
        return False

    @property
    def reads_predictions(self) -> bool:
        """Whether predicted classes change the decision, if there are labels."""
        return False

    @property
    def weighs(self) -> bool:
        """Whether :meth:`weights` may return weights; the loss must use them."""
        return type(self).weights is not Policy.weights

    def check_labels(self, has_labels: bool) -> None:  # noqa: B027
        """Raise if this policy needs class ids and the subsampler has none."""

    def check_range(self, low: float, high: float, score: str) -> None:  # noqa: B027
        """Raise if this policy's parameters make no sense for scores in ``[low, high]``."""
