"""Nothing left to learn: the signs of it, and an early end of the training on request."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from ..core.subsampler import Subsampler
from ..report.text import plural
from ..runs.training_state import NOTHING_LEFT
from ..spelling import one_line

LEARNED = 0.01
"""Mean error of the kept samples, over the classes alike, below which nothing is left to learn."""
WORSE, EPOCHS = 1.05, 3
"""The held-out loss has turned if it was this many times its least value for so many epochs."""
COOLING = 0.1
"""Share of the epochs in which the learning rate comes down before an early end."""


def mean_error(
    scores: NDArray[np.float32], used: NDArray[np.bool_], labels: NDArray[np.integer] | None
) -> float:
    r"""Return the mean of :math:`1 - e^{-s}` over the samples used, each class counting alike.

    Otherwise a network that names the largest class only would be near 0 if the others are rare.

    Args:
        scores: in nats, ``(N,)``; NaN without one.
        used: the samples that trained in the last epoch, ``(N,)``.
        labels: class ids from 0, or None for one class.

    Returns:
        NaN if less than 95 % of them have a score.
    """
    known = used & np.isfinite(scores)
    if int(np.count_nonzero(known)) < max(1, 0.95 * int(np.count_nonzero(used))):
        return math.nan
    errors = -np.expm1(-np.maximum(scores[known], np.float32(0)))
    ids = np.zeros(errors.size, np.int64) if labels is None else labels[known]
    sizes = np.bincount(ids)
    sums = np.bincount(ids, errors)
    return float((sums[sizes > 0] / sizes[sizes > 0]).mean())


def turned(epochs: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the epoch, from 1, with the least held-out loss if the loss has turned since; None otherwise.

    A loss may rise while the accuracy does, too: then it has not turned.
    """
    rows = [row for row in epochs if row.get("test_loss") is not None]
    if len(rows) <= EPOCHS or not all(math.isfinite(row["test_loss"]) for row in rows):
        return None
    best = min(rows[:-EPOCHS], key=lambda row: float(row["test_loss"]))
    last = rows[-EPOCHS:]
    if any(float(row["test_loss"]) <= WORSE * float(best["test_loss"]) for row in last):
        return None
    better = [row["accuracy"] for row in last if row.get("accuracy") is not None]
    if best.get("accuracy") is not None and better and max(better) > best["accuracy"]:
        return None
    return int(best["epoch"]) + 1


class NothingLeft(Callback):
    """Says once that nothing is left to learn, and ends the training if asked.

    Args:
        subsampler: of the training.
        rows: returns the rows of the finished epochs.
        line: prints a sentence.
        stop: whether to end the training.
        held_out: whether the rows are measured on validation samples; test samples must not decide.
        in_nats: whether scores are in nats.

    Attributes:
        reason: the sentence; empty while there is something left to learn.
    """

    def __init__(
        self,
        subsampler: Subsampler,
        rows: Callable[[], Sequence[Mapping[str, Any]]],
        line: Callable[[str], None],
        *,
        stop: bool,
        held_out: bool,
        in_nats: bool,
    ) -> None:
        self.subsampler, self.rows, self.line = subsampler, rows, line
        self.stop, self.held_out, self.in_nats = stop, held_out, in_nats
        self.reason = ""

    @property
    def state_key(self) -> str:
        """The key of this callback in a state, fixed."""
        return NOTHING_LEFT

    def state_dict(self) -> dict[str, Any]:
        """Return the sentence, if it has been said."""
        return {"reason": self.reason} if self.reason else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the sentence of a resumed training."""
        self.reason = one_line(state_dict["reason"])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the end of a resumed training that was to end early, or look for one in a longer training."""
        sub = self.subsampler
        if sub.epochs == sub.schedule.epochs:
            self.reason = "" if self.stop else self.reason
        elif not self.reason:  # states of before do not have it
            self.reason = f"Nothing was left to learn, so that the end is epoch {sub.epochs}."

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for the signs, after the subsampler has ended the epoch."""
        sub = self.subsampler
        if self.reason or sub.epoch >= sub.epochs or sub.epochs < sub.schedule.epochs:
            return
        # Only the first rank has all rows, and all ranks must end together.
        found = trainer.strategy.broadcast(self._found() if trainer.is_global_zero else "")
        if not found:
            return
        self.reason = found
        if self.stop:
            sub.finish(max(1, round(COOLING * sub.epochs)))
            trainer.fit_loop.max_epochs = sub.epochs
            left = plural(sub.epochs - sub.epoch, "epoch")
            found += f" The training ends after {left} more, in which the learning rate comes down."
        self.line(found)

    def _found(self) -> str:
        """Return the sign that was found in words, or nothing."""
        sub = self.subsampler
        if self.in_nats:
            labels = sub.under_way.floors.labels
            error = mean_error(sub.scores.numpy(), sub.history[-1].used_mask, labels)
            if error < LEARNED:
                return (
                    f"Nothing is left to learn after epoch {sub.epoch}: the samples that trained give their "
                    f"labels all but {error:.2%} of the probability, on average over the classes."
                )
        if self.held_out and (best := turned(self.rows())) is not None:
            return (
                f"The loss on the validation samples has turned: it was least after epoch {best}, and more "
                f"than {WORSE - 1:.0%} above that in each of the last {EPOCHS} epochs."
            )
        return ""
