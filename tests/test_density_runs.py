"""``fallow train --score density``: from the command line, with own modules, without labels, in its files."""

import csv
import json
import os
import shutil
import sys

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fallow import ActivationDensity, GaussianMixture, Schedule, Subsampler, Threshold
from fallow.cli.main import main
from fallow.files.state_file import parse
from fallow.integrations.lightning import SubsamplingCallback
from fallow.options.train_options import DENSITIES
from fallow.runs.run_files import RunFiles

QUICK = ["train", "--data", "digits", "--samples", "600", "--epochs", "9", "--accelerator", "cpu"]
QUICK += ["--score", "density"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("density") / "run"
    words = ["--policy", "threshold", "--low", "0.4", "--readmit-every", "3", "--out", str(out)]
    assert main([*QUICK, *words, "--density-args", "{components: 4}"]) == 0
    return out


@pytest.mark.slow
def test_the_chart_says_no_unit_of_a_percentile(run):
    drawn = (run / "usage.svg").read_text()
    assert ">score<" in drawn or "<!-- score -->" in drawn
    assert "nats" not in drawn


def test_well_covered_samples_are_left_out_and_thin_ones_stay(run):
    summary = json.loads((run / "summary.json").read_text())
    assert summary["saved_fraction"] > 0.05
    assert summary["score"] == "Percentile()"
    reading = RunFiles(run)
    removed = [file for file in reading.files() if file.record.learned]
    assert removed
    with (run / "samples.csv").open() as table:
        rows = list(csv.DictReader(table))
    scores = [float(row["score"]) for row in rows]
    assert 0 <= min(scores) <= max(scores) <= 1
    assert sum(scores) / len(scores) == pytest.approx(0.5, abs=0.1)
    assert {row["perplexity"] for row in rows} == {""}, "a percentile is no perplexity"
    often = [float(row["score"]) for row in rows if int(row["times_used"]) == 9]
    seldom = [float(row["score"]) for row in rows if int(row["times_used"]) < 9]
    assert sum(often) / len(often) > sum(seldom) / len(seldom) + 0.1


def test_what_is_looked_at_beside_the_training_is_counted(run):
    summary = json.loads((run / "summary.json").read_text())
    left_out = [file.record.n - file.record.backward for file in RunFiles(run).files()]
    assert summary["samples_forward_only"] > 0
    assert summary["samples_forward_only"] >= sum(left_out), "all 600 samples belong to the panel"


def test_the_density_is_kept(run):
    path = run / "density.safetensors"
    kept = parse(path.read_bytes(), str(path))
    assert len(kept["panel"]["index"]) == 600
    network = nn.Module()
    for name in kept["layers"]:
        parent = network
        *above, last = name.split(".")
        for part in above:
            if not hasattr(parent, part):
                setattr(parent, part, nn.Module())
            parent = getattr(parent, part)
        setattr(parent, last, nn.Linear(2, 2))
    watch = ActivationDensity(network, density=GaussianMixture(4))
    watch.load_state_dict(kept)
    assert watch.ready
    assert main(["verify", str(run)]) == 0
    assert main(["report", str(run)]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("density", [name for name in DENSITIES if name != "gaussian-mixture"])
def test_every_density_can_be_named(density, tmp_path):
    words = ["--density", density, "--epochs", "3", "--policy", "soft", "--out", str(tmp_path / "run")]
    assert main([*QUICK, *words]) == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["accuracy"] > 0.5


OWN = """
import torch


class Bell:
    def __init__(self, floor=-1e4):
        self.floor = floor

    def fit(self, x):
        noise = 1e-3 * torch.randn(len(x), 1)  # as the weights of a network are drawn
        self.normal = torch.distributions.Normal((x + noise).mean(0), x.std(0) + 1e-3)

    def log_prob(self, x):
        return self.normal.log_prob(x).sum(1).clamp_min(self.floor)


class Half:
    def fit(self, x):
        pass
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_density.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("own_density", None)


def test_a_density_of_your_own_is_named_again_and_goes_on_exactly(own, capsys):
    words = ["--density", "own_density:Bell", "--density_args", "{floor: -1000.0}", "--policy", "soft"]
    assert main([*QUICK, *words, "--out", "whole"]) == 0
    assert json.loads((own / "whole" / "summary.json").read_text())["density"]["ready"]
    shutil.copytree("whole", "cut")
    for path in (own / "cut" / "state").glob(f"{max(os.listdir(own / 'cut' / 'state'))[:6]}*"):
        path.unlink()  # as if it had been stopped before it wrote its last state
    capsys.readouterr()
    again = ["train", "--resume", "cut"]
    assert main(again) == 2
    error = capsys.readouterr().err
    assert "The density of cut is a class of your own." in error
    assert "Add --density own_density:Bell: nothing is imported" in error
    assert main([*again, "--density", "own_density:Half"]) == 2
    assert "--density must be what the run was started with: own_density:Bell." in capsys.readouterr().err
    assert main([*again, "--density", "own_density:Bell"]) == 0
    assert "Resuming in epoch 9 of 9" in capsys.readouterr().out
    for name in ("model.safetensors", "samples.csv", "density.safetensors"):
        assert (own / "cut" / name).read_bytes() == (own / "whole" / name).read_bytes(), name
    capsys.readouterr()
    assert main(["gaps", "cut"]) == 0
    assert "own_density:Bell, is a class of your own" in capsys.readouterr().err


def test_a_class_that_is_no_density_is_not_called(own, capsys):
    for name, found in (("Half", "the class own_density.Half"), ("torch", "an object of the type")):
        assert main([*QUICK, "--density", f"own_density:{name}", "--out", "run"]) == 2
        error = capsys.readouterr().err
        assert "must be a class with fit and log_prob. It was not called." in error
        assert found in error
    assert not (own / "run").exists()


WRONG = [
    (["--density", "flow"], "Found flow, which was removed. Name your own class as package.module:Class"),
    (["--density", "own:Net.Inner"], "Your own class must be package.module:Class."),
    (["--density", "gmm"], "Unknown density. Found 'gmm'. "),
    (
        ["--density-args", "{compnents: 3}"],
        "Unknown argument in --density_args. Found 'compnents'. Did you mean",
    ),
    (["--layers", "[heat]"], "Unknown layer. Found 'heat'. Did you mean 'head'?"),
    (
        ["--policy", "infobatch"],
        "--score density goes with rules that read one score a sample. Found infobatch.",
    ),
    (["--policy", "threshold", "--low", "3"], "low"),
    (["--score", "kl", "--layers", "[head]"], "--layers goes with --score density."),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_wrong_use(words, message, tmp_path, capsys):
    assert main([*QUICK, *words, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


class Unlabelled(LightningModule):
    """Reconstructs its input; knows no labels, and returns the loss alone."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3), nn.ReLU(), nn.Linear(3, 6)
        )

    def training_step(self, batch, batch_idx):
        (x,) = batch
        return nn.functional.mse_loss(self.network(x), x)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.01)


def test_a_module_without_labels_and_without_per_sample_losses(tmp_path):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(800, 6, generator=draw) + 4 * (torch.arange(800) % 3)[:, None]
    data = TensorDataset(x)
    subsampler = Subsampler(800, Threshold(low=0.4), Schedule(epochs=6), score=ActivationDensity.score)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Unlabelled()
    watch = ActivationDensity(module.network, density=GaussianMixture(3))
    callback = SubsamplingCallback(subsampler, monitor=watch)
    trainer = Trainer(
        max_epochs=6, accelerator="cpu", callbacks=[callback], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, subsampler.loader(data, 50))
    assert watch.ready
    assert any(record.learned for record in subsampler.history)
    assert callback.probed > 0
    assert ((subsampler.scores >= 0) & (subsampler.scores <= 1)).all()
    assert isinstance(trainer.train_dataloader, DataLoader)
