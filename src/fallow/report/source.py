"""The data of a run that the parts of a report share, read once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

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


class Source:
    """A run with N samples and E finished epochs. Each part is read at its first use.

    Args:
        run: the run.

    Attributes:
        run: as given.
    """

    def __init__(self, run: RunFiles) -> None:
        self.run = run

    @staticmethod
    def read(run: RunFiles) -> Source:
        """Read a run.

        Raises:
            InvalidValue: if no epoch is finished.
            DamagedData: if a file of the epochs is damaged. Its other files are read later, and raise then.
        """
        source = Source(run)
        assert source.history
        return source

    @property
    def history(self) -> Sequence[EpochRecord]:
        """The epochs, without scores."""
        return self.run.history

    @cached_property
    def drawn(self) -> Sequence[EpochRecord]:
        """The epochs that charts draw: all, or 400 of them."""
        epochs = len(self.history)
        at = np.unique(np.linspace(0, epochs - 1, min(epochs, COLUMNS)).round().astype(int))
        return [self.history[i] for i in at]

    @property
    def last(self) -> EpochFile:
        """The last finished epoch."""
        return self.run.last

    @property
    def reason_epoch(self) -> int:
        """The last epoch that left out outliers, or the last one."""
        with_outliers = [record.epoch for record in self.history if record.outliers]
        return with_outliers[-1] if with_outliers else self.history[-1].epoch

    @cached_property
    def reason(self) -> NDArray[np.uint8]:
        """Why each sample was left out of epoch :attr:`reason_epoch`: uint8 ``(N,)``."""
        epoch = self.reason_epoch
        file = self.last if epoch == self.history[-1].epoch else self.run.epoch(epoch)
        return resized(file.reason, self.n, Reason.KEPT)

    @property
    def labels(self) -> NDArray[np.int32] | None:
        """The class of each sample, int32 ``(N,)``, -1 if unknown; or None."""
        return self.run.labels

    @cached_property
    def predicted(self) -> NDArray[np.int32] | None:
        """The class last predicted for each sample, int32 ``(N,)``, -1 if unknown; or None."""
        predicted, shown = self.run.predicted, self.shown
        # Without a readable state, the predictions of the shown samples are still in their own file.
        if predicted is None and shown is not None and (shown.predicted >= 0).any():
            existing = shown.index < self.n
            predicted = np.full(self.n, -1, np.int32)
            predicted[shown.index[existing]] = shown.predicted[existing]
        return predicted

    @property
    def times(self) -> NDArray[np.int32]:
        """The number of epochs that trained on each sample: int32 ``(N,)``."""
        return self.run.times_used

    @cached_property
    def summary(self) -> Summary:
        """The content of ``summary.json``; empty if it is of other epochs."""
        summary = self.run.summary
        return summary if summary is not None and len(summary.epochs) == self.run.ended else Summary()

    @property
    def shown(self) -> ThumbnailsFile | None:
        """Pictures or texts, or None."""
        return self.run.shown

    @property
    def unit(self) -> str:
        """The unit of the scores; empty if it is not known."""
        return self.run.score_unit

    @cached_property
    def suspects(self) -> Suspects | None:
        """The samples whose labels look wrong, at most 60; None if the run has no labels to judge."""
        try:
            return find_suspects(self.run, SUSPECTS)
        except InvalidValue:
            return None

    @property
    def n(self) -> int:
        """The number of samples."""
        return self.history[-1].remaining

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
        if self.missing:
            sentences.append(self.missing)
        return " ".join(sentences)

    @property
    def missing(self) -> str:
        """A sentence if finished epochs cannot be read; else an empty string."""
        if not self.run.missing:
            return ""
        over = f"counts are over {len(self.run.epochs):,} of {text.plural(self.run.ended, 'epoch')}"
        return f"{self.run.unread.capitalize()}: {over}."


REASONS = tuple(Reason)
FIELDS = "kept", "learned", "outliers", "not_drawn", "by_hand"
"""The field of an :class:`~fallow.core.history.EpochRecord` that counts each reason."""
