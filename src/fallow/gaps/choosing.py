"""Choose candidates to collect: a budget divided among missing regions, thin regions and a random part."""

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
"""Candidates are near-duplicates if the cosine of their places is larger."""
LARGEST = 0.4
"""Largest share of a budget for one region."""
RANDOM = 0.1
"""The share of a budget that is drawn at random from all candidates."""
WIDER = 3
"""Choices are spread over this multiple of them, the candidates with the highest scores."""
USUAL = 1.0
"""Largest input novelty of candidates outside missing regions: that of nine of ten training samples."""
_FITTED, _VALUES = 4096, 1 << 24

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Choice:
    """A candidate to collect.

    Attributes:
        row: the row of the candidate.
        region: the number of the missing region it was chosen for, from 0; None for other choices.
        score: the log density among candidates (of its region, if it has one) minus the log density in
            training, nats.
        why: ``missing``, ``thin`` or ``random``.
    """

    row: int
    region: int | None
    score: float
    why: str


@dataclass(frozen=True, eq=False)
class Plan:
    """The result of :func:`choose`.

    Attributes:
        choices: those for missing regions first, then thin ones, then random ones.
        regions: the thin regions of training and candidates; their ``reference`` rows are candidates.
        junk: the number of candidates whose inputs are unlike the training inputs.
        alike: the number of near-duplicates of training samples.
    """

    choices: list[Choice]
    regions: Regions
    junk: int
    alike: int


def choose(
    training: Survey, pool: Survey, budget: int, *, even: NDArray[np.bool_] | None = None, seed: int = 0
) -> Plan:
    r"""Choose candidates that would fill what the training set lacks.

    Junk (:class:`~fallow.gaps.novelty.InputNovelty`) and near-duplicates are left out. Nine tenths of the
    budget go to the missing regions, in proportion to the number of samples they lack, at most two fifths to
    one region. What they leave goes to the other thin regions by size. The last tenth, and whatever is still
    left, is drawn at random from all candidates.

    A region with a quota of k takes its 3 k candidates with the highest
    :math:`\log p_{\text{region}}(x) - \log p_{\text{training}}(x)` and spreads its choices by k-center: each
    choice is the candidate farthest from the training samples (4,096 of them) and all choices before.

    Args:
        training: the survey of the training set, each sample without itself.
        pool: the survey of the candidates.
        budget: how many to choose; fewer are chosen if fewer qualify.
        even: bool ``(N,)``, the candidates that are an even sample of the whole pool, in which regions are
            found; by default all candidates.
        seed: of all random draws.

    Raises:
        InvalidValue: if the budget is below 1, ``even`` has the wrong shape, or no candidate qualifies.

    References:
        Active learning for convolutional neural networks: a core-set approach (Sener and Savarese, 2018)
    """
    budget = check_integer("budget", budget, 1)
    if even is not None and np.shape(even) != (len(pool),):
        raise invalid(f"`even` must be of shape ({len(pool)},), a bool for each candidate.", np.shape(even))
    valid = np.flatnonzero((pool.novelty <= LIMIT) & np.isfinite(pool.places).all(1))
    candidates = pool[valid]
    known = training.places[np.isfinite(training.places).all(1)]
    alike = _alike(candidates.places, known)
    junk = len(pool) - valid.size
    duplicates = int(alike.sum())
    if alike.all():
        counts = f"{junk:,} samples unlike the training inputs and {duplicates:,} near-duplicates of them"
        raise invalid("The pool must hold a candidate.", counts, "Name another pool.")
    # A stream of its own: regions draw from the same seed.
    draw = np.random.default_rng((seed, 0xC0117EC7))
    among = np.arange(valid.size) if even is None else np.flatnonzero(even[valid])
    regions = _renumbered(find_regions(training, candidates[among], seed=seed), among)
    spread = _Spread(training, candidates, regions, known)
    spread.allowed &= ~alike
    at_random = round(RANDOM * budget)
    spread.fill_missing(budget - at_random)
    spread.fill_thin(budget - at_random - len(spread.choices))
    rest = np.setdiff1d(np.arange(valid.size), among)
    # Candidates outside the even sample come last, so that the random tenth is drawn from it.
    for row in np.concatenate([draw.permutation(among), draw.permutation(rest)]).tolist():
        if len(spread.choices) == budget:
            break
        if spread.allowed[row]:
            spread.take(row, None, "random")
    choices = [replace(choice, row=int(valid[choice.row])) for choice in spread.choices]
    return Plan(choices, _renumbered(regions, valid), junk, duplicates)


class _Spread:
    """Spreads choices over places.

    Args:
        training: the survey of the training set.
        pool: the survey of the candidates, none of them junk.
        regions: of both.
        known: the finite places of training samples, ``(N, p)``.
    """

    def __init__(self, training: Survey, pool: Survey, regions: Regions, known: NDArray[np.float32]) -> None:
        self.pool = pool
        self.regions = regions
        self.choices: list[Choice] = []
        self.allowed = np.ones(len(pool), bool)
        self.places = torch.from_numpy(pool.places)
        self.directions = torch.nn.functional.normalize(self.places, dim=1)
        self.region = _regions_of(training, pool, regions)
        fitted = torch.from_numpy(known[:: max(1, len(known) // _FITTED)])
        sample = self.places[:: max(1, len(pool) // _FITTED)]
        in_training = GaussianMixture().fit(fitted).log_prob(self.places)
        # A density needs two rows; with one candidate there is nothing to rank.
        in_pool = GaussianMixture().fit(sample).log_prob(self.places) if len(sample) > 1 else in_training
        self.score = (in_pool - in_training).numpy()
        for number, region in enumerate([*regions.missing, *regions.thin]):
            rows = np.flatnonzero(self.region == number)
            both = torch.from_numpy(
                np.concatenate([training.places[region.training], pool.places[region.reference]])
            )
            inside = Gaussian().fit(both).log_prob(self.places[rows])
            self.score[rows] = (inside - in_training[rows]).numpy()
        self.nearest = _nearest(self.places, fitted)

    def fill(self, rows: Rows, count: int, region: int | None, why: str) -> None:
        """Choose ``count`` rows among those with the highest scores, spread by k-center."""
        rows = rows[self.allowed[rows]]
        # Stable, so that equal scores keep the order of the pool.
        rows = rows[np.argsort(-self.score[rows], kind="stable")]
        best = rows[:0]
        for left in range(count, 0, -1):
            best = best[self.allowed[best]]
            # Choices rule out their near-duplicates, so the best rows may run out before the count is full.
            if not best.size:
                rows = rows[self.allowed[rows]]
                best = rows[: WIDER * left]
            if not best.size:
                return
            self.take(int(best[int(self.nearest[best].argmax())]), region, why)

    def fill_missing(self, budget: int) -> None:
        """Choose for missing regions, in proportion to their lack, up to the largest share."""
        lack = np.array([region.lack for region in self.regions.missing]).clip(0)
        for number, quota in enumerate(_quotas(lack, budget)):
            self.fill(np.flatnonzero(self.region == number), quota, number, "missing")

    def fill_thin(self, budget: int) -> None:
        """Choose for the other thin regions, by their size, then among all thin candidates."""
        usual = self.pool.novelty <= USUAL
        first = len(self.regions.missing)
        left = budget
        remaining = sum(region.reference.size for region in self.regions.thin)
        for number, region in enumerate(self.regions.thin, first):
            size = region.reference.size
            before = len(self.choices)
            # Rounded up, so that small regions get a choice too.
            quota = -(-left * size // max(1, remaining))
            self.fill(np.flatnonzero((self.region == number) & usual), quota, None, "thin")
            left -= len(self.choices) - before
            remaining -= size
        not_missing = (self.region < 0) | (self.region >= first)
        self.fill(np.flatnonzero((self.pool.percentile > THIN) & usual & not_missing), left, None, "thin")

    def take(self, row: int, region: int | None, why: str) -> None:
        """Choose a row, and rule out its near-duplicates."""
        self.choices.append(Choice(row, region, float(self.score[row]), why))
        self.nearest = torch.minimum(self.nearest, _nearest(self.places, self.places[row][None]))
        self.allowed[row] = False
        self.allowed &= (self.directions @ self.directions[row] <= ALIKE).numpy()


def _quotas(lack: NDArray[np.float64], budget: int) -> list[int]:
    """Divide a budget among regions in proportion to their lack; at least one choice if any region lacks."""
    exact = budget * np.minimum(lack / max(1e-9, lack.sum()), LARGEST)
    quotas = np.floor(exact).astype(np.int64)
    left = max(min(1, budget) * int((exact > 0).any()), round(exact.sum())) - int(quotas.sum())
    # The largest remainders get what rounding down has left over.
    quotas[np.argsort(quotas - exact, kind="stable")[: max(0, left)]] += 1
    return [int(quota) for quota in quotas]


def _regions_of(training: Survey, pool: Survey, regions: Regions) -> Rows:
    """Return the region of each thin candidate, that of the nearest thin sample; -1 for other candidates."""
    numbers = np.full(len(pool), -1, np.int64)
    every = [*regions.missing, *regions.thin]
    if not every:
        return numbers
    members = [(region.training, region.reference) for region in every] + [regions.alone]
    known = [
        np.concatenate([training.places[in_training], pool.places[in_pool]])
        for in_training, in_pool in members
    ]
    label = np.repeat([*range(len(every)), -1], [len(places) for places in known])
    x = torch.from_numpy(np.concatenate(known))
    thin = np.flatnonzero(pool.percentile > THIN)
    for part in np.array_split(thin, -(-thin.size // _step(x)) or 1):
        numbers[part] = label[torch.cdist(torch.from_numpy(pool.places[part]), x).argmin(1).numpy()]
    # Members have their own region, even if a sample of another region is at the same place.
    for number, region in enumerate(every):
        numbers[region.reference] = number
    numbers[regions.alone[1]] = -1
    return numbers


def _nearest(places: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Return the distance of each place from the nearest known place, ``(N,)``."""
    return torch.cat([torch.cdist(part, known).amin(1) for part in torch.split(places, _step(known))])


def _alike(places: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which places are near-duplicates of a known place."""
    x, y = (torch.nn.functional.normalize(torch.from_numpy(rows), dim=1) for rows in (places, known))
    alike: NDArray[np.bool_] = torch.cat(
        [(part @ y.T).amax(1) > ALIKE for part in torch.split(x, _step(y))]
    ).numpy()
    return alike


def _step(known: torch.Tensor) -> int:
    """Return how many rows to compare with all known rows at a time."""
    return max(1, min(2048, _VALUES // max(1, len(known))))


def _renumbered(regions: Regions, rows: Rows) -> Regions:
    """Return regions of a part of a survey with reference row i as ``rows[i]`` of the whole."""

    def renumber(region: Region) -> Region:
        return replace(region, reference=rows[region.reference])

    return replace(
        regions,
        missing=[renumber(region) for region in regions.missing],
        thin=[renumber(region) for region in regions.thin],
        alone=(regions.alone[0], rows[regions.alone[1]]),
        novel=(regions.novel[0], rows[regions.novel[1]]),
    )
