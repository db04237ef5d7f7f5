"""Kullback-Leibler divergence of sequences, from hidden states and the output layer's weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..arrays.no_score import NO_SCORE
from ..errors import invalid, invalid_type, wrong_state
from ._tokens import Tokens, check_temperature, read_tokens
from .sequence import chunks, divergence, excess

CHUNK = 1 << 25
"""Maximum number of logits computed at a time, 128 MiB in float32; the target is 1/8 of the batch."""
LEAST = 1 << 21
"""Minimum number of logits at a time, 8 MiB: smaller products are slow."""
Keep: TypeAlias = Callable[[Tensor], Tensor]


class Measured(NamedTuple):
    """Loss and scores of a batch of sequences, from one pass.

    Attributes:
        loss: the mean over the samples, ``()``; the only part with a gradient.
        scores: the score of each sample, ``(B,)``, in nats a token, detached.
        tokens: the divergence of each token, ``(B, T)``, detached; ``NO_SCORE`` for a token without a target.
        predicted: the likeliest token at each position, int64 ``(B, T)``; None if gradients are enabled.
    """

    loss: Tensor
    scores: Tensor
    tokens: Tensor
    predicted: Tensor | None = None


def linear_kl(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    weights: Tensor | None = None,
    keep: Keep | None = None,
    teacher: tuple[Tensor, Tensor] | None = None,
    ignore_index: int = -100,
    shift: bool = False,
    temperature: float = 1.0,
    documents: Tensor | None = None,
    samples: int | None = None,
) -> Measured:
    r"""Return the loss and the scores of a batch of sequences without holding all of its logits.

    .. math:: z_{bt} = W h_{bt} + c, \qquad
        L = \frac{1}{B} \sum_b \frac{w_b}{|V_b|} \sum_{t \in V_b} k_{bt} \, s_{bt}

    with :math:`s_{bt}` as in :func:`~fallow.scores.token_kl`. Logits are computed for a few thousand tokens
    at a time, and their gradients are accumulated in the same pass, so no logit is computed twice. The cost
    is three products of 2 T V D operations, as without blocks; the memory is the gradients and two blocks of
    logits. The token weights must therefore be known in advance, and only the loss has a gradient::

        weights = subsampler.weights(index)
        result = fallow.linear_kl(hidden, head.weight, tokens, shift=True, weights=weights)
        subsampler.record(index, result.scores)
        result.loss.backward()

    Under autocast, products are computed in its dtype; sums, the softmax and the gradient of the weight are
    computed in float32.

    Args:
        hidden: ``(B, T, D)``, the input of the output layer.
        weight: ``(V, D)``, weight of the output layer; it may be shared with the embedding.
        targets: token ids ``(B, T)``, or probabilities ``(B, T, V)``.
        bias: ``(V,)``, bias of the output layer.
        weights: the weight of each sample, ``(B,)``; all 1 by default.
        keep: ``(N,) token divergences -> (N,) bool``, which tokens are trained on, see
            :class:`~fallow.step_rules.TokenThreshold`. The others still count in the scores. It is called
            block by block, so it must judge each token by itself.
        teacher: hidden states ``(B, T, D')`` and output weight ``(V, D')`` of a teacher. Its softmax at the
            same temperature replaces the targets, except where ``targets`` are ignored.
        ignore_index: the target value of tokens to leave out.
        shift: position t predicts the target of position t + 1. A teacher's states are not shifted.
        temperature: temperature of the softmax.
        documents: the document of each token, ``(B, T)``, see :func:`~fallow.sequence_kl`.
        samples: the number of documents.

    Returns:
        The loss, the scores and the divergence of each token.

    Raises:
        InvalidType: if a dtype is invalid.
        InvalidValue: if shapes do not match, or a value on the host is out of range.

    Example:
        >>> hidden = torch.zeros(2, 5, 4, requires_grad=True)
        >>> result = linear_kl(hidden, torch.zeros(8, 4), torch.ones(2, 5, dtype=torch.long))
        >>> result.scores.exp().round().tolist()
        [8.0, 8.0]
    """
    _check_kinds(hidden, weight)
    _check_layer(hidden, weight, bias, "weight")
    tokens = read_tokens(
        hidden,
        int(weight.shape[0]),
        targets,
        ignore_index=ignore_index,
        shift=shift,
        documents=documents,
        samples=samples,
        name="hidden",
    )
    if teacher is not None:
        _check_kinds(*teacher)
        _check_layer(*teacher, None, "the teacher's weight")
        if (
            teacher[0].dim() != 3
            or teacher[0].shape[:2] != hidden.shape[:2]
            or len(teacher[1]) != len(weight)
        ):
            shapes = f"{tuple(teacher[0].shape)} and {tuple(teacher[1].shape)}"
            raise invalid("A teacher's states and weight must be (B, T, D') and (V, D').", shapes)
        teacher = teacher[0].detach().flatten(0, 1), teacher[1].detach()
    shares = _shares(tokens, weights, torch.float64 if hidden.dtype == torch.float64 else torch.float32)
    graph = torch.is_grad_enabled()
    with torch.no_grad():
        work = _Work(tokens, shares, keep, teacher, check_temperature(temperature), graph)
    loss, values = _LinearKL.apply(  # type: ignore[no-untyped-call]
        hidden.flatten(0, 1), weight, bias, work
    )
    with torch.no_grad():
        scores = tokens.mean(values)
    predicted = None
    if not graph:
        # The empty slice gives an empty batch its int64 dtype and device.
        predicted = torch.cat([tokens.group[:0], *work.predicted]).view(tokens.shape)
    return Measured(loss, scores, values.where(tokens.valid, NO_SCORE).view(tokens.shape), predicted)


def _check_kinds(hidden: Tensor, weight: Tensor) -> None:
    for name, value in (("hidden", hidden), ("weight", weight)):
        if not isinstance(value, Tensor):
            raise invalid_type(f"`{name}` must be a torch.Tensor.", type(value))
    if hidden.dim() == 0:
        raise invalid("The hidden states must be (B, T, D).", "a 0-d tensor")


def _check_layer(hidden: Tensor, weight: Tensor, bias: Tensor | None, name: str) -> None:
    if weight.dim() != 2 or weight.shape[1] != hidden.shape[-1]:
        rule = f"{name} must be (V, D) with the D of the hidden states, {hidden.shape[-1]}."
        raise invalid(rule, tuple(weight.shape), "Pass the output layer's weight as it is stored.")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise invalid(f"bias must be ({len(weight)},).", tuple(bias.shape))


def _shares(tokens: Tokens, weights: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return the weight of each token in the loss, ``(N,)``: the mean over samples of token means."""
    counts = tokens.counts()
    sample_shares = 1.0 / (counts.clamp_min(1) * (counts > 0).sum().clamp_min(1)).to(dtype)
    if weights is not None:
        if weights.shape != counts.shape:
            raise invalid(f"`weights` must be ({len(counts)},), one a sample.", tuple(weights.shape))
        sample_shares = sample_shares * weights.detach().to(sample_shares.device, dtype)
    if not tokens.samples:
        return torch.zeros(len(tokens.group), dtype=dtype, device=tokens.group.device)
    return sample_shares[tokens.group].where(tokens.valid, 0.0)


class _Work:
    """The part of a pass that has no gradient.

    Args:
        tokens: the tokens to predict.
        shares: weight of each token in the loss, ``(N,)``.
        keep: which tokens are trained on, given their divergence; None for all.
        teacher: states ``(N, D')`` and weight ``(V, D')``, or None.
        temperature: temperature of the softmax.
        graph: whether gradients are needed.
    """

    def __init__(
        self,
        tokens: Tokens,
        shares: Tensor,
        keep: Keep | None,
        teacher: tuple[Tensor, Tensor] | None,
        temperature: float,
        graph: bool,
    ) -> None:
        self.tokens, self.shares, self.keep, self.graph = tokens, shares, keep, graph
        self.teacher, self.temperature = teacher, temperature
        self.predicted: list[Tensor] = []
        # Shares are divided by the largest for the products, since half precision would underflow.
        tiny = torch.finfo(shares.dtype).tiny
        self.largest = shares.abs().max().clamp_min(tiny) if shares.numel() else shares.sum()

    def log_softmax(self, rows: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Return the log-probabilities of some hidden states, ``(n, D) -> (n, V)``."""
        z = rows @ weight.t()
        if bias is not None:
            z = z + bias
        z = z.to(dtype)
        if self.temperature != 1.0:
            z = z.div_(self.temperature)
        return z.log_softmax(1)

    def targets(self, rows: slice, dtype: torch.dtype) -> Tensor:
        """Return the targets of some tokens; a teacher gives probabilities ``(n, V)``."""
        if self.teacher is None:
            return self.tokens.targets[rows]
        states, weight = self.teacher
        return self.log_softmax(states[rows].to(weight.dtype), weight, None, dtype).exp_()


class _LinearKL(torch.autograd.Function):
    """Loss and divergences of tokens; gradients are computed in forward and kept for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, work: _Work
    ) -> tuple[Tensor, Tensor]:
        device = hidden.device.type
        dtype = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        cast = torch.is_autocast_enabled(device) and dtype != torch.float64
        product = torch.get_autocast_dtype(device) if cast else weight.dtype
        # Autocast is off inside: it would cast the float32 sums and softmax too, not only the products.
        with torch.autocast(device, enabled=False):
            needed = ctx.needs_input_grad if work.graph else (False,) * 3
            parts = _Gradients(needed, hidden, weight, dtype)
            states, matrix = hidden.to(product), weight.to(product)
            offset = None if bias is None else bias.to(product)
            values = torch.zeros(len(hidden), dtype=dtype, device=hidden.device)
            loss = torch.zeros((), dtype=dtype, device=hidden.device)
            size = min(CHUNK, max(LEAST, len(hidden) * len(weight) // 8))
            for rows in chunks(len(hidden), len(weight), size):
                valid, shares = work.tokens.valid[rows], work.shares[rows]
                log_p = work.log_softmax(states[rows], matrix, offset, dtype)
                targets = work.targets(rows, dtype)
                values[rows] = block = divergence(log_p, targets, valid)
                if not work.graph:
                    work.predicted.append(log_p.argmax(1))
                if work.keep is not None:
                    shares = shares.where(work.keep(block), 0.0)
                loss += (block * shares).where(shares != 0, 0.0).sum()
                if parts.wanted:
                    p = excess(log_p.exp_(), targets, valid).masked_fill_((shares == 0)[:, None], 0.0)
                    parts.add(rows, p.to(product), states[rows], matrix, shares / work.largest)
        parts.scale(work.largest / work.temperature)
        ctx.parts = parts
        ctx.mark_non_differentiable(values)
        return loss, values

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, upstream: Tensor, _: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        if ctx.parts is None:
            step = "Call linear_kl again: it hands its gradients out once, without keeping a copy."
            raise wrong_state("The loss of linear_kl went through backward before.", step)
        parts: _Gradients = ctx.parts
        ctx.parts = None
        parts.scale(upstream)
        return parts.hidden, parts.weight, parts.bias, None  # autograd casts them to the inputs' dtypes


class _Gradients:
    """Running sums of the loss's gradients, in float32 or float64; None for those not needed."""

    def __init__(self, needed: Sequence[bool], hidden: Tensor, weight: Tensor, dtype: torch.dtype) -> None:
        # `add` writes every row of the gradient of the hidden states, so it may start empty.
        self.hidden = torch.empty_like(hidden, dtype=dtype) if needed[0] else None
        self.weight = torch.zeros_like(weight, dtype=dtype) if needed[1] else None
        self.bias = torch.zeros(len(weight), dtype=dtype, device=weight.device) if needed[2] else None

    @property
    def wanted(self) -> bool:
        """Whether any gradient is needed."""
        return any(part is not None for part in (self.hidden, self.weight, self.bias))

    def add(self, rows: slice, p: Tensor, states: Tensor, matrix: Tensor, shares: Tensor) -> None:
        """Add the part of some tokens; ``p (n, V)`` is their softmax minus the targets."""
        column = shares.unsqueeze(1)
        if self.hidden is not None:
            self.hidden[rows] = (p @ matrix).to(self.hidden.dtype) * column
        if self.weight is not None:
            # A state without weight may be NaN, and 0 times NaN would spoil the sum.
            states = (states * column).masked_fill_(column == 0, 0.0).to(p.dtype)
            if p.dtype == self.weight.dtype:
                self.weight.addmm_(p.t(), states)  # without a second (V, D) tensor
            else:
                self.weight += p.t() @ states
        if self.bias is not None:
            self.bias += shares.to(self.bias.dtype) @ p.to(self.bias.dtype)

    def scale(self, factor: Tensor) -> None:
        """Multiply all of them by ``factor``, in place."""
        for part in (self.hidden, self.weight, self.bias):
            if part is not None:
                part.mul_(factor.to(part.dtype))
