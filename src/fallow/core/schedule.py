"""When samples may be removed and when they come back: a pure function of the epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..arrays.keyed import mix, uniform
from ..errors import check_flag, check_integer, check_share, invalid, invalid_type

# The table keeps 1 + the epoch in 16 bits.
MAX_EPOCHS = 65_534
REMEASURE_EVERY = 5
"""Epochs between measurements of outliers if samples are never re-admitted."""
_STAGGER = 0x57A6


@dataclass(frozen=True)
class Schedule:
    """The times of removal, re-admission and re-measuring in a training of ``epochs`` epochs, from 0.

    Removed samples are given back before epoch e if ``e % readmit_every == 0`` or ``readmit_at`` lists e.
    This applies to learned and not drawn samples; ``outliers`` decides about outliers. Samples removed by
    hand stay out.

    Args:
        epochs: the number of epochs of the training, 1 to 65,534.
        warmup: the number of full epochs at the start; at least 1, since no scores are known before.
        readmit_every: re-admit before every k-th epoch, or None.
        readmit_at: further epochs before which removed samples come back.
        stagger: with ``readmit_every=k``, give back another 1/k of the removed samples before every
            epoch instead of all before every k-th. Each waits at most k epochs, and epochs have even lengths.
        full_tail: the share of the epochs, at the end, in which all learned samples train.
        outliers: ``"remeasure"``: an outlier comes back only if a forward-only measurement finds it below
            the threshold; ``"readmit"``: with the others; ``"never"``.
        remeasure_every: measure outliers before every k-th epoch; by default whenever samples are
            re-admitted, or every 5th epoch if they never are.

    Raises:
        InvalidValue: if a number is out of range or two settings contradict each other.

    Example:
        >>> [e for e in range(8) if Schedule(epochs=8, readmit_every=2).readmits(e)]
        [2, 4, 6]
    """

    epochs: int
    warmup: int = 1
    readmit_every: int | None = None
    readmit_at: tuple[int, ...] = ()
    stagger: bool = False
    full_tail: float = 0.0
    outliers: str = "remeasure"
    remeasure_every: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "stagger", check_flag("stagger", self.stagger))
        check_integer("epochs", self.epochs, 1)
        if self.epochs > MAX_EPOCHS:
            raise invalid(f"`epochs` must be at most {MAX_EPOCHS:,}.", self.epochs)
        check_integer("warmup", self.warmup, 1, "No scores are known before the first epoch.")
        if self.readmit_every is not None:
            check_integer(
                "readmit_every", self.readmit_every, 1, "None never re-admits, as does `--readmit_every 0`."
            )
        if not isinstance(self.readmit_at, Iterable):
            raise invalid_type("`readmit_at` must list epochs.", repr(self.readmit_at), "Try (5, 10).")
        listed = tuple(
            check_integer("readmit_at", e, 1, "Here epochs are numbered from 0, and the first is full.")
            for e in self.readmit_at
        )
        late = [e for e in listed if e >= self.epochs]
        if late:
            raise invalid(f"`readmit_at` must name epochs below {self.epochs}.", late[0])
        object.__setattr__(self, "readmit_at", listed)
        if self.stagger and self.readmit_every is None:
            raise invalid(
                "`stagger` needs `readmit_every`.",
                "None",
                "readmit_every=5 gives back a fifth an epoch.",
            )
        check_share("full_tail", self.full_tail, closed=True)
        if self.outliers not in ("remeasure", "readmit", "never"):
            raise invalid('`outliers` must be "remeasure", "readmit" or "never".', repr(self.outliers))
        if self.remeasure_every is not None:
            check_integer("remeasure_every", self.remeasure_every, 1)
            if self.outliers != "remeasure":
                raise invalid('`remeasure_every` needs outliers="remeasure".', f'"{self.outliers}"')

    def or_turns(self, k: int | None) -> Schedule:
        """Return the schedule with re-admission in turns, ``k`` of them by default; the same if k is None."""
        return self if k is None else replace(self, readmit_every=self.readmit_every or k, stagger=True)

    def until(self, epochs: int) -> Schedule:
        """Return the schedule of a training that ends after ``epochs``."""
        if epochs >= self.epochs:
            return self
        early = tuple(epoch for epoch in self.readmit_at if epoch < epochs)
        return replace(self, epochs=epochs, readmit_at=early)

    def warms_up(self, epoch: int) -> bool:
        """Return whether ``epoch`` is full because nothing may be removed yet."""
        return epoch < self.warmup

    def in_tail(self, epoch: int) -> bool:
        """Return whether ``epoch`` is one of the last in which all learned samples train."""
        # Halves round up; `round` would take them to the even number.
        return epoch >= self.epochs - math.floor(self.full_tail * self.epochs + 0.5)

    def readmits(self, epoch: int) -> bool:
        """Return whether all removed samples are given back before ``epoch``."""
        if epoch < 1:
            return False
        regular = self.readmit_every is not None and epoch % self.readmit_every == 0
        return (regular and not self.stagger) or epoch in self.readmit_at

    def has_turns(self, epoch: int) -> bool:
        """Return whether any removed sample may come back before ``epoch``."""
        return epoch >= 1 and (self.stagger or self.readmits(epoch))

    def measures(self, epoch: int) -> bool:
        """Return whether there can be outliers to measure before ``epoch`` is planned."""
        every = self._remeasure_every
        return self.has_turns(epoch) if every is None else epoch >= 1 and epoch % every == 0

    def measured(self, epoch: int, seed: int, start: int, stop: int) -> NDArray[np.bool_]:
        """Return which of the samples ``[start, stop)``, if outliers, are measured before ``epoch``."""
        if self._remeasure_every is None:
            return self.turn(epoch, seed, start, stop)
        return np.full(stop - start, self.measures(epoch))

    @property
    def _remeasure_every(self) -> int | None:
        """The interval at which outliers are measured; None if it is that of re-admission."""
        if self.remeasure_every is None and self.readmit_every is None and not self.readmit_at:
            return REMEASURE_EVERY
        return self.remeasure_every

    def returns_all(self, epoch: int) -> bool:
        """Return whether every learned sample trains in ``epoch``, regardless of its score."""
        return self.warms_up(epoch) or self.in_tail(epoch) or self.readmits(epoch)

    def returns_outliers(self, epoch: int) -> bool:
        """Return whether every outlier trains in ``epoch``, regardless of its score."""
        return self.warms_up(epoch) or (self.outliers == "readmit" and self.readmits(epoch))

    def turn(self, epoch: int, seed: int, start: int, stop: int) -> NDArray[np.bool_]:
        """Return which of the samples ``[start, stop)`` may come back before ``epoch``.

        All of them if the epoch re-admits; with ``stagger``, one of k groups drawn by seed and index.
        """
        if self.readmits(epoch):
            return np.ones(stop - start, np.bool_)
        if not self.stagger or self.readmit_every is None or epoch < 1:
            return np.zeros(stop - start, np.bool_)
        k = self.readmit_every
        # A draw may be exactly 1, which would be a group of its own.
        group = np.minimum(uniform(mix(_STAGGER, seed), start, stop) * k, k - 1).astype(np.int64)
        return np.asarray(group == epoch % k)
