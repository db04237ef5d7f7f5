"""Nothing left to learn: the signs, and a training that ends early, also after a resume."""

import json
import math

import numpy as np
import pytest

from fallow.options.resume_options import stored_options
from fallow.options.train_options import TrainOptions
from fallow.tasks.console import Console
from fallow.terminal.rich_console import RichConsole
from fallow.training.stopping import EPOCHS, mean_error, turned
from fallow.training.train import train

SILENT = Console(RichConsole(), silent=True)


def test_the_mean_error_counts_classes_alike_and_only_samples_that_trained():
    scores = np.array([0.0, 0.0, 0.0, math.log(2), 9.0], np.float32)
    used = np.array([True, True, True, True, False])
    assert mean_error(scores, used, None) == pytest.approx(0.125)
    assert mean_error(scores, used, np.array([0, 0, 0, 4, 4])) == pytest.approx(0.25)


def test_without_most_scores_the_mean_error_is_unknown():
    scores = np.array([np.nan, 0.1, np.inf], np.float32)
    assert math.isnan(mean_error(scores, np.ones(3, bool), None))
    assert math.isnan(mean_error(scores, np.zeros(3, bool), None))


def rows(losses, accuracies=None):
    accuracies = [None] * len(losses) if accuracies is None else accuracies
    return [
        {"epoch": at, "test_loss": loss, "accuracy": accuracy}
        for at, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True))
    ]


def test_a_loss_has_turned_if_it_was_clearly_higher_for_some_epochs():
    assert turned(rows([1.0, 0.5, 0.4, 0.5, 0.5, 0.6])) == 3
    assert turned(rows([1.0, 0.5, 0.4, 0.5, 0.41, 0.6])) is None
    assert turned(rows([1.0, 0.5, 0.4, 0.39, 0.38, 0.37])) is None
    assert turned(rows([0.1, *[1.0] * (EPOCHS - 1)])) is None
    assert turned([]) is None
    assert turned(rows([1.0, 0.5, 0.4, np.nan, np.nan, np.nan])) is None, "it diverged"


def test_a_loss_that_rises_with_the_accuracy_has_not_turned():
    losses = [1.0, 0.5, 0.4, 0.5, 0.5, 0.6]
    assert turned(rows(losses, [0.5, 0.6, 0.7, 0.7, 0.69, 0.7])) == 3
    assert turned(rows(losses, [0.5, 0.6, 0.7, 0.7, 0.72, 0.7])) is None
    assert turned(rows(losses, [0.5, 0.6, 0.7, None, 0.72, 0.7])) is None
    assert turned(rows(losses, [0.5, 0.6, 0.7, None, None, None])) == 3


@pytest.fixture(scope="module")
def easy(tmp_path_factory):
    """Two classes that a network tells apart at once."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    images = (labels[:, None, None] * 200 + rng.integers(0, 40, (400, 8, 8))).astype(np.uint8)
    path = tmp_path_factory.mktemp("easy") / "easy.npz"
    np.savez(path, x_train=images[:300], y_train=labels[:300], x_test=images[300:], y_test=labels[300:])
    return path


def run(easy, out, **options):
    return train(TrainOptions(str(easy), epochs=20, out=str(out), **options), SILENT)


def test_a_training_says_that_nothing_is_left_and_ends_only_if_asked(easy, tmp_path):
    told = run(easy, tmp_path / "told")
    assert len(told["epochs"]) == 20
    assert not told["stopped_early"]
    (remark,) = [text for text in told["remarks"] if "Nothing is left to learn" in text]
    assert remark.endswith("--stop auto ends a training there.")
    ended = run(easy, tmp_path / "ended", stop="auto")
    trained = len(ended["epochs"])
    assert ended["stopped_early"]
    assert ended["finished"]
    assert trained < 20
    (remark_of_ended,) = [text for text in ended["remarks"] if "Nothing is left to learn" in text]
    assert remark_of_ended.endswith(f"had {trained} of 20 epochs; what it saved is a share of the {trained}.")
    # It ends a tenth of the epochs, which are two, after the sign.
    sign = next(row["epoch"] + 1 for row in told["epochs"] if f"after epoch {row['epoch'] + 1}:" in remark)
    assert trained == sign + 2
    assert ended["accuracy"] == 1.0
    run_again = TrainOptions(**stored_options(str(tmp_path / "ended")), resume=str(tmp_path / "ended"))
    again = train(run_again, SILENT)
    assert len(again["epochs"]) == trained
    assert json.loads((tmp_path / "ended" / "summary.json").read_text())["stopped_early"]
    for key in ("nothing_left", "remarks"):
        assert again[key] == ended[key]
