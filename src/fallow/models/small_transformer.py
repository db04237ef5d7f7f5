"""A transformer for classes of texts, small enough to be trained from scratch on a processor."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ..errors import check_integer, check_share, invalid
from .transformer import Block, word_dropout


class SmallTransformer(nn.Module):
    """Two views of a text side by side: what attention makes of it, and the weighted sum of its words.

    The first is a mean over the outputs of the blocks, with learned weights; the second a sum of embeddings,
    each times a learned weight of its token, which begins as how rare it is, and a norm.

    Args:
        vocabulary: V.
        classes: the number of classes.
        length: positions there are; longer texts are refused.
        pad: the id that fills up a batch.
        rarity: the weight that each token begins with, ``(V,)``; all 1 by default.
        width: D.
        layers: how many blocks.
        heads: of each.
        dropout: share of what each block adds that a training step leaves out.
        word_dropout: share of the tokens that a training step leaves out.

    Shape:
        token ids ``(B, T)``, filled up with ``pad``, to logits ``(B, classes)``.

    Raises:
        InvalidValue: A number is too small, or a text too long.

    Source: the weighted sum is that of A. Joulin et al., "Bag of Tricks for Efficient Text Classification",
    EACL 2017, with learned weights; leaving out words as in M. Iyyer et al., "Deep Unordered Composition
    Rivals Syntactic Methods for Text Classification", ACL 2015.

    >>> SmallTransformer(vocabulary=50, classes=3, length=16)(torch.ones(2, 9, dtype=torch.long)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        vocabulary: int,
        classes: int,
        length: int = 256,
        pad: int = 0,
        rarity: Tensor | None = None,
        width: int = 96,
        layers: int = 1,
        heads: int = 4,
        dropout: float = 0.3,
        word_dropout: float = 0.2,
    ) -> None:
        super().__init__()
        word_dropout = check_share("word_dropout", word_dropout, closed=False)
        named = {"vocabulary": vocabulary, "classes": classes, "length": length, "layers": layers}
        named["width"] = width
        for name, value in named.items():
            check_integer(name, value, 1)
        self.pad, self.length, self.word_dropout = pad, length, word_dropout
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(Block(width, heads, 2, dropout) for _ in range(layers))
        self.norm, self.norm_of_sum = nn.LayerNorm(width), nn.LayerNorm(width)
        self.weigh = nn.Linear(width, 1)
        nn.init.zeros_(self.weigh.weight)
        rarity = torch.ones(vocabulary) if rarity is None else rarity.float()
        if rarity.shape != (vocabulary,):
            raise invalid(f"`rarity` must be ({vocabulary},).", tuple(rarity.shape))
        self.rarity = nn.Parameter(rarity.clone())
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits ``(B, classes)`` of token ids ``(B, T)``."""
        length = tokens.shape[1]
        if length > self.length:
            raise invalid(
                f"Texts must have at most {self.length} tokens.", length, "Cut them, or name a length."
            )
        mask = self.mask(tokens)
        if self.training and self.word_dropout:
            mask = word_dropout(mask, self.word_dropout)
        embedded = self.embedding(tokens)
        x = embedded + self.position[:length]
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x)
        weights = self.weigh(x).squeeze(2).masked_fill(~mask, -torch.inf).softmax(1)
        meant = (weights.unsqueeze(1) @ x).squeeze(1)
        summed = ((self.rarity[tokens] * mask).unsqueeze(1) @ embedded).squeeze(1)
        joined = torch.cat([meant, self.norm_of_sum(summed)], 1)
        return cast("Tensor", self.head(self.dropout(joined)))

    def mask(self, tokens: Tensor) -> Tensor:
        """Return which tokens count, bool ``(B, T)``; the first always does."""
        found = tokens != self.pad
        found[:, 0] = True
        return found
