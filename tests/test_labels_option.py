"""``--labels``: training on corrected labels, of every kind of data, with the same samples held out."""

import csv
import os
from dataclasses import replace

import numpy as np
import pytest
import torch

import fallow.datasets.folder
from fallow.cli.main import main
from fallow.datasets import ImageData, ImageDataset, TextData
from fallow.datasets.texts import Texts
from fallow.errors import DamagedData, InvalidValue
from fallow.options.resume_options import with_stored
from fallow.options.train_options import TrainOptions
from fallow.runs.labels_file import COLUMNS
from fallow.runs.run_files import RunFiles
from fallow.tasks.corrected_labels import with_labels
from fallow.training.train import train
from pictures import picture
from told_console import Told

CLASSES = ("ash", "box", "elm")


def data_of(files=None):
    draw = np.random.default_rng(1)
    parts = [torch.from_numpy(draw.integers(0, 256, (n, 1, 8, 8), np.uint8)) for n in (6, 3)]
    train, test = (ImageDataset(images, torch.arange(len(images)) % 3) for images in parts)
    names = (None, None) if files is None else (files[:6], files[6:])
    return ImageData("toy", train, test, CLASSES, names[0], test_files=names[1])


def listed(path, *rows):
    """Write a list; a row is a dict of cells."""
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows)
    return str(path)


def sums(data):
    return [f"{value:016x}" for part in data.identities() for value in part.tolist()]


def corrected(data, path, before=None, folder="/toy"):
    console = Told()
    return with_labels(data, before or data, path, folder, console), console.said


FILES = tuple(f"/toy/{CLASSES[n % 3]}/{n}.png" for n in range(9))


def test_labels_change_and_nothing_else(tmp_path):
    data = data_of(FILES)
    path = listed(tmp_path / "l.csv", {"file": "ash/3.png", "given": "ash", "label": "elm"},
                  {"file": FILES[1], "label": "box"}, {"file": "ash/0.png", "label": ""})  # fmt: skip
    after, said = corrected(data, path)
    assert after.train.labels.tolist() == [0, 1, 2, 2, 1, 2]
    assert data.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert torch.equal(after.train.images, data.train.images)
    assert torch.equal(after.test.labels, data.test.labels)
    assert said == [f"{path}: 1 training label corrected."]


def test_no_list_changes_nothing():
    data = data_of()
    assert with_labels(data, data, "", "toy", Told()) is data


def test_junk_is_left_out_unless_a_class_is_called_so(tmp_path):
    rows = {"file": "ash/3.png", "label": "Junk"}, {"file": "elm/2.png", "label": "?"}
    path = listed(tmp_path / "l.csv", *rows)
    after, said = corrected(data_of(FILES), path)
    assert after.files == FILES[:2] + FILES[4:6]
    assert said == [f"{path}: 0 training labels corrected; 2 samples left out."]
    data = replace(data_of(FILES), classes=("ash", "box", "junk"))
    path = listed(tmp_path / "m.csv", {"file": "ash/3.png", "label": "junk"})
    assert corrected(data, path)[0].train.labels.tolist() == [0, 1, 2, 2, 1, 2]


def test_held_out_labels_change_only_if_they_are_named(tmp_path):
    path = listed(tmp_path / "l.csv", {"file": "ash/6.png", "given": "ash", "label": "box"})
    after, said = corrected(data_of(FILES), path)
    assert after.test.labels.tolist() == [1, 1, 2]
    assert "1 held-out label corrected, so that accuracy is another" in said[0]
    path = listed(tmp_path / "m.csv", {"file": "ash/6.png", "label": "junk"})
    with pytest.raises(
        InvalidValue, match=r"leave out training samples only\. Found a held-out one in row 2"
    ):
        corrected(data_of(FILES), path)


def test_samples_that_were_not_chosen_may_be_named(tmp_path):
    whole = data_of(FILES)
    path = listed(
        tmp_path / "l.csv", {"file": "ash/3.png", "label": "elm"}, {"file": "ash/0.png", "label": "elm"}
    )
    after, said = corrected(whole.take(np.array([0, 1])), path, whole)
    assert after.train.labels.tolist() == [2, 1]
    assert "1 is not among the chosen samples" in said[0]


def test_rows_of_arrays_are_found_by_their_content_wherever_they_stand(tmp_path):
    data = data_of()
    row = {"index": 5, "given": "ash", "label": "elm", "checksum": sums(data)[3]}
    after, _ = corrected(data, listed(tmp_path / "l.csv", row))
    assert after.train.labels.tolist() == [0, 1, 2, 2, 1, 2]
    after, _ = corrected(data, listed(tmp_path / "m.csv", {"index": 3, "label": "elm"}))
    assert after.train.labels.tolist() == [0, 1, 2, 2, 1, 2]


def test_of_equal_samples_the_place_says_which(tmp_path):
    data = data_of()
    data.train.images[4] = data.train.images[1]
    row = {"index": 4, "given": "box", "label": "elm", "checksum": sums(data)[1]}
    after, _ = corrected(data, listed(tmp_path / "l.csv", row))
    assert after.train.labels.tolist() == [0, 1, 2, 0, 2, 2]
    with pytest.raises(InvalidValue, match=r"must name one sample\. Found 2 equal ones"):
        corrected(data, listed(tmp_path / "m.csv", row | {"index": 0}))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"file": "ash/9.png", "label": "elm"}, r"Row 3 of .* a sample of the data\. Found ash/9.png"),
        ({"file": "ash/3.png", "label": "oak"}, r"label in row 3 of .*: ash, box, elm\. Found 'oak'"),
        ({"file": "ash/3.png", "given": "elm", "label": "box"}, r"in row 3 .* the data, ash\. Found 'elm'"),
        ({"file": "ash/3.png", "label": "elm", "checksum": "0" * 16}, r"Row 3 .* that its checksum is of"),
        ({"file": "ash/0.png", "label": "elm"}, r"each sample once\. Found one in row 2 and in row 3"),
    ],
)
def test_each_line_is_checked(tmp_path, row, words):
    path = listed(tmp_path / "l.csv", {"file": "ash/0.png", "label": "box"}, row)
    with pytest.raises(InvalidValue, match=words):
        corrected(data_of(FILES), path)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"index": 6, "label": "elm"}, "must name a sample of the data. Found index 6"),
        ({"index": 2, "label": "elm", "checksum": "0" * 16}, "Found another content of index 2"),
    ],
)
def test_each_place_is_checked(tmp_path, row, words):
    with pytest.raises(InvalidValue, match=words):
        corrected(data_of(), listed(tmp_path / "l.csv", row))


def test_a_corrected_text_counts_as_if_all_annotators_had_named_the_class(tmp_path):
    soft = np.array([[0.5, 0.5], [1, 0], [0, 1]], np.float32)
    part = Texts(("a", "b", "c"), soft.argmax(1), soft, ("d.csv:2", "d.csv:3", "d.csv:4"))
    data = TextData("d", part, Texts(("e",), np.array([0]), soft[:1], ("d.csv:5",)), ("no", "yes"))
    after, _ = corrected(data, listed(tmp_path / "l.csv", {"file": "d.csv:2", "given": "no", "label": "yes"}))
    assert after.train.labels.tolist() == [1, 0, 1]
    assert after.train.soft.tolist() == [[0, 1], [1, 0], [0, 1]]
    assert soft[0].tolist() == [0.5, 0.5]


# Whole trainings


def folder_of(path):
    draw = np.random.default_rng(3)
    for number in range(60):
        colour = tuple(draw.integers(0, 90, 3) + 80 * np.eye(3, dtype=int)[number % 3])
        picture(path / CLASSES[number % 3] / f"{number}.png", tuple(map(int, colour)))
    return str(path)


def npz_of(path):
    draw = np.random.default_rng(3)
    x = draw.integers(0, 256, (80, 8, 8), np.uint8)
    np.savez(path, x_train=x[:60], y_train=np.arange(60) % 3, x_test=x[60:], y_test=np.arange(20) % 3)
    return str(path)


def table_of(path):
    lines = [f"{CLASSES[n % 3]} number {n} of all,{CLASSES[n % 3]}" for n in range(60)]
    path.write_text("text,label\n" + "\n".join(lines) + "\n")
    return str(path)


def quick(data, out, **more):
    options = {"epochs": 1, "accelerator": "cpu", "policy": "full", **more}
    return TrainOptions(data=data, out=str(out), **options)


@pytest.mark.parametrize("kind", ["folder", "large folder", "npz", "table", "digits"])
def test_every_kind_of_data_trains_on_the_list_of_its_run(kind, tmp_path, monkeypatch):
    if kind == "large folder":
        monkeypatch.setattr(fallow.datasets.folder, "IN_MEMORY", 10)
    makers = {"npz": (npz_of, "d.npz"), "table": (table_of, "d.csv"), "digits": (lambda _: "digits", "")}
    make, name = makers.get(kind, (folder_of, "pictures"))
    data = make(tmp_path / name)
    more = {"workers": 0} if "folder" in kind else {}
    first, second = tmp_path / "first", tmp_path / "second"
    train(quick(data, first, **more), Told())
    before = RunFiles(first)
    # The list of a run, as the command writes it: a longer one than the suspects of one epoch.
    monkeypatch.setattr("fallow.runs.suspects._HALF", -1.0)
    assert main(["suspects", str(first), "--export", str(tmp_path / "list.csv")]) == 0
    rows = list(csv.DictReader((tmp_path / "list.csv").read_text().splitlines()))
    assert len(rows) == before.labels.size
    right = {}
    for row in rows[:5]:
        old = before.data.classes.index(row["given"])
        row["label"] = before.data.classes[(old + 1) % len(before.data.classes)]
        right[int(row["index"])] = (old + 1) % len(before.data.classes)
    listed(tmp_path / "fixed.csv", *rows)
    console = Told()
    train(quick(data, second, labels=str(tmp_path / "fixed.csv"), **more), console)
    assert any("5 training labels corrected." in line for line in console.said)
    after = RunFiles(second)
    changed = np.flatnonzero(before.labels != after.labels)
    assert {int(index): int(after.labels[index]) for index in changed} == right
    for name in ("held_out", "held_out_labels", "content", "files"):
        old, new = getattr(before.data, name), getattr(after.data, name)
        assert np.array_equal(old, new) if isinstance(old, np.ndarray) else old == new
    # The list lies in the run, which needs nothing more to go on.
    os.remove(tmp_path / "fixed.csv")
    assert after.options["labels"] == "labels-000.csv"
    assert main(["verify", str(second)]) == 0
    assert main(["train", "--resume", str(second), "--epochs", "2", "--accept", "epochs"]) == 0
    again = RunFiles(second)
    assert (len(again.epochs), again.labels.tolist()) == (2, after.labels.tolist())


def test_a_resumed_run_takes_no_other_list_and_finds_changed_data(tmp_path, capsys):
    data = table_of(tmp_path / "d.csv")
    path = listed(tmp_path / "l.csv", {"file": "d.csv:2", "given": "ash", "label": "elm"})
    train(quick(data, tmp_path / "run", labels=path), Told())
    words = ["train", "--resume", str(tmp_path / "run"), "--epochs", "2", "--accept", "epochs"]
    assert main([*words, "--labels", path]) == 2
    assert "--labels must be what the run was started with" in capsys.readouterr().err
    text = (tmp_path / "d.csv").read_text()
    (tmp_path / "d.csv").write_text(text.replace("of all,box", "of all,elm", 1))
    assert main(words) == 2
    assert "1 text has another label" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "d.csv").write_text(text.replace("of all,ash", "of all,box", 1))
    assert main(words) == 2
    assert "must be the class in the data, box. Found 'ash'" in " ".join(capsys.readouterr().err.split())


def test_data_without_classes_have_no_labels_to_correct(tmp_path, capsys):
    (tmp_path / "d.txt").write_text("some text\n" * 100)
    for data, task in (("digits", "autoencoder"), (str(tmp_path / "d.txt"), "language-model")):
        words = ["train", "--data", data, "--task", task, "--labels", "l.csv"]
        assert main(words) == 2
        assert "--labels goes with" in capsys.readouterr().err


def test_the_list_is_checked_before_anything_is_written(tmp_path, capsys):
    data = table_of(tmp_path / "d.csv")
    path = listed(tmp_path / "l.csv", {"file": "d.csv:200", "label": "elm"})
    words = ["train", "--data", data, "--out", str(tmp_path / "run"), "--labels", path]
    assert main(words) == 2
    assert "must name a sample of the data. Found d.csv:200" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


QUICK = ["--data", "digits", "--samples", "300", "--epochs", "2", "--accelerator", "cpu", "--quiet"]


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def labels_of(run):
    return RunFiles(run).data.labels


def test_the_command_after_an_export_trains_as_before_on_what_was_corrected(tmp_path, monkeypatch, capsys):
    """A chain of three runs: each takes the options of the one before, and all of its corrections."""
    monkeypatch.chdir(tmp_path)
    assert main(["train", *QUICK, "--batch_size", "50", "--out", "first"]) == 0
    corrections = {}
    for before, after in (("first", "second"), ("second", "third")):
        capsys.readouterr()
        assert main(["suspects", before, "--export", f"{before}.csv"]) == 0
        words = f"fallow train --config {before}/config.yaml --labels {before}.csv"
        assert words in capsys.readouterr().out
        rows = rows_of(f"{before}.csv")
        assert {row["checksum"]: row["label"] for row in rows if row["label"]} == corrections
        row = next(row for row in rows if not row["label"])
        row["label"] = next(name for name in "01" if name != row["given"])
        corrections[row["checksum"]] = row["label"]
        listed(tmp_path / f"{before}.csv", *rows)
        assert main([*words.split()[1:], "--out", after]) == 0
    assert int((labels_of("first") != labels_of("second")).sum()) == 1
    assert int((labels_of("first") != labels_of("third")).sum()) == 2
    assert RunFiles("third").options["batch_size"] == 50
    # Again with the same options, from another folder: the list of the run is found beside its config.
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["train", "--config", "../third/config.yaml", "--out", "fourth"]) == 0
    np.testing.assert_array_equal(labels_of("fourth"), labels_of(tmp_path / "third"))


def test_corrections_by_place_or_file_alone_are_carried_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.csv").write_text("index,label\n0,junk\n1,junk\n2,junk\n")
    assert main(["train", *QUICK, "--labels", "own.csv", "--out", "first"]) == 0
    assert main(["suspects", "first", "--export", "next.csv"]) == 0
    kept = [(row["index"], row["label"]) for row in rows_of("next.csv") if row["label"]]
    assert kept == [("0", "junk"), ("1", "junk"), ("2", "junk")]
    assert main(["train", "--config", "first/config.yaml", "--labels", "next.csv", "--out", "second"]) == 0
    assert RunFiles("second").data.n == RunFiles("first").data.n == 297


def test_a_list_in_a_run_of_somebody_is_read_by_its_own_name_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *QUICK, "--out", "first"]) == 0
    os.symlink(tmp_path / "first.csv", tmp_path / "first" / "labels-000.csv")
    (tmp_path / "first.csv").write_text("index,label\n0,1\n")
    config = tmp_path / "first" / "config.yaml"
    config.write_text(config.read_text().replace("labels: ''", "labels: labels-000.csv"))
    with pytest.raises(DamagedData, match=r"labels-000\.csv"):
        train(with_stored({}, [str(config)]), Told())


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--labels", "none.csv"], "--labels must name a list of labels"),
        (["--add", "none.csv"], "--add must name a list of picks"),
        (["--cache_dir", "file"], "--cache_dir must be a folder"),
    ],
)
def test_what_lies_beside_the_data_is_looked_at_first(tmp_path, monkeypatch, capsys, words, error):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    for name in "ab":
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "1.png").write_bytes(b"no image")
    assert main(["train", "--data", "data", "--out", "run", *words]) == 2
    assert error in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
