"""Whether a training diverged, or ended no better than guessing: what the sentences rest on."""

import math

import pytest

from fallow.training.divergence import divergence, no_better_than_guessing

TEN = {"accuracy": 0.1, "loss": math.log(10)}


def told(accuracy, loss, score=None, *, bad=None, guessing=TEN, samples=1000, unit="nats", part="test"):
    """A summary with an epoch for each accuracy and loss."""
    score = score or [0.5] * len(loss)
    rows = [
        {"accuracy": a, "test_loss": b, "mean_score": s, "bad": k, "backward": 100, "forward_only": 0}
        for a, b, s, k in zip(accuracy, loss, score, bad or [0] * len(loss), strict=True)
    ]
    return {
        "epochs": rows,
        "accuracy": accuracy[-1],
        "test_loss": loss[-1],
        "guessing": guessing,
        "samples_evaluated": samples,
        "score_unit": unit,
        "evaluated_on": part,
    }


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        (told([0.9, 0.1, 0.1], [0.3, NAN, NAN], bad=[0, 90, 100]), "from epoch 2 on its losses were not"),
        (told([0.1], [NAN], bad=[100]), "in the last epoch, 1, its losses were not finite"),
        (told([0.9, 0.1], [0.3, INF]), "in the last epoch, 2,"),
        (
            told([0.95, 0.97, 0.1], [0.1, 0.1, 2.4], [0.1, 0.1, 2.4]),
            "fell from 97.00% after epoch 2 to 10.00%",
        ),
        (
            told([0.1, 0.1], [1e9, 1e10], [1e9, 1e10]),
            "ends at a test loss of 1e+10 (guessing gives 2.303)",
        ),
        (told([0.15], [6e35], [9e30], samples=360), "ends at a test loss of 6e+35"),
        (told([None, None], [0.2, 5.0], guessing={"accuracy": None, "loss": 1.0}), "(guessing gives 1)."),
        (told([None] * 3, [0.2, 0.4, 3.0], guessing={}), "its test loss rose from 0.2 in epoch 1 to 3."),
        (told([None], [NAN], guessing={}, part="validation"), "losses were not finite"),
    ],
)
def test_a_training_that_diverged(summary, words):
    assert divergence(summary).startswith("The training diverged: ")
    assert words in divergence(summary)


@pytest.mark.parametrize(
    "summary",
    [
        told([0.9, 0.95], [0.3, 0.2]),
        told([0.9, 0.95], [0.3, NAN]),  # a loss that is wrongly computed, beside a sound network
        told([0.9, 0.95], [0.3, 0.2], bad=[0, 4]),
        told([0.1, 0.12], [1.6, 2.9], [1.6, 0.3]),  # wrong labels, learned by heart
        told([0.2, 0.1], [2.2, 2.5], [2.2, 1.0]),  # it overfits: its training samples surprise it less
        told([0.5, 0.0], [0.9, 1.1], [0.9, 1.1], samples=2, guessing={"accuracy": 0.5, "loss": 0.69}),
        told([0.9, 0.9], [0.3, 30.0], guessing={}),  # of an own module that is right and too sure
        told([None, None], [0.2, 0.4], guessing={}),
        told([None, None], [-3.0, -1.0], guessing={}),
        told([None, None], [None, None], guessing={}),
        told([0.1], [2.3], [2.3]),
    ],
)
def test_a_training_that_did_not_diverge(summary):
    assert divergence(summary) == ""


def test_an_accuracy_at_chance_is_said_to_be_one():
    said = no_better_than_guessing(told([0.11], [2.3], samples=360, part="validation"))
    assert said == (
        "Validation accuracy, 11.00%, is not significantly above 10.00%, the result of always naming the "
        "most frequent class of these 360 samples: there is no evidence that the network has learned."
    )
    assert no_better_than_guessing(told([0.2], [2.3])) == ""
    assert no_better_than_guessing(told([0.2], [2.3], guessing={})) == "", "nobody knows what guessing gives"


def test_few_samples_are_said_to_be_few():
    said = no_better_than_guessing(told([1.0], [0.3], samples=1, guessing={"accuracy": 1.0, "loss": 0.7}))
    assert said == (
        "Test accuracy, 100.00%, is measured on 1 sample: too few to tell whether the network has learned."
    )


def test_an_error_of_guessing_is_no_learning():
    guess = {"accuracy": None, "loss": 1.0}
    assert "loss, 1.2, is not below that of guessing, 1:" in no_better_than_guessing(
        told([None], [1.2], guessing=guess)
    )
    assert no_better_than_guessing(told([None], [0.9], guessing=guess)) == ""
    assert no_better_than_guessing(told([None], [None], guessing=guess)) == ""
