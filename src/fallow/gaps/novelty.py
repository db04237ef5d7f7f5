"""Input novelty: how unlike the training inputs an input is, whatever it shows. It keeps junk out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, conv2d, unfold

from ..densities import Gaussian
from ..errors import invalid

LIMIT = 2.0
"""Inputs above this multiple of the training inputs' 90 % quantile are junk."""
LEAST = 64
"""Least number of training inputs."""
_USUAL = 0.9
_SIDE, _POSITIONS, _PATCHES = 32, 20, 1 << 18
_FLOOR = 0.01
_STEADY = 0.1
"""Least standard deviation of a log energy."""
_VALUES = 1 << 24


class InputNovelty:
    r"""How unlike the training inputs an input is.

    Noise, shuffled or inverted pixels and images of another kind differ from the training inputs in their
    energy along the directions of the training inputs, which is too small or too large. Nine of ten samples
    of a class that has not been collected yet do not differ in this way (digits and Fashion-MNIST; fewer of
    a very plain class such as the digit 1). So an input is described by the energies

    .. math:: t_b(x) = \log \Bigl(0.01 + \sum_{j \in b} (v_j \cdot (x - \mu))^2
              \Big/ \sum_{j \in b} \lambda_j\Bigr)

    in bands ``b`` of principal directions ``v_j`` with variances ``lambda_j``, and off all of them. For an
    image these are the energies of the whole image, averaged to at most 32 x 32 pixels, and of its patches:
    the logarithm of their mean and the mean of their logarithm over positions. The novelty is the squared
    Mahalanobis distance of ``t`` under a Gaussian, divided by the 90 % quantile of the training inputs, each
    left out.

    Directions come from one half of the rows and the Gaussian from the other, and again with the halves
    swapped; the smaller novelty counts. A training input, or a copy of one, has too little energy off
    directions that were computed from it.

    Args:
        rows: float ``(N, ...)``, training inputs, at least 64 finite ones; others are ignored.

    Raises:
        InvalidValue: if there are fewer, or they are not rows of floats.

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> rows = torch.randn(800, 20, generator=draw) * torch.linspace(3, 0.1, 20)
        >>> novelty = InputNovelty(rows[:700])
        >>> bool((novelty(rows[700:]) < LIMIT).float().mean() > 0.95)
        True
        >>> bool((novelty(5 * torch.randn(100, 20, generator=draw)) < LIMIT).float().mean() > 0.05)
        False
    """

    def __init__(self, rows: Tensor) -> None:
        if not self.judges(rows):
            raise invalid(
                "Training inputs must be floats, one row each.", f"{rows.dtype} {tuple(rows.shape)}"
            )
        rows = rows.detach()[rows.flatten(1).isfinite().all(1)]
        if len(rows) < LEAST:
            rule = f"Input novelty needs at least {LEAST} finite training inputs."
            raise invalid(rule, len(rows), "Give more.")
        # Alternate rows, since the rows may be sorted, such as by class.
        halves = rows[::2], rows[1::2]
        self._half_bands = [self._bands_of(half) for half in halves]
        self._mean, self._scale, self._gaussians = [], [], []
        left_out = []
        for bands, other in zip(self._half_bands, reversed(halves), strict=True):
            energies = self._energies(bands, other)
            mean = energies.mean(0)
            scale = energies.std(0).clamp_min(_STEADY)
            energies = _with_least_variance((energies - mean) / scale)
            gaussian = Gaussian().fit(energies)
            left_out.append(_mahalanobis(gaussian, gaussian.left_out(energies), energies))
            self._mean.append(mean)
            self._scale.append(scale)
            self._gaussians.append(gaussian)
        self._usual = max(float(torch.cat(left_out).quantile(_USUAL)), 1e-30)

    @staticmethod
    def judges(rows: object) -> bool:
        """Return whether inputs have the required form: floats ``(B, ...)``."""
        if not isinstance(rows, Tensor) or not rows.is_floating_point():
            return False
        return rows.dim() >= 2 and 0 not in rows.shape[1:]

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the novelty of inputs, float64 ``(B,)``; infinite for an input that is not finite."""
        by_half = []
        fits = zip(self._half_bands, self._mean, self._scale, self._gaussians, strict=True)
        with torch.no_grad():
            for bands, mean, scale, gaussian in fits:
                energies = (self._energies(bands, rows) - mean) / scale
                distance = _mahalanobis(gaussian, gaussian.log_prob(energies), energies)
                by_half.append(distance / self._usual)
        novelty = torch.stack(by_half).amin(0)
        return torch.where(novelty.isnan(), float("inf"), novelty)

    @staticmethod
    def _bands_of(rows: Tensor) -> tuple[_Bands, _PatchBands | None]:
        return _Bands(_small(rows)), _PatchBands(rows) if rows.dim() == 4 else None

    @staticmethod
    def _energies(bands: tuple[_Bands, _PatchBands | None], rows: Tensor) -> Tensor:
        whole, patches = bands
        energies = whole(_small(rows))
        return energies if patches is None else torch.cat([energies, patches(rows)], 1)


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
        """Return the log energies of rows in the bands and off them, ``(B, D) -> (B, bands + 1)``."""
        x = rows.double() - self.mean
        y = (x @ self.directions).square()
        energies = torch.stack([y[:, a:b].sum(1) for a, b in self.bands], 1) / self.expected
        if y.shape[1] == x.shape[1]:  # nothing is off the bands
            return energies.add(_FLOOR).log()
        # Rounding may leave a difference below 0.
        off = (x.square().sum(1) - y.sum(1)).clamp_min(0)
        return torch.cat([energies, off[:, None] / self.rest], 1).add(_FLOOR).log()


class _PatchBands:
    """The energies of an image's patches in bands of principal directions, by a convolution.

    Args:
        images: ``(N, C, H, W)``.
    """

    def __init__(self, images: Tensor) -> None:
        side = 3 if min(images.shape[2:]) < 16 else 5
        self.side = (min(side, images.shape[2]), min(side, images.shape[3]))
        self.stride = (max(1, images.shape[2] // _POSITIONS), max(1, images.shape[3] // _POSITIONS))
        x = self._sample_patches(images).double()
        mean = x.mean(0)
        x = x - mean
        squares, directions = torch.linalg.eigh(x.T @ x)
        # eigh sorts in ascending order, and may return small values below 0.
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
        """Return the logs of mean energies over positions and the means of logs, ``(B, 2 bands)``."""
        return torch.cat([self._energies(part) for part in self._parts(images)]).double()

    def _energies(self, images: Tensor) -> Tensor:
        y = conv2d(images.float(), self.filters, self.offset, self.stride).flatten(2).square_()
        energies = torch.stack([y[:, a:b].sum(1) for a, b in self.bands], 1) / self.expected
        return torch.cat([energies.mean(2).add_(_FLOOR).log_(), energies.add_(_FLOOR).log_().mean(2)], 1)

    def _parts(self, images: Tensor) -> tuple[Tensor, ...]:
        """Split images into parts whose patches fit in memory."""
        most = _VALUES // max(1, self._patches(images[:1]).numel())
        return torch.split(images, max(1, min(256, most)))

    def _sample_patches(self, images: Tensor) -> Tensor:
        """Return every n-th patch of all images, ``(P, C * side * side)``."""
        _, positions, size = self._patches(images[:1]).shape
        step = -(-len(images) * positions // max(1, min(_PATCHES, 2 * _VALUES // size)))
        kept = []
        seen = 0
        for part in self._parts(images):
            patches = self._patches(part).flatten(0, 1)
            # The step continues from part to part, so that their sizes do not matter.
            kept.append(patches[-seen % step :: step])
            seen += len(patches)
        return torch.cat(kept)

    def _patches(self, images: Tensor) -> Tensor:
        """Return the patches of images, ``(B, positions, C * side * side)``."""
        return unfold(images.float(), self.side, stride=self.stride).transpose(1, 2)


def _rank(squares: Tensor) -> int:
    """Return how many directions vary, by their squared singular values in descending order."""
    return max(1, int((squares > 1e-8 * squares[0]).sum()))


def _bands(count: int, first: int, growth: float) -> list[tuple[int, int]]:
    """Divide ``count`` directions into bands: ``first`` wide, each next one ``growth`` times wider."""
    edges = [0]
    width = float(first)
    while edges[-1] + int(width) < count:
        edges.append(edges[-1] + int(width))
        width *= growth
    return list(zip(edges, [*edges[1:], count], strict=True))


def _principal(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the squared singular values of ``(N, D)`` in descending order, and directions ``(D, k)``."""
    if len(x) >= x.shape[1]:
        squares, directions = torch.linalg.eigh(x.T @ x)
        return squares.flip(0), directions.flip(1)
    # With fewer rows than columns the N x N matrix has the same singular values and is smaller.
    squares, left = torch.linalg.eigh(x @ x.T)
    # QR needs no division by singular values, which may be 0.
    return squares.flip(0), torch.linalg.qr(x.T @ left.flip(1))[0]


def _with_least_variance(rows: Tensor) -> Tensor:
    """Return rows of mean 0 with noise in each column whose variance is below 1, to raise it to 1."""
    # Without it a column that is nearly constant in training makes any small difference a large novelty.
    noise = (1 - rows.var(0)).clamp_min(0).sqrt()
    draw = torch.Generator().manual_seed(0)
    return rows + noise * torch.randn(rows.shape, generator=draw, dtype=rows.dtype)


def _small(rows: Tensor) -> Tensor:
    """Return rows ``(B, D)``; images are averaged to at most 32 x 32."""
    if rows.dim() == 4 and max(rows.shape[2:]) > _SIDE:
        rows = adaptive_avg_pool2d(rows.float(), (min(_SIDE, rows.shape[2]), min(_SIDE, rows.shape[3])))
    return rows.flatten(1)


def _mahalanobis(gaussian: Gaussian, log_prob: Tensor, rows: Tensor) -> Tensor:
    """Return half the squared Mahalanobis distance of rows from the mean, 0, by their log density."""
    return (gaussian.log_prob(torch.zeros_like(rows[:1])) - log_prob).double()
