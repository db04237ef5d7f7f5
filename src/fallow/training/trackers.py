"""Experiment trackers through Lightning's loggers. One that fails is switched off; training goes on."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from operator import attrgetter
from typing import Any, TypeAlias

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from ..arrays.distributed import rank_and_size
from ..arrays.generators import generator_states, put_back
from ..core.history import QUANTILES
from ..errors import invalid, unknown_name
from ..runs.directory import RunDirectory
from ..terminal.streams import complain
from .epoch_writer import EpochWriter

Warn: TypeAlias = Callable[[str], None]


def make_logger(name: str, run: RunDirectory, warn: Warn | None = None) -> Logger | bool:
    """Return the tracker of that name, which is built at its first call; False for ``none``.

    It writes to ``RUN/logs``, unless its own environment variables name another place. Each session of a run
    is a run of the tracker. ``warn`` prints warnings, to standard error by default.

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
    logs = run.path / "logs"
    done = sum(path.is_dir() for path in logs.glob("session-*"))
    session = f"session-{done + 2}" if logs.exists() else ""  # the first session has no number
    return Guarded(name, lambda: make(run, session), str(logs), warn or complain)


class Guarded(Logger):
    """Forwards calls to a tracker on the first rank, until one of them fails.

    A call returns None, whatever the tracker returns, and leaves the random generators unchanged.

    Args:
        tracker: its name.
        make: builds it.
        save_dir: the folder for files that a training writes beside its scalars.
        warn: prints a warning.
    """

    # Lightning's Logger has properties of these names, which an instance could not set.
    name, version, save_dir = "", "", ""

    def __init__(self, tracker: str, make: Callable[[], Any], save_dir: str, warn: Warn) -> None:
        super().__init__()
        self.name, self.save_dir = tracker, save_dir
        self._make, self._warn, self._off = make, warn, False
        self._tracker: Any = None

    @property
    def experiment(self) -> Any:
        """The tracker's own object, such as a SummaryWriter; its calls return None."""
        return _Calls(self, "experiment.")

    def __getattr__(self, name: str) -> Callable[..., None]:
        return _Calls(self, "").__getattr__(name)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log scalars."""
        self.call("log_metrics", dict(metrics), step=step)

    def log_hyperparams(self, params: Any = None, *args: Any, **kwargs: Any) -> None:
        """Log hyper-parameters."""
        self.call("log_hyperparams", params, *args, **kwargs)

    def save(self) -> None:
        """Save the tracker's files."""
        self.call("save")

    def finalize(self, status: str) -> None:
        """End the tracker's run, if it has started."""
        if self._tracker is not None:
            self.call("finalize", status)
            self._tracker, self._off = None, True

    def call(self, method: str, *arguments: Any, **options: Any) -> None:
        """Call the tracker; switch it off if it fails."""
        if self._off or rank_and_size()[0]:
            return
        # A tracker may draw numbers, such as for a run's name, and must not change the training by it.
        before = generator_states()
        try:
            if self._tracker is None:
                self._tracker = self._make()
            attrgetter(method)(self._tracker)(*arguments, **options)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too: no tracker ends a training
            self._off, message = True, type(error).__name__
            with suppress(BaseException):  # str(error) runs the tracker's code too
                message = " ".join(f"{message}: {error}".split())[:300]
            self._warn(
                f"Warning: the tracker {self.name} failed and is switched off; training goes on. {message}"
            )
        finally:
            put_back(before)


class _Calls:
    """Forwards calls of any name to a tracker."""

    def __init__(self, tracker: Guarded, owner: str) -> None:
        self._tracker, self._owner = tracker, owner

    def __getattr__(self, name: str) -> Callable[..., None]:
        # Python looks for special methods by name, and a tracker must not be called for them.
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *arguments, **options: self._tracker.call(self._owner + name, *arguments, **options)


class _Wandb(WandbLogger):
    """Ends its run with the training. By default, W&B does so when the process ends, and waits."""

    def finalize(self, status: str) -> None:
        super().finalize(status)
        self.experiment.finish(exit_code=int(status != "success"))


def _wandb(run: RunDirectory, session: str) -> Logger:
    """Return W&B's logger, offline if no user is logged in: online it would ask for a key."""
    # An optional package; make_logger has checked that it is installed.
    import wandb

    mode = os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False) else "offline")
    name = os.environ.get("WANDB_NAME") or run.path.resolve().name
    return _Wandb(
        project=os.environ.get("WANDB_PROJECT") or "fallow",
        name="-".join(filter(None, (name, session))),
        group=os.environ.get("WANDB_RUN_GROUP") or name,
        save_dir=os.environ.get("WANDB_DIR") or run.path / "logs",
        mode=mode,
        # W&B would capture all output, and print between the lines of the training.
        settings=wandb.Settings(console="off", silent=True),
    )


def _mlflow(run: RunDirectory, session: str) -> Logger:
    """Return MLflow's logger, which writes files if no server is named."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        uri = (run.path / "logs" / "mlflow").resolve().as_uri()
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "fallow"
    return MLFlowLogger(experiment, "-".join(filter(None, (run.path.resolve().name, session))), uri)


_TRACKERS: dict[str, tuple[tuple[str, ...], Callable[[RunDirectory, str], Logger]]] = {
    "csv": ((), lambda run, session: CSVLogger(run.path, "logs", session)),
    "tensorboard": (
        ("tensorboard", "tensorboardX"),
        lambda run, session: TensorBoardLogger(run.path, "logs", session),
    ),
    "wandb": (("wandb",), _wandb),
    "mlflow": (("mlflow",), _mlflow),
}

_NUMBERS = (
    "accuracy", "train_accuracy", "test_loss", "kept", "learned", "outliers", "not_drawn", "bad",
    "readmitted", "samples_backward", "samples_forward_only", "saved_fraction", "seconds",
    "saved_fraction_so_far", "mean_score", "score_5", "score_50", "score_95", "record_seconds",
)  # fmt: skip


def epoch_scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the scalars to log for an epoch from its row of ``summary.json``: finite numbers only."""
    quantiles = zip(QUANTILES, row.get("score_quantiles") or (), strict=False)
    values = {**row, **{f"score_{round(100 * share)}": score for share, score in quantiles}}
    numbers = {name: values[name] for name in _NUMBERS if isinstance(values.get(name), int | float)}
    return {f"fallow/{name}": float(value) for name, value in numbers.items() if math.isfinite(value)}


class EpochScalars(Callback):
    """Logs the options of a run once, and scalars of each epoch. It must come after ``writer``."""

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
            # CSVLogger keeps rows in memory until it is saved.
            logger.save()
