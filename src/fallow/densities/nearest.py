"""The density by the distance to the k-th nearest row."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import check_integer, invalid
from .base import Density, check_index, check_sample
from .naming import chosen

_CHUNK = 1 << 24


class NearestNeighbours(Density):
    r"""The k nearest of the rows, exactly, over at most ``most`` of them.

    .. math:: p(x) = \frac{\sum_{j \le k} w_j}{W\, V_D\, r_k(x)^D}, \qquad
        V_D = \frac{\pi^{D/2}}{\Gamma(D/2 + 1)}

    with the distance :math:`r_k` to the k-th nearest row and the weights w of the rows, W in all. It has no
    parameters but needs the rows themselves. A row's own density leaves out all rows of its name.

    Args:
        neighbours: k.
        most: rows that are held, drawn by name.
        seed: of the draw.

    References:
        A nonparametric estimate of a multivariate density function (Loftsgaarden and Quesenberry, 1965);
        Out-of-distribution detection with deep nearest neighbors (Sun et al., 2022)

    >>> density = NearestNeighbours(neighbours=1).fit(torch.tensor([[0.0], [1.0], [3.0]]))
    >>> density.log_prob(torch.tensor([[3.5]])).exp().item()  # 1 of 3 rows within 0.5: 1/3 a unit
    0.33...
    """

    name: ClassVar[str] = "nearest"

    def __init__(self, neighbours: int = 10, most: int = 50_000, *, seed: int = 0) -> None:
        self.neighbours = check_integer("neighbours", neighbours, 1)
        self.most = check_integer("most", most, 2)
        self.seed = check_integer("seed", seed, 0)
        self._held: tuple[Tensor, ...] = ()

    def fit(
        self,
        x: Tensor,
        *,
        labels: Tensor | None = None,
        weights: Tensor | None = None,
        index: Tensor | None = None,
        together: bool = False,
    ) -> NearestNeighbours:
        """See :meth:`Density.fit`."""
        x, weights, index = check_sample(x, weights, index, least=0 if together else 2)
        self._take(chosen((x, weights), index, self.most, self.seed, together=together))
        return self

    def _take(self, held: tuple[Tensor, ...]) -> None:
        self._held, self.dim, self.count = held, int(held[0].shape[1]), float(held[1].sum())

    def log_prob(self, x: Tensor) -> Tensor:
        """See :meth:`Density.log_prob`."""
        return self._log_prob(self._rows(x), None)

    def left_out(
        self,
        x: Tensor,
        *,
        labels: Tensor | None = None,
        weights: Tensor | None = None,
        index: Tensor | None = None,
    ) -> Tensor:
        """See :meth:`Density.left_out`."""
        x = self._rows(x)
        return self._log_prob(x, check_index(index, x))

    def _log_prob(self, x: Tensor, index: Tensor | None) -> Tensor:
        held, weights, names = self._held
        step = max(1, _CHUNK // held.numel() * self.dim)
        parts = []
        for at in range(0, max(1, len(x)), step):
            apart = torch.cdist(x[at : at + step].double(), held)
            total = torch.full((len(apart),), self.count, dtype=torch.float64, device=x.device)
            if index is not None:
                own = names == index[at : at + step, None]
                apart = apart.masked_fill(own, math.inf)
                total -= own.double() @ weights
            near = apart.topk(min(self.neighbours, len(held) - (index is not None)), largest=False)
            within = weights[near.indices].sum(1)
            radius = near.values[:, -1].clamp_min(1e-300)
            volume = self.dim / 2 * math.log(math.pi) - math.lgamma(self.dim / 2 + 1)
            parts.append(within.log() - total.log() - volume - self.dim * radius.log())
        return torch.cat(parts)

    def merge(self, other: Density) -> NearestNeighbours:
        """Return the density of the rows of both; of more than ``most``, those drawn by name."""
        if not isinstance(other, NearestNeighbours) or not self.dim or self.dim != other.dim:
            rule = f"NearestNeighbours of {self.dim} numbers merge with their like."
            raise invalid(rule, f"{type(other).__name__} of {other.dim}")
        merged = NearestNeighbours(self.neighbours, self.most, seed=self.seed)
        x, weights, names = (torch.cat(pair) for pair in zip(self._held, other._held, strict=True))
        merged._take(chosen((x, weights), names, self.most, self.seed))
        return merged

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`Density.state_dict`."""
        return dict(zip(("rows", "weights", "index"), self._held, strict=True)) if self._held else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`Density.load_state_dict`."""
        if state:
            self._take((state["rows"], state["weights"], state["index"]))
