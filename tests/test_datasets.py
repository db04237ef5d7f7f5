"""Readers of image data: what they return, and what each says about data that breaks a rule."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from fallow import datasets
from fallow.datasets import ImageDataset, load_images
from fallow.errors import InvalidValue


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (6, 5, 7), dtype=np.uint8),
        "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": rng.integers(0, 256, (3, 5, 7), dtype=np.uint8),
        "y_test": np.array([2, 1, 0]),
    }


@pytest.fixture
def save(tmp_path):
    def write(arrays):
        np.savez(tmp_path / "data.npz", **arrays)
        return tmp_path / "data.npz"

    return write


class TestImageDataset:
    def test_loader_hands_out_batches_as_single_gathers(self):
        images = torch.arange(10 * 4, dtype=torch.uint8).reshape(10, 1, 2, 2)
        data = ImageDataset(images, torch.arange(10))
        loader = DataLoader(data, batch_size=4, collate_fn=data.collate)
        batches = list(loader)
        assert [len(labels) for _, labels in batches] == [4, 4, 2]
        assert torch.equal(torch.cat([x for x, _ in batches]), images)
        assert torch.equal(torch.cat([y for _, y in batches]), torch.arange(10))

    def test_collate_also_takes_single_samples_and_a_subset(self):
        data = ImageDataset(torch.zeros(5, 1, 2, 2, dtype=torch.uint8), torch.arange(5))
        images, labels = data.collate([data[1], data[3]])
        assert images.shape == (2, 1, 2, 2)
        assert labels.dtype == torch.int64
        assert labels.tolist() == [1, 3]
        loader = DataLoader(Subset(data, [4, 2]), batch_size=2, collate_fn=data.collate)
        assert next(iter(loader))[1].tolist() == [4, 2]

    @pytest.mark.parametrize("index", [[2, 0], np.array([2, 0]), torch.tensor([2, 0])])
    def test_indices_of_any_kind(self, index):
        data = ImageDataset(torch.zeros(3, 1, 2, 2), torch.tensor([7, 8, 9]))
        assert data.__getitems__(index)[1].tolist() == [9, 7]

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
    def test_mean_std_agree_with_numpy_over_several_blocks(self, dtype, monkeypatch):
        monkeypatch.setattr("fallow.datasets.images.BLOCK", 100)
        values = torch.randint(0, 256, (37, 3, 4, 5), generator=torch.Generator().manual_seed(1))
        images = values.to(dtype) if dtype == torch.uint8 else values.to(dtype) / 255
        mean, std = ImageDataset(images, torch.zeros(37, dtype=torch.int64)).mean_std()
        unit = values.numpy() / 255
        np.testing.assert_allclose(mean, unit.mean((0, 2, 3)), rtol=1e-6)
        np.testing.assert_allclose(std, unit.std((0, 2, 3)), rtol=1e-6)

    def test_constant_channel_has_a_deviation_to_divide_by(self):
        images = torch.full((4, 1, 3, 3), 255, dtype=torch.uint8)
        mean, std = ImageDataset(images, torch.zeros(4, dtype=torch.int64)).mean_std()
        assert mean.tolist() == [1.0]
        assert std.tolist() == [1.0]

    def test_wrong_shapes_and_types(self):
        images = torch.zeros(2, 1, 3, 3, dtype=torch.uint8)
        with pytest.raises(InvalidValue, match=r"\(N, C, H, W\).*Found \(2, 3, 3\)"):
            ImageDataset(images[:, 0], torch.zeros(2, dtype=torch.int64))
        with pytest.raises(InvalidValue, match=r"uint8 or float32.*int32"):
            ImageDataset(images.int(), torch.zeros(2, dtype=torch.int64))
        with pytest.raises(InvalidValue, match=r"\(2,\) in int64.*Found \(3,\)"):
            ImageDataset(images, torch.zeros(3, dtype=torch.int64))


class TestNames:
    def test_unknown_name_shows_the_nearest_and_the_other_kinds(self):
        with pytest.raises(InvalidValue, match=r"Did you mean 'digits'.*FILE.npz"):
            load_images("digit")

    @pytest.mark.parametrize("name", ["fashion-mnist", "cifar10n", "r8"])
    def test_a_set_that_has_left_says_how_it_is_had(self, name):
        said = f"Found {name}, which is not fetched any more. Run `python -m benchmarks.data {name} --out"
        with pytest.raises(InvalidValue, match=re.escape(said)):
            load_images(name)

    @pytest.mark.parametrize("name", ["load_fashion_mnist", "load_vader", "load_shakespeare"])
    def test_a_reader_that_has_left_says_where_it_went(self, name):
        with pytest.raises(AttributeError, match=rf"{name} has left the package: `python -m benchmarks.data"):
            getattr(datasets, name)

    @pytest.mark.parametrize("data", ["no/such/folder", "data.npz"])
    def test_missing_path(self, data):
        with pytest.raises(InvalidValue, match=rf"{data} must exist.*no such file"):
            load_images(data)

    def test_what_is_neither_file_nor_folder_is_named(self, tmp_path):
        os.mkfifo(tmp_path / "fifo")
        (tmp_path / "link").symlink_to("gone")
        for name, kind in (("fifo", "a FIFO"), ("link", "a link to nothing")):
            with pytest.raises(InvalidValue, match=rf"{name} must be a folder or a file. Found {kind}"):
                load_images(tmp_path / name)

    def test_file_of_another_kind(self, tmp_path):
        (tmp_path / "data.csv").write_text("1,2")
        with pytest.raises(InvalidValue, match=r"must be a FILE.npz.*data.csv"):
            load_images(tmp_path / "data.csv")

    def test_image_size_is_refused_where_it_has_no_effect(self):
        with pytest.raises(InvalidValue, match="`image_size` goes with a folder"):
            load_images("digits", image_size=8)

    def test_import_leaves_the_optional_packages_alone(self):
        code = "import sys, fallow.datasets; print({'PIL', 'sklearn'} & set(sys.modules))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout.strip() == "set()", done.stderr

    def test_digits(self):
        data = load_images("digits", seed=0)
        again = load_images("digits", seed=5)
        assert data.train.images.shape == (1437, 1, 8, 8)
        assert data.test.images.shape == (360, 1, 8, 8)
        assert data.train.images.dtype == torch.uint8
        assert data.train.images.max() == 255
        assert data.classes == tuple("0123456789")
        shares = torch.bincount(data.test.labels) / torch.bincount(data.train.labels)
        assert ((shares - 0.25).abs() < 0.01).all()
        assert torch.equal(data.test.images, again.test.images)


class TestNpz:
    def test_read(self, arrays, save):
        data = load_images(save({**arrays, "extra": np.zeros(3)}))
        assert data.name == "data.npz"
        assert data.train.images.shape == (6, 1, 5, 7)
        assert np.array_equal(data.test.images[:, 0], arrays["x_test"])
        assert data.train.labels.dtype == torch.int64
        assert data.classes == ("0", "1", "2")
        assert data.files is None

    def test_names_of_the_classes(self, arrays, save):
        data = load_images(save({**arrays, "class_names": ["eel", "cat", "dog", "owl"]}))
        assert data.classes == ("eel", "cat", "dog"), "in the order of their ids; nothing is an owl"
        assert np.array_equal(data.train.labels, arrays["y_train"])

    @pytest.mark.parametrize(
        ("names", "found"),
        [
            (["eel", "cat"], "2 different names for the classes 0, 1, 2"),
            (["eel", "cat", "eel"], "2 different names"),
            ([1, 2, 3], r"hold words \(C,\). Found int64 \(3,\)"),
            ([["eel", "cat", "dog"]], r"hold words \(C,\). Found <U3 \(1, 3\)"),
        ],
    )
    def test_names_that_do_not_fit_the_classes(self, arrays, save, names, found):
        with pytest.raises(InvalidValue, match=f"`class_names` must .*{found}.*leave the array out"):
            load_images(save({**arrays, "class_names": np.array(names)}))

    @pytest.mark.parametrize(
        ("shape", "expected"),
        [
            ((5, 7), (1, 5, 7)),
            ((5, 7, 3), (3, 5, 7)),
            ((5, 7, 1), (1, 5, 7)),
            ((4, 5, 7), (4, 5, 7)),
            ((4, 4, 1), (1, 4, 4)),
            ((3, 4, 4), (3, 4, 4)),
            ((3, 3, 3), (3, 3, 3)),
            ((3, 9, 4), (4, 3, 9)),
        ],
    )
    def test_order_of_the_axes(self, arrays, save, shape, expected):
        for part, count in (("x_train", 6), ("x_test", 3)):
            arrays[part] = np.zeros((count, *shape), np.uint8)
        assert load_images(save(arrays)).train.images.shape[1:] == expected

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_floats_stay_floats(self, arrays, save, dtype):
        for part in ("x_train", "x_test"):
            arrays[part] = (arrays[part] / 255).astype(dtype)
        data = load_images(save(arrays))
        assert data.train.images.dtype == torch.float32
        assert np.array_equal(data.train.images[:, 0], arrays["x_train"].astype(np.float32))

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (np.nan, "`x_train` must be finite.*Found nan at sample 4"),
            (np.inf, "`x_train` must be finite.*Found inf at sample 4"),
            (-0.1, r"in \[0, 1\]. Found -0.1 at sample 4"),
            (255.0, "Found 255.0 at sample 4. Divide"),
        ],
    )
    def test_floats_out_of_range(self, arrays, save, value, message, monkeypatch):
        monkeypatch.setattr("fallow.datasets.npz.BLOCK", 3)
        for part in ("x_train", "x_test"):
            arrays[part] = arrays[part] / 255
        arrays["x_train"][4, 1, 2] = value
        with pytest.raises(InvalidValue, match=message):
            load_images(save(arrays))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"y_train": None}, "must hold `y_train`. Found x_train, x_test, y_test.*numpy.savez"),
            ({"x_train": np.zeros((6, 5), np.uint8)}, r"`x_train` must be \(N, H, W\).*\(6, 5\)"),
            ({"x_train": np.zeros((6, 5, 7, 2), np.uint8)}, "with C = 1, 3 or 4"),
            ({"x_train": np.zeros((0, 5, 7), np.uint8)}, "`x_train` must hold images"),
            ({"x_train": np.zeros((6, 5, 7), np.int64)}, "uint8 or floats.*int64.*astype"),
            ({"x_test": np.zeros((3, 5, 8), np.uint8)}, "one shape and type.*5, 8"),
            ({"x_test": np.zeros((3, 5, 7))}, "one shape and type.*float64"),
            ({"y_train": np.arange(5)}, "`y_train` must.*6 images of `x_train`. Found 5"),
            ({"y_test": np.arange(2)}, "3 images of `x_test`. Found 2"),
            ({"y_train": np.zeros((6, 3), int)}, r"shape \(N,\). Found \(6, 3\).*argmax"),
            (
                {"y_train": np.array([0, 1, 0.5, 0, 1, 2])},
                "whole numbers. Found 0.5 at sample 2.*measurements",
            ),
            ({"y_train": np.array([0, 1, np.nan, 0, 1, 2])}, "whole numbers. Found nan at sample 2"),
            ({"y_train": np.array([0, 1, 1e16, 0, 1, 2])}, "whole numbers. Found 1e.16 at sample 2"),
            ({"y_train": np.zeros(6, complex)}, "whole numbers or words. Found complex128"),
            ({"y_train": np.zeros(6, "M8[s]")}, "whole numbers or words. Found datetime64"),
            ({"y_train": np.array(["a" * 257, *"bcdef"])}, "at most 256 characters. Found <U257"),
            ({"y_train": np.array([b"a", b"\xff", *[b"c"] * 4])}, "`y_train` must hold words as text"),
            ({"y_train": np.zeros((6, 1, 1), int)}, r"shape \(N,\). Found \(6, 1, 1\)"),
            ({"y_train": np.array([["a", "b"]] * 6)}, r"shape \(N,\). Found \(6, 2\)"),
            ({"y_train": np.full((6, 2), 0.5)}, r"shape \(N,\). Found \(6, 2\).*argmax"),
            (
                {"y_train": np.zeros(6, [("a", "i4"), ("b", "f4")])},
                "`y_train` must hold numbers. Found the type",
            ),
            ({"y_train": np.full(6, 4)}, "at least two classes. Found only 4"),
        ],
    )
    def test_rules(self, arrays, save, change, message):
        arrays = {k: v for k, v in {**arrays, **change}.items() if v is not None}
        with pytest.raises(InvalidValue, match=message):
            load_images(save(arrays))

    @pytest.mark.parametrize(
        ("y_train", "y_test", "classes"),
        [
            ([0, 1, 2, 0, 1, 2], [0, 1, 2], "0 1 2"),
            ([7, -1, 999_999, 7, -1, 999_999], [7, 7, -1], "-1 7 999999"),
            ([0, 2, 2, 0, 2, 0], [0, 0, 2], "0 2"),
            (np.array([2**64 - 1, 3] * 3, np.uint64), [3, 3, 3], "3 18446744073709551615"),
            (["eel", "10", "9"] * 2, ["9", "eel", "eel"], "9 10 eel"),
            ([b"eel", b"cat", b"eel"] * 2, ["cat", "eel", "cat"], "cat eel"),
            ([1, 2, 10] * 2, ["10", "2", "1"], "1 2 10"),
            ([3.0, -0.0, 3.0] * 2, [0, 3, 3], "0 3"),
            ([True, False, True] * 2, [0, 1, 1], "0 1"),
            ([[5], [6], [5]] * 2, [[5], [5], [6]], "5 6"),
            (np.eye(3)[[2, 0, 1, 1, 0, 2]], np.eye(3, dtype=bool)[[0, 1, 2]], "0 1 2"),
            (np.asfortranarray(np.eye(3)[[2, 0, 1, 1, 0, 2]]), [0, 1, 2], "0 1 2"),
        ],
    )  # fmt: skip
    def test_class_ids_are_names(self, arrays, save, y_train, y_test, classes):
        data = load_images(save({**arrays, "y_train": y_train, "y_test": y_test}))
        assert data.classes == tuple(classes.split())
        assert data.notes == ()
        for part, given in ((data.train, y_train), (data.test, y_test)):
            ids = np.asarray(given)
            ids = ids.argmax(1) if ids.ndim == 2 and ids.shape[1] > 1 else ids.reshape(-1)
            ids = ids.astype(np.int64) if ids.dtype.kind in "bf" else ids
            wanted = [name.decode() if isinstance(name, bytes) else str(name) for name in ids.tolist()]
            assert [data.classes[label] for label in part.labels] == wanted

    def test_a_class_that_is_only_tested_is_named(self, arrays, save):
        data = load_images(save({**arrays, "y_test": [0, 9, -4]}))
        assert data.classes == ("-4", "0", "1", "2", "9")
        assert data.test.labels.tolist() == [1, 4, 0]
        (note,) = data.notes
        assert "2 classes that `y_train` lacks: -4, 9. Their 2 of 3" in note

    def test_labels_that_look_like_measurements_are_doubted(self, arrays, save):
        count = 600
        arrays["x_train"] = np.zeros((count, 5, 7), np.uint8)
        arrays["y_train"] = np.arange(count) // 4
        (note,) = load_images(save(arrays)).notes
        assert "150 classes with 4.0 samples each" in note
        arrays["y_train"] = np.arange(count) // 5
        assert load_images(save(arrays)).notes == ()

    def test_in_fortran_order(self, arrays, save):
        whole = load_images(save(arrays)).train.images
        arrays["x_train"] = np.asfortranarray(arrays["x_train"])
        assert torch.equal(load_images(save(arrays)).train.images, whole)

    def test_files_that_are_no_archive(self, arrays, save, tmp_path):
        whole = save(arrays).read_bytes()
        path = tmp_path / "other.npz"
        for content in (whole[:200], b"text"):
            path.write_bytes(content)
            with pytest.raises(InvalidValue, match=r"must be a numpy archive.*cut-off"):
                load_images(path)
        path.write_bytes(b"")
        with pytest.raises(InvalidValue, match="Found an empty file"):
            load_images(path)
