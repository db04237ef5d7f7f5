"""A training that is only watched: it is the plain one, and tells what the default would have done."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow import ErrorMass, InvalidValue, Reason, Schedule, Subsampler, Watch, WrongState
from fallow.core.watching import OUT, WOULD

N, EPOCHS = 1200, 9


def script(seed, wrong=120):
    """Return for each epoch the scores of all samples and the classes predicted; some labels are wrong."""
    rng = np.random.default_rng(seed)
    ease = rng.lognormal(-2, 2, N)
    labels = torch.arange(N) % 5
    told = []
    for epoch in range(EPOCHS):
        scores = ease * rng.lognormal(0, 0.7, N) * 0.7**epoch
        guesses = labels.clone()
        scores[:wrong] = rng.uniform(3.5, 6, wrong)
        guesses[:wrong] = (labels[:wrong] + 1) % 5
        told.append((torch.tensor(scores, dtype=torch.float32), guesses))
    return labels, told


def trained(policy, labels, told, schedule=None, *, epochs=EPOCHS, batch=100, **options):
    """Return a subsampler after ``epochs`` epochs of scripted scores, and the samples of each epoch."""
    sub = Subsampler(N, policy, schedule or Schedule(EPOCHS), labels=labels, **options)
    sub.announce = False
    return sub, follow(sub, told, epochs, batch)


def follow(sub, told, epochs, batch=100):
    used, data = [], list(range(N))
    loader = sub.loader(data, batch)
    while sub.epoch < epochs:
        scores, guesses = told[sub.epoch]
        used.append([])
        for index, _ in loader:
            used[-1].append(index.tolist())
            sub.record(index, scores[index], predicted=guesses[index])
        sub.remeasure(data, lambda index, _: (scores[index], guesses[index]))  # noqa: B023
        sub.step()
    return used


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("error", [0.05, 0.15])
@pytest.mark.parametrize("schedule", [Schedule(EPOCHS), Schedule(EPOCHS, readmit_every=3, full_tail=0.2)])
def test_it_tells_what_the_default_would_have_done(seed, error, schedule):
    labels, told = script(seed)
    real, _ = trained(ErrorMass(error), labels, told, schedule)
    watched, _ = trained(Watch(error), labels, told, schedule)
    assert [record.notes.get(OUT, 0) for record in watched.history] == [N - r.kept for r in real.history]
    found = watched.findings()
    assert found.saved == pytest.approx(1 - sum(r.backward for r in real.history) / (N * EPOCHS))
    assert found.saved > 0.02
    held = [record.notes["error"] for record in real.history if record.notes.get("error")]
    assert found.error == pytest.approx(np.mean(held))
    # The outliers of the last decision, which no epoch follows.
    longer, _ = trained(ErrorMass(error), labels, [*told, told[-1]], Schedule(EPOCHS + 1))
    assert set(found.suspects.tolist()) == set(range(120))
    assert set(torch.nonzero(longer.reason == Reason.OUTLIER).ravel().tolist()) == set(range(120))


def test_it_changes_nothing():
    labels, told = script(0)
    watched, seen = trained(Watch(), labels, told)
    plain, same = trained(ErrorMass(0.0, high=None), labels, told)
    assert seen == same
    assert all(record.kept == N == record.backward for record in watched.history)
    assert bool(watched.kept.all())
    assert watched.total_steps(100) == plain.total_steps(100) == 12 * EPOCHS
    assert watched.weights(torch.arange(5)) is None


def test_what_was_learned_early_and_never():
    labels, told = script(1, wrong=0)
    curves = [(0, 3.0), (1, 0.001), (2, 0.001), (3, 0.8), (4, 0.6)]
    for scores, _ in told:
        for row, value in curves:
            scores[row] = value
    told[6][0][2] = 0.5  # forgotten for an epoch
    told[4][0][3] = 0.1  # more right than wrong once; -log(1/2) is 0.69
    found = trained(Watch(), labels, told)[0].findings()
    early, never = set(found.learned_early.tolist()), set(found.never_learned.tolist())
    assert {1} <= early
    assert not {0, 2, 3, 4} & early
    assert {0} <= never
    assert not {1, 2, 3, 4} & never
    # By their definitions, for all samples.
    errors = torch.stack([1 - torch.exp(-scores) for scores, _ in told])
    assert early == set(torch.nonzero((errors[1:] <= 0.05).all(0)).ravel().tolist())
    assert never == set(torch.nonzero((errors > 0.5).all(0)).ravel().tolist())


def test_suspects_are_listed_from_the_highest_score_on():
    labels, told = script(2)
    for scores, _ in told:
        scores[:120] = 4 + torch.arange(120) / 100
    assert trained(Watch(), labels, told)[0].findings().suspects.tolist() == list(range(119, -1, -1))


@settings(max_examples=10, deadline=None)
@given(st.integers(1, EPOCHS - 1), st.integers(0, 3))
def test_a_resumed_run_tells_the_same(stop, seed):
    labels, told = script(seed)
    straight, _ = trained(Watch(), labels, told)
    half, _ = trained(Watch(), labels, told, epochs=stop)
    again = Subsampler(N, Watch(), Schedule(EPOCHS), labels=labels)
    again.announce = False
    again.load_state_dict(half.state_dict())
    follow(again, told, EPOCHS)
    assert str(again.findings()) == str(straight.findings())
    assert [record.notes for record in again.history] == [record.notes for record in straight.history]


def test_it_speaks_once_at_the_end(capsys):
    labels, told = script(0)
    sub, _ = trained(Watch(), labels, told, epochs=EPOCHS - 1)
    sub.announce = True
    assert capsys.readouterr() == ("", "")
    follow(sub, told, EPOCHS)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.replace("\n    ", "\n") == f"{sub.findings()}\n"
    assert printed.err.startswith("Watched 1,200 samples for 9 epochs; none was left out.\n    ErrorMass(")
    assert "labels that look wrong: 120 samples (10.0%), with the highest scores" in printed.err


def test_the_error_is_that_of_the_default():
    with pytest.raises(InvalidValue, match=r"`error` must.*Found 2"):
        Watch(2)
    labels, told = script(0)
    told[0][0][7] = -1
    with pytest.raises(InvalidValue, match="ErrorMass needs scores of at least 0"):
        trained(Watch(), labels, [(told[0][0], told[0][1])] * EPOCHS)


def test_only_a_watched_run_has_findings():
    sub = Subsampler(4, ErrorMass(), Schedule(3))
    with pytest.raises(WrongState, match=r"No findings.*ErrorMass.*Watch\(\)"):
        sub.findings()
    with pytest.raises(WrongState, match="No epoch is finished"):
        Subsampler(4, Watch(), Schedule(3)).findings()


def test_it_follows_samples_that_are_removed_renewed_and_added():
    labels, told = script(3)
    sub, _ = trained(Watch(), labels, told, epochs=4)
    sub.remove(range(200, 400))
    sub.renew(torch.arange(400, 410))
    follow(sub, told, 6)
    reason = sub.under_way.scores.table.columns[f"{WOULD}reason"]
    assert (reason[200:400] == Reason.BY_HAND).all()
    assert sub.history[-1].notes[OUT] <= 1000
    sub.keep(range(200, 400))
    follow(sub, told, 7)
    assert not (reason == Reason.BY_HAND)[400:].any()
    assert not (sub.under_way.scores.table.columns[f"{WOULD}reason"] == Reason.BY_HAND).any()
    sub.extend(10, torch.zeros(10).long())
    assert sub.n == 1210
    sub.record(torch.arange(1210), torch.full((1210,), 0.1), predicted=torch.zeros(1210).long())
    sub.step()
    assert sub.findings().n == 1210


def test_with_few_samples_it_says_so_much():
    sub = Subsampler(5, Watch(), Schedule(1))
    sub.announce = False
    sub.record(torch.arange(5), torch.ones(5))
    sub.step()
    text = str(sub.findings())
    assert "Watched 5 samples for 1 epoch;" in text
    assert "would have left out 0.0% of the samples of all epochs.\n" in text
    assert "Learned by the end of epoch 1, and ever since: 0 samples (0.0%)." in text
    assert "Never learned: 5 samples (100.0%)." in text
    assert text.endswith(
        "(0.0%). Among fewer than 2,000 samples they may not stand out: look at those never learned."
    )


def test_the_thinnest_batches_and_bad_scores_count():
    """Batches of 8 lose at most half; above 5 % of bad scores nothing is left out."""
    labels, told = script(4, wrong=0)
    told = [(scores * 0.02, guesses) for scores, guesses in told]
    told[4][0][: N // 10] = torch.nan
    with pytest.warns(RuntimeWarning, match="not finite"):
        real, _ = trained(ErrorMass(), labels, told, batch=8)
    with pytest.warns(RuntimeWarning, match="not finite"):
        watched, _ = trained(Watch(), labels, told, batch=8)
    out = [N - record.kept for record in real.history]
    assert [record.notes.get(OUT, 0) for record in watched.history] == out
    assert max(out) == N // 2
    assert out[5] < out[4]


@pytest.mark.parametrize("schedule", [{"outliers": "readmit", "readmit_every": 3}, {"outliers": "never"}])
def test_suspects_do_not_hang_on_when_they_come_back(schedule):
    labels, told = script(5)
    sub, _ = trained(Watch(), labels, told, Schedule(EPOCHS, **schedule))
    assert set(sub.findings().suspects.tolist()) == set(range(120))


def test_added_samples_are_not_said_to_be_saved():
    labels, told = script(6)
    sub, _ = trained(Watch(), labels, told, epochs=4)
    out = sum(record.notes.get(OUT, 0) for record in sub.history)
    sub.extend(400, torch.zeros(400).long())
    assert sub.findings().saved == pytest.approx(out / (4 * N))
    sub.record(torch.arange(1600), torch.full((1600,), 0.5), predicted=torch.zeros(1600).long())
    sub.step()
    out += sub.history[4].notes[OUT]
    assert sub.findings().saved == pytest.approx(out / (4 * N + 1600))
