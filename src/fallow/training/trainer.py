"""Lightning's Trainer, made as the options say, and kept quiet."""

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

_UNKEPT = ("ddp_spawn", "ddp_fork", "ddp_notebook", "fsdp", "deepspeed", "model_parallel", "xla")
"""Strategies under which no process holds the whole state, or the one that holds the lock does not write."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw initial weights by ``seed`` and leave all global generators as they were; Lightning is quiet."""
    theirs = generator_states()
    try:
        with _quiet(), torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    finally:
        put_back(theirs)


def make_trainer(
    options: TrainOptions,
    run: RunDirectory,
    callbacks: list[Callback],
    io: CheckpointIO | None = None,
    say: Callable[[str], None] | None = None,
) -> Trainer:
    """Return Lightning's Trainer with our settings and the user's.

    ``io`` keeps the state of the run, ``say`` prints a line where a tracker has to be left behind.
    """
    if options.strategy.startswith(_UNKEPT):
        rule = "--strategy must keep the whole network in each process, and start processes of their own."
        raise invalid(rule, options.strategy, "Use auto or ddp.")
    plugins = [*([] if io is None else [io]), *options.trainer.get("plugins", [])]
    subsampler = next(c.subsampler for c in callbacks if isinstance(c, SubsamplingCallback))
    arguments: dict[str, Any] = {
        "max_epochs": subsampler.schedule.epochs,
        "accelerator": options.accelerator,
        "devices": _devices(options.devices),
        "strategy": options.strategy,
        "precision": options.precision,
        "logger": make_logger(options.logger, run, say),
        "enable_checkpointing": False,
        "default_root_dir": run.path,
        "callbacks": callbacks,
        "plugins": plugins,
        "use_distributed_sampler": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 50,
    }
    try:
        return Trainer(**{**arguments, **options.trainer, "plugins": plugins})
    except Exception as error:  # each of its parts raises kinds of its own
        step = "Look at --accelerator, --devices, --strategy, --precision and --trainer."
        what = " ".join(str(error).split()) or type(error).__name__
        raise invalid("Lightning's Trainer must accept its options.", f"{what:.400}", step) from None


def _devices(words: str) -> Any:
    """Return how many devices, or a list of them, or "auto"."""
    try:
        return words if words == "auto" else json.loads(words)
    except json.JSONDecodeError:
        raise invalid("--devices must be a number, a list or auto.", words, "Try 1.") from None


def fit(trainer: Trainer, job: Job, state: Any = None) -> None:
    """Train, from the state at a path where one is given."""
    if job.datamodule is not None:
        trainer.fit(job.module, datamodule=job.datamodule, ckpt_path=state)
    else:
        trainer.fit(job.module, job.train, job.test, ckpt_path=state)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's greetings, and its advice on loaders that are in memory, off the screen."""
    names = ("lightning.pytorch", "lightning.fabric")
    levels = [logging.getLogger(name).level for name in names]
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")  # torch, in Lightning
            warnings.filterwarnings("ignore", message=".*is smaller than the logging interval.*")
            yield
    finally:
        for name, level in zip(names, levels, strict=True):
            logging.getLogger(name).setLevel(level)
