"""Options that the data, or the task, have no use for are refused: nothing that was asked for is ignored."""

import numpy as np
import pytest
from PIL import Image

from fallow.errors import InvalidValue
from fallow.options.checks import check
from fallow.options.resolve import resolve
from fallow.options.train_options import TrainOptions
from fallow.tasks.console import Console
from fallow.training.jobs import read_data

UNUSED = [
    ({"data": "digits", "test_share": 0.5}, "--test_share"),
    ({"data": "x.npz", "test_share": 0.5}, "--test_share"),
    ({"data": "own.data:Cats", "model": "own.data:Net", "test_share": 0.5}, "--test_share"),
    ({"data": "digits", "skip_corrupt": True}, "--skip_corrupt"),
    ({"data": "x.npz", "skip_corrupt": True}, "--skip_corrupt"),
    ({"data": "own.data:Cats", "skip_corrupt": True}, "--skip_corrupt"),
    ({"data": "own.data:Cats", "image_size": 32}, "--image_size"),
    ({"data": "digits", "data_args": {"a": 1}}, "--data_args"),
    ({"data": "folder", "data_args": {"a": 1}}, "--data_args"),
    ({"data": "digits", "density": "gaussian"}, "--density"),
    ({"data": "a.txt", "density": "own.kinds:Flow"}, "--density"),
    ({"data": "a.txt", "min_kept_per_class": 3}, "--min_kept_per_class"),
    ({"data": "digits", "task": "autoencoder", "min_kept_per_class": 3}, "--min_kept_per_class"),
    ({"data": "digits", "task": "autoencoder", "model": "resnet"}, "--task autoencoder has one model"),
    ({"data": "digits", "task": "autoencoder", "model": "resnt"}, "--task autoencoder has one model"),
]
USED = [
    {"data": "digits", "test_share": 0.2},
    {"data": "folder", "test_share": 0.5, "skip_corrupt": True, "image_size": 32},
    {"data": "x.txt", "test_share": 0.3},
    {"data": "x.csv", "test_share": 0.3},
    {"data": "own.data:Cats", "model": "own.data:Net", "data_args": {"a": 1}},
    {"data": "digits", "score": "density", "density": "gaussian"},
    {"data": "digits", "task": "autoencoder", "density": "gaussian"},
    {"data": "digits", "task": "autoencoder", "min_kept_per_class": 0},
]


def told(given):
    return " ".join(f"{name}={value}" for name, value in given.items()) if isinstance(given, dict) else ""


@pytest.mark.parametrize(("given", "said"), UNUSED, ids=told)
def test_what_is_of_no_use_is_refused(given, said):
    with pytest.raises(InvalidValue, match=said):
        check(TrainOptions(**given))


@pytest.mark.parametrize(("given", "said"), UNUSED, ids=told)
def test_a_run_of_an_earlier_version_goes_on_with_what_it_did_not_use(given, said):
    check(TrainOptions(**given, resume="runs/one"))


@pytest.mark.parametrize("given", USED, ids=told)
def test_what_is_of_use_is_taken(given):
    check(TrainOptions(**given))


def images(folder):
    for name in ("a", "b"):
        for number in range(4):
            path = folder / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 255, (8, 8))
            Image.fromarray(pixels.astype(np.uint8)).save(path)


def rows(path):
    path.write_text("text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(20)))


def test_a_share_of_a_folder_that_has_a_test_part(tmp_path):
    images(tmp_path / "train")
    read_data(resolve(TrainOptions(data=str(tmp_path / "train"), test_share=0.5)), Console.nowhere())
    images(tmp_path / "test")
    with pytest.raises(InvalidValue, match=r"--test_share 0\.5, and --data .* has its own\. Leave it out"):
        read_data(resolve(TrainOptions(data=str(tmp_path), test_share=0.5)), Console.nowhere())
    assert len(read_data(resolve(TrainOptions(data=str(tmp_path))), Console.nowhere()).test) == 8


@pytest.mark.parametrize("task", ["text", "language-model"])
def test_a_share_of_tables_that_have_a_test_part(tmp_path, task):
    rows(tmp_path / "train.csv")
    rows(tmp_path / "test.csv")
    with pytest.raises(InvalidValue, match=r"--test_share 0\.5, and --data .* has its own\. Leave it out"):
        read_data(resolve(TrainOptions(data=str(tmp_path), task=task, test_share=0.5)), Console.nowhere())
    one = TrainOptions(data=str(tmp_path / "train.csv"), task=task, test_share=0.5)
    assert len(read_data(resolve(one), Console.nowhere()).test) == 10
