"""Thin regions: found where the reference alone has them, and nowhere else."""

from dataclasses import replace

import numpy as np
import pytest

from fallow.gaps import LIMIT, THIN, Survey, find_regions, regions
from fallow.gaps.regions import SMALLEST, STABLE, TIMES
from toy_surveys import DIM, cluster, survey, world


def draw(seed=0):
    return np.random.default_rng(seed)


def outliers(count, seed=0):
    """Thin samples that lie by themselves, each in a direction of its own."""
    way = draw((seed, 5)).normal(size=(count, DIM))
    return 14 * way / np.linalg.norm(way, axis=1, keepdims=True)


def members(found, side):
    """Every row that lies in a region."""
    rows = [getattr(region, side) for region in (*found.missing, *found.thin)]
    return np.sort(np.concatenate(rows)) if rows else np.zeros(0, np.int64)


@pytest.mark.parametrize("seed", range(2))
def test_a_cluster_of_the_reference_alone_is_missing(seed):
    found = find_regions(world(2000, seed), world(1000, seed + 10, cluster(1, 60, draw(seed))))
    assert len(found.missing) == 1
    region = found.missing[0]
    assert region.missing
    assert region.training.size == 0
    assert region.reference.tolist() == list(range(1000, 1060))
    assert region.factor == pytest.approx(60.5 / 1060 / (0.5 / 2000) / found.usual)
    assert TIMES <= region.least < region.factor
    assert region.stability > 0.9
    assert region.lack == 60
    np.testing.assert_allclose(region.centre, cluster(1, 60, draw(seed)).mean(0), atol=1e-5)


def test_a_cluster_of_which_the_training_set_has_too_few_is_missing_with_them():
    few, many = cluster(1, 8, draw(1)), cluster(1, 100, draw(2))
    found = find_regions(world(2000, 0, few), world(1000, 1, many))
    assert len(found.missing) == 1
    assert found.missing[0].training.tolist() == list(range(2000, 2008))
    assert found.missing[0].reference.tolist() == list(range(1000, 1100))
    assert found.missing[0].lack == pytest.approx(100 - found.usual * 8 * 1100 / 2008)


def test_what_is_missing_is_listed_by_how_much():
    more = np.concatenate([cluster(1, 50, draw(1)), cluster(2, 90, draw(2))])
    found = find_regions(world(2000, 0), world(1000, 1, more))
    assert [region.reference.size for region in found.missing] == [90, 50]
    sizes = [len(region) for region in found.thin]
    assert sizes == sorted(sizes, reverse=True)


def test_nothing_is_missing_where_the_training_set_has_its_share():
    same = cluster(1, 80, draw(1)), cluster(1, 40, draw(2))
    found = find_regions(world(2000, 0, same[0]), world(1000, 1, same[1]))
    assert not found.missing
    assert set(range(2000, 2080)) <= set(members(found, "training").tolist())


def tail(count, seed):
    """Samples of one heavy-tailed distribution, the farthest tenth of them thin."""
    at = draw((seed, 9))
    places = at.normal(size=(count, DIM)) / np.sqrt(at.chisquare(6, size=(count, 1)) / 6)
    far = np.linalg.norm(places, axis=1)
    return survey(places, far > 5.9)


@pytest.mark.parametrize("of", [world, tail])
def test_two_samples_of_one_distribution_lack_nothing(of):
    """At the level of 5 % and twice the share asked for, more than 3 of 30 would be no chance."""
    quiet = [not find_regions(of(600, seed), of(400, 1000 + seed)).missing for seed in range(30)]
    assert sum(quiet) >= 28


def test_shuffled_origins_lack_nothing():
    both = Survey.joined([world(700, 0), world(500, 1, cluster(1, 90, draw()))])
    assert find_regions(both[:700], both[700:]).missing
    quiet, factors = [], []
    for seed in range(20):
        mixed = both[draw(seed).permutation(len(both))]
        found = find_regions(mixed[:700], mixed[700:])
        quiet.append(not found.missing)
        factors += [region.factor for region in found.thin if len(region) >= 50]
    assert sum(quiet) >= 19
    assert np.mean(factors) == pytest.approx(1.0, abs=0.15)


def test_a_reference_that_is_more_surprising_everywhere_lacks_nothing():
    found = [find_regions(world(1000, seed), world(900, 1000 + seed, share=0.4)) for seed in range(10)]
    assert not any(one.missing for one in found)
    assert np.mean([one.usual for one in found]) == pytest.approx(4.0, abs=0.8)


def test_a_missing_cluster_stands_out_of_a_more_surprising_reference():
    found = find_regions(world(2000, 0), world(1000, 1, cluster(1, 150, draw()), share=0.2))
    assert [region.reference.tolist() for region in found.missing] == [list(range(1000, 1150))]
    assert found.usual > 1.2


def test_a_rare_group_is_no_outlier_and_a_sample_by_itself_is():
    """One sample in a hundred belongs to a small group, and one in a hundred to nothing."""
    out, lost = [], []
    for seed in range(5):
        at = draw(seed)
        mine, theirs = outliers(20, 2 * seed), outliers(10, 2 * seed + 1)
        found = find_regions(
            world(2000, seed, np.r_[cluster(1, 20, at), mine]),
            world(1000, seed + 50, np.r_[cluster(1, 10, at), theirs]),
        )
        assert not found.missing
        grouped = members(found, "training"), members(found, "reference")
        out += [~np.isin(np.arange(2020, 2040), grouped[0]), ~np.isin(np.arange(1010, 1020), grouped[1])]
        lost += [~np.isin(np.arange(2000, 2020), grouped[0]), ~np.isin(np.arange(1000, 1010), grouped[1])]
        together = [one for one in found.thin if 2000 in one.training]
        assert np.isin(np.arange(2000, 2020), together[0].training).mean() >= 0.95
    assert np.concatenate(out).mean() >= 0.8
    assert np.concatenate(lost).mean() <= 0.05


def test_every_thin_sample_is_somewhere_and_only_once():
    at = draw()
    strange = np.r_[np.full(2000, 0.5), np.full(10, 3.0), np.full(5, np.nan), np.full(5, 0.5)]
    training = world(2000, 0, np.r_[cluster(3, 15, at), outliers(5)], novelty=strange)
    reference = world(1000, 1, cluster(1, 60, at))
    found = find_regions(training, reference)
    for side, of in (("training", training), ("reference", reference)):
        place = side == "reference"
        every = np.concatenate([members(found, side), found.alone[place], found.novel[place]])
        thin = np.flatnonzero((of.percentile > THIN) | ~(of.novelty <= LIMIT))
        assert np.sort(every).tolist() == thin.tolist()
    assert np.isin(np.arange(2015, 2020), found.alone[0]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_in_no_region(value):
    reference = world(1000, 1, cluster(1, 60, draw()))
    reference.places[1000:1005] = value
    unknown = reference.novelty.copy()
    unknown[1005:1010] = value
    found = find_regions(world(2000, 0), replace(reference, novelty=unknown))
    assert [region.reference.tolist() for region in found.missing] == [list(range(1010, 1060))]
    assert found.novel[1].tolist() == list(range(1000, 1010))


@pytest.mark.parametrize("count", [SMALLEST - 1, SMALLEST, SMALLEST + 3])
def test_a_region_has_five_samples_at_least(count):
    found = find_regions(world(400, 0, share=0), world(50, 1, cluster(1, count, draw()), share=0))
    together = np.arange(50, 50 + count).tolist()
    assert members(found, "reference").tolist() == (together if count >= SMALLEST else [])
    assert found.alone[1].tolist() == ([] if count >= SMALLEST else together)
    assert found.usual == 1


def test_what_is_left_of_a_group_is_a_region_only_with_five(monkeypatch):
    monkeypatch.setattr(regions.Tree, "groups", lambda tree, count: (np.arange(tree.rows) < 3).astype(int))
    found = find_regions(world(600, 0), world(300, 1))
    assert len(found.thin) == 1
    assert {0, 1, 2} <= set(np.searchsorted(np.arange(540, 600), found.alone[0]).tolist())


def test_what_is_lacking_has_five_samples():
    at = draw()
    places = np.concatenate([at.normal(size=(40, DIM)), cluster(1, 4, at)])
    data = regions._Thin(places, np.repeat([0, 1], [40, 4]), (100_000, 100))
    tree = regions.Tree.of(places)
    assert data.bound(np.array([[0.0, 4.0]]), 1.0, 1.0) > 100
    assert all(len(rows) >= SMALLEST for rows in data.lacking(tree, 1.0, 1.0, TIMES))


def test_resampled_data_may_be_one_row():
    data = regions._Thin(np.zeros((2, DIM)), np.array([0, 1]), (9.0, 9.0))
    assert (data.found_again(1.0, 0) == 0).all()


@pytest.mark.parametrize("thin", [0, 2, 30])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_few_samples_are_no_trouble(count, thin):
    of = lambda n, k, seed: survey(draw(seed).normal(size=(n, DIM)), np.arange(n) < k)  # noqa: E731
    for training, reference in ((of(30, thin, 0), of(count, count, 1)), (of(count, 0, 0), of(30, thin, 1))):
        found = find_regions(training, reference)
        every = [(len(one), one.factor, one.least, one.lack) for one in (*found.missing, *found.thin)]
        assert np.isfinite(every).all()
        assert found.usual >= 1


def test_a_reference_without_thin_samples_lacks_nothing():
    found = find_regions(world(1000, 0), world(500, 1, share=0))
    assert not found.missing
    assert members(found, "training").size + found.alone[0].size == 100
    assert found.usual == 1


def test_equal_samples_are_one_region():
    """A sample that is there a hundred times makes no outlier of all others."""
    many = np.repeat(cluster(1, 1, draw()), 300, 0)
    found = find_regions(world(1000, 0, cluster(2, 20, draw(2))), world(1000, 1, many))
    assert [region.reference.tolist() for region in found.missing] == [list(range(1000, 1300))]
    assert set(range(1000, 1020)) <= set(members(found, "training").tolist())


def test_of_many_thin_samples_some_are_drawn_and_all_are_told(monkeypatch):
    few, many = cluster(1, 30, draw(1)), cluster(1, 150, draw(2))
    training, reference = world(4000, 0, few), world(2000, 1, np.r_[many, outliers(5)], share=0.05)
    exact = find_regions(training, reference)
    whole = exact.missing
    monkeypatch.setattr(regions, "MOST", 200)
    found = find_regions(training, reference)
    assert len(whole) == len(found.missing) == 1
    assert found.usual == pytest.approx(exact.usual, rel=0.25)
    assert found.missing[0].training.tolist() == whole[0].training.tolist() == list(range(4000, 4030))
    assert found.missing[0].reference.tolist() == whole[0].reference.tolist() == list(range(2000, 2150))
    assert found.missing[0].factor == pytest.approx(whole[0].factor, rel=0.35)
    assert found.missing[0].lack == pytest.approx(whole[0].lack, rel=0.1)
    assert np.isin(np.arange(2150, 2155), found.alone[1]).all()
    assert members(found, "training").size + found.alone[0].size == 430


def test_more_thin_samples_than_are_drawn_lack_nothing_by_chance(monkeypatch):
    monkeypatch.setattr(regions, "MOST", 100)
    found = [find_regions(world(4000, seed), world(600, 900 + seed)) for seed in range(15)]
    assert sum(bool(one.missing) for one in found) <= 1
    assert np.median([one.usual for one in found]) == pytest.approx(1.0, abs=0.3)
    factors = [region.factor for one in found for region in one.thin if len(region) >= 30]
    assert np.median(factors) == pytest.approx(1.0, abs=0.25)


def test_what_resampled_data_do_not_find_again_is_not_missing(monkeypatch):
    sides = world(2000, 0), world(1000, 1, cluster(1, 60, draw()))
    monkeypatch.setattr(
        regions._Thin, "found_again", lambda self, *_: np.full(len(self.origin), STABLE - 0.1)
    )
    found = find_regions(*sides)
    assert not found.missing
    region = next(one for one in found.thin if 1000 in one.reference)
    assert region.stability == pytest.approx(STABLE - 0.1)
    assert not region.missing
    assert {one.stability for one in found.thin} == {1.0, region.stability}


def test_a_real_region_is_found_again_and_the_rest_is_not():
    sides = world(2000, 0), world(1000, 1, cluster(1, 60, draw()))
    found = find_regions(*sides)
    thin = [of.percentile > THIN for of in sides]
    data = regions._Thin(
        np.concatenate([of.places[rows] for of, rows in zip(sides, thin, strict=True)]).astype(float),
        np.repeat([0, 1], [rows.sum() for rows in thin]),
        (2000, 1060),
    )
    again = data.found_again(3.0, 0)
    assert found.missing[0].stability > STABLE
    assert (data.found_again(3.0, 0) == again).all()
    assert again[-60:].mean() > 0.9 > 0.3 > again[:-60].mean()


def test_the_same_seed_gives_the_same():
    sides = world(1000, 0), world(800, 1, cluster(1, 60, draw()))
    first, second, other = (find_regions(*sides, seed=seed) for seed in (3, 3, 4))
    for one, two in zip((*first.missing, *first.thin), (*second.missing, *second.thin), strict=True):
        assert (one.training == two.training).all()
        assert (one.reference == two.reference).all()
        assert (one.factor, one.least, one.stability, one.lack) == (
            two.factor,
            two.least,
            two.stability,
            two.lack,
        )
    assert [one.reference.tolist() for one in first.missing] == [
        one.reference.tolist() for one in other.missing
    ]


def test_nothing_is_drawn_from_global_generators():
    sides = world(500, 0), world(400, 1, cluster(1, 60, draw()))
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    find_regions(*sides)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
