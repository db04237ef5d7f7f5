"""Which candidates to collect: a budget spread over what is missing, what is thin, and a random part."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..densities import Gaussian, GaussianMixture
from ..errors import check_integer, invalid
from .novelty import LIMIT
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
_FITTED, _VALUES = 4096, 1 << 24

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Choice:
    """A candidate to collect.

    Attributes:
        row: which of the candidates.
        region: the number of the missing region that it was chosen for, from 0; None for others.
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
        choices: those for what is missing first, then thin ones, then random ones.
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

    Junk (:class:`~fallow.gaps.novelty.InputNovelty`) and near-duplicates are left out. Nine tenths of the
    budget go to the regions that the training set lacks, in proportion to how many samples it lacks there,
    two fifths to one region at most, and what is left over to other thin regions by their size; a tenth is
    drawn from all, and so is what nothing qualifies for.
    In a region the three times as many candidates as it gets with the highest
    :math:`\log p_{\text{region}}(x) - \log p_{\text{training}}(x)` are spread by k-center: each choice is the
    candidate that lies farthest from training samples (4,096 of them) and choices before it.

    Args:
        training: each sample without itself.
        pool: the candidates.
        budget: how many to choose; fewer where there are fewer that qualify.
        even: which candidates are an even sample of all there are; by default they are all. Regions are
            found in these.
        seed: of all that is drawn.

    Raises:
        InvalidValue: where the budget is below 1, ``even`` does not fit, or no candidate qualifies.

    References:
        Active learning for convolutional neural networks: a core-set approach (Sener and Savarese, 2018)
    """
    budget = check_integer("budget", budget, 1)
    if even is not None and np.shape(even) != (len(pool),):
        raise invalid(f"`even` must be of shape ({len(pool)},), a bool for each candidate.", np.shape(even))
    sound = np.flatnonzero((pool.novelty <= LIMIT) & np.isfinite(pool.places).all(1))
    candidates, known = pool[sound], training.places[np.isfinite(training.places).all(1)]
    alike = _alike(candidates.places, known)
    junk, others = len(pool) - sound.size, int(alike.sum())
    if alike.all():
        found = f"{junk:,} samples unlike the training inputs and {others:,} near-duplicates of them"
        raise invalid("The pool must hold a candidate.", found, "Name another pool.")
    draw = np.random.default_rng((seed, 0xC0117EC7))
    among = np.arange(sound.size) if even is None else np.flatnonzero(even[sound])
    regions = _named(find_regions(training, candidates[among], seed=seed), among)
    spread = _Spread(training, candidates, regions, known)
    spread.allowed &= ~alike
    chance = round(RANDOM * budget)
    spread.fill_missing(budget - chance)
    spread.fill_thin(budget - chance - len(spread.choices))
    rest = np.setdiff1d(np.arange(sound.size), among)
    for row in np.concatenate([draw.permutation(among), draw.permutation(rest)]).tolist():
        if len(spread.choices) == budget:
            break
        if spread.allowed[row]:
            spread.take(row, None, "random")
    choices = [replace(choice, row=int(sound[choice.row])) for choice in spread.choices]
    return Plan(choices, _named(regions, sound), junk, others)


class _Spread:
    """Spreads choices over places.

    Args:
        training: what is there.
        pool: the candidates, none of them junk.
        regions: of both.
        known: the places of what is there, ``(N, p)``.
    """

    def __init__(self, training: Survey, pool: Survey, regions: Regions, known: NDArray[np.float32]) -> None:
        self.pool, self.regions = pool, regions
        self.choices: list[Choice] = []
        self.allowed = np.ones(len(pool), bool)
        self.places = torch.from_numpy(pool.places)
        self.directions = torch.nn.functional.normalize(self.places, dim=1)
        self.region = _assigned(training, pool, regions)
        some = torch.from_numpy(known[:: max(1, len(known) // _FITTED)])
        sample = self.places[:: max(1, len(pool) // _FITTED)]
        lower = GaussianMixture().fit(some).log_prob(self.places)
        upper = GaussianMixture().fit(sample).log_prob(self.places) if len(sample) > 1 else lower
        self.score = (upper - lower).numpy()
        for number, region in enumerate([*regions.missing, *regions.thin]):
            rows = np.flatnonzero(self.region == number)
            both = torch.from_numpy(
                np.concatenate([training.places[region.training], pool.places[region.reference]])
            )
            inside = Gaussian().fit(both).log_prob(self.places[rows])
            self.score[rows] = (inside - lower[rows]).numpy()
        self.nearest = _nearest(self.places, some)

    def fill(self, rows: Rows, count: int, region: int | None, why: str) -> None:
        """Choose ``count`` of some rows, those of the highest scores, spread by k-center."""
        rows = rows[self.allowed[rows]]
        rows = rows[np.argsort(-self.score[rows], kind="stable")]
        best = rows[:0]
        for left in range(count, 0, -1):
            best = best[self.allowed[best]]
            if not best.size:
                rows = rows[self.allowed[rows]]
                best = rows[: WIDER * left]
            if not best.size:
                return
            self.take(int(best[int(self.nearest[best].argmax())]), region, why)

    def fill_missing(self, budget: int) -> None:
        """Choose of what is missing: in proportion to what is lacking, no more than the largest share."""
        lack = np.array([region.lack for region in self.regions.missing]).clip(0)
        for number, quota in enumerate(_quotas(lack, budget)):
            self.fill(np.flatnonzero(self.region == number), quota, number, "missing")

    def fill_thin(self, budget: int) -> None:
        """Choose of the other thin regions, by their size, then of what is thin anywhere."""
        usual = self.pool.novelty <= USUAL
        first = len(self.regions.missing)
        left, remaining = budget, sum(region.reference.size for region in self.regions.thin)
        for number, region in enumerate(self.regions.thin, first):
            size, before = region.reference.size, len(self.choices)
            quota = -(-left * size // max(1, remaining))
            self.fill(np.flatnonzero((self.region == number) & usual), quota, None, "thin")
            left, remaining = left - len(self.choices) + before, remaining - size
        covered = (self.region < 0) | (self.region >= first)
        self.fill(np.flatnonzero((self.pool.percentile > THIN) & usual & covered), left, None, "thin")

    def take(self, row: int, region: int | None, why: str) -> None:
        """Choose a row; those that are nearly the same are not chosen any more."""
        self.choices.append(Choice(row, region, float(self.score[row]), why))
        self.nearest = torch.minimum(self.nearest, _nearest(self.places, self.places[row][None]))
        self.allowed[row] = False
        self.allowed &= (self.directions @ self.directions[row] <= ALIKE).numpy()


def _quotas(lack: NDArray[np.float64], budget: int) -> list[int]:
    """Return what each region gets of a budget: whole numbers that add up, one at least where any lacks."""
    exact = budget * np.minimum(lack / max(1e-9, lack.sum()), LARGEST)
    quotas = np.floor(exact).astype(np.int64)
    left = max(min(1, budget) * int((exact > 0).any()), round(exact.sum())) - int(quotas.sum())
    quotas[np.argsort(quotas - exact, kind="stable")[: max(0, left)]] += 1
    found: list[int] = quotas.tolist()
    return found


def _assigned(training: Survey, pool: Survey, regions: Regions) -> Rows:
    """Return the region of each thin candidate, that of the nearest thin sample; -1 for others."""
    found = np.full(len(pool), -1, np.int64)
    every = [*regions.missing, *regions.thin]
    if not every:
        return found
    members = [(region.training, region.reference) for region in every] + [regions.alone]
    known = [np.concatenate([training.places[mine], pool.places[theirs]]) for mine, theirs in members]
    label = np.repeat([*range(len(every)), -1], [len(places) for places in known])
    x = torch.from_numpy(np.concatenate(known))
    thin = np.flatnonzero(pool.percentile > THIN)
    for part in np.array_split(thin, -(-thin.size // _step(x)) or 1):
        found[part] = label[torch.cdist(torch.from_numpy(pool.places[part]), x).argmin(1).numpy()]
    for number, (_, theirs) in enumerate(members[:-1]):
        found[theirs] = number
    found[regions.alone[1]] = -1
    return found


def _nearest(places: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Return the distance of each place to the nearest that is known, ``(N,)``."""
    return torch.cat([torch.cdist(part, known).amin(1) for part in torch.split(places, _step(known))])


def _alike(places: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which places have nearly the direction of one that is known."""
    x, y = (torch.nn.functional.normalize(torch.from_numpy(rows), dim=1) for rows in (places, known))
    found: NDArray[np.bool_] = torch.cat(
        [(part @ y.T).amax(1) > ALIKE for part in torch.split(x, _step(y))]
    ).numpy()
    return found


def _step(known: torch.Tensor) -> int:
    """Return how many rows are held against all that are known at a time."""
    return max(1, min(2048, _VALUES // max(1, len(known))))


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
