"""Prompts against scipy, brute force, and a run that was never stopped."""

import json
from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import betabinom

import fallow
from disks import RecordingDisk, after_power_cuts, lay_out
from fallow import DamagedData, InvalidType, InvalidValue, Prompts, WrongState
from fallow.files import state_file
from fallow.prompts import PromptReason, chance_of_mixed, folder
from fallow.prompts.rule import Rule, fitted_prior
from fallow.prompts.tally import lapses
from ranks import in_ranks

N, GROUP, BATCH = 60, 8, 10
KEYS = [f"task-{number}" for number in range(N)]
EASY = np.linspace(-1, 2, N).clip(0, 1)
"""The success rate of each prompt: a third hopeless, a third mixed, a third solved."""


def rewards(prompts, rows):
    """Rewards that depend on the step and the prompt alone."""
    generator = np.random.default_rng([prompts.step, 5])
    return (generator.random((N, GROUP)) < EASY[:, None]).astype(float)[rows]


def walk(prompts, steps, batch=BATCH):
    """Draw and record, and return what was drawn."""
    drawn = []
    for _ in range(steps):
        rows = prompts.draw(batch)
        prompts.record(rows, rewards(prompts, rows), np.full((batch, GROUP), 3))
        drawn.append(rows.tolist())
    return drawn


def state_bytes(prompts):
    return state_file.dump(prompts.state_dict())


@settings(max_examples=60, deadline=None)
@given(st.floats(0.01, 60), st.floats(0.01, 60), st.integers(2, 32))
def test_the_chance_of_a_mixed_group_is_that_of_scipy(a, b, group):
    ends = betabinom.pmf([0, group], group, a, b).sum()
    found = chance_of_mixed(np.array([a]), np.array([b]), group)
    assert found == pytest.approx(1 - ends, abs=1e-9)


@pytest.mark.parametrize(("a", "b"), [(0.2, 0.1), (2.0, 5.0), (0.05, 0.05)])
def test_the_prior_is_that_of_the_prompts(a, b):
    generator = np.random.default_rng(0)
    count = generator.integers(4, 17, 40_000).astype(float)
    right = generator.binomial(count.astype(int), generator.beta(a, b, count.size)).astype(float)
    assert fitted_prior(right, count - right) == pytest.approx((a, b), rel=0.08)


def test_few_prompts_give_jeffreys_prior():
    known = np.array([8.0] * 31 + [0.0] * 9)
    assert fitted_prior(known, np.zeros(40)) == (0.5, 0.5)
    assert fitted_prior(np.full(40, 8.0), np.zeros(40)) != (0.5, 0.5)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 4)), max_size=30))
def test_lapses_are_those_of_a_walk(groups):
    groups = [(row, attempts, min(right, attempts)) for row, attempts, right in groups]
    was, forgotten, relearned = defaultdict(str), 0, 0
    for row, attempts, right in groups:
        if attempts and right == attempts:
            relearned += was[row] == "forgotten"
            was[row] = "solved"
        elif 2 * right < attempts and was[row] == "solved":
            forgotten += 1
            was[row] = "forgotten"
    columns = np.array(groups, np.int64).reshape(-1, 3).T
    assert lapses(*columns) == (forgotten, relearned, sum(each == "forgotten" for each in was.values()))


def test_an_epoch_draws_each_prompt_at_most_once_and_none_twice_in_a_step():
    prompts = Prompts(KEYS, GROUP, seed=3)
    by_epoch = defaultdict(list)
    for _ in range(80):
        before, left = prompts.epoch, 0
        if before >= 0:
            left = prompts.history[-1].kept - prompts._table.drawn
        rows = prompts.draw(BATCH).tolist()
        assert len(set(rows)) == BATCH
        by_epoch[before] += rows[: min(left, BATCH)]
        if prompts.epoch == before + 1:
            by_epoch[prompts.epoch] += rows[left:]
        prompts.record(rows, rewards(prompts, np.array(rows)))
    assert prompts.epoch >= 8
    for epoch in range(prompts.epoch):
        assert len(set(by_epoch[epoch])) == len(by_epoch[epoch])


def test_the_first_epoch_draws_all_and_later_ones_the_mixed():
    prompts = Prompts(KEYS, GROUP, seed=1)
    first = np.concatenate(walk(prompts, N // BATCH))
    assert sorted(first.tolist()) == list(range(N))
    later = np.concatenate(walk(prompts, 60))
    share = np.bincount(later, minlength=N) / (prompts.epoch)
    mixed = (EASY > 0.2) & (EASY < 0.8)
    assert share[mixed].mean() > 0.85
    assert share[EASY == 0].mean() < 0.4
    assert share[EASY == 1].mean() < 0.4
    reason = prompts.reason
    assert set(np.flatnonzero(reason == PromptReason.SOLVED)) <= set(np.flatnonzero(EASY > 0.5))
    assert set(np.flatnonzero(reason == PromptReason.HOPELESS)) <= set(np.flatnonzero(EASY < 0.5))
    assert (reason[EASY == 0] == PromptReason.HOPELESS).any()
    assert (reason[EASY == 1] == PromptReason.SOLVED).any()


def test_what_is_left_out_comes_back_at_odds_that_never_reach_zero():
    n = 4000
    prompts = Prompts([str(i) for i in range(n)], 4, revisit=1 / 16, seed=2)
    prompts.draw(n)
    for _ in range(6):  # far below the bound
        prompts.record(np.arange(n), np.tile(np.arange(n)[:, None] % 2, 4))
    back = np.zeros(n)
    for _ in range(64):
        prompts.draw(1)
        back += prompts.reason == PromptReason.KEPT
        while prompts._table.drawn < prompts.history[-1].kept:
            prompts.draw(1)
        # Nothing is recorded, so the odds stay.
    assert back.sum() / (64 * n) == pytest.approx(1 / 16, rel=0.05)
    assert (back > 0).mean() > 0.9
    assert prompts.history[-1].returned == prompts.history[-1].kept


def test_odds_fall_with_the_chance():
    rule = Rule(8, bound=0.4, revisit=0.1)
    assert rule.lowest == 0.4 * (1 - 2 * 0.5**8)
    chances = np.array([0.9, rule.lowest, rule.lowest / 2, 0.001])
    assert rule.odds(chances).tolist() == pytest.approx([1, 1, 0.5, 0.1])
    assert Rule(8, bound=0).odds(np.zeros(2)).tolist() == [1, 1]


def test_what_was_never_measured_is_drawn():
    """Even where hardly any of the others is mixed."""
    prompts = Prompts([str(i) for i in range(400)], 2, bound=0.9)
    prompts.draw(400)
    prompts.record(np.arange(100), np.tile(np.arange(100)[:, None] % 2, 2))
    prompts.draw(10)
    assert (prompts.reason[100:] == PromptReason.KEPT).all()
    assert (prompts.reason[:100] != PromptReason.KEPT).any()


def test_a_domain_keeps_its_share():
    n = 300
    domains = ["rare"] * 20 + ["common"] * 280
    prompts = Prompts([str(i) for i in range(n)], 8, domains=domains, min_share=0.5, revisit=0.001)
    prompts.draw(n)
    for _ in range(5):
        prompts.record(np.arange(n), np.ones((n, 8)))
    for _ in range(12):
        prompts.draw(10)
    kept = prompts.reason == PromptReason.KEPT
    assert (kept[:20].sum(), kept[20:].sum()) == (10, 140)


def test_an_epoch_fills_a_step_if_none_is_mixed():
    prompts = Prompts(KEYS, GROUP, revisit=1e-6)
    prompts.draw(N)
    for _ in range(5):
        prompts.record(KEYS, np.tile(np.arange(N)[:, None] % 2, GROUP))
    for _ in range(9):
        assert len(set(prompts.draw(7).tolist())) == 7
    assert prompts.history[-1].kept == 7
    assert prompts.history[-1].solved + prompts.history[-1].hopeless == N - 7


def test_a_bound_of_zero_is_uniform():
    prompts = Prompts(KEYS, GROUP, bound=0)
    counts = np.bincount(np.concatenate(walk(prompts, 5 * N // BATCH)), minlength=N)
    assert counts.tolist() == [5] * N


def test_keys_and_places_and_shapes_say_the_same():
    states = []
    for form in ("rows", "keys", "flat", "tensor"):
        prompts = Prompts(KEYS, GROUP)
        rows = np.array([4, 1, 9])
        won = np.array([[1.0] * 8, [0.0] * 8, [1.0, 0.5] * 4])
        tokens = np.arange(24).reshape(3, 8)
        if form == "rows":
            prompts.record(rows, won, tokens)
        elif form == "keys":
            prompts.record([KEYS[row] for row in rows], won.tolist(), tokens.tolist())
        elif form == "flat":
            prompts.record(rows.repeat(8), won.reshape(-1), tokens.reshape(-1))
        else:
            prompts.record(torch.from_numpy(rows), torch.from_numpy(won).bfloat16(), torch.from_numpy(tokens))
        tree = prompts.state_dict()
        tree.pop("name")
        states.append(state_file.dump(tree))
    assert len(set(states)) == 1
    assert prompts.summary().tokens == 23 * 12
    assert prompts._table.log["right"].tolist() == [0, 8, 4]


def test_success_is_judged_by_outcome():
    """A spread of shaped rewards is no success."""
    prompts = Prompts(KEYS, 4, success=0.9)
    prompts.record(KEYS[:3], [[0.1, 0.5, 0.8, 0.2], [0.9, 1.0, 1.3, 0.95], [0.89, 0.9, 0.0, 2.0]])
    assert prompts._table.log["right"].tolist() == [0, 4, 2]
    assert (prompts.summary().whole_wrong, prompts.summary().whole_right, prompts.summary().mixed) == (
        1,
        1,
        1,
    )


def test_rollouts_that_nobody_could_judge_do_not_count():
    prompts = Prompts(KEYS, 4)
    before = prompts.success_rate
    prompts.record(KEYS[:2], [[np.nan] * 4, [1.0, np.nan, 0.0, np.nan]])
    assert prompts._table.log["attempts"].tolist() == [0, 2]
    assert prompts.success_rate.tolist() == before.tolist()


def test_older_rollouts_fade():
    prompts = Prompts(KEYS, 4, memory=0.25)
    prompts.record(KEYS[:1], [[1, 1, 1, 1]])
    prompts.record(KEYS[:1], [[0, 0, 0, 1]])
    assert (prompts._table.right[0], prompts._table.wrong[0]) == (2.0, 3.0)


@pytest.mark.parametrize("stop", [1, 5, 6, 17])
def test_a_resumed_run_draws_what_it_would_have_drawn(stop):
    whole, first = Prompts(KEYS, GROUP, seed=9), Prompts(KEYS, GROUP, seed=9)
    expected = walk(whole, 40)
    begun = walk(first, stop)
    data = state_bytes(first)
    walk(first, 3)  # must not touch the state
    second = Prompts(KEYS, GROUP, seed=9)
    second.load_state_dict(state_file.parse(data, "state"))
    assert begun + walk(second, 40 - stop) == expected
    assert second.summary() == whole.summary()
    assert second.reason.tolist() == whole.reason.tolist()


def test_a_saved_folder_goes_on_and_its_files_are_only_added_to(tmp_path):
    whole, first = Prompts(KEYS, GROUP, seed=9), Prompts(KEYS, GROUP, seed=9)
    expected = walk(whole, 30)
    walk(first, 7)
    first.save(tmp_path / "p")
    before = {file.name: file.read_bytes() for file in (tmp_path / "p").iterdir()}
    walk(first, 5)
    first.save(tmp_path / "p")
    first.save(tmp_path / "p")  # nothing new: no further file
    second = Prompts.load(tmp_path / "p")
    assert walk(second, 18) == expected[12:]
    second.save(tmp_path / "p")
    files = sorted(file.name for file in (tmp_path / "p").iterdir())
    assert sum(name.startswith("groups-") for name in files) == 3
    for name, data in before.items():
        assert name == "state.safetensors" or (tmp_path / "p" / name).read_bytes() == data
    assert Prompts.load(tmp_path / "p").summary() == whole.summary()


def test_a_run_that_goes_back_to_an_older_state_replaces_what_differs(tmp_path):
    prompts = Prompts(KEYS, GROUP, seed=9)
    walk(prompts, 4)
    prompts.save(tmp_path)
    older = prompts.state_dict()
    walk(prompts, 4)
    prompts.save(tmp_path)
    again = Prompts(KEYS, GROUP, seed=9)
    again.load_state_dict(older)
    rows = again.draw(BATCH)
    again.record(rows, np.zeros((BATCH, GROUP)))
    again.save(tmp_path)
    loaded = Prompts.load(tmp_path)
    assert loaded.summary() == again.summary()
    assert state_bytes(loaded) == state_bytes(again)
    assert len(list(tmp_path.glob("groups-*"))) == 2


def test_another_run_merges_what_a_run_measured_once(tmp_path):
    prompts = Prompts(KEYS, GROUP)
    walk(prompts, 24)
    prompts.save(tmp_path)
    other = Prompts([*KEYS[10:], "new"], GROUP)
    measured = np.bincount(prompts._table.log["row"], minlength=N)[10:] > 0
    assert other.merge(tmp_path, weight=0.25) == measured.sum()
    right = np.bincount(prompts._table.log["row"], prompts._table.log["right"], N)
    assert np.allclose(other._table.right[:-1], right[10:] / 4)
    assert other.merge(tmp_path) == 0
    walk(prompts, 3)
    prompts.save(tmp_path)
    assert 0 < other.merge(tmp_path) <= 3 * BATCH
    # It begins by leaving out what is known.
    other.draw(5)
    assert other.history[0].solved + other.history[0].hopeless > 5
    with pytest.raises(InvalidValue, match="another run"):
        prompts.merge(tmp_path)


def test_a_power_cut_leaves_the_state_before_or_after(tmp_path):
    prompts, disk = Prompts(KEYS, GROUP, seed=1), RecordingDisk()
    out = tmp_path / "run"
    summaries = []
    for _ in range(3):
        walk(prompts, 3)
        folder.save(prompts._table, out, disk)
        summaries.append(prompts.summary())
    seen = set()
    for done, model, contents in after_power_cuts(disk.log, out):
        left = lay_out(contents, tmp_path / f"{done}-{model}")
        if (left / folder.STATE).exists():
            seen.add(summaries.index(Prompts.load(left).summary()))
    assert seen == {0, 1, 2}


def test_two_ranks_record_as_one(tmp_path):
    alone = Prompts(KEYS, GROUP, seed=4)
    expected = walk(alone, 12)
    in_ranks(_record_a_part, 2, str(tmp_path))
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found["drawn"] == expected
        assert found["right"] == alone._table.right.tolist()
        assert found["groups"] == len(alone._table.log)


def _record_a_part(rank, size, out):
    prompts = Prompts(KEYS, GROUP, seed=4)
    drawn = []
    for _ in range(12):
        rows = prompts.draw(BATCH)
        won = rewards(prompts, rows).reshape(-1)
        flat = rows.repeat(GROUP)
        # The ranks get unequal parts, and a group is divided between them.
        own = slice(0, 13) if rank == 0 else slice(13, None)
        prompts.record(flat[own], won[own], np.full(won.size, 3)[own])
        drawn.append(rows.tolist())
    with open(f"{out}/{rank}.json", "w") as file:
        tree = {"drawn": drawn, "right": prompts._table.right.tolist(), "groups": len(prompts._table.log)}
        json.dump(tree, file)


def test_the_summary_counts_what_was_saved():
    prompts = Prompts(KEYS, GROUP, seed=7)
    walk(prompts, 40)
    summary = prompts.summary()
    assert summary.rollouts == 40 * BATCH * GROUP
    assert summary.tokens == 3 * summary.rollouts
    assert summary.mixed + summary.whole_right + summary.whole_wrong == summary.groups == 40 * BATCH
    uniform = 0.0
    ends = [each.first_step for each in prompts.history[1:]] + [40]
    for each, end in zip(prompts.history, ends, strict=True):
        inside = (prompts.log["step"] >= each.first_step) & (prompts.log["step"] < end)
        right = prompts.log["right"][inside]
        if each.kept == N:
            uniform += GROUP * right.size
        else:
            uniform += GROUP * np.count_nonzero((right > 0) & (right < GROUP)) / each.uniform
    assert summary.rollouts_saved == round(uniform) - summary.rollouts > 0
    assert summary.tokens_saved == 3 * summary.rollouts_saved
    for before, after in pairwise(prompts.history):
        assert after.epoch == before.epoch + 1
        assert after.kept + after.solved + after.hopeless == N


def test_nothing_is_saved_if_nothing_is_left_out():
    prompts = Prompts(KEYS, GROUP, bound=0)
    walk(prompts, 30)
    assert prompts.summary().rollouts_saved == 0


def test_a_pool_without_mixed_prompts_saves_no_wonders():
    """Short epochs, which draw almost nothing, do not count as walks over all prompts."""
    prompts = Prompts([str(i) for i in range(2000)], GROUP)
    for _ in range(300):
        rows = prompts.draw(8)
        prompts.record(rows, np.tile(rows[:, None] % 2, GROUP))
    assert prompts.summary().rollouts_saved <= 0


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (lambda: Prompts("abc", 8), InvalidType, "sequence of texts"),
        (lambda: Prompts([], 8), InvalidValue, "at least one prompt"),
        (lambda: Prompts([1, 2], 8), InvalidType, "str(id)"),
        (lambda: Prompts(["a", 0], 8), InvalidType, "str(id)"),
        (lambda: Prompts(["a", "b", "a"], 8), InvalidValue, "'a' twice"),
        (lambda: Prompts(KEYS, 1), InvalidValue, "`group` must be at least 2"),
        (lambda: Prompts(KEYS, 8, bound=1.0), InvalidValue, "`bound`"),
        (lambda: Prompts(KEYS, 8, revisit=0), InvalidValue, "never come back"),
        (lambda: Prompts(KEYS, 8, min_share=0.1), InvalidValue, "needs `domains`"),
        (lambda: Prompts(KEYS, 8, domains=["x"]), InvalidValue, "one entry"),
        (lambda: Prompts(KEYS, 8).draw(N + 1), InvalidValue, f"at most {N} prompts"),
        (lambda: Prompts(KEYS, 8).record("task-1", [1.0]), InvalidType, "list of keys"),
        (lambda: Prompts(KEYS, 8).record(["task-1", "task-999"], [1, 1]), InvalidValue, "'task-999'"),
        (lambda: Prompts(KEYS, 8).record([N], [1.0]), InvalidValue, f"[0, {N})"),
        (lambda: Prompts(KEYS, 8).record([0, 1], [[1.0], [1.0], [1.0]]), InvalidValue, "shape (3, 1)"),
        (lambda: Prompts(KEYS, 8).record([0, 1], [[1.0], [1.0, 2.0]]), InvalidValue, "unequal length"),
        (lambda: Prompts(KEYS, 8).record([0], ["right"]), InvalidType, "`rewards` must be numbers"),
        (lambda: Prompts(KEYS, 8).record([0], [1.0], [[3]]), InvalidValue, "shape of `rewards`"),
        (lambda: Prompts(KEYS, 8).record([0], [1.0], [-3]), InvalidValue, "at least 0"),
        (lambda: Prompts(KEYS, 8).merge("nowhere"), DamagedData, "must exist"),
        (lambda: Prompts.load("nowhere"), DamagedData, "must exist"),
    ],
)  # fmt: skip
def test_wrong_use_says_what_is_right(wrong, error, words):
    with pytest.raises(error) as raised:
        wrong()
    assert words in str(raised.value)


def test_a_wrong_record_notes_nothing():
    prompts = Prompts(KEYS, GROUP)
    walk(prompts, 2)
    before = state_bytes(prompts)
    with pytest.raises(InvalidValue):
        prompts.record(["task-1", "other"], [[1.0], [0.0]])
    assert state_bytes(prompts) == before


def test_states_of_other_prompts_and_settings_are_refused():
    state = Prompts(KEYS, GROUP).state_dict()
    with pytest.raises(InvalidValue, match="other keys"):
        Prompts([*KEYS[1:], "other"], GROUP).load_state_dict(state)
    with pytest.raises(InvalidValue, match="one of 60, here are 59"):
        Prompts(KEYS[1:], GROUP).load_state_dict(state)
    with pytest.raises(InvalidValue, match="same `bound`"):
        Prompts(KEYS, GROUP, bound=0.5).load_state_dict(state)


@pytest.mark.parametrize("name", ["prompts", "state", "groups"])
@pytest.mark.parametrize("harm", ["cut", "flipped", "gone"])
def test_damaged_files_are_named_and_change_nothing(tmp_path, name, harm):
    prompts = Prompts(KEYS, GROUP)
    walk(prompts, 9)
    prompts.save(tmp_path)
    (path,) = tmp_path.glob(f"{name}*.safetensors")
    data = path.read_bytes()
    if harm == "gone":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.write_bytes(data[:50] + bytes([data[50] ^ 0x55]) + data[51:])
    other = Prompts(KEYS, GROUP)
    before = state_bytes(other)
    for read in (lambda: Prompts.load(tmp_path), lambda: other.merge(tmp_path)):
        with pytest.raises(DamagedData) as raised:
            read()
        assert path.name.split("-")[0] in str(raised.value)
    assert state_bytes(other) == before


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InvalidValue, match=r"thesis\.tex"):
        Prompts(KEYS, GROUP).save(tmp_path)
    first = Prompts(KEYS, GROUP)
    first.save(tmp_path / "a")
    with pytest.raises(WrongState, match="another run"):
        Prompts(KEYS, GROUP).save(tmp_path / "a")
    assert fallow.Prompts.load(tmp_path / "a").state_dict()["name"] == first.state_dict()["name"]


def test_an_epoch_of_many_prompts_is_read_in_blocks():
    n = 70_000  # more than two blocks
    prompts = Prompts([str(i) for i in range(n)], 2, seed=3)
    drawn = [prompts.draw(count) for count in (30_000, 5_000, 34_999, 1)]
    assert sorted(np.concatenate(drawn).tolist()) == list(range(n))
    again = Prompts([str(i) for i in range(n)], 2, seed=3)
    again.draw(30_000)
    state = again.state_dict()
    third = Prompts([str(i) for i in range(n)], 2, seed=3)
    third.load_state_dict(state)
    assert third.draw(5_000).tolist() == drawn[1].tolist()
