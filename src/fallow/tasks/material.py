"""What a training is made of that depends on the kind of its samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..core.subsampler import Subsampler
from ..options.resolve import ResolvedOptions
from ..runs.data_changes import Samples, known_first
from ..runs.data_file import DataFile
from .base import TaskModule

Shown: TypeAlias = Callable[[NDArray[np.int64]], dict[str, Any]]
"""From indices of samples ``(K,)`` to ``pictures`` or ``texts`` of them, as a report shows them."""


@dataclass(frozen=True, eq=False)
class Material:
    """Samples, and how a network learns from them.

    Attributes:
        train, test: datasets that hand out batches.
        collate: for their loaders.
        labels: class ids int64 ``(N,)`` of the samples to train on, or None.
        data: what the samples are, to tell later whether they have changed.
        shown: how samples look that a report shows.
        test_batch_size: of the evaluation.
        options: those of the training, with all that was chosen for these samples.
        module: makes our LightningModule of a subsampler.
        tokenizer: what cut texts into tokens, or None.
        tokens: how many tokens it knows, of a language model; None of others.
        held_out_name: how a held-out sample is called, by its place in ``data.held_out``; or None.
        unlisted: how many of the samples that are new to a run that goes on were not added by a list.
        facts: what else a person wants to know of the samples, by name; ``kind`` is what they are called.
    """

    train: Dataset[Any]
    test: Dataset[Any]
    collate: Callable[[Any], Any]
    labels: Tensor | None
    data: DataFile
    shown: Shown
    test_batch_size: int
    options: ResolvedOptions
    module: Callable[[Subsampler], TaskModule]
    tokenizer: bytes | None = None
    tokens: int | None = None
    held_out_name: Callable[[int], str] | None = None
    unlisted: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


def as_before(data: DataFile, before: DataFile | None) -> NDArray[np.int64] | None:
    """Return the order in which the samples of a run that goes on stand as they stood, new ones last.

    None where they stand so, or where there is no run, or none that kept their checksums.
    """
    now = Samples.trained(data)
    old = None if before is None else Samples.trained(before)
    return None if now is None or old is None else known_first(now.found_in(old))
