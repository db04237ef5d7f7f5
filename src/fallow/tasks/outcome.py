"""What a run leaves behind: a file an epoch, the summary, the samples and the chart."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from .._checks import NotWritten
from ..charts import save_usage
from ..epoch_file import EpochFile
from ..history import FORWARD_SHARE, EpochRecord, times_used
from ..plan import thin_epochs
from ..policies import RandomFraction
from ..run_directory import RunDirectory
from ..sample_table import samples_csv
from ..scores.base import is_no_score
from ..step_rules import StepRule
from ..subsampler import Subsampler
from .console import Console
from .payoff import remarks, time_saved
from .stopwatch import Stopwatch


class EpochWriter(Callback):
    """Writes each finished epoch to the run directory and tells the console.

    Args:
        run: where to write.
        subsampler: whose epochs they are.
        console: where to print.
        step_rule: which chooses rows of each batch, or None.
        relative: the scores are relative to their batch, so that their mean says nothing: the mean loss is
            shown instead, where the module returns per-sample losses.
        stop_on_storage_error: whether a file that cannot be written ends the training.

    Attributes:
        epochs: for each finished epoch what ``summary.json`` says of it.
        pending: epochs whose files could not be written yet.
        watch: where the time goes; to be made a callback too.
    """

    def __init__(
        self,
        run: RunDirectory,
        subsampler: Subsampler,
        console: Console,
        step_rule: StepRule | None = None,
        *,
        relative: bool = False,
        stop_on_storage_error: bool = False,
    ) -> None:
        self.run, self.subsampler, self.console = run, subsampler, console
        self.step_rule, self.stop_on_storage_error = step_rule, stop_on_storage_error
        self.epochs: list[dict[str, Any]] = []
        self.pending: list[EpochFile] = []
        self.watch = Stopwatch()
        self._metrics: dict[str, float] = {}
        self._reason = np.zeros(subsampler.n, np.uint8)
        self._relative = relative
        self._losses: list[Tensor] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note what is left out of the epoch."""
        self._losses.clear()
        self._reason = self.subsampler.reason.numpy()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar; the loss is only looked at where there is a bar to show it."""
        if self._relative and "per_sample_loss" in outputs:
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
        if not trainer.is_global_zero:
            return
        self._metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
        accuracy, loss = _metric(self._metrics, "acc"), _metric(self._metrics, "loss")
        counted = counts([record], record.n, self.step_rule)
        self.epochs.append(
            {
                "epoch": record.epoch,
                **counted,
                "accuracy": accuracy,
                "test_loss": loss,
                "seconds": self.watch.seconds,
                "waiting_seconds": self.watch.waiting,
                "evaluating_seconds": self.watch.evaluating,
                "record_seconds": record.record_seconds,
                **{k: v for k, v in record.aggregates().items() if k not in ("epoch", "record_seconds")},
            }
        )
        scores = self.subsampler.scores.numpy()
        self.pending.append(EpochFile(record, scores, self._reason))
        self.write_pending()
        epochs = self.subsampler.schedule.epochs
        used = sum(past.backward for past in self.subsampler.history)
        measured = counted["samples_forward_only"]
        mean = self._mean_loss() if self._relative else record.mean_score
        self.console.epoch(record, epochs, measured, mean, accuracy, used / (epochs * record.n))

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
        what = f"{self.run.path} cannot be written: {error.strerror or error}."
        if self.stop_on_storage_error:
            raise NotWritten(f"{what} Make room, then go on with fallow train --resume {self.run.path}.")
        self.console.line(f"Warning: {what} Training goes on; it is tried again after the next epoch.")

    def state_dict(self) -> dict[str, Any]:
        """Return what was said of the finished epochs, and the files that are still to be written."""
        files = [np.frombuffer(file.dump(), np.uint8) for file in self.pending]
        return {"epochs": self.epochs, "metrics": self._metrics, "pending": files}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        self.epochs, self._metrics = list(state_dict["epochs"]), dict(state_dict["metrics"])
        past = len(self.epochs) - len(state_dict["pending"])
        self.pending = [
            EpochFile.parse(data.tobytes(), f"the state of {self.run.path}", past + place)
            for place, data in enumerate(state_dict["pending"])
        ]

    def _mean_loss(self) -> float | None:
        """Return the mean loss of the samples trained on in this epoch; None where it is not at hand."""
        if not self._losses:
            return None
        losses = torch.cat(self._losses)
        there = ~is_no_score(losses)
        return float(losses[there].mean()) if bool(there.any()) else None


def _metric(logged: dict[str, float], part: str) -> float | None:
    """Return the first test or validation metric whose name holds ``part``; None where none is logged."""
    found = next((n for n in sorted(logged) if n.startswith(("test", "val")) and part in n), None)
    return None if found is None else logged[found]


def samples_evaluated(trainer: Trainer) -> int | None:
    """Return how many test or validation samples one evaluation goes through; None where nobody knows."""
    loaders = trainer.val_dataloaders
    try:
        return len(loaders.dataset) or None  # type: ignore[union-attr]
    except (AttributeError, TypeError):
        return None


def counts(history: list[EpochRecord], full: int, step_rule: StepRule | None) -> dict[str, Any]:
    """Return how many samples were used, of ``full``, and which share of them that saved.

    A step rule measures every row of a batch by a forward pass of its own, those that it then trains on too.
    """
    backward = sum(record.backward for record in history)
    forward = sum(record.forward_only for record in history)
    return {
        "samples_backward": backward,
        "samples_forward_only": forward if step_rule is None else forward + backward,
        "samples_full": full,
        "saved_fraction": 1 - backward / full,
    }


def finish(
    run: RunDirectory,
    subsampler: Subsampler,
    classes: tuple[str, ...] | None,
    writer: EpochWriter,
    more: dict[str, Any],
    console: Console,
) -> dict[str, Any]:
    """Write the summary, the samples and the chart; print the table; return the summary.

    Args:
        run: where to write.
        subsampler: after its last epoch.
        classes: names of the classes, or None.
        writer: of the epochs.
        more: what else the summary says: seconds, steps, accuracy by class.
        console: where to print.
    """
    history = subsampler.history
    last = writer.epochs[-1]
    nats = subsampler.score is None or subsampler.score.unit == "nats"
    summary = {
        "accuracy": last["accuracy"],
        "test_loss": last["test_loss"],
        "perplexity": None if last["test_loss"] is None else math.exp(min(last["test_loss"], 700.0)),
        **counts(history, sum(record.n for record in history), writer.step_rule),
        **more,
        "record_seconds": subsampler.record_seconds,
        "time_saved_fraction": time_saved(writer.epochs),
        "policy": repr(subsampler.policy),
        "step_rule": None if writer.step_rule is None else repr(writer.step_rule),
        "schedule": repr(subsampler.schedule),
        "score": repr(subsampler.score),
        "seed": subsampler.seed,
        "epochs": writer.epochs,
    }
    policy = subsampler.policy
    full = isinstance(policy, RandomFraction) and policy.fraction == 0 and writer.step_rule is None
    labels = subsampler.labels
    told = labels is None or bool((subsampler.predicted >= 0).any())
    summary["remarks"] = remarks(
        summary,
        rule=not full,
        thin=thin_epochs(policy, subsampler.schedule),
        min_kept=subsampler.min_kept,
        unpredicted=policy.reads_predictions and not told,
    )
    run.write_summary(summary)
    names = None if labels is None or classes is None else [classes[i] for i in labels.tolist()]
    scores, reason = subsampler.scores.numpy(), subsampler.reason.numpy()
    table = samples_csv(names, scores, reason, times_used(history), nats=nats)
    run.write_text(run.samples_path, table)
    charts = save_usage(history, run.path, labels=None if names is None else np.asarray(names))
    console.table(_rows(summary))
    console.line()
    for remark in summary["remarks"]:
        console.line(remark)
    console.line(f"Run directory: {run.path}")
    console.line(f"Chart:         {charts[0]}")
    return summary


def _rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what the table at the end says."""
    backward, forward, full = (
        summary[name] for name in ("samples_backward", "samples_forward_only", "samples_full")
    )
    cost = 1 - (backward + FORWARD_SHARE * forward) / full
    rows = []
    part = summary["evaluated_on"].capitalize()
    if summary["accuracy"] is not None:
        rows.append((f"{part} accuracy", f"{summary['accuracy']:.2%}"))
    if summary["perplexity"] is not None:
        rows.append(
            (f"{part} perplexity", f"{summary['perplexity']:.4f}  (exp of {summary['test_loss']:.4f} nats)")
        )
    rows += [
        ("Samples", f"{backward:,} trained on, {forward:,} measured, of {full:,} in full training"),
        ("Saved", f"{summary['saved_fraction']:.1%} of the samples; {cost:.1%} with measuring at a third"),
    ]
    outliers = summary["epochs"][-1]["outliers"]
    if outliers:
        rows.append(("Outliers", f"{outliers:,} samples look mislabelled: reason outlier in samples.csv"))
    rows += [
        ("Time", f"{summary['seconds']:.1f} s, {summary['record_seconds']:.2f} s of it recording scores"),
    ]
    return rows
