"""Worker processes, each of which trains one run after the other with one thread."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, NoReturn

import msgspec

from ..errors import DamagedData, InvalidValue, wrong_state
from ..import_path import without_runs
from ..options.resolve import as_given
from ..runs.schema import FullTraining
from .arms import Arm
from .plan import Run

TAIL = 12
"""Number of last lines of a failed run's standard error that are shown."""


@dataclass(frozen=True)
class Event:
    """A change in the training of a run.

    Attributes:
        kind: ``began``, ``epoch``, ``done`` or ``failed``.
        run: the run.
        epoch: the number of epochs that are done.
        reason: why it failed, with the end of its standard error.
    """

    kind: str
    run: Run
    epoch: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Probe:
    """The result of a short training.

    Attributes:
        full: the facts on full training.
        rates: samples a second of each worker, while all of them trained; empty if an epoch is too short.
        test_seconds: the seconds of one evaluation.
        notes: sentences to show before training.
    """

    full: FullTraining
    rates: list[float] = field(default_factory=list)
    test_seconds: float = 0.0
    notes: tuple[str, ...] = ()


_START = """\
import json, sys
sys.path[:] = json.loads(sys.argv.pop())
from fallow.comparison.worker import main
main()
"""
"""First lines of a worker: it imports from the paths of this process, and never from a run."""


def _environment() -> dict[str, str]:
    """Return the environment of a worker: one thread, and no run on the import path."""
    # Set from outside, since OpenMP reads them when it is loaded.
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    if entries := variables.get("PYTHONPATH"):
        variables["PYTHONPATH"] = os.pathsep.join(without_runs(entries.split(os.pathsep)))
    return variables


class _Worker:
    """One process, its run, and its standard error."""

    def __init__(self) -> None:
        self.run: Run | None = None
        # A file, since a pipe that nobody reads would fill up and block the process.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        self._began_at = 0
        self.process = subprocess.Popen(
            # With -P the working folder, which may be a run, is not on the import path.
            [sys.executable, "-P", "-c", _START, json.dumps(without_runs(sys.path))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(),
            start_new_session=True,  # Ctrl-C must reach only this process, which ends the worker
        )

    def listen(self, messages: queue.SimpleQueue[tuple[_Worker, dict[str, Any]]]) -> None:
        """Put the messages of the process into a queue, until it ends."""

        def pass_on() -> None:
            assert self.process.stdout is not None
            with suppress(ValueError):  # a line cut short, by a process that was killed
                for line in self.process.stdout:
                    messages.put((self, json.loads(line)))
            messages.put((self, {"say": "gone"}))

        threading.Thread(target=pass_on, daemon=True).start()

    def ask(self, **request: Any) -> None:
        """Send a request."""
        assert self.process.stdin is not None
        self._began_at = os.fstat(self._errors.fileno()).st_size
        with suppress(BrokenPipeError):  # the process is gone; its last message says so
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()

    def tail(self) -> str:
        """Return the last lines on its standard error since the last request."""
        size = os.fstat(self._errors.fileno()).st_size
        # The worker shares the position of this file, so it must not be moved.
        text = os.pread(self._errors.fileno(), size - self._began_at, self._began_at).decode(errors="replace")
        return "\n".join(text.strip().splitlines()[-TAIL:])

    def end(self) -> None:
        """Kill it and the processes that it started."""
        with suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                # Workers of its loader are in the same session, and would live on.
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._errors.close()


class Pool:
    """Several worker processes, which end with the block.

    Args:
        jobs: the number of processes; None for one a core, or 1 if training runs on an accelerator.
        most: the largest number that has work.
        on_cpu: whether training runs on the CPU even if there is an accelerator.
    """

    def __init__(self, jobs: int | None, most: int, *, on_cpu: bool) -> None:
        self.jobs, self._most, self._on_cpu = jobs, most, on_cpu
        self._workers: list[_Worker] = []
        self._messages: queue.SimpleQueue[tuple[_Worker, dict[str, Any]]] = queue.SimpleQueue()

    def __enter__(self) -> Pool:
        try:
            self._start()
            if self.jobs is None:
                # Asked of a worker, since this process does without torch.
                accelerated = bool(self._next("ready")["accelerator"]) and not self._on_cpu
                self.jobs = 1 if accelerated else cores()  # one run fills an accelerator
            self.jobs = max(1, min(self.jobs, self._most))
            for _ in range(1, self.jobs):
                self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def _start(self) -> _Worker:
        worker = _Worker()
        self._workers.append(worker)
        worker.listen(self._messages)
        return worker

    def _next(self, kind: str) -> dict[str, Any]:
        """Return the next message of a kind, before any run is trained."""
        while True:
            worker, message = self._messages.get()
            if message["say"] == "gone":
                raise wrong_state("A worker process must start.", f"It said: {worker.tail()}")
            if message["say"] == "error":
                _raise(message, worker.tail())
            if message["say"] == kind:
                return message

    def probe(self, full: Arm, arms: Sequence[Arm], seconds: float) -> Probe:
        """Build every arm once, and measure how fast all workers train together.

        Raises:
            InvalidValue: if an arm cannot be trained with its options or data.
        """
        for number, worker in enumerate(self._workers):
            checked = [full, *(arms if number == 0 else ())]
            options = [[arm.label, asdict(as_given(arm.options))] for arm in checked]
            worker.ask(do="probe", arms=options, seconds=seconds)
        messages = [self._next("probed") for _ in self._workers]
        rates = [message["rate"] for message in messages if message["rate"]]
        notes = tuple(dict.fromkeys(note for message in messages for note in message["notes"]))
        facts = msgspec.convert(messages[0]["full"], FullTraining)
        return Probe(facts, rates, max(message["test_seconds"] for message in messages), notes)

    def train(self, runs: Sequence[Run]) -> Iterator[Event]:
        """Train all runs, one on each worker at a time; a run that fails does not stop the others."""
        waiting = deque(runs)
        while len(self._workers) < min(int(self.jobs or 1), len(waiting)):
            self._start()  # some may have ended with the runs before
        for worker in self._workers[: len(waiting)]:
            yield self._give(worker, waiting.popleft())
        while any(worker.run for worker in self._workers):
            worker, message = self._messages.get()
            if worker.run is None:  # an idle process has ended: nothing is lost
                if message["say"] == "gone" and worker in self._workers:
                    worker.end()
                    self._workers.remove(worker)
                continue
            if message["say"] == "epoch":
                yield Event("epoch", worker.run, message["epoch"])
                continue
            if message["say"] not in ("done", "error", "gone"):
                continue
            run, worker.run = worker.run, None
            if message["say"] == "done":
                yield Event("done", run, run.options.epochs)
            else:
                yield Event("failed", run, reason=_reason(worker, message))
            if message["say"] == "gone":
                worker.end()
                self._workers.remove(worker)
                worker = self._start() if waiting else worker
            if waiting:
                yield self._give(worker, waiting.popleft())

    def _give(self, worker: _Worker, run: Run) -> Event:
        worker.run = run
        worker.ask(do="train", options=asdict(as_given(run.session)))
        return Event("began", run)


def _reason(worker: _Worker, message: dict[str, Any]) -> str:
    """Return why a run failed: one line, and the end of standard error if the error is none of fallow's."""
    if message.get("kind"):
        return str(message["message"])
    if message["say"] == "gone":
        reason = f"its process ended with code {worker.process.wait()}"
    else:
        reason = str(message["message"])
    return f"{reason}\n{worker.tail()}".strip()


def _raise(message: dict[str, Any], tail: str) -> NoReturn:
    """Raise in this process the error of a worker's probe."""
    if message["kind"] == "DamagedData":
        raise DamagedData(message["message"])
    if message["kind"]:
        raise InvalidValue(message["message"])
    raise wrong_state("The short training before the comparison failed.", f"{message['message']}\n{tail}")


def cores() -> int:
    """Return how many cores this process may use."""
    # A batch system may allow fewer cores than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
