"""Sentences that say where leaving samples out did not pay."""

import pytest

from fallow.tasks.payoff import remarks, time_saved


def epoch(backward=100, seconds=1.0, *, n=100, waiting=0.0, evaluating=0.0, loss=1.0, accuracy=0.5):
    return {
        "epoch": 0,
        "n": n,
        "bad": 0,
        "backward": backward,
        "seconds": seconds,
        "waiting_seconds": waiting,
        "evaluating_seconds": evaluating,
        "test_loss": loss,
        "accuracy": accuracy,
    }


def summary(epochs):
    saved = 1 - sum(e["backward"] for e in epochs) / sum(e["n"] for e in epochs)
    return {"epochs": epochs, "saved_fraction": saved, "time_saved_fraction": time_saved(epochs)}


def said(epochs, **options):
    return " ".join(remarks(summary(epochs), **{"rule": True} | options))


LONG = {"n": 100_000, "seconds": 100.0}
HALVES = [epoch(100_000, **LONG), *(epoch(50_000, 50.0, n=100_000) for _ in range(9))]


def test_time_that_follows_the_samples_is_saved_with_them():
    assert time_saved(HALVES) == pytest.approx(0.45)
    assert said(HALVES) == ""


def test_a_slow_first_epoch_does_not_count_as_what_full_training_takes():
    slow = [epoch(100_000, 900.0, n=100_000), *HALVES[1:]]
    assert time_saved(slow) == pytest.approx(0.45)


def test_evaluating_does_not_shrink():
    epochs = [epoch(1000, 20.0, n=1000, evaluating=10.0), *(epoch(500, 15.0, n=1000, evaluating=10.0),) * 9]
    assert time_saved(epochs) == pytest.approx(1 - (20 + 9 * 15) / 200)
    assert "evaluating takes 65% of it" in said(epochs)


def test_time_that_was_lost_is_told_as_lost():
    lost = [epoch(1000, 10.0, n=1000), *(epoch(700, 10.0, n=1000, evaluating=3.0) for _ in range(9))]
    told = summary(lost) | {"time_saved_fraction": -0.0136}
    assert (
        "27% of the samples were saved, but the time grew by 1.4%: evaluating takes"
        in remarks(told, rule=True)[0]
    )
    for gained, shown in ((-0.0004, 0), (0.0, 0), (0.014, 1)):
        said = remarks(told | {"time_saved_fraction": gained}, rule=True)[0]
        assert f"27% of the samples saved only {shown}% of the time" in said


def test_one_epoch_saves_nothing_and_says_why():
    full = [epoch(**LONG, backward=100_000)]
    assert "every epoch was full. A sample is measured before" in said(full, thin=0)
    assert "at least 100,000 samples are kept" in said(full, min_kept=100_000)
    assert "the rule found no sample" in said(full)
    assert said(full, rule=False) == ""


def test_predictions_that_nobody_recorded():
    assert "Return `predicted`" in said(HALVES, unpredicted=True)
    assert "Return `predicted`" not in said(HALVES, unpredicted=True, rule=False)
    assert "Return `predicted`" not in said(HALVES, unpredicted=True, thin=0)


def test_scores_that_are_not_finite():
    epochs = [e | {"epoch": i, "bad": 7 * (i > 3)} for i, e in enumerate(HALVES)]
    assert said(epochs).startswith("42 scores were not finite, the first in epoch 5 of 10")
    assert "not finite" in said(epochs, rule=False)


def test_a_rule_that_leaves_out_little_says_so():
    epochs = [epoch(95_000, 95.0, n=100_000) for _ in range(5)]
    assert "saved little: 5%" in said(epochs)


def test_waiting_for_the_loader():
    epochs = [epoch(e["backward"], e["seconds"], n=e["n"], waiting=e["seconds"] / 2) for e in HALVES]
    assert "waited for its data 50% of the time" in said(epochs)


def test_a_run_of_seconds_has_little_to_save():
    epochs = [epoch(100, 2.0), *(epoch(50, 1.0) for _ in range(9))]
    assert "about 20 s" in said(epochs)
    assert "about" not in said(epochs, rule=False)


def test_full_training_past_its_best_epoch():
    def bend(e):
        return {"loss": 1 + abs(e - 3) / 5, "accuracy": 0.8 - abs(e - 3) / 100}

    epochs = [epoch(100_000, **LONG, **bend(e)) for e in range(10)]
    assert "best in epoch 4 of 10 (loss 1.000, 2.200 at the end)" in said(epochs, rule=False)
    rising_accuracy = [e | {"accuracy": i / 10} for i, e in enumerate(epochs)]
    assert said(rising_accuracy, rule=False) == ""
    assert said([e | {"test_loss": None} for e in epochs], rule=False) == ""


def test_nothing_trained_on():
    assert time_saved([epoch(0)]) is None


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"fits": 1, "stability": float("nan"), "agreement": float("nan")}, "too few samples to fit two"),
        (
            {"fits": 9, "stability": 0.71, "agreement": float("nan")},
            "agree by 0.71 (0.8 is needed). Train on",
        ),
        (
            {"fits": 9, "stability": 0.9, "agreement": 0.5},
            "0.90 (0.8 is needed), those of its halves by 0.50",
        ),
    ],
)
def test_a_density_that_was_not_to_be_trusted(found, words):
    epochs = [epoch(100_000, **LONG)] * 4
    told = summary(epochs) | {"density": {"ready": False, **found}}
    assert words in " ".join(remarks(told, rule=True))
    ready = summary(epochs) | {"density": {"ready": True, **found}}
    assert "the rule found no sample to leave out" in " ".join(remarks(ready, rule=True))
