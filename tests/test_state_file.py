"""Nested states come back as they were, to the bit, and nothing else is taken."""

import json
import math
from collections import Counter, OrderedDict
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from fallow.errors import DamagedData, InvalidType
from fallow.files.state_file import KEY, dump, parse

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(-3, 3), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(plain)
def test_plain_values_come_back(tree):
    assert repr(parse(dump(tree), "state")) == repr(tree)


DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.uint8,
          torch.uint16, torch.bool, torch.complex64]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)], ids=str)
def test_tensors_come_back_to_the_bit(dtype, shape):
    tensor = (torch.randn(shape) * 3).to(dtype)
    found = parse(dump({"a": [tensor]}), "state")["a"][0]
    assert found.dtype == dtype
    assert torch.equal(found, tensor)


def test_tensors_that_share_memory_and_views_come_back_each():
    weight = torch.arange(12.0).reshape(3, 4)
    tree = {"tied": weight, "twin": weight, "row": weight[1], "turned": weight.T}
    found = parse(dump(tree), "state")
    for name, tensor in tree.items():
        assert torch.equal(found[name], tensor)
    found["tied"][0] = -1
    assert torch.equal(found["twin"], weight)


def test_arrays_counters_and_keys_that_look_like_marks():
    tree = {
        "array": np.arange(3, dtype=np.uint16),
        "fixed": np.frombuffer(b"abc", np.uint8),
        "counter": Counter({3: 2}),
        "number": np.float32(2.5),
        "~tensor": 1,
        "a/b": torch.zeros(1),
        "a": {"b": torch.ones(1)},
        5: {(1, 2): "x"},
        "order": OrderedDict([("z", 1), ("y", 2)]),
    }
    found = parse(dump(tree), "state")
    assert found["array"].dtype == np.uint16
    assert found["array"].tolist() == [0, 1, 2]
    assert found["fixed"].tolist() == [97, 98, 99]
    assert found["counter"] == Counter({3: 2})
    assert isinstance(found["counter"], Counter)
    assert (found["number"], found["~tensor"], found[5]) == (2.5, 1, {(1, 2): "x"})
    assert (found["a/b"].item(), found["a"]["b"].item()) == (0, 1)
    assert list(found["order"]) == ["z", "y"]


def test_optimizers_and_schedules_come_back():
    weight = torch.nn.Parameter(torch.randn(3))
    optimizer = torch.optim.Adam([weight], 0.1)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 5])
    for _ in range(3):
        weight.sum().backward()
        optimizer.step()
        schedule.step()
    found = parse(dump([optimizer.state_dict(), schedule.state_dict()]), "state")
    other = torch.optim.Adam([torch.nn.Parameter(torch.randn(3))], 0.1)
    other.load_state_dict(found[0])
    assert repr(other.state_dict()) == repr(optimizer.state_dict())
    assert found[1] == schedule.state_dict()


@pytest.mark.parametrize(
    ("tree", "place"),
    [
        ({"a": {"b": lambda: 1}}, "function at /a/b"),
        ([torch.device("cpu")], "device at /0"),
        (object(), "object at the top"),
        ({"x": {3, 4}}, "set at /x"),
        ({"x": b"bytes"}, "bytes at /x"),
        ({"x": np.array(["text"])}, "<U4 at /x"),
    ],
)
def test_what_needs_code_to_come_back_is_refused_by_its_place(tree, place):
    with pytest.raises(InvalidType) as refused:
        dump(tree)
    assert place in str(refused.value)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_damaged_bytes_never_do_worse_than_an_error(data):
    """Most changes are found by the checksum in the manifest; here they must not crash or run anything."""
    raw = bytearray(dump({"a": torch.arange(5), "b": [1.5, {"c": (2,)}], 3: math.inf}))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))]
    with suppress(DamagedData):
        parse(bytes(raw), "state 3")


HOSTILE = {
    "nothing": b"",
    "a pickle that would run": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",
    "a header of 2^63 bytes": (2**63 - 1).to_bytes(8, "little") + b"{}",
    "deep": save(
        {"x": torch.zeros(1)}, metadata={KEY: '{"format": "fallow-state-1", "tree": ' + "[" * 50_000}
    ),
    "no tree": save({"x": torch.zeros(1)}),
    "a tensor that is not there": save(
        {"x": torch.zeros(1)},
        metadata={KEY: json.dumps({"format": "fallow-state-1", "tree": {"~tensor": "y"}})},
    ),
    "a list for a name": save(
        {"x": torch.zeros(1)},
        metadata={KEY: json.dumps({"format": "fallow-state-1", "tree": {"~tensor": ["x"]}})},
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_foreign_files_are_refused(kind):
    with pytest.raises(DamagedData, match="state 3 must be"):
        parse(HOSTILE[kind], "state 3")


def test_a_newer_format_says_so():
    raw = save({"x": torch.zeros(1)}, metadata={KEY: json.dumps({"format": "fallow-state-9", "tree": 1})})
    with pytest.raises(DamagedData, match=r"format fallow-state-1\. Found fallow-state-9"):
        parse(raw, "state")
