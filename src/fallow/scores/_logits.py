"""Whether what a network of somebody else's gives are logits of the classes there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..errors import InvalidValue, invalid, invalid_type


def class_logits(found: Any, rows: int, classes: int | None, name: str, step: str = "") -> Tensor:
    """Return what a network gave for some samples, if it is one row of logits for each.

    Only the kind and the shape are looked at, so that nothing waits for a device.

    Args:
        found: what it gave.
        rows: how many samples it got.
        classes: how many there are; None if nobody knows.
        name: of the network, for errors.
        step: what to do about another number of outputs.

    Raises:
        InvalidType: if it is no tensor of floats.
        InvalidValue: if it has another shape.
    """
    wanted = f"(B, {classes if classes is not None else 'classes'})"
    tensor = one_tensor(found, f"{name} must return its logits as one tensor {wanted}.")
    shape = tuple(tensor.shape)
    if not tensor.is_floating_point():
        raise invalid_type(f"{name} must return logits, which are floats.", tensor.dtype, _NO_ARGMAX)
    rule = f"{name} must return one row of logits a sample, {wanted}: {rows} for {rows}."
    if len(shape) == 2 and shape[0] != rows:
        raise invalid(rule, f"the shape {shape}", "Keep the samples apart, as by x.flatten(1).")
    if len(shape) != 2:
        raise invalid(rule, f"the shape {shape}", _to_rows(shape, classes))
    if classes is not None and shape[1] != classes:
        raise wrong_number(name, shape[1], classes, step)
    return tensor


_NO_ARGMAX = "Return what comes before the argmax."


def one_tensor(found: Any, rule: str) -> Tensor:
    """Return what a network gave, if it is a tensor."""
    if isinstance(found, Tensor):
        return found
    kind = type(found).__name__
    parts = list(found) if isinstance(found, Mapping) else list(getattr(found, "_fields", ()))
    names = [str(part) for part in parts[:5]]
    if isinstance(found, Mapping):
        told = f"{kind} with {', '.join(names) or 'nothing'}"
        key = next((name for name in ("logits", "out") if name in names), names[0] if names else "logits")
        step = f"Return its part {key} alone, as x[{key!r}]."
    elif isinstance(found, tuple | list):
        told = f"{kind} of {len(found)}" + (f": {', '.join(names)}" if names else "")
        step = "Return the logits alone, as x[0]; inception_v3 and googlenet take aux_logits=False."
    else:
        told = kind
        has = hasattr(found, "logits")
        step = "Return its part logits alone, as x.logits." if has else "Return the logits alone."
    raise invalid_type(rule, told, step)


def wrong_number(name: str, found: int, classes: int, step: str = "") -> InvalidValue:
    """Return the error for a network that has another number of outputs than there are classes."""
    outputs = "1 output" if found == 1 else f"{found:,} outputs"
    step = step or f"Give its last layer {classes:,} outputs."
    if found == 1:
        step = f"{step} The loss is that of a softmax: a single output, as for a sigmoid, says nothing to it."
    return invalid(f"{name} must have one output for each of the {classes:,} classes.", outputs, step)


def _to_rows(shape: tuple[int, ...], classes: int | None) -> str:
    if len(shape) < 2:
        return "Return a tensor with a row a sample and a column a class."
    if len(shape) == 4:
        return "Pool height and width, as x.mean((2, 3))."
    return "Pool what lies between, as x.mean(1)." if shape[-1] == classes else "Pool it to one row a sample."
