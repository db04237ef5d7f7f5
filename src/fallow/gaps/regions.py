"""Coherent thin regions: what a reference has there and the training set lacks, and what is covered."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from ..densities.k_means import distances
from .likeness import LIMIT
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
"""Thin samples of either side that are grouped; of more, as many are drawn."""
_A_GROUP, _RESAMPLED, _SHUFFLED = 25, 20, 100
_NEIGHBOUR, _ALONE = 4, 2.0

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
            average; 1 where it was not asked.
        lack: how many more samples of the reference there are than the training set has a share for.
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
        strange: samples made unlike the training inputs: the same.
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

    Args:
        training: each sample without itself.
        reference: what the training set ought to cover.
        seed: of all that is drawn.
    """
    odd = [survey.strangeness > LIMIT for survey in (training, reference)]
    thin = [
        np.flatnonzero((survey.percentile > THIN) & ~strange)
        for survey, strange in zip((training, reference), odd, strict=True)
    ]
    strange = np.flatnonzero(odd[0]), np.flatnonzero(odd[1])
    draw = np.random.default_rng(seed)
    kept = [np.sort(draw.permutation(rows)[:MOST]) for rows in thin]
    totals = [
        len(survey) * part.size / max(1, rows.size)
        for survey, part, rows in zip((training, reference), kept, thin, strict=True)
    ]
    places = np.concatenate([training.places[kept[0]], reference.places[kept[1]]]).astype(np.float64)
    lonely = _alone(places)
    origin, names = np.repeat([0, 1], [rows.size for rows in kept]), np.concatenate(kept)
    few = lonely.copy()
    data = _Thin(places[~lonely], origin[~lonely], (totals[0], totals[1]))
    missing: list[Region] = []
    others: list[Region] = []
    usual = 1.0
    if len(data.places) >= SMALLEST:
        tree = Tree.of(data.places)
        usual, z = data.usual(tree), data.critical(tree, draw)
        found = data.lacking(tree, z, usual, TIMES)
        own = names[~lonely]
        inside = np.zeros(len(own), bool)
        for rows, stable in zip(found, data.stability(found, z, seed), strict=True):
            region = data.region(rows, own, z, usual, stable)
            inside[rows] |= region.missing
            missing += [region] * region.missing
        groups = tree.groups(len(own) // _A_GROUP)
        for group in np.unique(groups[~inside]):
            rows = np.flatnonzero((groups == group) & ~inside)
            if rows.size < SMALLEST:
                few[np.flatnonzero(~lonely)[rows]] = True
            else:
                others.append(data.region(rows, own, z, usual, 1.0))
    else:
        few[:] = True
    alone = np.sort(names[few & (origin == 0)]), np.sort(names[few & (origin == 1)])
    missing.sort(key=lambda region: -region.lack)
    others.sort(key=len, reverse=True)
    return Regions(missing, others, alone, strange, usual)


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

    def lacking(self, tree: Tree, z: float, usual: float, times: float) -> list[Rows]:
        """Return the rows of each node of which the reference has ``times`` as much, with confidence."""
        counts = tree.sums(self.counts())
        there = (counts.sum(1) >= SMALLEST) & (self.bound(counts, z, usual) >= times)
        gains = np.where(there, self.lack(counts, times * usual), 0.0).clip(0)
        return [tree.members(node) for node in tree.best(gains)]

    def stability(self, found: list[Rows], z: float, seed: int) -> list[float]:
        """Return which share of each node's samples resampled data find too few of, on average."""
        if not found:
            return []
        again, drawn = np.zeros((2, len(self.origin)))
        for turn in range(_RESAMPLED):
            rows, times = np.unique(
                np.random.default_rng((seed, turn)).integers(len(self.origin), size=len(self.origin)),
                return_counts=True,
            )
            part = _Thin(self.places[rows], self.origin[rows], self.totals, times.astype(np.float64))
            tree = Tree.of(part.places)
            drawn[rows] += 1
            for members in part.lacking(tree, z, part.usual(tree), 1.0):
                again[rows[members]] += 1
        return [float(again[rows].sum() / max(1.0, drawn[rows].sum())) for rows in found]

    def region(self, rows: Rows, names: Rows, z: float, usual: float, stability: float) -> Region:
        """Return a region of some rows; ``names`` are their samples."""
        counts = self.counts()[rows].sum(0)[None]
        training, reference = (np.sort(names[rows[self.origin[rows] == part]]) for part in (0, 1))
        return Region(
            training,
            reference,
            self.places[rows].mean(0),
            float(self.ratio(counts)[0] / usual),
            float(self.bound(counts, z, usual)[0]),
            stability,
            float(self.lack(counts, usual)[0]),
        )


def _alone(places: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which thin samples have no neighbours: the fourth lies twice as far as with most."""
    if len(places) <= _NEIGHBOUR:
        return np.ones(len(places), bool)
    x = torch.from_numpy(places)
    near = [distances(part, x).topk(_NEIGHBOUR + 1, largest=False)[0][:, -1] for part in torch.split(x, 1024)]
    far = torch.cat(near).sqrt().numpy()
    found: NDArray[np.bool_] = far > _ALONE * np.median(far)
    return found
