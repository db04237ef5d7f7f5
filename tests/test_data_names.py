"""Runs on data sets that earlier versions fetched by name: read, and resumed on a file of the same."""

import shutil

import msgspec
import numpy as np
import pytest
import yaml
from sklearn.datasets import load_digits

from fallow.cli.main import main
from fallow.options.resume_options import given_in
from fallow.runs.checkpoints import Checkpoints
from fallow.runs.schema import About


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    digits = load_digits()
    images = (digits.images * 255 / 16).astype(np.uint8)
    names = [f"kind {number}" for number in range(10)]
    path = tmp_path_factory.mktemp("data") / "fashion-mnist.npz"
    arrays = {"x_train": images[:300], "x_test": images[300:360]}
    np.savez(path, **arrays, y_train=digits.target[:300], y_test=digits.target[300:360], class_names=names)
    return path


@pytest.fixture(scope="module")
def old(data, tmp_path_factory):
    """A run that says, as one of an earlier version, that its data are fashion-mnist, fetched."""
    run = tmp_path_factory.mktemp("run") / "old"
    words = ["--data", str(data), "--augment", "crop-flip", "--epochs", "2", "--out", str(run)]
    assert main(["train", *words, "--accelerator", "cpu"]) == 0
    checkpoints = Checkpoints(run)
    found = checkpoints.newest().found
    options, defaults = {**found.about.options, "data": "fashion-mnist"}, [*found.about.defaults, "augment"]
    about = msgspec.structs.replace(found.about, options=options, defaults=defaults)
    name = f"state/{found.number:06d}.safetensors"
    needs = {other: digest for other, digest in found.files.items() if other != name}
    checkpoints.write(checkpoints.state_path(found.number).read_bytes(), about, needs)
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "data": "fashion-mnist"}))
    return run


@pytest.mark.parametrize("command", ["report", "export"])
def test_it_is_read(old, tmp_path, command):
    shutil.copytree(old, tmp_path / "run")
    words = ["--format", "csv"] if command == "export" else []
    assert main([command, str(tmp_path / "run"), *words]) in (0, 1)


def test_resuming_it_says_what_to_name(old, capsys):
    assert main(["train", "--resume", str(old)]) == 2
    said = capsys.readouterr().err
    assert "Run `python -m benchmarks.data fashion-mnist --out FOLDER` in a checkout of fallow" in said
    assert said.rstrip().endswith("name the path that it prints by --data, and add --accept data.")


def test_it_is_resumed_on_the_same_data_in_a_file(old, data, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(old, run)
    words = ["train", "--resume", str(run), "--data", str(data), "--epochs", "3", "--accept", "epochs"]
    assert main(words) == 2
    assert "--data must be what the run was started with: fashion-mnist" in capsys.readouterr().err
    assert main([*words[:-1], "epochs,data"]) == 0
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["data"], config["augment"], config["epochs"]) == (str(data), "crop-flip", 3)


def test_the_augmentation_by_the_name_stays_and_other_defaults_are_found_anew():
    options = {"data": "cifar10", "augment": "crop-flip", "learning_rate": 0.3}
    defaults = ["augment", "learning_rate"]
    assert given_in(About(options, defaults)) == {"data": "cifar10", "augment": "crop-flip"}
    assert given_in(About({**options, "data": "digits"}, defaults)) == {"data": "digits"}


def test_plays_were_documents_and_are_one_text_now(capsys, tmp_path):
    assert main(["train", "--data", "shakespeare", "--out", str(tmp_path / "run")]) == 2
    assert "--test_share 0.10678 holds out the plays" in capsys.readouterr().err
