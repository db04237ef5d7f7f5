"""A process that trains one run after the other: ``python -m fallow.comparison.worker``.

It reads one JSON object a line from standard input and answers with JSON lines on standard output; all
other output goes to standard error. It ends when its input ends. torch is imported once and uses one thread.

    {"do": "probe", "arms": [[name, {...}], ...], "seconds": 2}   build all, train the first for 2 seconds
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
"""First steps that a probe does not count: they allocate memory and choose kernels."""


class Wire:
    """Writes JSON lines to standard output, and sends all other output to standard error."""

    def __init__(self) -> None:
        # By descriptor, so that output of libraries written in C is redirected too.
        self._file = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def say(self, kind: str, /, **values: Any) -> None:
        """Send one message."""
        self._file.write(json.dumps({"say": kind, **values}) + "\n")
        self._file.flush()


class WireConsole(Console):
    """A console that prints nothing and sends a message for each finished epoch."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(RichConsole(stderr=True), silent=True)
        self._wire = wire
        self.notes: list[str] = []

    def line(self, text: str = "") -> None:
        """Keep a line, for the answer to a probe."""
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
        """Send the number of finished epochs."""
        self._wire.say("epoch", epoch=record.epoch + 1)


class _TimeIsUp(Exception):
    """Ends the training of a probe."""


class _Pace(Callback):
    """Counts the samples of a training and their seconds, and ends it after a time limit."""

    def __init__(self, batch_size: float, seconds: float) -> None:
        self.batch_size = batch_size
        self.limit = seconds
        self.samples = self.seconds = self._last = 0.0
        self._steps = 0
        self._began = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock again, which must not count the evaluation before."""
        self._last = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a step from the end of the last one, which includes loading."""
        now = time.perf_counter()
        self._steps += 1
        if self._steps > _UNTIMED:
            self.samples += self.batch_size
            self.seconds += now - self._last
        self._last = now
        if self.seconds and now - self._began > self.limit:
            raise _TimeIsUp


class Worker:
    """Answers requests through ``wire``."""

    def __init__(self, wire: Wire) -> None:
        self.wire, self.console = wire, WireConsole(wire)
        self._held: tuple[list[Any], Data] | None = None

    def answer(self, request: dict[str, Any]) -> None:
        """Probe or train, and send the outcome."""
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
        # An exit() in a user's class must not end the worker.
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            self.wire.say("error", message=f"{type(error).__name__}: {error}", kind="")

    def _data(self, options: ResolvedOptions) -> Data | None:
        """Return the data of a run, kept from the run before if it read the same."""
        # A resumed run orders its data as it had them; own data are built anew for each run.
        if is_import_path(options.data) or options.resume is not None:
            return None
        wanted = [getattr(options, name) for name in sorted(named(reads=True))]
        if self._held is None or self._held[0] != wanted:
            # Released first, so that two data sets are never in memory at once.
            self._held = None
            self._held = wanted, read_data(options, self.console)
        return self._held[1]

    def _probe(self, arms: dict[str, ResolvedOptions], seconds: float) -> None:
        """Build every arm, so that errors show before training, and train the first for some seconds."""
        self.console.notes.clear()
        options = next(iter(arms.values()))
        with seeded(options.seed):
            job = build(options, self.console, self._data(options))
        if reason := _unmeasured(job):
            self.console.line(reason)
        for label, other in list(arms.items())[1:]:
            try:
                with seeded(other.seed):
                    built = build(other, self.console, self._data(other))
                    SubsamplingCallback(built.subsampler).check_module(built.module)
            except FallowError as error:
                raise type(error)(f"The arm {label}: {error}") from None
        pace = _Pace(job.subsampler.n / len(job.train), seconds)
        callbacks = [SubsamplingCallback(job.subsampler, job.score), pace]
        with seeded(options.seed), tempfile.TemporaryDirectory() as folder, suppress(_TimeIsUp):
            trainer = make_trainer(options, RunDirectory(folder), callbacks)
            remarks = shared(settings_of(job.options, job, trainer))
            fit(trainer, job)
        rate = pace.samples / pace.seconds if pace.seconds else None
        notes = list(dict.fromkeys(filter(None, [*remarks, *self.console.notes])))
        full = {
            "samples": job.subsampler.n,
            "batch_size": job.options.batch_size,
            "learning_rate": job.options.learning_rate,
        }
        self.wire.say("probed", full=full, rate=rate, test_seconds=_test_seconds(job), notes=notes)


def _unmeasured(job: Job) -> str:
    """Return a sentence if the module certainly logs no accuracy; else an empty one."""
    missing = []
    if not is_overridden("validation_step", job.module):
        missing.append("the module has no validation_step")
    if job.datamodule is not None and not is_overridden("val_dataloader", job.datamodule):
        missing.append("the data module has no val_dataloader")
    if not missing:
        return ""
    return (
        f"No accuracy will be logged, so nothing can be compared: {' and '.join(missing)}. "
        "Log a metric whose name starts with val or test and holds acc."
    )


def _test_seconds(job: Job) -> float:
    """Return about how long one evaluation takes, by its first two batches; 0 if that is not known."""
    # A module of the user's may do without forward().
    if job.test is None or not is_overridden("forward", job.module):
        return 0.0
    device = next(job.module.parameters(), torch.zeros(0)).device
    began = time.perf_counter()
    seen = 0
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
    torch.set_num_threads(1)  # more would compete with the other processes, and make runs unrepeatable
    requests: SimpleQueue[dict[str, Any]] = SimpleQueue()
    wire = Wire()
    lines = os.fdopen(os.dup(0), encoding="utf-8")
    with open(os.devnull) as empty:  # code that reads standard input must not take requests
        os.dup2(empty.fileno(), 0)

    def listen() -> None:
        for line in lines:
            requests.put(json.loads(line))
        os._exit(0)  # the parent process has exited; a training under way would go on

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
