"""How samples look to a trained network: scored without themselves, in evaluation, and nothing is changed."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from fallow import ActivationDensity, GaussianMixture
from fallow.errors import InvalidValue
from fallow.gaps import Survey, Surveyor

pytestmark = pytest.mark.usefixtures("_seed")


def blobs(n, k=3, d=12, shift=0.0):
    centres = 3 * torch.randn(k, d, generator=torch.Generator().manual_seed(7))
    labels = torch.arange(n) % k
    return centres[labels] + torch.randn(n, d) + shift, labels


def network():
    return nn.Sequential(nn.Linear(12, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Dropout(0.5), nn.Linear(24, 24),
                         nn.ReLU(), nn.Linear(24, 3))  # fmt: skip


def batches(x, labels=None, size=100):
    for start in range(0, len(x), size):
        yield x[start : start + size], None if labels is None else labels[start : start + size]


def surveyor(net=None, **options):
    net = net or network()
    return Surveyor(ActivationDensity(net, density=GaussianMixture(3), dim=8), net, **options)


def test_what_is_unlike_the_training_set_surprises():
    x, labels = blobs(900)
    other, _ = blobs(300, shift=6.0)
    found = surveyor().learn(batches(x, labels))
    train = found.survey(batches(x, labels), training=True)
    same, far = (found.survey(batches(rows)) for rows in (blobs(300)[0], other))
    assert (len(train), train.places.shape[1]) == (900, 16)
    asked = np.r_[same.surprise, far.surprise]
    assert roc_auc_score(np.r_[np.zeros(300), np.ones(300)], asked) > 0.99
    assert abs(np.mean(train.percentile) - 0.5) < 0.02
    assert abs(np.mean(same.percentile) - 0.5) < 0.1
    assert np.mean(far.novelty > 1) > 0.9 > 0.1 > np.mean(same.novelty > 1)


def test_training_samples_are_scored_without_themselves():
    x, _ = blobs(120)
    found = surveyor().learn(batches(x))
    without, flattered = (
        found.survey(batches(x), training=training).surprise.mean() for training in (True, False)
    )
    assert without > flattered + 0.05


def test_each_layer_is_scaled_alike():
    x, _ = blobs(500)
    train = (found := surveyor()).learn(batches(x)).survey(batches(x), training=True)
    squares = (train.places**2).reshape(500, len(found.monitor.layers), -1).sum(2).mean(0)
    assert squares == pytest.approx(1, rel=1e-4)


def test_any_batches_give_the_same():
    x, labels = blobs(400)
    found = surveyor().learn(batches(x, labels, 64))
    one = found.survey(batches(x, labels, 400), training=True)
    other = found.survey(batches(x, labels, 37), training=True)
    for name in Survey.__dataclass_fields__:
        step = 0.05 if name in ("surprise", "percentile") else 1e-3  # the last bit may move a row by a rank
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-4, atol=step)


def test_labels_and_predictions():
    x, labels = blobs(200)
    labels[5] = -1
    net = network()
    found = surveyor(net).learn(batches(x))
    survey = found.survey(batches(x, labels))
    predicted = net.eval()(x).argmax(1).numpy()
    assert (survey.predicted == predicted).all()
    assert (survey.wrong == ((predicted != labels.numpy()) & (labels.numpy() >= 0))).all()
    assert not survey.wrong[5]
    unlabelled = found.survey(batches(x))
    assert (unlabelled.labels == -1).all()
    assert not unlabelled.wrong.any()


def test_outputs_that_are_no_classes():
    x, _ = blobs(200)
    found = surveyor(classes=False).learn(batches(x))
    assert (found.survey(batches(x)).predicted == -1).all()


def test_the_network_is_as_it_was():
    x, labels = blobs(300)
    net = network().train()
    net[3].eval()
    before = deepcopy(net.state_dict())
    found = surveyor(net).learn(batches(x, labels))
    parts = found.parts(batches(x, labels))
    next(parts)
    assert [module.training for module in net] == [True, True, True, False, True, True, True]
    list(parts)
    assert all(torch.equal(before[name], now) for name, now in net.state_dict().items())
    assert not found.monitor.taps.in_evaluation


def test_a_forward_pass_that_fails_leaves_the_network_as_it_was():
    net = network().train()
    found = surveyor(net)
    with pytest.raises(RuntimeError):
        found.learn(batches(torch.zeros(10, 5)))
    assert net.training
    assert not found.monitor.taps.in_evaluation


def test_what_was_learned_in_training_is_where_it_begins():
    x, _ = blobs(600)
    found = surveyor().learn(batches(x))
    before = found.monitor.layers[0].density.halves[0].means.clone()
    found.learn(batches(x))
    assert torch.allclose(found.monitor.layers[0].density.halves[0].means, before, atol=0.1)


def test_too_few_samples_are_refused():
    with pytest.raises(InvalidValue, match=r"at least 64 training samples\. .*50"):
        surveyor().learn(batches(blobs(50)[0]))


def test_progress_counts_samples():
    x, _ = blobs(250)
    told = []
    found = surveyor().learn(batches(x), told.append)
    assert told == [100, 200, 250]
    found.survey(batches(x), progress=told.append)
    assert told[3:] == told[:3]


def test_rows_can_be_taken():
    x, labels = blobs(150)
    survey = surveyor().learn(batches(x)).survey(batches(x, labels))
    some = survey[[3, 5]]
    assert (len(some), some.labels.tolist()) == (2, labels[[3, 5]].tolist())
    joined = Survey.joined([survey[:100], survey[100:]])
    assert (joined.places == survey.places).all()


def test_what_draws_and_counts_in_evaluation_too_leaves_no_trace():
    class Restless(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.last = nn.Linear(12, 8), nn.Linear(8, 3)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return self.last(nn.functional.dropout(self.layer(x), 0.1, training=True))

    x, _ = blobs(200)
    net, drawn = Restless(), torch.get_rng_state()
    surveyor(net).learn(batches(x)).survey(batches(x))
    assert net.calls == 0
    assert torch.equal(torch.get_rng_state(), drawn)
