"""Crafted runs: every command that reads one ends in one line and an exit code, and touches nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from crafted import CANARY, CODE, CRAFTS, kinds, make_honest, snapshot
from fallow.cli.main import main

READING = {
    "report": ["report", "run"],
    "verify": ["verify", "run"],
    "inspect": ["inspect", "run", "3"],
    "export": ["export", "run", "--format", "csv"],
}
SLOW = ("1 GB", "100 MB", "10 MB", "20 MB", "9 MB", "a million")


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A finished run of two epochs on 64 digits."""
    return make_honest(tmp_path_factory.mktemp("honest"))


@pytest.fixture
def place(honest, tmp_path, monkeypatch):
    """A folder with a copy of the run, something of somebody else's, and foreign code."""
    shutil.copytree(honest, tmp_path / "run")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "foreign.txt").write_text("somebody else's")
    (tmp_path / "canary_module.py").write_text(CODE)
    monkeypatch.setenv("FALLOW_CANARY", str(tmp_path / CANARY))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def opened(place, craft, command, capsys):
    """Open a crafted run with a command, and check what holds for each; return code and output."""
    CRAFTS[craft](place / "run")
    outside = snapshot(place / "outside")
    code = main(READING[command])
    said = "".join(capsys.readouterr())
    assert code in (0, 1, 2, 3)
    assert "Traceback" not in said
    assert "\x1b[31m" not in said
    assert "\u202e" not in said
    assert not (place / CANARY).exists()
    assert snapshot(place / "outside") == outside
    return code, said


QUICK = [name for name in CRAFTS if not any(word in name for word in SLOW)]


@pytest.mark.parametrize(("place_of", "craft"), list(enumerate(QUICK))[::5])
def test_a_fifth_of_the_crafts_by_one_command_each(place_of, craft, place, capsys):
    opened(place, craft, list(READING)[place_of // 5 % len(READING)], capsys)


@pytest.mark.slow
@pytest.mark.parametrize("command", READING)
@pytest.mark.parametrize("craft", CRAFTS)
def test_every_craft_by_every_reading_command(craft, command, place, capsys):
    opened(place, craft, command, capsys)


@pytest.mark.parametrize(
    "craft",
    [
        "manifest: epoch of 10^10",
        "manifest: epoch as text",
        "manifest: none at all",
        "manifest: files outside of the run",
        "epoch: n of 10^12",
        "epoch: notes of text",
        "epoch: scores infinite",
        "data: labels of 2^31",
        "shown: epoch as text",
        "gaps: lists that are none",
        "config: YAML that multiplies",
        "sums: paths outside",
        "summary: numbers of 400 digits",
        "in place of: lock, a link out",
        "in place of: SHA256SUMS, a FIFO",
        "in place of: data.safetensors, a sparse file of 256 GB",
        "folder: history is a link out",
    ],
)
def test_verify_finds_a_fault(craft, place, capsys):
    code, said = opened(place, craft, "verify", capsys)
    assert code == 3
    assert "Damaged:" in said or "fallow: error:" in said


def test_there_are_enough_of_each_kind():
    assert len(CRAFTS) >= 150
    assert len(kinds()) >= 10
    assert min(kinds().values()) >= 3


@pytest.mark.slow
def test_every_craft_by_every_command(tmp_path):
    """Time and memory too: those commands that train, in processes of their own."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.crafted_runs",
        "--commands",
        "resume,resume longer,in the run",
    ]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
