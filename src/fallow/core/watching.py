"""What the default would have done in a training that it only watches, and what the data showed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..policies.base import IN_TURN, Reason, error_of
from ..policies.error_mass import BOUND
from ..policies.watch import WOULD, Watch
from ..spelling import plural
from .history import EpochRecord
from .plan import Floors, due, plan_epoch
from .schedule import Schedule
from .table import PREDICTED, Table

OUT = f"{WOULD}out"
"""Note of the number of samples that an epoch would have left out."""
EARLY = 2
"""Samples learned by the end of this many epochs, and ever since, are learned early."""
_LEARNED, _RIGHT = "learned_since", "once_right"  # saved in states; do not rename
_MEAN, _LEFT_OUT = f"{WOULD}mean_score", f"{WOULD}left_out"
_SHOWN = 10
FEW = 2000
"""Samples below which wrong labels may be too few to be found: of 600 none were, of 2,000 most."""


@dataclass(frozen=True, eq=False)
class Findings:
    """What a training that was watched showed of its data. All rows are int64, in the dataset's numbering.

    Attributes:
        n: the number of samples.
        epochs: the number of finished epochs.
        policy: the policy that would have decided.
        saved: the share of the samples of these epochs that it would have left out.
        error: the share of the error still to be learned that those samples held, as expected: the mean of
            the epochs that would have left any out, 0 if none would.
        suspects: outliers and labels that look wrong: the samples that it would have left out above its high
            bound, the highest-scoring first.
        never_learned: the samples whose error was above 1/2 on each visit: the network never gave the label
            more than half of the probability.
        learned_early: the samples that were learned by the end of the second epoch and on each visit since;
            learned is an error of at most a third of the policy's ``error``.
    """

    n: int
    epochs: int
    policy: str
    saved: float
    error: float
    suspects: Tensor
    never_learned: Tensor
    learned_early: Tensor

    def __str__(self) -> str:
        first = ", ".join(str(row) for row in self.suspects[:_SHOWN].tolist())
        suspects = f", with the highest scores {first}" if first else ""
        held = f" They held {self.error:.1%} of the error still to be learned." if self.saved else ""
        return "\n".join(
            [
                f"Watched {self.n:,} samples for {plural(self.epochs, 'epoch')}; none was left out.",
                f"{self.policy} would have left out {self.saved:.1%} of the samples of all epochs.{held}",
                f"Learned by the end of epoch {min(EARLY, self.epochs)}, and ever since: "
                f"{self._share(self.learned_early)}.",
                f"Never learned: {self._share(self.never_learned)}.",
                f"Outliers, or labels that look wrong: {self._share(self.suspects)}{suspects}.{self._few()}",
            ]
        )

    def _few(self) -> str:
        """Return a sentence if there are too few samples for wrong labels to stand out in a histogram."""
        if len(self.suspects) or not len(self.never_learned) or self.n >= FEW:
            return ""
        return f" Among fewer than {FEW:,} samples they may not stand out: look at those never learned."

    def _share(self, rows: Tensor) -> str:
        return f"{plural(len(rows), 'sample')} ({len(rows) / self.n:.1%})"


def watch(
    table: Table, policy: Watch, schedule: Schedule, floors: Floors, epoch: int, seed: int, largest: float
) -> None:
    """Decide as the watched policy would at the end of the epoch before ``epoch``, in columns of the table.

    The arguments are those of :func:`plan_epoch`.
    """
    watched = policy.watched
    schedule = schedule.or_turns(watched.returns_every)
    would = _would(table)
    seen = would.reason == Reason.KEPT
    seen[due(would, watched, schedule, epoch, seed)] = True
    seen &= table.scored_in == epoch
    would.scores[seen] = table.scores[seen]
    would.scored_in[seen] = epoch
    if PREDICTED in table.columns:
        would.column(PREDICTED, np.int32)[seen] = table.columns[PREDICTED][seen]
    with warnings.catch_warnings():
        # The real plan says it too.
        warnings.filterwarnings("ignore", ".*are not finite", RuntimeWarning)
        reason, plan = plan_epoch(would, watched, schedule, floors, epoch, seed, largest)
    would.reason = reason
    _keep(would, table)
    table.notes[OUT] = float(plan.full - len(plan.kept))
    _note_learned(table, policy.error, epoch, largest)


def _would(table: Table) -> Table:
    """Return the table as the watched policy would have it, given the columns of the real one."""
    would = Table(len(table))
    columns = {name.removeprefix(WOULD): c for name, c in table.columns.items() if name.startswith(WOULD)}
    would.scored_in = columns.pop("scored_in", would.scored_in)
    would.reason = columns.pop("reason", would.reason)
    # New and renewed samples have zeros in every column.
    would.scores = np.where(would.scored_in > 0, columns.pop("scores", would.scores), np.float32(np.nan))
    by_hand = table.reason == Reason.BY_HAND
    would.reason[(would.reason == Reason.BY_HAND) & ~by_hand] = Reason.KEPT
    would.reason[by_hand] = Reason.BY_HAND
    would.columns = columns
    would.bad, would.recorded = table.bad, table.recorded
    would.notes = {n.removeprefix(WOULD): v for n, v in table.notes.items() if n.startswith(WOULD)}
    return would


def _keep(would: Table, table: Table) -> None:
    """Store the table of the watched policy in columns and notes of the real one."""
    rows: dict[str, NDArray[Any]] = {
        "scores": would.scores,
        "scored_in": would.scored_in,
        "reason": would.reason,
    }
    rows |= would.columns
    table.columns |= {WOULD + name: column for name, column in rows.items()}
    notes = {name: value for name, value in table.notes.items() if not name.startswith(WOULD)}
    table.notes = notes | {WOULD + name: value for name, value in would.notes.items()}


def _note_learned(table: Table, error: float, epoch: int, largest: float) -> None:
    """Note since which epoch, from 1, each sample is learned, and whether its error was ever at most 1/2."""
    errors = error_of(table.scores, largest)
    fresh = (table.scored_in == epoch) & (table.scores == table.scores)
    since, right = table.column(_LEARNED, np.uint16), table.column(_RIGHT, np.bool_)
    right |= fresh & (errors <= 0.5)
    learned = errors <= BOUND * error
    since[fresh & learned & (since == 0)] = epoch
    since[fresh & ~learned] = 0


def findings(table: Table, policy: Watch, history: Sequence[EpochRecord]) -> Findings:
    """Return what the finished epochs showed."""
    full = sum(record.n - record.by_hand for record in history)
    out = sum(record.notes.get(OUT, 0.0) for record in history)
    held = [record.notes.get(f"{WOULD}error", 0.0) for record in history]
    held = [share for share in held if share]
    inside = (table.reason != Reason.BY_HAND) & (table.scored_in > 0)
    since, right = table.column(_LEARNED, np.uint16), table.column(_RIGHT, np.bool_)
    reason, mean = table.column(f"{WOULD}reason", np.uint8), table.column(_MEAN, np.float32)
    # Some of those that the last decision left out as outliers may have been given back at once.
    back, learned = table.column(f"{WOULD}{IN_TURN}", np.bool_), table.column(_LEFT_OUT, np.bool_)
    suspects = np.flatnonzero(inside & ((reason == Reason.OUTLIER) | (back & ~learned)))
    return Findings(
        n=len(table),
        epochs=len(history),
        policy=repr(policy.watched),
        saved=out / max(1, full),
        error=sum(held) / max(1, len(held)),
        suspects=_rows(suspects[np.lexsort((suspects, -mean[suspects]))]),
        never_learned=_rows(np.flatnonzero(inside & ~right & (table.scores == table.scores))),
        learned_early=_rows(np.flatnonzero(inside & (since > 0) & (since <= EARLY))),
    )


def _rows(rows: NDArray[np.intp]) -> Tensor:
    return torch.from_numpy(rows.astype(np.int64))
