"""Writes each finished epoch to the run directory and to the console."""

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
from ..core.history import EpochRecord
from ..core.subsampler import Subsampler
from ..errors import DamagedData, NotWritten
from ..files.checked_json import check_kind, finite
from ..runs.directory import RunDirectory
from ..runs.epoch_file import EpochFile, other_classes
from ..runs.schema import About, SummaryRow
from ..runs.training_state import WRITER
from ..scores.base import is_no_score
from ..step_rules import StepRule
from ..tasks.console import Console, number
from .shown_samples import shown_samples
from .stopwatch import Stopwatch
from .summary import counts, epoch_row

BITS = "test_bits_per_character"
"""The name under which a language model logs its bits per character."""


class EpochWriter(Callback):
    """Writes each finished epoch to the run directory and to the console.

    Args:
        run: the run directory.
        subsampler: of the training.
        console: prints the epochs.
        step_rule: chooses rows of each batch, or None.
        by_loss: print the mean loss instead of the mean score, if the module returns per-sample losses.
        stop_on_storage_error: whether a file that cannot be written ends the training.
        thumbnails: returns pictures or texts of samples for the report, or None.
        probed: returns the number of forward passes of the epoch beside those that measured samples.

    Attributes:
        epochs: the rows of ``summary.json``, one per finished epoch.
        pending: epochs whose files could not be written yet.
        unshown: whether the pictures for the report could not be written yet.
        stopwatch: measures the epochs; it must be a callback of the trainer too.
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
        thumbnails: Callable[[NDArray[np.int64]], dict[str, Any]] | None = None,
        probed: Callable[[], int] = lambda: 0,
    ) -> None:
        self.run, self.subsampler, self.console = run, subsampler, console
        self.step_rule, self.stop_on_storage_error = step_rule, stop_on_storage_error
        self.thumbnails, self.probed = thumbnails, probed
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
        """The key of this callback in a saved state; it stays the same if the class is renamed."""
        return WRITER

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note which samples the epoch leaves out."""
        self._losses.clear()
        # Noted now: when the epoch has ended, the subsampler has decided on the next one.
        self._reason = self.subsampler.reason.numpy()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the losses, and move the progress bar."""
        if self._by_loss and "per_sample_loss" in outputs:
            self._losses.append(outputs["per_sample_loss"].detach().float())
        # Reading the loss waits for the device, so it is read for a bar only, and not in every step.
        if self.console.live and (batch_idx % 20 == 0 or batch_idx + 1 == trainer.num_training_batches):
            self.console.batch(
                trainer.current_epoch,
                self.subsampler.epochs,
                batch_idx + 1,
                int(trainer.num_training_batches),
                float(outputs["loss"]),
            )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch that the subsampler has just ended."""
        record = self.subsampler.history[-1]
        # Collective: every rank takes part.
        task_row: dict[str, Any] = getattr(pl_module, "epoch_tokens", dict)()
        if not trainer.is_global_zero:
            return
        # Metrics of an earlier epoch stay if the module does not evaluate in each.
        self._metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
        accuracy, train_accuracy = self._accuracy(), self._train_accuracy(record)
        if (bits := self._metrics.get(BITS)) is not None:
            task_row["bits_per_character"] = bits
        used_counts = counts([record], record.n, self.step_rule)
        used_counts["samples_forward_only"] += self.probed()
        metrics = {
            "accuracy": accuracy,
            "train_accuracy": train_accuracy,
            "test_loss": _metric(self._metrics, "loss"),
            **task_row,
        }
        times = {
            "seconds": self.stopwatch.seconds,
            "waiting_seconds": self.stopwatch.waiting,
            "evaluating_seconds": self.stopwatch.evaluating,
        }
        self.epochs.append(epoch_row(record, used_counts, metrics, times))
        scores = self.subsampler.scores.numpy()
        self.pending.append(EpochFile(record, scores, self._reason, other_classes(*self._classes())))
        self.write_pending()
        self.show()
        epochs, history = self.subsampler.epochs, self.subsampler.history
        used = sum(past.backward for past in history)
        # The number of samples may differ between epochs, as samples are added and removed.
        full = sum(past.n for past in history) + (epochs - len(history)) * record.n
        mean = self._mean_loss() if self._by_loss else record.mean_score
        test = _percent(accuracy) if bits is None else number(bits)
        measured = used_counts["samples_forward_only"]
        self.console.epoch(record, epochs, measured, mean, test, used / full, _percent(train_accuracy))

    def _train_accuracy(self, record: EpochRecord) -> float | None:
        """Return the accuracy on the samples trained on, each predicted in its own training step.

        None without labels, or if the module returns no predicted classes.
        """
        predicted, given = self._classes()
        if given is None:
            return None
        known = unpack(record.used_bits, record.n) & (predicted >= 0)
        return float((predicted == given)[known].mean()) if known.any() else None

    def _classes(self) -> tuple[NDArray[np.integer], NDArray[np.integer] | None]:
        """Return the predicted and the given classes as numbers, ``(N,)``, -1 if unknown; or None."""
        labels = self.subsampler.labels
        # A class id may be negative; its number is negative only if the class is missing.
        encode = self.subsampler.under_way.class_ids.encode
        predicted = encode(self.subsampler.predicted.numpy())
        return predicted, None if labels is None else encode(labels.numpy())

    def show(self, suspects: NDArray[np.int64] | None = None) -> None:
        """Write pictures of the samples that a report of the last epoch shows, and of ``suspects``."""
        history, self.unshown = self.subsampler.history, False
        if self.thumbnails is None or not history or history[-1].remaining > self.subsampler.n:
            return
        # A damaged epoch costs pictures in the report, which need not end a training.
        with suppress(DamagedData):
            file = shown_samples(self.subsampler, self._file, self.thumbnails, suspects)
            try:
                self.run.put(self.run.thumbnails_path, file.dump())
            except OSError as error:
                self.unshown = True
                self.failed(error)

    def reason_of(self, epoch: int) -> NDArray[np.uint8] | None:
        """Return the reason for each sample in a past epoch; None if its file is damaged."""
        with suppress(DamagedData):
            return self._file(epoch).reason
        return None

    def _file(self, epoch: int) -> EpochFile:
        """Return a past epoch from ``pending`` or from its file."""
        pending = [file for file in self.pending if file.record.epoch == epoch]
        return pending[0].renumbered(self.run.numbering) if pending else self.run.read_epoch(epoch)

    def write_pending(self) -> None:
        """Write the pending epochs; stop at the first that cannot be written."""
        while self.pending:
            try:
                self.run.write_epoch(self.pending[0])
            except OSError as error:
                # Later epochs wait too: a state counts its written epochs from the first, without gaps.
                self.failed(error)
                return
            self.pending.pop(0)

    def failed(self, error: OSError) -> None:
        """Warn that a file could not be written. The files that exist are unchanged.

        Raises:
            NotWritten: if ``stop_on_storage_error`` is set.
        """
        checkpoint = self.run.checkpoints.newest().found
        saved, step = "no state is saved yet", "start the run again"
        if checkpoint is not None and (checkpoint.about.epoch or checkpoint.about.recorded):
            saved = f"the last saved state is {_time_of(checkpoint.about)}"
            step = f"resume with fallow train --resume {quote(str(self.run.path))}"
        message = f"{error.filename or self.run.path} cannot be written: {error.strerror or error}; {saved}."
        if self.stop_on_storage_error:
            raise NotWritten(f"{message} {remedy(error)}, then {step}.")
        self.console.warn(
            f"Warning: {message} Training goes on; writing is tried again after the next epoch."
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the rows of the finished epochs and the files that are not written yet."""
        files = [np.frombuffer(file.dump(), np.uint8) for file in self.pending]
        return {"epochs": self.epochs, "metrics": self._metrics, "pending": files}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state."""
        # A state may hold anything, so it is checked before it is taken over.
        check_kind(list[SummaryRow], finite(state_dict["epochs"]), f"The state of {self.run.path}")
        self.epochs, self._metrics = list(state_dict["epochs"]), dict(state_dict["metrics"])
        first = len(self.epochs) - len(state_dict["pending"])
        self.pending = [
            EpochFile.parse(data.tobytes(), f"the state of {self.run.path}", epoch)
            for epoch, data in enumerate(state_dict["pending"], first)
        ]

    def _accuracy(self) -> float | None:
        """Return the accuracy that was logged; None if it is outside [0, 1], with a warning once."""
        accuracy = _metric(self._metrics, "acc")
        if accuracy is None or 0 <= accuracy <= 1:
            return accuracy
        if not self.epochs:
            self.console.warn(
                f"The accuracy that the module logs must be in [0, 1]. Found {accuracy:g}, which is not used."
            )
        return None

    def _mean_loss(self) -> float | None:
        """Return the mean loss of the samples trained on in this epoch; None if there are no losses."""
        if not self._losses:
            return None
        losses = torch.cat(self._losses)
        scored = ~is_no_score(losses)
        return float(losses[scored].mean()) if bool(scored.any()) else None


def _time_of(about: About) -> str:
    """Return when a state was saved; epochs count from 1.

    >>> _time_of(About(epoch=2)), _time_of(About(epoch=2, recorded=640))
    ('from after epoch 2', 'from within epoch 3')
    """
    return f"from within epoch {about.epoch + 1}" if about.recorded else f"from after epoch {about.epoch}"


def remedy(error: OSError) -> str:
    """Return what to do if a file cannot be written."""
    return (
        "Make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Repair the disk or its permissions"
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def _metric(logged: dict[str, float], part: str) -> float | None:
    """Return the test or validation metric with the shortest name that contains ``part``, or None."""
    names = [name for name in logged if name.startswith(("test", "val")) and part in name]
    return logged[min(names, key=lambda name: (len(name), name))] if names else None
