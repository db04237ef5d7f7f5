"""The block that our text networks are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from ..errors import check_integer, check_share, invalid


class Block(nn.Module):
    """Attention and two linear layers, each with a norm before and a sum after.

    Args:
        width: D.
        heads: of the attention; they divide the width.
        wide: the width between the two linear layers, as a multiple of D.
        dropout: share of what each half adds that a training step leaves out.

    Shape:
        ``(B, T, D)`` to ``(B, T, D)``.

    Raises:
        InvalidValue: for a width that the heads do not divide.

    Source: A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017; the norms before as in R. Xiong et
    al., "On Layer Normalization in the Transformer Architecture", ICML 2020.
    """

    def __init__(self, width: int, heads: int, wide: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        for name, value in (("width", width), ("heads", heads), ("wide", wide)):
            check_integer(name, value, 1)
        if width % heads:
            raise invalid(f"`width` must be a multiple of the {heads} heads.", width)
        dropout = check_share("dropout", dropout, closed=True)
        self.heads = heads
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, wide * width), nn.Linear(wide * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, causal: bool = False) -> Tensor:
        """Return what the block makes of ``x (B, T, D)``; ``mask (B, T)`` says which tokens are looked at."""
        batch, length, width = x.shape
        shape = batch, length, 3, self.heads, width // self.heads
        query, key, value = self.attend(self.norm_in(x)).view(shape).permute(2, 0, 3, 1, 4)
        seen = None if mask is None else mask[:, None, None, :]
        found = scaled_dot_product_attention(query, key, value, attn_mask=seen, is_causal=causal)
        x = x + self.dropout(self.merge(found.transpose(1, 2).reshape(batch, length, width)))
        made: Tensor = x + self.dropout(self.down(gelu(self.up(self.norm_out(x)))))
        return made


def small_weights(module: nn.Module, std: float = 0.02) -> None:
    """Draw the weights of linear layers and embeddings anew, normal; biases become 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)


def word_dropout(mask: Tensor, share: float) -> Tensor:
    """Return ``mask (B, T)`` without a share of its tokens, drawn anew; the first of a row stays."""
    kept = torch.rand(mask.shape, device=mask.device) >= share
    kept[:, 0] = True
    return mask & kept
