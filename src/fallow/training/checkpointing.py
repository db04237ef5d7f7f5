"""Keeps the state of a training in its run directory, so that it goes on exactly where it was stopped."""

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
from .summary import samples_evaluated

NEXT = "state/next"
"""The path by which Lightning is asked to save a generation."""
_ASK_EVERY = 32
"""Steps between two looks at whether any rank was told to stop, where there are several."""


class TrainingStopped(BaseException):
    """A training ends here, its state saved, on every rank by itself.

    At a KeyboardInterrupt Lightning would kill the processes of the other ranks.
    """


class StateIO(TorchCheckpointIO):
    """Writes and reads the generations of a run; other checkpoints are Lightning's own, and are written only.

    Args:
        checkpointer: writes them.
        loaded: the state to go on from, or None.
    """

    def __init__(self, checkpointer: Checkpointer, loaded: dict[str, Any] | None = None) -> None:
        self.checkpointer, self.loaded = checkpointer, loaded

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write the next generation, or a checkpoint of Lightning's."""
        if Path(path) == self.checkpointer.next_path:
            self.checkpointer.write(checkpoint)
        else:
            super().save_checkpoint(checkpoint, path, storage_options)

    def load_checkpoint(self, path: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Return the state to go on from; nothing else is read.

        Lightning looks for checkpoints in the run by itself (``hpc_ckpt_1.ckpt`` under Slurm), and would
        unpickle them.

        Raises:
            WrongState: for any other file.
        """
        if Path(path) == self.checkpointer.next_path and self.loaded is not None:
            loaded, self.loaded = self.loaded, None  # a large network need not lie in memory twice
            return loaded
        raise wrong_state(f"{path} is not a state of fallow's, and is not read.", "Move it out of the run.")


class Checkpointer(Callback):
    """Saves the state before each epoch, every so many steps, when told to stop, and at the end.

    It is saved when the next batch has been fetched and nothing was done with it: all of the step before
    is over then, the hooks of other callbacks and of the module and the learning rate's schedule too.
    What a dataset draws is a function of the batch, so that fetching it again changes nothing.

    Args:
        run: where to.
        subsampler: of the training.
        writer: whose rows belong to the state.
        about: what a manifest says of the run: its options.
        every: save after so many steps too.
        whole: whether the network uses all its weights in each step.

    Attributes:
        stopped: the signal that ended the training, or None.
        seconds, cpu_seconds: how long the training has taken, in all its sessions.
        steps: how many there were.
        evaluated: how many samples an evaluation goes through, or None.
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
        self.whole = whole
        self.run, self.subsampler, self.writer, self.about, self.every = run, subsampler, writer, about, every
        self.next_path = run.path / NEXT
        self.stopped: int | None = None
        self.steps = 0
        self.evaluated: int | None = None
        self._before = (0.0, 0.0)
        self._began = (time.perf_counter(), time.process_time())
        self._told: int | None = None
        self._first = True
        self._saved_at = -1
        self._generators: dict[str, Any] | None = None
        self._last_step: dict[str, Any] | None = None
        self._handlers: dict[int, Any] = {}
        self._unwritten: tuple[bytes, About, dict[str, Digest]] | None = None
        self._loaded: dict[str, Any] | None = None

    @property
    def state_key(self) -> str:
        """The name of this part in a saved state: it stays, whatever the class is called."""
        return CHECKPOINTER

    @property
    def begun(self) -> bool:
        """Whether a batch of this session was trained on."""
        return not self._first

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of all sessions."""
        return self._before[0] + time.perf_counter() - self._began[0]

    @property
    def cpu_seconds(self) -> float:
        """Seconds of this process on its processors, in all sessions."""
        return self._before[1] + time.process_time() - self._began[1]

    def before_batch(self, trainer: Trainer) -> None:
        """Save where it is time to, and end the training where it was told to stop."""
        if self._first and self._generators is not None:
            put_back(self._generators)
        self.steps, batch = trainer.global_step, trainer.fit_loop.epoch_loop.batch_progress.current.ready
        stop = self._stop(trainer)
        if batch % trainer.accumulate_grad_batches:
            return  # gradients that wait for their step are not saved: the next batches complete it
        due = self.every is not None and self.steps - self._saved_at >= self.every
        if batch == 0 or ((due or stop) and _exact_inside(trainer)):
            self.save(trainer)
        self._first = False
        if stop:
            self.stopped = stop
            raise TrainingStopped

    def save(self, trainer: Trainer) -> None:
        """Write a generation; all ranks call it."""
        self.evaluated = samples_evaluated(trainer) or self.evaluated
        self.steps = self._saved_at = trainer.global_step
        trainer.save_checkpoint(self.next_path)

    def write(self, checkpoint: dict[str, Any]) -> None:
        """Write what Lightning collected; on the first rank only."""
        state = TrainingState.collected(checkpoint)
        about = structs.replace(
            self.about,
            data=self.run.data_name,
            epoch=self.subsampler.epoch,
            epochs=self.subsampler.schedule.epochs,
            recorded=state.recorded,
            planned=int(self.subsampler.kept.sum()),
            steps=self.steps,
            seconds=round(self.seconds, 3),
        )
        written = len(self.subsampler.history) - len(self.writer.pending)
        self._unwritten = (state.dump(), about, self.run.needed(written))
        try:
            self.write_pending()
        except OSError as error:
            self.writer.failed(error)

    def write_pending(self) -> None:
        """Write the last state, where the disk refused it before.

        Raises:
            OSError: where it does so again.
        """
        if self._unwritten is not None:
            self.run.checkpoints.write(*self._unwritten)
            self._unwritten = None

    def state_dict(self) -> dict[str, Any]:
        """Return the generators of every rank, times and counts; collective where there are several ranks."""
        mine = np.frombuffer(bytearray(dump(generator_states())), np.uint8)
        return {
            "generators": [part for (part,) in gather_rows(mine)],
            "seconds": (self.seconds, self.cpu_seconds),
            "record_seconds": [record.record_seconds for record in self.subsampler.history],
            "steps": self.steps,
            "evaluated": self.evaluated,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned; the generators go on with the first batch."""
        states = state_dict["generators"]
        rank, _ = rank_and_size()
        self._generators = parse(states[rank % len(states)].tobytes(), "the generators of a state")
        wall, processor = state_dict["seconds"]
        self._before = float(wall), float(processor)
        self._began = (time.perf_counter(), time.process_time())
        self.steps, self.evaluated = state_dict["steps"], state_dict["evaluated"]
        self._saved_at = self.steps

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note what the optimizers remember, until they are made."""
        self._loaded = checkpoint

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise for a state that has not what the optimizers remember, before they take it over."""
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            check_optimizers(trainer, loaded, f"The state of {self.run.path}", whole=self.whole)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From now on a signal ends the training after a whole step, once its state is saved."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._heed)

    def _heed(self, number: int, frame: FrameType | None) -> None:
        if self._told is not None:
            self.stopped = number
            raise KeyboardInterrupt
        self._told = number
        if rank_and_size()[0] == 0:
            os.write(2, b"\nfallow: stopping after this step; once more to stop at once.\n")

    def _stop(self, trainer: Trainer) -> int | None:
        """Return the signal by which the training was told to stop: on all ranks alike."""
        if trainer.world_size == 1:
            return self._told
        if trainer.global_step % _ASK_EVERY:
            return None
        return any_rank(self._told or 0) or None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the generators where an evaluation may follow, which must not move them."""
        if trainer.is_last_batch:
            self._last_step = generator_states()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the generators back: evaluating draws differently in a training that was resumed."""
        if self._last_step is not None and trainer.state.fn == "fit":
            put_back(self._last_step)
            self._last_step = None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the state of the finished training."""
        if self.subsampler.epoch >= self.subsampler.schedule.epochs:
            self.save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let signals do what they did before."""
        self._let_go()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let signals do what they did before."""
        self._let_go()

    def _let_go(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()


def _exact_inside(trainer: Trainer) -> bool:
    """Return whether a training goes on exactly from inside an epoch.

    Lightning counts the batches from 0 again then, which moves evaluations inside the epoch, learning rates
    that change every few steps, and a limit to the batches of an epoch.
    """
    configs = trainer.lr_scheduler_configs
    whole = isinstance(trainer.limit_train_batches, float) and trainer.limit_train_batches == 1.0
    return (
        whole
        and not getattr(trainer, "overfit_batches", 0)
        and trainer.val_check_interval == 1.0
        and not any(config.interval == "step" and config.frequency > 1 for config in configs)
    )
