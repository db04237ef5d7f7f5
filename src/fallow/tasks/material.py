"""The parts of a training that depend on the kind of its samples."""

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
"""From indices ``(K,)`` to the ``pictures`` or ``texts`` of these samples for a report."""


@dataclass(frozen=True, eq=False)
class Material:
    """Samples, and the module that learns from them.

    Attributes:
        train, test: the datasets.
        collate: the collate function of their loaders.
        labels: class ids of the training samples, int64 ``(N,)``, or None.
        data: names and checksums of the samples, to detect changes later.
        shown: shows samples in a report.
        test_batch_size: the batch size of the evaluation.
        options: of the training, resolved on these samples.
        module: returns the task's LightningModule for a subsampler.
        tokenizer: the serialised tokenizer, or None.
        tokens: the size of a language model's vocabulary; None for other tasks.
        held_out_name: returns the name of a held-out sample by its row in ``data.held_out``; or None.
        unlisted: the number of samples that are new to the resumed run without being added by a list.
        facts: further facts about the samples, by name; ``kind`` is the noun for them.
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
    """Return the order that gives samples the indices of the resumed run, new ones last.

    None if they are in that order, if there is no run, or if it stored no checksums.
    """
    now = Samples.trained(data)
    old = None if before is None else Samples.trained(before)
    return None if now is None or old is None else known_first(now.found_in(old))
