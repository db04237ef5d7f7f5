"""A run whose saved state holds what no training leaves is refused before anything trains: exit code 3."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from crafted import newest, reseal
from fallow.cli.main import main
from fallow.files.state_file import dump, parse
from fallow.runs.checkpoints import Checkpoints

RUNS = Path(__file__).parent / "runs"
NAN = float("nan")
OURS = ("callbacks", "SubsamplingCallback", "subsampler")
KEEPER, WRITER = ("callbacks", "Keeper"), ("callbacks", "EpochWriter")
GONE = object()
MOMENTUM = ("optimizer_states", 0)

CHANGES = {
    "a history in the subsampler": ((*OURS, "history"), [1]),
    "readmitted of 10^30": ((*OURS, "plan", "readmitted"), 10**30),
    "negative weights": ((*OURS, "plan", "weights"), -torch.ones(56)),
    "measured as text": ((*OURS, "measured"), "x"),
    "recorded of another number": ((*OURS, "table", "recorded"), 17),
    "an unknown name in the table": ((*OURS, "table", "x"), 1),
    "a part of one rank": (
        (*OURS, "part"),
        {"rank_and_size": [0, 2], "recorded": 0, "resumed": None, "shared_repeats": 0},
    ),
    "an unknown part beside the subsampler": (("callbacks", "SubsamplingCallback", "watch"), {}),
    "no subsampler": (OURS, GONE),
    "steps as text": ((*KEEPER, "steps"), "x"),
    "other steps": ((*KEEPER, "steps"), 10),
    "record_seconds as text": ((*KEEPER, "record_seconds"), ["x"]),
    "record_seconds not numbers": ((*KEEPER, "record_seconds"), [NAN]),
    "no record_seconds": ((*KEEPER, "record_seconds"), []),
    "evaluated below 0": ((*KEEPER, "evaluated"), -1),
    "evaluated as text": ((*KEEPER, "evaluated"), "many"),
    "seconds as text": ((*KEEPER, "seconds"), ("x", 0.0)),
    "seconds not numbers": ((*KEEPER, "seconds"), (NAN, 0.0)),
    "seconds as one number": ((*KEEPER, "seconds"), 1.0),
    "no generators": ((*KEEPER, "generators"), []),
    "generators as text": ((*KEEPER, "generators"), ["x"]),
    "generators of something else": ((*KEEPER, "generators"), [np.frombuffer(dump({"a": 1}), np.uint8)]),
    "an unknown name in the keeper": ((*KEEPER, "x"), 1),
    "no keeper": (KEEPER, GONE),
    "a stopwatch of text": (("callbacks", "Stopwatch", "epoch"), ("a", 0.0, 0.0)),
    "a stopwatch below 0": (("callbacks", "Stopwatch", "epoch"), (-1.0, 0.0, 0.0)),
    "no stopwatch": (("callbacks", "Stopwatch"), GONE),
    "no row of an epoch": ((*WRITER, "epochs"), []),
    "a row without its samples": ((*WRITER, "epochs", 0, "samples_backward"), GONE),
    "a row of text": ((*WRITER, "epochs", 0, "seconds"), "x"),
    "a row of another epoch": ((*WRITER, "epochs", 0, "epoch"), 5),
    "a metric as text": ((*WRITER, "metrics"), {"test_loss": "x"}),
    "pending as numbers": ((*WRITER, "pending"), [1]),
    "pending of floats": ((*WRITER, "pending"), [np.zeros(3)]),
    "no writer": (WRITER, GONE),
    "callbacks as a list": (("callbacks",), []),
    "no callbacks": (("callbacks",), GONE),
    "no optimizer": (("optimizer_states",), []),
    "no optimizer states": (("optimizer_states",), GONE),
    "one optimizer too many": (("optimizer_states",), [{"state": {}, "param_groups": []}] * 2),
    "an optimizer without momentum": ((*MOMENTUM, "state"), {}),
    "a momentum of another shape": ((*MOMENTUM, "state", 0, "momentum_buffer"), torch.zeros(3)),
    "a momentum as text": ((*MOMENTUM, "state", 0, "momentum_buffer"), "x"),
    "an optimizer of fewer weights": ((*MOMENTUM, "param_groups", 0, "params"), [0]),
    "an optimizer with momentum as text": ((*MOMENTUM, "param_groups", 0, "momentum"), "x"),
    "no groups": ((*MOMENTUM, "param_groups"), GONE),
    "a schedule too many": (("lr_schedulers",), [{}]),
    "no schedules": (("lr_schedulers",), GONE),
    "no loops": (("loops",), GONE),
    "loops of nothing": (("loops",), {}),
    "loops of text": (("loops", "fit_loop", "epoch_loop.state_dict", "_batches_that_stepped"), "x"),
    "no weights": (("state_dict",), {}),
    "no state_dict": (("state_dict",), GONE),
    "weights of another shape": (("state_dict", "mean"), torch.zeros(7)),
    "a step as text": (("global_step",), "x"),
    "done as text": (("image_task", "done"), "x"),
    "no place in the epoch": (("image_task",), GONE),
    "class accuracy above 1": (("image_task", "class_accuracy"), torch.tensor([[5], [3]])),
    "nothing at all": ((), []),
}


def put(run, change):
    """Change the newest state of a run, and make all checksums right again."""
    path, value = change
    file = Checkpoints(run).state_path(newest(run).number)
    state = place = parse(file.read_bytes(), "it")
    for name in path[:-1]:
        place = place[name]
    if not path:
        state = value
    elif value is GONE:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    file.write_bytes(dump(state))
    reseal(run)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of an earlier version, stopped in its second epoch."""
    shutil.copytree(RUNS / "stopped", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


RESUME = ["train", "--resume", "run", "--model", "old_parts:Net", "--accept", "policy"]


@pytest.mark.parametrize("name", CHANGES)
def test_what_no_training_leaves_is_damage_and_nothing_trains(name, run, capsys):
    put(run, CHANGES[name])
    before = {path: path.read_bytes() for path in run.rglob("*.safetensors")}
    assert main(RESUME) == 3
    said = capsys.readouterr().err
    assert said.startswith("fallow: error: ")
    assert "Found " in said
    assert said.count("\n") == 1
    assert {path: path.read_bytes() for path in run.rglob("*.safetensors")} == before


@pytest.mark.parametrize("name", ["steps as text", "no row of an epoch", "evaluated as text", "no weights"])
def test_a_finished_run_is_refused_too(name, tmp_path, monkeypatch, capsys):
    shutil.copytree(RUNS / "finished", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "run", CHANGES[name])
    assert main(RESUME) == 3
    assert "Found " in capsys.readouterr().err


def test_an_untouched_state_goes_on(run):
    put(run, (("callbacks", "Stopwatch", "epoch"), (0.0, 0.0, 0.0)))
    assert main(RESUME) == 0
