"""Experiment trackers that cannot hurt a training: one that fails, hangs or is slow is left behind.

A tracker is one of Lightning's own loggers. :class:`Guarded` stands before it and hands each call to a thread
of its own: training never waits for it, and none of its errors comes back, SystemExit included.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import secrets
import sys
import threading
import time
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeAlias

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger
from lightning_utilities.core.rank_zero import rank_zero_only
from torch import Tensor

from .._checks import invalid, unknown_name
from ..history import QUANTILES
from ..run_directory import RunDirectory
from .epoch_writer import EpochWriter

FINISH_SECONDS = 5.0
"""How long the end of a training waits for its tracker, in all."""
FORK_SECONDS = 2.0
"""How long forking, which starts processes that load data, waits for a tracker to end a call, in all."""
QUEUE_CALLS = 1000
"""How many calls wait for a tracker at most; the oldest are dropped then."""
_Say: TypeAlias = Callable[[str], None]


def make_logger(name: str, run: RunDirectory, say: _Say | None = None) -> Logger | bool:
    """Return the guarded tracker of that name, which is made when it is first used; False for ``none``.

    What it writes goes to ``RUN/logs``, unless its own environment variables name another place. A run that
    goes on writes beside what it wrote before, or goes on in the tracker's run; ``say`` prints warnings.

    Raises:
        InvalidValue: for an unknown name, or a tracker that is not installed.
    """
    if name == "none":
        return False
    if name not in _TRACKERS:
        raise unknown_name("logger", name, ("none", *_TRACKERS))
    packages, make = _TRACKERS[name]
    if packages and not any(importlib.util.find_spec(package) for package in packages):
        step = f"Run `pip install {name}`, or use --logger csv."
        raise invalid(f"--logger {name} needs its package.", f"no module named {packages[0]}", step)
    before = run.path / "logs"
    done = sum(path.is_dir() for path in before.glob("session-*"))
    session = f"session-{done + 2}" if before.exists() else ""
    return Guarded(name, lambda: make(run, session), before, say)


class Guarded(DummyLogger):
    """Hands calls to a tracker in one thread, which may end with the process at any time.

    What the tracker returns is not looked at. Its first error switches it off; so does keeping the end of a
    training waiting for :data:`FINISH_SECONDS`. Either is said once. Only the first rank logs.

    Args:
        tracker: its name.
        make: makes it, in the thread.
        folder: where it writes.
        say: prints a warning; to standard error by default.
    """

    def __init__(self, tracker: str, make: Callable[[], Any], folder: Path, say: _Say | None = None) -> None:
        super().__init__()
        self._who, self._make, self._folder = f"Warning: the tracker {tracker}", make, folder
        self._say = say or (lambda text: print(text, file=sys.stderr))
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
                if self._who.endswith("wandb"):
                    _let_go_of_wandb()
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


def _kept(run: RunDirectory, name: str) -> dict[str, Any]:
    """Return what an earlier session noted of the tracker's run, or nothing."""
    with suppress(OSError, ValueError, TypeError):
        return dict(json.loads((run.path / "logs" / f"{name}.json").read_text(encoding="utf-8")))
    return {}


def _keep(run: RunDirectory, name: str, noted: dict[str, Any]) -> None:
    """Note what a later session needs to go on in the tracker's run."""
    run.disk.make_folder(run.path / "logs")
    run.disk.put(run.path / "logs" / f"{name}.json", (json.dumps(noted) + "\n").encode())


def _let_go_of_wandb() -> None:
    """Let the process end: W&B would wait for its service then, for ever where its server says nothing."""
    with suppress(Exception):
        sys.modules["wandb.sdk.wandb_setup"]._singleton._connection._cleanup()


class _Wandb(WandbLogger):
    """Ends its run with the training: left alone, it does so, and waits, when the process ends."""

    def finalize(self, status: str) -> None:
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=int(status != "success"))
            self._experiment = None


def _wandb(run: RunDirectory, session: str) -> Logger:
    """Return W&B's logger: offline where nobody is logged in, as it would ask then."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it would tell its makers of errors
    wandb = importlib.import_module("wandb")
    if not (mode := os.environ.get("WANDB_MODE")):
        try:
            mode = "online" if wandb.login(prompt=False, verify=False) else "offline"
        except TypeError:  # a version that cannot be told not to ask
            mode = "online" if wandb.api.api_key else "offline"
    before, online = _kept(run, "wandb"), mode in ("online", "run")
    again = online and bool(before.get("online"))  # W&B joins to a run only what is not written offline
    identity = before["id"] if again else os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)
    _keep(run, "wandb", {"id": identity, "online": online})
    patience = {} if "WANDB_FINISH_TIMEOUT" in os.environ else {"finish_timeout": FINISH_SECONDS}
    name = os.environ.get("WANDB_NAME") or run.path.resolve().name
    return _Wandb(
        project=os.environ.get("WANDB_PROJECT") or "fallow",
        name=f"{name}-{session}" if session and not again else name,
        group=os.environ.get("WANDB_RUN_GROUP") or name,
        save_dir=os.environ.get("WANDB_DIR") or run.path / "logs",
        version=identity,
        mode=mode,
        settings=wandb.Settings(console="off", silent=True, **patience),
    )


def _mlflow(run: RunDirectory, session: str) -> Logger:
    """Return MLflow's logger; without a server, it writes a database, or files where it lacks the means."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    logs, before = (run.path / "logs").resolve(), _kept(run, "mlflow")
    run.disk.make_folder(logs)
    place, artifacts = os.environ.get("MLFLOW_TRACKING_URI"), None
    if not place and all(importlib.util.find_spec(name) for name in ("sqlalchemy", "alembic")):
        place, artifacts = f"sqlite:///{logs / 'mlflow.db'}", (logs / "artifacts").as_uri()
    elif not place:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        place = (logs / "mlflow").as_uri()
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "fallow"
    if before.get("place") == place:
        logger = MLFlowLogger(experiment, tracking_uri=place, run_id=before.get("id"))
        with suppress(Exception):  # somebody deleted it
            logger.experiment.update_run(logger.run_id, status="RUNNING")
            setattr(logger, "log_hyperparams", lambda params: None)  # noqa: B010 - it refuses other ones
            return logger
    name = "-".join(part for part in (run.path.resolve().name, session) if part)
    logger = MLFlowLogger(experiment, name, place, artifact_location=artifacts)
    _keep(run, "mlflow", {"id": logger.run_id, "place": place})
    return logger


class _Trackio(DummyLogger):
    """Logs to Trackio, which has the calls of wandb; its run begins with the first scalars."""

    def __init__(self, trackio: Any, project: str, run: str, goes_on: bool) -> None:
        super().__init__()
        self._trackio, self._run, self._goes_on, self._begun = trackio, (project, run), goes_on, False
        self._config: dict[str, Any] = {}

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self._config |= {key: value for key, value in params.items() if not key.startswith("_")}

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if not self._begun:
            quiet = dict.fromkeys(("embed", "auto_log_cpu", "auto_log_gpu"), False)
            resume, self._begun, self._goes_on = "allow" if self._goes_on else "never", True, True
            self._trackio.init(*self._run, resume=resume, config=self._config, **quiet)
        self._trackio.log(dict(metrics), step=step)

    def finalize(self, status: str) -> None:
        if self._begun:
            self._begun = False
            self._trackio.finish()


def _trackio(run: RunDirectory, session: str) -> Logger:
    """Return Trackio's logger. It asks once in a process for its folder, so it is told again here."""
    theirs = os.environ.get("TRACKIO_DIR")
    folder = Path(theirs) if theirs else (run.path / "logs" / "trackio").resolve()
    os.environ["TRACKIO_DIR"] = str(folder)
    trackio = importlib.import_module("trackio")
    if not theirs:
        del os.environ["TRACKIO_DIR"]
    for module in [part for name, part in sys.modules.items() if name.split(".")[0] == "trackio"]:
        if hasattr(module, "TRACKIO_DIR"):
            setattr(module, "TRACKIO_DIR", folder)  # noqa: B010 - a module of somebody else's
    project, name = os.environ.get("TRACKIO_PROJECT") or "fallow", run.path.resolve().name
    noted = {"project": project, "name": name}
    goes_on = _kept(run, "trackio") == noted
    _keep(run, "trackio", noted)
    return _Trackio(trackio, project, name, goes_on)


_TRACKERS: dict[str, tuple[tuple[str, ...], Callable[[RunDirectory, str], Logger]]] = {
    "csv": ((), lambda run, at: CSVLogger(run.path, "logs", at)),
    "tensorboard": (("tensorboard", "tensorboardX"), lambda run, at: TensorBoardLogger(run.path, "logs", at)),
    "wandb": (("wandb",), _wandb),
    "mlflow": (("mlflow",), _mlflow),
    "trackio": (("trackio",), _trackio),
}

_NUMBERS: tuple[str, ...] = ("accuracy", "test_loss", "kept", "learned", "outliers", "not_drawn", "bad")
_NUMBERS += ("readmitted", "samples_backward", "samples_forward_only", "saved_fraction", "seconds")
_NUMBERS += ("saved_fraction_so_far", "mean_score", "score_5", "score_50", "score_95", "record_seconds")


def epoch_scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """Return what is logged of an epoch, from what ``summary.json`` says of it: finite numbers only."""
    quantiles = zip(QUANTILES, row.get("score_quantiles") or (), strict=False)
    values = {**row, **{f"score_{round(100 * share)}": score for share, score in quantiles}}
    numbers = {name: values[name] for name in _NUMBERS if isinstance(values.get(name), int | float)}
    return {f"fallow/{name}": float(value) for name, value in numbers.items() if math.isfinite(value)}


class EpochScalars(Callback):
    """Logs the options of a run once, and scalars of each epoch after ``writer``, whose rows they are."""

    def __init__(self, writer: EpochWriter, options: Mapping[str, Any]) -> None:
        self.writer, self.options = writer, dict(options)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the options."""
        for logger in trainer.loggers:
            logger.log_hyperparams(self.options)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the epoch that has just ended."""
        if not (trainer.is_global_zero and (rows := self.writer.epochs)):
            return
        share = sum(row["samples_backward"] for row in rows) / sum(row["samples_full"] for row in rows)
        scalars = epoch_scalars({**rows[-1], "saved_fraction_so_far": 1 - share})
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step=trainer.global_step)
            logger.save()
