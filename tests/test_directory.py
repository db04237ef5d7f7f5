"""The run directory: whole files or none, and clear words about damaged ones."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import fallow
from fallow.runs.directory import DamagedData, RunDirectory
from fallow.runs.epoch_file import EpochFile


@pytest.fixture
def epoch():
    subsampler = fallow.Subsampler(10, fallow.Threshold(low="auto"), fallow.Schedule(epochs=2))
    for _ in range(2):
        kept = subsampler.order()[:]
        subsampler.record(torch.as_tensor(kept), torch.linspace(0, 1, 10)[kept])
        subsampler.step()
    record = replace(subsampler.history[1], epoch=0)
    assert record.notes == {"low": 0.05}
    return EpochFile(record, subsampler.scores.numpy(), np.zeros(10, np.uint8))


@pytest.fixture
def run(tmp_path):
    with RunDirectory.create(tmp_path / "run") as made:
        yield made


def test_an_epoch_comes_back_as_it_was(run, epoch):
    run.write_epoch(epoch)
    again = run.read_epoch(0)
    assert run.epochs() == [0]
    assert np.array_equal(again.scores, epoch.scores)
    assert again.record.aggregates() == {**epoch.record.aggregates(), "record_seconds": 0.0}
    assert torch.equal(again.record.used, epoch.record.used)


@pytest.mark.parametrize("cut", [0, 7, 60, -1])
def test_a_file_cut_short_is_named(run, epoch, cut):
    run.write_epoch(epoch)
    path = run.epoch_path(0)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DamagedData, match=path.name):
        run.read_epoch(0)


def test_a_missing_or_foreign_epoch_is_named(run):
    from safetensors.numpy import save_file

    with pytest.raises(DamagedData, match="epoch-00003"):
        run.read_epoch(3)
    save_file({"x": np.zeros(3)}, run.epoch_path(0))
    with pytest.raises(DamagedData, match="format fallow-epoch-1"):
        run.read_epoch(0)


def test_a_folder_in_use_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(fallow.FallowError, match="other files"):
        RunDirectory.create(tmp_path)
    file = tmp_path / "notes.txt"
    with pytest.raises(fallow.FallowError, match="writable"):
        RunDirectory.create(file / "run")


def test_numbers_that_json_cannot_hold_become_null(run):
    run.write_summary({"accuracy": float("nan"), "epochs": [{"loss": float("inf"), "n": 3}]})
    assert json.loads(run.summary_path.read_text()) == {"accuracy": None, "epochs": [{"loss": None, "n": 3}]}
