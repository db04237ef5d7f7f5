"""Worker processes that train one run after the other, one thread each."""

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

from ..errors import DamagedData, InvalidValue, wrong_state
from ..import_path import without_runs
from ..options.resolve import as_given
from .arms import Arm
from .plan import Run

TAIL = 12
"""Last lines of a failed run's standard error that are shown."""


@dataclass(frozen=True)
class Event:
    """What has just happened to a run.

    Attributes:
        kind: ``began``, ``epoch``, ``done`` or ``failed``.
        run: which.
        epoch: how many epochs are done.
        reason: why it failed, with the end of what the process said.
    """

    kind: str
    run: Run
    epoch: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Probe:
    """What a short look at the training has measured.

    Attributes:
        n: training samples.
        rates: samples a second of each worker, while all of them trained; empty where an epoch is too short.
        test_seconds: what one evaluation takes.
        notes: what was found that is worth knowing before training.
    """

    n: int
    rates: list[float] = field(default_factory=list)
    test_seconds: float = 0.0
    notes: tuple[str, ...] = ()


_START = """\
import json, sys
sys.path[:] = json.loads(sys.argv.pop())
from fallow.comparison.worker import main
main()
"""
"""What a worker does first: modules come from where they come from here, and never from a run."""


def _environment() -> dict[str, str]:
    """Return what a worker finds in its environment: one thread, and no run among the places of modules."""
    found = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    if entries := found.get("PYTHONPATH"):
        found["PYTHONPATH"] = os.pathsep.join(without_runs(entries.split(os.pathsep)))
    return found


class _Worker:
    """One process, what it works at, and what it has said."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self.epoch = 0
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        self._began_at = 0
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, json.dumps(without_runs(sys.path))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(),
            start_new_session=True,  # so that Ctrl-C reaches only the one who started it, and ends it
        )

    def listen(self, said: queue.SimpleQueue[tuple[_Worker, dict[str, Any]]]) -> None:
        """Pass on what the process says, until it ends."""

        def pass_on() -> None:
            assert self.process.stdout is not None
            with suppress(ValueError):  # a line that was cut short: its process is gone
                for line in self.process.stdout:
                    said.put((self, json.loads(line)))
            said.put((self, {"say": "gone"}))

        threading.Thread(target=pass_on, daemon=True).start()

    def ask(self, **request: Any) -> None:
        """Send a request."""
        assert self.process.stdin is not None
        self._began_at = os.fstat(self._errors.fileno()).st_size
        with suppress(BrokenPipeError):  # then it is gone, which is said soon
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()

    def tail(self) -> str:
        """Return the last lines that it wrote to standard error since it was asked."""
        size = os.fstat(self._errors.fileno()).st_size
        text = os.pread(self._errors.fileno(), size - self._began_at, self._began_at).decode(errors="replace")
        return "\n".join(text.strip().splitlines()[-TAIL:])

    def end(self) -> None:
        """Kill it and whatever it has started."""
        with suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
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
    """So many processes, which end with the block.

    Args:
        jobs: how many; None for one a core, or 1 where training runs on an accelerator.
        most: there is no work for more.
        on_cpu: training runs on the CPU whatever else is there.
    """

    def __init__(self, jobs: int | None, most: int, *, on_cpu: bool) -> None:
        self.jobs, self._most, self._on_cpu = jobs, most, on_cpu
        self._workers: list[_Worker] = []
        self._said: queue.SimpleQueue[tuple[_Worker, dict[str, Any]]] = queue.SimpleQueue()

    def __enter__(self) -> Pool:
        try:
            self._start()
            if self.jobs is None:
                accelerated = bool(self._next("ready")["accelerator"]) and not self._on_cpu
                self.jobs = 1 if accelerated else cores()
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
        worker.listen(self._said)
        return worker

    def _next(self, what: str) -> dict[str, Any]:
        """Return the next message of a kind; nobody trains a run yet."""
        while True:
            worker, message = self._said.get()
            if message["say"] == "gone":
                raise wrong_state("A worker process must start.", f"It said: {worker.tail()}")
            if message["say"] == "error":
                _raise(message, worker.tail())
            if message["say"] == what:
                return message

    def probe(self, full: Arm, arms: Sequence[Arm], seconds: float) -> Probe:
        """Build every arm once, and measure how fast all workers together train.

        Raises:
            InvalidValue: for options or data with which an arm cannot be trained.
        """
        for number, worker in enumerate(self._workers):
            checked = [full, *(arms if number == 0 else ())]
            options = [[arm.label, asdict(as_given(arm.options))] for arm in checked]
            worker.ask(do="probe", arms=options, seconds=seconds)
        found = [self._next("probed") for _ in self._workers]
        rates = [message["rate"] for message in found if message["rate"]]
        notes = tuple(dict.fromkeys(note for message in found for note in message["notes"]))
        return Probe(found[0]["n"], rates, max(message["test_seconds"] for message in found), notes)

    def train(self, runs: Sequence[Run]) -> Iterator[Event]:
        """Train all runs, as many at once as there are workers; one that fails does not stop the others."""
        waiting = deque(runs)
        for worker in self._workers[: len(waiting)]:
            yield self._give(worker, waiting.popleft())
        while any(worker.run for worker in self._workers):
            worker, message = self._said.get()
            if worker.run is None:
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
    """Return why a run failed: one line, then the end of standard error where it was not foreseen."""
    if message.get("kind"):
        return str(message["message"])
    code = worker.process.poll() if message["say"] == "gone" else None
    if message["say"] == "gone" and code is None:
        code = worker.process.wait()
    ended = f"its process ended with code {code}" if message["say"] == "gone" else str(message["message"])
    return f"{ended}\n{worker.tail()}".strip()


def _raise(message: dict[str, Any], tail: str) -> NoReturn:
    """Raise in this process what a worker's probe has raised in its own."""
    if message["kind"] == "DamagedData":
        raise DamagedData(message["message"])
    if message["kind"]:
        raise InvalidValue(message["message"])
    raise wrong_state("A first look at the training failed.", f"{message['message']}\n{tail}")


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
