"""Experiment trackers, by Lightning's own loggers, behind a guard: none can hurt a training."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import random
import secrets
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger

from ..core.history import QUANTILES
from ..errors import invalid, unknown_name
from ..runs.directory import RunDirectory
from .epoch_writer import EpochWriter
from .guarded import FINISH_SECONDS, Guarded, Say


def make_logger(name: str, run: RunDirectory, say: Say | None = None) -> Logger | bool:
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
    let_go = _let_go_of_wandb if name == "wandb" else lambda: None
    return Guarded(name, lambda: make(run, session), before, say, let_go)


def _kept(run: RunDirectory, name: str) -> dict[str, Any]:
    """Return what an earlier session noted of the tracker's run, or nothing."""
    with suppress(OSError, ValueError, TypeError):
        return dict(json.loads((run.path / "logs" / f"{name}.json").read_text(encoding="utf-8")))
    return {}


def _keep(run: RunDirectory, name: str, noted: dict[str, Any]) -> None:
    """Note what a later session needs to go on in the tracker's run."""
    run.disk.make_folder(run.path / "logs")
    run.disk.put(run.path / "logs" / f"{name}.json", (json.dumps(noted) + "\n").encode())


def _draw_apart(*modules: str) -> None:
    """Give modules of a tracker a generator of their own in place of Python's, which data are drawn with."""
    for module in map(importlib.import_module, modules):
        setattr(module, "random", random.Random(secrets.randbits(64)))  # noqa: B010 - somebody else's


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
    _draw_apart("mlflow.utils.name_utils", "mlflow.utils.request_utils", "mlflow.utils.rest_utils")
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

_NUMBERS = (
    "accuracy", "train_accuracy", "test_loss", "kept", "learned", "outliers", "not_drawn", "bad",
    "readmitted", "samples_backward", "samples_forward_only", "saved_fraction", "seconds",
    "saved_fraction_so_far", "mean_score", "score_5", "score_50", "score_95", "record_seconds",
)  # fmt: skip


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
