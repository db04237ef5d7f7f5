"""Which samples are trained on and reported on; accuracy by class; what a run's summary says of both."""

import json

import numpy as np
import pytest
import torch

from fallow.cli.main import main
from fallow.datasets import ImageData, ImageDataset, load_images
from fallow.errors import InvalidValue
from fallow.tasks.class_accuracy import ClassAccuracy
from fallow.tasks.parts import chosen_parts


def data(n=100, tests=7):
    """Images whose one pixel is their number."""
    train = ImageDataset(torch.arange(n, dtype=torch.uint8).reshape(-1, 1, 1, 1), torch.arange(n) % 3)
    test = ImageDataset(torch.zeros(tests, 1, 1, 1, dtype=torch.uint8), torch.zeros(tests, dtype=torch.int64))
    return ImageData("toy", train, test, ("a", "b", "c"), tuple(f"{i}.png" for i in range(n)))


def numbers(part):
    return part.images.flatten().tolist()


def test_a_subset_is_drawn_once_and_keeps_images_labels_and_files_together():
    first, again = (chosen_parts(data(), 40, None) for _ in range(2))
    kept = numbers(first.train)
    assert kept == numbers(again.train)
    assert len(set(kept)) == 40
    assert kept == sorted(kept)
    assert max(kept) > 60
    assert first.train.labels.tolist() == [i % 3 for i in kept]
    assert first.files == tuple(f"{i}.png" for i in kept)
    assert len(first.test) == 7


def test_the_validation_part_is_cut_off_first_and_is_the_same_whatever_is_trained_on():
    some, all_ = chosen_parts(data(), 30, 0.25), chosen_parts(data(), None, 0.25)
    assert numbers(some.test) == numbers(all_.test)
    assert len(some.test) == 25
    assert len(some.train) == 30
    assert sorted(numbers(all_.train) + numbers(all_.test)) == list(range(100))
    assert set(numbers(some.train)) < set(numbers(all_.train))


def test_nothing_asked_for_changes_nothing():
    whole = data()
    assert chosen_parts(whole, None, None) is whole


@pytest.mark.parametrize(
    ("samples", "validation", "message"),
    [(101, None, "at most 100.*101"), (80, 0.25, "at most 75"), (None, 0.999, "leave a sample")],
)
def test_not_more_than_there_are(samples, validation, message):
    with pytest.raises(InvalidValue, match=message):
        chosen_parts(data(), samples, validation)


def test_accuracy_by_class_is_that_of_all_batches_together():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    counted = ClassAccuracy()
    counted.add(torch.tensor([1]), torch.tensor([0]), 5)
    counted.clear()
    for rows in np.array_split(np.arange(200), 7):
        counted.add(torch.from_numpy(predicted[rows]), torch.from_numpy(labels[rows]), 5)
    wanted = [float((predicted[labels == c] == c).mean()) for c in range(4)]
    assert counted.shares() == [*(pytest.approx(w) for w in wanted), None]
    assert ClassAccuracy().shares() == []


def test_the_summary_says_what_was_reported_on_and_adds_up(tmp_path, capsys):
    run = tmp_path / "run"
    words = ["train", "--data", "digits", "--samples", "300", "--validation", "0.2", "--epochs", "2"]
    assert main([*words, "--accelerator", "cpu", "--out", str(run)]) == 0
    said = json.loads((run / "summary.json").read_text())
    assert said["evaluated_on"] == "validation"
    assert "Validation accuracy" in capsys.readouterr().out
    assert said["samples_full"] == 600
    assert said["steps"] == sum(-(-epoch["samples_backward"] // 64) for epoch in said["epochs"])
    assert said["cpu_seconds"] > 0
    cut = chosen_parts(load_images("digits"), 300, 0.2)
    assert len(cut.test) == 287
    sizes = np.bincount(cut.test.labels.numpy())
    shares = said["accuracy_by_class"]
    assert list(shares) == list(cut.classes)
    assert np.dot(list(shares.values()), sizes) / sizes.sum() == pytest.approx(said["accuracy"])
    assert said["worst_class_accuracy"] == min(shares.values())


def test_shares_that_cannot_be_cut(capsys, tmp_path):
    for words in (["--validation", "1"], ["--samples", "0"]):
        assert main(["train", "--data", "digits", *words, "--out", str(tmp_path / "r")]) == 2
        assert words[0] in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
