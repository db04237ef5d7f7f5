"""Which candidates to collect: a budget spread over what is missing, what is thin, and a random part."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from .._checks import check_integer, invalid
from ..densities import Gaussian, GaussianMixture
from .likeness import LIMIT
from .regions import THIN, Region, Regions, find_regions
from .survey import Survey

ALIKE = 0.97
"""A candidate is a near-duplicate where its place has a larger cosine with that of another."""
LARGEST = 0.4
"""The share of a budget that one region gets, at most."""
RANDOM = 0.1
"""The share of a budget that is drawn from all candidates alike."""
WIDER = 3
"""Choices are spread over so many times as many candidates."""
USUAL = 1.0
"""Outside of what is missing, candidates are no stranger than nine of ten training samples."""
_FITTED, _CHUNK = 4096, 2048

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Choice:
    """A candidate to collect.

    Attributes:
        row: which of the candidates.
        region: the number of the missing region that it lies in, from 0; None for others.
        score: log density where it lies among candidates (of its region, if it has one) over log density in
            training, nats.
        why: ``missing``, ``thin`` or ``random``.
    """

    row: int
    region: int | None
    score: float
    why: str


@dataclass(frozen=True, eq=False)
class Plan:
    """What :func:`choose` chose.

    Attributes:
        choices: the best first.
        regions: the thin regions of training and candidates; ``reference`` rows are candidates.
        junk: how many candidates are made unlike the training inputs.
        alike: how many are near-duplicates of training samples.
    """

    choices: list[Choice]
    regions: Regions
    junk: int
    alike: int


def choose(
    training: Survey,
    pool: Survey,
    budget: int,
    *,
    even: NDArray[np.bool_] | None = None,
    seed: int = 0,
) -> Plan:
    r"""Choose candidates that would fill what the training set lacks.

    Junk (:class:`~fallow.gaps.likeness.Likeness`) and near-duplicates are left out. Nine tenths of the
    budget go to the regions that the training set lacks, in proportion to how many samples it lacks there,
    two fifths to one region at most, and what is left over to other thin regions by their size; a tenth is
    drawn from all, and so is what nothing qualifies for.
    In a region the three times as many candidates as it gets with the highest
    :math:`\log p_{\text{region}}(x) - \log p_{\text{training}}(x)` are spread by k-center: each choice is the
    candidate that lies farthest from all training samples and choices before it.

    Args:
        training: each sample without itself.
        pool: the candidates.
        budget: how many to choose; fewer where there are fewer that qualify.
        even: which candidates are an even sample of all there are; by default they are all. Regions are
            found in these.
        seed: of all that is drawn.

    Raises:
        InvalidValue: where the budget is below 1, or no candidate qualifies.

    References:
        Active learning for convolutional neural networks: a core-set approach (Sener and Savarese, 2018)
    """
    budget = check_integer("budget", budget, 1)
    sound = pool.strangeness <= LIMIT
    alike = sound & _alike(pool.places, training.places)
    rows = np.flatnonzero(sound & ~alike)
    if not rows.size:
        strange, others = int((~sound).sum()), int(alike.sum())
        found = f"{strange:,} samples unlike the training inputs and {others:,} near-duplicates of them"
        raise invalid("The pool must hold a candidate.", found, "Name another pool.")
    draw = np.random.default_rng((seed, 0xC0117EC7))
    among = np.flatnonzero(sound if even is None else sound & even)
    regions = _named(find_regions(training, pool[among], seed=seed), among)
    spread = _Spread(training, pool, regions)
    spread.allowed[rows] = True
    chance = round(RANDOM * budget)
    spread.fill_missing(budget - chance)
    spread.fill_thin(budget - chance - len(spread.choices))
    for row in draw.permutation(among).tolist():
        if len(spread.choices) == budget:
            break
        if spread.allowed[row]:
            spread.take(row, None, "random")
    return Plan(spread.choices, regions, int((~sound).sum()), int(alike.sum()))


class _Spread:
    """Spreads choices over places.

    Args:
        training: what is there.
        pool: the candidates.
        regions: of both.
    """

    def __init__(self, training: Survey, pool: Survey, regions: Regions) -> None:
        self.pool, self.regions = pool, regions
        self.choices: list[Choice] = []
        self.allowed = np.zeros(len(pool), bool)
        self.places = torch.from_numpy(pool.places)
        self.region = _assigned(training, pool, regions)
        step = max(1, len(training) // _FITTED)
        known = torch.from_numpy(training.places[::step])
        lower = GaussianMixture().fit(known).log_prob(self.places)
        sound = self.places[pool.strangeness <= LIMIT]
        sample = sound[:: max(1, len(sound) // _FITTED)]
        upper = GaussianMixture().fit(sample).log_prob(self.places) if len(sample) > 1 else lower
        self.score = (upper - lower).numpy()
        for number, region in enumerate([*regions.missing, *regions.thin]):
            rows = np.flatnonzero(self.region == number)
            both = torch.from_numpy(
                np.concatenate([training.places[region.training], pool.places[region.reference]])
            )
            inside = Gaussian().fit(both).log_prob(self.places[rows])
            self.score[rows] = (inside - lower[rows]).numpy()
        self.nearest = _nearest(self.places, known)

    def fill(self, rows: Rows, count: int, region: int | None, why: str) -> None:
        """Choose ``count`` of some rows, those of the highest scores, spread by k-center."""
        rows = rows[self.allowed[rows]]
        rows = rows[np.argsort(-self.score[rows], kind="stable")][: WIDER * max(0, count)]
        for _ in range(min(count, rows.size)):
            rows = rows[self.allowed[rows]]
            if not rows.size:
                return
            self.take(int(rows[int(self.nearest[rows].argmax())]), region, why)

    def fill_missing(self, budget: int) -> None:
        """Choose of what is missing: in proportion to what is lacking, no more than the largest share."""
        lack = np.array([region.lack for region in self.regions.missing]).clip(0)
        for number, share in enumerate(lack / max(1e-9, lack.sum())):
            quota = min(round(min(share, LARGEST) * budget), budget - len(self.choices))
            self.fill(np.flatnonzero(self.region == number), quota, number, "missing")

    def fill_thin(self, budget: int) -> None:
        """Choose of the other thin regions, by their size, then of what is thin anywhere."""
        usual = self.pool.strangeness <= USUAL
        first = len(self.regions.missing)
        left, remaining = budget, sum(region.reference.size for region in self.regions.thin)
        for number, region in enumerate(self.regions.thin, first):
            size, before = region.reference.size, len(self.choices)
            quota = -(-left * size // max(1, remaining))
            self.fill(np.flatnonzero((self.region == number) & usual), quota, None, "thin")
            left, remaining = left - len(self.choices) + before, remaining - size
        self.fill(np.flatnonzero((self.pool.percentile > THIN) & usual), left, None, "thin")

    def take(self, row: int, region: int | None, why: str) -> None:
        """Choose a row; those that are nearly the same are not chosen any more."""
        self.choices.append(Choice(row, region, float(self.score[row]), why))
        self.nearest = torch.minimum(self.nearest, _nearest(self.places, self.places[row][None]))
        self.allowed[row] = False
        self.allowed &= ~_alike(self.pool.places, self.pool.places[row][None])


def _assigned(training: Survey, pool: Survey, regions: Regions) -> Rows:
    """Return the region of each thin candidate, that of the nearest thin sample; -1 for others."""
    found = np.full(len(pool), -1, np.int64)
    every = [*regions.missing, *regions.thin]
    if not every:
        return found
    known = [np.concatenate([training.places[r.training], pool.places[r.reference]]) for r in every]
    label = np.repeat(np.arange(len(every)), [len(places) for places in known])
    x = torch.from_numpy(np.concatenate(known))
    thin = np.flatnonzero((pool.percentile > THIN) & (pool.strangeness <= LIMIT))
    for part in np.array_split(thin, max(1, -(-thin.size // _CHUNK))):
        found[part] = label[torch.cdist(torch.from_numpy(pool.places[part]), x).argmin(1).numpy()]
    return found


def _nearest(places: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Return the distance of each place to the nearest that is known, ``(N,)``."""
    return torch.cat([torch.cdist(part, known).amin(1) for part in torch.split(places, _CHUNK)])


def _alike(places: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which places have nearly the direction of one that is known."""
    x, y = (torch.nn.functional.normalize(torch.from_numpy(rows), dim=1) for rows in (places, known))
    found: NDArray[np.bool_] = torch.cat(
        [(part @ y.T).amax(1) > ALIKE for part in torch.split(x, _CHUNK)]
    ).numpy()
    return found


def _named(regions: Regions, names: Rows) -> Regions:
    """Return regions whose reference rows are those of a larger survey."""

    def named(region: Region) -> Region:
        return replace(region, reference=names[region.reference])

    return replace(
        regions,
        missing=[named(region) for region in regions.missing],
        thin=[named(region) for region in regions.thin],
        alone=(regions.alone[0], names[regions.alone[1]]),
        strange=(regions.strange[0], names[regions.strange[1]]),
    )
