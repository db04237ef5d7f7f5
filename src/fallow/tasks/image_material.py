"""The data and module of a training on images: to classify or to reconstruct them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from ..core.memory import installed_memory
from ..core.subsampler import Subsampler
from ..datasets import ImageData, load_images
from ..datasets.decoded_images import DecodedImages
from ..datasets.file_images import FileImages
from ..datasets.images import LeftOutWarning, Progress, Shape, collate
from ..datasets.names import KNOWN
from ..datasets.pixel_range import PixelRanges
from ..models import SmallAutoencoder
from ..options.factories import make_step_rule
from ..options.resolve import DataFacts, ResolvedOptions, resolve_on_data
from ..options.sizes import bytes_of
from ..runs.data_changes import Samples
from ..runs.data_file import DataFile, held_out_arrays, held_out_order, readable
from .added_samples import with_added
from .autoencoder import AutoencoderTask
from .base import recipe_of
from .console import Console
from .corrected_labels import with_labels
from .image import ImageTask
from .image_base import ImageModule
from .image_networks import batch_norms, expected, freeze, make_network, normalisation
from .material import Material, as_before
from .parts import chosen_parts

_TEST_BATCH, _TEST_PIXELS = 512, 1 << 23
"""Most images in a batch of the evaluation, and the most values in it if they are large."""
_CACHED = 4
"""The part of the machine's memory that decoded images take at most is one in so many."""


def read_images(
    options: ResolvedOptions, console: Console, progress: Progress | None, before: DataFile | None = None
) -> ImageData:
    """Read the images that the options name, split and cut as they say, with the images that they add.

    ``before`` lists the samples of the resumed run, whose parts stay. The test part of a folder does not
    depend on the seed, so that all seeds of a comparison are measured on the same images. A library's network
    chooses the size of images in a folder.
    """
    size = options.image_size
    if size is None and sizes_differ(options.data):
        size = expected(options.model).side
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeftOutWarning)  # the notes below say the same
        data = load_images(
            options.data,
            test_share=options.test_share,
            skip_corrupt=options.skip_corrupt,
            image_size=size,
            progress=progress,
            ranges=PixelRanges.restore(None if before is None else before.ranges),
        )
    notes = list(data.notes)
    if options.cache_dir is not None and not isinstance(data.train, FileImages):
        notes.append("--cache_dir is not used: the images fit into the memory.")
    for note in notes:
        console.warn(note)
    chosen = chosen_parts(data, options.samples, options.validation, before)
    chosen = with_added(chosen, options.add, console, labelled=options.task != "autoencoder")
    return with_labels(chosen, data, options.labels, options.data, console)


def in_order_of(data: ImageData, before: DataFile) -> ImageData:
    """Return the images in the order of a run, new ones last."""
    order = as_before(_data_file(data), before)
    return data if order is None else data.take(order)


def image_material(
    options: ResolvedOptions, data: ImageData, own: Any, before: DataFile | None = None
) -> Material:
    """Return the material of a training on images.

    Args:
        options: of the training.
        data: the images.
        own: the user's network or LightningModule, or None.
        before: the samples of the resumed run, which keep their indices; None for a new run.
    """
    file, unlisted = _data_file(data), 0
    if before is not None and (now := Samples.trained(file)) and (old := Samples.trained(before)):
        # The images added by a list come last; the others that the run does not know changed by themselves.
        unlisted = int(np.count_nonzero(now.found_in(old)[: len(data.train) - data.added] < 0))
    if (order := as_before(file, before)) is not None:
        data, file = data.take(order), file.take(order)
    labels = None if options.task == "autoencoder" else data.train.labels
    # Our modules scale bytes on the device; a user's own module gets floats.
    collated = _as_floats if isinstance(own, LightningModule) else collate
    options = resolve_on_data(options, _data_facts(options, data, labels, own))

    if isinstance(data.train, FileImages) and isinstance(data.test, FileImages):
        assert options.cache is not None
        _remember(data.train, data.test, bytes_of("cache", options.cache), options.cache_dir)

    def module(subsampler: Subsampler) -> ImageModule:
        return _module(options, data, subsampler, own, fresh=before is None)

    return Material(
        data.train,
        data.test,
        collated,
        labels,
        file,
        lambda index: {"pictures": data.train.pictures(index)},
        _test_batch(data.test.shape),
        options,
        module,
        held_out_name=_held_out_names(data, file),
        unlisted=unlisted,
        facts=_facts(data),
    )


def _remember(train: FileImages, test: FileImages, limit: int, folder: str | None) -> None:
    """Share the memory for decoded images among both parts, as their numbers are."""
    decoded = None
    if folder is not None:
        decoded = DecodedImages(Path(folder), train.shape, train.ranges)
        decoded.check_room(len(train.paths) + len(test.paths))
    memory = installed_memory()
    if memory is not None:
        limit = min(limit, memory // _CACHED)
    both = len(train) + len(test)
    for part in (train, test):
        part.remember(limit * len(part) // both, decoded)


def _test_batch(shape: Shape) -> int:
    return max(1, min(_TEST_BATCH, _TEST_PIXELS // math.prod(shape)))


def _held_out_names(data: ImageData, file: DataFile) -> Callable[[int], str]:
    """Return the function from the row of a held-out image in ``data.safetensors`` to its name."""
    content, labels = data.test.contents(), data.test.labels.numpy().astype(np.int32)
    # The file has its own order of held-out samples.
    order, files = held_out_order(content, labels), readable(data.test_files)

    def name(place: int) -> str:
        row = int(order[place])
        return f"test image {row}" if files is None else files[row]

    return name


def _data_facts(options: ResolvedOptions, data: ImageData, labels: Tensor | None, own: Any) -> DataFacts:
    """Return the facts that defaults depend on."""
    channels, height, width = data.train.shape
    squares = height == width and sizes_differ(options.data)
    return DataFacts(
        # Without added samples, so that a list does not change the defaults.
        samples=len(data.train) - data.added,
        classes=None if labels is None else np.unique(labels).size,
        name=options.data,
        channels=channels,
        side=height if squares else None,
        trains_itself=isinstance(own, LightningModule),
        in_files=isinstance(data.train, FileImages),
    )


def sizes_differ(data: str) -> bool:
    """Return whether images are scaled to one size when they are read."""
    return data not in KNOWN and (data.startswith("hf:") or Path(data).is_dir())


def _facts(data: ImageData) -> dict[str, Any]:
    channels, height, width = data.train.shape
    return {"kind": "images", "image_size": [height, width], "channels": channels}


def _data_file(data: ImageData) -> DataFile:
    content, held_out = data.train.contents(), data.test.contents()
    labels, held_out_labels = (part.labels.numpy().astype(np.int32) for part in (data.train, data.test))
    identity, held_out_identity = data.identity or (None, None)
    return DataFile(
        len(data.train),
        labels,
        content,
        readable(data.classes),
        readable(data.files),
        identity=identity,
        ranges=data.train.ranges.dump(),
        **held_out_arrays(held_out, held_out_labels, held_out_identity),
    )


def _as_floats(batch: Any) -> tuple[Tensor, Tensor]:
    """Return a batch for the user's own LightningModule: float images in [0, 1], and labels."""
    images, labels = collate(batch)
    return images.float() / (255 if images.dtype == torch.uint8 else 1), labels


def _module(
    options: ResolvedOptions, data: ImageData, subsampler: Subsampler, own: nn.Module | None, *, fresh: bool
) -> ImageModule:
    channels, height, width = data.train.shape
    reconstructs = options.task == "autoencoder"
    if own is not None:
        network = own
    elif reconstructs:
        network = SmallAutoencoder(channels, (height, width))
    else:
        network = make_network(options, channels, (height, width), len(data.classes), fresh=fresh)
    recipe = recipe_of(options)
    mean, std = normalisation(options, *data.train.mean_std())
    if reconstructs:
        return AutoencoderTask(network, mean, std, subsampler, recipe)
    score = None if options.by_density else subsampler.score
    task = ImageTask(network, mean, std, subsampler, recipe, score, make_step_rule(options))
    task.frozen = freeze(network, options.freeze or 0)
    if options.pretrained is not None:
        task.frozen = [*task.frozen, *batch_norms(network)]
    task.skips_unreadable = isinstance(data.test, FileImages)
    return task
