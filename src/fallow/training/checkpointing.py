"""Saves the state of a training in its run directory, so that it resumes exactly where it stopped."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from msgspec import structs

from ..arrays.distributed import any_rank, gather_rows, rank_and_size
from ..arrays.generators import generator_states, put_back
from ..core.subsampler import Subsampler
from ..errors import wrong_state
from ..files.disk import Digest
from ..files.state_file import dump, parse
from ..runs.directory import RunDirectory
from ..runs.schema import About
from ..runs.training_state import CHECKPOINTER, TrainingState
from .epoch_writer import EpochWriter
from .resume_checks import check_optimizers

NEXT = "state/next"
"""The path that stands for the next checkpoint in calls of Lightning."""
_ASK_EVERY = 32
"""Steps between two checks if any of several ranks received a signal: each is a collective call."""


class TrainingStopped(BaseException):
    """Ends the training on each rank once the state is saved.

    On a KeyboardInterrupt, Lightning would kill the processes of the other ranks.
    """


class StateIO(TorchCheckpointIO):
    """Writes and reads the checkpoints of a run. Lightning's own checkpoints are written, but never read.

    Args:
        checkpointer: writes the checkpoints.
        loaded: the state to resume from, or None.
    """

    def __init__(self, checkpointer: Checkpointer, loaded: dict[str, Any] | None = None) -> None:
        self.checkpointer, self.loaded = checkpointer, loaded

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write the next checkpoint of the run, or one of Lightning's."""
        if Path(path) == self.checkpointer.next_path:
            self.checkpointer.write(checkpoint)
        else:
            super().save_checkpoint(checkpoint, path, storage_options)

    def load_checkpoint(self, path: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Return the state to resume from.

        Raises:
            WrongState: for any other file.
        """
        if Path(path) == self.checkpointer.next_path and self.loaded is not None:
            loaded, self.loaded = self.loaded, None  # a large network need not lie in memory twice
            return loaded
        # Lightning looks for checkpoints by itself (hpc_ckpt_1.ckpt under Slurm), and would unpickle them.
        raise wrong_state(
            f"{path} is not a checkpoint of fallow; it was not read.", "Move it out of the run."
        )


class Checkpointer(Callback):
    """Saves the state before each epoch, every ``every`` steps, after a signal, and at the end.

    It saves when the next batch has been fetched and not yet used. By then the step before is complete,
    with the hooks of other callbacks and of the module, and the schedule of the learning rate.
    A dataset draws by the batch, so fetching the batch again gives the same samples.

    Args:
        run: the run directory.
        subsampler: of the training.
        writer: its rows are part of the state.
        about: the options of the run, for the manifest.
        every: the number of steps between two checkpoints, or None for one per epoch.
        whole: whether the network uses all its weights in each step.

    Attributes:
        begun: whether this session has trained on a batch.
        stopped: the signal that ended the training, or None.
        seconds: wall-clock seconds of all sessions.
        cpu_seconds: processor seconds of this process in all sessions.
        steps: the number of optimizer steps.
        evaluated: the number of samples in one evaluation, or None.
    """

    def __init__(
        self,
        run: RunDirectory,
        subsampler: Subsampler,
        writer: EpochWriter,
        about: About,
        every: int | None = None,
        *,
        whole: bool = False,
    ) -> None:
        self.run, self.subsampler, self.writer, self.about, self.every = run, subsampler, writer, about, every
        self.whole = whole
        self.next_path = run.path / NEXT
        self.begun = False
        self.stopped: int | None = None
        self.steps = 0
        self.evaluated: int | None = None
        self._earlier_seconds = (0.0, 0.0)
        self._started = (time.perf_counter(), time.process_time())
        self._signal: int | None = None
        self._saved_at = -1
        self._generators: dict[str, Any] | None = None
        self._last_step: dict[str, Any] | None = None
        self._handlers: dict[int, Any] = {}
        self._unwritten: tuple[bytes, About, dict[str, Digest]] | None = None
        self._loaded: dict[str, Any] | None = None

    @property
    def state_key(self) -> str:
        """The key of this callback in a saved state; it stays the same if the class is renamed."""
        return CHECKPOINTER

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of all sessions."""
        return self._earlier_seconds[0] + time.perf_counter() - self._started[0]

    @property
    def cpu_seconds(self) -> float:
        """Processor seconds of this process in all sessions."""
        return self._earlier_seconds[1] + time.process_time() - self._started[1]

    def before_batch(self, trainer: Trainer) -> None:
        """Save if a checkpoint is due; end the training if a signal asked for it.

        Raises:
            TrainingStopped: if a signal ends the training.
        """
        # As late as this, since building the loader and fetching a batch have drawn numbers.
        if not self.begun and self._generators is not None:
            put_back(self._generators)
        self.steps = trainer.global_step
        batch = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        stop = self._stop(trainer)
        # Accumulated gradients are not in the state, so wait until the optimizer has used them.
        if batch % trainer.accumulate_grad_batches:
            return
        due = self.every is not None and self.steps - self._saved_at >= self.every
        # Elsewhere a stop loses the epoch so far rather than resuming it inexactly.
        if batch == 0 or ((due or stop) and _exact_inside(trainer)):
            self.save(trainer)
        self.begun = True
        if stop:
            self.stopped = stop
            raise TrainingStopped

    def save(self, trainer: Trainer) -> None:
        """Write a checkpoint; all ranks call it."""
        self.evaluated = samples_evaluated(trainer) or self.evaluated
        self.steps = self._saved_at = trainer.global_step
        trainer.save_checkpoint(self.next_path)

    def write(self, checkpoint: dict[str, Any]) -> None:
        """Write the state that Lightning collected; called on the first rank only."""
        state = TrainingState.collected(checkpoint)
        about = structs.replace(
            self.about,
            data=self.run.data_name,
            epoch=self.subsampler.epoch,
            epochs=self.subsampler.epochs,
            recorded=state.recorded,
            planned=int(self.subsampler.kept.sum()),
            steps=self.steps,
            seconds=round(self.seconds, 3),
        )
        written = len(self.subsampler.history) - len(self.writer.pending)
        # Bytes, since the state itself changes as the training goes on.
        self._unwritten = (state.dump(), about, self.run.needed(written))
        try:
            self.write_pending()
        except OSError as error:  # a full disk need not end the training; it is tried again at the end
            self.writer.failed(error)

    def write_pending(self) -> None:
        """Write the last state if it could not be written before.

        Raises:
            OSError: if it still cannot be written.
        """
        if self._unwritten is not None:
            self.run.checkpoints.write(*self._unwritten)
            self._unwritten = None

    def state_dict(self) -> dict[str, Any]:
        """Return the random generators of every rank, times and counts; collective with several ranks."""
        # A bytearray, since torch warns of an array that it must not write to.
        states = np.frombuffer(bytearray(dump(generator_states())), np.uint8)
        return {
            "generators": [part for (part,) in gather_rows(states)],
            "seconds": (self.seconds, self.cpu_seconds),
            "record_seconds": [record.record_seconds for record in self.subsampler.history],
            "steps": self.steps,
            "evaluated": self.evaluated,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; the generators are set before the first batch."""
        states = state_dict["generators"]
        rank, _ = rank_and_size()
        # A run may be resumed with another number of ranks.
        self._generators = parse(states[rank % len(states)].tobytes(), "the generators of a state")
        wall, processor = state_dict["seconds"]
        self._earlier_seconds = float(wall), float(processor)
        self._started = (time.perf_counter(), time.process_time())
        self.steps, self.evaluated = state_dict["steps"], state_dict["evaluated"]
        self._saved_at = self.steps

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the checkpoint until the optimizers exist."""
        self._loaded = checkpoint

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the state of the optimizers before Lightning loads it."""
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            check_optimizers(trainer, loaded, f"The state of {self.run.path}", whole=self.whole)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Handle signals: the first ends the training after a whole step, once the state is saved."""
        if threading.current_thread() is threading.main_thread():  # Python sets handlers nowhere else
            for number in (signal.SIGINT, signal.SIGTERM):
                # A shell starts background jobs with SIGINT ignored, and that should stay.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            self.stopped = number
            raise KeyboardInterrupt
        self._signal = number
        if rank_and_size()[0] == 0:
            # print() may raise if the signal interrupts another print(); a write to the file does not.
            os.write(2, b"\nfallow: stopping after this step; a second signal stops at once.\n")

    def _stop(self, trainer: Trainer) -> int | None:
        """Return the signal that asked to stop, the same on all ranks."""
        if trainer.world_size == 1:
            return self._signal
        if trainer.global_step % _ASK_EVERY:
            return None
        return any_rank(self._signal or 0) or None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the generators before a possible evaluation."""
        if trainer.is_last_batch:
            self._last_step = generator_states()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the generators back."""
        # After a resume, an evaluation draws other numbers than in a run that was never stopped.
        if self._last_step is not None and trainer.state.fn == "fit":
            put_back(self._last_step)
            self._last_step = None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the state of the finished training."""
        if self.subsampler.epoch >= self.subsampler.epochs:
            self.save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the signal handlers."""
        self._restore_handlers()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the signal handlers."""
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()


def samples_evaluated(trainer: Trainer) -> int | None:
    """Return the number of samples in one evaluation; None if it is unknown."""
    try:
        # There may be no loader, several of them, or an iterable dataset without a length.
        return len(trainer.val_dataloaders.dataset) or None  # type: ignore[union-attr]
    except (AttributeError, TypeError):
        return None


def _exact_inside(trainer: Trainer) -> bool:
    """Return whether a training resumes exactly from inside an epoch."""
    # Lightning counts the batches from 0 again after a resume. That moves evaluations inside the epoch,
    # learning rates that change every few steps, and a limit on the batches of an epoch.
    whole = isinstance(trainer.limit_train_batches, float) and trainer.limit_train_batches == 1.0
    return (
        whole
        and not getattr(trainer, "overfit_batches", 0)
        and trainer.val_check_interval == 1.0
        and not any(c.interval == "step" and c.frequency > 1 for c in trainer.lr_scheduler_configs)
    )
