"""What is said of an epoch as it ends."""

import numpy as np
import pytest
import torch

from fallow import Fraction, Schedule, Subsampler
from fallow.runs.directory import RunDirectory
from fallow.training.epoch_writer import EpochWriter
from told_console import Told

N = 60


def trained(epochs, labels, predicted):
    """Subsampler and writer after some epochs in which sample i of epoch e is taken for predicted[e, i]."""
    sub = Subsampler(N, Fraction(0.5), Schedule(epochs), labels=labels)
    for epoch in range(epochs):
        for index, _ in sub.loader(range(N), 10):
            told = None if predicted is None else torch.from_numpy(predicted[epoch])[index]
            sub.record(
                index, torch.rand(N, generator=torch.Generator().manual_seed(epoch))[index], None, told
            )
        sub.step()
    return sub


def accuracy_of(sub, tmp_path):
    writer = EpochWriter(RunDirectory(tmp_path), sub, Told())
    return writer._train_accuracy(sub.history[-1])


@pytest.mark.parametrize("epochs", [1, 2, 4])
def test_train_accuracy_is_that_of_the_samples_of_the_epoch_alone(tmp_path, epochs):
    draw = np.random.default_rng(epochs)
    labels, predicted = draw.integers(0, 3, N), draw.integers(0, 3, (epochs, N))
    sub = trained(epochs, torch.from_numpy(labels), predicted)
    used = sub.history[-1].used.numpy()
    assert used.sum() == (N if epochs == 1 else N // 2)
    expected = np.mean([predicted[-1, i] == labels[i] for i in range(N) if used[i]])
    assert accuracy_of(sub, tmp_path) == pytest.approx(expected)


@pytest.mark.parametrize("ids", [[7, -1, 10**9], [-5, -1, 3]])
def test_class_ids_may_be_any_numbers(tmp_path, ids):
    draw = np.random.default_rng(0)
    labels, predicted = draw.choice(ids, N), draw.choice(ids, (1, N))
    assert accuracy_of(trained(1, torch.from_numpy(labels), predicted), tmp_path) == np.mean(
        labels == predicted
    )


def test_there_is_none_without_labels_or_predictions(tmp_path):
    labels = torch.zeros(N, dtype=torch.int64)
    assert accuracy_of(trained(2, labels, None), tmp_path) is None
    assert accuracy_of(trained(2, None, np.zeros((2, N), np.int64)), tmp_path) is None


def test_a_sample_without_a_prediction_does_not_count(tmp_path):
    """As in an epoch whose module tells predictions in some steps only."""
    sub = Subsampler(N, Fraction(0.5), Schedule(1), labels=torch.zeros(N, dtype=torch.int64))
    for place, (index, _) in enumerate(sub.loader(range(N), 10)):
        told = torch.full((10,), int(place == 0)) if place < 2 else None
        sub.record(index, torch.ones(10), None, told)
    sub.step()
    assert accuracy_of(sub, tmp_path) == 0.5
