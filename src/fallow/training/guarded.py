"""A guard before an experiment tracker: one that fails, hangs or is slow is left behind.

:class:`Guarded` hands each call to a thread of its own: training never waits for it, and none of its errors
comes back, SystemExit included.
"""

from __future__ import annotations

import os
import threading
import time
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeAlias

from lightning.pytorch.loggers.logger import DummyLogger
from lightning_utilities.core.rank_zero import rank_zero_only
from torch import Tensor

from ..terminal.streams import complain

FINISH_SECONDS = 5.0
"""How long the end of a training waits for its tracker, in all."""
FORK_SECONDS = 2.0
"""How long forking, which starts processes that load data, waits for a tracker to end a call, in all."""
QUEUE_CALLS = 1000
"""How many calls wait for a tracker at most; the oldest are dropped then."""
Say: TypeAlias = Callable[[str], None]


class Guarded(DummyLogger):
    """Hands calls to a tracker in one thread, which may end with the process at any time.

    What the tracker returns is not looked at. Its first error switches it off; so does keeping the end of a
    training waiting for :data:`FINISH_SECONDS`. Either is said once. Only the first rank logs.

    Args:
        tracker: its name.
        make: makes it, in the thread.
        folder: where it writes.
        say: prints a warning; to standard error by default.
        let_go: called where the tracker is left behind, so that the process can end.
    """

    def __init__(
        self,
        tracker: str,
        make: Callable[[], Any],
        folder: Path,
        say: Say | None = None,
        let_go: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._who, self._make, self._folder = f"Warning: the tracker {tracker}", make, folder
        self._let_go = let_go
        self._say = say or complain
        self._calls: deque[tuple[str, tuple[Any, ...], dict[str, Any]]] = deque()
        self._changed, self._inside = threading.Condition(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._working = self._to_save = self._off = self._held = False
        self._unsaid: list[str] = []
        self._dropped, self._waited, self._forking = 0, 0.0, 0.0

    @property
    def save_dir(self) -> str:
        """The folder for what a training writes beside its scalars."""
        return str(self._folder)

    @property
    def experiment(self) -> Any:
        """Stands for the tracker's own object, such as a SummaryWriter; its calls return nothing."""
        return _Calls(self, "experiment.")

    def __getattr__(self, name: str) -> Callable[..., None]:
        return _Calls(self).__getattr__(name)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log scalars."""
        self.call("log_metrics", {key: _still(value) for key, value in metrics.items()}, step=step)

    def log_hyperparams(self, params: Any = None, *args: Any, **kwargs: Any) -> None:
        """Log hyper-parameters."""
        plain = vars(params) if isinstance(params, Namespace) else params or {}
        self.call("log_hyperparams", dict(plain), *args, **kwargs)

    def save(self) -> None:
        """Have the tracker save once it has nothing else to do."""
        with self._changed:
            self._to_save = self._thread is not None and not self._off
            self._changed.notify_all()

    def finalize(self, status: str) -> None:
        """End the tracker's run, and wait for it as long as there is patience left."""
        if self._thread is None:
            return
        self._to_save = False  # each tracker saves as it ends, and some begin anew where they save after it
        self.call("finalize", status)
        began = time.monotonic()
        with self._changed:
            idle = lambda: not (self._calls or self._working or self._to_save)  # noqa: E731
            done = self._changed.wait_for(idle, max(0.0, FINISH_SECONDS - self._waited))
            self._waited += time.monotonic() - began
            if not (done or self._off):
                self._off = True
                short = f"left behind, {len(self._calls) + 1} calls short; the run itself lacks nothing."
                self._unsaid.append(f"{self._who} did not finish in {FINISH_SECONDS:g} s and is {short}")
                self._let_go()
            if self._dropped:
                self._unsaid.append(f"{self._who} was too slow: the oldest {self._dropped} calls are lost.")
                self._dropped = 0
        self._tell()

    def call(self, method: str, *arguments: Any, **options: Any) -> None:
        """Hand a call to the tracker; return at once."""
        self._tell()
        if self._off or getattr(rank_zero_only, "rank", None):
            return
        with self._changed:
            if len(self._calls) >= QUEUE_CALLS:
                self._calls.popleft()
                self._dropped += 1
            self._calls.append((method, arguments, options))
            self._changed.notify_all()
        if self._thread is None:
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(before=self._hold, after_in_parent=self._free, after_in_child=self._free)
            self._working = True
            self._thread = threading.Thread(target=self._work, name="fallow-tracker", daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:  # no more threads
                self._fail(error)

    def _tell(self) -> None:
        """Say what happened in the thread, from the one that trains, where printing disturbs nothing."""
        while self._unsaid:
            with suppress(Exception):
                self._say(self._unsaid.pop(0))

    def _work(self) -> None:
        """Make the tracker and call it, until an error or the end of the process."""
        try:
            with self._inside:
                tracker = self._make()
            while True:
                method, arguments, options = self._next()
                with self._inside:
                    attrgetter(method)(tracker)(*arguments, **options)
        except BaseException as error:
            self._fail(error)

    def _next(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        """Return the next call, when there is one."""
        with self._changed:
            self._working = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._calls or self._to_save)
            self._working = True
            if self._calls:
                return self._calls.popleft()
            self._to_save = False
            return "save", (), {}

    def _fail(self, error: BaseException) -> None:
        """Switch the tracker off."""
        said = type(error).__name__
        with suppress(BaseException):  # what an error says of itself is the tracker's code, too
            said = " ".join(f"{said}: {error}".split())[:300]
        with self._changed:
            if not self._off:
                self._unsaid.append(f"{self._who} failed and is switched off; training goes on. {said}")
            self._off, self._working, self._to_save = True, False, False
            self._calls.clear()
            self._changed.notify_all()

    def _hold(self) -> None:
        """Hold the tracker between two calls: a process forked inside of one has its locks, for ever."""
        if threading.current_thread() is not self._thread and not self._off:
            began = time.monotonic()
            self._held = self._inside.acquire(timeout=max(0.0, FORK_SECONDS - self._forking))
            self._forking += time.monotonic() - began

    def _free(self) -> None:
        if self._held:
            self._held = False
            self._inside.release()


class _Calls:
    """Hands calls of any name to a tracker."""

    def __init__(self, tracker: Guarded, owner: str = "") -> None:
        self._tracker, self._owner = tracker, owner

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *arguments, **options: self._tracker.call(
            self._owner + name, *map(_still, arguments), **{k: _still(v) for k, v in options.items()}
        )


def _still(value: Any) -> Any:
    """Return a value that training does not change any more."""
    if not isinstance(value, Tensor):
        return value
    return value.item() if value.numel() == 1 else value.detach().cpu().clone()
