"""A layer's rows in few numbers: the directions in which they vary, and the energy off them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

WIDE = 512
"""Longer rows are multiplied by a random matrix first."""
_NULL = 1e-6
"""Directions with less than this share of the largest variance do not count."""


@dataclass
class Subspace:
    r"""The principal directions V of rows z, and the residual energy off them.

    .. math:: y = V^\top (z - \mu), \qquad r^2 = \lVert z - \mu \rVert^2 - \lVert y \rVert^2

    Rows of more than 512 numbers are first multiplied by a fixed random matrix with orthogonal columns.

    Args:
        mean: ``(D,)``; it and V have the dtype of the rows.
        directions: V, ``(D, p)``.
        rest: the number of varying directions that are left out.
        mixing: ``(wide, D)``, the random matrix; None if rows are used as they are.

    References:
        Probabilistic principal component analysis (Tipping and Bishop, 1999)
    """

    mean: Tensor
    directions: Tensor
    rest: int
    mixing: Tensor | None = None

    @staticmethod
    def of(rows: Tensor, dim: int, mixing: Tensor | None = None) -> Subspace:
        """Return the subspace of rows ``(N, D)`` with at most ``dim`` directions."""
        z = rows.double()
        mean = z.mean(0)
        values, vectors = torch.linalg.eigh((z - mean).T @ (z - mean) / len(z))
        values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
        vary = int((values > _NULL * values[0]).sum())
        kept = max(1, min(dim, vary))
        directions = vectors[:, :kept].to(rows.dtype).contiguous()
        return Subspace(mean.to(rows.dtype), directions, max(vary - kept, 0), mixing)

    @property
    def dim(self) -> int:
        """p, the number of directions."""
        return int(self.directions.shape[1])

    def mixed(self, rows: Tensor) -> Tensor:
        """Return rows of the layer times the random matrix, if there is one: ``(B, wide) -> (B, D)``."""
        return rows if self.mixing is None else rows @ self.mixing

    def __call__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return y ``(B, p)`` and the residual energy ``(B,)`` of rows ``(B, D)``."""
        centred = rows - self.mean
        y = centred @ self.directions
        residual = (centred.square().sum(1) - y.square().sum(1)).clamp_min(0)
        return y, residual

    def state_dict(self) -> dict[str, Any]:
        """Return the state without the random matrix, which is drawn again from the seed."""
        return {"mean": self.mean, "directions": self.directions, "rest": self.rest}


def mixing_matrix(wide: int, seed: int) -> Tensor | None:
    r"""Return the random matrix ``(wide, 512)`` for rows of more than 512 numbers; None for shorter rows.

    Its columns are orthogonal and of length :math:`\sqrt{wide / 512}`: distances are kept on average.
    """
    if wide <= WIDE:
        return None
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(wide, WIDE, generator=generator, dtype=torch.float64)
    basis: Tensor = torch.linalg.qr(draws).Q
    return basis.float() * math.sqrt(wide / WIDE)
