"""``fallow train``: data, network, subsampler and Lightning's Trainer put together, and a run left behind."""

from __future__ import annotations

import json
import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .._checks import invalid
from ..datasets import ImageData, ImageDataset, load_images
from ..integrations.lightning import SubsamplingCallback
from ..loading import check_map_style
from ..models import image_model
from ..run_directory import RunDirectory, replaced
from ..scores import RelativeToBatch
from ..subsampler import Subsampler
from .building import import_class, is_import_path, make_policy, make_schedule, make_score, make_step_rule
from .class_accuracy import ClassAccuracy
from .console import Console
from .image import ImageTask, Recipe
from .labels import offered_labels, unused_labels
from .options import TrainOptions
from .outcome import EpochWriter, finish, samples_evaluated
from .parts import chosen_parts

_AUGMENTS = {"fashion-mnist": "crop-flip", "cifar10": "crop-flip", "cifar10n": "crop-flip", "digits": "none"}


@dataclass
class Job:
    """What is trained, once the options have become objects.

    Attributes:
        subsampler: chooses the samples.
        module: the user's or ours.
        train, test: loaders; ``test`` may be None for an own data module without validation data.
        classes: names of the classes, or None.
        datamodule: the user's own, or None.
    """

    subsampler: Subsampler
    module: LightningModule
    train: DataLoader[Any]
    test: Any
    classes: tuple[str, ...] | None
    datamodule: LightningDataModule | None = None


def train(
    options: TrainOptions, console: Console | None = None, data: ImageData | None = None
) -> dict[str, Any]:
    """Train as the options say, and return the summary that lies in the run directory.

    Args:
        options: what to train, on what and how.
        console: where to print; standard output by default.
        data: the images of these options as :func:`read_data` gives them, where they are at hand.

    Raises:
        InvalidValue: for options or data that cannot be meant; before anything is trained.
    """
    options.check()
    console = console or Console.here()
    with seeded(options.seed):
        job = build(options, console, data)
        run = _open_run(options, console)
        try:
            return _run(options, job, run, console)
        except BaseException:
            run.discard()
            raise


def _run(options: TrainOptions, job: Job, run: RunDirectory, console: Console) -> dict[str, Any]:
    """Train, and write what a run leaves behind, after Ctrl-C too."""
    step_rule = job.module.step_rule if isinstance(job.module, ImageTask) else None
    score = make_score(options)
    relative = isinstance(score, RelativeToBatch)
    writer = EpochWriter(run, job.subsampler, console, step_rule, relative=relative)
    watch = SubsamplingCallback(job.subsampler, score)
    trainer = make_trainer(options, run, [watch, writer.watch, writer])
    began, cpu = time.perf_counter(), time.process_time()
    console.begin(job.subsampler, len(job.train), options, step_rule)
    stopped = False
    try:
        fit(trainer, job)
    except SystemExit:  # Lightning ends a training so on Ctrl-C
        stopped = trainer.interrupted
        if not stopped:
            raise
    finally:
        console.end()
    more = {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
        "steps": trainer.global_step,
        "evaluated_on": options.evaluated_on,
        "samples_evaluated": samples_evaluated(trainer),
        **_class_accuracy(job),
    }
    summary: dict[str, Any] = {}
    if trainer.is_global_zero and writer.epochs:
        _save_weights(job.module, run)
        summary = finish(run, job.subsampler, job.classes, writer, more, console)
    if stopped:
        raise KeyboardInterrupt
    return summary


def _class_accuracy(job: Job) -> dict[str, Any]:
    """Return the accuracy of each class and the lowest of them, where the module counts classes."""
    counted = getattr(job.module, "class_accuracy", None)
    shares = counted.shares() if isinstance(counted, ClassAccuracy) and job.classes is not None else []
    there = [share for share in shares if share is not None]
    names = job.classes if job.classes and len(job.classes) == len(shares) else map(str, range(len(shares)))
    return {
        "worst_class_accuracy": min(there, default=None),
        "accuracy_by_class": dict(zip(names, shares, strict=True)) if shares else None,
    }


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw initial weights by ``seed`` and leave torch's own generators as they were; Lightning is quiet."""
    with _quiet(), torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def read_data(options: TrainOptions, console: Console) -> ImageData:
    """Read the images that the options name, and cut them down as the options say."""
    with console.reading(options.data) as progress:
        data = load_images(
            options.data,
            seed=options.seed,
            test_share=options.test_share,
            skip_corrupt=options.skip_corrupt,
            image_size=options.image_size,
            progress=progress,
        )
    return chosen_parts(data, options.samples, options.validation)


def build(options: TrainOptions, console: Console, data: ImageData | None = None) -> Job:
    """Return what the options stand for, ready to be trained.

    Raises:
        InvalidValue: for options or data that cannot be meant.
    """
    if is_import_path(options.data):
        return _own_data(options, console)
    data = data or read_data(options, console)
    batch_size = options.batch_size or _batch_size(len(data.train))
    own = import_class(options.model, options.model_args) if is_import_path(options.model) else None
    itself = isinstance(own, LightningModule)
    if itself:
        _refuse_ours(options)
    subsampler = _subsampler(options, data.train.labels, len(data.train), batch_size, declared=not itself)
    collate = _as_floats if itself else data.train.collate
    loader = subsampler.loader(
        data.train, batch_size, full_batches=True, collate_fn=collate, **_worker_options(options)
    )
    test = DataLoader(data.test, batch_size=512, collate_fn=collate)
    module = own if isinstance(own, LightningModule) else _module(options, data, subsampler, batch_size, own)
    return Job(subsampler, module, loader, test, data.classes)


def _as_floats(batch: Any) -> tuple[Tensor, Tensor]:
    """Return a batch for a module that knows nothing of ours: float images in [0, 1], and labels."""
    images, labels = ImageDataset.collate(batch)
    return images.float() / (255 if images.dtype == torch.uint8 else 1), labels


def _own_data(options: TrainOptions, console: Console) -> Job:
    """Put a subsampler between the user's LightningDataModule and his module."""
    for name, given in (("samples", options.samples), ("validation", options.validation)):
        if given is not None:
            raise invalid(f"--{name} is for images that fallow reads.", given, "Cut your own data yourself.")
    found = import_class(options.data, options.data_args)
    if not isinstance(found, LightningDataModule):
        raise invalid(f"{options.data} must be a LightningDataModule.", type(found).__name__)
    found.prepare_data()
    found.setup("fit")
    theirs = found.train_dataloader()
    if not isinstance(theirs, DataLoader):
        raise invalid("train_dataloader() must return one DataLoader.", type(theirs).__name__)
    dataset: Dataset[Any] = theirs.dataset
    check_map_style(dataset)
    batch_size = options.batch_size or theirs.batch_size or 1
    count = len(dataset)  # type: ignore[arg-type]
    labels, classes = offered_labels(dataset)
    if labels is None and (why := unused_labels(dataset)):
        console.line(why)
    subsampler = _subsampler(options, labels, count, batch_size, declared=False)
    loader = subsampler.loader(
        dataset,
        batch_size,
        full_batches=True,
        collate_fn=theirs.collate_fn,
        drop_last=theirs.drop_last,
        pin_memory=theirs.pin_memory,
        **(_worker_options(options) if options.workers else {"num_workers": theirs.num_workers}),
    )
    found.train_dataloader = lambda: loader  # type: ignore[method-assign]
    module = _own_module(options, subsampler)
    return Job(subsampler, module, loader, None, classes, found)


def _own_module(options: TrainOptions, subsampler: Subsampler) -> LightningModule:
    if not is_import_path(options.model):
        raise invalid(
            "Your own data needs your own model.", f"--model {options.model}", "Name package.module:Class."
        )
    found = import_class(options.model, options.model_args)
    if not isinstance(found, LightningModule):
        raise invalid(f"{options.model} must be a LightningModule.", type(found).__name__)
    _refuse_ours(options)
    return found


def _refuse_ours(options: TrainOptions) -> None:
    """Raise for options of our own training where the user's LightningModule trains itself."""
    if options.policy == "selective-backprop":
        step = "Use fallow.step_rules in your training_step, and return `backward` from it."
        raise invalid("--policy selective-backprop is for our own training.", options.model, step)
    for name, given in (("learning_rate", options.learning_rate), ("augment", options.augment)):
        if given not in (None, "auto"):
            raise invalid(f"--{name} is for our own training.", given, "Set it in your LightningModule.")


def _module(
    options: TrainOptions, data: ImageData, subsampler: Subsampler, batch_size: int, own: Any
) -> LightningModule:
    shape = data.train.images.shape
    if own is not None and not isinstance(own, nn.Module):
        raise invalid(f"{options.model} must be an nn.Module.", type(own).__name__)
    network = own or image_model(options.model, shape[1], (shape[2], shape[3]), len(data.classes))
    augment = options.augment
    if augment == "auto":
        augment = _AUGMENTS.get(data.name, "crop")
    recipe = Recipe(
        learning_rate=options.learning_rate or 0.3 * batch_size / 256,
        weight_decay=options.weight_decay,
        rising_share=options.rising_share,
        augment=augment,
        seed=options.seed,
    )
    mean, std = data.train.mean_std()
    return ImageTask(network, mean, std, subsampler, recipe, subsampler.score, make_step_rule(options))


def _subsampler(
    options: TrainOptions, labels: Tensor | None, n: int, batch_size: int, *, declared: bool
) -> Subsampler:
    """Return the subsampler; ``declared``: the losses that are recorded are known to be the score."""
    per_class = options.min_kept_per_class
    if per_class is None:
        per_class = 0 if labels is None else max(1, batch_size // (int(labels.max()) + 1))
    epochs = options.planned_epochs
    if per_class and labels is None:
        step = "Give your training dataset an attribute `labels`, (N,) class ids, or leave it out."
        raise invalid("--min_kept_per_class needs labels.", "your own data", step)
    return Subsampler(
        n,
        make_policy(options),
        make_schedule(options, epochs),
        seed=options.seed,
        labels=labels,
        min_kept=min(n, batch_size if options.min_kept is None else options.min_kept),
        min_kept_per_class=per_class,
        score=make_score(options) if declared else None,
    )


def _batch_size(n: int) -> int:
    return 256 if n >= 10_000 else 64


def _worker_options(options: TrainOptions) -> dict[str, Any]:
    if not options.workers:
        return {}
    return {"num_workers": options.workers, "persistent_workers": True}


def _open_run(options: TrainOptions, console: Console) -> RunDirectory:
    """Make the run directory, on the first process only, and keep the options in it."""
    name = options.data.replace(":", ".").strip("/").split("/")[-1]
    default = f"runs/{name}-{options.policy}-{time.strftime('%Y%m%d-%H%M%S')}"
    out = options.out or default
    if int(os.environ.get("LOCAL_RANK", "0")) or int(os.environ.get("RANK", "0")):
        return RunDirectory(out)
    run = RunDirectory.create(out)
    settings = {name: value for name, value in asdict(options).items() if value is not None}
    run.write_text(run.config_path, yaml.safe_dump(settings, sort_keys=False))
    return run


def make_trainer(options: TrainOptions, run: RunDirectory, callbacks: list[Callback]) -> Trainer:
    """Return Lightning's Trainer with our settings and the user's."""
    if options.checkpoints:
        callbacks = [*callbacks, ModelCheckpoint(run.path / "checkpoints", save_last=True)]
    subsampler = next(c.subsampler for c in callbacks if isinstance(c, SubsamplingCallback))
    arguments: dict[str, Any] = {
        "max_epochs": subsampler.schedule.epochs,
        "accelerator": options.accelerator,
        "devices": _devices(options.devices),
        "num_nodes": options.num_nodes,
        "strategy": options.strategy,
        "precision": options.precision,
        "logger": _logger(options.logger, run),
        "enable_checkpointing": options.checkpoints,
        "default_root_dir": run.path,
        "callbacks": callbacks,
        "use_distributed_sampler": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 50,
    }
    try:
        return Trainer(**{**arguments, **options.trainer})
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        step = "Look at --accelerator, --devices, --strategy, --precision and --trainer."
        raise invalid("Lightning's Trainer must accept its options.", error, step) from None


def _devices(words: str) -> Any:
    """Return how many devices, or a list of them, or "auto"."""
    try:
        return words if words == "auto" else json.loads(words)
    except json.JSONDecodeError:
        raise invalid("--devices must be a number, a list or auto.", words, "Try 1.") from None


def _logger(name: str, run: RunDirectory) -> Logger | bool:
    kinds: dict[str, Any] = {"csv": CSVLogger, "tensorboard": TensorBoardLogger}
    try:
        return name != "none" and kinds[name](save_dir=run.path, name="logs", version="")
    except ModuleNotFoundError as error:
        step = f"Run `pip install {name}`, or use --logger csv."
        raise invalid(f"--logger {name} needs its package.", error, step) from None


def fit(trainer: Trainer, job: Job) -> None:
    """Train."""
    if job.datamodule is not None:
        trainer.fit(job.module, datamodule=job.datamodule)
    else:
        trainer.fit(job.module, job.train, job.test)


def _save_weights(module: LightningModule, run: RunDirectory) -> None:
    """Write ``model.safetensors``: the network's weights, on the host."""
    network = module.network if isinstance(module, ImageTask) else module
    weights = {k: v.detach().cpu().contiguous().clone() for k, v in network.state_dict().items()}
    with replaced(run.model_path) as temporary:
        temporary.write_bytes(save(weights))


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
