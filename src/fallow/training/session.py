"""One session of a training: from its first step here to the files that are left behind."""

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
from .epoch_writer import EpochWriter, mend
from .jobs import Job
from .resume import Restored, taking_over
from .resume_checks import uses_all_weights
from .settings import evaluated_on, opening, settings_of
from .summary import finish
from .trackers import EpochScalars
from .trainer import fit, make_trainer


class Stopped(KeyboardInterrupt):
    """A training was told to stop.

    Attributes:
        signal: the number of the signal that said so.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = number


class Session:
    """Trains a job from its start, or from where it was stopped.

    Args:
        options: of this session, with all that was chosen.
        job: what is trained; where it goes on, with the state in its subsampler.
        run: where everything is written.
        console: where to print.
        restored: what it goes on from.

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
        watch = SubsamplingCallback(job.subsampler, score, monitor=job.monitor)
        if job.datamodule is None and job.classes is not None:  # with data of their own some count others
            watch.classes = len(job.classes)
        self.writer = EpochWriter(
            run,
            job.subsampler,
            console,
            self.step_rule,
            by_loss=isinstance(job.score, RelativeToBatch) or job.monitor is not None,
            stop_on_storage_error=options.on_storage_error == "stop",
            looks=job.shown,
            probed=lambda: watch.probed,
        )
        unit = "" if job.subsampler.score is None else job.subsampler.score.unit
        about = About(options=plain(options), defaults=options.noted, score_unit=unit)
        whole = uses_all_weights(job, options.model)
        self.checkpointer = Checkpointer(
            run, job.subsampler, self.writer, about, options.save_steps, whole=whole
        )
        watch.before_batch = self.checkpointer.before_batch
        scalars = EpochScalars(self.writer, plain(options))
        callbacks = [watch, self.writer.stopwatch, self.writer, scalars, self.checkpointer]
        loaded = None if self.restored.state is None else self.restored.state.tree
        self.trainer: Trainer = make_trainer(
            options, run, callbacks, StateIO(self.checkpointer, loaded), console.line
        )
        check_launched(self.trainer.world_size)

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that is set, with the defaults."""
        return settings_of(self.options, self.job, self.trainer)

    def _settings_at_the_end(self) -> dict[str, Any]:
        """Return the settings with the count of an own data module's test samples, known by now."""
        name, found = f"{evaluated_on(self.options, self.job)}_samples", self.settings
        return found | {name: self.checkpointer.evaluated if found[name] is None else found[name]}

    @property
    def finished(self) -> bool:
        """Whether all epochs were done before."""
        subsampler = self.job.subsampler
        return self.restored.state is not None and subsampler.epoch >= subsampler.schedule.epochs

    def train(self) -> dict[str, Any]:
        """Train to the end, and write what a run leaves behind, after Ctrl-C too; return the summary.

        Raises:
            Stopped: where a signal ended it.
            NotWritten: where something could not be written.
        """
        stopped: int | None = None
        if self.finished:
            self._put_back()
        else:
            stopped = self._fit()
        checkpointer = self.checkpointer
        more = {
            "finished": stopped is None and self.job.subsampler.epoch >= self.job.subsampler.schedule.epochs,
            "seconds": checkpointer.seconds,
            "cpu_seconds": checkpointer.cpu_seconds,
            "steps": checkpointer.steps,
            "evaluated_on": evaluated_on(self.options, self.job),
            "guessing": _guessing(self.job),
            "samples_evaluated": checkpointer.evaluated,
            "data_remarks": [*self.job.notes, *self.job.remarks],
            "settings": self._settings_at_the_end(),
            **_class_accuracy(self.job),
            **_density(self.job),
        }
        summary: dict[str, Any] = {}
        if self.trainer.is_global_zero and self.writer.epochs:
            try:
                summary = self._leave(more)
            except KeyboardInterrupt:
                self._say_how_to_go_on()
                raise
        if stopped is not None:
            if launched_rank():
                return summary  # at another exit code Lightning would kill the first process as it writes
            self._say_how_to_go_on()
            raise Stopped(stopped)
        return summary

    def _fit(self) -> int | None:
        """Train; return the signal that ended it, or None at its end."""
        if self.restored.checkpoint is not None:
            self._say_where_it_goes_on()
        self.console.begin(
            self.job.subsampler, len(self.job.train), self.options, opening(self.settings, str(self.run.path))
        )
        state = None if self.restored.state is None else self.checkpointer.next_path
        self.restored = replace(self.restored, state=None)
        try:
            fit(self.trainer, self.job, state)
        except Exception as error:
            first = error.__context__
            if isinstance(first, FallowError) and not isinstance(error, FallowError):
                raise first from None  # then Lightning's clean-up failed, too
            if (known := known_error(self.options.model, error)) is not None:
                raise known from error
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
            if not isinstance(cause, KeyboardInterrupt):  # so Lightning ends a training on Ctrl-C
                raise exit_error(self._own(), error) from error
            return self.checkpointer.stopped or int(getattr(cause, "signal", signal.SIGINT))
        finally:
            self.console.end()
        return None

    def _own(self) -> str:
        """Return the name of the user's own code in this training."""
        options = self.options
        own = [n for n in (options.model, options.data, options.density) if is_import_path(n)]
        return " or ".join(own) or "The code of this training"

    def _put_back(self) -> None:
        """Take over the state of a training that has ended, to write what it leaves behind."""
        state, checkpoint = self.restored.state, self.restored.checkpoint
        assert state is not None
        assert checkpoint is not None
        with taking_over(self.run.checkpoints.state_path(checkpoint.number)):
            self.writer.load_state_dict(state.callbacks[WRITER])
            self.checkpointer.load_state_dict(state.callbacks[CHECKPOINTER])
            self.job.module.on_load_checkpoint(state.tree)
            self.job.module.load_state_dict(state.weights)
        self.console.line(f"{self.run.path} has finished: there is nothing left to train.")

    def _leave(self, more: dict[str, Any]) -> dict[str, Any]:
        """Write weights, summary, table, chart and, at the end of all, the checksums."""
        try:
            self.run.unseal()
            self.writer.write_pending()
            self.checkpointer.write_pending()
            self.writer.show()
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
            what = f"{error.filename or self.run.path} cannot be written: {error.strerror or error}."
            raise NotWritten(
                f"{what} The run is not complete. {self._how_to_complete(mend(error))}"
            ) from None
        if self.writer.pending or self.writer.unshown:
            epochs = ", ".join(str(file.record.epoch + 1) for file in self.writer.pending)
            lacks = (
                f"the files of epochs {epochs} (counted from 1)" if epochs else "the pictures for its report"
            )
            raise NotWritten(
                f"{self.run.path} lacks {lacks}, which could not be written. {self._how_to_complete()}"
            )
        return summary

    def _how_to_complete(self, first: str = "Make room") -> str:
        """Return what to do where the disk refused, and what that will train again."""
        found = self.run.checkpoints.newest().found
        epochs, done = len(self.writer.epochs), 0 if found is None else found.about.epoch
        again = (
            "nothing is trained again"
            if done == epochs
            else f"epochs {done + 1} to {epochs} are trained again"
        )
        words = repeated_options(plain(self.options))
        if found is None:
            return f"{first}, then begin the run anew: no state of it could be saved."
        return f"{first}, then call fallow train --resume {quote(str(self.run.path))}{words}: {again}."

    def _say_where_it_goes_on(self) -> None:
        checkpoint = self.restored.checkpoint
        assert checkpoint is not None
        about = checkpoint.about
        inside = f", after {about.recorded:,} of its {about.planned:,} samples" if about.recorded else ""
        epochs = self.job.subsampler.schedule.epochs
        self.console.line(
            f"Going on in epoch {about.epoch + 1} of {epochs}{inside} (state {checkpoint.number})."
        )

    def _say_how_to_go_on(self) -> None:
        if self.run.checkpoints.numbers():
            again = repeated_options(plain(self.options))
            self.console.line(f"Go on with: fallow train --resume {quote(str(self.run.path))}{again}")


def _class_accuracy(job: Job) -> dict[str, Any]:
    """Return the accuracy of each class and the lowest of them, where the module counts classes."""
    counted = getattr(job.module, "class_accuracy", None)
    shares = counted.shares() if isinstance(counted, ClassAccuracy) and job.classes is not None else []
    there = [share for share in shares if share is not None]
    names = job.classes if job.classes and len(job.classes) == len(shares) else map(str, range(len(shares)))
    return {
        "worst_class_accuracy": min(there, default=None),
        "accuracy_by_class": dict(zip(names, shares, strict=True)) if shares else None,
    }


def _guessing(job: Job) -> dict[str, float | None]:
    """Return the accuracy and the loss, as they are evaluated, of a network that knows nothing.

    A classifier names the most frequent class of the evaluated samples, or gives all classes the same
    probability; a language model all tokens; an autoencoder paints the mean of pixels with a variance of 1.
    """
    accuracy, loss, module = None, None, job.module
    if isinstance(module, Classifier) and module.class_accuracy.counts is not None:
        every = module.class_accuracy.counts[1]
        accuracy, loss = float(every.max() / every.sum()), math.log(len(every))
    elif isinstance(module, LanguageModelTask):
        head = getattr(module.network, "head", None)
        loss = math.log(head.out_features) if isinstance(head, nn.Linear) else None
    elif isinstance(module, AutoencoderTask):
        loss = 1.0
    return {"accuracy": accuracy, "loss": loss}


def _density(job: Job) -> dict[str, Any]:
    """Return whether the density may remove samples, and what tells, where samples are scored by one."""
    if (watch := job.monitor) is None:
        return {}
    told = {"ready": watch.ready, "fits": watch.refreshes, "stability": watch.stability}
    return {"density": told | {"agreement": watch.agreement}}


def _save_weights(module: LightningModule, run: RunDirectory) -> None:
    """Write ``model.safetensors``: the network's weights, on the host."""
    network = module.network if isinstance(module, TaskModule) else module
    weights = {k: v.detach().cpu().contiguous().clone() for k, v in network.state_dict().items()}
    run.put(run.model_path, save(weights))
