"""Checks the inputs of a sequence score and converts them to one row per token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..arrays.no_score import NO_SCORE
from ..errors import invalid, invalid_type
from ._inputs import check_ids, check_kinds, out_of_range, sum_tolerance


@dataclass(frozen=True)
class Tokens:
    """The targets of a batch of sequences, one row per token.

    Attributes:
        targets: int64 ids ``(B T,)``, or probabilities ``(B T, V)``, at the position that predicts them.
        valid: bool ``(B T,)``, which tokens count.
        group: int64 ``(B T,)``, the sample of each token; arbitrary for a token that does not count.
        samples: the number of samples: B rows, or the documents in them.
        shape: ``(B, T)``.
    """

    targets: Tensor
    valid: Tensor
    group: Tensor
    samples: int
    shape: tuple[int, int]

    def counts(self) -> Tensor:
        """Return the number of valid tokens in each sample, int64 ``(samples,)``."""
        # `group` is clamped to 0, so there must be a row to add to even without samples.
        counts = torch.zeros(max(self.samples, 1), dtype=torch.int64, device=self.valid.device)
        return counts.index_add_(0, self.group, self.valid.to(torch.int64))[: self.samples]

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of the values of each sample's valid tokens, ``(B T,) -> (samples,)``.

        A sample without a valid token has *no score*.
        """
        counts = self.counts()
        sums = torch.zeros(max(self.samples, 1), dtype=values.dtype, device=values.device)
        sums = sums.index_add(0, self.group, values.where(self.valid, 0.0))[: self.samples]
        return (sums / counts.clamp_min(1)).where(counts > 0, NO_SCORE)


def read_tokens(
    rows: Tensor,
    classes: int,
    targets: Tensor,
    *,
    ignore_index: int,
    shift: bool,
    documents: Tensor | None = None,
    samples: int | None = None,
    name: str = "logits",
) -> Tokens:
    """Check the targets of a batch of sequences and return them as one row per token.

    Args:
        rows: logits ``(B, T, V)`` or hidden states ``(B, T, D)``.
        classes: V.
        targets: ids ``(B, T)`` or probabilities ``(B, T, V)``.
        ignore_index: the target value that means "not labelled"; all V probabilities equal it.
        shift: whether position t predicts the target of position t + 1.
        documents: ``(B, T)``, the document of each token, counted from 0 in the batch, -1 for none; None if
            each row is a document.
        samples: the number of documents; by default derived from ``documents``, if these are on the host.
        name: the name of ``rows`` in errors.

    Raises:
        InvalidType: if an argument has the wrong type or dtype.
        InvalidValue: if a shape is wrong, or a value on the host is out of range.
    """
    _check_shapes(rows, classes, targets, ignore_index, name)
    batch, length = int(rows.shape[0]), int(rows.shape[1])
    soft = targets.is_floating_point()
    flat = targets.detach()
    flat = flat.reshape(batch * length, classes) if soft else flat.reshape(-1).long()
    if flat.device.type == "cpu" and flat.numel() and not torch.compiler.is_compiling():
        if soft:
            _check_probabilities(flat.view(batch, length, classes), ignore_index)
        else:
            check_ids(flat.view(batch, length), classes, ignore_index)
    valid = _labelled(flat, ignore_index) if soft else flat != ignore_index
    if documents is None:
        if samples is not None:
            step = "Pass `documents` too, or leave it out: each row is a sample."
            raise invalid("`samples` goes with `documents`.", samples, step)
        samples = batch
        group = torch.arange(batch, device=flat.device).repeat_interleave(length)
    else:
        samples = _check_documents(documents, samples, (batch, length))
        group = documents.detach().reshape(-1).to(flat.device, torch.int64)
        valid = valid & (group >= 0) & (group < samples)
    if shift:
        # Shifting the targets instead of the logits avoids a copy of the logits.
        position = torch.arange(batch * length, device=flat.device)
        not_last = (position + 1) % length != 0
        flat = flat.roll(-1, 0)
        valid = valid.roll(-1, 0) & not_last
        if documents is not None:
            valid = valid & (group == group.roll(-1, 0))
    return Tokens(flat, valid, group.clamp(0, max(samples - 1, 0)), samples, (batch, length))


def _labelled(q: Tensor, ignore_index: int) -> Tensor:
    """Return which rows of probabilities ``(N, V)`` are not ignored."""
    if ignore_index < 0:  # never a probability, so the first column is enough
        return q[:, 0] != ignore_index
    return (q != ignore_index).any(1)


def _check_probabilities(q: Tensor, ignore_index: int) -> None:
    """Raise if a row of ``(B, T, V)`` that is not ignored is not a probability distribution."""
    sums = q.sum(2)
    tolerance = sum_tolerance(q.dtype)
    low, high = sums.aminmax()
    if q.min().item() >= 0 and low.item() >= 1 - tolerance and high.item() <= 1 + tolerance:
        return
    counted = _labelled(q.flatten(0, 1), ignore_index).view(sums.shape)
    bad = ~(q >= 0) & counted.unsqueeze(2)  # NaN is invalid too: every comparison with it is false
    if bad.any():
        raise out_of_range("Probabilities must be at least 0.", q, bad)
    bad = ~((sums - 1).abs() <= tolerance) & counted
    if bad.any():
        row, position = bad.nonzero()[0].tolist()
        total = f"a sum of {sums[row, position].item():.6g} at targets[{row}, {position}, :]"
        rule = "Probabilities must sum to 1 over the vocabulary, the last dimension."
        raise invalid(rule, total, "Divide by `targets.sum(2, keepdim=True)`.")


def _check_shapes(rows: Tensor, classes: int, targets: Tensor, ignore_index: int, name: str) -> None:
    check_kinds(rows, targets, ignore_index, name)
    if rows.dim() != 3:
        step = "For one label a sample use kl_divergence; add a dimension to a single sequence."
        raise invalid(
            "Sequences must be (B, T, V) logits or (B, T, D) hidden states.", tuple(rows.shape), step
        )
    if classes < 2:
        raise invalid("A softmax needs at least 2 classes.", f"a vocabulary of {classes}")
    ids_shape = tuple(rows.shape[:2])
    soft_shape = (*ids_shape, classes)
    wanted = soft_shape if targets.is_floating_point() else ids_shape
    if targets.dtype == torch.bool or tuple(targets.shape) != wanted:
        rule = f"`targets` must be token ids of shape {ids_shape} or probabilities of shape {soft_shape}."
        raise invalid(rule, f"shape {tuple(targets.shape)} with {targets.dtype}")


def _check_documents(documents: Tensor, samples: int | None, shape: tuple[int, int]) -> int:
    """Return the number of documents."""
    if not isinstance(documents, Tensor):
        raise invalid_type("`documents` must be a torch.Tensor.", type(documents))
    if documents.is_floating_point() or documents.is_complex() or documents.dtype == torch.bool:
        raise invalid_type("`documents` must hold whole numbers.", documents.dtype)
    if tuple(documents.shape) != shape:
        raise invalid(f"`documents` must hold one number a token, {shape}.", tuple(documents.shape))
    if documents.device.type != "cpu":
        if samples is None:
            step = "Pass samples=...: how many documents the batch holds."
            rule = "Documents on a device are not counted, since that would wait for the device."
            raise invalid(rule, documents.device, step)
        return samples
    count = int(documents.max()) + 1 if documents.numel() else 0
    if documents.numel() and int(documents.min()) < -1:
        raise invalid("`documents` must be at least 0, or -1 for padding.", int(documents.min()))
    if samples is not None and count > samples:
        raise invalid(f"`documents` must be below `samples`, {samples}.", count - 1)
    return count if samples is None else samples


def check_temperature(temperature: float) -> float:
    """Return the temperature as a float.

    Raises:
        InvalidValue: if it is not positive and finite.
    """
    if not 0 < temperature < float("inf"):
        raise invalid("`temperature` must be above 0 and finite.", temperature)
    return float(temperature)
