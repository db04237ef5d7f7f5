"""Checks that the output of a user's network is a tensor of logits, one column per class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..errors import InvalidValue, invalid, invalid_type


def class_logits(output: Any, rows: int, classes: int | None, name: str, step: str = "") -> Tensor:
    """Return the output of a network if it is one row of logits per sample.

    Only type and shape are checked, so that nothing waits for a device.

    Args:
        output: what the network returned.
        rows: the number of samples passed in.
        classes: the number of classes; None if unknown.
        name: name of the network, for errors.
        step: the next step to suggest if the number of outputs is wrong.

    Raises:
        InvalidType: if the output is not a tensor of floats.
        InvalidValue: if its shape is wrong.
    """
    wanted = f"(B, {classes if classes is not None else 'classes'})"
    tensor = one_tensor(output, f"{name} must return its logits as one tensor {wanted}.")
    shape = tuple(tensor.shape)
    if not tensor.is_floating_point():
        step = "Return what comes before the argmax."
        raise invalid_type(f"{name} must return logits, which are floats.", tensor.dtype, step)
    rule = f"{name} must return one row of logits a sample, {wanted}: {rows} for {rows}."
    if len(shape) == 2 and shape[0] != rows:
        raise invalid(rule, f"the shape {shape}", "Keep the samples apart, as by x.flatten(1).")
    if len(shape) != 2:
        raise invalid(rule, f"the shape {shape}", _to_rows(shape, classes))
    if classes is not None and shape[1] != classes:
        raise wrong_number(name, shape[1], classes, step)
    return tensor


def one_tensor(output: Any, rule: str) -> Tensor:
    """Return the output of a network if it is a tensor; raise with ``rule`` if not."""
    if isinstance(output, Tensor):
        return output
    kind = type(output).__name__
    # Named tuples and mappings get their part names into the message; plain tuples have none.
    parts = list(output) if isinstance(output, Mapping) else list(getattr(output, "_fields", ()))
    names = [str(part) for part in parts[:5]]
    if isinstance(output, Mapping):
        description = f"{kind} with {', '.join(names) or 'nothing'}"
        key = next((name for name in ("logits", "out") if name in names), names[0] if names else "logits")
        step = f"Return its part {key} alone, as x[{key!r}]."
    elif isinstance(output, tuple | list):
        description = f"{kind} of {len(output)}" + (f": {', '.join(names)}" if names else "")
        step = "Return the logits alone, as x[0]; inception_v3 and googlenet take aux_logits=False."
    else:
        description = kind
        step = "Return the logits alone."
        if hasattr(output, "logits"):
            step = "Return its part logits alone, as x.logits."
    raise invalid_type(rule, description, step)


def wrong_number(name: str, outputs: int, classes: int, step: str = "") -> InvalidValue:
    """Return the error for a network whose number of outputs differs from the number of classes."""
    step = step or f"Give its last layer {classes:,} outputs."
    if outputs == 1:
        step = f"{step} The loss is a softmax over the classes, which a single sigmoid output does not fit."
    plural = "" if outputs == 1 else "s"
    rule = f"{name} must have one output for each of the {classes:,} classes."
    return invalid(rule, f"{outputs:,} output{plural}", step)


def _to_rows(shape: tuple[int, ...], classes: int | None) -> str:
    if len(shape) < 2:
        return "Return a tensor with one row per sample and one column per class."
    if len(shape) == 4:
        return "Pool height and width, as x.mean((2, 3))."
    return "Pool what lies between, as x.mean(1)." if shape[-1] == classes else "Pool it to one row a sample."
