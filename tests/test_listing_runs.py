"""``fallow list``: the runs in a folder, from their small files alone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fallow.cli.main import main
from fallow.errors import InvalidValue
from fallow.files.lock import RunLock, is_held
from fallow.runs.checkpoints import Checkpoints
from fallow.runs.listing import DEEPEST, list_runs

RUNS = Path(__file__).parent / "runs"
HOLD = """
import sys, time
from pathlib import Path
from fallow.files.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def put(name, folder, when):
    """Copy a run of the tests, last written to ``when`` seconds after 2026 began."""
    shutil.copytree(RUNS / name, folder)
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (1767225600 + when,) * 2)
    return folder


@pytest.fixture
def folder(tmp_path):
    """Two runs, one of them in a comparison, and things that are none."""
    put("finished", tmp_path / "comparisons" / "digits" / "runs" / "full-0", 60)
    put("stopped", tmp_path / "mine", 120)
    (tmp_path / "photos" / "history").mkdir(parents=True)
    (tmp_path / "photos" / "history" / "epoch-1.png").write_text("none")
    return tmp_path


def told(capsys, *words):
    capsys.readouterr()
    code = main([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_the_newest_first_with_what_they_reached(folder, capsys):
    first, second = list_runs(folder)
    assert (first.name, first.state, first.epochs_done, first.epochs) == ("mine", "stopped", 1, 4)
    assert (second.name, second.state) == ("comparisons/digits/runs/full-0", "finished")
    assert (second.data, second.policy, second.task) == ("digits", "soft", "image")
    said = json.loads((RUNS / "finished" / "summary.json").read_text())
    for name in ("accuracy", "test_loss", "saved_fraction"):
        assert getattr(second, name) == said[name]
    os.utime(folder / "mine" / "state" / "000002.json", (1767225600,) * 2)
    os.utime(folder / "mine" / "summary.json", (1767225600,) * 2)
    assert [run.name for run in list_runs(folder)] == [second.name, "mine"]
    code, found = told(capsys, "list", str(folder))
    assert code == 0
    assert found["runs"] == [run.to_dict() for run in list_runs(folder)]


def test_a_run_itself_is_a_list_of_one(folder):
    (run,) = list_runs(folder / "mine")
    assert (run.name, run.path) == ("mine", str(folder / "mine"))


def test_a_damaged_run_is_one_line(folder, capsys):
    other = put("finished", folder / "other", 180)
    (other / "summary.json").write_text('{"accuracy": 1.0, "epochs": [{}, {}, {}]}')
    states = {run.name: run for run in list_runs(folder)}
    assert states["other"].state == "damaged"
    assert "summary.json must be unchanged" in states["other"].damage
    assert {states["mine"].state, states["comparisons/digits/runs/full-0"].state} == {"stopped", "finished"}
    assert main(["list", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert any(line.startswith("other ") and "damaged" in line for line in shown.splitlines())
    assert f"fallow verify {other}" in shown


@pytest.mark.parametrize(
    "damage", ["a byte of the manifest", "the state is short", "the state is gone", "no state"]
)
def test_damage_that_small_files_show(tmp_path, damage):
    run = put("finished", tmp_path / "run", 0)
    checkpoints = Checkpoints(run)
    number = checkpoints.numbers()[-1]
    manifest, state = checkpoints.manifest_path(number), checkpoints.state_path(number)
    if damage == "a byte of the manifest":
        manifest.write_text(manifest.read_text().replace('"epoch": 3', '"epoch": 2'))
    elif damage == "the state is short":
        state.write_bytes(state.read_bytes()[:-1])
    elif damage == "the state is gone":
        state.unlink()
    else:
        shutil.rmtree(run / "state")
    assert [each.state for each in list_runs(tmp_path)] == ["damaged"]


@pytest.mark.parametrize("damage", ["is short", "is gone"])
@pytest.mark.parametrize("name", ["history/epoch-00001.safetensors", "data.safetensors"])
def test_a_file_whose_size_shows_damage_keeps_the_facts(tmp_path, name, damage):
    run = put("finished", tmp_path / "run", 0)
    (before,) = list_runs(tmp_path)
    (run / name).write_bytes(b"") if damage == "is short" else (run / name).unlink()
    (found,) = list_runs(tmp_path)
    assert name in found.damage
    assert {**found.to_dict(), "state": "finished", "damage": None} == before.to_dict()


def test_links_and_hidden_folders_are_not_followed(folder, tmp_path_factory):
    elsewhere = put("finished", tmp_path_factory.mktemp("elsewhere") / "run", 0)
    before = list_runs(folder)
    (folder / "link").symlink_to(elsewhere)
    (folder / "round").symlink_to(folder)
    shutil.copytree(elsewhere, folder / ".hidden" / "run")
    assert list_runs(folder) == before
    shutil.copytree(elsewhere, folder / "linked")
    (folder / "linked" / "summary.json").unlink()
    (folder / "linked" / "summary.json").symlink_to(elsewhere / "summary.json")
    assert {run.name: run.state for run in list_runs(folder)}["linked"] == "damaged"


def test_links_to_runs_are_named(folder, tmp_path_factory, capsys, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    put("finished", elsewhere / "run", 0)
    (elsewhere / "pictures").mkdir()
    (folder / "link").symlink_to(elsewhere / "run")
    (folder / "comparisons" / "more").symlink_to(elsewhere)
    (folder / "data").symlink_to(elsewhere / "pictures")
    (folder / "nowhere").symlink_to(folder / "none")
    (folder / ".hidden").symlink_to(elsewhere)
    before = list_runs(folder)
    assert told(capsys, "list", str(folder))[1]["links"] == ["comparisons/more", "link"]
    assert main(["list", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "Links are not followed: comparisons/more, link." in said
    assert f"as in fallow list {folder}/comparisons/more." in said
    assert list_runs(folder) == before
    assert [run.state for run in list_runs(folder / "link")] == ["finished"]
    monkeypatch.chdir(elsewhere)
    (elsewhere / "alone").mkdir()
    (elsewhere / "alone" / "link").symlink_to(elsewhere / "run")
    assert main(["list", "alone"]) == 0
    assert "Links are not followed: link." in capsys.readouterr().out


def test_not_deeper_than_six_folders(tmp_path):
    deep = tmp_path.joinpath(*"abcdefgh"[:DEEPEST])
    put("finished", deep, 0)
    assert len(list_runs(tmp_path)) == 1
    shutil.rmtree(tmp_path / "a")
    put("finished", deep / "more", 0)
    assert list_runs(tmp_path) == []


def test_a_summary_of_before_is_not_that_of_now(tmp_path):
    """A run that is resumed has more epochs than the summary that an earlier session left."""
    run = put("stopped", tmp_path / "run", 0)
    said = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(said | {"epochs": said["epochs"] * 2}))
    (listed,) = list_runs(tmp_path)
    assert (listed.state, listed.accuracy, listed.saved_fraction) == ("stopped", None, None)


def test_a_run_that_diverged(tmp_path):
    run = put("stopped", tmp_path / "run", 0)
    said = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(said | {"diverged": True}))
    assert [each.state for each in list_runs(tmp_path)] == ["diverged"]


def test_a_process_that_trains_is_seen_and_not_disturbed(tmp_path):
    run = put("stopped", tmp_path / "run", 0)
    with subprocess.Popen([sys.executable, "-c", HOLD, run], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        assert [each.state for each in list_runs(tmp_path)] == ["running"]
        holder.kill()
    assert (run / "lock").stat().st_size, "a killed process leaves its name"
    assert [each.state for each in list_runs(tmp_path)] == ["crashed"]


def test_a_lock_of_this_process_is_seen_and_kept(tmp_path):
    run = put("stopped", tmp_path / "run", 0)
    with RunLock(run):
        assert [each.state for each in list_runs(tmp_path)] == ["running"]
        code = "import sys; from pathlib import Path; from fallow.files.lock import is_held\n"
        code += "print(is_held(Path(sys.argv[1])))"
        words = [sys.executable, "-c", code, run]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert done.stdout == "True\n", "to look has released the lock"
    assert not is_held(run)


def test_a_run_that_has_just_begun(tmp_path):
    (tmp_path / "run" / "history").mkdir(parents=True)
    with RunLock(tmp_path / "run"):
        (run,) = list_runs(tmp_path)
    assert (run.state, run.data, run.epochs_done) == ("running", None, None)


def test_a_folder_without_runs_says_what_to_do(tmp_path, capsys, monkeypatch):
    assert main(["list", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert shown == (
        f"No run lies in {tmp_path}. Start one: fallow train --data digits. Or name another folder: "
        "fallow list FOLDER.\n"
    )
    assert told(capsys, "list", str(tmp_path)) == (0, {"folder": str(tmp_path), "runs": [], "links": []})
    monkeypatch.chdir(tmp_path)
    assert main(["list"]) == 0
    assert "No run lies in this folder." in capsys.readouterr().out
    assert main(["list", "nowhere"]) == 2
    assert "The folder of runs must exist. Found nowhere." in capsys.readouterr().err
    with pytest.raises(InvalidValue, match="must exist"):
        list_runs(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InvalidValue, match="Found a file, "):
        list_runs(tmp_path / "notes.txt")


def test_the_folder_runs_is_looked_into_first(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert len(told(capsys, "list")[1]["runs"]) == 2
    put("finished", folder / "runs" / "a", 0)
    assert [run["name"] for run in told(capsys, "list")[1]["runs"]] == ["a"]


def test_listing_reads_small_files_alone_and_loads_no_torch(folder):
    """Neither past epochs, nor data, nor weights: they may hold anything, and the list is the same."""
    before = list_runs(folder)
    for path in [
        *folder.rglob("history/*.safetensors"),
        *folder.rglob("data.safetensors"),
        *folder.rglob("model.*"),
    ]:
        path.write_bytes(bytes(path.stat().st_size))
    assert list_runs(folder) == before
    code = "import sys; from fallow.cli.main import main\nassert main(['list', sys.argv[1]]) == 0\n"
    code += "print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert done.stderr == "False\n"


def test_names_that_a_terminal_would_obey_are_escaped(folder, capsys):
    shutil.copytree(RUNS / "stopped", folder / "a\x1b[2Jb\nc")
    assert main(["list", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "a\\u001b[2Jb\\u000ac" in shown
