"""Pools: what each kind of them yields, part by part, and what is said of one that breaks a rule."""

import io
import json
import os
import random
import re
import tracemalloc
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fallow.datasets import ImageDataset, load_images
from fallow.datasets.pixel_range import PixelRange, PixelRanges
from fallow.datasets.pools import open_pool
from fallow.errors import DamagedData, FallowError, InvalidValue
from messages import says
from saved_sets import saved_by_hand

CLASSES = ("cat", "dog", "eel")
N = 1100
"""Samples of a pool that has more than two parts."""


def training(shape=(1, 8, 8), kind=torch.uint8):
    return ImageDataset(torch.zeros(4, *shape, dtype=kind), torch.tensor([0, 1, 2, 0]))


def pixels(n=N, shape=(8, 8), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def png(array):
    data = io.BytesIO()
    Image.fromarray(array).save(data, "PNG")
    return data.getvalue()


def rewritten(path, data):
    path.unlink(missing_ok=True)  # some disks wait where a file is written over
    path.write_bytes(data)
    return path


def whole(pool, index=None):
    """Return index, images and labels of all parts, joined."""
    parts = list(pool.parts(index))
    assert all(len(part) <= 512 for part in parts)
    if not parts:
        return np.zeros(0, np.int64), None, np.zeros(0, np.int64)
    joined = (np.concatenate([getattr(part, name) for part in parts]) for name in ("index", "labels"))
    index, labels = joined
    return index, torch.cat([part.images for part in parts]), labels


def of(path, *, shape=(1, 8, 8), kind=torch.uint8, classes=CLASSES):
    return open_pool(path, training(shape, kind), classes)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same samples in every kind of pool that keeps pixels as they are."""
    folder = tmp_path_factory.mktemp("pools")
    x, y = pixels(), np.arange(N) % 3
    np.savez(folder / "plain.npz", x=x, y=y, other=np.zeros(3))
    np.savez_compressed(folder / "small.npz", y=y, x=x[..., None])
    encoded = [png(image) for image in x]
    info = {"info": {"features": {"label": {"names": ["eel", "dog", "cat"], "_type": "ClassLabel"}}}}
    table = arrow.table(
        {"id": range(N), "image": [{"bytes": one, "path": "a.png"} for one in encoded], "label": 2 - y}
    ).replace_schema_metadata({"huggingface": json.dumps(info)})
    parquet.write_table(table, folder / "hugging.parquet", row_group_size=300)
    names = arrow.table({"image": encoded, "label": [CLASSES[label] for label in y]})
    (folder / "several").mkdir()
    for place, start in enumerate(range(0, N, 400)):
        parquet.write_table(names[start : start + 400], folder / "several" / f"part-{place}.parquet")
    parquet.write_table(arrow.table({"x": x.tolist(), "y": y}), folder / "lists.parquet")
    flat = x.reshape(N, -1).astype(np.float64) / 255
    parquet.write_table(arrow.table({"x": flat.tolist(), "y": y}), folder / "flat.parquet")
    for place, one in enumerate(encoded):
        path = folder / "images" / CLASSES[y[place]] / f"{place:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(one)
    return folder


KINDS = ["plain.npz", "small.npz", "hugging.parquet", "several", "lists.parquet", "flat.parquet"]


@pytest.fixture(scope="module")
def opened(files):
    """Each pool, opened once, and all that it holds."""
    pools = {kind: of(files / kind) for kind in [*KINDS, "images"]}
    return {kind: (pool, whole(pool)) for kind, pool in pools.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_pool_gives_the_same_pixels_and_labels(opened, files, kind):
    pool, (index, images, labels) = opened[kind]
    assert pool.name == str(files / kind)
    assert pool.total == N
    assert index.tolist() == list(range(N))
    assert np.array_equal(images.numpy()[:, 0], pixels())
    assert labels.tolist() == [place % 3 for place in range(N)]
    assert all(part.files is None for part in pool.parts())


def test_a_folder_gives_the_files_sorted_by_path_with_the_names_of_their_folders(opened, files):
    pool, (index, images, labels) = opened["images"]
    order = [place for label in range(3) for place in range(label, N, 3)]
    assert index.tolist() == list(range(N))
    assert np.array_equal(images.numpy()[:, 0], pixels()[order])
    assert labels.tolist() == [place % 3 for place in order]
    paths = [file for part in pool.parts() for file in part.files]
    assert [Path(path).stem for path in paths] == [f"{place:04d}" for place in order]
    assert all(Path(path).is_absolute() for path in paths)


@given(st.sets(st.integers(0, N + 600), max_size=40), st.sampled_from([*KINDS, "images"]))
@settings(max_examples=60, deadline=None)
def test_parts_of_an_index_are_exactly_those_rows(opened, wanted, kind):
    pool, (_, images, labels) = opened[kind]
    rows = np.array(sorted(row for row in wanted if row < N), np.int64)
    index, found, theirs = whole(pool, np.array(sorted(wanted), np.int64))
    assert index.tolist() == rows.tolist()
    assert theirs.tolist() == labels[rows].tolist()
    if rows.size:
        assert torch.equal(found, images[rows])


@pytest.mark.parametrize("share", [(0, 1), (1, 2)])
@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_a_pool_that_has_changed_since_it_was_opened_is_refused(tmp_path, suffix, share):
    def written(count):
        data, path = io.BytesIO(), tmp_path / f"pool.{suffix}"
        if suffix == "npz":
            np.savez(data, x=pixels(count))
        else:
            parquet.write_table(arrow.table({"x": pixels(count).tolist()}), data)
        return rewritten(path, data.getvalue())

    pool = of(written(1300))
    for count in (700, 1400):
        path = written(count)
        expected = f"{path} must not change while it is used. Found {count:,} samples, before 1,300."
        with pytest.raises(DamagedData, match=re.escape(expected)):
            list(pool.parts(share=share))
    written(1300)
    assert sum(map(len, pool.parts())) == 1300


@pytest.mark.parametrize("kind", [*KINDS, "images", "digits"])
def test_no_index_and_one_that_is_beyond_the_end_give_nothing(files, kind):
    name = kind if kind == "digits" else files / kind
    for index in ([], [N + 5000], [2**63 - 1]):
        assert not sum(len(part) for part in of(name).parts(np.array(index, np.int64)))


class TestKnownNames:
    def test_digits_are_those_of_the_training_part(self):
        data = load_images("digits")
        pool = open_pool("digits", data.train, data.classes)
        index, images, labels = whole(pool)
        assert (pool.name, pool.total, len(index)) == ("digits", 1437, 1437)
        assert torch.equal(images, data.train.images)
        assert labels.tolist() == data.train.labels.tolist()
        some = np.array([0, 511, 512, 1436])
        assert torch.equal(whole(pool, some)[1], data.train.images[some])

    def test_their_classes_are_told_apart_by_name_not_by_number(self):
        pool = of("digits", classes=("7", "cat", "0"))
        names = load_images("digits").train.labels
        wanted = [{7: 0, 0: 2}.get(int(name), -1) for name in names]
        assert whole(pool)[2].tolist() == wanted

    def test_of_another_size(self):
        with pytest.raises(InvalidValue) as error:
            whole(of("digits", shape=(3, 32, 32)))
        says(error, "`digits` must hold images as the training set does, 3 x 32 x 32", "Found 1 x 8 x 8")


class TestFolder:
    def test_labels_are_known_where_the_folder_is_a_class_of_the_run_at_any_depth(self, tmp_path):
        for name in ("cat/1.png", "a/b/eel/2.PNG", "owl/3.png", "cat/x/4.png", "5.png", ".hidden/dog/6.png"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(png(pixels(1)[0]))
        (tmp_path / "dog" / ".7.png").parent.mkdir()
        (tmp_path / "dog" / ".7.png").write_bytes(png(pixels(1)[0]))
        (tmp_path / "cat" / "notes.txt").write_text("no image")
        pool = of(tmp_path)
        (part,) = pool.parts()
        found = {
            str(Path(file).relative_to(tmp_path)): label
            for file, label in zip(part.files, part.labels, strict=True)
        }
        assert found == {"5.png": -1, "a/b/eel/2.PNG": 2, "cat/1.png": 0, "cat/x/4.png": -1, "owl/3.png": -1}

    def test_an_image_that_cannot_be_read_is_left_out_and_the_others_keep_their_places(self, tmp_path):
        x = pixels(5)
        for place, image in enumerate(x):
            data = png(image)
            (tmp_path / f"{place}.png").write_bytes(data[:40] if place == 1 else data)
        (tmp_path / "3.png").write_bytes(b"")
        pool = of(tmp_path)
        index, images, _ = whole(pool)
        assert pool.total == 5
        assert index.tolist() == [0, 2, 4]
        assert np.array_equal(images.numpy()[:, 0], x[[0, 2, 4]])
        index, images, _ = whole(pool, np.array([1, 2, 3, 4]))
        assert index.tolist() == [2, 4]
        assert np.array_equal(images.numpy()[:, 0], x[[2, 4]])
        assert whole(pool, np.array([1]))[0].size == 0

    def test_images_are_made_of_the_size_and_colours_of_the_training_images(self, tmp_path):
        colours = np.zeros((20, 20, 3), np.uint8) + np.array([200, 100, 0], np.uint8)
        (tmp_path / "1.png").write_bytes(png(colours))
        assert whole(of(tmp_path, shape=(3, 4, 4)))[1][0, :, 2, 2].tolist() == [200, 100, 0]
        grey = whole(of(tmp_path, shape=(1, 4, 4), kind=torch.float32))[1]
        assert grey.dtype == torch.float32
        assert round(float(grey[0, 0, 2, 2]) * 255) == round(0.299 * 200 + 0.587 * 100)

    def test_names_that_differ_by_case_only_have_one_order(self, tmp_path):
        for name in ("b.png", "A.png", "a.png", "B.png"):
            (tmp_path / name).write_bytes(png(pixels(1)[0]))
        (part,) = of(tmp_path).parts()
        assert [Path(file).name for file in part.files] == ["A.png", "a.png", "B.png", "b.png"]

    def test_what_is_left_out_is_said(self, tmp_path):
        (tmp_path / "cat").mkdir()
        outside = tmp_path.with_name(f"{tmp_path.name}-outside")
        outside.mkdir()
        for place in (tmp_path / "cat", outside):
            (place / "1.png").write_bytes(png(pixels(1)[0]))
        (tmp_path / "cat" / "2.png").write_bytes(b"no image")
        (tmp_path / "cat" / "3.png").write_bytes(png(pixels(1)[0])[:50])
        (tmp_path / "cat" / "notes.txt").write_text("no image")
        (tmp_path / "cat" / "4.png").symlink_to(outside / "1.png")
        (tmp_path / "dog").symlink_to(outside)
        os.mkfifo(tmp_path / "cat" / "5.png")
        os.mkfifo(tmp_path / "6.parquet")
        pool = of(tmp_path)
        assert pool.total == 3
        assert pool.notes == (
            "Left out 1 file that is not an image: 1 .txt.",
            f"Left out 2 links, as links in a pool are not followed: {tmp_path / 'cat' / '4.png'}.",
            f"Left out 2 files that cannot be opened: {tmp_path / '6.parquet'} (a FIFO).",
        )
        (part,) = pool.parts()
        assert part.index.tolist() == [0]
        assert [Path(name).name for name in part.unreadable] == ["2.png", "3.png"]
        assert part.unreadable[str(tmp_path / "cat" / "2.png")] == "its bytes are of no known image format"

    def test_a_file_that_becomes_a_link_or_a_fifo_is_not_opened(self, tmp_path):
        for name in ("a.png", "b.png", "c.png"):
            (tmp_path / name).write_bytes(png(pixels(1)[0]))
        pool = of(tmp_path)
        for name in ("a.png", "b.png"):
            (tmp_path / name).unlink()
        (tmp_path / "a.png").symlink_to(tmp_path / "c.png")
        os.mkfifo(tmp_path / "b.png")
        (part,) = pool.parts()
        assert part.index.tolist() == [2]
        assert ["a link" in why or "a FIFO" in why for why in part.unreadable.values()] == [True, True]

    def test_images_are_known_by_content_too(self, tmp_path):
        for name in ("a.jfif", "b", "c.txt"):
            (tmp_path / name).write_bytes(png(pixels(1)[0]))
        assert of(tmp_path).total == 3

    def test_deep_pixels_are_scaled_as_those_of_the_training_images(self, tmp_path):
        x = np.linspace(0, 8000, 64).astype(np.uint16).reshape(8, 8)
        (tmp_path / "deep.png").write_bytes(png(x))
        like = training()
        like.ranges = PixelRanges(whole=PixelRange(0, 4095))
        table(tmp_path.with_suffix(".parquet"), image=[png(x)])
        for name in (tmp_path, tmp_path.with_suffix(".parquet")):
            (part,) = open_pool(name, like, CLASSES).parts()
            wanted = np.rint(np.clip(x, 0, 4095) * (255 / 4095))
            assert np.array_equal(part.images[0, 0].numpy(), wanted)

    def test_deep_pixels_are_left_out_if_no_training_image_tells_their_range(self, tmp_path):
        (tmp_path / "deep.png").write_bytes(png(np.full((8, 8), 900, np.uint16)))
        (part,) = of(tmp_path).parts()
        assert (len(part), ["no training image tells" in why for why in part.unreadable.values()]) == (
            0,
            [True],
        )

    def test_a_folder_without_images(self, tmp_path):
        (tmp_path / "read.me").write_text("nothing here")
        with pytest.raises(InvalidValue) as error:
            of(tmp_path)
        says(error, f"{tmp_path} must hold images", "none", "png")


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


class TestNpz:
    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    @pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 2, 3, 1)])
    def test_channels_first_and_last(self, tmp_path, save, axes):
        x = pixels(9, (3, 6, 5))
        save(tmp_path / "x.npz", x=np.ascontiguousarray(x.transpose(axes)))
        assert np.array_equal(whole(of(tmp_path / "x.npz", shape=(3, 6, 5)))[1].numpy(), x)

    @pytest.mark.parametrize("kind", ["<f2", ">f4", "<f8"])
    @pytest.mark.parametrize("like", [torch.uint8, torch.float32])
    def test_floats_of_any_width_for_either_kind_of_training_set(self, tmp_path, kind, like):
        x = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
        images = whole(of(npz(tmp_path / "x.npz", x=(x / 255).astype(kind)), kind=like))[1]
        assert images.dtype == like
        found = images if like == torch.uint8 else (images * 255).round()
        assert np.array_equal(found.numpy()[:, 0].astype(np.uint8), x)

    def test_bytes_for_a_float_training_set_and_back_are_the_same(self, tmp_path):
        x = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
        floats = whole(of(npz(tmp_path / "x.npz", x=x), kind=torch.float32))[1]
        assert np.array_equal(floats.numpy()[:, 0], (x / 255).astype(np.float32))
        assert np.array_equal(whole(of(npz(tmp_path / "y.npz", x=floats.numpy())))[1].numpy()[:, 0], x)

    @pytest.mark.parametrize(
        ("y", "labels"),
        [
            ([2, 0, 1], [2, 0, 1]),
            (np.array([2, 0, 1], ">i2"), [2, 0, 1]),
            (np.array([2, 0, 1], np.uint8), [2, 0, 1]),
            (["eel", "cat", "dog"], [2, 0, 1]),
            ([2, 0, 3], "'3' at sample 2 is no class of the run."),
            ([0.0, 1.0, 2.0], [0, 1, 2]),
            ([True, False, True], [1, 0, 1]),
            ([[0], [1], [2]], [0, 1, 2]),
            (np.eye(3)[[2, 0, 1]], [2, 0, 1]),
            ([0.5, 1, 2], "Found 0.5 at sample 0."),
            ([0, 1], "its shape is (2,), and there are 3 images."),
            (1, ""),
            (np.array([0, None, "cat"], object), "Found Python objects."),
            (["eel", "cat", "owl"], ""),
        ],
    )
    def test_labels_are_used_where_all_are_classes_of_the_run(self, tmp_path, y, labels):
        pool = of(npz(tmp_path / "x.npz", x=pixels(3), y=y))
        if isinstance(labels, list):
            assert (whole(pool)[2].tolist(), pool.notes) == (labels, ())
        else:
            assert whole(pool)[2].tolist() == [-1] * 3
            (note,) = pool.notes
            assert f"`y` in {tmp_path / 'x.npz'} is not used: " in note
            assert labels in note

    def test_labels_of_a_run_whose_classes_are_numbers_are_names(self, tmp_path):
        like = ImageDataset(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))
        path = npz(tmp_path / "x.npz", x=pixels(3), y=[999_999, -7, 999_999])
        assert whole(open_pool(path, like, ("-7", "12", "999999")))[2].tolist() == [2, 0, 2]
        path = npz(tmp_path / "x.npz", x=pixels(3), y=[0, 1, 2])
        assert whole(open_pool(path, like, ("-7", "12", "999999")))[2].tolist() == [-1, -1, -1]

    def test_without_labels(self, tmp_path):
        assert whole(of(npz(tmp_path / "x.npz", x=pixels(3))))[2].tolist() == [-1, -1, -1]

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_going_through_a_large_one_takes_little_memory(self, tmp_path, save):
        x = np.zeros((60_000, 28, 28), np.uint8)
        save(tmp_path / "x.npz", x=x, y=x)
        del x
        pool = of(tmp_path / "x.npz", shape=(1, 28, 28))
        tracemalloc.start()
        try:
            pool = of(tmp_path / "x.npz", shape=(1, 28, 28))
            seen = sum(len(part) for part in pool.parts())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert seen == 60_000
        assert peak < 60_000 * 28 * 28 / 10

    def test_parts_of_large_images_are_short(self, tmp_path):
        path = tmp_path / "x.npz"
        np.savez(path, x=np.zeros((10, 1024, 1024), np.float64))
        lengths = [len(part) for part in of(path, shape=(1, 1024, 1024)).parts()]
        assert lengths == [4, 4, 2]

    @pytest.mark.parametrize(
        ("arrays", "words"),
        [
            ({"y": np.zeros(3)}, ["must hold `x`", "Found y"]),
            ({}, ["must hold `x`", "no arrays"]),
            ({"x": np.array([{}, [1]], object)}, ["must hold numbers", "Python objects"]),
            ({"x": np.zeros((3, 64), np.uint8)}, ["(N, H, W)", "shape (3, 64)"]),
            ({"x": np.zeros((0, 8, 8), np.uint8)}, ["must hold images", "(0, 8, 8)"]),
            ({"x": np.zeros((3, 9, 8), np.uint8)}, ["1 x 8 x 8", "Found 9 x 8"]),
            ({"x": np.zeros((3, 8, 8, 3), np.uint8)}, ["1 x 8 x 8", "Found 8 x 8 x 3"]),
            ({"x": np.zeros((3, 2, 32), np.uint8)}, ["1 x 8 x 8", "Found 2 x 32"]),
            ({"x": np.zeros((3, 8, 8), np.int64)}, ["uint8 or floats", "int64", "astype"]),
            ({"x": np.zeros((3, 8, 8), complex)}, ["uint8 or floats", "complex"]),
            ({"x": np.zeros((3, 8, 8), "U4")}, ["uint8 or floats", "<U4"]),
            ({"x": np.asfortranarray(pixels(3))}, ["row by row", "Fortran order"]),
        ],
    )
    def test_that_breaks_a_rule_says_so_as_it_is_opened(self, tmp_path, arrays, words):
        with pytest.raises(InvalidValue) as error:
            of(npz(tmp_path / "x.npz", **arrays))
        says(error, *words)

    def test_images_of_another_size_are_refused_before_they_are_read(self, tmp_path):
        path = tmp_path / "x.npz"
        np.savez_compressed(path, x=np.zeros((2, 4000, 4000), np.uint8))
        tracemalloc.start()
        try:
            with pytest.raises(InvalidValue, match="Found 4000 x 4000"):
                of(path)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 1_000_000

    @pytest.mark.parametrize(("value", "step"), [(1.5, "Divide"), (-0.1, "Divide"), (np.nan, "Mend")])
    def test_a_float_that_is_no_pixel_is_named_by_its_place_in_the_pool(self, tmp_path, value, step):
        x = np.zeros((1100, 8, 8))
        x[700, 3, 3] = value
        with pytest.raises(InvalidValue) as error:
            whole(of(npz(tmp_path / "x.npz", x=x)))
        says(error, f"{value} at sample 700", step)

    @pytest.mark.parametrize("data", [b"", b"no archive", b"PK\x05\x06" + bytes(18)])
    def test_a_file_that_is_no_archive(self, tmp_path, data):
        (tmp_path / "x.npz").write_bytes(data)
        with pytest.raises(InvalidValue) as error:
            of(tmp_path / "x.npz")
        says(error, str(tmp_path / "x.npz"), "numpy.savez")

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_cut_short_anywhere_it_is_damaged(self, tmp_path, save):
        path = tmp_path / "x.npz"
        save(path, x=pixels(20), y=np.arange(20) % 3)
        data = path.read_bytes()
        for end in range(0, len(data), len(data) // 25):
            rewritten(path, data[:end])
            with pytest.raises(DamagedData) as error:
                whole(of(path))
            says(error, str(path))

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_a_changed_byte_is_damage_or_changes_no_sample(self, tmp_path, save):
        path = tmp_path / "x.npz"
        x = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
        save(path, x=x, y=np.arange(4) % 3)
        data, chance = path.read_bytes(), random.Random(5)
        damages = 0
        for _ in range(150):
            changed = bytearray(data)
            changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            rewritten(path, changed)
            try:
                index, images, labels = whole(of(path))
            except FallowError:
                damages += 1
                continue
            assert index.tolist() == [0, 1, 2, 3]
            assert np.array_equal(images.numpy()[:, 0], x)
            assert labels.tolist() in ([0, 1, 2, 0], [-1] * 4)
        assert damages > 75


def table(path, metadata=None, **columns):
    made = arrow.table(columns)
    if metadata is not None:
        made = made.replace_schema_metadata(metadata)
    parquet.write_table(made, path)
    return path


class TestParquet:
    def test_rows_without_an_image_are_left_out_and_the_others_keep_their_places(self, tmp_path):
        x = pixels(5)
        values = [None, png(x[1]), b"no image", {"bytes": png(x[3]), "path": None}, png(x[4])]
        structs = [v if v is None or isinstance(v, dict) else {"bytes": v, "path": None} for v in values]
        path = table(tmp_path / "x.parquet", image=structs, label=["cat", "dog", "eel", None, "owl"])
        index, images, labels = whole(of(path))
        assert index.tolist() == [1, 3, 4]
        assert np.array_equal(images.numpy()[:, 0], x[[1, 3, 4]])
        assert labels.tolist() == [1, -1, -1]

    def test_rows_without_pixels_are_left_out_too(self, tmp_path):
        x = pixels(4)
        path = table(tmp_path / "x.parquet", x=[None, x[1].tolist(), None, x[3].tolist()])
        index, images, labels = whole(of(path))
        assert index.tolist() == [1, 3]
        assert np.array_equal(images.numpy()[:, 0], x[[1, 3]])
        assert labels.tolist() == [-1, -1]
        assert whole(of(path), np.array([0, 2]))[0].size == 0

    def test_an_image_that_is_named_by_its_path_is_read(self, tmp_path):
        x = pixels(1)
        (tmp_path / "1.png").write_bytes(png(x[0]))
        paths = [str(tmp_path / "1.png"), str(tmp_path / "2.png"), "a\0b", "", None, str(tmp_path)]
        path = table(tmp_path / "x.parquet", image=[{"bytes": None, "path": path} for path in paths])
        index, images, _ = whole(of(path))
        assert index.tolist() == [0]
        assert np.array_equal(images.numpy()[:, 0], x)

    PATHS: ClassVar = {
        "../out.png": "with ..",
        "in/../1.png": "with ..",
        "{out}": "a path out of it",
        "/etc/passwd": "a path out of it",
        "link.png": "Found a link",
        "way/out.png": "must be a folder. Found a link",
        "pipe.png": "Found a FIFO",
        "device.png": "Found a link",
        "in": "Found a folder",
        "none.png": "No such file",
        "large.png": "must have at most",
    }

    @pytest.mark.parametrize("folder", [False, True])
    def test_no_path_leads_out_of_the_pool_and_what_is_refused_is_named(self, tmp_path, folder, monkeypatch):
        monkeypatch.setattr("fallow.datasets.pool_part.LARGEST", 200)
        x, pool = pixels(1), tmp_path / "pool"
        (pool / "in").mkdir(parents=True)
        for path in (tmp_path / "out.png", pool / "1.png", pool / "in" / "1.png"):
            path.write_bytes(png(x[0]))
        (pool / "large.png").write_bytes(png(x[0]) + bytes(200))
        (pool / "link.png").symlink_to("1.png")
        (pool / "way").symlink_to("..")
        (pool / "device.png").symlink_to("/dev/zero")
        os.mkfifo(pool / "pipe.png")
        paths = ["1.png", *(path.format(out=tmp_path / "out.png") for path in self.PATHS), "in/1.png"]
        path = table(pool / "x.parquet", image=[{"bytes": None, "path": path} for path in paths])
        monkeypatch.chdir(pool)  # which is no place to begin at
        (part,) = of(pool if folder else path).parts()
        assert part.index.tolist() == [0, len(paths) - 1]
        found = list(part.unreadable.items())
        assert [name for name, _ in found] == [
            f"row {row}, {path}" for row, path in enumerate(paths[1:-1], 1)
        ]
        for (_, why), said in zip(found, self.PATHS.values(), strict=True):
            assert said in why
        assert not of(path).parts(np.array([0])).__next__().unreadable

    @pytest.mark.parametrize("kind", ["FIFO", "device"])
    def test_what_is_no_regular_file_is_refused_by_name(self, tmp_path, kind):
        path = tmp_path / "x.parquet"
        os.mkfifo(path) if kind == "FIFO" else path.symlink_to("/dev/zero")
        with pytest.raises(DamagedData, match=rf"x\.parquet must be a regular file\. Found a {kind}"):
            of(path)
        with pytest.raises(DamagedData, match=r"x\.parquet must be a regular file\. Found a"):
            of(tmp_path)

    def test_pixels_of_very_many_more_than_a_sample_has(self, tmp_path):
        path = table(tmp_path / "less.parquet", x=[list(range(2000)), [1]])
        with pytest.raises(DamagedData, match=r"at most 2,048 values in its column x, .* Found 2,049"):
            whole(of(table(tmp_path / "x.parquet", x=[list(range(2048)), [1]])))
        with pytest.raises(InvalidValue, match="Pixels must be 1 x 8 x 8 numbers a sample"):
            whole(of(path))

    @pytest.mark.parametrize("shape", [(3, 3, 3), (1, 8, 4), (3, 4, 5)])
    def test_flat_lists_have_the_order_of_the_training_images(self, tmp_path, shape):
        x = pixels(6, shape)
        path = table(tmp_path / "x.parquet", x=x.reshape(6, -1).tolist())
        assert np.array_equal(whole(of(path, shape=shape))[1].numpy(), x)

    def test_numbers_of_classes_that_the_file_does_not_name_are_unknown(self, tmp_path):
        info = {"info": {"features": {"label": {"names": ["dog", "owl"]}}}}
        images = [png(image) for image in pixels(5)]
        metadata = {"huggingface": json.dumps(info)}
        path = table(tmp_path / "x.parquet", metadata, image=images, label=[0, 1, 2, -1, None])
        assert whole(of(path))[2].tolist() == [1, -1, -1, -1, -1]

    @pytest.mark.parametrize(
        "metadata", [b"{", b"[]", b'{"info": null}', b"\xff", b'{"info": {"features": {}}}']
    )
    def test_metadata_of_another_kind_are_left_alone(self, tmp_path, metadata):
        images = [png(image) for image in pixels(3)]
        path = table(tmp_path / "x.parquet", {b"huggingface": metadata}, image=images, label=[2, 0, 7])
        assert whole(of(path))[2].tolist() == [2, 0, -1]

    def test_hidden_files_and_folders_of_that_name_are_left_alone(self, tmp_path):
        table(tmp_path / "a.PARQUET", image=[png(pixels(1)[0])])
        (tmp_path / ".cache").mkdir()
        (tmp_path / ".cache" / "b.parquet").write_bytes(b"half a download")
        (tmp_path / "c.parquet").mkdir()
        assert whole(of(tmp_path))[0].tolist() == [0]

    def test_more_files_than_may_be_open_at_once(self, tmp_path):
        resource = pytest.importorskip("resource")
        one = table(tmp_path / "000.parquet", x=pixels(1).tolist()).read_bytes()
        for place in range(1, 60):
            (tmp_path / f"{place:03d}.parquet").write_bytes(one)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 20, limits[1])
        )
        try:
            assert whole(of(tmp_path))[0].size == 60
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    @pytest.mark.parametrize(
        ("columns", "words"),
        [
            ({"id": [1], "text": ["a"]}, ["column image", "id (int64), text (string)"]),
            ({"image": ["a.png"]}, ["column image", "image (string)"]),
            ({"x": [1.0]}, ["column image", "x (double)"]),
            ({"image": arrow.array([], arrow.binary())}, ["must hold samples", "none"]),
            ({"x": [[1, 2, 3]]}, ["1 x 8 x 8", "Found 3."]),
            ({"x": [[1] * 64, [1] * 63]}, ["1 x 8 x 8 numbers"]),
            ({"x": [[]]}, ["must hold images"]),
            ({"x": [[300] + [0] * 63]}, ["uint8 or floats", "int64"]),
            ({"x": [["a"] * 64]}, ["uint8 or floats", "<U1"]),
            ({"x": [[0.0] * 63 + [255.0]]}, ["[0, 1]", "255.0 at sample 0", "Divide"]),
        ],
    )
    def test_that_breaks_a_rule(self, tmp_path, columns, words):
        with pytest.raises(InvalidValue) as error:
            whole(of(table(tmp_path / "x.parquet", **columns)))
        says(error, *words)

    def test_files_of_a_folder_that_are_not_alike(self, tmp_path):
        table(tmp_path / "1.parquet", image=[png(pixels(1)[0])], label=["cat"])
        table(tmp_path / "2.parquet", picture=[png(pixels(1)[0])], label=["cat"])
        with pytest.raises(InvalidValue) as error:
            of(tmp_path)
        says(error, f"{tmp_path / '2.parquet'} must have the columns of 1.parquet", "no image")

    @pytest.mark.parametrize("name", ["image", "label"])
    def test_a_column_that_is_there_twice_is_refused_in_any_file(self, tmp_path, name):
        """Nothing says which of the two is meant."""
        path = table(tmp_path / "1.parquet", image=[png(pixels(1)[0])], label=["cat"])
        found = parquet.read_table(path)
        for file in (path, tmp_path / "2.parquet"):
            parquet.write_table(found.append_column(name, found.column(name)), file)
            with pytest.raises(InvalidValue) as error:
                of(tmp_path)
            says(error, f"{file} must have one column {name}", "Found 2 of them")
            parquet.write_table(found, path)

    def test_cut_short_anywhere_it_is_damaged_and_named(self, tmp_path):
        table(tmp_path / "1.parquet", image=[png(image) for image in pixels(4)])
        data = (tmp_path / "1.parquet").read_bytes()
        for end in range(0, len(data), len(data) // 20):
            rewritten(tmp_path / "2.parquet", data[:end])
            with pytest.raises(DamagedData) as error:
                of(tmp_path)
            says(error, f"{tmp_path / '2.parquet'} must be readable")

    def test_a_page_that_was_overwritten_is_damage(self, tmp_path):
        x = pixels(40)
        path = table(tmp_path / "x.parquet", image=[png(image) for image in x], label=["cat"] * 40)
        data = path.read_bytes()
        middle = data.index(b"PNG") + 200
        path.write_bytes(data[:middle] + bytes(300) + data[middle + 300 :])
        with pytest.raises(DamagedData) as error:
            whole(of(path))
        says(error, f"{path} must be readable", "Copy it again")

    def test_text_that_is_not_utf_8_is_damage(self, tmp_path):
        table(tmp_path / "x.parquet", image=[png(pixels(1)[0])], label=["XXXX"])
        data = (tmp_path / "x.parquet").read_bytes()
        (tmp_path / "x.parquet").write_bytes(data.replace(b"XXXX", b"\xff\xfe\xfd\xfc"))
        with pytest.raises(DamagedData) as error:
            whole(of(tmp_path / "x.parquet"))
        says(error, "must be readable")


@pytest.fixture(scope="module")
def saved(datasets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hugging") / "saved"
    features = {"picture": datasets.Image(), "label": datasets.ClassLabel(names=["eel", "owl", "cat"])}
    rows = {
        "picture": [{"bytes": png(image), "path": None} for image in pixels(600)],
        "label": [place % 3 for place in range(600)],
    }
    rows["picture"][7] = {"bytes": b"no image", "path": None}
    rows["label"][9] = None
    features = datasets.Features(features)
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(folder)
    return folder


class TestHuggingFace:
    def test_a_saved_data_set_by_names_of_classes(self, saved):
        pool = of(f"hf:{saved}")
        index, images, labels = whole(pool)
        assert (pool.name, pool.total) == (f"hf:{saved}", 600)
        kept = [place for place in range(600) if place != 7]
        assert index.tolist() == kept
        assert np.array_equal(images.numpy()[:, 0], pixels(600)[kept])
        assert labels.tolist() == [-1 if place == 9 else (2, -1, 0)[place % 3] for place in kept]

    def test_no_path_leads_out_of_the_folder(self, datasets, tmp_path):
        (tmp_path / "out.png").write_bytes(png(pixels(1)[0]))
        paths = [str(tmp_path / "out.png"), "../out.png", "in.png"]
        rows = {"image": [{"bytes": None, "path": path} for path in paths]}
        features = datasets.Features({"image": datasets.Image()})
        saved_by_hand(tmp_path / "saved", rows, features)
        (tmp_path / "saved" / "in.png").write_bytes(png(pixels(1)[0]))
        (part,) = of(f"hf:{tmp_path / 'saved'}").parts()
        assert part.index.tolist() == [2]
        assert list(part.unreadable.values()) == [
            "The path of an image must lie in the pool's folder. Found a path out of it.",
            "The path of an image must lie in the pool's folder. Found a path with ..",
        ]

    @given(st.sets(st.integers(0, 700), max_size=30))
    @settings(max_examples=15, deadline=None)
    def test_parts_of_an_index_are_exactly_those_rows(self, saved, wanted):
        index, images, _ = whole(of(f"hf:{saved}"), np.array(sorted(wanted), np.int64))
        rows = [row for row in sorted(wanted) if row < 600 and row != 7]
        assert index.tolist() == rows
        if rows:
            assert np.array_equal(images.numpy()[:, 0], pixels(600)[rows])

    def test_the_train_part_of_several_and_any_other_by_its_folder(self, datasets, tmp_path):
        x = pixels(3)
        rows = [
            datasets.Dataset.from_dict({"x": part.tolist(), "y": [1] * len(part)}) for part in (x[:1], x[1:])
        ]
        datasets.DatasetDict({"train": rows[0], "test": rows[1]}).save_to_disk(tmp_path / "both")
        datasets.DatasetDict({"test": rows[1]}).save_to_disk(tmp_path / "one")
        assert np.array_equal(whole(of(f"hf:{tmp_path}/both"))[1].numpy()[:, 0], x[:1])
        index, images, labels = whole(of(f"hf:{tmp_path}/both/test"))
        assert (index.tolist(), labels.tolist()) == ([0, 1], [1, 1])
        assert np.array_equal(images.numpy()[:, 0], x[1:])
        with pytest.raises(InvalidValue) as error:
            of(f"hf:{tmp_path}/one")
        says(error, "must hold train", "Found test", f"hf:{tmp_path}/one/test")

    def test_one_that_is_streamed_tells_its_length_only_as_it_is_read(self, datasets, tmp_path, monkeypatch):
        x = pixels(530)
        rows = {"image": [{"bytes": png(image), "path": None} for image in x], "label": [1, 0] * 265}
        features = datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(2, ["eel", "dog"])}
        )
        (tmp_path / "owner" / "name").mkdir(parents=True)
        table = datasets.Dataset.from_dict(rows, features=features)
        table.to_parquet(tmp_path / "owner" / "name" / "test.parquet")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
        pool = of("hf:owner/name/test")
        assert (pool.name, pool.total) == ("hf:owner/name/test", None)
        index, images, labels = whole(pool)
        assert (index.tolist(), labels.tolist()) == (list(range(530)), [1, 2] * 265)
        assert np.array_equal(images.numpy()[:, 0], x)
        some = np.array([0, 3, 511, 512, 529, 700])
        assert np.array_equal(whole(pool, some)[1].numpy()[:, 0], x[some[:5]])
        assert whole(pool, np.array([700]))[0].size == whole(pool, some[:0])[0].size == 0

    def test_one_that_cannot_be_fetched(self, datasets, monkeypatch):
        constants = pytest.importorskip("huggingface_hub.constants")
        for place in (datasets.config, constants):
            monkeypatch.setattr(place, "HF_HUB_OFFLINE", True)
        with pytest.raises(InvalidValue) as error:
            of("hf:nobody/no-such-data")
        says(error, "hf:nobody/no-such-data must be a data set that can be loaded", "Check its name")

    def test_columns_that_are_not_asked_for_are_not_decoded(self, datasets, tmp_path):
        rows = {"image": [{"bytes": png(image), "path": None} for image in pixels(2)]}
        rows["other"] = [{"bytes": b"no image", "path": None}] * 2
        features = datasets.Features({"image": datasets.Image(), "other": datasets.Image()})
        datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
        assert whole(of(f"hf:{tmp_path}/saved"))[0].tolist() == [0, 1]

    @pytest.mark.parametrize(
        ("rows", "words"),
        [
            ({"text": ["a"]}, ["column of images", "Found text"]),
            ({"x": [[1, 2]]}, ["1 x 8 x 8", "Found 2."]),
        ],
    )
    def test_that_breaks_a_rule(self, datasets, tmp_path, rows, words):
        datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "saved")
        with pytest.raises(InvalidValue) as error:
            whole(of(f"hf:{tmp_path}/saved"))
        says(error, *words)

    def test_a_folder_that_holds_another_thing_or_a_damaged_one(self, saved, datasets, tmp_path):
        with pytest.raises(InvalidValue) as error:
            of(f"hf:{tmp_path}")
        says(error, "can be loaded", "Check its name")
        for file in saved.iterdir():
            data = file.read_bytes()
            (tmp_path / file.name).write_bytes(data[:100] if file.suffix == ".arrow" else data)
        with pytest.raises(InvalidValue) as error:
            whole(of(f"hf:{tmp_path}"))
        says(error, f"hf:{tmp_path}")


class TestNames:
    @pytest.mark.parametrize("name", ["no/such/folder", "x.npz", "x.parquet", "", "a\0b", "x" * 5000])
    def test_what_does_not_exist(self, name):
        with pytest.raises(InvalidValue) as error:
            of(name)
        says(error, "pool must", "Name a folder, a FILE.npz, a FILE.parquet, hf:NAME, or digits")

    def test_a_file_of_another_kind(self, tmp_path):
        (tmp_path / "x.csv").write_text("1,2")
        with pytest.raises(InvalidValue) as error:
            of(tmp_path / "x.csv")
        says(error, "must be a folder, a FILE.npz, a FILE.parquet", str(tmp_path / "x.csv"), "Name a")
