"""Writes each epoch to the run directory as it ends, and tells the console."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress
from shlex import quote
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from ..arrays.bitset import unpack
from ..core.history import EpochRecord, times_used
from ..core.subsampler import Subsampler
from ..errors import DamagedData, NotWritten
from ..files.checked_json import check_kind, finite
from ..runs.directory import RunDirectory
from ..runs.epoch_file import EpochFile
from ..runs.highlights import choose
from ..runs.schema import About, SummaryRow
from ..runs.thumbnails_file import ThumbnailsFile
from ..runs.training_state import WRITER
from ..scores.base import is_no_score
from ..step_rules import StepRule
from ..tasks.console import Console, number
from .stopwatch import Stopwatch
from .summary import counts

BITS = "test_bits_per_character"
"""Under which name a language model logs its bits a character."""


class EpochWriter(Callback):
    """Writes each finished epoch to the run directory and tells the console.

    Args:
        run: where to write.
        subsampler: whose epochs they are.
        console: where to print.
        step_rule: which chooses rows of each batch, or None.
        by_loss: the mean score says nothing: the mean loss is shown instead, where the module returns
            per-sample losses.
        stop_on_storage_error: whether a file that cannot be written ends the training.
        looks: pictures or texts of samples, for the report; None where there are none.
        probed: how many samples the epoch looked at by a forward pass, beside those it measured.

    Attributes:
        epochs: for each finished epoch what ``summary.json`` says of it.
        pending: epochs whose files could not be written yet.
        unshown: the pictures for the report could not be written yet.
        stopwatch: where the time goes; to be made a callback too.
    """

    def __init__(
        self,
        run: RunDirectory,
        subsampler: Subsampler,
        console: Console,
        step_rule: StepRule | None = None,
        *,
        by_loss: bool = False,
        stop_on_storage_error: bool = False,
        looks: Callable[[NDArray[np.int64]], dict[str, Any]] | None = None,
        probed: Callable[[], int] = lambda: 0,
    ) -> None:
        self.run, self.subsampler, self.console = run, subsampler, console
        self.step_rule, self.stop_on_storage_error = step_rule, stop_on_storage_error
        self.looks, self.probed = looks, probed
        self.epochs: list[dict[str, Any]] = []
        self.pending: list[EpochFile] = []
        self.unshown = False
        self.stopwatch = Stopwatch()
        self._metrics: dict[str, float] = {}
        self._reason = np.zeros(subsampler.n, np.uint8)
        self._by_loss = by_loss
        self._losses: list[Tensor] = []

    @property
    def state_key(self) -> str:
        """The name of this part in a saved state: it stays, whatever the class is called."""
        return WRITER

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note what is left out of the epoch."""
        self._losses.clear()
        self._reason = self.subsampler.reason.numpy()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar; the loss is only looked at where there is a bar to show it."""
        if self._by_loss and "per_sample_loss" in outputs:
            self._losses.append(outputs["per_sample_loss"].detach().float())
        if self.console.live and (batch_idx % 20 == 0 or batch_idx + 1 == trainer.num_training_batches):
            self.console.batch(
                trainer.current_epoch,
                self.subsampler.schedule.epochs,
                batch_idx + 1,
                int(trainer.num_training_batches),
                float(outputs["loss"]),
            )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch that the subsampler has just ended."""
        record = self.subsampler.history[-1]
        told: dict[str, Any] = getattr(pl_module, "told_of_epoch", dict)()
        if not trainer.is_global_zero:
            return
        self._metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
        accuracy, loss = self._accuracy(), _metric(self._metrics, "loss")
        if (bits := self._metrics.get(BITS)) is not None:
            told["bits_per_character"] = bits
        counted = counts([record], record.n, self.step_rule)
        counted["samples_forward_only"] += self.probed()
        self.epochs.append(
            {
                "epoch": record.epoch,
                **counted,
                "accuracy": accuracy,
                "train_accuracy": (right := self._train_accuracy(record)),
                "test_loss": loss,
                **told,
                "seconds": self.stopwatch.seconds,
                "waiting_seconds": self.stopwatch.waiting,
                "evaluating_seconds": self.stopwatch.evaluating,
                "record_seconds": record.record_seconds,
                **{k: v for k, v in record.aggregates().items() if k not in ("epoch", "record_seconds")},
            }
        )
        scores = self.subsampler.scores.numpy()
        self.pending.append(EpochFile(record, scores, self._reason))
        self.write_pending()
        self.show()
        epochs, history = self.subsampler.schedule.epochs, self.subsampler.history
        used = sum(past.backward for past in history)
        full = sum(past.n for past in history) + (epochs - len(history)) * record.n  # samples may come and go
        measured = counted["samples_forward_only"]
        mean = self._mean_loss() if self._by_loss else record.mean_score
        tested = "-" if accuracy is None else f"{accuracy:.2%}"
        tested = number(told["bits_per_character"]) if "bits_per_character" in told else tested
        trained = "-" if right is None else f"{right:.2%}"
        self.console.epoch(record, epochs, measured, mean, tested, used / full, trained)

    def _train_accuracy(self, record: EpochRecord) -> float | None:
        """Return the share of the samples trained on whose class was predicted, as each was trained on.

        None without labels, or if the module tells no predicted classes.
        """
        labels = self.subsampler.labels
        if labels is None:
            return None
        # A class id may be negative; by its number, a negative one means that there is none.
        encode = self.subsampler.under_way.class_ids.encode
        given, predicted = encode(labels.numpy()), encode(self.subsampler.predicted.numpy())
        there = unpack(record.used_bits, record.n) & (predicted >= 0)
        return float((predicted == given)[there].mean()) if there.any() else None

    def show(self) -> None:
        """Write pictures of the samples that a report of the last epoch shows.

        Where it left out no outliers, the report shows those of the last epoch that did.
        """
        history, self.unshown = self.subsampler.history, False
        if self.looks is None or not history or history[-1].remaining > self.subsampler.n:
            return
        n, labels, ids = history[-1].remaining, self.subsampler.labels, self.subsampler.under_way.class_ids
        known = None if labels is None else ids.encode(labels.numpy()[:n])
        predicted = ids.encode(self.subsampler.predicted.numpy()[:n])
        with suppress(DamagedData):
            last = self._file(history[-1].epoch)
            reasons = [last.reason]
            before = (record for record in reversed(history) if record.outliers and record.remaining == n)
            if not history[-1].outliers and (with_outliers := next(before, None)) is not None:
                reasons.append(self._file(with_outliers.epoch).reason)
            times = times_used(history)
            shown = [choose(last.scores, reason, times, known, predicted).index for reason in reasons]
            index = np.unique(np.concatenate(shown))
            file = ThumbnailsFile(last.record.epoch, index, predicted[index], **self.looks(index))
            try:
                self.run.put(self.run.thumbnails_path, file.dump())
            except OSError as error:
                self.unshown = True
                self.failed(error)

    def reason_of(self, epoch: int) -> NDArray[np.uint8] | None:
        """Return why each sample was left out of a past epoch; None where its file is damaged."""
        with suppress(DamagedData):
            return self._file(epoch).reason
        return None

    def _file(self, epoch: int) -> EpochFile:
        """Return a past epoch, from its file or from those that wait to be written."""
        waiting = [file for file in self.pending if file.record.epoch == epoch]
        return waiting[0].renumbered(self.run.numbering) if waiting else self.run.read_epoch(epoch)

    def write_pending(self) -> None:
        """Write the files of the epochs that have none; what the disk refuses now is tried again later."""
        while self.pending:
            try:
                self.run.write_epoch(self.pending[0])
            except OSError as error:
                self.failed(error)
                return
            self.pending.pop(0)

    def failed(self, error: OSError) -> None:
        """Say that something could not be written; nothing that was there is lost.

        Raises:
            NotWritten: where the training is to stop then.
        """
        found = self.run.checkpoints.newest().found
        begun = found is not None and (found.about.epoch or found.about.recorded)
        saved = (
            f"the last saved state is {_place(found.about)}" if found and begun else "no state is saved yet"
        )
        what = f"{error.filename or self.run.path} cannot be written: {error.strerror or error}; {saved}."
        if self.stop_on_storage_error:
            step = (
                f"go on with fallow train --resume {quote(str(self.run.path))}"
                if begun
                else "begin the run again"
            )
            raise NotWritten(f"{what} {mend(error)}, then {step}.")
        self.console.line(f"Warning: {what} Training goes on; it is tried again after the next epoch.")

    def state_dict(self) -> dict[str, Any]:
        """Return what was said of the finished epochs, and the files that are still to be written."""
        files = [np.frombuffer(file.dump(), np.uint8) for file in self.pending]
        return {"epochs": self.epochs, "metrics": self._metrics, "pending": files}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        check_kind(list[SummaryRow], finite(state_dict["epochs"]), f"The state of {self.run.path}")
        self.epochs, self._metrics = list(state_dict["epochs"]), dict(state_dict["metrics"])
        past = len(self.epochs) - len(state_dict["pending"])
        self.pending = [
            EpochFile.parse(data.tobytes(), f"the state of {self.run.path}", past + place)
            for place, data in enumerate(state_dict["pending"])
        ]

    def _accuracy(self) -> float | None:
        """Return the accuracy that was logged; None for a number that is none, which is said once."""
        found = _metric(self._metrics, "acc")
        if found is None or 0 <= found <= 1:
            return found
        if not self.epochs:
            self.console.line(
                f"What the module logs as its accuracy must be in [0, 1], and is not used: {found:g}."
            )
        return None

    def _mean_loss(self) -> float | None:
        """Return the mean loss of the samples trained on in this epoch; None where it is not at hand."""
        if not self._losses:
            return None
        losses = torch.cat(self._losses)
        there = ~is_no_score(losses)
        return float(losses[there].mean()) if bool(there.any()) else None


def _place(about: About) -> str:
    """Return from when a saved state is; epochs count from 1.

    >>> _place(About(epoch=2)), _place(About(epoch=2, recorded=640))
    ('from after epoch 2', 'from within epoch 3')
    """
    return f"from within epoch {about.epoch + 1}" if about.recorded else f"from after epoch {about.epoch}"


def mend(error: OSError) -> str:
    """Return what to do about a disk that refuses."""
    return "Make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "See to it"


def _metric(logged: dict[str, float], part: str) -> float | None:
    """Return the test or validation metric with the shortest name that holds ``part``; None without one."""
    named = [name for name in logged if name.startswith(("test", "val")) and part in name]
    return logged[min(named, key=lambda name: (len(name), name))] if named else None
