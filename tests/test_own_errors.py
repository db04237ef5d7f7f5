"""What goes wrong in code of one's own is said in one line: the rule, what was found, the next step."""

import sys

import pytest

from fallow.cli.main import main

MODULE = """
import sys

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self, kind, num_classes):
        if kind == "ends as it is made":
            sys.exit(0)
        if kind == "assigns first":
            self.layer = nn.Linear(2, 2)
        super().__init__()
        self.kind = kind
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
        if kind == "frozen":
            self.requires_grad_(False)

    def forward(self, x):
        y = self.layers(x)
        if self.kind == "ends" or (self.kind == "ends in training" and self.training):
            sys.exit(0)
        if self.kind == "closes" and self.training:
            raise GeneratorExit
        if self.kind == "detached" or (self.kind == "detached in training" and self.training):
            return y.detach()
        if self.kind == "numpy":
            return torch.from_numpy(y.numpy())
        bad = {"nan": float("nan"), "infinite": float("inf")}.get(self.kind, 0.0)
        return y + bad


class Empty(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10]


class Half(nn.Module):
    def __init__(self):
        pass

    def forward(self, x):
        return x


class Module(LightningModule):
    def __init__(self, kind=""):
        super().__init__()
        self.kind, self.layer = kind, nn.Linear(4, 2)

    def training_step(self, batch, batch_idx):
        if self.kind == "ends":
            sys.exit(0)
        logits = self.layer(batch[0])
        if self.kind == "detached":
            logits = logits.detach()
        losses = nn.functional.cross_entropy(logits, batch[1], reduction="none")
        return {"loss": losses.mean(), "per_sample_loss": losses}

    def configure_optimizers(self):
        return torch.optim.SGD([] if self.kind == "empty" else self.parameters(), 0.1)


class HalfModule(Module):
    def __init__(self):
        pass


class Data(LightningDataModule):
    def __init__(self, kind=""):
        super().__init__()
        self.kind = kind

    def prepare_data(self):
        if self.kind == "prepare_data":
            raise RuntimeError("no place")

    def setup(self, stage):
        if self.kind == "setup":
            raise KeyError("x")
        if self.kind == "ends":
            sys.exit(0)

    def train_dataloader(self):
        if self.kind == "train_dataloader":
            raise ValueError("no loader")
        return DataLoader(TensorDataset(torch.randn(32, 4), torch.arange(32) % 2), batch_size=16)


class HalfData(Data):
    def __init__(self):
        self.kind = ""
"""


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """Train with parts of one's own, which fails, and return the error."""
    (tmp_path / "own_wrong.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def called(*words):
        assert main(["train", *words, "--epochs", "1", "--accelerator", "cpu", "--out", "run"]) == 2
        found = capsys.readouterr().err
        assert found.startswith("fallow: error: ")
        assert found.count("\n") == 1
        return found.removeprefix("fallow: error: ").rstrip()

    yield called
    assert not (tmp_path / "run").exists()
    sys.modules.pop("own_wrong", None)


INIT = "Call super().__init__() first in its __init__."
NETS = {
    "ends": (
        "must not end the process. Found SystemExit(0) in own_wrong.py",
        "Raise an error there instead.",
    ),
    "ends in training": ("must not end the process. Found SystemExit(0)", "Raise an error there instead."),
    "ends as it is made": ("must not end the process. Found SystemExit(0)", "Raise an error there instead."),
    "closes": ("must not end the process. Found GeneratorExit()", "Raise an error there instead."),
    "assigns first": ("must be a fully initialised module. Found cannot assign module", INIT),
    "frozen": ("must have weights to train. Found 2 weights, all frozen.", "set requires_grad of some."),
    "detached": ("must return outputs with a gradient. Found outputs without one.", ".data."),
    "detached in training": (
        "The loss of own_wrong:Net must depend on weights that learn.",
        "weights trainable.",
    ),
    "numpy": ("The loss of own_wrong:Net must depend on weights that learn.", "weights trainable."),
    "nan": ("must return finite outputs. Found NaN.", "its logarithms."),
    "infinite": ("must return finite outputs. Found infinite ones.", "its logarithms."),
}


@pytest.mark.parametrize("kind", NETS)
def test_a_network(said, kind):
    found = said("--data", "digits", "--samples", "64", "--model", "own_wrong:Net", "--model_args.kind", kind)
    rule, step = NETS[kind]
    assert found.startswith(("own_wrong:Net must", "The loss of own_wrong:Net must"))
    assert rule in found
    assert found.endswith(step)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("Empty", "own_wrong:Empty must have weights to train. Found none."),
        ("Half", f"own_wrong:Half must be a fully initialised Module. Found no training. {INIT}"),
    ],
)
def test_a_network_that_is_not_whole(said, name, rule):
    assert said("--data", "digits", "--samples", "64", "--model", f"own_wrong:{name}").startswith(rule)


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        ("ends", "must not end the process. Found SystemExit(0) in own_wrong.py"),
        ("detached", "The loss of own_wrong:Module must depend on weights that learn."),
        ("empty", "own_wrong:Module must have weights to train. Found none (own_wrong.py, line "),
    ],
)
def test_a_module(said, kind, rule):
    parts = ["--data", "own_wrong:Data", "--model", "own_wrong:Module"]
    assert rule in said(*parts, "--model_args.kind", kind)


def test_a_module_and_data_without_their_constructor(said):
    assert said("--data", "own_wrong:Data", "--model", "own_wrong:HalfModule").endswith(INIT)
    found = said("--data", "own_wrong:HalfData", "--model", "own_wrong:Module")
    assert found.startswith("own_wrong:HalfData must be a fully initialised LightningDataModule.")
    assert found.endswith(INIT)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("prepare_data", "RuntimeError: no place"),
        ("setup", "KeyError: 'x'"),
        ("train_dataloader", "ValueError: no loader"),
    ],
)
def test_data(said, kind, error):
    found = said("--data", "own_wrong:Data", "--model", "own_wrong:Module", "--data_args.kind", kind)
    assert found.startswith(
        f"own_wrong:Data.{kind}() must end without an error. Found {error} (own_wrong.py, line "
    )
    assert found.endswith(f"Check its {kind}().")


def test_data_that_end_the_process(said):
    found = said("--data", "own_wrong:Data", "--model", "own_wrong:Module", "--data_args.kind", "ends")
    assert found.startswith("own_wrong:Data.setup() must not end the process. Found SystemExit(0)")
