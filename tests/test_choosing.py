"""What is chosen of a pool: what is missing, what is thin and a random tenth, and neither junk nor copies."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow import GaussianMixture
from fallow.densities import Gaussian
from fallow.errors import InvalidType, InvalidValue
from fallow.gaps import LIMIT, THIN, Regions, Survey, choose, choosing
from fallow.gaps.choosing import ALIKE, LARGEST, RANDOM, USUAL, _quotas
from toy_surveys import DIM, cluster, world


def draw(seed=0):
    return np.random.default_rng(seed)


TRAINING = world(1500, 0)
GAP, JUNK, COPIES = np.arange(800, 900), np.arange(900, 960), np.arange(960, 1000)


def pool(seed=1):
    """Candidates of which 100 fill a gap, 60 are junk and 40 are copies of training samples."""
    at = draw(seed)
    noise, copies = 30 * at.normal(size=(60, DIM)), 1.01 * TRAINING.places[1400:1440]
    strange = np.full(1000, 0.5)
    strange[JUNK] = LIMIT + at.random(60) + 0.01
    return world(800, seed, np.r_[cluster(1, 100, at), noise, copies], novelty=strange)


POOL = pool()


def rows(plan, *why):
    return np.array([choice.row for choice in plan.choices if not why or choice.why in why], np.int64)


def cosines(a, b):
    a, b = (places / np.linalg.norm(places, axis=1, keepdims=True) for places in (a, b))
    return a @ b.T


PLAN = choose(TRAINING, POOL, 100)


@pytest.fixture(autouse=True, scope="module")
def _quick():
    """One Gaussian in place of a mixture, but for the plan above: only the scores differ."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choosing, "GaussianMixture", Gaussian)
        yield


def test_the_budget_is_spent_on_what_is_missing_thin_and_a_random_tenth():
    assert len(PLAN.choices) == len(set(rows(PLAN).tolist())) == 100
    assert Counter(choice.why for choice in PLAN.choices) == {"missing": 36, "thin": 54, "random": 10}
    assert (PLAN.junk, PLAN.alike) == (60, 40)
    assert [choice.why for choice in PLAN.choices] == sorted(
        (choice.why for choice in PLAN.choices), key=["missing", "thin", "random"].index
    )


def test_what_is_missing_is_chosen_where_it_lies():
    assert len(PLAN.regions.missing) == 1
    region = PLAN.regions.missing[0]
    assert region.reference.tolist() == GAP.tolist()
    assert np.isin(rows(PLAN, "missing"), GAP).all()
    assert {choice.region for choice in PLAN.choices if choice.why == "missing"} == {0}
    assert {choice.region for choice in PLAN.choices if choice.why != "missing"} == {None}


def test_rows_are_those_of_the_pool_wherever_junk_stands():
    at = draw(9)
    way = at.normal(size=(6, DIM))
    beyond = 30 * way / np.linalg.norm(way, axis=1, keepdims=True)
    whole = Survey.joined([POOL[JUNK], world(800, 1, np.r_[cluster(1, 100, at), beyond])])
    even = np.arange(len(whole)) % 2 == 0
    plan = choose(TRAINING, whole, 60, even=even)
    assert plan.regions.missing[0].reference.tolist() == list(range(860, 960, 2))
    assert plan.regions.alone[1].tolist()[-3:] == [960, 962, 964]
    assert np.isin(rows(plan, "missing"), np.arange(860, 960)).all()
    assert (whole.percentile[rows(plan, "thin")] > THIN).all()


def test_scores_are_the_density_of_the_region_over_that_of_the_training_set():
    region = PLAN.regions.missing[0]
    inside = Gaussian().fit(torch.from_numpy(POOL.places[region.reference]))
    known = GaussianMixture().fit(torch.from_numpy(TRAINING.places))
    chosen = [choice for choice in PLAN.choices if choice.why == "missing"]
    places = torch.from_numpy(POOL.places[[choice.row for choice in chosen]])
    expected = inside.log_prob(places) - known.log_prob(places)
    assert [choice.score for choice in chosen] == pytest.approx(expected.tolist(), rel=1e-3, abs=1e-2)


def test_one_region_gets_no_more_than_its_share():
    """Not under another name either: where little else is thin, the rest is drawn from all."""
    most = round(LARGEST * (100 - round(RANDOM * 100)))
    strange = np.full(900, 0.5)
    strange[790:800] = USUAL + 0.1
    plan = choose(TRAINING, world(800, 1, cluster(1, 100, draw()), share=0.03, novelty=strange), 100)
    for found in (PLAN, plan):
        assert len(rows(found, "missing")) == most
        assert not np.isin(rows(found, "thin"), GAP).any()
    assert set(rows(plan, "thin").tolist()) <= set(range(776, 790))
    assert len(rows(plan, "thin")) >= 13
    assert len(rows(plan, "random")) == 100 - most - len(rows(plan, "thin"))


def test_junk_is_never_chosen():
    for budget in (30, 5000):
        chosen = rows(choose(TRAINING, POOL, budget))
        assert not np.isin(chosen, JUNK).any()
        assert (POOL.novelty[chosen] <= LIMIT).all()


def test_of_a_pool_with_much_junk_no_more_is_chosen_than_the_gate_lets_through():
    """The gate errs in one of fifty, and junk is more surprising than anything else."""
    at = draw(3)
    let = at.random(300) < 0.02
    noise = 30 * at.normal(size=(300, DIM))
    strange = np.r_[np.full(900, 0.5), np.where(let, 1.5, 5.0)]
    dirty = world(800, 4, np.r_[cluster(1, 100, at), noise], novelty=strange)
    plan = choose(TRAINING, dirty, 50)
    assert np.mean(rows(plan) >= 900) <= 0.1
    assert np.isin(rows(plan), GAP).mean() > 0.3


def test_outliers_that_pass_the_gate_do_not_stand_for_a_region():
    """Nor do others that lie near one of them."""
    at = draw(5)
    way = at.normal(size=(12, DIM))
    beyond = 1.4 * cluster(1, 12, at, 0.1) + 14 * way / np.linalg.norm(way, axis=1, keepdims=True)
    twins = beyond + 0.3 * at.normal(size=(12, DIM))
    candidates = world(800, 6, np.r_[cluster(1, 100, at), beyond, twins])
    plan = choose(TRAINING, candidates, 60, even=np.arange(924) < 912)
    assert (plan.regions.alone[1] >= 900).sum() == 12
    assert plan.regions.missing[0].reference.tolist() == GAP.tolist()
    assert np.isin(rows(plan, "missing"), GAP).all()


def test_copies_are_not_chosen():
    chosen = rows(choose(TRAINING, POOL, 5000))
    assert not np.isin(chosen, COPIES).any()
    assert cosines(POOL.places[chosen], TRAINING.places).max() <= ALIKE + 1e-6


def test_of_candidates_that_are_nearly_the_same_one_is_chosen():
    twice = Survey.joined([POOL[:900], POOL[:900]])
    twice.places[900:] += 1e-3 * draw().normal(size=(900, DIM))
    chosen = rows(choose(TRAINING, twice, 300))
    assert len(chosen) == 300
    among = cosines(twice.places[chosen], twice.places[chosen])
    np.fill_diagonal(among, 0)
    assert among.max() <= ALIKE + 1e-6
    assert len(set((chosen % 900).tolist())) == 300


def test_a_region_full_of_copies_still_gets_its_part():
    """Each of its candidates is there ten times, so that the best thirty are hardly different."""
    many = np.repeat(cluster(1, 30, draw(2)), 10, 0)
    plan = choose(TRAINING, world(800, 1, many), 50)
    chosen = rows(plan, "missing")
    assert len(chosen) == round(LARGEST * 45)
    assert len({(row - 800) // 10 for row in chosen.tolist()}) == len(chosen)


def test_choices_are_spread_over_the_best_three_times_as_many():
    """Each lies farthest from all training samples and choices before it, of those with the best scores."""
    candidates = POOL[GAP]
    known = TRAINING.places.astype(float)
    spread = choosing._Spread(TRAINING, candidates, Regions(), TRAINING.places)
    best = np.argsort(-spread.score, kind="stable")[: 3 * 8].tolist()
    spread.fill(np.arange(100), 8, 0, "missing")
    for choice in spread.choices:
        far = [np.linalg.norm(known - candidates.places[row], axis=1).min() for row in best]
        assert choice.row == best[int(np.argmax(far))]
        known = np.concatenate([known, candidates.places[choice.row][None]])
        best.remove(choice.row)


def test_budgets_follow_what_is_lacking():
    """Two gaps, one with twice as many; below the largest share each gets its part."""
    at = draw(7)
    three = np.concatenate([cluster(k, count, at) for k, count in ((1, 50), (2, 100), (3, 120))])
    plan = choose(TRAINING, world(800, 1, three), 90)
    lack = np.array([region.lack for region in plan.regions.missing])
    share = np.minimum(LARGEST, lack / lack.sum()) * 81
    given_ = [sum(choice.region == number for choice in plan.choices) for number in range(3)]
    assert len(lack) == 3
    np.testing.assert_allclose(given_, share, atol=1)


@given(st.lists(st.floats(0, 1000), max_size=8), st.integers(0, 60))
def test_quotas_add_up_and_none_is_far_from_its_share(lack, budget):
    found = _quotas(np.array(lack), budget)
    exact = [budget * min(LARGEST, value / max(1e-9, sum(lack))) for value in lack]
    assert len(found) == len(lack)
    assert 0 <= sum(found) <= budget
    assert all(abs(quota - part) <= 1 for quota, part in zip(found, exact, strict=True))
    assert all(quota == 0 for quota, value in zip(found, lack, strict=True) if value == 0)
    if budget and any(part > 0 for part in exact):
        assert sum(found) == max(1, round(sum(exact)))


@pytest.mark.parametrize("budget", [1, 2, 3])
def test_a_small_budget_goes_to_what_is_missing_first(budget):
    at = draw(8)
    many = np.concatenate([cluster(k, 60, at) for k in range(1, 6)])
    plan = choose(TRAINING, world(800, 1, many), budget)
    assert len(plan.regions.missing) == 5
    assert len(plan.choices) == budget
    assert {choice.why for choice in plan.choices} == {"missing"}


@pytest.mark.slow
def test_the_random_tenth_is_even():
    """Neither where candidates stand in the pool nor how thin they lie has a part in it."""
    drawn = np.concatenate([rows(choose(TRAINING, POOL, 80, seed=seed), "random") for seed in range(4)])
    assert len(drawn) == 32
    assert 0.3 < (drawn < 450).mean() < 0.75
    assert (POOL.percentile[drawn] <= THIN).mean() > 0.5
    assert len(set(drawn.tolist())) > 25


def test_without_a_gap_thin_candidates_are_chosen_and_no_strange_ones():
    strange = np.full(800, 0.5)
    strange[700:] = np.where(np.arange(100) % 2, USUAL + 0.2, 0.5)
    plan = choose(TRAINING, world(800, 1, share=0.2, novelty=strange), 60)
    assert not plan.regions.missing
    thin = rows(plan, "thin")
    assert len(thin) == 54
    assert (thin >= 640).all()
    assert (strange[thin] <= USUAL).all()


def test_an_even_sample_says_where_regions_are_and_what_is_drawn():
    even = np.zeros(1000, bool)
    even[::2] = True
    plan = choose(TRAINING, POOL, 100, even=even)
    assert len(plan.choices) == 100
    assert even[rows(plan, "random")].all()
    assert not even[rows(plan, "missing")].all()
    assert np.isin(rows(plan, "missing"), GAP).all()
    found = np.concatenate([region.reference for region in (*plan.regions.missing, *plan.regions.thin)])
    assert even[np.concatenate([found, plan.regions.alone[1]])].all()
    assert set(plan.regions.missing[0].reference.tolist()) == set(GAP[::2].tolist())


@pytest.mark.parametrize("even", [np.zeros(1000, bool), np.arange(1000) == 3])
def test_few_that_are_even_are_no_trouble(even):
    plan = choose(TRAINING, POOL, 40, even=even)
    assert {choice.why for choice in plan.choices} <= {"thin", "random"}
    assert len(plan.choices) == 40
    assert not plan.regions.missing


def test_an_even_sample_of_another_pool_is_refused():
    with pytest.raises(InvalidValue, match=r"`even` must be of shape \(1000,\)"):
        choose(TRAINING, POOL, 5, even=np.ones(999, bool))


def test_a_budget_above_the_pool_takes_all_that_qualify():
    plan = choose(TRAINING, POOL[:300], 5000)
    good = np.flatnonzero(cosines(POOL.places[:300], TRAINING.places).max(1) <= ALIKE)
    assert set(rows(plan).tolist()) <= set(good.tolist())
    left = np.setdiff1d(good, rows(plan))
    if left.size:  # only what is like a choice is left over
        assert (cosines(POOL.places[left], POOL.places[rows(plan)]).max(1) > ALIKE - 1e-6).all()
    assert len(plan.choices) > 290


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 150), st.integers(0, 3))
def test_any_budget_is_spent_exactly(budget, seed):
    plan = choose(TRAINING[:1000:2], POOL[500:], budget, seed=seed)
    chosen = rows(plan)
    assert len(chosen) == len(set(chosen.tolist())) == budget
    assert not np.isin(chosen, JUNK - 500).any()
    assert sum(choice.why == "random" for choice in plan.choices) >= round(RANDOM * budget)
    for number in range(len(plan.regions.missing)):
        part = sum(choice.region == number for choice in plan.choices)
        assert part <= LARGEST * (budget - round(RANDOM * budget)) + 1


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7])
def test_tiny_pools(count):
    plan = choose(TRAINING, POOL[850 : 850 + count], 3)
    assert len(plan.choices) == min(3, count)
    assert sorted(rows(choose(TRAINING, POOL[5 : 5 + count], 50)).tolist()) == list(range(count))


def test_a_pool_without_a_candidate_is_refused_with_the_reason():
    with pytest.raises(InvalidValue, match=r"60 samples unlike the training inputs and 40 near-duplicates"):
        choose(TRAINING, POOL[900:], 10)
    with pytest.raises(InvalidValue, match=r"must hold a candidate\. Found 0 samples .* Name another pool"):
        choose(TRAINING, POOL[:0], 10)


@pytest.mark.parametrize(
    ("budget", "error"), [(0, InvalidValue), (-3, InvalidValue), (2.5, InvalidType), (True, InvalidType)]
)
def test_a_budget_is_a_whole_number(budget, error):
    with pytest.raises(error, match="budget"):
        choose(TRAINING, POOL, budget)


def test_what_is_not_finite_is_not_chosen():
    damaged = POOL[np.arange(900)]
    damaged.places[3], damaged.places[810] = np.nan, np.inf
    unknown = damaged.novelty.copy()
    unknown[[5, 820]] = np.nan
    plan = choose(TRAINING, replace(damaged, novelty=unknown), 5000)
    assert plan.junk == 4
    assert not np.isin([3, 5, 810, 820], rows(plan)).any()
    assert np.isfinite([choice.score for choice in plan.choices]).all()


def test_training_samples_that_are_not_finite_do_no_harm():
    damaged = TRAINING[np.arange(1500)]
    damaged.places[[2, 1490]] = np.nan
    plan = choose(damaged, POOL, 100)
    assert len(plan.choices) == 100
    assert plan.alike >= 39


def test_the_same_seed_chooses_the_same_and_another_draws_others():
    first, again, other = (choose(TRAINING, POOL, 100, seed=seed) for seed in (0, 0, 1))
    assert first.choices == again.choices
    assert rows(other, "random").tolist() != rows(first, "random").tolist()


@pytest.mark.slow
def test_parts_of_any_size_give_the_same(monkeypatch):
    monkeypatch.setattr(choosing, "_VALUES", 5000)
    assert rows(choose(TRAINING, POOL, 40)).tolist() == rows(choose(TRAINING, POOL, 40)).tolist()
    assert choosing._step(torch.zeros(1000, 1)) == 5
    plan = choose(TRAINING, POOL, 100)
    assert plan.alike == 40
    assert np.isin(rows(plan, "missing"), GAP).all()
