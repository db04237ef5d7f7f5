"""Whether inputs are made as the training inputs are, whatever they show: the gate that keeps junk out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, unfold

from .._checks import invalid
from ..densities import Gaussian

LIMIT = 2.0
"""An input is junk above so many times what nine of ten training inputs stay below."""
LEAST = 64
"""Training inputs that it takes."""
_USUAL = 0.9
_SIDE, _POSITIONS, _PATCHES = 32, 20, 1 << 18
_FLOOR = 0.01


class Likeness:
    r"""How unlike the training inputs an input is made.

    Noise, shuffled or inverted pixels and pictures of another kind differ from the training inputs in how
    strongly they vary along which directions, too little as well as too much; a class that nobody has
    collected yet does not. So an input is described by the energies

    .. math:: t_b(x) = \log \Bigl(0.01 + \sum_{j \in b} (v_j \cdot (x - \mu))^2
              \Big/ \sum_{j \in b} \lambda_j\Bigr)

    in bands ``b`` of principal directions ``v_j`` with variances ``lambda_j``, and off all of them: of the
    whole input, images averaged to 32 x 32 pixels at most, and for images of their patches, of which the
    logarithm of the mean and the mean of the logarithm over positions count. Its
    strangeness is the squared Mahalanobis distance of ``t`` under a Gaussian, over the 90 % quantile of the
    training inputs, each left out.

    Directions come from one half of the rows and the Gaussian from the other, both ways round; the mean of
    both counts.

    Args:
        rows: float ``(N, ...)``, training inputs, 64 at least.

    Raises:
        InvalidValue: for fewer, or inputs that are not floating point rows.

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> rows = torch.randn(800, 20, generator=draw) * torch.linspace(3, 0.1, 20)
        >>> like = Likeness(rows[:700])
        >>> bool((like(rows[700:]) < LIMIT).float().mean() > 0.95)
        True
        >>> bool((like(5 * torch.randn(100, 20, generator=draw)) < LIMIT).float().mean() > 0.05)
        False
    """

    def __init__(self, rows: Tensor) -> None:
        if not self.judges(rows):
            raise invalid("Training inputs must be floats, one row each.", f"{rows.dtype} {rows.dim()}-D")
        if len(rows) < LEAST:
            raise invalid(f"It takes {LEAST} training inputs.", len(rows), "Give more.")
        self._side = 3 if rows.dim() == 4 and min(rows.shape[2:]) < 16 else 5
        halves = rows[::2], rows[1::2]
        self._views = [self._view(half) for half in halves]
        self._mean, self._scale, self._gaussians, left_out = [], [], [], []
        for view, other in zip(self._views, reversed(halves), strict=True):
            found = self._described(view, other)
            self._mean.append(found.mean(0))
            self._scale.append(found.std(0).clamp_min(1e-6))
            found = (found - self._mean[-1]) / self._scale[-1]
            self._gaussians.append(Gaussian().fit(found))
            left_out.append(_far(self._gaussians[-1], self._gaussians[-1].left_out(found), found))
        self._usual = max(float(torch.cat(left_out).quantile(_USUAL)), 1e-30)

    @staticmethod
    def judges(rows: object) -> bool:
        """Return whether inputs are of a kind that this can judge: floats ``(B, ...)``."""
        return isinstance(rows, Tensor) and rows.is_floating_point() and rows.dim() >= 2

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the strangeness of inputs, float64 ``(B,)``; infinite for one that is not finite."""
        far = torch.zeros(len(rows), dtype=torch.float64)
        with torch.no_grad():
            for view, mean, scale, gaussian in zip(
                self._views, self._mean, self._scale, self._gaussians, strict=True
            ):
                found = (self._described(view, rows) - mean) / scale
                far += _far(gaussian, gaussian.log_prob(found), found) / (2 * self._usual)
        return torch.where(far.isnan(), float("inf"), far)

    def _view(self, rows: Tensor) -> list[_Bands]:
        bands = [_Bands(_small(rows), 8, 4.0)]
        if rows.dim() == 4:
            patches = self._patches(rows).flatten(0, 1)
            bands.append(_Bands(patches[:: -(-len(patches) // _PATCHES)], 1, 2.5))
        return bands

    def _described(self, view: list[_Bands], rows: Tensor) -> Tensor:
        described = [view[0](_small(rows))]
        if len(view) > 1:
            described.append(torch.cat([view[1](self._patches(part)) for part in torch.split(rows, 256)]))
        return torch.cat(described, 1)

    def _patches(self, images: Tensor) -> Tensor:
        """Return ``(B, positions, C * side * side)``, evenly spaced."""
        side = min(self._side, *images.shape[2:])
        stride = (max(1, images.shape[2] // _POSITIONS), max(1, images.shape[3] // _POSITIONS))
        return unfold(images.float(), side, stride=stride).transpose(1, 2)


class _Bands:
    """The energies of rows in bands of principal directions.

    Args:
        rows: ``(N, D)``.
        first: directions of the first band.
        growth: how many times wider each is than the one before.
    """

    def __init__(self, rows: Tensor, first: int, growth: float) -> None:
        x = rows.double()
        self.mean = x.mean(0)
        x = x - self.mean
        _, scale, directions = torch.linalg.svd(x, full_matrices=False)
        count = max(1, int((scale > 1e-4 * scale[0]).sum()))
        self.directions = directions[:count].T.contiguous()
        variance = scale[:count].square() / max(1, len(x) - 1)
        edges, width = [0], float(first)
        while edges[-1] + int(width) < count:
            edges.append(edges[-1] + int(width))
            width *= growth
        self.bands = list(zip(edges, [*edges[1:], count], strict=True))
        self.expected = torch.stack([variance[a:b].sum() for a, b in self.bands]).clamp_min(1e-30)
        self.rest = max(float(variance[-1]), 1e-30)

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the log energies of rows ``(B, D)``, or of patches ``(B, L, D)`` both means over L."""
        x = rows.double() - self.mean
        y = (x @ self.directions).square()
        energies = torch.stack([y[..., a:b].sum(-1) for a, b in self.bands], -1) / self.expected
        off = (x.square().sum(-1) - y.sum(-1)).clamp_min(0)[..., None] / self.rest
        both = torch.cat([energies, off], -1)
        if both.dim() == 2:
            return both.add(_FLOOR).log()
        return torch.cat([both.mean(1).add(_FLOOR).log(), both.add(_FLOOR).log().mean(1)], 1)


def _small(rows: Tensor) -> Tensor:
    """Return rows ``(B, D)``; images averaged to 32 x 32 at most."""
    if rows.dim() == 4 and max(rows.shape[2:]) > _SIDE:
        rows = adaptive_avg_pool2d(rows.float(), (min(_SIDE, rows.shape[2]), min(_SIDE, rows.shape[3])))
    return rows.flatten(1)


def _far(gaussian: Gaussian, log_prob: Tensor, rows: Tensor) -> Tensor:
    """Return the squared Mahalanobis distance, halved, of rows with the mean 0."""
    return (gaussian.log_prob(torch.zeros_like(rows[:1])) - log_prob).double()
