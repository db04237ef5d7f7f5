"""The transformer block of the text networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from ..errors import check_integer, check_share, invalid


class Block(nn.Module):
    """Attention and two linear layers, each with layer norm before and a residual connection.

    Args:
        width: D.
        heads: number of attention heads; it must divide the width.
        wide: the width between the two linear layers, as a multiple of D.
        dropout: dropout rate of the output of each half.

    Shape:
        ``(B, T, D)`` to ``(B, T, D)``.

    Raises:
        InvalidValue: if the number of heads does not divide the width.

    Source: A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017; the position of the norms follows
    R. Xiong et al., "On Layer Normalization in the Transformer Architecture", ICML 2020.
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
        """Return the block's output for ``x (B, T, D)``; ``mask (B, T)`` says which tokens count as keys."""
        batch, length, width = x.shape
        shape = batch, length, 3, self.heads, width // self.heads
        query, key, value = self.attend(self.norm_in(x)).view(shape).permute(2, 0, 3, 1, 4)
        key_mask = None if mask is None else mask[:, None, None, :]
        attended = scaled_dot_product_attention(query, key, value, attn_mask=key_mask, is_causal=causal)
        x = x + self.dropout(self.merge(attended.transpose(1, 2).reshape(batch, length, width)))
        output: Tensor = x + self.dropout(self.down(gelu(self.up(self.norm_out(x)))))
        return output


def small_weights(module: nn.Module, std: float = 0.02) -> None:
    """Draw the weights of linear layers and embeddings from a normal distribution; set biases to 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)


def word_dropout(mask: Tensor, share: float) -> Tensor:
    """Return ``mask (B, T)`` without a random share of its tokens; the first token of a row stays."""
    kept = torch.rand(mask.shape, device=mask.device) >= share
    kept[:, 0] = True
    return mask & kept
