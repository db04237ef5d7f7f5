"""Experiment trackers: what they are told, and that none of them can hurt a training."""

import csv
import importlib.util
import json
import math
import os
import random

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from rich.console import Console as RichConsole
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import fallow
from fallow.errors import InvalidValue
from fallow.integrations.lightning import SubsamplingCallback
from fallow.runs.directory import RunDirectory
from fallow.tasks.console import Console
from fallow.training.epoch_writer import EpochWriter
from fallow.training.trackers import EpochScalars, Guarded, epoch_scalars, make_logger

OPTIONS = {"data": "digits", "policy": "soft", "low": 0.1, "layers": ["a", "b"], "trainer": {"a": 1}}
real = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)


class Module(LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))

    def training_step(self, batch, batch_idx):
        rows, labels = batch
        losses = F.cross_entropy(self.layers(rows), labels, reduction="none")
        return {"loss": losses.mean(), "per_sample_loss": losses}

    def validation_step(self, batch, batch_idx):
        rows, labels = batch
        logits = self.layers(rows)
        self.log("test_loss", F.cross_entropy(logits, labels))
        self.log("test_accuracy", (logits.argmax(1) == labels).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train(folder, logger, epochs=3, workers=0):
    """Train, and return weights, scores and rows."""
    rows = torch.randn(120, 4, generator=torch.Generator().manual_seed(1))
    data = TensorDataset(rows, (rows.sum(1) > 0).long())
    run = RunDirectory(folder)
    (run.path / "history").mkdir(parents=True, exist_ok=True)
    policy = fallow.RandomFraction(0.25)
    subsampler = fallow.Subsampler(120, policy, fallow.Schedule(epochs=epochs), seed=0)
    writer = EpochWriter(run, subsampler, Console(RichConsole(), silent=True))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Module()
        trainer = Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=logger,
            callbacks=[
                SubsamplingCallback(subsampler), writer.stopwatch, writer, EpochScalars(writer, OPTIONS)
            ],
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            num_sanity_val_steps=0, default_root_dir=folder, log_every_n_steps=1,
        )  # fmt: skip
        loader = subsampler.loader(data, batch_size=30, num_workers=workers)
        trainer.fit(module, loader, DataLoader(data, 60))
    weights = torch.cat([w.detach().flatten() for w in module.parameters()])
    return weights, subsampler.scores, writer.epochs


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A training without a tracker; the second one, as the first loads much."""
    train(tmp_path_factory.mktemp("warm"), False)
    return train(tmp_path_factory.mktemp("plain"), False)


def same(found, plain):
    return torch.equal(found[0], plain[0]) and torch.equal(found[1], plain[1])


class Notes(Logger):
    """Writes down what it is told; does something at one of its calls."""

    name = version = ""

    def __init__(self, at="", act=lambda: None):
        super().__init__()
        self.calls, self.at, self.act = [], at, act
        if at == "init":
            act()

    def note(self, call, *told):
        self.calls.append((call, *told))
        if call == self.at or self.at == "all":
            self.act()

    def log_metrics(self, metrics, step=None):
        self.note("log", metrics, step)

    def log_hyperparams(self, params, *arguments, **options):
        self.note("options", params)

    def save(self):
        self.note("save")

    def finalize(self, status):
        self.note("finalize", status)


def guarded(make, said=None):
    said = [] if said is None else said
    return Guarded("notes", make, ".", said.append), said


def raising(error):
    def act():
        raise error

    return act


class Mute(Exception):
    def __str__(self):
        raise SystemExit(3)


CALLS = ["init", "options", "log", "save", "finalize"]
FAILURES = [(at, error) for at in CALLS for error in (RuntimeError("no\nserver"), SystemExit(1))]
FAILURES += [("log", Mute())]


class TestNeverHurts:
    @pytest.mark.parametrize(
        ("at", "error"), FAILURES, ids=lambda part: part if isinstance(part, str) else type(part).__name__
    )
    def test_a_tracker_that_raises(self, at, error, plain, tmp_path):
        logger, said = guarded(lambda: Notes(at, raising(error)))
        assert same(train(tmp_path, logger), plain)
        assert len(said) == 1
        assert type(error).__name__ in said[0]
        assert "\n" not in said[0]
        assert "switched off; training goes on" in said[0]

    @pytest.mark.parametrize("make", [lambda: None, object], ids=["none", "object"])
    def test_a_tracker_that_is_garbage(self, make, plain, tmp_path):
        logger, said = guarded(make)
        assert same(train(tmp_path, logger), plain)
        assert "AttributeError" in said[0]

    def test_a_tracker_that_returns_garbage(self, plain, tmp_path):
        notes = Notes("all")
        notes.note = lambda *told: object()
        logger, said = guarded(lambda: notes)
        assert same(train(tmp_path, logger), plain)
        assert said == []
        assert logger.log_metrics({"a": 1.0}) is None

    def test_a_tracker_that_draws_moves_no_generator_of_the_training(self, plain, tmp_path):
        def act():
            random.random(), np.random.rand(), torch.rand(3)  # noqa: NPY002

        before = generators()
        logger, said = guarded(lambda: Notes("all", act))
        assert same(train(tmp_path, logger), plain)
        assert (said, generators()) == ([], before)

    def test_ctrl_c_inside_a_tracker_stops_the_training(self):
        logger, _ = guarded(lambda: Notes("log", raising(KeyboardInterrupt())))
        with pytest.raises(KeyboardInterrupt):
            logger.log_metrics({"a": 1.0})

    def test_it_warns_on_standard_error_if_nothing_else_is_said(self, capfd, tmp_path, monkeypatch):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://")
        logger = make_logger("mlflow", RunDirectory(tmp_path))
        logger.log_metrics({"a": 1.0})
        logger.finalize("success")
        assert "Warning: the tracker mlflow failed and is switched off" in capfd.readouterr().err

    def test_it_says_all_that_was_logged_in_order(self, plain, tmp_path):
        notes = Notes()
        logger, said = guarded(lambda: notes)
        assert same(train(tmp_path, logger), plain)
        assert said == []
        assert notes.calls[0] == ("options", OPTIONS)
        assert notes.calls[-1] == ("finalize", "success")


class TestProxy:
    def test_it_is_no_tracker_on_other_ranks(self, monkeypatch):
        monkeypatch.setattr("fallow.training.trackers.rank_and_size", lambda: (1, 2))
        logger, said = guarded(raising(AssertionError()))
        logger.log_metrics({"a": 1.0})
        logger.finalize("success")
        assert said == []

    def test_calls_of_any_name_arrive_and_return_nothing(self):
        notes = Notes()
        notes.log_image = lambda *told, **options: notes.note("image", told, options)
        notes.experiment = notes
        logger, said = guarded(lambda: notes)
        assert logger.log_image("digits", [1]) is None
        assert logger.experiment.log_image("tag", step=2) is None
        logger.finalize("success")
        assert notes.calls[:2] == [("image", ("digits", [1]), {}), ("image", ("tag",), {"step": 2})]
        assert said == []
        with pytest.raises(AttributeError):
            logger.experiment._private  # noqa: B018

    def test_none_is_no_logger(self, tmp_path):
        assert make_logger("none", RunDirectory(tmp_path)) is False

    def test_an_unknown_name(self, tmp_path):
        with pytest.raises(InvalidValue, match=r"Unknown logger.*'wand'.*Did you mean 'wandb'\?"):
            make_logger("wand", RunDirectory(tmp_path))

    @pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
    def test_a_package_that_is_missing_is_told_before_training(self, name, monkeypatch, tmp_path):
        monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
        step = rf"--logger {name} needs its package\. .*`pip install {name}`, or use --logger csv\."
        with pytest.raises(InvalidValue, match=step):
            make_logger(name, RunDirectory(tmp_path))
        assert list(tmp_path.iterdir()) == []


class TestScalars:
    def test_an_epoch(self, plain):
        row = plain[2][1]
        said = epoch_scalars({**row, "saved_fraction_so_far": 0.125})
        assert len(said) <= 25
        assert said["fallow/samples_backward"] == row["samples_backward"] == 90
        assert said["fallow/saved_fraction_so_far"] == 0.125
        assert said["fallow/score_50"] == row["score_quantiles"][2]
        assert said["fallow/accuracy"] == row["accuracy"]
        parts = {
            "kept",
            "learned",
            "outliers",
            "not_drawn",
            "readmitted",
            "samples_forward_only",
            "test_loss",
        }
        parts |= {"mean_score", "score_5", "score_95", "seconds", "record_seconds", "bad", "saved_fraction"}
        assert {f"fallow/{name}" for name in parts} < said.keys()
        assert all(type(value) is float for value in said.values())

    def test_what_is_no_number_is_left_out(self):
        row = {
            "accuracy": None,
            "mean_score": math.nan,
            "seconds": math.inf,
            "kept": 3,
            "score_quantiles": [],
        }
        assert epoch_scalars(row) == {"fallow/kept": 3.0}

    def test_each_epoch_at_its_step(self, plain, tmp_path):
        notes = Notes()
        logger, _ = guarded(lambda: notes)
        train(tmp_path, logger)
        ours = [call for call in notes.calls if call[0] == "log" and "fallow/kept" in call[1]]
        assert [step for _, _, step in ours] == [4, 7, 10]
        so_far = [told["fallow/saved_fraction_so_far"] for _, told, _ in ours]
        assert so_far == pytest.approx([0, 0.125, 1 / 6])
        theirs = [call for call in notes.calls if call[0] == "log" and "test_accuracy" in call[1]]
        assert len(theirs) == 3


def generators():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002


def sessions(name, folder, plain, monkeypatch):
    """Train twice into a run directory, as one that goes on does; whatever is written belongs there."""
    monkeypatch.chdir(folder)
    run, said = folder / "run", []
    before = generators()
    for _ in range(2):
        assert same(train(run, make_logger(name, RunDirectory(run), said.append)), plain)
    assert said == []
    assert generators() == before
    assert [path.name for path in folder.iterdir()] == ["run"]
    assert {path.name for path in run.iterdir()} == {"history", "logs"}
    return run / "logs"


@real
class TestReal:
    def test_csv(self, plain, tmp_path, monkeypatch):
        logs = sessions("csv", tmp_path, plain, monkeypatch)
        for folder in (logs, logs / "session-2"):
            rows = list(csv.DictReader((folder / "metrics.csv").open()))
            kept = [row["fallow/samples_backward"] for row in rows if row["fallow/samples_backward"]]
            assert kept == ["120.0", "90.0", "90.0"]
            assert len([row for row in rows if row["test_accuracy"]]) == 3
            assert "policy: soft" in (folder / "hparams.yaml").read_text()

    def test_tensorboard(self, plain, tmp_path, monkeypatch):
        pytest.importorskip("tensorboard")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        logs = sessions("tensorboard", tmp_path, plain, monkeypatch)
        for folder in (logs, logs / "session-2"):
            events = EventAccumulator(str(folder)).Reload()
            found = [(event.step, event.value) for event in events.Scalars("fallow/samples_backward")]
            assert found == [(4, 120.0), (7, 90.0), (10, 90.0)]
            assert len(events.Scalars("test_accuracy")) == 3

    @pytest.mark.slow
    def test_wandb(self, plain, tmp_path, monkeypatch):
        pytest.importorskip("wandb")
        monkeypatch.setenv("NETRC", str(tmp_path / "nobody is logged in"))
        logs = sessions("wandb", tmp_path, plain, monkeypatch)
        runs = sorted(path for path in (logs / "wandb").glob("offline-run-*"))
        assert len(runs) == 2
        found = [scalars_of_wandb(path) for path in runs]
        assert [rows["fallow/samples_backward"] for rows in found] == [[120, 90, 90]] * 2
        assert [rows["trainer/global_step"][-1] for rows in found] == [10, 10]

    @pytest.mark.slow
    def test_mlflow(self, plain, tmp_path, monkeypatch):
        mlflow = pytest.importorskip("mlflow")
        logs = sessions("mlflow", tmp_path, plain, monkeypatch)
        client = mlflow.MlflowClient((logs / "mlflow").as_uri())
        (experiment,) = [e for e in client.search_experiments() if e.name == "fallow"]
        found = client.search_runs([experiment.experiment_id])
        assert {(run.info.run_name, run.info.status) for run in found} == {
            ("run", "FINISHED"), ("run-session-2", "FINISHED")
        }  # fmt: skip
        for run in found:
            history = client.get_metric_history(run.info.run_id, "fallow/samples_backward")
            assert sorted((m.step, m.value) for m in history) == [(4, 120), (7, 90), (10, 90)]
            assert run.data.params["policy"] == "soft"


def scalars_of_wandb(folder):
    """Return the values of each key, from the log that W&B writes without a network (LevelDB's format)."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("*.wandb")
    data, at, parts, found = path.read_bytes(), 7, b"", {}
    while at + 7 <= len(data):
        if (room := 32768 - at % 32768) < 7:
            at += room
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            for item in record.history.item:
                found.setdefault(item.key or item.nested_key[0], []).append(json.loads(item.value_json))
    return found
