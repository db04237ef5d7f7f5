"""A transformer that classifies texts, small enough to train from scratch on a CPU."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ..errors import check_integer, check_share, invalid
from .transformer import Block, word_dropout


class SmallTransformer(nn.Module):
    """Two representations of a text side by side: one from attention, one a weighted sum of its words.

    The first is a mean over the outputs of the blocks with learned weights. The second is a normalised sum of
    embeddings, each multiplied by a learned weight of its token, initially the token's rarity.

    Args:
        vocabulary: V.
        classes: the number of classes.
        length: maximum number of tokens in a text.
        pad: the id that pads texts to equal length.
        rarity: the initial weight of each token, ``(V,)``; all 1 by default.
        width: D.
        layers: number of blocks.
        heads: number of attention heads in each block.
        dropout: dropout rate of the output of each half block.
        word_dropout: share of the tokens that a training step leaves out.

    Shape:
        token ids ``(B, T)``, padded with ``pad``, to logits ``(B, classes)``.

    Raises:
        InvalidValue: if a number is too small, or a text too long.

    Source: the weighted sum is that of A. Joulin et al., "Bag of Tricks for Efficient Text Classification",
    EACL 2017, with learned weights; word dropout follows M. Iyyer et al., "Deep Unordered Composition
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
        sizes = {"vocabulary": vocabulary, "classes": classes, "length": length, "layers": layers}
        for name, value in {**sizes, "width": width}.items():
            check_integer(name, value, 1)
        self.pad, self.length, self.word_dropout = pad, length, word_dropout
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(Block(width, heads, 2, dropout) for _ in range(layers))
        self.norm, self.norm_of_sum = nn.LayerNorm(width), nn.LayerNorm(width)
        self.weigh = nn.Linear(width, 1)
        nn.init.zeros_(self.weigh.weight)  # training starts with the plain mean
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
            step = "Cut them, or set a larger `length`."
            raise invalid(f"Texts must have at most {self.length} tokens.", length, step)
        mask = self.mask(tokens)
        if self.training and self.word_dropout:
            mask = word_dropout(mask, self.word_dropout)
        embedded = self.embedding(tokens)
        x = embedded + self.position[:length]
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x)
        weights = self.weigh(x).squeeze(2).masked_fill(~mask, -torch.inf).softmax(1)
        mean = (weights.unsqueeze(1) @ x).squeeze(1)
        word_sum = ((self.rarity[tokens] * mask).unsqueeze(1) @ embedded).squeeze(1)
        joined = torch.cat([mean, self.norm_of_sum(word_sum)], 1)
        return cast("Tensor", self.head(self.dropout(joined)))

    def mask(self, tokens: Tensor) -> Tensor:
        """Return which tokens count, bool ``(B, T)``; the first always does."""
        mask = tokens != self.pad
        mask[:, 0] = True  # attention over no token at all is NaN
        return mask
