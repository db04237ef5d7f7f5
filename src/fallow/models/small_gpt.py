"""A language model small enough to train from scratch on a CPU."""

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
        length: maximum number of tokens in a row.
        width: D.
        layers: number of blocks.
        heads: number of attention heads in each block.
        dropout: dropout rate of the output of each half block.

    Attributes:
        head: the output layer, ``(B, T, D) -> (B, T, V)``, without a bias.

    Shape:
        token ids ``(B, T)`` to logits ``(B, T, V)``: position t predicts the token at t + 1.

    Raises:
        InvalidValue: if a number is too small, or a row too long.

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
        sizes = {"vocabulary": vocabulary, "length": length, "layers": layers, "width": width}
        for name, value in sizes.items():
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
        """Return the input of the output layer, ``(B, T, D)``."""
        length = tokens.shape[1]
        if length > self.length:
            step = "Cut them, or set a larger `length`."
            raise invalid(f"Rows must have at most {self.length} tokens.", length, step)
        x = self.embedding(tokens) + self.position[:length]
        for block in self.blocks:
            x = block(x, causal=True)
        return cast("Tensor", self.norm(x))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits ``(B, T, V)`` of token ids ``(B, T)``."""
        return cast("Tensor", self.head(self.hidden(tokens)))
