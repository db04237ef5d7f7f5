"""Coherent thin regions: what a reference has there and the training set lacks, and what is covered."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from ..densities.k_means import distances
from .novelty import LIMIT
from .survey import Survey
from .tree import Tree

THIN = 0.9
"""Samples above this percentile lie thin."""
SMALLEST = 5
"""A region has so many samples at least; fewer are outliers."""
TIMES = 2.0
"""Of what is missing the reference has, with confidence, so many times the share of the training set."""
CONFIDENCE = 0.95
STABLE = 0.6
"""A region is found again in resampled data: so large a share of its samples, on average."""
MOST = 2000
"""Thin samples of either side that are grouped; of more, as many are drawn, and others join the nearest."""
_A_GROUP, _RESAMPLED, _SHUFFLED = 25, 20, 100
_NEIGHBOUR, _ALONE, _CHUNK = 4, 2.0, 1024

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Region:
    """Thin samples that lie together.

    Attributes:
        training: int64, those of the training set.
        reference: int64, those of the reference.
        centre: float64 ``(p,)``.
        factor: how many times larger a share of the reference than of the training set lies there, over what
            is usual where training samples lie thin.
        least: its lower confidence bound.
        stability: the share of its samples of which resampled data find too few in the training set too, on
            average; 1 where there was nothing to ask.
        lack: how many more samples of the reference there are than the training set has a share for, as is
            usual.
    """

    training: Rows
    reference: Rows
    centre: NDArray[np.float64]
    factor: float
    least: float
    stability: float
    lack: float

    @property
    def missing(self) -> bool:
        """Whether the training set lacks it."""
        return self.least >= TIMES and self.stability >= STABLE

    def __len__(self) -> int:
        return self.training.size + self.reference.size


@dataclass(frozen=True, eq=False)
class Regions:
    """What :func:`find_regions` found.

    Attributes:
        missing: what the training set lacks, by ``lack``, the largest first.
        thin: other coherent thin regions, the largest first.
        alone: thin samples that lie by themselves: int64, of the training set and of the reference.
        strange: samples made unlike the training inputs, or without a finite place: the same.
        usual: by how much a thin sample is likelier in the reference than in training, as a rule.
    """

    missing: list[Region] = field(default_factory=list)
    thin: list[Region] = field(default_factory=list)
    alone: tuple[Rows, Rows] = field(default_factory=lambda: (np.zeros(0, np.int64), np.zeros(0, np.int64)))
    strange: tuple[Rows, Rows] = field(default_factory=lambda: (np.zeros(0, np.int64), np.zeros(0, np.int64)))
    usual: float = 1.0


def find_regions(training: Survey, reference: Survey, *, seed: int = 0) -> Regions:
    r"""Find coherent thin regions, and which of them the training set lacks.

    Thin samples that are not strange are joined to a tree by Ward's method. In a node with :math:`t` of T
    training and :math:`r` of R reference samples the reference has

    .. math:: f = \frac{(r + ½) / R}{(t + ½) / T} \Big/ u

    times the share of the training set, where u is the median of the first ratio over the groups that thin
    training samples lie in, at least 1: a network is a little more at home where it was trained. The lower
    bound is :math:`\log f - z \sqrt{1/(r + ½) + 1/(t + ½)}`; z is the 95 % quantile of the largest such z
    over all nodes where training and reference are shuffled. Missing are the nodes whose bound is 2 at least,
    none inside another, that have the most samples too many; they must be found again in resampled data.
    What is left is cut into groups of 25 on average.

    Args:
        training: each sample without itself.
        reference: what the training set ought to cover.
        seed: of all that is drawn.
    """
    draw = np.random.default_rng(seed)
    sides = [_Side.of(survey, draw) for survey in (training, reference)]
    places = np.concatenate([side.places(side.drawn) for side in sides])
    origin = np.repeat([0, 1], [side.drawn.size for side in sides])
    far, _ = _neighbours(places, places, _NEIGHBOUR + 1)
    apart = far[(far > 0) & np.isfinite(far)]
    limit = _ALONE * float(np.median(apart)) if apart.size else 0.0
    own = np.flatnonzero(far <= limit)
    data = _Thin(places[own], origin[own], (sides[0].total, sides[1].total))
    usual, z, parts = data.parts(draw, seed)
    label = np.full(len(places), -1, np.int64)
    for number, (rows, _) in enumerate(parts):
        label[own[rows]] = number
    groups = [side.labels(label[origin == at], places, label, limit) for at, side in enumerate(sides)]
    regions = []
    for number, (rows, stability) in enumerate(parts):
        training_rows, reference_rows = (
            side.rows[group == number] for side, group in zip(sides, groups, strict=True)
        )
        lack = reference_rows.size - usual * training_rows.size * len(reference) / max(1, len(training))
        regions.append(Region(training_rows, reference_rows, *data.about(rows, z, usual), stability, lack))
    alone, other = (side.rows[group < 0] for side, group in zip(sides, groups, strict=True))
    return Regions(
        sorted((one for one in regions if one.missing), key=lambda region: -region.lack),
        sorted((one for one in regions if not one.missing), key=len, reverse=True),
        (alone, other),
        (sides[0].strange, sides[1].strange),
        usual,
    )


@dataclass(frozen=True, eq=False)
class _Side:
    """The thin samples of a survey.

    Attributes:
        survey: of which they are.
        rows: int64, those that are not strange, ascending.
        drawn: those of them that are grouped.
        strange: int64, the strange samples, thin or not.
    """

    survey: Survey
    rows: Rows
    drawn: Rows
    strange: Rows

    @staticmethod
    def of(survey: Survey, draw: np.random.Generator) -> _Side:
        """Find them."""
        sound = (survey.novelty <= LIMIT) & np.isfinite(survey.places).all(1)
        rows = np.flatnonzero(sound & (survey.percentile > THIN))
        return _Side(survey, rows, np.sort(draw.permutation(rows)[:MOST]), np.flatnonzero(~sound))

    @property
    def total(self) -> float:
        """How many samples there are to those that are drawn; 1 at least."""
        share = self.drawn.size / self.rows.size if self.rows.size else 1.0
        return max(1.0, share * len(self.survey))

    def places(self, rows: Rows) -> NDArray[np.float64]:
        """Return where samples lie, ``(n, p)``."""
        return self.survey.places[rows].astype(np.float64)

    def labels(self, drawn: Rows, places: NDArray[np.float64], label: Rows, limit: float) -> Rows:
        """Return the region of each thin sample, -1 where it lies alone.

        Args:
            drawn: the same, of those that are drawn.
            places: ``(n, p)``, of all that are drawn, of both sides.
            label: the same, of these.
            limit: how far the fourth neighbour may lie.
        """
        found = np.full(len(self.survey), -1, np.int64)
        found[self.drawn] = drawn
        others = np.setdiff1d(self.rows, self.drawn, assume_unique=True)
        if others.size:
            far, nearest = _neighbours(self.places(others), places, _NEIGHBOUR)
            found[others] = np.where(far <= limit, label[nearest], -1)
        return found[self.rows]


@dataclass(frozen=True, eq=False)
class _Thin:
    """n thin samples.

    Attributes:
        places: float64 ``(n, p)``.
        origin: int64 ``(n,)``, 0 of the training set and 1 of the reference.
        totals: how many samples either has, thin ones and others.
        weights: ``(n,)``, how often each counts.
    """

    places: NDArray[np.float64]
    origin: Rows
    totals: tuple[float, float]
    weights: NDArray[np.float64] | None = None

    def counts(self) -> NDArray[np.float64]:
        """Return ``(n, 2)``: how often each counts for training, and for the reference."""
        weights = np.ones(len(self.origin)) if self.weights is None else self.weights
        found: NDArray[np.float64] = weights[:, None] * (self.origin[:, None] == np.array([0, 1]))
        return found

    def ratio(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how many times larger the reference's share is, ``(k, 2) -> (k,)``."""
        shares = (counts + 0.5) / np.array(self.totals)
        found: NDArray[np.float64] = shares[:, 1] / shares[:, 0]
        return found

    def usual(self, tree: Tree) -> float:
        """Return the median ratio over groups, weighted by their training samples; at least 1."""
        groups = tree.groups(max(2, len(self.origin) // _A_GROUP))
        counts = np.zeros((int(groups.max()) + 1, 2))
        np.add.at(counts, groups, self.counts())
        ratios = self.ratio(counts)
        order = np.argsort(ratios)
        below = np.cumsum(counts[order, 0])
        if not below[-1]:
            return 1.0
        return max(1.0, float(ratios[order][np.searchsorted(below, below[-1] / 2)]))

    def critical(self, tree: Tree, draw: np.random.Generator) -> float:
        """Return the z that no node reaches, with confidence, where a sample's origin says nothing."""
        shuffled = np.stack([draw.permutation(self.origin) for _ in range(_SHUFFLED)], 1).astype(np.float64)
        reference, every = tree.sums(shuffled), tree.sums(np.ones((len(self.origin), 1)))
        training = every - reference
        r, t = reference + 0.5, training + 0.5
        share = shuffled.sum(0).clip(1) / (len(self.origin) - shuffled.sum(0)).clip(1)
        z = np.log(r / t / share) / np.sqrt(1 / r + 1 / t)
        return float(np.quantile(z[every[:, 0] >= SMALLEST].max(0), CONFIDENCE))

    def bound(self, counts: NDArray[np.float64], z: float, usual: float) -> NDArray[np.float64]:
        """Return the lower confidence bound of the factor, ``(k, 2) -> (k,)``."""
        found: NDArray[np.float64] = (
            self.ratio(counts) / usual * np.exp(-z * np.sqrt((1 / (counts + 0.5)).sum(1)))
        )
        return found

    def lack(self, counts: NDArray[np.float64], usual: float) -> NDArray[np.float64]:
        """Return how many reference samples there are above the usual share, ``(k, 2) -> (k,)``."""
        found: NDArray[np.float64] = counts[:, 1] - usual * counts[:, 0] * self.totals[1] / self.totals[0]
        return found

    def parts(self, draw: np.random.Generator, seed: int) -> tuple[float, float, list[tuple[Rows, float]]]:
        """Return what is usual, the critical z, and the rows of each region with its stability."""
        n = len(self.origin)
        if n < SMALLEST:
            return 1.0, 0.0, []
        tree = Tree.of(self.places)
        usual, z = self.usual(tree), self.critical(tree, draw)
        found = self.lacking(tree, z, usual, TIMES)
        again = self.found_again(z, seed) if found else np.zeros(n)
        parts, left = [], np.ones(n, bool)
        for rows in found:
            if (stability := float(again[rows].mean())) >= STABLE:
                parts.append((rows, stability))
                left[rows] = False
        groups = tree.groups(n // _A_GROUP)
        for group in np.unique(groups[left]):
            rows = np.flatnonzero((groups == group) & left)
            if rows.size >= SMALLEST:
                doubted = self.about(rows, z, usual)[2] >= TIMES
                parts.append((rows, float(again[rows].mean()) if doubted else 1.0))
        return usual, z, parts

    def lacking(self, tree: Tree, z: float, usual: float, times: float) -> list[Rows]:
        """Return the rows of each node of which the reference has ``times`` as much, with confidence."""
        counts = tree.sums(self.counts())
        there = (counts.sum(1) >= SMALLEST) & (self.bound(counts, z, usual) >= times)
        gains = np.where(there, self.lack(counts, times * usual), 0.0).clip(0)
        return [tree.members(node) for node in tree.best(gains)]

    def found_again(self, z: float, seed: int) -> NDArray[np.float64]:
        """Return in which share of resampled data that have a row it lies where too few are, ``(n,)``."""
        again, drawn = np.zeros((2, len(self.origin)))
        for turn in range(_RESAMPLED):
            rows, times = np.unique(
                np.random.default_rng((seed, turn)).integers(len(self.origin), size=len(self.origin)),
                return_counts=True,
            )
            drawn[rows] += 1
            if rows.size < 2:
                continue
            part = _Thin(self.places[rows], self.origin[rows], self.totals, times.astype(np.float64))
            tree = Tree.of(part.places)
            for members in part.lacking(tree, z, part.usual(tree), 1.0):
                again[rows[members]] += 1
        found: NDArray[np.float64] = again / drawn.clip(1)
        return found

    def about(self, rows: Rows, z: float, usual: float) -> tuple[NDArray[np.float64], float, float]:
        """Return the centre of a region, its factor and the lower bound of that."""
        counts = self.counts()[rows].sum(0)[None]
        factor, bound = self.ratio(counts) / usual, self.bound(counts, z, usual)
        return self.places[rows].mean(0), float(factor[0]), float(bound[0])


def _neighbours(
    places: NDArray[np.float64], among: NDArray[np.float64], count: int
) -> tuple[NDArray[np.float64], Rows]:
    """Return the distance to the ``count``-th nearest of others, infinite without one, and the nearest."""
    far, nearest = np.full(len(places), np.inf), np.zeros(len(places), np.int64)
    if len(among) >= count:
        known = torch.from_numpy(among)
        for start in range(0, len(places), _CHUNK):
            part = torch.from_numpy(places[start : start + _CHUNK])
            near, at = distances(part, known).topk(count, largest=False)
            far[start : start + _CHUNK] = near[:, -1].sqrt().numpy()
            nearest[start : start + _CHUNK] = at[:, 0].numpy()
    return far, nearest
