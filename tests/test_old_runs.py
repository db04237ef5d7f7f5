"""Runs that an earlier version left behind stay readable, sound and resumable."""

import json
import shutil
from pathlib import Path

import pytest

from fallow.cli.main import main

RUNS = Path(__file__).parent / "runs"


@pytest.fixture(params=["finished", "stopped"])
def run(request, tmp_path, monkeypatch):
    """A copy of a run of 56 digits: one of 3 epochs, one stopped in the second of 4."""
    shutil.copytree(RUNS / request.param, tmp_path / request.param)
    monkeypatch.chdir(tmp_path)
    return Path(request.param)


def test_it_is_read(run, capsys):
    assert main(["verify", str(run)]) == 0
    assert main(["report", str(run)]) == 0
    assert "56" in (run / "report.html").read_text()
    assert main(["inspect", str(run), "3"]) == 0
    assert main(["export", str(run), "--format", "csv"]) == 0
    assert "3" in capsys.readouterr().out


def test_it_goes_on(run, capsys):
    before = {path.name: path.read_bytes() for path in (run / "history").glob("epoch-*")}
    # Parts of its rule were removed.
    words = ["--accept", "policy,epochs", *([] if run.name == "stopped" else ["--epochs", "4"])]
    assert main(["train", "--resume", str(run), "--model", "old_parts:Net", *words]) == 0
    inside = "Resuming in epoch 2 of 4, after 16 of its 32 samples"
    assert (inside if run.name == "stopped" else "Resuming in epoch 4 of 4") in capsys.readouterr().out
    for name, data in before.items():
        assert (run / "history" / name).read_bytes() == data
    summary = json.loads((run / "summary.json").read_text())
    assert summary["finished"]
    assert len(summary["epochs"]) == 4
    assert sum(row["samples_backward"] for row in summary["epochs"]) == summary["samples_backward"]
    assert main(["verify", str(run)]) == 0


def test_its_steps_stay_dropped(run):
    words = ["--accept", "policy,epochs", "--policy", "fraction"]
    words += [] if run.name == "stopped" else ["--epochs", "4"]
    assert main(["train", "--resume", str(run), "--model", "old_parts:Net", *words]) == 0
    assert "kept_steps: false" in (run / "config.yaml").read_text()
