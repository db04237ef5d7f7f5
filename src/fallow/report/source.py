"""The data of a run that the parts of a report share, read once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.history import EpochRecord, resized
from ..errors import InvalidValue
from ..policies.base import Reason
from ..runs.epoch_file import EpochFile
from ..runs.highlights import SUSPECTS
from ..runs.run_files import RunFiles
from ..runs.schema import Summary, SummaryRow
from ..runs.suspects import Suspects, find_suspects
from ..runs.thumbnails_file import ThumbnailsFile
from . import text

COLUMNS = 400
"""Maximum number of epochs that are drawn; of more, evenly spaced ones are chosen."""


@dataclass(frozen=True, eq=False)
class Source:
    """A run with N samples and E finished epochs.

    Attributes:
        run: the run.
        history: the epochs, without scores.
        drawn: the epochs that charts draw: all, or 400 of them.
        last: the last finished epoch.
        reason: uint8 ``(N,)``, why each sample was left out of epoch ``reason_epoch``: the last one that left
            out outliers, or the last one.
        labels: int32 ``(N,)``, -1 if unknown; or None.
        predicted: int32 ``(N,)``, -1 if unknown; or None.
        times: int32 ``(N,)``, the number of epochs that trained on each sample.
        summary: the content of ``summary.json``; empty if it is of other epochs.
        shown: pictures or texts, or None.
        unit: of the scores.
        suspects: the samples whose labels look wrong, at most 60; None if the run has no labels to judge.
    """

    run: RunFiles
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
    suspects: Suspects | None

    @staticmethod
    def read(run: RunFiles) -> Source:
        """Read a run.

        Raises:
            InvalidValue: if no epoch is finished.
            DamagedData: if a file is damaged.
        """
        history, last = run.history, run.last
        n, epochs = last.record.remaining, len(history)
        at = np.unique(np.linspace(0, epochs - 1, min(epochs, COLUMNS)).round().astype(int))
        with_outliers = [record.epoch for record in history if record.outliers]
        epoch = with_outliers[-1] if with_outliers else last.record.epoch
        reason = last.reason if epoch == last.record.epoch else run.epoch(epoch).reason
        shown, predicted = run.shown, run.predicted
        # Without a readable state, the predictions of the shown samples are still in their own file.
        if predicted is None and shown is not None and (shown.predicted >= 0).any():
            existing = shown.index < n
            predicted = np.full(n, -1, np.int32)
            predicted[shown.index[existing]] = shown.predicted[existing]
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
            unit=run.score_unit,
            suspects=_suspects(run),
        )

    @property
    def n(self) -> int:
        """The number of samples."""
        return self.last.record.remaining

    @property
    def folder(self) -> str | None:
        """The data folder, to which file names are relative; None if the run does not name one."""
        return self.run.shown_options.data

    @property
    def possible(self) -> int:
        """The number of possible uses: each sample once in each epoch that had it."""
        return sum(record.n for record in self.history)

    def class_name(self, label: int) -> str:
        """Return the name of a class for the page."""
        classes = self.run.data.classes
        return text.name(classes[label]) if classes and 0 <= label < len(classes) else str(label)

    @property
    def accuracies(self) -> dict[int, float]:
        """The accuracy after each epoch, if ``summary.json`` has one."""
        return self._by_epoch(lambda row: row.accuracy)

    @property
    def train_accuracies(self) -> dict[int, float]:
        """The accuracy during each epoch on the samples that it trained on."""
        return self._by_epoch(lambda row: row.train_accuracy)

    @property
    def bits(self) -> dict[int, float]:
        """The bits per character of a language model after each epoch; empty for other tasks."""
        return self._by_epoch(lambda row: row.bits_per_character)

    def _by_epoch(self, value_of: Callable[[SummaryRow], float | None]) -> dict[int, float]:
        rows = [] if self.run.summary is None else self.run.summary.epochs
        return {row.epoch: value for row in rows if (value := value_of(row)) is not None}

    @property
    def spaced(self) -> str:
        """A remark if not all epochs are drawn, or some are missing; else an empty string."""
        sentences = []
        if len(self.drawn) < len(self.history):
            sentences.append(f"{len(self.drawn)} evenly spaced epochs of {len(self.history):,} are drawn.")
        known = {record.epoch for record in self.history}
        if missing := [epoch for epoch in range(max(known)) if epoch not in known]:
            subject = text.plural(len(missing), "epoch is", "epochs are")
            sentences.append(f"{subject} missing from the history, the first of them epoch {missing[0] + 1}.")
        return " ".join(sentences)


def _suspects(run: RunFiles) -> Suspects | None:
    try:
        return find_suspects(run, SUSPECTS)
    except InvalidValue:
        return None


REASONS = tuple(Reason)
FIELDS = "kept", "learned", "outliers", "not_drawn", "by_hand"
"""The field of an :class:`~fallow.core.history.EpochRecord` that counts each reason."""
