"""Which class ids a dataset of the user's own offers, and what is left alone."""

import csv
import json
import os
import re
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Subset, TensorDataset, random_split

from fallow.cli.main import main
from fallow.datasets import ImageDataset
from fallow.tasks.labels import offered_labels, unused_labels


def dataset(n=6, **attributes):
    data = TensorDataset(torch.zeros(n, 2))
    for name, value in attributes.items():
        setattr(data, name, value)
    return data


IDS = [2, 0, 1, 1, 0, 2]


@pytest.mark.parametrize("name", ["labels", "targets"])
@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor, lambda ids: np.array(ids, np.uint8)])
def test_ids_of_any_kind_under_either_name(name, kind):
    labels, classes = offered_labels(dataset(**{name: kind(IDS)}))
    assert labels.tolist() == IDS
    assert classes == ("0", "1", "2")


@pytest.mark.parametrize(
    "found",
    [
        None,
        [0.0, 1.0, 2.0, 0.0, 1.0, 2.0],
        ["cat", "dog"] * 3,
        [[0, 1]] * 6,
        [[0], [1, 2]] * 3,
        [0, 1, 2],
        lambda: IDS,
        {"cat": 0},
        torch.zeros(6, 3, dtype=torch.int64),
    ],
    ids=lambda found: "a function" if callable(found) else str(found),
)
def test_what_is_something_else_is_left_alone(found):
    assert offered_labels(dataset(labels=found)) == (None, None)
    labels, _ = offered_labels(dataset(labels=found, targets=IDS))
    assert labels.tolist() == IDS


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ([0, 1, 2], r"one class id per sample, \(6,\)\. Found shape \(3,\)"),
        (["cat", "dog"] * 3, "must hold class ids"),
        (np.array([0, 1, 2, 2**63, 0, 1], np.uint64), "Found 9223372036854775808 at sample 3"),
    ],
)
def test_what_is_found_and_not_used_is_said(found, why):
    for data in (dataset(targets=found), Subset(dataset(targets=found), [0, 1])):
        assert re.search(f"`targets` of the training dataset is not used: .*{why}", unused_labels(data))
    assert unused_labels(dataset(labels=lambda: IDS)) == unused_labels(dataset(labels=IDS)) == ""


def test_ids_that_are_far_apart_cost_nothing_and_are_names():
    labels, classes = offered_labels(dataset(labels=[2**40, -7, 999_999, -7, 2**40, -7]))
    assert labels.tolist() == [2**40, -7, 999_999, -7, 2**40, -7]
    assert classes == ("-7", "999999", str(2**40))
    assert offered_labels(dataset(labels=[True, False] * 3))[1] == ("0", "1")
    named = dataset(labels=[5000, 0, 5000, 0, 0, 0], classes=[f"class {i}" for i in range(5001)])
    assert offered_labels(named)[1] == ("class 0", "class 5000")


def test_names():
    assert offered_labels(dataset(labels=IDS, classes=["a", "b", "c", "none"]))[1] == ("a", "b", "c", "none")
    assert offered_labels(dataset(labels=IDS, classes=("a", "b")))[1] == ("0", "1", "2")
    assert offered_labels(dataset(labels=IDS, classes=3))[1] == ("0", "1", "2")


def test_parts_of_a_dataset_have_their_rows():
    whole = dataset(30, targets=np.arange(30) % 7, classes=list("abcdefg"))
    part, _ = random_split(whole, [20, 10], torch.Generator().manual_seed(1))
    for indices in (part.indices, np.array(part.indices), torch.tensor(part.indices)):
        labels, classes = offered_labels(Subset(whole, indices))
        assert labels.tolist() == [i % 7 for i in part.indices]
        assert classes == tuple("abcdefg")
    inner = Subset(part, [3, 1])
    assert offered_labels(inner)[0].tolist() == [part.indices[3] % 7, part.indices[1] % 7]


def test_datasets_that_offer_none():
    assert offered_labels(dataset()) == (None, None)
    assert offered_labels(Subset(dataset(), [0, 1])) == (None, None)
    assert offered_labels(ConcatDataset([dataset(targets=IDS)])) == (None, None)


def test_our_own_images_offer_theirs():
    data = ImageDataset(torch.zeros(6, 1, 2, 2), torch.tensor(IDS))
    assert offered_labels(data)[0].tolist() == IDS


OWN = """
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch.utils.data import DataLoader, TensorDataset

from fallow.tasks.class_accuracy import ClassAccuracy

class Flowers(LightningDataModule):
    def __init__(self, labelled=True):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(400, 5, generator=generator)
        y = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 1.3).long()
        self.data = TensorDataset(x, y)
        if labelled:
            self.data.targets, self.data.classes = y, ["rose", "lily", "fern", "moss"]
        if labelled == "cats":
            self.data.targets = ["cat"] * 400
        if labelled == "far":
            self.data.targets = y * 10**12 - 7

    def train_dataloader(self):
        return DataLoader(self.data, batch_size=40, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.data, batch_size=100)

class Line(LightningModule):
    def __init__(self, tells=True):
        super().__init__()
        self.layer, self.class_accuracy, self.tells = torch.nn.Linear(5, 4), ClassAccuracy(), tells

    def training_step(self, batch, batch_idx):
        x, y = batch
        logits = self.layer(x)
        losses = torch.nn.functional.cross_entropy(logits, y, reduction="none")
        found = {"predicted": logits.detach().argmax(1)} if self.tells else {}
        return {"loss": losses.mean(), "per_sample_loss": losses, **found}

    def on_validation_epoch_start(self):
        self.class_accuracy.clear()

    def validation_step(self, batch, batch_idx):
        predicted = self.layer(batch[0]).argmax(1)
        self.class_accuracy.add(predicted, batch[1], 4)
        self.log("val_accuracy", (predicted == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_flowers.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    words = ["train", "--data", "own_flowers:Flowers", "--model", "own_flowers:Line", "--accelerator", "cpu"]
    yield [*words, "--epochs", "3", "--out", str(tmp_path / "run")]
    sys.modules.pop("own_flowers", None)


def test_a_run_keeps_some_of_each_class_and_names_them(own, tmp_path):
    assert main([*own, "--policy", "fraction", "--fraction", "0.8", "--min_kept_per_class", "9"]) == 0
    with (tmp_path / "run" / "samples.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = {row["label"] for row in rows}
    assert names == {"rose", "lily", "fern", "moss"}
    for name in names:
        of_class = [row for row in rows if row["label"] == name]
        kept = [row for row in of_class if row["reason"] == "kept"]
        assert len(kept) >= min(9, len(of_class))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["accuracy_by_class"].keys() == names
    assert summary["worst_class_accuracy"] == min(summary["accuracy_by_class"].values())


def test_a_run_whose_class_ids_are_large_or_negative(own, tmp_path):
    words = [*own, "--data_args", '{"labelled": "far"}']
    assert main([*words, "--policy", "fraction", "--fraction", "0.8", "--min_kept_per_class", "9"]) == 0
    with (tmp_path / "run" / "samples.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == {str(i * 10**12 - 7) for i in range(4)}
    for command in (["report"], ["verify"], ["export", "--format", "csv"], ["inspect"]):
        ids = ["3"] if command == ["inspect"] else []
        assert main([command[0], str(tmp_path / "run"), *command[1:], *ids]) == 0
    with (tmp_path / "run" / "export" / "samples.csv").open() as file:
        assert [row["label"] for row in csv.DictReader(file)] == [row["label"] for row in rows]


@pytest.mark.parametrize(
    ("policy", "labelled", "tells", "asked"),
    [
        ("soft", True, False, True),
        ("soft", True, True, False),
        pytest.param("soft", False, False, False, marks=pytest.mark.slow),
        pytest.param("fraction", True, False, True, marks=pytest.mark.slow),
        pytest.param("threshold", True, False, False, marks=pytest.mark.slow),
    ],
)
def test_a_module_that_keeps_its_predictions_to_itself_is_asked_for_them(
    own, capsys, policy, labelled, tells, asked
):
    data, model = (json.dumps(args) for args in ({"labelled": labelled}, {"tells": tells}))
    assert main([*own, "--data_args", data, "--model_args", model, "--policy", policy]) == 0
    assert ("Return `predicted`" in " ".join(capsys.readouterr().out.split())) == asked


def test_without_labels_a_class_floor_is_refused_and_says_what_to_add(own, capsys):
    words = [*own, "--data_args", '{"labelled": false}']
    assert main([*words, "--min_kept_per_class", "2"]) == 2
    assert "an attribute `labels`, (N,) class ids" in capsys.readouterr().err
    assert main(words) == 0


STREAM = """
from torch.utils.data import DataLoader, IterableDataset
from own_flowers import Flowers

class Stream(IterableDataset):
    def __iter__(self):
        return iter(())

class Brook(Flowers):
    def train_dataloader(self):
        return DataLoader(Stream(), batch_size=40)
"""


def test_a_stream_is_refused_as_by_the_loader(own, tmp_path, capsys):
    (tmp_path / "own_brook.py").write_text(STREAM)
    assert main([word.replace("own_flowers:Flowers", "own_brook:Brook") for word in own]) == 2
    sys.modules.pop("own_brook", None)
    assert "The dataset must be map-style" in capsys.readouterr().err


MUTE = """
from own_flowers import Line
from lightning.pytorch import LightningModule

class Mute(Line):
    validation_step = LightningModule.validation_step
"""


@pytest.mark.slow
def test_what_a_module_cannot_do_is_found_before_a_comparison_trains(own, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("fallow.comparison.running.PROBE_SECONDS", 0.1)
    words = ["compare", *own[1:7], "--epochs", "3", "--saved", "0.3", "--seeds", "1", "--jobs", "1"]
    words += ["--dry-run", "--out", str(tmp_path / "c")]
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    assert main([*words, "--arms", "full,infobatch"]) == 2
    assert "The arm infobatch-0.3: BelowMean(" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
    (tmp_path / "own_mute.py").write_text(MUTE)
    mute = [word.replace("own_flowers:Line", "own_mute:Mute") for word in words]
    assert main([*mute, "--arms", "full,soft", "--data_args", '{"labelled": "cats"}']) == 0
    said = capsys.readouterr().out
    assert "No accuracy will be logged" in said
    assert "the module has no validation_step" in said
    assert "`targets` of the training dataset is not used" in said
