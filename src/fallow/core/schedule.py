"""When samples may be removed and when they come back: a pure function of the epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays.keyed import mix, uniform
from ..errors import check_flag, check_integer, check_share, invalid, invalid_type

MAX_EPOCHS = 65_534
REMEASURE_EVERY = 5
"""How often outliers are measured where no sample is ever re-admitted."""
_STAGGER = 0x57A6


@dataclass(frozen=True)
class Schedule:
    """Times removal, re-admission and re-measuring over a training of ``epochs`` epochs, from 0.

    Removed samples are given back before epoch e when ``e % readmit_every == 0`` or e is listed in
    ``readmit_at``. That holds for learned and not drawn samples; what becomes of outliers is said by
    ``outliers``. Samples removed by hand stay out.

    Args:
        epochs: how many epochs the training has, 1 to 65,534.
        warmup: how many first epochs are full; at least 1, since nothing is known before.
        readmit_every: re-admit before every k-th epoch, or None.
        readmit_at: further epochs before which removed samples come back.
        stagger: with ``readmit_every=k``, give back another 1/k of the removed samples before every
            epoch instead of all before every k-th: each waits at most k epochs, steps stay even.
        full_tail: the last share of the epochs in which all learned samples train.
        outliers: ``"remeasure"``: an outlier comes back only when a forward-only measurement finds it below
            the threshold; ``"readmit"``: with the others; ``"never"``.
        remeasure_every: measure outliers before every k-th epoch; by default whenever samples are
            re-admitted, or every 5th epoch where none ever are.

    Raises:
        InvalidValue: where a number is out of its range or two of them contradict each other.

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
        check_integer("warmup", self.warmup, 1, "Nothing is known before the first epoch.")
        if self.readmit_every is not None:
            check_integer("readmit_every", self.readmit_every, 1, "None never re-admits.")
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

    def warms_up(self, epoch: int) -> bool:
        """Return whether ``epoch`` is full because nothing may be removed yet."""
        return epoch < self.warmup

    def in_tail(self, epoch: int) -> bool:
        """Return whether ``epoch`` is one of the last in which all learned samples train."""
        return epoch >= self.epochs - math.floor(self.full_tail * self.epochs + 0.5)

    def readmits(self, epoch: int) -> bool:
        """Return whether all removed samples are given back before ``epoch``."""
        if epoch < 1:
            return False
        regular = self.readmit_every is not None and epoch % self.readmit_every == 0
        return (regular and not self.stagger) or epoch in self.readmit_at

    def has_turns(self, epoch: int) -> bool:
        """Return whether it can be a removed sample's turn to come back before ``epoch``."""
        return epoch >= 1 and (self.stagger or self.readmits(epoch))

    def measures(self, epoch: int) -> bool:
        """Return whether there can be outliers to measure before ``epoch`` is planned."""
        every = self._remeasure_every
        return self.has_turns(epoch) if every is None else epoch >= 1 and epoch % every == 0

    def measured(self, epoch: int, seed: int, start: int, stop: int) -> NDArray[np.bool_]:
        """Return which of the samples ``[start, stop)`` are measured before ``epoch`` if outliers."""
        if self._remeasure_every is None:
            return self.turn(epoch, seed, start, stop)
        return np.full(stop - start, self.measures(epoch))

    @property
    def _remeasure_every(self) -> int | None:
        """Return how often outliers are measured, where that is not left to re-admission."""
        if self.remeasure_every is None and self.readmit_every is None and not self.readmit_at:
            return REMEASURE_EVERY
        return self.remeasure_every

    def returns_all(self, epoch: int) -> bool:
        """Return whether every learned sample trains in ``epoch``, whatever it scored."""
        return self.warms_up(epoch) or self.in_tail(epoch) or self.readmits(epoch)

    def returns_outliers(self, epoch: int) -> bool:
        """Return whether every outlier trains in ``epoch``, whatever it scored."""
        return self.warms_up(epoch) or (self.outliers == "readmit" and self.readmits(epoch))

    def turn(self, epoch: int, seed: int, start: int, stop: int) -> NDArray[np.bool_]:
        """Return which of the samples ``[start, stop)`` it is the turn of before ``epoch``.

        All of them where the epoch re-admits; with ``stagger`` the k-th part of the samples, drawn by
        seed and index, whose turn comes in this epoch; else none.
        """
        if self.readmits(epoch):
            return np.ones(stop - start, np.bool_)
        if not self.stagger or self.readmit_every is None or epoch < 1:
            return np.zeros(stop - start, np.bool_)
        k = self.readmit_every
        group = np.minimum(uniform(mix(_STAGGER, seed), start, stop) * k, k - 1).astype(np.int64)
        return np.asarray(group == epoch % k)
