"""Find coherent thin regions, and those of them that the training set lacks against a reference."""

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
"""Samples above this percentile are thin: badly covered."""
SMALLEST = 5
"""Least number of samples in a region; fewer are outliers."""
TIMES = 2.0
"""Least ratio (lower 95 % bound) of reference share to training share for a missing region."""
CONFIDENCE = 0.95
STABLE = 0.6
"""Least share of a region's samples that resampled data assign to a missing region, on average."""
MOST = 2000
"""Most thin samples of either side that are grouped; of more, this many are drawn, and others join them."""
_A_GROUP, _RESAMPLED, _SHUFFLED = 25, 20, 100
_NEIGHBOUR, _ALONE, _CHUNK = 4, 2.0, 1024

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Region:
    """Thin samples that lie together.

    Attributes:
        training: int64, the rows of the training set.
        reference: int64, the rows of the reference.
        centre: float64 ``(p,)``.
        factor: the ratio of the reference's share to the training set's share, over the usual ratio of thin
            regions.
        least: the lower confidence bound of ``factor``.
        stability: the mean share of its samples that resampled data find missing too; 1 if the region is no
            candidate for a missing one.
        lack: the number of reference samples above the usual ratio.
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
    """The result of :func:`find_regions`.

    Attributes:
        missing: regions that the training set lacks, the largest ``lack`` first.
        thin: other coherent thin regions, the largest first.
        alone: thin samples outside all regions: int64 rows of the training set and of the reference.
        novel: samples whose inputs are unlike the training inputs, or without a finite place: the same.
        usual: the usual ratio of reference share to training share in thin regions.
    """

    missing: list[Region] = field(default_factory=list)
    thin: list[Region] = field(default_factory=list)
    alone: tuple[Rows, Rows] = field(default_factory=lambda: (np.zeros(0, np.int64), np.zeros(0, np.int64)))
    novel: tuple[Rows, Rows] = field(default_factory=lambda: (np.zeros(0, np.int64), np.zeros(0, np.int64)))
    usual: float = 1.0


def find_regions(training: Survey, reference: Survey, *, seed: int = 0) -> Regions:
    r"""Find coherent thin regions, and those that the training set lacks.

    Thin samples whose inputs are not novel are joined to a tree by Ward's method. In a node with :math:`t`
    of T training samples and :math:`r` of R reference samples the reference has

    .. math:: f = \frac{(r + ½) / R}{(t + ½) / T} \Big/ u

    times the share of the training set. Here u is the median of the first ratio over the groups of the thin
    training samples, at least 1, as a network is a little more certain where it was trained. The lower bound
    is :math:`\log f - z \sqrt{1/(r + ½) + 1/(t + ½)}`, with z the 95 % quantile of the largest such z over
    all nodes if training and reference are shuffled. Missing regions are the nodes with a bound of at least
    2, none inside another, with the largest lack together; resampled data must find them again. The other
    thin samples are cut into groups of 25 on average.

    Args:
        training: the survey of the training set, each sample without itself.
        reference: the survey of what the training set should cover.
        seed: of all random draws.
    """
    draw = np.random.default_rng(seed)
    sides = [_Side.of(survey, draw) for survey in (training, reference)]
    places = np.concatenate([side.places(side.drawn) for side in sides])
    origin = np.repeat([0, 1], [side.drawn.size for side in sides])
    # One more neighbour than for other samples, as each place is its own nearest.
    apart, _ = _neighbours(places, places, _NEIGHBOUR + 1)
    positive = apart[(apart > 0) & np.isfinite(apart)]
    limit = _ALONE * float(np.median(positive)) if positive.size else 0.0
    grouped = np.flatnonzero(apart <= limit)
    data = _Thin(places[grouped], origin[grouped], (sides[0].total, sides[1].total))
    usual, z, parts = data.parts(draw, seed)
    label = np.full(len(places), -1, np.int64)
    for number, (rows, _) in enumerate(parts):
        label[grouped[rows]] = number
    groups = [side.labels(label[origin == at], places, label, limit) for at, side in enumerate(sides)]
    regions = []
    for number, (rows, stability) in enumerate(parts):
        training_rows, reference_rows = (
            side.rows[group == number] for side, group in zip(sides, groups, strict=True)
        )
        lack = reference_rows.size - usual * training_rows.size * len(reference) / max(1, len(training))
        regions.append(Region(training_rows, reference_rows, *data.about(rows, z, usual), stability, lack))
    alone = [side.rows[group < 0] for side, group in zip(sides, groups, strict=True)]
    return Regions(
        sorted((region for region in regions if region.missing), key=lambda region: -region.lack),
        sorted((region for region in regions if not region.missing), key=len, reverse=True),
        (alone[0], alone[1]),
        (sides[0].novel, sides[1].novel),
        usual,
    )


@dataclass(frozen=True, eq=False)
class _Side:
    """The thin samples of a survey.

    Attributes:
        survey: the survey.
        rows: int64, the thin rows whose inputs are not novel, ascending.
        drawn: the rows of these that are grouped.
        novel: int64, the rows with novel inputs, thin or not.
    """

    survey: Survey
    rows: Rows
    drawn: Rows
    novel: Rows

    @staticmethod
    def of(survey: Survey, draw: np.random.Generator) -> _Side:
        """Return the thin samples of a survey."""
        valid = (survey.novelty <= LIMIT) & np.isfinite(survey.places).all(1)
        rows = np.flatnonzero(valid & (survey.percentile > THIN))
        return _Side(survey, rows, np.sort(draw.permutation(rows)[:MOST]), np.flatnonzero(~valid))

    @property
    def total(self) -> float:
        """The size of the survey, scaled down to the drawn share of its thin samples; at least 1."""
        share = self.drawn.size / self.rows.size if self.rows.size else 1.0
        return max(1.0, share * len(self.survey))

    def places(self, rows: Rows) -> NDArray[np.float64]:
        """Return the places of rows, ``(n, p)``."""
        return self.survey.places[rows].astype(np.float64)

    def labels(self, drawn: Rows, places: NDArray[np.float64], label: Rows, limit: float) -> Rows:
        """Return the region of each thin sample, -1 for one that lies alone.

        Args:
            drawn: the region of each drawn sample.
            places: ``(n, p)``, the places of the drawn samples of both sides.
            label: the region of each of these places.
            limit: the largest distance of the fourth neighbour.
        """
        labels = np.full(len(self.survey), -1, np.int64)
        labels[self.drawn] = drawn
        others = np.setdiff1d(self.rows, self.drawn, assume_unique=True)
        if others.size:
            apart, nearest = _neighbours(self.places(others), places, _NEIGHBOUR)
            labels[others] = np.where(apart <= limit, label[nearest], -1)
        return labels[self.rows]


@dataclass(frozen=True, eq=False)
class _Thin:
    """n thin samples.

    Attributes:
        places: float64 ``(n, p)``.
        origin: int64 ``(n,)``, 0 for the training set and 1 for the reference.
        totals: the number of samples of either side, thin or not.
        weights: ``(n,)``, how often each sample counts.
    """

    places: NDArray[np.float64]
    origin: Rows
    totals: tuple[float, float]
    weights: NDArray[np.float64] | None = None

    def counts(self) -> NDArray[np.float64]:
        """Return how often each sample counts for training and for the reference, ``(n, 2)``."""
        weights = np.ones(len(self.origin)) if self.weights is None else self.weights
        counts: NDArray[np.float64] = weights[:, None] * (self.origin[:, None] == np.array([0, 1]))
        return counts

    def ratio(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the ratio of the reference's share to the training share, ``(k, 2) -> (k,)``."""
        # The half keeps the ratio finite for a node without training samples.
        shares = (counts + 0.5) / np.array(self.totals)
        ratios: NDArray[np.float64] = shares[:, 1] / shares[:, 0]
        return ratios

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
        """Return the z that no node reaches, with confidence, if origins are random."""
        # The largest z of all nodes, as every node is tested: one node's own quantile would find too many.
        shuffled = np.stack([draw.permutation(self.origin) for _ in range(_SHUFFLED)], 1).astype(np.float64)
        reference, every = tree.sums(shuffled), tree.sums(np.ones((len(self.origin), 1)))
        training = every - reference
        r, t = reference + 0.5, training + 0.5
        share = shuffled.sum(0).clip(1) / (len(self.origin) - shuffled.sum(0)).clip(1)
        z = np.log(r / t / share) / np.sqrt(1 / r + 1 / t)
        return float(np.quantile(z[every[:, 0] >= SMALLEST].max(0), CONFIDENCE))

    def bound(self, counts: NDArray[np.float64], z: float, usual: float) -> NDArray[np.float64]:
        """Return the lower confidence bound of the factor, ``(k, 2) -> (k,)``."""
        deviation = np.sqrt((1 / (counts + 0.5)).sum(1))
        bounds: NDArray[np.float64] = self.ratio(counts) / usual * np.exp(-z * deviation)
        return bounds

    def lack(self, counts: NDArray[np.float64], usual: float) -> NDArray[np.float64]:
        """Return the number of reference samples above the usual share, ``(k, 2) -> (k,)``."""
        lack: NDArray[np.float64] = counts[:, 1] - usual * counts[:, 0] * self.totals[1] / self.totals[0]
        return lack

    def parts(self, draw: np.random.Generator, seed: int) -> tuple[float, float, list[tuple[Rows, float]]]:
        """Return the usual ratio, the critical z, and the rows of each region with its stability."""
        n = len(self.origin)
        if n < SMALLEST:
            return 1.0, 0.0, []
        tree = Tree.of(self.places)
        usual, z = self.usual(tree), self.critical(tree, draw)
        candidates = self.lacking(tree, z, usual, TIMES)
        again = self.found_again(z, seed) if candidates else np.zeros(n)
        parts = []
        left = np.ones(n, bool)
        for rows in candidates:
            stability = float(again[rows].mean())
            if stability >= STABLE:
                parts.append((rows, stability))
                left[rows] = False
        groups = tree.groups(n // _A_GROUP)
        for group in np.unique(groups[left]):
            rows = np.flatnonzero((groups == group) & left)
            if rows.size >= SMALLEST:
                # Its bound alone would make it a missing region; it must be stable, too.
                seems_missing = self.about(rows, z, usual)[2] >= TIMES
                parts.append((rows, float(again[rows].mean()) if seems_missing else 1.0))
        return usual, z, parts

    def lacking(self, tree: Tree, z: float, usual: float, times: float) -> list[Rows]:
        """Return the rows of each node whose ratio is at least ``times``, with confidence."""
        counts = tree.sums(self.counts())
        confident = (counts.sum(1) >= SMALLEST) & (self.bound(counts, z, usual) >= times)
        gains = np.where(confident, self.lack(counts, times * usual), 0.0).clip(0)
        return [tree.members(node) for node in tree.best(gains)]

    def found_again(self, z: float, seed: int) -> NDArray[np.float64]:
        """Return the share of the resampled data with a row that find its node lacking, ``(n,)``."""
        again, drawn = np.zeros((2, len(self.origin)))
        for turn in range(_RESAMPLED):
            rows, times = np.unique(
                np.random.default_rng((seed, turn)).integers(len(self.origin), size=len(self.origin)),
                return_counts=True,
            )
            drawn[rows] += 1
            # A tree needs two rows.
            if rows.size < 2:
                continue
            part = _Thin(self.places[rows], self.origin[rows], self.totals, times.astype(np.float64))
            tree = Tree.of(part.places)
            # A lower bar than TIMES: resampled data only need to show that samples are lacking.
            for members in part.lacking(tree, z, part.usual(tree), 1.0):
                again[rows[members]] += 1
        shares: NDArray[np.float64] = again / drawn.clip(1)
        return shares

    def about(self, rows: Rows, z: float, usual: float) -> tuple[NDArray[np.float64], float, float]:
        """Return the centre of a region, its factor and the lower bound of the factor."""
        counts = self.counts()[rows].sum(0)[None]
        factor = self.ratio(counts) / usual
        bound = self.bound(counts, z, usual)
        return self.places[rows].mean(0), float(factor[0]), float(bound[0])


def _neighbours(
    places: NDArray[np.float64], among: NDArray[np.float64], count: int
) -> tuple[NDArray[np.float64], Rows]:
    """Return the distance of each place from its ``count``-th nearest, or infinity, and its nearest."""
    apart = np.full(len(places), np.inf)
    nearest = np.zeros(len(places), np.int64)
    if len(among) >= count:
        known = torch.from_numpy(among)
        for start in range(0, len(places), _CHUNK):
            part = torch.from_numpy(places[start : start + _CHUNK])
            squares, at = distances(part, known).topk(count, largest=False)
            apart[start : start + _CHUNK] = squares[:, -1].sqrt().numpy()
            nearest[start : start + _CHUNK] = at[:, 0].numpy()
    return apart, nearest
