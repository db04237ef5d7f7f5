"""A process that trains one run after the other: ``python -m fallow.comparison.worker``.

It reads one JSON object a line from standard input and answers with JSON lines on standard output;
everything that is printed otherwise goes to standard error. When its input ends, because whoever
started it is done or gone, it ends too. torch is imported once and uses one thread.

    {"do": "probe", "arms": [[name, {...}], ...], "seconds": 2}   build all, train the first for a while
    {"do": "train", "options": {...}}                             train, as ``fallow train`` does
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
import traceback
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden

from ..core.history import EpochRecord
from ..errors import FallowError
from ..integrations.lightning import SubsamplingCallback
from ..options.own_classes import is_import_path
from ..options.resolve import ResolvedOptions, resolve
from ..options.train_options import TrainOptions, named
from ..runs.directory import RunDirectory
from ..tasks.console import Console
from ..terminal.rich_console import RichConsole
from ..training.jobs import Data, Job, build, read_data
from ..training.settings import settings_of, shared
from ..training.train import train
from ..training.trainer import fit, make_trainer, seeded

_HAS_ACCELERATORS = hasattr(torch, "accelerator")  # torch 2.6
_UNTIMED = 3
"""First steps that a probe does not count: they pay for memory and for choosing kernels."""


class Wire:
    """Writes JSON lines to what was standard output; from now on that is standard error."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def say(self, what: str, **more: Any) -> None:
        """Send one message."""
        self._file.write(json.dumps({"say": what, **more}) + "\n")
        self._file.flush()


class WireConsole(Console):
    """A console that prints nothing and tells the other side of each finished epoch."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(RichConsole(stderr=True), silent=True)
        self._wire = wire
        self.notes: list[str] = []

    def line(self, text: str = "") -> None:
        """Keep what is worth saying, for a probe to pass on."""
        self.notes.append(text)

    def epoch(
        self,
        record: EpochRecord,
        epochs: int,
        measured: int,
        loss: float | None,
        tested: str,
        so_far: float,
        trained: str = "-",
    ) -> None:
        """Tell how far the run is."""
        self._wire.say("epoch", epoch=record.epoch + 1)


class _Enough(Exception):
    """A probe has trained for long enough."""


class _Pace(Callback):
    """Counts the samples of a training and the seconds they took, and ends it after a while."""

    def __init__(self, batch_size: float, seconds: float) -> None:
        self.batch_size, self.limit = batch_size, seconds
        self.samples, self.seconds, self._steps, self._last = 0.0, 0.0, 0, 0.0
        self._began = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the clock: evaluation has passed since the last batch."""
        self._last = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a step, from the end of the one before, so that loading counts too."""
        now = time.perf_counter()
        self._steps += 1
        if self._steps > _UNTIMED:
            self.samples += self.batch_size
            self.seconds += now - self._last
        self._last = now
        if self.seconds and now - self._began > self.limit:
            raise _Enough


class Worker:
    """Answers one request after the other.

    Args:
        wire: to whoever asks.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire, self.console = wire, WireConsole(wire)
        self._held: tuple[list[Any], Data] | None = None

    def answer(self, request: dict[str, Any]) -> None:
        """Do what is asked, and say how it ended."""
        try:
            if request["do"] == "probe":
                arms = {label: resolve(TrainOptions(**options)) for label, options in request["arms"]}
                self._probe(arms, request["seconds"])
            else:
                options = resolve(TrainOptions(**request["options"]))
                train(options, self.console, self._data(options))
                self.wire.say("done")
        except FallowError as error:
            self.wire.say("error", message=str(error), kind=type(error).__name__)
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            self.wire.say("error", message=f"{type(error).__name__}: {error}", kind="")

    def _data(self, options: ResolvedOptions) -> Data | None:
        """Return the data of a run, held from the run before where they are the same."""
        if is_import_path(options.data) or options.resume is not None:  # which is read as the run had it
            return None
        wanted = [getattr(options, name) for name in sorted(named(reads=True))]
        if self._held is None or self._held[0] != wanted:
            self._held = None
            self._held = wanted, read_data(options, self.console)
        return self._held[1]

    def _probe(self, arms: dict[str, ResolvedOptions], seconds: float) -> None:
        """Build every arm, so that what is wrong is said now, and train the first for so many seconds."""
        self.console.notes.clear()
        options = next(iter(arms.values()))
        with seeded(options.seed):
            job = build(options, self.console, self._data(options))
        if why := _unmeasured(job):
            self.console.line(why)
        for label, other in list(arms.items())[1:]:
            try:
                with seeded(other.seed):
                    built = build(other, self.console, self._data(other))
                    SubsamplingCallback(built.subsampler).check_module(built.module)
            except FallowError as error:
                raise type(error)(f"The arm {label}: {error}") from None
        watch = _Pace(job.subsampler.n / len(job.train), seconds)
        callbacks = [SubsamplingCallback(job.subsampler, job.score), watch]
        with seeded(options.seed), tempfile.TemporaryDirectory() as folder, suppress(_Enough):
            trainer = make_trainer(options, RunDirectory(folder), callbacks)
            said = shared(settings_of(job.options, job, trainer))
            fit(trainer, job)
        rate = watch.samples / watch.seconds if watch.seconds else None
        notes = list(dict.fromkeys(filter(None, [*said, *self.console.notes])))
        self.wire.say("probed", n=job.subsampler.n, rate=rate, test_seconds=_test_seconds(job), notes=notes)


def _unmeasured(job: Job) -> str:
    """Return why no accuracy can be logged, where that can be told without training; else nothing."""
    lacks = []
    if not is_overridden("validation_step", job.module):
        lacks.append("the module has no validation_step")
    if job.datamodule is not None and not is_overridden("val_dataloader", job.datamodule):
        lacks.append("the data module has no val_dataloader")
    if not lacks:
        return ""
    return (
        f"No accuracy will be logged, so nothing can be compared: {' and '.join(lacks)}. "
        "Log a metric whose name starts with val or test and holds acc."
    )


def _test_seconds(job: Job) -> float:
    """Return about how long one evaluation takes, by its first two batches; 0 where nobody knows."""
    if job.test is None:
        return 0.0
    device = next(job.module.parameters(), torch.zeros(0)).device
    began, seen = time.perf_counter(), 0
    with torch.no_grad():
        for batch in job.test:
            inputs = batch if isinstance(batch, torch.Tensor) else batch[0]
            job.module(inputs.to(device))
            seen += len(inputs)
            if seen >= 2 * (job.test.batch_size or 1):
                break
    return (time.perf_counter() - began) * len(job.test.dataset) / max(1, seen)


def main() -> None:
    """Answer requests until there are no more."""
    torch.set_num_threads(1)
    requests: SimpleQueue[dict[str, Any]] = SimpleQueue()
    wire = Wire()
    lines = os.fdopen(os.dup(0), encoding="utf-8")
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)

    def listen() -> None:
        for line in lines:
            requests.put(json.loads(line))
        os._exit(0)  # whoever asked is gone, whatever is under way

    threading.Thread(target=listen, daemon=True).start()
    wire.say(
        "ready",
        accelerator=torch.accelerator.is_available() if _HAS_ACCELERATORS else torch.cuda.is_available(),
    )
    worker = Worker(wire)
    while True:
        worker.answer(requests.get())


if __name__ == "__main__":
    main()
