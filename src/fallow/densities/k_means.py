"""The start of a mixture: greedy k-means++ and a few rounds of Lloyd's algorithm."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arrays.selection import blocks

_CHUNK = 1 << 24


def distances(x: Tensor, centres: Tensor) -> Tensor:
    """Return squared Euclidean distances, ``(B, D), (K, D) -> (B, K)``; equal rows have exactly 0."""
    step = max(1, _CHUNK // max(1, centres.numel()))
    apart = x.new_empty(len(x), len(centres))
    for start, stop in blocks(len(x), step):
        # By a matrix product, |x|^2 - 2 x c + |c|^2 cancels, and equal rows get a distance above 0.
        apart[start:stop] = torch.cdist(x[start:stop], centres, compute_mode="donot_use_mm_for_euclid_dist")
    return apart.square_()


def k_means(
    x: Tensor, weights: Tensor, clusters: int, generator: torch.Generator, rounds: int = 10
) -> Tensor:
    r"""Return the cluster of each row, int64 ``(N,)``, below ``clusters``.

    Each new centre is the best of :math:`2 + \lfloor \ln K \rfloor` draws, with odds proportional to the
    squared distance from the centres so far. Then follow Lloyd's rounds. If there are fewer distinct rows
    than clusters, the last clusters are empty.

    Args:
        x: float64 ``(N, D)``.
        weights: ``(N,)``.
        clusters: K.
        generator: of the draws.
        rounds: of Lloyd.

    References:
        k-means++: the advantages of careful seeding (Arthur and Vassilvitskii, 2007)
    """
    centres = _initial_centres(x, weights, clusters, generator)
    cluster = distances(x, centres).argmin(1)
    for _ in range(rounds):
        count = torch.zeros(len(centres), dtype=x.dtype, device=x.device).index_add_(0, cluster, weights)
        total = torch.zeros_like(centres).index_add_(0, cluster, x * weights[:, None])
        # An empty cluster has no mean, and stays in its place.
        centres = torch.where((count > 0)[:, None], total / count.clamp_min(1e-300)[:, None], centres)
        before, cluster = cluster, distances(x, centres).argmin(1)
        if torch.equal(before, cluster):
            break
    return cluster


def _initial_centres(x: Tensor, weights: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """Return the first centres, ``(K, D)``; fewer if there are fewer distinct rows."""
    trials = 2 + int(math.log(clusters))
    first = draw(weights, 1, generator)
    centres = x[first]
    nearest = distances(x, centres)[:, 0]
    while len(centres) < clusters and bool((weights * nearest > 0).any()):
        candidates = draw(weights * nearest, trials, generator)
        closer = torch.minimum(nearest[:, None], distances(x, x[candidates]))
        best = int((weights[:, None] * closer).sum(0).argmin())
        nearest = closer[:, best]
        centres = torch.cat([centres, x[candidates[best]][None]])
    return centres


def draw(odds: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Return ``size`` positions, drawn with replacement with odds ``(N,)``."""
    # torch.multinomial takes at most 2^24 odds.
    edges = odds.double().cumsum(0)
    points = torch.rand(size, dtype=torch.float64, generator=generator).to(edges.device) * edges[-1]
    # Rounding may put a point on the last edge.
    return torch.searchsorted(edges, points, right=True).clamp_max(len(odds) - 1)
