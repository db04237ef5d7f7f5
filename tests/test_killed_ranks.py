"""A rank that ends at random steps under `torchrun --max-restarts`: nothing is lost."""

from itertools import pairwise

import pytest

from killed_ranks import EPOCHS, EVERY, PLACES, RANKS, STEPS, WAYS, N, plan, run, same, wrong_counts


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("ranks") / "whole", WAYS[0], kills=0, seed=0)[0]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", WAYS)
def test_three_kills_change_nothing(whole, way, tmp_path):
    left, ended = run(tmp_path / way, way, kills=3, seed=10)
    assert [place for *_, place in ended] == ["planned", "recorded", "saving"]
    for (_, step, _), (began, *_) in pairwise(ended):
        assert step - EVERY <= began <= step  # it goes on, and does not begin anew
    assert same(left, whole)
    assert wrong_counts(left) == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_run_leaves_samples_out(whole):
    assert len(whole) == RANKS
    kept = [int(used.sum()) for used in whole[0]["used"]]
    assert len(kept) == EPOCHS
    assert kept[0] == N
    assert max(kept[2:]) < 0.9 * N
    assert whole[0]["step"] == STEPS
    assert wrong_counts(whole) == 0
    assert same(whole[0]["used"], whole[1]["used"])


def test_kills_are_anywhere():
    drawn = [plan(20, seed) for seed in range(20)]
    assert {place for kills in drawn for _, _, place in kills} == set(PLACES)
    assert {rank for kills in drawn for _, rank, _ in kills} == set(range(RANKS))
    assert all(len({step for step, *_ in kills}) == 20 for kills in drawn)
