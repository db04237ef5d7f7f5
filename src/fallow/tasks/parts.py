"""Which samples are trained on and reported on: a fixed subset, and a part cut off for choosing settings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from .._checks import invalid
from ..datasets import ImageData, ImageDataset
from ..keyed import mix, uniform
from ..selection import smallest

_VALIDATION, _SAMPLES = 0x7A11, 0x5A3B


def chosen_parts(data: ImageData, samples: int | None, validation: float | None) -> ImageData:
    """Return the data with the training part cut down, and the validation part in the place of the test part.

    Both draws are functions of the number of training samples alone, so that every seed trains on the
    same samples and is measured on the same ones. The validation part is drawn first, from all.

    Args:
        data: as it was read.
        samples: how many to train on; None for all that are left.
        validation: the share in (0, 1) that is cut off and reported on; None reports on the test part.

    Raises:
        InvalidValue: where the training part has fewer samples, or too few to cut.
    """
    kept = np.arange(len(data.train))
    if validation is not None:
        count = max(1, round(validation * kept.size))
        if count >= kept.size:
            raise invalid("--validation must leave a sample to train on.", f"{count} of {kept.size:,} cut")
        out = _drawn(_VALIDATION, kept.size, count)
        data = replace(data, test=_rows(data.train, kept[out]))
        kept = kept[~out]
    if samples is not None:
        if samples > kept.size:
            rule = f"--samples must be at most {kept.size:,}, the training samples there are."
            raise invalid(rule, f"{samples:,}", "Leave it out to train on all.")
        kept = kept[_drawn(_SAMPLES, kept.size, samples)]
    if kept.size == len(data.train):
        return data
    files = None if data.files is None else tuple(data.files[i] for i in kept.tolist())
    return replace(data, train=_rows(data.train, kept), files=files)


def _drawn(key: int, n: int, count: int) -> NDArray[np.bool_]:
    """Return a mask ``(n,)`` of ``count`` samples drawn by ``key``."""
    return smallest(lambda start, stop: uniform(mix(key, n), start, stop), n, count)


def _rows(part: ImageDataset, rows: NDArray[np.int64]) -> ImageDataset:
    index = torch.from_numpy(rows)
    return ImageDataset(part.images[index], part.labels[index])
