"""The policy that takes its share from the data, against a plain reading of its definition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow import ErrorMass, Fraction, InvalidValue, Reason, Schedule, Subsampler
from fallow.policies.error_mass import BOUND, _largest_set
from fallow.policies.expectation import expected_errors
from standings import inputs, noisy

examples = settings(max_examples=100, deadline=None)


def two_epochs(first, second, policy, **more):
    """Return decision and notes after two epochs, and the input of the second decision with fresh columns."""
    columns, notes = {}, {}
    assert not (policy.decide(inputs(first, columns=columns, notes=notes, **more)) == Reason.LEARNED).any()
    decided = policy.decide(inputs(second, epoch=2, columns=columns, notes=notes, **more))
    return decided, notes


def drawn(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    ease = rng.lognormal(-4, 3, n)
    return ((ease * rng.lognormal(0, 0.7, n)).astype(np.float32) for _ in range(2))


@examples
@given(st.lists(st.floats(0, 4, width=32), min_size=1, max_size=60), st.floats(0, 1))
def test_the_largest_set_is_found_as_by_sorting(errors, share):
    errors = np.array(errors, np.float32)
    limit = share * float(errors.sum(dtype=np.float64))
    chosen = np.zeros(errors.size, bool)
    chosen[_largest_set(errors, errors, np.ones(errors.size, bool), limit)] = True
    by_size = np.cumsum(np.sort(errors), dtype=np.float64)
    assert np.count_nonzero(chosen) == np.count_nonzero(by_size <= limit + 1e-9 * by_size[-1]) or (
        np.isclose(by_size, limit, rtol=1e-6).any()
    )
    if chosen.any() and not chosen.all():
        assert errors[chosen].max() <= errors[~chosen].min()


@pytest.mark.parametrize("error", [0.0, 0.03, 0.1, 0.4])
def test_it_is_what_its_definition_says(error):
    first, second = drawn()
    policy = ErrorMass(error, high=None)
    decided, notes = two_epochs(first, second, policy)
    columns = {}
    for scores in (first, second):
        shown = inputs(scores, columns=columns)
        expected = expected_errors(shown, np.zeros(shown.scores.size, bool), 1.0)
    errors = expected.astype(np.float64)
    order = np.lexsort((second, errors))
    fits = np.cumsum(errors[order]) <= error * errors.sum()
    fits &= errors[order] <= min(BOUND * error, errors.mean() / 2)
    assert np.array_equal(np.sort(order[fits]), np.flatnonzero(decided == Reason.LEARNED))
    assert notes["left_out"] == fits.mean()
    assert notes["error"] == pytest.approx(errors[order[fits]].sum() / errors.sum(), rel=1e-4)
    assert notes["error"] <= error
    assert notes["mean_error"] == pytest.approx(errors.mean(), rel=1e-4)


def trained(sub, own, noise, epochs, rng):
    """Record scores that lie about those of ``own`` in each epoch."""
    loader = sub.loader(range(sub.n), 100)
    for _ in range(epochs):
        now = torch.tensor(own * rng.lognormal(0, noise, sub.n), dtype=torch.float32)
        for index, _ in loader:
            sub.record(index, now[index])
        sub.step()


def test_what_is_left_out_does_not_hang_on_who_was_left_out_before():
    """The easiest train in turns only; yet their share stays as it began, and is not 0 every second epoch."""
    n, rng = 4000, np.random.default_rng(0)
    own = rng.lognormal(-2, 2, n)
    sub = Subsampler(n, ErrorMass(high=None), Schedule(epochs=14))
    trained(sub, own, 0.8, 14, rng)
    shares = [record.notes["left_out"] for record in sub.history[2:-1]]
    assert min(shares) > 0.15
    assert max(shares) < 0.33


def test_a_schedule_that_re_admits_does_so_in_turns():
    for schedule, turns in ((Schedule(20, readmit_every=5), 5), (Schedule(20, readmit_at=[7]), 10)):
        sub = Subsampler(100, ErrorMass(), schedule)
        assert (sub.schedule.readmit_every, sub.schedule.stagger) == (turns, True)
        assert sub.schedule.readmit_at == schedule.readmit_at
    assert not Subsampler(100, Fraction(0.5), Schedule(20, readmit_every=5)).schedule.stagger


def test_what_a_floor_gives_back_is_no_audit():
    """It gives back the highest scores of those that were to be left out."""
    n, rng = 2000, np.random.default_rng(0)
    own, found = rng.lognormal(-2, 3, n), {}
    for least in (1, 1900):
        sub = Subsampler(n, ErrorMass(high=None), Schedule(12), min_kept=least)
        trained(sub, own, 0.5, 10, np.random.default_rng(1))
        found[least] = sub.history[-1].notes["error_found"]
    assert found[1900] == pytest.approx(found[1], rel=0.4)


def test_a_sample_with_a_score_but_no_mean_stays():
    first, second = drawn()
    late = np.arange(4000) < 50
    columns, policy = {}, ErrorMass(high=None)
    policy.decide(inputs(np.where(late, np.nan, first), columns=columns))
    # It was scored before the policy decided for the first time, and not since.
    decided = policy.decide(inputs(np.where(late, 0.001, second), epoch=2, fresh=~late, columns=columns))
    assert (decided == Reason.LEARNED).sum() > 500
    assert not decided[late].any()


def test_the_error_of_nats_is_what_the_label_does_not_get_and_that_of_a_share_the_share():
    scores = np.array([0, np.log(2), np.inf, np.nan, -1e-9], np.float32)
    assert np.allclose(inputs(scores).error_of(scores), [0, 0.5, 1, np.nan, 0], equal_nan=True)
    shares = np.array([0, 0.25, 1], np.float32)
    assert np.allclose(inputs(shares, largest=0.5).error_of(shares), [0, 0.5, 1])


def test_an_easy_set_gives_more_than_a_hard_one_and_equal_samples_give_nothing():
    rng = np.random.default_rng(0)
    base, shares = rng.lognormal(0, 2, 4000), []
    for middle in (-4, -2, 0):
        first, second = (np.exp(middle) * base * rng.lognormal(0, 0.5, (2, 4000))).astype(np.float32)
        shares.append(two_epochs(first, second, ErrorMass())[1]["left_out"])
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.3 > shares[2]
    alike = rng.normal(2.0, 0.2, (2, 4000)).astype(np.float32)
    assert two_epochs(*alike, ErrorMass())[1]["left_out"] == 0


def test_after_an_epoch_of_few_samples_those_left_out_stay_out_and_none_joins_them():
    columns, notes, policy = {}, {}, ErrorMass(high=None)
    n = 200
    for epoch, scores in enumerate(drawn(n), 1):
        decided = policy.decide(inputs(scores, epoch=epoch, columns=columns, notes=notes))
    out = decided == Reason.LEARNED
    assert 100 < out.sum() < n
    # Fewer than 100 samples train. Ten of them had been left out, of which five are not learned after all.
    back = np.flatnonzero(out)[:10]
    fresh = ~out
    fresh[back] = True
    scores[back[:5]], scores[~out] = 3.0, 0.5
    reason = np.where(fresh, Reason.KEPT, Reason.LEARNED)
    given = {"fresh": fresh, "reason": reason, "columns": columns, "notes": notes}
    decided = policy.decide(inputs(scores, epoch=3, **given))
    stay = out & (1 - np.exp(-scores) <= BOUND * policy.error)
    assert not stay[back[:5]].any()
    assert stay.sum() > 0.9 * out.sum()
    np.testing.assert_array_equal(decided == Reason.LEARNED, stay)


def test_a_sample_that_was_wrong_on_its_last_visit_is_never_learned():
    columns = {}
    for epoch in range(1, 6):
        shown, _ = noisy(4000, 0.05, epoch=epoch)
        decided = ErrorMass(0.3).decide(inputs(**shown, epoch=epoch, columns=columns))
        wrong = shown["predicted"] != shown["labels"]
        assert not (decided[wrong] == Reason.LEARNED).any()
    assert (decided == Reason.LEARNED).sum() > 400


def test_wrong_labels_are_outliers_and_hold_no_mass():
    columns, notes = {}, {}
    for epoch in range(1, 8):
        shown, bad = noisy(4000, 0.2, epoch=epoch)
        decided = ErrorMass().decide(inputs(**shown, epoch=epoch, columns=columns, notes=notes))
    outlier = decided == Reason.OUTLIER
    assert (outlier & bad).sum() > 0.8 * bad.sum()
    assert (outlier & ~bad).sum() < 0.05 * outlier.sum()
    clean = {}
    for epoch in range(1, 8):
        shown, bad = noisy(4000, 0.2, epoch=epoch)
        right = ErrorMass().decide(
            inputs(
                shown["scores"][~bad],
                epoch=epoch,
                columns=clean,
                predicted=np.zeros(3_184, np.int32)[: (~bad).sum()],
            )
        )
    # As much of the right samples is left out as without the wrong ones, to within a few points.
    share = np.mean(right == Reason.LEARNED)
    assert np.mean(decided[~bad] == Reason.LEARNED) == pytest.approx(share, abs=0.06)


def test_a_rare_class_stays_whole_also_if_it_looks_mislabelled():
    columns, notes = {}, {}
    for epoch in range(1, 8):
        shown, bad = noisy(4000, 0.1, classes=2, epoch=epoch)
        rare = bad & (shown["labels"] == 1)
        # What looks mislabelled is a class of its own, with its own label.
        labels = np.where(rare, 2, shown["labels"]).astype(np.int32)
        shown["labels"] = labels
        decided = ErrorMass(0.3).decide(inputs(**shown, epoch=epoch, columns=columns, notes=notes))
    assert 100 < rare.sum() < 300
    assert (decided[bad & ~rare] == Reason.OUTLIER).mean() > 0.5
    assert not decided[rare].any()
    assert (decided == Reason.LEARNED).sum() > 300


def test_samples_that_came_back_measure_the_error_that_was_left_out():
    first, second = drawn()
    columns, notes, policy = {}, {}, ErrorMass(high=None)
    policy.decide(inputs(first, columns=columns, notes=notes))
    out = second < np.quantile(second, 0.5)
    back = out & (np.arange(4000) % 10 == 3)
    # As policy and schedule had decided.
    columns["left_out"][:], columns["in_turn"] = out, back
    reason = np.where(out & ~back, Reason.LEARNED, Reason.KEPT)
    decided = policy.decide(
        inputs(second, epoch=2, fresh=~out | back, reason=reason, columns=columns, notes=notes)
    )
    shown = inputs(second)
    assert (decided == Reason.LEARNED).any()
    total = notes["mean_error"] * 4000
    found = shown.error_of(second[back]).mean() * out.sum() / total
    assert notes["error_found"] == pytest.approx(found, rel=1e-3)
    assert np.array_equal(columns["left_out"], decided == Reason.LEARNED)


@pytest.mark.parametrize(("found", "in_use"), [(0.1, 0.12), (0.12, 0.12), (0.24, 0.06), (9.0, 0.03)])
def test_the_error_in_use_falls_by_as_much_as_was_left_out_too_much(found, in_use):
    """Of samples that are all but learned, a few others holding most of the error."""
    rng = np.random.default_rng(0)
    ease = np.where(rng.random(4000) < 0.02, 2.0, 0.01)
    first, second = (ease * rng.lognormal(0, 0.3, (2, 4000))).astype(np.float32)
    columns, notes = {}, {}
    ErrorMass(0.12, high=None).decide(inputs(first, columns=columns, notes=notes))
    notes["error_found"] = found
    ErrorMass(0.12, high=None).decide(inputs(second, epoch=2, columns=columns, notes=notes))
    assert notes["error"] == pytest.approx(in_use, rel=0.01)


def test_scores_below_0_and_shares_raise():
    with pytest.raises(InvalidValue, match=r"needs scores of at least 0.*Found -2 at sample 1"):
        ErrorMass().decide(inputs([0.5, -2.0, 1.0]))
    for wrong in (-0.1, 1.0, float("nan")):
        with pytest.raises(InvalidValue, match="`error`"):
            ErrorMass(wrong)


@pytest.mark.parametrize("hard", [True, False])
def test_samples_removed_by_hand_count_as_if_they_had_never_been_there(hard):
    """Those of the upper or the lower half: decisions and records are those of the others alone."""
    rng = np.random.default_rng(0)
    base = np.sort(rng.lognormal(-3, 2, 4000))
    mine = np.arange(4000) < 2000 if hard else np.arange(4000) >= 2000
    visits = (base * rng.lognormal(0, 0.5, (6, 4000))).astype(np.float32)
    labels = torch.arange(4000) % 5

    def trained(rows, by_hand=None):
        sub = Subsampler(len(rows), ErrorMass(), Schedule(epochs=6), labels=labels[rows])
        if by_hand is not None:
            sub.remove(by_hand)
        for epoch in range(6):
            index = sub.order()[:]
            sub.record(index, torch.from_numpy(visits[epoch][rows])[index], predicted=labels[rows][index])
            sub.step()
        return sub

    # Turns hang on the number of a sample: those removed by hand come last.
    rows = np.concatenate([np.flatnonzero(mine), np.flatnonzero(~mine)])
    with_them, alone = trained(rows, np.arange(2000, 4000)), trained(rows[:2000])
    assert torch.equal(with_them.kept[:2000], alone.kept)
    assert with_them.history[-1].notes == pytest.approx(alone.history[-1].notes)
    assert with_them.history[-1].learned == alone.history[-1].learned
    assert (alone.history[-1].learned > 0) == hard


def test_left_out_samples_come_back_in_turns_by_themselves():
    sub = Subsampler(2000, ErrorMass(0.3), Schedule(epochs=16), labels=torch.zeros(2000, dtype=torch.long))
    assert (sub.schedule.readmit_every, sub.schedule.stagger) == (10, True)
    loader = sub.loader(range(2000), 100)
    generator = torch.Generator().manual_seed(0)
    ease = torch.exp(2 * torch.randn(2000, generator=generator) - 2)
    for _ in range(16):
        for index, _ in loader:
            noise = torch.exp(0.5 * torch.randn(len(index), generator=generator))
            sub.record(index, ease[index] * noise, predicted=torch.zeros(len(index), dtype=torch.long))
        sub.step()
    assert (sub.last_scored >= 16 - 10).all()
    assert all(record.learned > 300 for record in sub.history[2:])
    listed = Subsampler(9, ErrorMass(), Schedule(epochs=9, readmit_every=3))
    assert (listed.schedule.readmit_every, listed.schedule.stagger) == (3, True)
