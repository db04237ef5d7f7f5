"""What the samples of a run are, kept and compared."""

import numpy as np
import pytest

from fallow.arrays.checksums import row_checksums
from fallow.errors import DamagedData
from fallow.runs.data_file import DataFile, readable

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


def test_each_kind_of_change_is_named_with_its_count_and_the_first():
    before = some()
    labels = before.labels.copy()
    labels[[1, 4]] = 2, 0
    assert list(map(str, before.changes(some(labels=labels)))) == [
        "labels: 2 of 6 differ, the first at sample 1: it was dog and is emu"
    ]
    assert list(map(str, before.changes(some(8)))) == ["length: there were 6 samples and are 8"]
    assert list(map(str, before.changes(some(labels=None)))) == ["labels: there were some (6) and are none"]
    assert list(map(str, before.changes(some(classes=("cat", "cow", "emu"))))) == [
        "classes: cow is new; dog is gone"
    ]
    assert list(map(str, before.changes(some(classes=("cat", "dog"))))) == ["classes: emu is gone"]


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


def test_all_arrays_come_back(tmp_path):
    numbers = np.arange(6, dtype=np.uint64)
    data = some(
        identity=numbers,
        held_out=numbers[:2],
        held_out_labels=np.zeros(2, np.int32),
        held_out_identity=numbers[:2] + np.uint64(1),
        origin=np.array([[0, 1, 3, 4, -1, -1], [0, 1, 2, 5, 6, -1]]),
        since=np.array([2, 5]),
        cut=np.array([7, 9], np.uint64),
    )
    path = tmp_path / "data.safetensors"
    path.write_bytes(data.dump())
    found = DataFile.read(path)
    for name in ("identity", "held_out", "held_out_labels", "held_out_identity", "origin", "since", "cut"):
        assert np.array_equal(getattr(found, name), getattr(data, name)), name
    assert found.numbering.places(5, 9) is None
    assert found.numbering.places(1, 4).tolist() == [0, 1, 3]
    assert found.numbering.places(2, 6).tolist() == [0, 1, 2, 5]


ORIGINS = [
    ([[1, 0, -1, -1, -1, -1]], [1]),
    ([[0, -1, 1, -1, -1, -1]], [1]),
    ([[0, 0, 1, -1, -1, -1]], [1]),
    ([[0, 1, -2, -1, -1, -1]], [1]),
    ([[0, 1, 2, 3, 4, 5]] * 2, [3, 1]),
    ([[0, 1, 2, 3, 4, 5]], [-1]),
    ([[0, 1, 2]], [1]),
    ([[0, 1, 2, 3, 4, 5]], None),
]


@pytest.mark.parametrize(("origin", "since"), ORIGINS)
def test_numberings_that_are_none_are_refused(tmp_path, origin, since):
    path = tmp_path / "data.safetensors"
    given = some(origin=np.array(origin), since=None if since is None else np.array(since))
    path.write_bytes(given.dump())
    with pytest.raises(DamagedData, match="must "):
        DataFile.read(path)
