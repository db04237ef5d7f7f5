"""Build Lightning's Trainer from the options, and silence it."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import CheckpointIO

from ..arrays.generators import generator_states, put_back
from ..errors import invalid
from ..integrations.lightning import SubsamplingCallback
from ..options.train_options import TrainOptions
from ..runs.directory import RunDirectory
from .jobs import Job
from .trackers import make_logger

_UNSUPPORTED = ("ddp_spawn", "ddp_fork", "ddp_notebook", "fsdp", "deepspeed", "model_parallel", "xla")
"""Strategies under which no process holds the whole state, or the process with the lock does not write."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the initial weights, and restore all global generators at the end; Lightning is silent inside."""
    states = generator_states()
    try:
        with _quiet(), torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    finally:
        put_back(states)


def make_trainer(
    options: TrainOptions,
    run: RunDirectory,
    callbacks: list[Callback],
    io: CheckpointIO | None = None,
    warn: Callable[[str], None] | None = None,
) -> Trainer:
    """Return Lightning's Trainer with the user's settings on top of ours.

    ``io`` saves and loads the state of the run; ``warn`` prints a warning if a tracker fails.
    """
    if options.strategy.startswith(_UNSUPPORTED):
        rule = "--strategy must keep the whole network in each process, and must not spawn or fork processes."
        raise invalid(rule, options.strategy, "Use auto or ddp.")
    plugins = [*([] if io is None else [io]), *options.trainer.get("plugins", [])]
    subsampler = next(c.subsampler for c in callbacks if isinstance(c, SubsamplingCallback))
    arguments: dict[str, Any] = {
        "max_epochs": subsampler.schedule.epochs,
        "accelerator": options.accelerator,
        "devices": _devices(options.devices),
        "strategy": options.strategy,
        "precision": options.precision,
        "logger": make_logger(options.logger, run, warn),
        "enable_checkpointing": False,  # Checkpointer saves the state, without pickle
        "default_root_dir": run.path,
        "callbacks": callbacks,
        "plugins": plugins,
        "use_distributed_sampler": False,  # the subsampler's loader shares the batches among the ranks
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,  # it would move the random generators before the first batch
        "log_every_n_steps": 50,
    }
    try:
        # The user's settings win, but their plugins are added to ours.
        return Trainer(**{**arguments, **options.trainer, "plugins": plugins})
    except Exception as error:  # Lightning raises errors of many types for bad options
        step = "Check --accelerator, --devices, --strategy, --precision and --trainer."
        message = " ".join(str(error).split()) or type(error).__name__
        raise invalid("Lightning's Trainer must accept its options.", f"{message:.400}", step) from None


def _devices(text: str) -> Any:
    """Return the number of devices, a list of them, or "auto"."""
    try:
        return text if text == "auto" else json.loads(text)
    except json.JSONDecodeError:
        raise invalid("--devices must be a number, a list or auto.", text, "Try 1.") from None


def fit(trainer: Trainer, job: Job, state: Any = None) -> None:
    """Train from the start, or from the state at the path ``state``."""
    if job.datamodule is not None:
        trainer.fit(job.module, datamodule=job.datamodule, ckpt_path=state)
    else:
        trainer.fit(job.module, job.train, job.test, ckpt_path=state)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress Lightning's banner, and its advice on loaders that is wrong for data in memory."""
    names = ("lightning.pytorch", "lightning.fabric")
    levels = [logging.getLogger(name).level for name in names]
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings(
                "ignore", message=".*treespec, LeafSpec.*"
            )  # from torch, called by Lightning
            warnings.filterwarnings("ignore", message=".*is smaller than the logging interval.*")
            yield
    finally:
        for name, level in zip(names, levels, strict=True):
            logging.getLogger(name).setLevel(level)
