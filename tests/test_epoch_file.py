"""The file of an epoch: every change is found, or tells nothing else than before."""

import hashlib
import json
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from safetensors.numpy import load, save

import fallow
from fallow.errors import DamagedData
from fallow.runs.epoch_file import EpochFile
from test_checkpoints import mutated


def made(n=21, epochs=2):
    subsampler = fallow.Subsampler(n, fallow.Fraction(0.4), fallow.Schedule(epochs=epochs))
    for _ in range(epochs):
        kept = torch.as_tensor(subsampler.order()[:])
        subsampler.record(kept, torch.linspace(0, 2, n)[kept])
        reason = subsampler.reason.numpy()
        subsampler.step()
    return EpochFile(subsampler.history[-1], subsampler.scores.numpy(), reason)


def test_equal_epochs_give_equal_bytes():
    assert made().dump() == made().dump()


FILE = made()
DATA = FILE.dump()


def check_changed(data):
    """Its digest lies in a manifest, and finds all changes; its structure finds most, and none crashes."""
    found = None
    with suppress(DamagedData):
        found = EpochFile.parse(data, "epoch 1", 1)
    if found is not None:
        assert data == DATA or hashlib.sha256(data).digest() != hashlib.sha256(DATA).digest()
        assert found.record.n == len(found.scores) == len(found.reason)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated(DATA))
def test_a_changed_file_is_refused_or_told_by_its_checksum(data):
    check_changed(data)


@pytest.mark.slow
@settings(max_examples=2500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated(DATA))
def test_two_thousand_changed_files(data):
    check_changed(data)


def changed(**arrays):
    header = json.loads(DATA[8 : 8 + int.from_bytes(DATA[:8], "little")])["__metadata__"]["fallow"]
    return save({**load(DATA), **arrays}, metadata={"fallow": header})


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"score": np.zeros(20, np.float32)}, r"must hold `score`, float32 \(21,\)"),
        ({"score": np.zeros(21)}, r"must hold `score`, float32"),
        ({"reason": np.full(21, 9, np.uint8)}, r"must hold reasons below 5\. Found 9"),
        ({"used": np.zeros(3, np.uint8)}, r"must have used 13 samples\. Found 0"),
        ({"used": np.zeros(4, np.uint8)}, r"must hold `used`, uint8 \(3,\)"),
    ],
)
def test_parts_that_do_not_fit_are_named(arrays, words):
    with pytest.raises(DamagedData, match=words):
        EpochFile.parse(changed(**arrays), "epoch 1", 1)


def test_the_file_of_another_epoch_is_refused(tmp_path):
    with pytest.raises(DamagedData, match=r"must hold epoch number 7, from 0\. Found number 1"):
        EpochFile.parse(DATA, "epoch-00007", 7)
    with pytest.raises(DamagedData, match="must be there"):
        EpochFile.read(tmp_path / "epoch-00001.safetensors", 1)
