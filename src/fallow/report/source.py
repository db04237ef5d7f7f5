"""What all parts of a report read: the run's past, once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.history import EpochRecord, resized
from ..policies.base import Reason
from ..runs.epoch_file import EpochFile
from ..runs.run import Run
from ..runs.schema import ShownOptions, Summary, SummaryRow
from ..runs.thumbnails_file import ThumbnailsFile
from . import text

COLUMNS = 400
"""At most so many epochs are drawn one by one; of more, evenly spaced ones are."""
_IN_NATS = {"kl", "reverse-kl", "js", "renyi"}
"""Scores of runs that were stopped by a version whose states do not name the unit."""


@dataclass(frozen=True, eq=False)
class Source:
    """A run as a report reads it: N samples, E finished epochs.

    Attributes:
        run: where it lies.
        history: the epochs, without scores.
        drawn: those that charts draw one by one: all, or at most 400 of them.
        last: the last finished epoch.
        reason: uint8 ``(N,)``, why each sample was left out of epoch ``reason_epoch``: the last one that left
            out outliers, or the last one.
        labels: int32 ``(N,)``, -1 where unknown; or None.
        predicted: int32 ``(N,)``, -1 where unknown; or None.
        times: int32 ``(N,)``, in how many epochs each sample was trained on.
        summary: what ``summary.json`` says; nothing if it is not of these epochs.
        shown: pictures or texts, or None.
        unit: of the scores.
    """

    run: Run
    history: Sequence[EpochRecord]
    drawn: Sequence[EpochRecord]
    last: EpochFile
    reason: NDArray[np.uint8]
    reason_epoch: int
    labels: NDArray[np.int32] | None
    predicted: NDArray[np.int32] | None
    times: NDArray[np.int32]
    summary: Summary
    shown: ThumbnailsFile | None
    unit: str

    @staticmethod
    def read(run: Run) -> Source:
        """Read what every part needs.

        Raises:
            InvalidValue: where no epoch is finished.
            DamagedData: where a file is not sound.
        """
        history, last = run.history, run.last
        n, epochs = last.record.remaining, len(history)
        at = np.unique(np.linspace(0, epochs - 1, min(epochs, COLUMNS)).round().astype(int))
        with_outliers = [record.epoch for record in history if record.outliers]
        epoch = with_outliers[-1] if with_outliers else last.record.epoch
        reason = last.reason if epoch == last.record.epoch else run.epoch(epoch).reason
        shown, predicted = run.shown, run.predicted
        if predicted is None and shown is not None and (shown.predicted >= 0).any():
            there = shown.index < n
            predicted = np.full(n, -1, np.int32)
            predicted[shown.index[there]] = shown.predicted[there]
        return Source(
            run=run,
            history=history,
            drawn=[history[i] for i in at],
            last=last,
            reason=resized(reason, n, Reason.KEPT),
            reason_epoch=epoch,
            labels=run.labels,
            predicted=predicted,
            times=run.times_used,
            summary=run.summary if run.summary and len(run.summary.epochs) == epochs else Summary(),
            shown=shown,
            unit=_unit(run),
        )

    @property
    def n(self) -> int:
        """How many samples there are."""
        return self.last.record.remaining

    @property
    def folder(self) -> str | None:
        """The folder of the data, from which files are shown; None where the run does not name one."""
        return self.run.shown_options.data

    @property
    def possible(self) -> int:
        """How many uses there could have been: each sample once in each epoch that had it."""
        return sum(record.n for record in self.history)

    def class_name(self, label: int) -> str:
        """Return the name of a class, as it is shown."""
        classes = self.run.data.classes
        return text.name(classes[label]) if classes and 0 <= label < len(classes) else str(label)

    @property
    def accuracies(self) -> dict[int, float]:
        """The accuracy after each epoch that ``summary.json`` knows one of."""
        return self._by_epoch(lambda row: row.accuracy)

    @property
    def train_accuracies(self) -> dict[int, float]:
        """The accuracy on what each epoch trained on, as it was trained on."""
        return self._by_epoch(lambda row: row.train_accuracy)

    @property
    def bits(self) -> dict[int, float]:
        """The bits a character of a language model after each epoch; empty for every other task."""
        return self._by_epoch(lambda row: row.bits_per_character)

    def _by_epoch(self, value_of: Callable[[SummaryRow], float | None]) -> dict[int, float]:
        rows = [] if self.run.summary is None else self.run.summary.epochs
        return {row.epoch: value for row in rows if (value := value_of(row)) is not None}

    @property
    def spaced(self) -> str:
        """A sentence where not every epoch is drawn, or one is missing; else nothing."""
        said = []
        if len(self.drawn) < len(self.history):
            said.append(f"{len(self.drawn)} evenly spaced epochs of {len(self.history):,} are drawn.")
        there = {record.epoch for record in self.history}
        if missing := [epoch for epoch in range(max(there)) if epoch not in there]:
            gone = text.plural(len(missing), "epoch is", "epochs are")
            said.append(f"{gone} missing from the history, the first of them epoch {missing[0] + 1}.")
        return " ".join(said)


def _unit(run: Run) -> str:
    """Return the unit of the scores: of the run's summary, or before its end of the newest state."""
    unit = run.about.score_unit if run.summary is None else run.summary.score_unit
    if unit is not None:
        return "nats" if unit == "nats" else ""
    return "nats" if _is_nats(run.shown_options) else ""


def _is_nats(options: ShownOptions) -> bool:
    model = options.model or ""
    if ":" in model and not model.startswith("hf:"):  # a class of the user's, whose losses may be anything
        return False
    other = options.policy == "repb" or options.task == "autoencoder"
    return (options.score or "kl") in _IN_NATS and not other


REASONS = tuple(Reason)
FIELDS = "kept", "learned", "outliers", "not_drawn", "by_hand"
"""The field of an :class:`~fallow.core.history.EpochRecord` that counts each reason."""
