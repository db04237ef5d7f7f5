"""A language model small enough to be trained from scratch on a processor."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ..errors import check_integer, invalid
from .transformer import Block, small_weights


class SmallGPT(nn.Module):
    """Blocks of causal attention between an embedding and an output layer that share their weight.

    Args:
        vocabulary: V.
        length: positions there are; longer rows are refused.
        width: D.
        layers: how many blocks.
        heads: of each.
        dropout: share of what each block adds that a training step leaves out.

    Attributes:
        head: the output layer, ``(B, T, D) -> (B, T, V)``, without a bias.

    Shape:
        token ids ``(B, T)`` to logits ``(B, T, V)``: position t predicts the token at t + 1.

    Raises:
        InvalidValue: A number is too small, or a row too long.

    Source: A. Radford et al., "Language Models are Unsupervised Multitask Learners", 2019; the shared weight
    is that of O. Press and L. Wolf, "Using the Output Embedding to Improve Language Models", EACL 2017.

    >>> SmallGPT(vocabulary=50, length=16)(torch.ones(2, 9, dtype=torch.long)).shape
    torch.Size([2, 9, 50])
    """

    def __init__(
        self,
        vocabulary: int,
        length: int = 128,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        named = {"vocabulary": vocabulary, "length": length, "layers": layers, "width": width}
        for name, value in named.items():
            check_integer(name, value, 1)
        self.length = length
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(Block(width, heads, 4, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        small_weights(self)
        self.head.weight = self.embedding.weight

    def hidden(self, tokens: Tensor) -> Tensor:
        """Return what the output layer gets, ``(B, T, D)``."""
        length = tokens.shape[1]
        if length > self.length:
            raise invalid(
                f"Rows must have at most {self.length} tokens.", length, "Cut them, or name a length."
            )
        x = self.embedding(tokens) + self.position[:length]
        for block in self.blocks:
            x = block(x, causal=True)
        return cast("Tensor", self.norm(x))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits ``(B, T, V)`` of token ids ``(B, T)``."""
        return cast("Tensor", self.head(self.hidden(tokens)))
