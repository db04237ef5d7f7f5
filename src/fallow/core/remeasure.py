"""Score removed samples by forward passes only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..arrays.forward_only import forward_only
from ..errors import invalid
from . import loading
from .batch_checks import check_classes, check_rows
from .epoch_scores import Pages

ScoreBatch: TypeAlias = Callable[[Tensor, Any], Tensor | tuple[Tensor, Tensor]]
"""``(index, batch) -> scores (B,)``, or the scores and the predicted classes ``(B,)``."""


def measure(
    dataset: Dataset[Any],
    n: int,
    index: NDArray[np.int64],
    score_batch: ScoreBatch,
    batch_size: int,
    collate_fn: Callable[[Any], Any],
    options: dict[str, Any],
) -> tuple[Pages, Pages]:
    """Score the samples ``index`` of a dataset of ``n`` without gradients.

    Running statistics and random number generators are restored.

    Returns:
        The scores, and the predicted classes if ``score_batch`` returns them.

    Raises:
        InvalidType, InvalidValue: if it returns neither one value per sample nor a pair of such tensors.
    """
    loading.check_dataset(dataset, n)
    loading.check_batch_size(batch_size)
    scored, predicted = Pages(n), Pages(n, torch.int64)
    # One block for all batches: it copies the buffers at the first call, and restores them at the end.
    with forward_only():
        for part, batch in loading.fixed_batches(dataset, index, batch_size, collate_fn, options):
            scores, classes = _scores_and_classes(score_batch(part, batch))
            check_rows("the scores of score_batch", scores, len(part))
            scored.append(np.asarray(part), scores)
            if classes is not None:
                check_rows("the classes of score_batch", classes, len(part))
                check_classes(classes)
                predicted.append(np.asarray(part), classes)
    return scored, predicted


def _scores_and_classes(result: Any) -> tuple[Tensor, Tensor | None]:
    if not isinstance(result, tuple):
        return result, None
    if len(result) != 2:
        rule = "score_batch must return scores, or a pair of scores and predicted classes."
        raise invalid(rule, f"{len(result)} values")
    return result
