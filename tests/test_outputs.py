"""What a network of one's own gives is held against the data before the first step, without a trace."""

import sys

import numpy as np
import pytest
import torch

from fallow.arrays.generators import generator_states
from fallow.errors import FallowError
from fallow.options.resolve import resolve
from fallow.options.train_options import TrainOptions
from fallow.training.train import train
from told_console import Told

MODULE = """
from collections import namedtuple
from types import SimpleNamespace

import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.nn import functional as F

Pair = namedtuple("Pair", ["logits", "aux_logits"])
STEPS = []


class Wide(nn.Module):
    def __init__(self, outputs=5, shape="logits"):
        super().__init__()
        self.shape = shape
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(outputs))

    def forward(self, x):
        if self.training:
            STEPS.append(1)
        y = self.layers(x)
        return {
            "logits": lambda: y,
            "images": lambda: y[:, :, None, None].expand(-1, -1, 2, 2),
            "tokens": lambda: y[:, None, :].expand(-1, 7, -1),
            "flat": lambda: y[:, 0],
            "one row": lambda: y.mean(0, keepdim=True),
            "dict": lambda: {"out": y, "aux": y},
            "tuple": lambda: (y, y),
            "pair": lambda: Pair(y, y),
            "object": lambda: SimpleNamespace(logits=y),
            "classes": lambda: y.argmax(1),
            "whole": lambda: y.argmax(1, keepdim=True).expand(-1, y.shape[1]),
            "nothing": lambda: None,
            "softmax": lambda: y.softmax(1),
            "in training a pair": lambda: Pair(y, y) if self.training else y,
        }[self.shape]()


class Takes(Wide):
    def __init__(self, num_classes):
        super().__init__(num_classes)


class Narrow(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(7, 5)

    def forward(self, x):
        return self.layer(x.flatten(1))


class Draws(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(), nn.Linear(64, 5))
        self.layers[1].eval()  # a part that its owner has frozen

    def forward(self, x):
        import random
        import numpy
        random.random(), numpy.random.rand(), torch.rand(1)
        self.layers[1].running_mean += 1
        return self.layers(x)


class Colours(nn.Module):
    def __init__(self, channels=3):
        super().__init__()
        self.layer = nn.Conv2d(1, channels, 3, padding=1)

    def forward(self, x):
        return self.layer(x)


class Tokens(nn.Module):
    def __init__(self, width=64, tokens=300, pooled=False):
        super().__init__()
        self.pooled, self.table, self.layer = pooled, nn.Embedding(4000, 8), nn.Linear(8, tokens)

    def forward(self, ids):
        y = self.layer(self.table(ids))
        return y.mean(1) if self.pooled else y


class Module(LightningModule):
    def __init__(self, outputs=5, kind="tensor"):
        super().__init__()
        self.kind, self.layer = kind, nn.Linear(64, outputs)

    def training_step(self, batch, batch_idx):
        logits = self.layer(batch[0].flatten(1))
        loss = logits.mean()
        return {"loss": loss, "logits": (logits,) if self.kind == "tuple" else logits, "targets": batch[1]}

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in, with images of five classes, texts of two, and one long text."""
    (tmp_path / "own_nets.py").write_text(MODULE)
    draw = np.random.default_rng(0)
    y = np.arange(60) % 5
    x = (draw.integers(0, 50, (60, 8, 8)) + 40 * y[:, None, None]).astype(np.uint8)
    np.savez(tmp_path / "five.npz", x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    lines = [f"{'good' if i % 2 else 'bad'} text number {i},{i % 2}" for i in range(60)]
    (tmp_path / "texts.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    (tmp_path / "long.txt").write_text("\n".join(f"line {i} of a long text" for i in range(300)) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("own_nets", None)


def options(name, data="five.npz", **more):
    return TrainOptions(
        data=data,
        model=f"own_nets:{name}",
        epochs=1,
        batch_size=20,
        accelerator="cpu",
        policy="full",
        out="run",
        **more,
    )


def refused(name, **more):
    with pytest.raises(FallowError) as error:
        train(options(name, **more), Told())
    assert not sys.modules["own_nets"].STEPS
    return str(error.value)


@pytest.mark.parametrize("outputs", [1000, 3, 2])
def test_the_number_of_outputs_is_held_against_the_classes(place, outputs):
    assert refused("Wide", model_args={"outputs": outputs}) == (
        f"own_nets:Wide must have one output for each of the 5 classes. Found {outputs:,} outputs. "
        "Give its last layer 5 outputs, or its class a parameter num_classes, which is filled in."
    )
    assert not (place / "run").exists()


def test_a_single_output_is_told_of_the_softmax(place):
    assert "Found 1 output. " in (said := refused("Wide", model_args={"outputs": 1}))
    assert "which a single sigmoid output does not fit" in said


def test_a_number_that_was_given_is_named(place):
    assert "Found 9 outputs. Leave num_classes out of --model_args" in refused(
        "Takes", model_args={"num_classes": 9}
    )


SHAPES = {
    "images": "row of logits a sample, (B, 5): 2 for 2. Found the shape (2, 5, 2, 2). Pool height and width",
    "tokens": "Found the shape (2, 7, 5). Pool what lies between, as x.mean(1).",
    "flat": "the shape (2,). Return a tensor with one row per sample and one column per class.",
    "one row": "Found the shape (1, 5). Keep the samples apart",
    "dict": "logits as one tensor (B, 5). Found dict with out, aux. Return its part out alone, as x['out']",
    "tuple": "Found tuple of 2. Return the logits alone, as x[0]",
    "pair": "Found Pair of 2: logits, aux_logits. Return the logits alone, as x[0]",
    "object": "Found SimpleNamespace. Return its part logits alone, as x.logits.",
    "classes": "return logits, which are floats. Found torch.int64. Return what comes before the argmax.",
    "whole": "must return logits, which are floats. Found torch.int64.",
    "nothing": "Found NoneType. Return the logits alone.",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_no_row_of_logits_is_named(place, shape):
    assert SHAPES[shape] in refused("Wide", model_args={"shape": shape})


def test_a_network_that_cannot_take_the_images_says_what_they_are(place):
    said = refused("Narrow")
    assert (
        "own_nets:Narrow must take normalised images, here float32 (2, 1, 8, 8). Found RuntimeError: mat1"
        in said
    )


def test_outputs_that_look_like_probabilities_are_told(place):
    told = Told()
    train(options("Wide", model_args={"shape": "softmax"}), told)
    assert (
        "The outputs of own_nets:Wide look like probabilities. Return the logits, before the softmax."
        in told.said
    )


def test_other_outputs_in_training_are_named_too(place):
    with pytest.raises(FallowError, match="Found Pair of 2: logits, aux_logits"):
        train(options("Wide", model_args={"shape": "in training a pair"}), Told())


def test_the_number_of_classes_reaches_a_network(place):
    train(options("Takes"), Told())
    assert (place / "run" / "model.safetensors").exists()


def test_looking_leaves_no_trace(place):
    """Global generators, statistics and modes are what they were, so that a run is what it was without."""
    from fallow.datasets import load_images
    from fallow.tasks.outputs import check_outputs
    from fallow.training.jobs import build

    job = build(resolve(options("Draws")), Told())
    network = job.module.network
    assert network.training
    assert not network.layers[1].training
    before = {name: value.clone() for name, value in network.state_dict().items()}
    states = generator_states()
    data = load_images("five.npz").train
    check_outputs(job.module, data, data.collate, "own_nets:Draws", {}, classes=5)
    after = generator_states()
    assert torch.equal(states["torch"], after["torch"])
    assert (states["numpy"][1] == after["numpy"][1]).all()
    assert states["numpy"][2:] == after["numpy"][2:]
    assert states["python"] == after["python"]
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert float(network.layers[1].running_mean.abs().max()) == 0
    assert all(part.grad is None for part in network.parameters())
    assert [part.training for part in network.modules()] == [True, True, True, False, True, True]


def test_an_autoencoder_gives_images_of_the_same_shape(place):
    said = refused("Colours", task="autoencoder")
    assert "must return images of the shape that it gets, (2, 1, 8, 8). Found the shape (2, 3, 8, 8)" in said
    assert "Found the shape (2, 5)" in refused("Wide", task="autoencoder")
    train(options("Colours", task="autoencoder", model_args={"channels": 1}), Told())


def test_texts(place):
    said = refused("Tokens", data="texts.csv", model_args={"tokens": 2})
    assert "one row of logits a sample, (B, 2): 2 for 2. Found the shape (2," in said
    said = refused("Tokens", data="texts.csv", model_args={"tokens": 3, "pooled": True})
    assert "must have one output for each of the 2 classes. Found 3 outputs" in said
    train(options("Tokens", data="texts.csv", model_args={"tokens": 2, "pooled": True}), Told())


def test_language_models(place):
    small = {"data": "long.txt", "tokenizer": "byte", "max_tokens": 16}
    assert "must return logits (B, T, V)" in refused("Tokens", model_args={"pooled": True}, **small)
    said = refused("Tokens", model_args={"tokens": 20}, **small)
    assert "own_nets:Tokens must have one output for each of the 2" in said
    assert "Found 20 outputs" in said
    told = Told()
    train(options("Tokens", **small), told)
    assert any("own_nets:Tokens has 300 outputs for 2" in line for line in told.said)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"outputs": 3},
            "The logits that training_step returns must have one output for each of the 5 classes. Found 3",
        ),
        ({"outputs": 1000}, "Found 1,000 outputs. Give its last layer 5 outputs."),
        ({"kind": "tuple"}, "training_step must return logits as one tensor, (B, classes). Found tuple of 1"),
    ],
)
def test_a_module_that_trains_itself_is_held_against_the_classes_by_its_logits(place, arguments, words):
    assert words in refused("Module", model_args=arguments)
