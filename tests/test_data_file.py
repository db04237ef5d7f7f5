"""What the samples of a run are, kept and compared."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow._checks import DamagedData
from fallow.data_file import DataFile, readable, row_checksums

CLASSES = ("cat", "dog", "emu")


def some(n=6, **changed):
    images = np.arange(n * 4, dtype=np.uint8).reshape(n, 1, 2, 2)
    labels = (np.arange(n) % 3).astype(np.int32)
    given = {"labels": labels, "content": row_checksums(images), "classes": CLASSES}
    return DataFile(**{"n": n, **given, **changed})


def test_it_comes_back(tmp_path):
    files = ("a/1.png", "ü/2.png", "c\udcff.png", "d", "e", "f")
    for data in (some(files=files), some(), DataFile(3)):
        path = tmp_path / "data.safetensors"
        path.write_bytes(data.dump())
        found = DataFile.read(path)
        assert (found.n, found.classes, found.files) == (data.n, data.classes, readable(data.files))
        assert data.changes(found) == []
        for name in ("labels", "content"):
            assert (getattr(found, name) is None) == (getattr(data, name) is None)


def test_rows_that_differ_have_other_checksums():
    rows = np.random.default_rng(0).integers(0, 2, (4000, 3, 3)).astype(np.uint8)
    assert len(np.unique(row_checksums(rows))) == len(np.unique(rows.reshape(4000, -1), axis=0))
    assert row_checksums(rows[:, ::-1])[5] == row_checksums(np.ascontiguousarray(rows[:, ::-1]))[5]
    floats = np.array([[0.0], [-0.0], [np.nan]], np.float32)
    assert len(np.unique(row_checksums(floats))) == 3


@given(st.permutations(range(6)))
def test_another_order_is_told_from_other_content(order):
    before, order = some(), np.array(order)
    now = some(content=before.content[order], labels=before.labels[order])
    found = before.changes(now)
    moved = int((order != np.arange(6)).sum())
    assert bool(found) == bool(moved)
    if moved:
        assert found[0].startswith(f"order: the same samples stand elsewhere, {moved} of 6 differ")
        assert before.changed(now).tolist() == np.flatnonzero(order != np.arange(6)).tolist()


def test_each_kind_of_change_is_named_with_its_count_and_the_first():
    before = some()
    labels = before.labels.copy()
    labels[[1, 4]] = 2, 0
    content = before.content.copy()
    content[5] += 1
    assert before.changes(some(labels=labels)) == [
        "labels: 2 of 6 differ, the first at sample 1: it was dog and is emu"
    ]
    assert before.changes(some(content=content)) == [
        "content: 1 new and 1 gone; by position 1 of 6 differs, the first at sample 5"
    ]
    assert before.changes(some(8)) == ["length: there were 6 samples and are 8"]
    assert before.changes(some(labels=None)) == ["labels: there were some (6) and are none"]
    assert before.changes(some(classes=("cat", "cow", "emu"))) == ["classes: class 1 was dog and is cow"]
    assert before.changes(some(classes=("cat", "dog"))) == ["classes: there were 3 and are 2"]
    assert before.changed(some(labels=labels, content=content)).tolist() == [1, 4, 5]
    assert before.changes(some(content=None)) == []  # not at hand, so it cannot be told


def test_classes_go_by_name_where_they_have_one():
    assert [some().name(i) for i in (0, 4)] == ["cat", "dog"]
    assert some(classes=None).name(4) == "1"
    assert some(labels=None).name(4) is None
    assert some().class_name(7) == "7"


@pytest.mark.parametrize("cut", [0, 9, 80, -3])
def test_a_damaged_file_is_named(tmp_path, cut):
    path = tmp_path / "data.safetensors"
    path.write_bytes(some(files=tuple("abcdef")).dump()[:cut])
    with pytest.raises(DamagedData, match=r"data\.safetensors must be"):
        DataFile.read(path)


def test_parts_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "data.safetensors"
    path.write_bytes(some(labels=np.zeros(5, np.int32)).dump())
    with pytest.raises(DamagedData, match=r"must be of 6 samples\. Found `labels` int32 \(5,\)"):
        DataFile.read(path)


@pytest.mark.parametrize("labels", [np.zeros((6, 1), np.int32), np.zeros(6, np.float32)])
def test_labels_of_another_kind_are_refused(tmp_path, labels):
    path = tmp_path / "data.safetensors"
    path.write_bytes(some(labels=labels).dump())
    with pytest.raises(DamagedData, match="must be of 6 samples"):
        DataFile.read(path)


def test_held_out_samples_are_compared_and_must_not_be_trained_on():
    before = some(held_out=np.array([70, 80], np.uint64))
    other = some(held_out=np.array([70, 90], np.uint64))
    assert before.changes(other) == ["held-out samples: 1 new and 1 gone, of 2"]
    assert before.leaked(other) == 0
    content = before.content.copy()
    content[2] = 80
    assert before.leaked(some(content=content)) == 1
    twice = some(held_out=before.content[:1])  # a picture that was in both parts from the start
    assert twice.leaked(some()) == 0
