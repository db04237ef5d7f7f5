"""Class ids are names: whatever their size and sign, nothing grows with the largest of them."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow import Fraction, Schedule, Subsampler, Threshold
from fallow.core.class_ids import ClassIds
from fallow.core.state import opened
from fallow.policies import Kakurenbo
from fallow.policies.base import Reason

pytestmark = pytest.mark.filterwarnings("ignore:.*due to be measured")
N = 60
PLAIN = torch.arange(N) % 3
FAR = torch.tensor([-7, 999_999, 2**40])
"""Other ids for the same classes, in the same order."""


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30))
def test_there_and_back(ids):
    labels = np.array(ids, np.int64)
    found = ClassIds.of(labels)
    numbers = found.encode(labels)
    assert numbers.dtype == np.int32
    assert 0 <= numbers.min() <= numbers.max() < max(1024, 2 * len(ids))
    assert found.decode(numbers).tolist() == ids
    order = np.argsort(labels, kind="stable")
    assert (np.diff(numbers[order]) >= 0).all(), "numbered in their order"


def test_small_ids_are_their_own_numbers():
    found = ClassIds.of(np.array([0, 5, 1023]))
    assert not found.renumbered
    assert found.encode(np.array([7, -1, -9, 2**40])).tolist() == [7, -1, -1, 2**31 - 2]
    assert ClassIds.of(np.array([0, 1024])).renumbered
    assert not ClassIds.of(np.arange(4000)).renumbered


def test_a_class_that_no_sample_has():
    found = ClassIds.of(np.array([10**6, 3]))
    assert found.encode(np.array([3, 4, 10**6, 10**7, -1])).tolist() == [0, 2, 1, 2, -1]
    assert found.decode(np.array([0, 1, 2, -1])).tolist() == [3, 10**6, -1, -1]
    assert ClassIds.of(np.array([-1, 1])).decode(np.array([0, 1, -1])).tolist() == [-1, 1, -(2**63)]


POLICIES = {
    "threshold": Threshold(low=0.5, high=2.0),
    "rare": Fraction(0.5, exponent=1.0),
    "auto": Threshold(low=0.3, high="auto"),
    "kakurenbo": Kakurenbo(0.3),
}


def trained(policy, ids, epochs=5, **options):
    """Return a subsampler that was trained on noise, with classes of these ids."""
    sub = Subsampler(N, policy, Schedule(epochs=epochs), labels=ids[PLAIN], min_kept_per_class=8, **options)
    draw = torch.Generator().manual_seed(1)
    for _ in range(epochs - 1):
        index = torch.as_tensor(np.asarray(sub.order()[:]))
        losses = torch.rand(N, generator=draw)[index] * 3
        guess = torch.randint(3, (N,), generator=draw)[index]
        sub.record(index, losses, predicted=ids[guess])
        sub.step()
    return sub


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("ids", [FAR, torch.tensor([-1, 1, 2**62])])
def test_the_same_decisions_for_any_ids(name, ids):
    plain, far = (trained(POLICIES[name], these) for these in (torch.arange(3), ids))
    assert torch.equal(plain.reason, far.reason)
    assert (plain.reason != Reason.KEPT).any()
    assert torch.equal(far.labels, ids[PLAIN])
    assert torch.equal(far.predicted, ids[plain.predicted])
    assert (plain.predicted >= 0).all()


def test_the_state_keeps_ids():
    sub = trained(POLICIES["kakurenbo"], FAR)
    again = Subsampler(N, sub.policy, sub.schedule, labels=FAR[PLAIN], min_kept_per_class=8)
    again.load_state_dict(sub.state_dict())
    assert torch.equal(again.predicted, sub.predicted)
    other = Subsampler(N, sub.policy, sub.schedule, labels=PLAIN, min_kept_per_class=8)
    with pytest.raises(ValueError, match=r"same `labels`.*it was -7 and is 0"):
        other.load_state_dict(sub.state_dict())
    other.load_state_dict(sub.state_dict(), accept=("labels",))
    assert torch.equal(other.labels, PLAIN)
    assert other.reason.eq(Reason.KEPT).all()


def test_a_state_of_other_numbers_is_translated():
    """-7 joins: ids that were their own numbers are renumbered, and the other way round."""
    ids = torch.tensor([0, 1, 2])
    sub = trained(POLICIES["threshold"], ids)
    labels = PLAIN.clone()
    labels[0] = -7
    moved = Subsampler(N, sub.policy, sub.schedule, labels=labels, min_kept_per_class=8)
    moved.load_state_dict(sub.state_dict(), accept=("labels",))
    assert torch.equal(moved.predicted[1:], sub.predicted[1:])
    back = Subsampler(N, sub.policy, sub.schedule, labels=PLAIN, min_kept_per_class=8)
    back.load_state_dict(moved.state_dict(), accept=("labels",))
    assert torch.equal(back.predicted[1:], sub.predicted[1:])


def test_a_state_whose_numbers_are_beyond_its_classes_is_refused():
    sub = trained(POLICIES["threshold"], FAR)
    state = opened(sub.state_dict())
    state["table"]["columns"]["predicted"][3] = 9
    again = Subsampler(N, sub.policy, sub.schedule, labels=FAR[PLAIN], min_kept_per_class=8)
    with pytest.raises(ValueError, match=r"predicted classes of at most 4\. Found 9"):
        again.load_state_dict(state)


def test_new_samples_bring_new_ids():
    sub = trained(POLICIES["threshold"], torch.arange(3))
    predicted = sub.predicted
    sub.extend(2, labels=[10**12, -4])
    assert sub.labels.tolist() == [*PLAIN.tolist(), 10**12, -4]
    assert torch.equal(sub.predicted[:N], predicted)
    assert sub.predicted[N:].tolist() == [-1, -1]


def test_predictions_beyond_four_bytes_are_not_wrapped():
    sub = Subsampler(3, Threshold(low=0.1), Schedule(epochs=2), labels=[0, 1, 2])
    sub.record(torch.arange(3), torch.ones(3), predicted=torch.tensor([1, 2**32 + 1, -(2**33)]))
    assert sub.predicted.tolist() == [1, 2**31 - 2, -1]


def test_a_large_id_costs_nothing():
    labels = torch.arange(64) % 2
    labels[9] = 2**24 - 1  # below this, ids were places in an array
    tracemalloc.start()
    sub = Subsampler(64, Fraction(0.5, exponent=1.0), Schedule(epochs=3), labels=labels, min_kept_per_class=2)
    sub.record(torch.arange(64), torch.rand(64), predicted=labels)
    sub.step()
    sub.state_dict()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000
