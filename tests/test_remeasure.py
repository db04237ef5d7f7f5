"""Scores of removed samples by forward passes only: which, in which batches, and what they leave behind."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fallow import Schedule, Subsampler, Threshold
from fallow.core.remeasure import measure
from fallow.errors import InvalidType, InvalidValue
from fallow.policies import Kakurenbo, Reason

N = 30


class Squares(torch.utils.data.Dataset):
    """Sample i is i squared; remembers what was read."""

    def __init__(self, n=N):
        self.n, self.read = n, []

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        self.read.append(i)
        return torch.tensor(float(i * i))


def rows(journal):
    """All that was written, in order: index and value."""
    parts = journal.drain()
    return [i for index, _ in parts for i in index.tolist()], [
        v for _, value in parts for v in value.tolist()
    ]


def measured(score_batch, index=range(N), *, dataset=None, batch_size=8, collate_fn=None, **options):
    collate = collate_fn or torch.utils.data.default_collate
    where = np.array(list(index), np.int64)
    return measure(dataset or Squares(), N, where, score_batch, batch_size, collate, options)


@given(st.lists(st.integers(0, N - 1), unique=True), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_each_sample_is_read_and_scored_once_in_the_order_given(index, batch_size):
    dataset, sizes = Squares(), []

    def score_batch(part, batch):
        sizes.append(len(part))
        assert torch.equal(batch, part.double().square().float())
        return batch + 0.5

    scored, predicted = measured(score_batch, index, dataset=dataset, batch_size=batch_size)
    assert rows(scored) == (index, [i * i + 0.5 for i in index])
    assert rows(predicted) == ([], [])
    assert dataset.read == index
    assert sizes == [batch_size] * (len(index) // batch_size) + [r for r in [len(index) % batch_size] if r]


def test_a_pair_brings_the_predicted_classes_too():
    scored, predicted = measured(lambda part, batch: (batch, part % 7), range(3, 20))
    assert rows(scored)[0] == list(range(3, 20))
    assert rows(predicted) == (list(range(3, 20)), [i % 7 for i in range(3, 20)])


def test_some_batches_may_come_without_classes():
    def score_batch(part, batch):
        return (batch, part) if part[0] >= 8 else batch

    scored, predicted = measured(score_batch)
    assert rows(scored)[0] == list(range(N))
    assert rows(predicted)[0] == list(range(8, N))


@pytest.mark.parametrize(("dtype", "classes"), [(torch.float16, torch.uint8), (torch.float64, torch.int64)])
def test_any_precision_and_any_whole_numbers(dtype, classes):
    scored, predicted = measured(lambda part, batch: (batch.to(dtype), part.to(classes)), [2, 4])
    assert rows(scored) == ([2, 4], [4.0, 16.0])
    assert rows(predicted) == ([2, 4], [2, 4])


def test_nothing_is_due_and_nothing_is_called():
    scored, predicted = measured(lambda part, batch: 1 / 0, [])
    assert rows(scored) == rows(predicted) == ([], [])


def test_gradients_are_off_and_the_network_is_as_it_was():
    torch_state = torch.get_rng_state()
    network = nn.Sequential(nn.Linear(1, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    torch.set_rng_state(torch_state)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    outputs = []

    def score_batch(part, batch):
        assert not torch.is_grad_enabled()
        outputs.append(network(batch[:, None] / 100))
        return outputs[-1].square().sum(1)

    measured(score_batch)
    assert outputs[0].std() > 0
    assert network.training
    assert torch.is_grad_enabled()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_the_users_collate_and_loader_options_are_used():
    scored, _ = measured(
        lambda part, batch: batch["x"],
        [1, 2],
        collate_fn=lambda samples: {"x": torch.stack(samples) + 1},
        num_workers=0,
        pin_memory=False,
    )
    assert rows(scored) == ([1, 2], [2.0, 5.0])


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (lambda part, batch: batch[:3], InvalidValue, r"of score_batch .* \(8,\)\. Found shape \(3,\)"),
        (lambda part, batch: batch.mean(), InvalidValue, r"of score_batch .*shape \(\).*reduction="),
        (lambda part, batch: batch.tolist(), InvalidType, "score_batch must be a tensor. Found list"),
        (lambda part, batch: [batch, part], InvalidType, "score_batch must be a tensor. Found list"),
        (lambda part, batch: None, InvalidType, "score_batch must be a tensor. Found NoneType"),
        (lambda part, batch: (batch, part[:2]), InvalidValue, r"classes of score_batch .*shape \(2,\)"),
        (lambda part, batch: (batch, batch), InvalidType, r"hold class ids\. Found torch.float32.*argmax"),
        (lambda part, batch: (batch, part > 2), InvalidType, r"must hold class ids\. Found torch.bool"),
        (lambda part, batch: (batch, None, part), InvalidValue, "a pair of scores and .*Found 3 values"),
        (lambda part, batch: (batch,), InvalidValue, "a pair of scores and .*Found 1 values"),
    ],
)  # fmt: skip
def test_what_is_no_score_a_sample_raises(answer, error, words):
    with pytest.raises(error, match=words):
        measured(answer)


# Through the subsampler


def subsampler(**options):
    """A training in which samples 0 to 9 became outliers after the first epoch."""
    sub = Subsampler(N, Threshold(low=0.5, high=3.0), Schedule(epochs=9, remeasure_every=2), **options)
    sub.record(torch.arange(N), torch.where(torch.arange(N) < 10, 5.0, 1.0))
    sub.step()
    assert sub.reason.tolist() == [Reason.OUTLIER] * 10 + [Reason.KEPT] * 20
    return sub


def test_what_is_measured_decides_and_is_remembered():
    sub = subsampler(labels=torch.zeros(N, dtype=torch.int64))
    sub.record(torch.arange(10, N), torch.ones(20), predicted=torch.ones(20, dtype=torch.int64))
    count = sub.remeasure(range(N), lambda index, batch: (torch.where(index % 2 == 0, 1.0, 4.0), index + 5))
    assert count == 10
    assert sub.predicted.tolist() == [5 + i for i in range(10)] + [1] * 20
    sub.step()
    assert sub.kept.nonzero().flatten().tolist() == [0, 2, 4, 6, 8, *range(10, N)]
    assert (sub.history[-1].forward_only, sub.history[-1].backward) == (10, 20)
    assert sub.last_scored[:10].tolist() == [1] * 10


def test_an_error_in_the_last_batch_stores_nothing():
    sub = subsampler()
    sub.record(torch.arange(10, N), torch.ones(20))
    before = sub.scores, sub.predicted

    def score_batch(index, batch):
        classes = index if 9 not in index else index.double()
        return torch.zeros(len(index)), classes

    with pytest.raises(InvalidType, match="class ids"):
        sub.remeasure(range(N), score_batch, batch_size=4)
    assert torch.equal(sub.scores, before[0])
    assert torch.equal(sub.predicted, before[1])
    sub.remeasure(range(N), lambda index, batch: torch.zeros(len(index)))
    assert sub.scores[:10].tolist() == [0.0] * 10


def test_a_policy_that_asks_for_all_removed_samples_gets_them_in_every_epoch():
    labels = torch.arange(N) % 3
    sub = Subsampler(N, Kakurenbo(0.3, confidence=0.0, steps=()), Schedule(epochs=5), labels=labels)
    losses = torch.linspace(0.1, 2, N)
    for epoch in range(4):
        kept = sub.order()[:]
        sub.record(torch.as_tensor(kept), losses[kept], predicted=labels[kept])
        count = sub.remeasure(range(N), lambda index, _: (3 - losses[index], labels[index]))
        assert count == (0 if epoch == 0 else 9)
        assert (sub.last_scored == epoch).all()
        sub.step()
        assert sub.removed.sum() == 9


def test_without_measuring_one_warning_says_what_waits():
    labels = torch.zeros(N, dtype=torch.int64)
    sub = Subsampler(N, Kakurenbo(0.3, steps=()), Schedule(epochs=5), labels=labels)
    for epoch in range(3):
        kept = torch.as_tensor(sub.order()[:])
        sub.record(kept, torch.full((len(kept),), 0.01), predicted=labels[kept])
        if epoch == 1:
            with pytest.warns(
                UserWarning, match=r"9 removed samples are due .*before epoch 3 of .*`step\(\)`\.$"
            ):
                sub.step()
        else:
            sub.step()
