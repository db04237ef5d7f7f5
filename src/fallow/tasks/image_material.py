"""Images, and how a network learns to classify or to reconstruct them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from .._checks import invalid
from ..data_file import DataFile, readable, row_checksums, sorted_by_content
from ..datasets import ImageData, ImageDataset, load_images
from ..datasets.images import Progress
from ..models import SmallAutoencoder, image_model
from ..subsampler import Subsampler
from .adding import with_added
from .autoencoder import AutoencoderTask
from .building import make_step_rule
from .console import Console
from .image import ImageTask
from .material import Material
from .on_images import OnImages, Recipe
from .options import KNOWN_DATA, TrainOptions
from .parts import chosen_parts

_AUGMENTS = {"fashion-mnist": "crop-flip", "cifar10": "crop-flip", "cifar10n": "crop-flip", "digits": "none"}
_TEST_BATCH = 512


def read_images(options: TrainOptions, console: Console, progress: Progress | None) -> ImageData:
    """Read the images that the options name, cut down as they say, and those that they add."""
    data = load_images(
        options.data,
        seed=options.seed,
        test_share=0.2 if options.test_share is None else options.test_share,
        skip_corrupt=options.skip_corrupt,
        image_size=options.image_size,
        progress=progress,
    )
    data = chosen_parts(data, options.samples, options.validation)
    return with_added(data, options.add, console, labelled=options.task != "autoencoder")


def image_material(options: TrainOptions, data: ImageData, own: Any) -> Material:
    """Return images as a training takes them.

    Args:
        options: resolved ones.
        data: the images.
        own: the user's network or LightningModule, or None.
    """
    labels = None if options.task == "autoencoder" else data.train.labels
    collate = _as_floats if isinstance(own, LightningModule) else data.train.collate

    def module(subsampler: Subsampler, batch_size: int) -> OnImages:
        return _module(options, data, subsampler, batch_size, own)

    n = len(data.train) - data.added
    return Material(
        data.train,
        data.test,
        collate,
        labels,
        _data_file(data),
        lambda index: {"pictures": data.train.pictures(index)},
        256 if n >= 10_000 else 64,
        _TEST_BATCH,
        module,
        usual=_usual(options, data),
        facts=_facts(data),
    )


def _usual(options: TrainOptions, data: ImageData) -> dict[str, Any]:
    """Return the values of options that depend on the images."""
    height, width = data.train.images.shape[2:]
    found: dict[str, Any] = {"augment": _AUGMENTS.get(data.name, "crop")}
    if height == width and Path(options.data).is_dir() and options.data not in KNOWN_DATA:
        found["image_size"] = height
    return found


def _facts(data: ImageData) -> dict[str, Any]:
    channels, height, width = data.train.images.shape[1:]
    return {"kind": "images", "image_size": [height, width], "channels": channels}


def _data_file(data: ImageData) -> DataFile:
    given, content = data.train.labels.numpy().astype(np.int32), row_checksums(data.train.images.numpy())
    theirs = data.test.labels.numpy().astype(np.int32)
    held_out = sorted_by_content(row_checksums(data.test.images.numpy()), theirs)
    classes = readable(data.classes)
    return DataFile(len(data.train), given, content, classes, readable(data.files), *held_out)


def _as_floats(batch: Any) -> tuple[Tensor, Tensor]:
    """Return a batch for a module that knows nothing of ours: float images in [0, 1], and labels."""
    images, labels = ImageDataset.collate(batch)
    return images.float() / (255 if images.dtype == torch.uint8 else 1), labels


def _module(
    options: TrainOptions, data: ImageData, subsampler: Subsampler, batch_size: int, own: nn.Module | None
) -> OnImages:
    shape = data.train.images.shape
    reconstructs = options.task == "autoencoder"
    if own is None and options.model_args:
        step = "Leave --model_args out, or name your own class."
        raise invalid("--model_args goes with --model package.module:Class.", options.model_args, step)
    if own is not None:
        network = own
    elif reconstructs:
        network = SmallAutoencoder(shape[1], (shape[2], shape[3]))
    else:
        network = image_model(options.model, shape[1], (shape[2], shape[3]), len(data.classes))
    augment = _usual(options, data)["augment"] if options.augment == "auto" else options.augment
    usual = 2e-3 if reconstructs else 0.3 * batch_size / 256
    recipe = Recipe(
        learning_rate=options.learning_rate or usual,
        weight_decay=5e-4 if options.weight_decay is None else options.weight_decay,
        rising_share=options.rising_share,
        augment=augment,
        seed=options.seed,
    )
    mean, std = data.train.mean_std()
    if reconstructs:
        return AutoencoderTask(network, mean, std, subsampler, recipe)
    score = None if options.by_density else subsampler.score
    return ImageTask(network, mean, std, subsampler, recipe, score, make_step_rule(options))
