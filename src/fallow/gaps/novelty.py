"""Whether inputs are made as the training inputs are, whatever they show: the gate that keeps junk out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, conv2d, unfold

from ..densities import Gaussian
from ..errors import invalid

LIMIT = 2.0
"""An input is junk above so many times what nine of ten training inputs stay below."""
LEAST = 64
"""Training inputs that it takes."""
_USUAL = 0.9
_SIDE, _POSITIONS, _PATCHES = 32, 20, 1 << 18
_FLOOR = 0.01
_STEADY = 0.1
"""A log energy that hardly varies counts as if it had this deviation."""
_VALUES = 1 << 24


class InputNovelty:
    r"""How unlike the training inputs an input is made.

    Noise, shuffled or inverted pixels and pictures of another kind differ from the training inputs in how
    strongly they vary along which directions, too little as well as too much; of a class that
    nobody has collected yet nine of ten samples do not (digits and Fashion-MNIST; fewer of a very plain one,
    as the digit 1). So an input is described by the energies

    .. math:: t_b(x) = \log \Bigl(0.01 + \sum_{j \in b} (v_j \cdot (x - \mu))^2
              \Big/ \sum_{j \in b} \lambda_j\Bigr)

    in bands ``b`` of principal directions ``v_j`` with variances ``lambda_j``, and off all of them: of the
    whole input, images averaged to 32 x 32 pixels at most, and for images of their patches, of which the
    logarithm of the mean and the mean of the logarithm over positions count. Its
    strangeness is the squared Mahalanobis distance of ``t`` under a Gaussian, over the 90 % quantile of the
    training inputs, each left out.

    Directions come from one half of the rows and the Gaussian from the other, both ways round. The smaller of
    both counts: of a training input, or a copy, too little is left off directions that come from itself.

    Args:
        rows: float ``(N, ...)``, training inputs, 64 finite ones at least; others do not count.

    Raises:
        InvalidValue: for fewer, or inputs that are not floating point rows.

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> rows = torch.randn(800, 20, generator=draw) * torch.linspace(3, 0.1, 20)
        >>> like = InputNovelty(rows[:700])
        >>> bool((like(rows[700:]) < LIMIT).float().mean() > 0.95)
        True
        >>> bool((like(5 * torch.randn(100, 20, generator=draw)) < LIMIT).float().mean() > 0.05)
        False
    """

    def __init__(self, rows: Tensor) -> None:
        if not self.judges(rows):
            raise invalid(
                "Training inputs must be floats, one row each.", f"{rows.dtype} {tuple(rows.shape)}"
            )
        rows = rows.detach()[rows.flatten(1).isfinite().all(1)]
        if len(rows) < LEAST:
            raise invalid(f"It takes {LEAST} training inputs that are finite.", len(rows), "Give more.")
        halves = rows[::2], rows[1::2]
        self._views = [self._view(half) for half in halves]
        self._mean, self._scale, self._gaussians, left_out = [], [], [], []
        for view, other in zip(self._views, reversed(halves), strict=True):
            found = self._described(view, other)
            self._mean.append(found.mean(0))
            self._scale.append(found.std(0).clamp_min(_STEADY))
            found = _unsteady((found - self._mean[-1]) / self._scale[-1])
            self._gaussians.append(Gaussian().fit(found))
            left_out.append(_far(self._gaussians[-1], self._gaussians[-1].left_out(found), found))
        self._usual = max(float(torch.cat(left_out).quantile(_USUAL)), 1e-30)

    @staticmethod
    def judges(rows: object) -> bool:
        """Return whether inputs are of a kind that this can judge: floats ``(B, ...)``."""
        if not isinstance(rows, Tensor) or not rows.is_floating_point():
            return False
        return rows.dim() >= 2 and 0 not in rows.shape[1:]

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the strangeness of inputs, float64 ``(B,)``; infinite for one that is not finite."""
        both = []
        with torch.no_grad():
            for view, mean, scale, gaussian in zip(
                self._views, self._mean, self._scale, self._gaussians, strict=True
            ):
                found = (self._described(view, rows) - mean) / scale
                both.append(_far(gaussian, gaussian.log_prob(found), found) / self._usual)
        far = torch.stack(both).amin(0)
        return torch.where(far.isnan(), float("inf"), far)

    def _view(self, rows: Tensor) -> list[_Bands | _PatchBands]:
        whole = _Bands(_small(rows))
        return [whole, _PatchBands(rows)] if rows.dim() == 4 else [whole]

    @staticmethod
    def _described(view: list[_Bands | _PatchBands], rows: Tensor) -> Tensor:
        return torch.cat([bands(_small(rows) if bands is view[0] else rows) for bands in view], 1)


class _Bands:
    """The energies of whole rows in bands of principal directions, and off them.

    Args:
        rows: ``(N, D)``.
    """

    def __init__(self, rows: Tensor) -> None:
        x = rows.double()
        self.mean = x.mean(0)
        squares, directions = _principal(x - self.mean)
        count = _rank(squares)
        self.directions = directions[:, :count].contiguous()
        variance = squares[:count].clamp_min(0) / max(1, len(x) - 1)
        self.bands = _bands(count, 8, 4.0)
        self.expected = torch.stack([variance[a:b].sum() for a, b in self.bands]).clamp_min(1e-30)
        self.rest = max(float(variance[-1]), 1e-30)

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the log energies of rows, ``(B, D) -> (B, bands + 1)``; without the last where it is 0."""
        x = rows.double() - self.mean
        y = (x @ self.directions).square()
        energies = torch.stack([y[:, a:b].sum(1) for a, b in self.bands], 1) / self.expected
        if y.shape[1] == x.shape[1]:
            return energies.add(_FLOOR).log()
        off = (x.square().sum(1) - y.sum(1)).clamp_min(0)
        return torch.cat([energies, off[:, None] / self.rest], 1).add(_FLOOR).log()


class _PatchBands:
    """The energies of an image's patches in bands of principal directions, all of them: a convolution.

    Args:
        images: ``(N, C, H, W)``.
    """

    def __init__(self, images: Tensor) -> None:
        side = 3 if min(images.shape[2:]) < 16 else 5
        self.side = min(side, images.shape[2]), min(side, images.shape[3])
        self.stride = max(1, images.shape[2] // _POSITIONS), max(1, images.shape[3] // _POSITIONS)
        x = self._some_patches(images).double()
        mean = x.mean(0)
        x = x - mean
        squares, directions = torch.linalg.eigh(x.T @ x)
        squares, directions = squares.flip(0).clamp_min(0), directions.flip(1)
        count = _rank(squares)
        variance = squares / max(1, len(x) - 1)
        self.bands = _bands(count, 1, 2.5)
        expected = [float(variance[a:b].sum()) for a, b in self.bands]
        if count < len(squares):
            self.bands.append((count, len(squares)))
            expected.append(float(variance[count - 1]))
        self.expected = torch.tensor(expected).clamp_min(1e-30)[:, None]
        self.filters = directions.T.reshape(-1, images.shape[1], *self.side).float().contiguous()
        self.offset = -(mean @ directions).float()

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logs of mean energies over positions, and the means of logs, ``(B, 2 bands)``."""
        return torch.cat([self._energies(part) for part in self._parts(images)]).double()

    def _energies(self, images: Tensor) -> Tensor:
        y = conv2d(images.float(), self.filters, self.offset, self.stride).flatten(2).square_()
        energies = torch.stack([y[:, a:b].sum(1) for a, b in self.bands], 1) / self.expected
        return torch.cat([energies.mean(2).add_(_FLOOR).log_(), energies.add_(_FLOOR).log_().mean(2)], 1)

    def _parts(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return images in parts whose patches fit in memory."""
        most = _VALUES // max(1, self._patches(images[:1]).numel())
        return torch.split(images, max(1, min(256, most)))

    def _some_patches(self, images: Tensor) -> Tensor:
        """Return evenly spaced patches of all images, ``(P, C * side * side)``."""
        _, positions, size = self._patches(images[:1]).shape
        step = -(-len(images) * positions // max(1, min(_PATCHES, 2 * _VALUES // size)))
        kept, seen = [], 0
        for part in self._parts(images):
            patches = self._patches(part).flatten(0, 1)
            kept.append(patches[-seen % step :: step])
            seen += len(patches)
        return torch.cat(kept)

    def _patches(self, images: Tensor) -> Tensor:
        """Return ``(B, positions, C * side * side)``, evenly spaced."""
        return unfold(images.float(), self.side, stride=self.stride).transpose(1, 2)


def _rank(squares: Tensor) -> int:
    """Return how many directions vary, of squared singular values, the largest first."""
    return max(1, int((squares > 1e-8 * squares[0]).sum()))


def _bands(count: int, first: int, growth: float) -> list[tuple[int, int]]:
    """Return the bands of so many directions: ``first`` wide, each other ``growth`` times wider."""
    edges, width = [0], float(first)
    while edges[-1] + int(width) < count:
        edges.append(edges[-1] + int(width))
        width *= growth
    return list(zip(edges, [*edges[1:], count], strict=True))


def _principal(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the squared singular values of ``(N, D)``, the largest first, and directions ``(D, k)``."""
    if len(x) >= x.shape[1]:
        squares, directions = torch.linalg.eigh(x.T @ x)
        return squares.flip(0), directions.flip(1)
    squares, left = torch.linalg.eigh(x @ x.T)
    return squares.flip(0), torch.linalg.qr(x.T @ left.flip(1))[0]


def _unsteady(rows: Tensor) -> Tensor:
    """Return rows with the mean 0 where numbers that vary by less than 1 are drawn to vary by 1."""
    lacking = (1 - rows.var(0)).clamp_min(0).sqrt()
    draw = torch.Generator().manual_seed(0)
    return rows + lacking * torch.randn(rows.shape, generator=draw, dtype=rows.dtype)


def _small(rows: Tensor) -> Tensor:
    """Return rows ``(B, D)``; images averaged to 32 x 32 at most."""
    if rows.dim() == 4 and max(rows.shape[2:]) > _SIDE:
        rows = adaptive_avg_pool2d(rows.float(), (min(_SIDE, rows.shape[2]), min(_SIDE, rows.shape[3])))
    return rows.flatten(1)


def _far(gaussian: Gaussian, log_prob: Tensor, rows: Tensor) -> Tensor:
    """Return the squared Mahalanobis distance, halved, of rows with the mean 0."""
    return (gaussian.log_prob(torch.zeros_like(rows[:1])) - log_prob).double()
