"""What a person is told of a result: that it diverged, or why leaving samples out did not pay."""

import math

import pytest

from fallow.training.divergence import divergence
from fallow.training.payoff import remarks, time_saved


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
        "mean_score": 0.5,
        "kept": backward,
    }


def summary(epochs, **more):
    saved = 1 - sum(e["backward"] for e in epochs) / sum(e["n"] for e in epochs)
    told = {"epochs": epochs, "saved_fraction": saved, "time_saved_fraction": time_saved(epochs)}
    told |= {"accuracy": epochs[-1]["accuracy"], "test_loss": epochs[-1]["test_loss"], "score_unit": "nats"}
    told |= {"evaluated_on": "test", "samples_evaluated": 10_000, "finished": True}
    told["guessing"] = {"accuracy": None, "loss": None}
    return told | {"diverged": bool(divergence(told | more))} | more


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
    assert "all 100,000 samples are kept to fill whole" in said(full, fewest_kept=100_000)
    assert "there is only one sample" in said([epoch(1, n=1)], fewest_kept=1)
    assert "the rule found no sample" in said(full)
    assert said(full, rule=False) == ""


def test_predictions_that_nobody_recorded():
    assert "Return `predicted`" in said(HALVES, unpredicted=True)
    assert "Return `predicted`" not in said(HALVES, unpredicted=True, rule=False)
    assert "Return `predicted`" not in said(HALVES, unpredicted=True, thin=0)


def test_a_few_scores_that_are_not_finite_are_no_divergence():
    epochs = [e | {"bad": 7 * (3 < i < 6)} for i, e in enumerate(HALVES)]
    assert said(epochs).startswith("14 scores were not finite, in epochs 5 to 6 of 10. Check the loss")
    one = [e | {"bad": int(i == 3)} for i, e in enumerate(HALVES)]
    assert said(one, rule=False).startswith("1 score was not finite, in epoch 4 of 10.")


def test_a_loss_that_is_not_finite_beside_a_sound_accuracy_is_no_divergence():
    epochs = [*HALVES[:-1], HALVES[-1] | {"test_loss": math.nan}]
    told = summary(epochs, guessing={"accuracy": 0.1, "loss": 2.3})
    assert not told["diverged"]
    assert remarks(told, rule=True) == [
        "The loss of the last evaluation is not finite. Check how it is computed."
    ]


def test_a_run_that_diverged_says_so_and_nothing_of_savings():
    broken = [e | {"bad": 50_000 * (i > 3), "mean_score": math.nan} for i, e in enumerate(HALVES)]
    told = summary(broken, samples_evaluated=200)
    (only,) = remarks(told, rule=True, thin=5, unpredicted=True)
    assert only == (
        "The training diverged: from epoch 5 on its losses were not finite. The network is unusable. Lower "
        "--learning_rate, and check the inputs."
    )
    assert "Lower the learning rate in your module" in remarks(told, rule=True, own=True)[0]


def test_a_run_that_was_stopped_is_not_judged():
    assert remarks(summary([epoch()], finished=False), rule=True, thin=5) == []


def test_a_rule_that_leaves_out_little_says_so():
    epochs = [epoch(95_000, 95.0, n=100_000) for _ in range(5)]
    assert "saved little: 5.0% of the samples. The rule found no more" in said(epochs)
    assert "The rule leaves 6% of them out of 4 of 5 epochs." in said(epochs, thin=4, share=0.06)
    assert "surprise" not in said(epochs)


def test_waiting_for_the_loader():
    epochs = [epoch(e["backward"], e["seconds"], n=e["n"], waiting=e["seconds"] / 2) for e in HALVES]
    assert "waited for its data 50% of the time (275 of 550 s): faster loading" in said(epochs)
    assert "saves up to that much" in said(epochs)
    short = [e | {"seconds": e["seconds"] / 100, "waiting_seconds": e["seconds"] / 200} for e in epochs]
    assert "waited" not in said(short), "of a second nobody waits too long"


def test_measuring_is_named_where_it_takes_the_time():
    epochs = [epoch(100_000, **LONG), *(epoch(50_000, 90.0, n=100_000) for _ in range(9))]
    told = summary(epochs, samples_backward=550_000, samples_forward_only=450_000)
    told["time_saved_fraction"] = 0.1
    assert "measuring takes about 21% of the work" in remarks(told, rule=True)[0]


def test_thin_batches_that_take_as_long_as_whole_ones():
    """As on an accelerator that a whole batch does not fill."""
    epochs = [epoch(100_000, **LONG), *(epoch(50_000, 98.0, n=100_000) for _ in range(9))]
    told = summary(epochs) | {"time_saved_fraction": 0.02}
    (thin,) = remarks(told, rule=True, kept_steps=True)
    assert "45% of the samples saved only 2% of the time: a thin batch takes nearly as long" in thin
    assert "With --kept_steps false there are fewer batches, all whole" in thin
    (whole,) = remarks(told, rule=True)
    assert "part of each epoch does not shrink" in whole


def test_a_run_of_seconds_has_little_to_save():
    epochs = [epoch(100, 2.0), *(epoch(50, 1.0) for _ in range(9))]
    assert "about 20 s" in said(epochs)
    assert "about" not in said(epochs, rule=False)
    slower = [epoch(100, 2.0), *(epoch(50, 2.0, evaluating=1.5) for _ in range(9))]
    assert "of the time" not in said(slower), "the times are too short to compare"
    assert "takes less than a second" in said([epoch(100, 0.2)])


def test_no_time_went_by():
    assert time_saved([epoch(seconds=0.0)] * 3) is None
    assert time_saved([epoch(50, seconds=0.5, evaluating=0.7)] * 3) <= 1.0
    assert "less than a second" in said([epoch(seconds=0.0)] * 3)


def bent(peak, gain=0.0, loss=lambda e: 1.0):
    """Ten long epochs whose accuracy is best after ``peak``, and ends ``gain`` above that after six."""
    accuracy = [0.95 - 0.02 * abs(e - peak) for e in range(1, 11)]
    accuracy[-1] = accuracy[5] + gain
    return [epoch(100_000, **LONG, loss=loss(e), accuracy=a) for e, a in enumerate(accuracy)]


class TestLastEpochs:
    """Whether the last epochs helped, by what the run is judged by, and by more than noise."""

    def test_by_accuracy_with_the_numbers_and_no_promise(self):
        (only,) = remarks(summary(bent(3), samples_evaluated=10_000), rule=False)
        assert only == (
            "The last 4 of 10 epochs did not improve the test accuracy: 89.00% before them, 89.00% after "
            "them, over 10,000 samples. To see if fewer --epochs do as well, run fallow compare with the arm "
            "fewer-epochs."
        )

    def test_a_loss_that_rises_beside_a_rising_accuracy_is_no_sign(self):
        assert said(bent(3, gain=0.08, loss=lambda e: 1 + e), rule=False) == ""

    def test_too_few_samples_tell_nothing(self):
        assert remarks(summary(bent(3), samples_evaluated=360), rule=False) == []
        assert remarks(summary(bent(3), samples_evaluated=None), rule=False) == []

    def test_a_gain_that_may_be_is_kept(self):
        assert said(bent(3, gain=0.002), rule=False) == ""

    def test_a_language_model_by_its_bits(self):
        epochs = [
            epoch(100_000, **LONG, accuracy=0.4) | {"bits_per_character": 2 + abs(e - 4) / 10}
            for e in range(10)
        ]
        (only,) = remarks(summary(epochs), rule=False)
        assert "improve the test bits a character: 2.1000 before them, 2.5000 after them" in only
        even = [e | {"bits_per_character": 2.1} for e in epochs]
        assert remarks(summary(even), rule=False) == [], "a difference of nothing may be noise"
        assert remarks(summary(epochs, samples_evaluated=6), rule=False) == []

    def test_an_autoencoder_by_its_error(self):
        epochs = [epoch(100_000, **LONG, accuracy=None, loss=0.1 + abs(e - 4) / 100) for e in range(10)]
        (only,) = remarks(summary(epochs, evaluated_on="validation"), rule=False)
        assert "the validation loss: 0.11 before them, 0.15 after them" in only

    def test_four_epochs_have_no_last_ones(self):
        assert said(bent(2)[:4], rule=False) == ""

    def test_nothing_is_said_of_a_network_that_guesses(self):
        told = summary(bent(3), guessing={"accuracy": 0.9, "loss": 1.0})
        assert [one for one in remarks(told, rule=False) if "last 4" in one] == []


def test_nothing_trained_on():
    assert time_saved([epoch(0)]) is None


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            {"fits": 1, "stability": float("nan"), "agreement": float("nan")},
            "too few samples to fit the density",
        ),
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
