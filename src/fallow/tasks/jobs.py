"""What a training is made of: data, network, subsampler and loaders, as the options name them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .._checks import invalid
from ..activations import ActivationDensity
from ..activations.taps import AUTO
from ..data_file import DataFile, readable, row_checksums, sorted_by_content
from ..datasets import ImageData, ImageDataset, load_images
from ..loading import check_map_style
from ..models import SmallAutoencoder, image_model
from ..subsampler import Subsampler
from .adding import with_added
from .autoencoder import AutoencoderTask
from .building import (
    import_class,
    is_import_path,
    make_density,
    make_policy,
    make_schedule,
    make_score,
    make_step_rule,
)
from .console import Console
from .image import ImageTask
from .labels import offered_labels, unused_labels
from .on_images import OnImages, Recipe
from .options import TrainOptions
from .parts import chosen_parts

Pictures: TypeAlias = Callable[[NDArray[np.int64]], NDArray[np.uint8]]

_AUGMENTS = {"fashion-mnist": "crop-flip", "cifar10": "crop-flip", "cifar10n": "crop-flip", "digits": "none"}


@dataclass
class Job:
    """What is trained, once the options have become objects.

    Attributes:
        subsampler: chooses the samples.
        module: the user's or ours.
        train, test: loaders; ``test`` may be None for an own data module without validation data.
        classes: names of the classes, or None.
        data: what the samples are, to tell later whether they have changed.
        pictures: ``index (K,) -> uint8 (K, h, w, C)`` of samples that a report shows, or None.
        datamodule: the user's own, or None.
        watch: scores by the density of activations; None where the score is another one.
    """

    subsampler: Subsampler
    module: LightningModule
    train: DataLoader[Any]
    test: Any
    classes: tuple[str, ...] | None
    data: DataFile
    pictures: Pictures | None = None
    datamodule: LightningDataModule | None = None
    watch: ActivationDensity | None = None


def read_data(options: TrainOptions, console: Console) -> ImageData:
    """Read the images that the options name, cut down as they say, and those that they add."""
    with console.reading(options.data) as progress:
        data = load_images(
            options.data,
            seed=options.seed,
            test_share=options.test_share,
            skip_corrupt=options.skip_corrupt,
            image_size=options.image_size,
            progress=progress,
        )
    data = chosen_parts(data, options.samples, options.validation)
    return with_added(data, options.add, console, labelled=options.task != "autoencoder")


def build(options: TrainOptions, console: Console, data: ImageData | None = None) -> Job:
    """Return what the options stand for, ready to be trained.

    Raises:
        InvalidValue: for options or data that cannot be meant.
    """
    if is_import_path(options.data):
        return _own_data(options, console)
    data = data or read_data(options, console)
    batch_size = options.batch_size or _batch_size(len(data.train) - data.added)
    own = import_class(options.model, options.model_args) if is_import_path(options.model) else None
    itself = isinstance(own, LightningModule)
    if itself:
        _refuse_ours(options)
    labels = None if options.task == "autoencoder" else data.train.labels
    subsampler = _subsampler(options, labels, len(data.train), batch_size, declared=not itself)
    collate = _as_floats if itself else data.train.collate
    loader = subsampler.loader(
        data.train, batch_size, full_batches=True, collate_fn=collate, **_worker_options(options)
    )
    test = DataLoader(data.test, batch_size=512, collate_fn=collate)
    module = own if isinstance(own, LightningModule) else _module(options, data, subsampler, batch_size, own)
    given, content = data.train.labels.numpy().astype(np.int32), row_checksums(data.train.images.numpy())
    theirs = data.test.labels.numpy().astype(np.int32)
    held_out = sorted_by_content(row_checksums(data.test.images.numpy()), theirs)
    classes = readable(data.classes)
    samples = DataFile(len(data.train), given, content, classes, readable(data.files), *held_out)
    watch = _watch(options, module)
    return Job(subsampler, module, loader, test, classes, samples, data.train.pictures, watch=watch)


def _as_floats(batch: Any) -> tuple[Tensor, Tensor]:
    """Return a batch for a module that knows nothing of ours: float images in [0, 1], and labels."""
    images, labels = ImageDataset.collate(batch)
    return images.float() / (255 if images.dtype == torch.uint8 else 1), labels


def _own_data(options: TrainOptions, console: Console) -> Job:
    """Put a subsampler between the user's LightningDataModule and his module."""
    for name, given in (
        ("samples", options.samples),
        ("validation", options.validation),
        ("add", options.add or None),
    ):
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
        **_their_workers(theirs, options),
    )
    found.train_dataloader = lambda: loader  # type: ignore[method-assign]
    module = _own_module(options, subsampler)
    known = None if labels is None else labels.numpy().astype(np.int32)
    classes = readable(classes)
    samples = DataFile(count, known, None, classes)
    return Job(subsampler, module, loader, None, classes, samples, None, found, _watch(options, module))


def _watch(options: TrainOptions, module: LightningModule) -> ActivationDensity | None:
    """Return what scores by the density of the network's activations, where the options ask for it."""
    if not options.by_density:
        return None
    network = module.network if isinstance(module, OnImages) else module
    return ActivationDensity(network, options.layers or AUTO, make_density(options), seed=options.seed)


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
    reconstructs = options.task == "autoencoder"
    if own is not None:
        network = own
    elif reconstructs:
        network = SmallAutoencoder(shape[1], (shape[2], shape[3]))
    else:
        network = image_model(options.model, shape[1], (shape[2], shape[3]), len(data.classes))
    augment = options.augment
    if augment == "auto":
        augment = _AUGMENTS.get(data.name, "crop")
    usual = 2e-3 if reconstructs else 0.3 * batch_size / 256
    recipe = Recipe(
        learning_rate=options.learning_rate or usual,
        weight_decay=options.weight_decay,
        rising_share=options.rising_share,
        augment=augment,
        seed=options.seed,
    )
    mean, std = data.train.mean_std()
    if reconstructs:
        return AutoencoderTask(network, mean, std, subsampler, recipe)
    score = None if options.by_density else subsampler.score
    return ImageTask(network, mean, std, subsampler, recipe, score, make_step_rule(options))


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
        score=make_score(options) if declared or options.by_density else None,
    )


def _batch_size(n: int) -> int:
    return 256 if n >= 10_000 else 64


def _worker_options(options: TrainOptions) -> dict[str, Any]:
    if not options.workers:
        return {}
    return {"num_workers": options.workers, "persistent_workers": True, "worker_init_fn": WorkerStart()}


def _their_workers(theirs: DataLoader[Any], options: TrainOptions) -> dict[str, Any]:
    """Return how the user's own loader works, or as many workers as the options say."""
    start = {"worker_init_fn": WorkerStart(theirs.worker_init_fn)}
    if options.workers:
        return _worker_options(options) | start
    if not theirs.num_workers:
        return {}
    return start | {
        "num_workers": theirs.num_workers,
        "persistent_workers": theirs.persistent_workers,
        "prefetch_factor": theirs.prefetch_factor,
        "timeout": theirs.timeout,
        "multiprocessing_context": theirs.multiprocessing_context,
    }


@dataclass(frozen=True)
class WorkerStart:
    """What a worker of a loader does first.

    It goes on when everything is told to stop: the trainer ends it after a last whole step.

    Attributes:
        more: what the user's own loader wants done, or None.
    """

    more: Callable[[int], None] | None = None

    def __call__(self, worker: int) -> None:
        """Leave signals to the trainer."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if self.more is not None:
            self.more(worker)
