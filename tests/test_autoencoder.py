"""``--task autoencoder``: images reconstructed without labels, samples scored by density."""

import json

import numpy as np
import pytest
import torch

from fallow import Schedule, Subsampler, Threshold
from fallow.cli.main import main
from fallow.models import SmallAutoencoder
from fallow.tasks.autoencoder import AutoencoderTask
from fallow.tasks.image_base import Recipe

QUICK = ["train", "--task", "autoencoder", "--data", "digits", "--samples", "600", "--accelerator", "cpu"]


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 37, 50), (2, 5, 9)])
def test_a_reconstruction_has_the_shape_of_its_image(shape):
    channels, *size = shape
    network = SmallAutoencoder(channels, tuple(size), width=8, code=4)
    images = torch.randn(3, *shape)
    made = network(images)
    assert made.shape == images.shape
    assert network.encoder(
        torch.nn.functional.pad(images, (0, -size[1] % network.factor, 0, -size[0] % network.factor))
    ).shape == (3, 4)


def test_a_sample_s_loss_is_the_mean_error_of_its_pixels():
    sub = Subsampler(9, Threshold(low=0.1), Schedule(epochs=2))

    class Off(torch.nn.Module):
        def forward(self, images):
            return images + torch.arange(4.0).view(4, 1, 1, 1)

    task = AutoencoderTask(Off(), torch.zeros(1), torch.ones(1), sub, Recipe(0.1, 5e-4, 0.2))
    found = task.score_batch((torch.rand(4, 1, 5, 5), torch.zeros(4)))
    torch.testing.assert_close(found, torch.arange(4.0) ** 2)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("autoencoder") / "run"
    words = ["--epochs", "8", "--density", "gaussian", "--policy", "threshold", "--low", "0.4"]
    assert main([*QUICK, *words, "--out", str(out)]) == 0
    return out


def test_it_learns_and_leaves_out_what_is_well_covered(run):
    summary = json.loads((run / "summary.json").read_text())
    losses = [row["test_loss"] for row in summary["epochs"]]
    assert losses[-1] < 0.6 * losses[0]
    assert summary["accuracy"] is None
    assert summary["perplexity"] is None
    assert summary["saved_fraction"] > 0.05
    assert (run / "density.safetensors").exists()
    assert main(["verify", str(run)]) == 0
    assert main(["report", str(run)]) == 0


@pytest.mark.slow
def test_labels_are_not_looked_at(run, tmp_path):
    from fallow.datasets import load_images
    from fallow.tasks.parts import chosen_parts

    data = chosen_parts(load_images("digits"), 600, None)
    arrays = {"x_train": data.train.images.numpy(), "x_test": data.test.images.numpy()}
    rng = np.random.default_rng(0)
    scores = []
    for turn in range(2):
        labels = {f"y_{part}": rng.integers(0, 10, len(arrays[f"x_{part}"])) for part in ("train", "test")}
        np.savez(tmp_path / f"{turn}.npz", **arrays, **labels)
        words = ["--data", str(tmp_path / f"{turn}.npz"), "--epochs", "4", "--density", "gaussian"]
        words += ["--accelerator", "cpu", "--out", str(tmp_path / f"run{turn}")]
        assert main(["train", "--task", "autoencoder", *words]) == 0
        path = tmp_path / f"run{turn}" / "model.safetensors"
        scores.append(path.read_bytes())
    assert scores[0] == scores[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--score", "tv"], "An autoencoder has no labels to score by. Found --score tv."),
        (["--task", "autoencode"], "Unknown task. Found 'autoencode'. Did you mean 'autoencoder'?"),
    ],
)
def test_wrong_use(words, message, tmp_path, capsys):
    assert main([*QUICK, *words, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
