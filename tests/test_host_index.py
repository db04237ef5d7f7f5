"""The index of a batch stays on the host, and is a plain tensor as soon as one computes with it."""

import copy
import pickle

import pytest
import torch

from fallow.core.host_index import HostIndex
from fallow.core.loading import IndexedCollate


@pytest.fixture
def index():
    return IndexedCollate(list)(([5, 2, 9], [1, 2, 3]))[0]


def test_the_index_is_not_moved(index):
    assert type(index) is HostIndex
    assert index.dtype == torch.int64
    assert index.tolist() == [5, 2, 9]
    assert index.to("meta") is index
    assert index.to(device="meta", non_blocking=True) is index
    assert index.cuda() is index
    assert index.pin_memory() is index


def test_a_default_device_does_not_move_the_index():
    with torch.device("meta"):
        found, _ = IndexedCollate(list)(([1, 2], ["a", "b"]))
    assert found.device.type == "cpu"


@pytest.mark.parametrize("through", [copy.copy, copy.deepcopy, lambda i: pickle.loads(pickle.dumps(i))])
def test_the_index_survives_copies(index, through):
    copied = through({"index": index})["index"]
    assert type(copied) is HostIndex
    assert copied.to("meta") is copied
    assert torch.equal(copied, index)


def test_a_deep_copy_is_one_copy_and_its_own(index):
    first, second = copy.deepcopy([index, index])
    assert first is second
    first[0] = 77
    assert index[0] == 5


@pytest.mark.parametrize(
    "compute", [lambda i: i + 1, lambda i: i[:2], lambda i: i.clone(), lambda i: torch.cat([i, i])]
)
def test_what_is_computed_from_the_index_is_a_plain_tensor(index, compute):
    assert type(compute(index)) is torch.Tensor
    assert compute(index).to("meta").device.type == "meta"


def test_pinning_leaves_the_index_alone(index):
    from torch.utils.data._utils.pin_memory import pin_memory

    assert pin_memory({"index": index, "text": "a"})["index"] is index
