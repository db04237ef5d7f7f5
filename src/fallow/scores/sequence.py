"""Kullback-Leibler divergence of tokens, and its mean over a sequence, from logits."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..arrays.no_score import NO_SCORE
from ._tokens import Tokens, check_temperature, read_tokens
from .base import Score, is_no_score

CHUNK = 1 << 23
"""Number of logits processed at a time: 32 MiB in float32."""


def token_kl(
    logits: Tensor,
    targets: Tensor,
    *,
    ignore_index: int = -100,
    shift: bool = False,
    temperature: float = 1.0,
) -> Tensor:
    r"""Return the Kullback-Leibler divergence of each token, in nats.

    .. math:: s_{bt} = \sum_v q_{btv} (\log q_{btv} - \log p_{btv}), \qquad p = \mathrm{softmax}(z / \tau)

    With token ids it is the token's surprisal, the cross-entropy. The gradient is the only other tensor of
    the size of the logits, and it is written block by block.

    Args:
        logits: ``(B, T, V)`` before the softmax. Half precision is computed in float32.
        targets: token ids ``(B, T)``, or probabilities ``(B, T, V)``, such as a teacher's. No gradient flows
            into them.
        ignore_index: the target value of tokens to leave out; with probabilities, all V must equal it.
        shift: position t predicts the target of position t + 1. Use it if ``targets`` are the input.
        temperature: :math:`\tau` of the network's softmax; a teacher's probabilities must already have their
            own. The gradient is proportional to :math:`1 / \tau`; to mix the loss with another, multiply it
            by :math:`\tau^2`.

    Returns:
        ``(B, T)``, float32, or float64 for float64 logits; ``NO_SCORE`` for a token without a target. With
        ``shift``, each value is at the position that predicts the token.

    Raises:
        InvalidType: if a dtype is invalid.
        InvalidValue: if shapes do not match, or a target on the host is out of range.

    References:
        Distilling the Knowledge in a Neural Network (Hinton, Vinyals and Dean, 2015), for the temperature.

    Example:
        >>> logits = torch.zeros(1, 3, 8)
        >>> token_kl(logits, torch.tensor([[1, 2, -100]])).exp().round().tolist()
        [[8.0, 8.0, 1.0]]
    """
    tokens = _read(logits, targets, ignore_index, shift)
    values = _per_token(logits, tokens, temperature)
    return values.where(tokens.valid, NO_SCORE).view(tokens.shape)


def sequence_kl(
    logits: Tensor,
    targets: Tensor,
    *,
    ignore_index: int = -100,
    shift: bool = False,
    temperature: float = 1.0,
    documents: Tensor | None = None,
    samples: int | None = None,
) -> Tensor:
    r"""Return the mean divergence over the tokens of each sequence: loss and score in one.

    .. math:: s_b = \frac{1}{|V_b|} \sum_{t \in V_b} s_{bt}, \qquad \mathrm{perplexity}_b = e^{s_b}

    :math:`V_b` are the tokens of sequence b that have a target.

    Args:
        logits: see :func:`token_kl`.
        targets: see :func:`token_kl`.
        ignore_index: see :func:`token_kl`.
        shift: see :func:`token_kl`; nothing is predicted across the end of a document.
        temperature: see :func:`token_kl`.
        documents: for rows that hold several documents: the document of each token, ``(B, T)``, counted from
            0 in the batch, -1 for padding. Then each document is a sample.
        samples: the number of documents; required if ``documents`` are on an accelerator.

    Returns:
        ``(B,)``, or ``(samples,)`` with ``documents``; ``NO_SCORE`` for a sample without a target.

    Raises:
        InvalidType: if a dtype is invalid.
        InvalidValue: if shapes do not match, or a value on the host is out of range.

    Example:
        >>> packed, labels = torch.zeros(1, 4, 8), torch.tensor([[5, 6, 7, 1]])
        >>> sequence_kl(packed, labels, shift=True, documents=torch.tensor([[0, 0, 1, 1]])).shape
        torch.Size([2])
    """
    tokens = _read(logits, targets, ignore_index, shift, documents, samples)
    return tokens.mean(_per_token(logits, tokens, temperature))


@dataclass(frozen=True)
class SequenceKL(Score):
    """The mean divergence over the tokens of a sequence, see :func:`sequence_kl`.

    Args:
        ignore_index: the target value of tokens to leave out.
        shift: whether position t predicts the target of position t + 1.
        temperature: temperature of the network's softmax.

    Example:
        >>> SequenceKL(shift=True)(torch.zeros(2, 4, 8), torch.ones(2, 4, dtype=torch.long)).shape
        torch.Size([2])
    """

    unit: ClassVar[str] = "nats"
    range: ClassVar[tuple[float, float]] = (0.0, float("inf"))

    ignore_index: int = -100
    shift: bool = False
    temperature: float = 1.0

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the divergence of each sequence, ``(B,)`` in nats a token."""
        return sequence_kl(
            outputs, targets, ignore_index=self.ignore_index, shift=self.shift, temperature=self.temperature
        )


def _read(
    logits: Tensor,
    targets: Tensor,
    ignore_index: int,
    shift: bool,
    documents: Tensor | None = None,
    samples: int | None = None,
) -> Tokens:
    classes = int(logits.shape[-1]) if isinstance(logits, Tensor) and logits.dim() else 0
    return read_tokens(
        logits, classes, targets, ignore_index=ignore_index, shift=shift, documents=documents, samples=samples
    )


def _per_token(logits: Tensor, tokens: Tokens, temperature: float) -> Tensor:
    flat = logits.reshape(-1, logits.shape[-1])
    values: Tensor = _TokenKL.apply(  # type: ignore[no-untyped-call]
        flat, tokens.targets, tokens.valid, check_temperature(temperature)
    )
    return values


class _TokenKL(torch.autograd.Function):
    """Divergences of tokens; only one number per token is saved for the backward pass."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, valid: Tensor, temperature: float) -> Tensor:
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        values = torch.empty(len(logits), dtype=dtype, device=logits.device)
        normalisers = torch.empty_like(values)
        for rows in chunks(len(logits), logits.shape[1]):
            z = logits[rows].to(dtype) / temperature
            normalisers[rows] = z.logsumexp(1)
            log_p = z.sub_(normalisers[rows, None])
            values[rows] = divergence(log_p, targets[rows], valid[rows])
        # Backward computes the softmax again from the logits, which are in memory anyway.
        ctx.save_for_backward(logits, targets, valid, normalisers)
        ctx.temperature = temperature
        return values

    # Autograd cannot differentiate the in-place operations below: a second derivative must raise.
    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        logits, targets, valid, normalisers = ctx.saved_tensors
        scale = (upstream / ctx.temperature).where(valid, 0.0)
        gradient = torch.empty_like(logits)
        for rows in chunks(len(logits), logits.shape[1]):
            z = logits[rows].to(normalisers.dtype) / ctx.temperature
            p = z.sub_(normalisers[rows, None]).exp_()
            p = excess(p, targets[rows], valid[rows]).mul_(scale[rows, None])
            gradient[rows] = p.masked_fill_(~valid[rows, None], 0.0)  # padding may hold NaN
        return gradient, None, None, None


def chunks(rows: int, classes: int, size: int = CHUNK) -> list[slice]:
    """Split ``rows`` into slices of nearly equal length with about ``size`` logits each.

    >>> chunks(10, 4, 16)
    [slice(0, 4, None), slice(4, 7, None), slice(7, 10, None)]
    """
    count = -(-rows // max(1, size // classes))  # -(-a // b) rounds up
    edges = [-(-rows * i // max(1, count)) for i in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def divergence(log_p: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Return the divergence of rows with log-probabilities ``(N, V)``: ``(N,)``, 0 for invalid rows."""
    if targets.is_floating_point():
        q = targets.to(log_p.dtype).where(valid.unsqueeze(1), 0.0)
        values = (q.xlogy(q) - (q * log_p).masked_fill_(q == 0, 0.0)).sum(1)
        return values.masked_fill(is_no_score(values), 0.0)
    ids = targets.where(valid, 0).unsqueeze(1)  # gather cannot take ignore_index
    return log_p.gather(1, ids).squeeze(1).neg().where(valid, 0.0)


def excess(p: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Return ``p - q``, in place in ``p (N, V)``: the divergence's gradient with respect to the logits."""
    if targets.is_floating_point():
        return p.sub_(targets.to(p.dtype))
    ids = targets.where(valid, 0).unsqueeze(1)
    return p.scatter_add_(1, ids, p.new_full((1, 1), -1.0).expand_as(ids))
