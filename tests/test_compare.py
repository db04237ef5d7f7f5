"""`fallow compare` with real processes: as `fallow train`, gone on with, stopped, refused, failing."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import fallow
from fallow.cli.main import main
from fallow.comparison import running
from fallow.comparison.options import CompareOptions
from fallow.comparison.running import make_course
from fallow.errors import InvalidValue, WrongState
from fallow.options.train_options import TrainOptions
from test_added_samples import pick_of, pixels, save

ARMS = ("full", "fewer-epochs", "soft")
SMALL = {"data": "digits", "samples": 200, "epochs": 3, "accelerator": "cpu"}


def words(out, *more, arms=ARMS, seeds="0,1", saved="0.4", **changes):
    options = [f"--{name}={value}" for name, value in (SMALL | changes).items()]
    place = ["--arms", ",".join(arms), "--saved", saved, "--seeds", seeds, "--out", str(out)]
    return ["compare", *options, *place, *more]


def times(folder: Path) -> dict:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", autouse=True)
def _short_looks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "PROBE_SECONDS", 0.1)
        yield


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    out = tmp_path_factory.mktemp("compare") / "c"
    found = fallow.compare(**SMALL, arms=ARMS, saved=0.4, seeds=2, out=out, jobs=2, silent=True)
    assert isinstance(found, fallow.comparison.Comparison)
    return found


def test_each_run_leaves_a_run_directory_and_all_of_them_results(comparison):
    out = comparison.out
    names = [f"{arm}-{seed}" for arm in ("full", "fewer-epochs-0.4", "soft-0.4") for seed in (0, 1)]
    assert {path.name for path in (out / "runs").iterdir()} == set(names)
    files = {"config.yaml", "model.safetensors", "samples.csv", "summary.json", "usage.png", "usage.svg"}
    files |= {"data.safetensors", "environment.json", "SHA256SUMS", "lock"}
    for name in names:
        assert files | {"history", "state"} == {path.name for path in (out / "runs" / name).iterdir()}
    here = {"compare.json", "results.json", "frontier.png", "frontier.svg", "runs", ".lock"}
    assert {path.name for path in out.iterdir()} == here
    assert comparison.failed == []
    assert comparison.chart_path.stat().st_size > 10_000
    assert "fewer-epochs" in comparison.table(60)
    assert comparison.sentences() == comparison.results["sentences"]


def test_results_hold_settings_runs_and_arms(comparison):
    results = json.loads(comparison.results_path.read_text())
    assert results == comparison.results
    assert results["settings"]["samples"] == 200
    assert (results["settings"]["seeds"], results["settings"]["saved"]) == ([0, 1], [0.4])
    assert results["samples_full"] == 600
    rows = {row["label"]: row for row in results["arms"]}
    assert rows["fewer-epochs-0.4"]["epochs"] == 2
    assert rows["fewer-epochs-0.4"]["saved_fraction"] == pytest.approx(1 / 3)
    assert rows["soft-0.4"]["against"].keys() == {"full", "fewer-epochs"}
    means = ("test_loss", "worst_class_accuracy", "samples_backward", "steps", "cpu_seconds")
    assert all(row[name] > 0 for row in rows.values() for name in means)
    for run in results["runs"]:
        assert run["status"] == "done"
        assert run["accuracy"] == run["epochs"][-1]["accuracy"], "the final epoch, not the best"
        assert run["saved_fraction"] == pytest.approx(1 - run["samples_backward"] / 600)
        assert len(run["accuracy_by_class"]) == 10
        assert min(run["accuracy_by_class"].values()) == run["worst_class_accuracy"]
        assert run["options"]["seed"] == run["seed"]


def test_a_saving_that_is_named_too_is_one_arm_and_another_finder_finds_its_own(tmp_path, capsys):
    mine = {"policy": "fraction", "fraction": 0.6}
    shared = {**SMALL, "epochs": 2, "out": tmp_path / "c", "jobs": 1, "seeds": 1}
    fallow.compare(**shared, arms={"full": None, "mine": mine, "random": None})
    found = json.loads((tmp_path / "c" / "compare.json").read_text())["found"]
    assert found["finders"] == ["mine"]
    label = f"random-{found['saved']:g}"
    arms = {"full": None, "mine": mine, "random": None, label.replace("-", "@"): None}
    results = fallow.compare(**shared, arms=arms).results
    assert {row["label"] for row in results["arms"]} == {"full", "mine", label}
    capsys.readouterr()
    other = {"full": None, "other": mine | {"fraction": 0.3}, "random": None}
    results = fallow.compare(**shared, arms=other).results
    said = capsys.readouterr().out
    assert "as much saved as other will find" in said
    assert "other saved 15%: the others run at that saving." in said
    assert {row["label"] for row in results["arms"]} == {"full", "other", "random-0.15"}


@pytest.mark.slow
def test_controls_run_at_the_saving_that_was_found_and_more_seeds_do_not_change_it(tmp_path, capsys):
    arms = {"full": None, "mine": {"policy": "fraction", "fraction": 0.6}}
    arms |= dict.fromkeys(["fewer-epochs-thin", "random", "random-dropped"])
    own = {**SMALL, "samples": 300, "arms": arms, "out": tmp_path / "c", "jobs": 1}
    fallow.compare(**own, seeds=1)
    said = capsys.readouterr().out
    assert "as much saved as mine will find; 1 seed: 5 runs, in" in said
    assert "5 runs, at most 3,960 samples to train on, 1 at a time" in said
    kept = json.loads((tmp_path / "c" / "compare.json").read_text())["found"]
    assert kept["full"] == {"samples": 300, "batch_size": 64, "learning_rate": 0.075}
    assert 0.3 < kept["saved"] <= 0.4
    label = f"{kept['saved']:g}"
    assert f"mine saved {kept['saved']:.0%}: the others run at that saving." in said
    before = times(tmp_path / "c" / "runs")
    results = fallow.compare(**own, seeds=2, silent=True).results
    assert all(times(tmp_path / "c" / "runs")[path] == time for path, time in before.items())
    rows = {row["label"]: row for row in results["arms"]}
    controls = [f"{name}-{label}" for name in ("fewer-epochs-thin", "random", "random-dropped")]
    assert rows.keys() == {"full", "mine", *controls}
    steps = {name: row["steps"] for name, row in rows.items()}
    assert steps["full"] == steps[f"random-{label}"] == steps["mine"] == 15
    assert abs(steps[f"fewer-epochs-thin-{label}"] - 15) <= 1
    assert steps[f"random-dropped-{label}"] < 15
    against = rows["mine"]["against"]
    assert against.keys() == {"full", "fewer-epochs-thin", "random", "random-dropped"}
    assert not against["random"]["interpolated"]


@pytest.mark.slow
def test_length_and_rates_are_chosen_once_and_the_comparison_is_resumed(tmp_path, capsys):
    more = ["--rates", "--tune", "--jobs", "1"]
    asked = words(tmp_path / "c", *more, arms=("full", "random", "error-mass"), saved="auto", epochs=4)
    assert main([*asked, "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert "--tune, to choose the length of full training: 8 runs, 4,800 samples" in said
    assert "--rates, to choose the learning rate of each arm: 18 runs, at most 11,520 samples" in said
    assert "6 runs, at most 4,800 samples to train on" in said
    assert "All of this takes" in said
    assert not (tmp_path / "c").exists()
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "Full training is " in said
    assert "Learning rates: full 0." in said
    assert "error-mass saved " in said
    kept = json.loads((tmp_path / "c" / "compare.json").read_text())["found"]
    assert kept["epochs"] in (2, 3, 4, 6)
    assert kept["rates"].keys() >= {"full", "error-mass"}
    for folder in ("tune", "rates"):
        assert not {path.name[-2:] for path in (tmp_path / "c" / folder).iterdir()} & {"-0", "-1"}
    results = json.loads((tmp_path / "c" / "results.json").read_text())
    assert results["settings"]["epochs"] == kept["epochs"]
    for row in results["arms"]:
        assert row["rate_factor"] == kept["rates"][row["label"]]
        own = [run["settings"]["learning_rate"] for run in results["runs"] if run["arm"] == row["arm"]]
        assert own == [pytest.approx(row["learning_rate"])] * 2
    before = times(tmp_path / "c" / "runs")
    assert main(asked) == 0
    assert times(tmp_path / "c" / "runs") == before
    assert main(words(tmp_path / "c", "--tune", epochs=4)) == 2
    assert "rates True, now not set" in capsys.readouterr().err


@pytest.mark.slow
def test_a_module_that_sets_its_own_rate_is_refused_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    (tmp_path / "ownrate.py").write_text(OWN_RATE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    assert main([*words("c", model="ownrate:Net"), "--rates", "--jobs", "1"]) == 2
    assert "--rates must train a network whose learning rate fallow sets" in capsys.readouterr().err
    assert not Path("c").exists()


OWN_RATE = """
import torch
from lightning.pytorch import LightningModule


class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)

    def training_step(self, batch, batch_idx):
        x, y = batch
        losses = torch.nn.functional.cross_entropy(self.layer(x.flatten(1)), y, reduction="none")
        return {"loss": losses.mean(), "per_sample_loss": losses.detach()}

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_acc", (self.layer(x.flatten(1)).argmax(1) == y).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["soft-0.4-1", "fewer-epochs-0.4-0"])
def test_a_run_is_what_fallow_train_gives_with_one_thread(comparison, name, tmp_path):
    run = comparison.out / "runs" / name
    options = yaml.safe_load((run / "config.yaml").read_text()) | {"out": str(tmp_path / "again")}
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(options))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert main(["train", "--config", str(tmp_path / "again.yaml")]) == 0
    finally:
        torch.set_num_threads(threads)
    for file in ("model.safetensors", "samples.csv", "history/epoch-00002.safetensors", "usage.svg"):
        there = run / file
        assert there.exists() or file.startswith("history")
        if there.exists():
            assert there.read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_what_is_done_is_not_done_again(comparison, capsys):
    before = times(comparison.out / "runs")
    assert main(words(comparison.out, "--json")) == 0
    said = capsys.readouterr()
    shown = json.loads(said.out)
    assert shown["sentences"] == comparison.results["sentences"]
    assert shown["arms"] == comparison.results["arms"]
    assert "6 runs, 6 of them done" in said.err
    assert times(comparison.out / "runs") == before


def test_the_words_for_people(comparison, capsys):
    assert main(words(comparison.out, seeds="1")) == 0
    said = capsys.readouterr().out
    assert "nothing, so only the numbers are given: run 3 at least (--seeds 5)." in " ".join(said.split())
    assert "3 finished runs of other arms, savings or seeds lie in the folder and are not shown (" in said
    assert ": 3 runs, 3 of them done" in said
    assert str(comparison.chart_path) in said
    assert "\x1b" not in said


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"epochs": 4}, "epochs 3, now 4"),
        ({"samples": 300, "learning_rate": 0.1}, "learning_rate not set, now 0.1; samples 200, now 300"),
    ],
)
def test_other_settings_are_refused_with_the_difference(comparison, changes, difference, capsys):
    before = times(comparison.out)
    assert main(words(comparison.out, **changes)) == 2
    assert difference in capsys.readouterr().err
    assert times(comparison.out) == before


def test_a_run_with_other_options_is_refused(comparison):
    """An own arm that was trained under this name with another setting."""
    out = str(comparison.out)
    options = CompareOptions(arms={"mine": {"policy": "soft", "exponent": 2.0}}, seeds=1, out=out)
    plan = make_course(options, TrainOptions(**SMALL)).first()
    (run,) = plan.runs()
    run.path.mkdir()
    try:
        settings = {"policy": "soft", "exponent": 1.0, "seed": 0, "epochs": 3}
        (run.path / "config.yaml").write_text(yaml.safe_dump(settings))
        with pytest.raises(InvalidValue, match=r"exponent 1\.0, now 2\.0"):
            plan.check()
    finally:
        (run.path / "config.yaml").unlink()
        run.path.rmdir()


def test_a_run_by_another_rule_under_the_same_options_is_refused(comparison):
    """As a version with other defaults would have left it."""
    options = CompareOptions(arms=ARMS, saved=0.4, seeds=1, out=str(comparison.out))
    plan = make_course(options, TrainOptions(**SMALL)).first()
    run = next(run for run in plan.runs() if run.arm.name == "soft")
    path, config = run.path / "summary.json", run.path / "config.yaml"
    text, config_text = path.read_text(), config.read_text()
    settings = yaml.safe_load(config_text)
    try:
        for was, shown in (
            ("visits=2", r"Fraction\(.*visits=2.*"),
            ("visits=3, tripled=True", r"Fraction\(.*tripled.*"),
            ("visits=3, )(", r"Fraction\(.*\)\(.*"),
        ):
            path.write_text(text.replace("visits=3", was))
            with pytest.raises(InvalidValue, match=rf"holds {shown}, now Fraction\(.*visits=3"):
                plan.check()
        # Of a version that knew of no visits yet.
        path.write_text(text.replace(", visits=3", ""))
        config.write_text(yaml.safe_dump({k: v for k, v in settings.items() if k != "high"}))
        plan.check()
        # The same options without a finished run say another rule.
        path.unlink()
        with pytest.raises(InvalidValue, match="high not set, now none"):
            plan.check()
        path.write_text(text)
        config.write_text(yaml.safe_dump({**settings, "readmit_every": 3}))
        with pytest.raises(InvalidValue, match="readmit_every 3, now not set"):
            plan.check()
    finally:
        path.write_text(text)
        config.write_text(config_text)
    plan.check()


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("all of it")
    assert main(words(tmp_path)) == 2
    assert "new, empty or a comparison's" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_only_one_comparison_at_a_time_trains_in_a_folder(tmp_path):
    pytest.importorskip("fcntl")
    base = TrainOptions(data="digits", epochs=3)
    folder = make_course(CompareOptions(arms="full", out=str(tmp_path / "c")), base).folder
    with folder.opened(), pytest.raises(WrongState, match="Another process"), folder.opened():
        pass
    with folder.opened():
        pass


WRONG = [
    (["--arms", "full,sofd"], "Did you mean 'soft'?"),
    (["--saved", "0.9"], "soft saves less than 0.67, since 1 of 3 epochs is full"),
    (["--saved", "x"], "must name shares in (0, 1)"),
    (["--seeds", "0"], "`seeds` must be at least 1"),
    (["--jobs", "0"], "`jobs` must be at least 1"),
    (["--epochs", "0"], "--epochs must be at least 1"),
]


@pytest.mark.parametrize(("more", "message"), WRONG, ids=[" ".join(more) for more, _ in WRONG])
def test_wrong_use_is_found_before_anything_starts(more, message, capsys, tmp_path):
    assert main(words(tmp_path / "c", *more)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_options_that_arms_decide_are_not_shared(capsys, tmp_path):
    assert main(words(tmp_path / "c", "--fraction", "0.3")) == 2
    assert "Found --fraction. Set it in an arm of your own" in capsys.readouterr().err
    assert main(words(tmp_path / "c", "--policy", "soft")) == 2
    assert "Found --policy. Name rules in --arms" in capsys.readouterr().err
    assert main(words(tmp_path / "c", "--seed=3")) == 2
    assert "Found --seed. Leave it out" in capsys.readouterr().err
    with pytest.raises(InvalidValue, match=r"shared by all arms\. Found policy"):
        fallow.compare("digits", policy="soft", out=tmp_path / "c")


@pytest.mark.slow
def test_what_only_the_data_can_tell_is_found_before_the_first_run(capsys, tmp_path):
    assert main(words(tmp_path / "c", samples=5000)) == 2
    assert "--samples must be at most 1,437" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


@pytest.mark.slow
def test_a_dry_run_says_how_long_and_makes_nothing(capsys, tmp_path):
    assert main(words(tmp_path / "c", "--dry-run", "--jobs", "1")) == 0
    said = capsys.readouterr().out
    assert "full, fewer-epochs, soft; 40 % saved; 2 seeds: 6 runs, in" in said
    assert "2,720 samples to train on, 1 at a time: less than half a minute at " in said
    assert "samples a second" in said
    assert "fewer-epochs-0.4 saves only 33 %: 2 of 3 epochs." in said
    assert not (tmp_path / "c").exists()


BOMBS = """
import os
import torch


class Bomb(torch.nn.Module):
    def __init__(self, hard: bool = False):
        super().__init__()
        self.hard, self.layer = hard, torch.nn.Linear(64, 10)

    def forward(self, x):
        if self.training and self.hard:
            os._exit(7)
        if self.training:
            raise RuntimeError("the layer is on fire")
        return self.layer(x.flatten(1))
"""


@pytest.mark.slow
def test_a_run_that_fails_is_shown_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    (tmp_path / "bombs.py").write_text(BOMBS)
    monkeypatch.chdir(tmp_path)
    arms = {"fire": {"model": "bombs:Bomb"}, "crash": {"model": "bombs:Bomb", "model_args": {"hard": True}}}
    settings = SMALL | {"arms": arms | {"full": None, "random": None}, "seeds": 1, "out": "c", "jobs": 1}
    (tmp_path / "compare.yaml").write_text(yaml.safe_dump(settings | {"saved": 0.4}))
    assert main(["compare", "--config", "compare.yaml"]) == 1
    said = capsys.readouterr().out
    assert "fire-0: failed: RuntimeError: the layer is on fire" in said
    assert "bombs.py" in said, "the end of what its process said"
    assert "crash-0: failed: its process ended with code 7" in said
    assert "2 failed: crash-0, fire-0." in said
    results = json.loads((tmp_path / "c" / "results.json").read_text())
    status = {run["name"]: run["status"] for run in results["runs"]}
    assert status == {"full-0": "done", "random-0.4-0": "done", "fire-0": "failed", "crash-0": "failed"}


def children_of(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in found.read_text().split()] if found.exists() else []


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for child processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_stopped_and_gone_on_with(how, tmp_path):
    out = tmp_path / "c"
    long = words(out, seeds="0,1,2,3,4,5,6,7", epochs=12)
    command = [sys.executable, "-m", "fallow", *long, "--jobs", "2"]
    heed = partial(signal.signal, signal.SIGINT, signal.default_int_handler)  # else a shell may turn it off
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed
    )
    deadline = time.monotonic() + 100
    while not (out / "runs" / "full-1" / "history").exists():
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.02)
    workers = children_of(child.pid)
    assert len(workers) == 2
    child.send_signal(how)
    output, error = child.communicate(timeout=60)
    assert child.returncode == (130 if how == signal.SIGINT else -9)
    assert "Traceback" not in error
    assert ("done; repeat the command to resume" in output) == (how == signal.SIGINT)
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, "the workers must end too"
        time.sleep(0.02)
    done = {path.parent: times(path.parent) for path in out.glob("runs/*/usage.svg")}
    assert 1 <= len(done) < 24
    further = out.glob("runs/*-[01]/history/epoch-00002.safetensors")  # a state was saved after epoch 0
    begun = [path.with_name("epoch-00000.safetensors") for path in further]
    begun = {path: path.stat().st_mtime_ns for path in begun}
    assert begun
    short = words(out, seeds="0,1", epochs=12, arms=("full", "soft"))
    assert main([*short, "--jobs", "1"]) == 0
    results = json.loads((out / "results.json").read_text())
    assert [run["status"] for run in results["runs"]] == ["done"] * 4
    assert all(times(folder) == files for folder, files in done.items())
    assert all(path.stat().st_mtime_ns == time for path, time in begun.items()), "goes on, not anew"


@pytest.mark.slow
def test_a_worker_ends_when_nobody_listens_any_more():
    command = [sys.executable, "-m", "fallow.comparison.worker"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as worker:
        assert json.loads(worker.stdout.readline())["say"] == "ready"
        worker.stdin.close()
        assert worker.wait(timeout=30) == 0


@pytest.mark.slow
def test_an_arm_that_adds_samples_trains_on_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = pixels(30, 3)
    np.savez("pool.npz", x=x)
    picks = save(
        tmp_path / "picks.csv", [pick_of(tmp_path / "pool.npz", x, i, str(i % 10)) for i in range(25)]
    )
    arms = {"full": None, "more": {"policy": "full", "add": picks}}
    fallow.compare(data="digits", arms=arms, seeds=2, jobs=1, epochs=2, samples=100, out="c", silent=True)
    counts = {
        path.parent.name: json.loads(path.read_text())["settings"]["samples"]
        for path in Path("c").rglob("summary.json")
    }
    assert counts == {"full-0": 100, "full-1": 100, "more-0": 125, "more-1": 125}
