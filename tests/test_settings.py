"""The settings of a run: whole, the same when they are read back, and no obstacle to going on."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from msgspec import structs
from PIL import Image

from fallow.comparison.options import CompareOptions
from fallow.comparison.running import make_course
from fallow.errors import InvalidValue
from fallow.options.checks import check
from fallow.options.resume_options import stored_options
from fallow.options.train_options import NOTED_OPTIONS, TrainOptions
from fallow.report.facts import settings
from fallow.report.source import Source
from fallow.runs.checkpoints import Checkpoints
from fallow.runs.directory import RunDirectory
from fallow.runs.run_files import RunFiles
from fallow.runs.verify import verify
from fallow.training.jobs import build
from fallow.training.session import Session
from fallow.training.settings import config_text, opening
from fallow.training.train import train
from told_console import Told

CPU = {"accelerator": "cpu"}
BASE = {"data": "digits", "samples": 128, "epochs": 2, **CPU}


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of images and a table of texts."""
    folder = tmp_path_factory.mktemp("data")
    draw = np.random.default_rng(0)
    for name in ("ash", "birch"):
        (folder / "pictures" / name).mkdir(parents=True)
        for place in range(8):
            pixels = draw.integers(0, 256, (9, 9, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / name / f"{place}.png")
    with (folder / "d.csv").open("w", newline="") as file:
        rows = [("text", "label"), *((f"word{i % 7} word{i % 3}", "ab"[i % 2]) for i in range(40))]
        csv.writer(file).writerows(rows)
    (folder / "play.txt").write_text("To be, or not to be: that is the question.\n" * 60)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of defaults, and what it printed."""
    run, console = tmp_path_factory.mktemp("trained") / "run", Told()
    train(TrainOptions(**BASE, out=str(run)), console)
    return run, console.said


def session_of(options, folder):
    """A session as ``fallow train`` makes it, before it trains."""
    job = build(check(TrainOptions(**options)), Told())
    return Session(job.options, job, RunDirectory(folder), Told())


KINDS = {
    "images": {"data": "digits"},
    "full": {"data": "digits", "policy": "full", "epochs": 3},
    "threshold": {"data": "digits", "policy": "threshold", "high": "auto"},
    "rows chosen": {"data": "digits", "policy": "selective-backprop"},
    "reconstructing": {"data": "digits", "task": "autoencoder"},
    "by density": {"data": "digits", "score": "density", "augment": "crop"},
    "own network": {"data": "digits", "model": "resumed_parts:Dropping"},
    "own data": {"data": "resumed_parts:Data", "model": "resumed_parts:Module"},
    "a folder": {"data": "pictures"},
    "a table": {"data": "d.csv"},
    "bytes": {"data": "d.csv", "tokenizer": "byte", "max_tokens": 20, "batch_size": 8},
    "a play": {"data": "play.txt", "vocabulary": 300},
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_back_and_means_the_same(data, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(data)
    options = KINDS[kind] | CPU
    first = session_of(options, tmp_path / "a")
    read = yaml.safe_load(config_text(first.options, first.settings))
    for name in ("epochs", "batch_size"):
        assert isinstance(read[name], int), name
    assert ("learning_rate" in read) == (kind != "own data")
    assert all(read[name] == value for name, value in options.items() if value != "auto")
    again = session_of(read, tmp_path / "b")
    by_default = first.settings["by_default"]
    chosen = {name for name in NOTED_OPTIONS if read.get(name, "auto") != "auto"}
    assert by_default == sorted(chosen - options.keys())
    assert by_default
    assert again.settings == first.settings | {"by_default": []}
    assert yaml.safe_load(config_text(again.options, again.settings)) == read


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [("images", "epochs", 30), ("images", "batch_size", 64), ("images", "learning_rate", 0.075),
     ("images", "augment", "none"), ("a folder", "image_size", 9), ("a folder", "augment", "crop"),
     ("a table", "label", "label"), ("a table", "vocabulary", 16_000), ("bytes", "learning_rate", 2e-3),
     ("a play", "max_tokens", 128), ("a play", "learning_rate", 6e-3), ("own data", "batch_size", 40)],
)  # fmt: skip
def test_a_default_stands_there_as_it_is_used(data, tmp_path, monkeypatch, kind, option, value):
    monkeypatch.chdir(data)
    session = session_of(KINDS[kind] | CPU, tmp_path / "run")
    assert getattr(session.options, option) == value
    assert option in session.settings["by_default"]


def test_the_opening_says_what_on_what_how_where(data, tmp_path, monkeypatch):
    monkeypatch.chdir(data)
    pictures = dict(opening(session_of(KINDS["a folder"] | CPU, tmp_path / "a").settings, "runs/a"))
    assert pictures["Data"] == "pictures: 12 images of 9 × 9 pixels, 2 classes, 4 test images"
    assert pictures["Run"] == "runs/a"
    assert pictures["Training"].startswith("20 epochs, batch size 64, learning rate 0.075 by SGD")
    assert pictures["Device"].startswith("cpu, 1 thread") or " threads" in pictures["Device"]
    full = dict(opening(session_of(KINDS["full"] | CPU, tmp_path / "b").settings, "b"))
    assert full["Policy"] == "full: no sample is left out"
    assert "Schedule" not in full
    rule = dict(opening(session_of(KINDS["threshold"] | CPU, tmp_path / "c").settings, "c"))
    assert rule["Policy"] == "threshold: low 0.1, high auto, visits 3"
    assert "all come back in every 5th epoch, the last 10% of the epochs are full" in rule["Schedule"]
    play = dict(opening(session_of(KINDS["a play"] | CPU, tmp_path / "d").settings, "d"))
    assert "windows of 128 tokens" in play["Data"]
    assert "1 test window," in play["Data"]


def test_one_run_says_the_same_everywhere(trained):
    run, said = trained
    told = json.loads((run / "summary.json").read_text())["settings"]
    config = (run / "config.yaml").read_text()
    assert (told["epochs"], told["batch_size"], told["learning_rate"]) == (2, 64, 0.075)
    assert (told["samples"], told["test_samples"], told["classes"], told["device"]) == (128, 360, 10, "cpu")
    assert (told["policy"]["name"], told["policy"]["error"]) == ("error-mass", 0.15)
    options = yaml.safe_load(config)
    assert (options["epochs"], options["batch_size"], options["learning_rate"]) == (2, 64, 0.075)
    for line in ("#   test_samples: 360", "#   classes: 10", "#   device: cpu", "#   image_size: [8, 8]"):
        assert line in config.splitlines()
    sessions = json.loads((run / "environment.json").read_text())["sessions"]
    assert [session["device"] for session in sessions] == ["cpu"]
    first = "\n".join(said[:9])
    for part in ("128 images of 8 × 8", "10 classes", "360 test images", "2 epochs", "batch size 64",
                 "learning rate 0.075", "weight decay 0.0005", "seed 0", "cpu", str(run)):  # fmt: skip
        assert part in first
    assert not verify(RunFiles(run)).remarks


def test_the_epochs_of_warm_up_are_those_that_there_were(trained, tmp_path):
    """The policy needs two, and the option asks for at least one: reports and pages show what was done."""
    run, said = trained
    assert "the first 2 epochs are full" in "\n".join(said)
    assert "warmup: 2, readmit" in (run / "config.yaml").read_text()
    summary = json.loads((run / "summary.json").read_text())
    assert "warmup=2," in summary["schedule"]
    assert summary["settings"]["schedule"]["warmup"] == 2
    assert [record.learned for record in RunFiles(run).history] == [0, 0]
    rows = dict(settings(Source(RunFiles(run))))
    assert rows["--warmup"] == "2"
    assert "warmup=2," in rows["schedule in full"]
    shutil.copytree(run, tmp_path / "trains", ignore=shutil.ignore_patterns("summary.json", "SHA256SUMS"))
    assert dict(settings(Source(RunFiles(tmp_path / "trains"))))["--warmup"] == "1 or more"


def test_stored_options_are_those_that_were_given(trained):
    run, _ = trained
    stored = stored_options(str(run))
    assert stored["epochs"] == 2
    assert "batch_size" not in stored
    assert RunFiles(run).options["batch_size"] == 64


def of_before(run, folder):
    """The run as a version wrote it that kept no default: the manifests say what was given alone."""
    shutil.copytree(run, folder)
    checkpoints = Checkpoints(folder)
    made = checkpoints.newest().found
    state = checkpoints.state_path(made.number).read_bytes()
    about = made.about
    given = {k: v for k, v in about.options.items() if k not in about.defaults} | {"augment": "auto"}
    needs = {name: digest for name, digest in made.files.items() if not name.startswith("state/")}
    shutil.rmtree(folder / "state")
    Checkpoints(folder).write(state, structs.replace(about, options=given, defaults=[]), needs)
    (folder / "SHA256SUMS").unlink()
    (folder / "config.yaml").write_text(yaml.safe_dump(given))
    return folder


def test_a_run_that_kept_no_defaults_goes_on(trained, tmp_path):
    run = of_before(trained[0], tmp_path / "run")
    stored = stored_options(str(run))
    train(TrainOptions(**{**stored, "resume": str(run), "epochs": 3, "accept": "epochs"}), Told())
    told = json.loads((run / "summary.json").read_text())
    assert len(told["epochs"]) == 3
    assert told["settings"]["by_default"] == ["augment", "batch_size", "learning_rate", "model"]
    assert yaml.safe_load((run / "config.yaml").read_text())["learning_rate"] == 0.075


def test_a_default_that_hangs_on_an_option_follows_it_when_a_run_goes_on(trained, tmp_path):
    run = Path(shutil.copytree(trained[0], tmp_path / "run"))
    changed = {"resume": str(run), "batch_size": 128, "epochs": 3, "accept": "batch_size,epochs"}
    with pytest.raises(InvalidValue, match="--batch_size must be what the run was started with: not set"):
        train(TrainOptions(**{**stored_options(str(run)), **changed, "accept": "epochs"}), Told())
    train(TrainOptions(**{**stored_options(str(run)), **changed}), Told())
    settings = json.loads((run / "summary.json").read_text())["settings"]
    assert (settings["batch_size"], settings["learning_rate"]) == (128, 0.15)


@pytest.mark.slow
def test_a_comparison_goes_on_with_runs_that_keep_their_defaults(tmp_path):
    """And refuses one that was given what is a default now."""
    out, base = tmp_path / "out", TrainOptions(**BASE)

    def plan(**mine):
        arms = ["full", {"mine": {"policy": "soft", **mine}}]
        return make_course(CompareOptions(arms=arms, seeds=1, out=str(out)), base).first()

    first = plan(learning_rate=0.01)
    for run in first.runs():
        train(replace(run.options), Told())
    plan(learning_rate=0.01).check()
    with pytest.raises(InvalidValue, match=r"learning_rate 0\.01, now not set"):
        plan().check()
    with pytest.raises(InvalidValue, match=r"learning_rate 0\.01, now 0\.02"):
        plan(learning_rate=0.02).check()
    (out / "runs" / "mine-0" / "summary.json").unlink()  # as one that was stopped
    plan(learning_rate=0.01).check()
    with pytest.raises(InvalidValue, match=r"learning_rate 0\.01, now not set"):
        plan().check()
