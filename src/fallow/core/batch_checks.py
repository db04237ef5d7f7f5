"""Checks of what a batch brings (indices, losses, scores, labels), and the mean of its losses."""

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

# Rounding may put a score just outside its range, such as a divergence slightly below 0.
_TOLERANCE = 1e-3


def check_index(index: Any, n: int) -> NDArray[np.int64]:
    """Return the indices as int64 ``(B,)`` on the host.

    Raises:
        InvalidType: if they are not integers.
        InvalidValue: if one is outside ``range(n)``, or they are not one-dimensional.
    """
    if type(index) is HostIndex:
        return index.numpy()  # made by the loader: an index of another dataset fails when it is written
    if isinstance(index, Tensor):
        _check_dense("`index`", index)
        values = (index if index.device.type == "cpu" else index.cpu()).numpy()
    else:
        values = np.asarray(index)
    # Before the check of the type: numpy and torch make floats of an empty list.
    if values.shape == (0,):
        return values.astype(np.int64)
    if values.dtype.kind not in "iu":
        raise invalid_type(
            "`index` must hold whole numbers.",
            f"{values.dtype}",
            "Pass the index that the loader yields with each batch; a mask needs .nonzero()[:, 0].",
        )
    if values.ndim != 1:
        raise invalid("`index` must be one row of indices, (B,).", f"shape {values.shape}")
    rows = values.astype(np.int64, copy=False)
    if rows.view(np.uint64).max() >= n:  # a negative index is a huge unsigned one
        wrong = values[(values < 0) | (values >= n)][0]
        raise invalid(
            f"An index must be in [0, {n}), a position in the training set.",
            int(wrong),
            "Pass the index that the loader yields with each batch.",
        )
    return rows


def _check_dense(name: str, values: Tensor) -> None:
    layout = "quantized" if values.is_quantized else str(values.layout).removeprefix("torch.")
    if layout != "strided":
        raise invalid_type(
            f"{name} must be a dense tensor.", layout, "Call to_dense() or dequantize() on it."
        )


def check_rows(name: str, values: Any, count: int) -> None:
    """Raise if ``values`` is not a dense tensor ``(count,)``, one value per sample."""
    if not isinstance(values, Tensor):
        raise invalid_type(f"{name} must be a tensor.", type(values).__name__)
    _check_dense(name, values)
    if values.shape != (count,):
        step = 'Compute them with reduction="none".' if values.ndim == 0 else ""
        raise invalid(
            f"{name} must have one value per sample, ({count},).", f"shape {tuple(values.shape)}", step
        )
    if count == 0:
        raise invalid(f"{name} must not be empty.", "no sample")


def check_classes(predicted: Tensor) -> None:
    """Raise if predictions are not class ids."""
    if predicted.is_floating_point() or predicted.is_complex() or predicted.dtype == torch.bool:
        raise invalid_type("`predicted` must hold class ids.", f"{predicted.dtype}", "Pass logits.argmax(1).")


def check_batch(
    count: int, losses: Tensor, scores: Tensor | None, predicted: Tensor | None, backward: Tensor | None
) -> None:
    """Raise if losses, scores, predictions or mask of a batch are not one value per sample."""
    check_rows("losses", losses, count)
    if not losses.is_floating_point():
        raise invalid_type(
            "losses must be real floating-point numbers.", losses.dtype, "Call float() on them."
        )
    if scores is not None and isinstance(scores, Tensor) and scores.is_complex():
        raise invalid_type("scores must be real numbers.", scores.dtype, "Take abs() or real.")
    for name, values in (("scores", scores), ("predicted", predicted), ("backward", backward)):
        if values is not None:
            check_rows(name, values, count)
    if predicted is not None:
        check_classes(predicted)
    if backward is not None and backward.dtype != torch.bool:
        raise invalid_type("`backward` must be a bool for each row.", f"{backward.dtype}")


def check_mean(loss: Tensor, *, weighs: bool) -> None:
    """Raise if ``loss`` is not a mean loss, or leaves out the weights of the samples."""
    if not isinstance(loss, Tensor) or loss.shape != () or not loss.is_floating_point():
        found = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        step = "Pass the mean over the batch, or leave it out: record returns the mean of `losses`."
        raise invalid_type("`loss` must be one real number as a tensor, ().", found, step)
    if weighs:
        step = "Pass `losses` with a graph, or choose a policy with weighted=False."
        raise invalid("`loss` cannot be weighted afterwards, and the policy weights samples.", "a mean", step)


def count_distinct(rows: NDArray[np.int64]) -> int:
    """Return the number of different indices in a batch, which may hold several views of a sample."""
    ordered = np.sort(rows)
    return int(np.count_nonzero(ordered[1:] != ordered[:-1])) + (rows.size > 0)


def masked_losses(losses: Tensor, backward: Tensor) -> Tensor:
    """Return the losses with *no score*, which has no gradient, in rows not trained on: ``(B,)``."""
    # Not losses[backward]: the device would have to say how long that is.
    return torch.where(backward.to(losses.device, non_blocking=True), losses, NO_SCORE)


def check_labels(labels: Any, n: int) -> NDArray[np.int64] | None:
    """Return class ids as int64 ``(n,)``, or None for None.

    Raises:
        InvalidType: if they are not integers.
        InvalidValue: if there are not ``n``, or one is beyond int64.
    """
    if labels is None:
        return None
    if isinstance(labels, Tensor):
        _check_dense("`labels`", labels)
        ids = labels.detach().cpu().numpy()
    else:
        ids = np.asarray(labels)
    # Bools pass, as the ids of two classes.
    if ids.dtype.kind not in "iub":
        step = "Number them: numpy.unique(labels, return_inverse=True)[1]."
        raise invalid_type("`labels` must hold class ids, whole numbers.", f"{ids.dtype}", step)
    if ids.shape != (n,):
        raise invalid(f"`labels` must hold one class id per sample, ({n},).", f"shape {ids.shape}")
    # The cast below would turn such an id into a negative one.
    if ids.dtype.kind == "u" and ids.max() >= 2**63:
        wrong = int(np.flatnonzero(ids >= 2**63)[0])
        raise invalid("A class id must be below 2^63.", f"{ids[wrong]} at sample {wrong}")
    return ids.astype(np.int64)


def check_scores(scores: NDArray[np.float32], score: Score) -> None:
    """Raise if a recorded score lies outside the range of the declared score."""
    if np.isnan(scores).all():
        return
    low, high = score.range
    smallest, largest = np.nanmin(scores), np.nanmax(scores)
    if smallest >= low - _TOLERANCE and largest <= high + _TOLERANCE:
        return
    value = smallest if smallest < low - _TOLERANCE else largest
    at = int(np.flatnonzero(scores == value)[0])
    raise invalid(
        f"Scores of {score!r} must lie in [{low:g}, {high:g}].",
        f"{value:g} at sample {at}",
        "Record that score, or make the Subsampler with the score that is recorded.",
    )


def mean_loss(losses: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean over the rows that have a target: ``(B,) -> ()``, without waiting for the device.

    Half precision is summed in float32, since the sum of a batch may overflow even if the mean does not.
    """
    # A shortcut for the common case. It reads the losses, which would wait on an accelerator.
    plain = losses.device.type == "cpu" and losses.dtype in (torch.float32, torch.float64)
    if weights is None and plain and not np.count_nonzero(losses.detach().numpy() < 0):
        return losses.mean()
    without = is_no_score(losses.detach())
    rows = losses.shape[0] - without.sum()
    losses = losses.masked_fill(without, 0.0)  # otherwise a batch without any target has a negative loss
    if weights is not None:
        losses = losses * weights.to(losses.device, losses.dtype, non_blocking=True)
    dtype = losses.dtype
    if dtype in (torch.float16, torch.bfloat16):
        losses = losses.float()
    return torch.div(losses.sum(), rows.clamp_min(1)).to(dtype)


def scale_gradient(loss: Tensor, factor: float) -> None:
    """Scale the gradient of a loss, and not its value, which people log."""
    if factor != 1.0 and loss.requires_grad:
        loss.register_hook(lambda gradient: gradient * factor)  # type: ignore[no-untyped-call]
