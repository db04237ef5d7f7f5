"""Pictures and texts of samples: what is written is read, and what is damaged is refused."""

import json
import zlib
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save

from fallow.arrays.thumbnails import SIDE, thumbnails
from fallow.errors import DamagedData, InvalidValue
from fallow.runs.thumbnails_file import EXCERPT, ThumbnailsFile


def some(k=5, pictures=True, texts=False):
    draw = np.random.default_rng(0)
    return ThumbnailsFile(
        epoch=3,
        index=draw.permutation(100)[:k].astype(np.int64),
        predicted=draw.integers(-1, 9, k).astype(np.int32),
        pictures=draw.integers(0, 256, (k, 8, 6, 3)).astype(np.uint8) if pictures else None,
        texts=tuple(f"text {i} \u202e <b> \ud800"[: 10 + i] for i in range(k)) if texts else None,
    )


@pytest.mark.parametrize("k", [0, 1, 5])
@pytest.mark.parametrize(("pictures", "texts"), [(True, False), (False, True), (True, True), (False, False)])
def test_what_is_written_is_read(tmp_path, k, pictures, texts):
    file = some(k, pictures, texts)
    path = tmp_path / "shown.safetensors"
    path.write_bytes(file.dump())
    found = ThumbnailsFile.read(path)
    assert (found.epoch, found.texts) == (file.epoch, file.texts)
    for name in ("index", "predicted", "pictures"):
        np.testing.assert_array_equal(getattr(found, name), getattr(file, name))
    assert file.dump() == found.dump()


def test_long_texts_are_cut(tmp_path):
    file = ThumbnailsFile(0, np.zeros(1, np.int64), np.zeros(1, np.int32), texts=("x" * 200_000,))
    path = tmp_path / "shown.safetensors"
    path.write_bytes(file.dump())
    assert ThumbnailsFile.read(path).texts == ("x" * EXCERPT,)


@pytest.mark.parametrize(
    "change",
    [
        {"index": np.zeros(4, np.int64)},
        {"index": np.zeros(5, np.int32)},
        {"index": np.full(5, -1, np.int64)},
        {"predicted": np.zeros((5, 1), np.int32)},
        {"pictures": np.zeros((5, 8, 8, 2), np.uint8)},
        {"pictures": np.zeros((5, 8, 8, 3), np.float32)},
        {"pictures": np.zeros((5, SIDE + 1, 8, 3), np.uint8)},
        {"pictures": np.zeros((5, 0, 8, 3), np.uint8)},
        {"texts": ("a",)},
    ],
)
def test_parts_that_do_not_fit(tmp_path, change):
    with pytest.raises(InvalidValue):
        replace(some(), **change).dump()
    arrays = {"index": some().index, "predicted": some().predicted, "pictures": some().pictures}
    arrays |= {name: value for name, value in change.items() if name != "texts"}
    header = {"fallow": json.dumps({"format": "fallow-shown-1", "epoch": 3})}
    path = tmp_path / "shown.safetensors"
    path.write_bytes(save(arrays, metadata=header))
    if "texts" not in change:
        with pytest.raises(DamagedData, match=r"shown\.safetensors"):
            ThumbnailsFile.read(path)


def test_damage_is_found(tmp_path):
    path = tmp_path / "shown.safetensors"
    with pytest.raises(DamagedData, match="must exist"):
        ThumbnailsFile.read(path)
    whole = some(3, texts=True).dump()
    draw = np.random.default_rng(0)
    for size in [0, 7, 8, 100, len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(DamagedData):
            ThumbnailsFile.read(path)
    for _ in range(300):  # a changed byte gives an error that names the file, or another sound file
        changed = bytearray(whole)
        changed[draw.integers(len(whole))] ^= 1 << draw.integers(8)
        path.write_bytes(bytes(changed))
        with suppress(DamagedData):
            ThumbnailsFile.read(path).dump()
    path.write_bytes(
        save({"index": np.zeros(1)}, metadata={"fallow": json.dumps({"format": "fallow-shown-2"})})
    )
    with pytest.raises(DamagedData, match="newer fallow"):
        ThumbnailsFile.read(path)


def test_a_bomb_does_not_unfold(tmp_path):
    packed = np.frombuffer(zlib.compress(b'["' + b"x" * (1 << 27) + b'"]', 9), np.uint8)
    arrays = {"index": np.zeros(1, np.int64), "predicted": np.zeros(1, np.int32), "texts": packed}
    path = tmp_path / "shown.safetensors"
    header = {"fallow": json.dumps({"format": "fallow-shown-1", "epoch": 0})}
    path.write_bytes(save(arrays, metadata=header))
    with pytest.raises(DamagedData):
        ThumbnailsFile.read(path)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (96, 96), (97, 40), (5, 1000)])
def test_thumbnails_are_means_over_squares(channels, size):
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (2, channels, *size)).astype(np.uint8)
    made = thumbnails(images)
    assert made.dtype == np.uint8
    assert made.shape[0] == 2
    assert made.shape[3] == min(channels, 3)
    assert min(made.shape[1:3]) >= 1
    assert max(made.shape[1:3]) <= SIDE
    factor = -(-max(size) // SIDE)
    down, across = min(factor, size[0]), min(factor, size[1])
    corner = images[:, :3, :down, :across].mean((2, 3))
    np.testing.assert_allclose(made[:, 0, 0], corner, atol=0.51)
    np.testing.assert_allclose(thumbnails(images / np.float32(255)).astype(int), made, atol=1)


def test_floats_out_of_range_are_clipped():
    images = np.array([np.nan, -1, 2, 0.5], np.float32).reshape(1, 1, 2, 2)
    assert thumbnails(images).ravel().tolist() == [0, 0, 255, 128]


@pytest.mark.parametrize("images", [np.zeros((2, 8, 8)), np.zeros((2, 2, 8, 8)), np.zeros((1, 1, 8, 8), int)])
def test_other_images_are_refused(images):
    with pytest.raises(InvalidValue, match="`images` must be"):
        thumbnails(images)
