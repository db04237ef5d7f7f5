"""Checks the inputs of a score and converts them to one form.

Values (a class id outside [0, C), a row of probabilities that does not sum to 1) are checked only if
the targets are on the host. On an accelerator the check would wait for the device, so torch has to
notice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InvalidValue, invalid, invalid_type

# Far above the rounding error of a float32 sum, and far below a real mistake.
_SUM_TOLERANCE = 1e-3


def aligned(logits: Tensor, targets: Tensor, *, ignore_index: int, bernoulli: bool) -> tuple[Tensor, Tensor]:
    """Check the inputs of a score and return them in the form that the formulas use.

    A Bernoulli logit z becomes a softmax over the two logits (0, z): two classes in dimension 1.

    Args:
        logits: ``(B, C, *spatial)``; in Bernoulli mode, and always for ``(B,)``, ``(B, *any)``.
        targets: class ids ``(B, *spatial)`` or probabilities ``(B, C, *spatial)``; in Bernoulli
            mode the shape of the logits.
        ignore_index: the target value that means "not labelled".
        bernoulli: whether each logit is a separate yes-or-no question.

    Returns:
        logits: ``(B, C, *spatial)``, float64 if the input is, else float32.
        targets: int64 ids ``(B, *spatial)``, or probabilities ``(B, C, *spatial)`` in the logits'
            dtype, without gradient; ignored positions hold ``ignore_index`` for every class.

    Raises:
        InvalidType: if an argument has the wrong type or dtype.
        InvalidValue: if a shape is wrong, or a value on the host is out of range.
    """
    check_kinds(logits, targets, ignore_index)
    bernoulli = bernoulli or logits.dim() == 1
    if bernoulli:
        _check_same_shape(logits, targets)
    else:
        _check_class_shapes(logits, targets)
    if logits.dtype != torch.float64:
        logits = logits.float()
    probabilities = targets.is_floating_point()
    # The rounding error is that of the original dtype, so it is looked up before the conversion.
    tolerance = sum_tolerance(targets.dtype) if probabilities else 0.0
    targets = targets.detach().to(logits.dtype if probabilities else torch.int64)
    # Under torch.compile tensors are traced without values, so reading them would break the graph.
    if targets.device.type == "cpu" and targets.numel() and not torch.compiler.is_compiling():
        if bernoulli:
            _check_unit_interval(targets, ignore_index)
        elif probabilities:
            _check_probabilities(targets, ignore_index, tolerance)
        else:
            check_ids(targets, logits.shape[1], ignore_index)
    if not bernoulli:
        return logits, targets
    if probabilities:
        off = torch.where(targets == ignore_index, targets, 1 - targets)
        targets = torch.stack((off, targets), dim=1)
    return torch.stack((torch.zeros_like(logits), logits), dim=1), targets


def check_kinds(logits: Tensor, targets: Tensor, ignore_index: int, logits_name: str = "logits") -> None:
    """Raise if the logits, ``targets`` or ``ignore_index`` have a wrong type."""
    for name, value in ((logits_name, logits), ("targets", targets)):
        if not isinstance(value, Tensor):
            raise invalid_type(
                f"`{name}` must be a torch.Tensor.", type(value), "Pass `torch.as_tensor(...)`."
            )
    if not logits.is_floating_point():
        raise invalid_type(
            f"`{logits_name}` must be floating.", logits.dtype, "Pass the output before the softmax."
        )
    if targets.is_complex():
        raise invalid_type(
            "`targets` must be class ids or probabilities.", targets.dtype, "Pass a real tensor."
        )
    if logits.dim() == 0:
        step = f"Call `{logits_name}.unsqueeze(0)`."
        raise invalid(f"`{logits_name}` must have a batch dimension.", "a 0-d tensor", step)
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, int):
        raise invalid_type(
            "`ignore_index` must be a whole number.",
            repr(ignore_index),
            "To ignore nothing, leave it at -100.",
        )


def _check_same_shape(logits: Tensor, targets: Tensor) -> None:
    if targets.shape != logits.shape:
        raise invalid(
            f"In Bernoulli mode `targets` must have the shape of `logits`, here {tuple(logits.shape)}.",
            tuple(targets.shape),
            "For class ids, the logits need a class dimension: (B, C). Otherwise reshape one of the two.",
        )


def _check_class_shapes(logits: Tensor, targets: Tensor) -> None:
    logits_shape = tuple(logits.shape)
    ids_shape = tuple(logits.shape[:1] + logits.shape[2:])
    shape = tuple(targets.shape)
    if logits_shape[1] < 2:
        raise invalid(
            "A softmax needs at least 2 classes in dimension 1 of `logits`.",
            f"the shape {logits_shape}",
            "For one logit per yes-or-no question pass `bernoulli=True`, "
            "with targets in [0, 1] of the same shape.",
        )
    integers = not targets.is_floating_point() and targets.dtype != torch.bool
    if shape == ids_shape and not integers:
        raise invalid_type("Class ids must have an integer dtype.", targets.dtype, "Call `targets.long()`.")
    if shape == logits_shape and integers:
        raise invalid_type(
            "Probabilities must have a floating dtype.",
            targets.dtype,
            "For one-hot rows call `targets.float()`; for yes-or-no labels pass `bernoulli=True`.",
        )
    if shape != (ids_shape if integers else logits_shape):
        raise invalid(
            f"`targets` must be class ids of shape {ids_shape} or probabilities of shape {logits_shape}, "
            f"as `logits` are {logits_shape}.",
            f"shape {shape} with {targets.dtype}",
            "Reshape them, or pass `bernoulli=True` if each logit is a yes-or-no question.",
        )


def sum_tolerance(dtype: torch.dtype) -> float:
    """Return how far the sum of a row of probabilities may be from 1."""
    # bfloat16 has an epsilon of 0.008, so correct rows may miss 1 by more than the general tolerance.
    return max(_SUM_TOLERANCE, 2 * torch.finfo(dtype).eps)


def check_ids(ids: Tensor, classes: int, ignore_index: int) -> None:
    """Raise if a class id is outside [0, classes) and not ``ignore_index``."""
    # Valid ids, the usual case, take one pass and no mask.
    low, high = ids.aminmax()
    if low.item() >= 0 and high.item() < classes:
        return
    bad = (ids != ignore_index) & ((ids < 0) | (ids >= classes))
    if bad.any():
        raise out_of_range(
            f"Class ids must be in [0, {classes}), or `ignore_index` ({ignore_index}).", ids, bad
        )


def _check_unit_interval(targets: Tensor, ignore_index: int) -> None:
    low, high = targets.aminmax()
    if low.item() >= 0 and high.item() <= 1:
        return
    # The negation makes NaN invalid too: every comparison with NaN is false.
    bad = (targets != ignore_index) & ~((targets >= 0) & (targets <= 1))
    if bad.any():
        rule = f"In Bernoulli mode targets must be in [0, 1], or `ignore_index` ({ignore_index})."
        raise out_of_range(rule, targets, bad)


def _check_probabilities(q: Tensor, ignore_index: int, tolerance: float) -> None:
    sums = q.sum(1)
    low, high = sums.aminmax()
    # Valid rows, the usual case, take three reductions and no mask.
    if q.min().item() >= 0 and low.item() >= 1 - tolerance and high.item() <= 1 + tolerance:
        return
    counted = ~(q == ignore_index).all(1)
    bad = ~(q >= 0) & counted.unsqueeze(1)
    if bad.any():
        raise out_of_range("Probabilities must be at least 0.", q, bad)
    bad = ~((sums - 1).abs() <= tolerance) & counted
    if bad.any():
        row, *spatial = bad.nonzero()[0].tolist()
        place = ", ".join(map(str, [row, ":", *spatial]))
        raise invalid(
            "Probabilities must sum to 1 over the classes (dimension 1).",
            f"a sum of {sums[(row, *spatial)].item():.6g} at targets[{place}]",
            "Divide by `targets.sum(1, keepdim=True)`, or pass `bernoulli=True`.",
        )


def out_of_range(rule: str, targets: Tensor, bad: Tensor) -> InvalidValue:
    """Return the error for the first target that is ``bad``."""
    position = bad.nonzero()[0].tolist()
    place = ", ".join(map(str, position))
    value = f"{targets[tuple(position)].item():.6g} at targets[{place}]"
    return invalid(rule, value, "Correct that label, or set it to `ignore_index`.")
