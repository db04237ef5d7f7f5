"""One session of a training: train or resume, and write the results."""

from __future__ import annotations

import math
import signal
from dataclasses import replace
from shlex import quote
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from safetensors.torch import save
from torch import nn

from ..errors import FallowError, NotWritten
from ..files.state_file import dump
from ..integrations.lightning import SubsamplingCallback
from ..options.naming import repeated_options
from ..options.own_classes import is_import_path
from ..options.own_errors import ENDINGS, exit_error, known_error
from ..options.resolve import ResolvedOptions
from ..options.resume_options import plain
from ..runs.checkpoints import Checkpoint
from ..runs.directory import RunDirectory
from ..runs.schema import About
from ..runs.training_state import CHECKPOINTER, WRITER
from ..scores import RelativeToBatch
from ..tasks.autoencoder import AutoencoderTask
from ..tasks.base import TaskModule
from ..tasks.class_accuracy import ClassAccuracy
from ..tasks.classifier import Classifier
from ..tasks.console import Console
from ..tasks.language_model import LanguageModelTask
from ..tasks.launched import check_launched, launched_rank
from .checkpointing import Checkpointer, StateIO, TrainingStopped
from .epoch_writer import EpochWriter, remedy
from .jobs import Job
from .resume import Restored, taking_over
from .resume_checks import uses_all_weights
from .settings import evaluated_on, opening, settings_of
from .shown_samples import shown_suspects
from .stopping import NothingLeft
from .summary import finish
from .trackers import EpochScalars
from .trainer import fit, make_trainer
from .unreadable import UnreadableImages


class Stopped(KeyboardInterrupt):
    """A signal stopped the training.

    Attributes:
        signal: the number of the signal.
        summary: of the epochs that were finished, as :func:`fallow.training.train.train` returns it.
    """

    def __init__(self, number: int, summary: dict[str, Any]) -> None:
        super().__init__()
        self.signal, self.summary = number, summary


class Session:
    """Trains a job from the start, or resumes it.

    Args:
        options: the resolved options of this session.
        job: the objects of the training. In a resumed run, its subsampler holds the state.
        run: the run directory.
        console: prints the progress and the results.
        restored: the state to resume from.

    Attributes:
        checkpointer: saves the state.
    """

    def __init__(
        self,
        options: ResolvedOptions,
        job: Job,
        run: RunDirectory,
        console: Console,
        restored: Restored | None = None,
    ) -> None:
        self.options, self.job, self.run, self.console = options, job, run, console
        self.restored = restored or Restored()
        self.step_rule = job.module.step_rule if isinstance(job.module, Classifier) else None
        score = None if job.monitor else job.score
        subsampling = SubsamplingCallback(job.subsampler, score, monitor=job.monitor)
        # With a user's own data, the module may predict other classes than the labels show.
        if job.datamodule is None and job.classes is not None:
            subsampling.classes = len(job.classes)
        self.writer = EpochWriter(
            run,
            job.subsampler,
            console,
            self.step_rule,
            # Scores relative to a batch, and percentiles, have a mean that does not show any progress.
            by_loss=isinstance(job.score, RelativeToBatch) or job.monitor is not None,
            stop_on_storage_error=options.on_storage_error == "stop",
            thumbnails=job.shown,
            probed=lambda: subsampling.probed,
        )
        unit = "" if job.subsampler.score is None else job.subsampler.score.unit
        about = About(options=plain(options), defaults=options.noted, score_unit=unit)
        whole = uses_all_weights(job, options.model)
        self.checkpointer = Checkpointer(
            run, job.subsampler, self.writer, about, options.save_steps, whole=whole
        )
        subsampling.before_batch = self.checkpointer.before_batch
        self.nothing_left = NothingLeft(
            job.subsampler,
            lambda: self.writer.epochs,
            console.line,
            stop=options.stop == "auto",
            held_out=options.validation is not None,
            in_nats=unit == "nats",
        )
        scalars = EpochScalars(self.writer, plain(options))
        unreadable = UnreadableImages.of(job, console.warn)
        # Lightning calls them in this order: an epoch ends, is written, and only then logged.
        callbacks = [subsampling, *unreadable, self.writer.stopwatch, self.writer, self.nothing_left, scalars]
        callbacks.append(self.checkpointer)
        loaded = None if self.restored.state is None else self.restored.state.tree
        self.trainer: Trainer = make_trainer(
            options, run, callbacks, StateIO(self.checkpointer, loaded), console.warn
        )
        # Only the trainer knows how many processes train together.
        check_launched(self.trainer.world_size)

    @property
    def settings(self) -> dict[str, Any]:
        """All settings, with the defaults."""
        return settings_of(self.options, self.job, self.trainer)

    def _final_settings(self) -> dict[str, Any]:
        """Return the settings with the number of test samples, which a data module shows only in training."""
        name, settings = f"{evaluated_on(self.options, self.job)}_samples", self.settings
        return settings | {name: self.checkpointer.evaluated if settings[name] is None else settings[name]}

    @property
    def finished(self) -> bool:
        """Whether an earlier session finished the last epoch."""
        subsampler = self.job.subsampler
        return self.restored.state is not None and subsampler.epoch >= subsampler.epochs

    def train(self) -> dict[str, Any]:
        """Train to the end, write the results, after a signal too, and return the summary with the path.

        Raises:
            Stopped: if a signal ended the training.
            NotWritten: if a file could not be written.
        """
        stopped: int | None = None
        if self.finished:
            self._load_finished()
        else:
            stopped = self._fit()
        checkpointer = self.checkpointer
        more = {
            "finished": stopped is None and self.job.subsampler.epoch >= self.job.subsampler.epochs,
            "seconds": checkpointer.seconds,
            "cpu_seconds": checkpointer.cpu_seconds,
            "steps": checkpointer.steps,
            "nothing_left": self.nothing_left.reason,
            "stopped_early": self.job.subsampler.epochs < self.job.subsampler.schedule.epochs,
            "evaluated_on": evaluated_on(self.options, self.job),
            "guessing": _guessing(self.job),
            "samples_evaluated": checkpointer.evaluated,
            "data_remarks": [*self.job.notes, *self.job.remarks],
            "settings": self._final_settings(),
            **_class_accuracy(self.job),
            **_density(self.job),
        }
        summary: dict[str, Any] = {"finished": more["finished"]}
        # Without a finished epoch there are no results.
        if self.trainer.is_global_zero and self.writer.epochs:
            try:
                summary = self._write_results(more)
            except KeyboardInterrupt:
                self._print_resume_command()
                raise
        summary = {"run": str(self.run.path), **summary}
        if stopped is not None:
            if launched_rank():
                return summary  # on another exit code Lightning would kill the first process as it writes
            self._print_resume_command()
            raise Stopped(stopped, summary)
        return summary

    def _fit(self) -> int | None:
        """Train; return the signal that ended it, or None."""
        if self.restored.checkpoint is not None:
            self._print_position(self.restored.checkpoint)
        self.console.begin(
            self.job.subsampler, len(self.job.train), self.options, opening(self.settings, str(self.run.path))
        )
        # Lightning wants a path; for this one StateIO returns the state that is already in memory.
        state = None if self.restored.state is None else self.checkpointer.next_path
        self.restored = replace(self.restored, state=None)  # so that its memory is freed once it is loaded
        try:
            fit(self.trainer, self.job, state)
        except Exception as error:
            first = error.__context__
            if isinstance(first, FallowError) and not isinstance(error, FallowError):
                raise first from None  # Lightning's clean-up failed too and hides the first error
            if (known := known_error(self.options.model, error)) is not None:
                raise known from error
            # Once a batch has been trained on, the loaded state is not the cause.
            if state is None or self.checkpointer.begun:
                raise
            checkpoint = self.restored.checkpoint
            assert checkpoint is not None
            with taking_over(self.run.checkpoints.state_path(checkpoint.number)):
                raise error
        except TrainingStopped:
            return self.checkpointer.stopped
        except ENDINGS as error:
            cause = error.__context__
            # On Ctrl-C, Lightning calls exit(1) while it handles the KeyboardInterrupt.
            if not isinstance(cause, KeyboardInterrupt):
                raise exit_error(self._user_code(), error) from error
            return self.checkpointer.stopped or int(getattr(cause, "signal", signal.SIGINT))
        finally:
            self.console.end()
        return None

    def _user_code(self) -> str:
        options = self.options
        paths = [n for n in (options.model, options.data, options.density) if is_import_path(n)]
        return " or ".join(paths) or "The code of this training"

    def _load_finished(self) -> None:
        """Load the state of a finished training, to write its results again."""
        state, checkpoint = self.restored.state, self.restored.checkpoint
        assert state is not None
        assert checkpoint is not None
        with taking_over(self.run.checkpoints.state_path(checkpoint.number)):
            self.writer.load_state_dict(state.callbacks[WRITER])
            self.checkpointer.load_state_dict(state.callbacks[CHECKPOINTER])
            self.nothing_left.load_state_dict({"reason": state.nothing_left})
            self.job.module.on_load_checkpoint(state.tree)
            self.job.module.load_state_dict(state.weights)
        self.console.line(f"{self.run.path} has finished: there is nothing left to train.")

    def _write_results(self, more: dict[str, Any]) -> dict[str, Any]:
        """Write weights, summary, table, chart and, last, the checksums."""
        try:
            self.run.unseal()  # the checksums do not hold while files change
            self.writer.write_pending()
            self.checkpointer.write_pending()
            self.writer.show(shown_suspects(self.run))
            more["finished"] = more["finished"] and not (self.writer.pending or self.writer.unshown)
            _save_weights(self.job.module, self.run)
            if self.job.monitor is not None:
                self.run.put(self.run.density_path, dump(self.job.monitor.state_dict(local=True)))
            summary = finish(
                self.run,
                self.job.subsampler,
                self.job.data,
                self.writer.epochs,
                self.step_rule,
                more,
                self.console,
                self.writer.reason_of,
                loss_in_nats=isinstance(self.job.module, Classifier | LanguageModelTask),
                own=not isinstance(self.job.module, TaskModule),
            )
            if more["finished"]:
                self.run.seal()
        except OSError as error:
            message = f"{error.filename or self.run.path} cannot be written: {error.strerror or error}."
            step = self._how_to_complete(remedy(error))
            raise NotWritten(f"{message} The run is incomplete. {step}") from None
        if self.writer.pending or self.writer.unshown:
            epochs = ", ".join(str(file.record.epoch + 1) for file in self.writer.pending)
            missing = f"files of epochs {epochs} (counted from 1)" if epochs else "pictures for the report"
            message = f"{self.run.path} is incomplete: the {missing} could not be written."
            raise NotWritten(f"{message} {self._how_to_complete()}")
        return summary

    def _how_to_complete(self, first: str = "Make room") -> str:
        """Return the next step after a file could not be written, and which epochs it trains again."""
        checkpoint = self.run.checkpoints.newest().found
        if checkpoint is None:
            return f"{first}, then start the run again: no state of it could be saved."
        done, epochs = checkpoint.about.epoch, len(self.writer.epochs)
        cost = f"epochs {done + 1} to {epochs} are trained again"
        if done == epochs:
            cost = "nothing is trained again"
        return f"{first}, then call {self._resume_command()}: {cost}."

    def _resume_command(self) -> str:
        return f"fallow train --resume {quote(str(self.run.path))}{repeated_options(plain(self.options))}"

    def _print_position(self, checkpoint: Checkpoint) -> None:
        about, epochs = checkpoint.about, self.job.subsampler.epochs
        inside = f", after {about.recorded:,} of its {about.planned:,} samples" if about.recorded else ""
        self.console.line(
            f"Resuming in epoch {about.epoch + 1} of {epochs}{inside} (state {checkpoint.number})."
        )

    def _print_resume_command(self) -> None:
        if self.run.checkpoints.numbers():
            self.console.line(f"Resume with: {self._resume_command()}")


def _class_accuracy(job: Job) -> dict[str, Any]:
    """Return the accuracy of each class and the lowest of them, if the module counts classes."""
    counts = getattr(job.module, "class_accuracy", None)
    shares = counts.shares() if isinstance(counts, ClassAccuracy) and job.classes is not None else []
    names = job.classes if job.classes and len(job.classes) == len(shares) else map(str, range(len(shares)))
    return {
        "worst_class_accuracy": min((share for share in shares if share is not None), default=None),
        "accuracy_by_class": dict(zip(names, shares, strict=True)) if shares else None,
    }


def _guessing(job: Job) -> dict[str, float | None]:
    """Return the test accuracy and the test loss of guessing.

    A classifier guesses the most frequent class of the test samples, or gives all classes the same
    probability; a language model does so for tokens; an autoencoder paints mean pixels with a variance of 1.
    """
    accuracy, loss, module = None, None, job.module
    if isinstance(module, Classifier) and module.class_accuracy.counts is not None:
        class_sizes = module.class_accuracy.counts[1]
        accuracy, loss = float(class_sizes.max() / class_sizes.sum()), math.log(len(class_sizes))
    elif isinstance(module, LanguageModelTask):
        # Without a linear head the size of the vocabulary is unknown.
        head = getattr(module.network, "head", None)
        loss = math.log(head.out_features) if isinstance(head, nn.Linear) else None
    elif isinstance(module, AutoencoderTask):
        loss = 1.0
    return {"accuracy": accuracy, "loss": loss}


def _density(job: Job) -> dict[str, Any]:
    """Return whether the density may remove samples, and the agreement that this depends on."""
    if (monitor := job.monitor) is None:
        return {}
    entries = {"ready": monitor.ready, "fits": monitor.refreshes, "stability": monitor.stability}
    return {"density": entries | {"agreement": monitor.agreement}}


def _save_weights(module: LightningModule, run: RunDirectory) -> None:
    """Write the weights of the network to ``model.safetensors``."""
    network = module.network if isinstance(module, TaskModule) else module
    # safetensors refuses tensors that share memory, such as tied weights.
    weights = {k: v.detach().cpu().contiguous().clone() for k, v in network.state_dict().items()}
    run.put(run.model_path, save(weights))
