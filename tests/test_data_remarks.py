"""What is said of the samples before they train: classes without one, copies, copies with other labels."""

import json

import numpy as np
import pytest
from PIL import Image

from fallow.options.resolve import resolve
from fallow.options.train_options import TrainOptions
from fallow.runs.data_file import DataFile, held_out_arrays
from fallow.training.data_remarks import data_remarks
from fallow.training.train import train
from told_console import Told

CLASSES = ("cat", "dog", "eel", "fox", "gnu")


def data(content, labels, held=(), classes=CLASSES, files=None, **more):
    arrays = held_out_arrays(np.array(held, np.uint64), np.zeros(len(held), np.int32))
    given = np.array(content, np.uint64), classes, files
    return DataFile(len(content), np.array(labels, np.int32), *given, **{**arrays, **more})


def test_nothing_is_said_where_there_is_nothing():
    assert data_remarks(data([1, 2, 3, 4, 5], range(5), [8, 9]), "image") == []
    assert data_remarks(DataFile(3), "sample") == []
    assert data_remarks(data([1, 2], [-1, -1], classes=None), "image") == []


def test_classes_without_a_training_sample_are_counted_and_named():
    assert data_remarks(data([1, 2], [1, 3]), "image") == [
        "3 of 5 classes have no training image and cannot be learned: cat, eel, gnu."
    ]
    many = tuple(f"c{i}" for i in range(1500))
    said = data_remarks(data([1, 2], [0, 1], classes=many), "text")
    assert said == ["1,498 of 1,500 classes have no training text and cannot be learned: c2, c3, c4, ..."]
    assert "1 of 5 classes has" in data_remarks(data([1, 2, 3, 4], range(4)), "image")[0]


def test_copies_are_named_in_one_line():
    files = tuple(f"/data/{name}/{i}.png" for i, name in enumerate("aabbc"))
    some = data([1, 2, 2, 2, 5], [0, 1, 1, 1, 2], held=[9, 5, 1], files=files, classes=None)
    assert data_remarks(some, "image", lambda place: f"/data/test/{place}.png") == [
        "2 of the 3 held-out images are copies of training images (test/0.png = a/0.png, "
        "test/1.png = c/4.png); 2 of the 5 training images are copies of others (b/2.png = a/1.png, "
        "b/3.png = b/2.png)."
    ]
    assert data_remarks(data([1, 1, 3], [0, 0, 1], classes=None), "window") == [
        "1 of the 3 training windows is a copy of another (window 1 = window 0)."
    ]


def test_copies_with_different_labels_are_certain_errors():
    some = data([7, 1, 7, 1, 7, 1, 4], [0, 1, 2, 1, 0, 1, 3], classes=CLASSES[:4])
    said = data_remarks(some, "image")
    assert said[1:] == [
        "3 training images are copies with different labels, so some of these labels are wrong: "
        "image 4 (cat) = image 2 (eel)."
    ]


def test_texts_are_copies_by_their_text_alone():
    """Whatever annotators say of them, which their content tells too."""
    some = data([1, 2], [0, 1], held=[3], classes=None, identity=np.array([5, 5], np.uint64),
                held_out_identity=np.array([5], np.uint64))  # fmt: skip
    said = data_remarks(some, "text")
    assert said[0].startswith("1 of the 1 held-out text is a copy of a training text")
    assert "2 training texts are copies with different labels" in said[1]
    assert data_remarks(some, "image") == []


def test_the_counts_are_those_of_a_slow_count():
    rng = np.random.default_rng(0)
    content, held = rng.integers(0, 700, 600), rng.integers(0, 2000, 200)
    labels = rng.integers(0, 3, 600)
    said = data_remarks(data(content, labels, held, classes=CLASSES[:3]), "image")
    known = set(content.tolist())
    by_content = {}
    for one, label in zip(content.tolist(), labels.tolist(), strict=True):
        by_content.setdefault(one, []).append(label)
    odd = sum(len(group) for group in by_content.values() if len(set(group)) > 1)
    assert said[0].startswith(f"{sum(one in known for one in held.tolist())} of the 200 held-out")
    assert f"; {600 - len(known)} of the 600 training images are copies of others" in said[0]
    assert said[1].startswith(f"{odd} training images are copies with different labels")


def test_a_million_samples():
    rng = np.random.default_rng(0)
    content, labels = np.arange(1_000_000, dtype=np.uint64) * 7, rng.integers(0, 5, 1_000_000)
    content[::1000] = 1
    labels[::1000] = 3
    labels[5000] = 2
    said = data_remarks(data(content, labels, np.arange(10) * 7), "image")
    assert said[0].startswith("9 of the 10 held-out images are copies of training images")
    assert "; 999 of the 1,000,000 training images are copies of others" in said[0]
    assert said[1].startswith("1,000 training images are copies with different labels")


def test_digits_have_one_line_at_most():
    told = Told()
    from fallow.training.jobs import build

    job = build(resolve(TrainOptions(data="digits")), told)
    assert len(job.remarks) <= 1


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(1)
    for part, count in (("train", 8), ("test", 3)):
        for name in ("cat", "dog"):
            place = tmp_path / "data" / part / name
            place.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(place / f"{i}.png")
    return tmp_path / "data"


def test_a_folder_names_its_files_before_it_trains_and_in_the_summary(folder, tmp_path):
    image = (folder / "train" / "cat" / "2.png").read_bytes()
    (folder / "train" / "dog" / "copy.png").write_bytes(image)
    (folder / "test" / "cat" / "0.png").write_bytes(image)
    told = Told()
    options = TrainOptions(data=str(folder), epochs=1, accelerator="cpu", out=str(tmp_path / "run"))
    summary = train(options, told)
    want = [
        "1 of the 6 held-out images is a copy of a training image (cat/0.png = cat/2.png); 1 of the 17 "
        "training images is a copy of another (dog/copy.png = cat/2.png).",
        "2 training images are copies with different labels, so some of these labels are wrong: "
        "cat/2.png (cat) = dog/copy.png (dog).",
    ]
    assert [line for line in told.said if line in want] == want
    assert summary["data_remarks"] == want
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["data_remarks"] == want
