"""What a batch may bring: indices, losses and labels that mean something, and their mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arrays.no_score import NO_SCORE
from ..errors import invalid, invalid_type
from ..scores.base import Score, is_no_score
from .host_index import HostIndex

_TOLERANCE = 1e-3


def check_index(index: Any, n: int) -> NDArray[np.int64]:
    """Return the indices as int64 ``(B,)`` on the host.

    Those of a loader are positions in its dataset and not looked at again; where that was another
    dataset, writing them fails on the host.

    Raises:
        InvalidType: where they are no integers.
        InvalidValue: where one is outside ``range(n)``, or they are not a list of them.
    """
    if type(index) is HostIndex:
        return index.numpy()
    if isinstance(index, Tensor):
        _check_dense("`index`", index)
        found = (index if index.device.type == "cpu" else index.cpu()).numpy()
    else:
        found = np.asarray(index)
    if found.shape == (0,):
        return found.astype(np.int64)
    if found.dtype.kind not in "iu":
        raise invalid_type(
            "`index` must hold whole numbers.",
            f"{found.dtype}",
            "Pass the index that the loader yields with each batch; a mask needs .nonzero()[:, 0].",
        )
    if found.ndim != 1:
        raise invalid("`index` must be one row of indices, (B,).", f"shape {found.shape}")
    rows = found.astype(np.int64, copy=False)
    if rows.view(np.uint64).max() >= n:  # a negative index is a huge unsigned one
        wrong = found[(found < 0) | (found >= n)][0]
        raise invalid(
            f"An index must be in [0, {n}), a position in the training set.",
            int(wrong),
            "Pass the index that the loader yields with each batch.",
        )
    return rows


def _check_dense(name: str, values: Tensor) -> None:
    """Raise for a tensor without a value of its own at each place."""
    what = "quantized" if values.is_quantized else str(values.layout).removeprefix("torch.")
    if what != "strided":
        raise invalid_type(f"{name} must be a dense tensor.", what, "Call to_dense() or dequantize() on it.")


def check_rows(name: str, values: Any, count: int) -> None:
    """Raise where ``values`` is no dense tensor ``(count,)``: one value a sample."""
    if not isinstance(values, Tensor):
        raise invalid_type(f"{name} must be a tensor.", type(values).__name__)
    _check_dense(name, values)
    if values.shape != (count,):
        step = 'Compute them with reduction="none".' if values.ndim == 0 else ""
        raise invalid(
            f"{name} must have one value a sample, ({count},).",
            f"shape {tuple(values.shape)}",
            step,
        )
    if count == 0:
        raise invalid(f"{name} must not be empty.", "no sample")


def check_classes(predicted: Tensor) -> None:
    """Raise where predictions are no class ids."""
    if predicted.is_floating_point() or predicted.is_complex() or predicted.dtype == torch.bool:
        raise invalid_type("`predicted` must hold class ids.", f"{predicted.dtype}", "Pass logits.argmax(1).")


def check_batch(
    count: int, losses: Tensor, scores: Tensor | None, predicted: Tensor | None, backward: Tensor | None
) -> None:
    """Raise where what comes with a batch of ``count`` samples is not one value a sample."""
    check_rows("losses", losses, count)
    if not losses.is_floating_point():
        raise invalid_type("losses must be real numbers, of a floating type.", losses.dtype, "Take float().")
    if scores is not None and isinstance(scores, Tensor) and scores.is_complex():
        raise invalid_type("scores must be real numbers.", scores.dtype, "Take abs() or real.")
    for name, values in (("scores", scores), ("predicted", predicted), ("backward", backward)):
        if values is not None:
            check_rows(name, values, count)
    if predicted is not None:
        check_classes(predicted)
    if backward is not None and backward.dtype != torch.bool:
        raise invalid_type("`backward` must be a bool for each row.", f"{backward.dtype}")


def only(losses: Tensor, backward: Tensor) -> Tensor:
    """Return the losses of the chosen rows; the others become *no score*, without a gradient: ``(B,)``."""
    return torch.where(backward.to(losses.device, non_blocking=True), losses, NO_SCORE)


def check_labels(labels: Any, n: int) -> NDArray[np.int64] | None:
    """Return class ids as int64 ``(n,)``, or None for None.

    Raises:
        InvalidType: where they are no integers.
        InvalidValue: where there are not ``n``, or one is beyond int64.
    """
    if labels is None:
        return None
    if isinstance(labels, Tensor):
        _check_dense("`labels`", labels)
        found = labels.detach().cpu().numpy()
    else:
        found = np.asarray(labels)
    if found.dtype.kind not in "iub":
        step = "Number them: numpy.unique(labels, return_inverse=True)[1]."
        raise invalid_type("`labels` must hold class ids, whole numbers.", f"{found.dtype}", step)
    if found.shape != (n,):
        raise invalid(f"`labels` must hold one class id a sample, ({n},).", f"shape {found.shape}")
    if found.dtype.kind == "u" and found.max() >= 2**63:
        wrong = int(np.flatnonzero(found >= 2**63)[0])
        raise invalid("A class id must be below 2^63.", f"{found[wrong]} at sample {wrong}")
    return found.astype(np.int64)


def check_scores(scores: NDArray[np.float32], score: Score) -> None:
    """Raise where a recorded score lies outside the range of the declared one."""
    low, high = score.range
    for worst, outside in ((np.nanmin, low - _TOLERANCE), (np.nanmax, high + _TOLERANCE)):
        if np.isnan(scores).all():
            return
        value = worst(scores)
        if (value < outside) if worst is np.nanmin else (value > outside):
            at = int(np.flatnonzero(scores == value)[0])
            raise invalid(
                f"Scores of {score!r} must lie in [{low:g}, {high:g}].",
                f"{value:g} at sample {at}",
                "Record that score, or make the Subsampler with the score that is recorded.",
            )


def mean_loss(losses: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean over the rows that have a target: ``(B,) -> ()``, without waiting.

    Half precision is summed in float32: the sum of a batch may be beyond its range where the mean is not.
    """
    plain = losses.device.type == "cpu" and losses.dtype in (torch.float32, torch.float64)
    if weights is None and plain and not np.count_nonzero(losses.detach().numpy() < 0):
        return losses.mean()
    without = is_no_score(losses.detach())
    rows = losses.shape[0] - without.sum()
    losses = losses.masked_fill(without, 0.0)  # else a batch of nothing but these has a loss below 0
    if weights is not None:
        losses = losses * weights.to(losses.device, losses.dtype, non_blocking=True)
    dtype = losses.dtype
    if dtype in (torch.float16, torch.bfloat16):
        losses = losses.float()
    return torch.div(losses.sum(), rows.clamp_min(1)).to(dtype)
