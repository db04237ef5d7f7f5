"""Where modules are imported from: what is known as a run, and what is left of an import path without it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fallow
from fallow.import_path import is_inside, run_around, without_runs


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    "names",
    [
        ("config.yaml", "environment.json", "lock"),
        ("config.yaml", "data.safetensors", "SHA256SUMS"),
        ("state/000012.json",),
        ("history/epoch-00000.safetensors",),
        ("compare.json", "runs/x"),
    ],
)
def test_a_run_is_known_by_its_files_and_all_that_lies_in_it_is_in_it(tmp_path, names):
    run = touch(tmp_path / "run", *names, "deep/er/own.py")
    for path in (
        run,
        run / "config.yaml",
        run / "deep" / "er" / "own.py",
        f"{run}/not/there",
        f"{run}/deep/..",
    ):
        assert run_around(path) == str(run)
    assert run_around(tmp_path) is None
    (tmp_path / "link").symlink_to(run / "deep")
    assert run_around(tmp_path / "link" / "er") == str(run)


@pytest.mark.parametrize(
    "names",
    [
        ("config.yaml", "own.py", "model.safetensors"),
        ("state/notes.json", "history/log.txt"),
        ("summary.json", "model.safetensors"),
    ],
)
def test_a_folder_of_one_s_own_is_no_run(tmp_path, names):
    assert run_around(touch(tmp_path, *names)) is None


def test_names_that_are_no_paths(tmp_path):
    assert run_around("\0") is None
    assert run_around("") is None or run_around(os.getcwd()) is not None


def test_what_is_left_of_an_import_path(tmp_path, monkeypatch):
    run = touch(tmp_path / "run", "state/000001.json")
    (tmp_path / "work").mkdir()
    every = ["", str(tmp_path), str(run), str(run / "state"), "/not/there"]
    monkeypatch.chdir(run)
    assert without_runs(every) == [str(tmp_path), "/not/there"]
    monkeypatch.chdir(tmp_path / "work")
    assert without_runs(every) == ["", str(tmp_path), "/not/there"]
    assert is_inside(run / "state", run)
    assert is_inside("../run", run)
    assert not is_inside(f"{run}s", run)


TELLS = "import sys, fallow; print(repr(sys.path[:2]))"


def test_a_program_that_imports_fallow_keeps_its_path(tmp_path):
    touch(tmp_path, "state/000001.json")
    env = {**os.environ, "PYTHONPATH": str(Path(fallow.__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-c", TELLS], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.stdout.startswith("['', ")


@pytest.mark.parametrize("words", [["-m", "fallow"], ["-mfallow"], ["-B", "-m", "fallow.__main__"]])
def test_the_command_has_no_working_folder_on_its_path(tmp_path, words):
    (tmp_path / "yaml.py").write_text("raise SystemExit('yaml of the working folder')")
    (tmp_path / "typing.py").write_text("raise SystemExit('typing of the working folder')")
    env = {**os.environ, "PYTHONPATH": str(Path(fallow.__file__).parent.parent)}
    words = [sys.executable, *words, "train", "--data", "digits", "--print_config"]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "data: digits" in done.stdout
