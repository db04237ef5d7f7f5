"""Decoded images on a disk: what is read there equals what was decoded, or is decoded anew."""

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from fallow.cli.main import main
from fallow.datasets import decoded_images, load_images
from fallow.datasets.decoded_images import CHECKSUM, DecodedImages
from fallow.datasets.images import UNREADABLE, collate
from fallow.datasets.pixel_range import NO_RANGES
from fallow.errors import InvalidValue
from test_file_images import arguments, large, made, samples  # noqa: F401

SHAPE = (3, 4, 5)
PIXELS = np.arange(60, dtype=np.uint8).reshape(SHAPE)


@pytest.fixture
def kept(tmp_path):
    return DecodedImages(tmp_path / "decoded", SHAPE, NO_RANGES)


@pytest.fixture
def image(tmp_path):
    (tmp_path / "image.png").write_bytes(b"an image")
    return tmp_path / "image.png"


def test_what_is_read_is_what_was_kept(kept, image):
    place = kept.place(image)
    assert kept.get(place) is None
    kept.put(place, PIXELS)
    assert np.array_equal(kept.get(place), PIXELS)
    assert kept.place(image) == place
    assert [path.name.startswith(".") for path in kept.folder.rglob("*") if path.is_file()] == [False]


@given(st.integers(0, 60 + CHECKSUM - 1), st.integers(1, 255), st.booleans())
def test_a_damaged_file_is_not_used(tmp_path_factory, byte, change, cut):
    kept = DecodedImages(tmp_path_factory.mktemp("kept"), SHAPE, NO_RANGES)
    place = kept.folder / "ab" / "c"
    kept.put(place, PIXELS)
    content = bytearray(place.read_bytes())
    content[byte] ^= change
    place.write_bytes(content[:byte] if cut else content)
    assert kept.get(place) is None
    kept.put(place, PIXELS)
    assert np.array_equal(kept.get(place), PIXELS)


def test_the_place_tells_all_that_the_pixels_depend_on(kept, image, monkeypatch):
    places = [kept.place(image), DecodedImages(kept.folder.parent, (3, 5, 4), NO_RANGES).place(image)]
    os.utime(image, ns=(0, image.stat().st_mtime_ns + 1))
    places.append(kept.place(image))
    status = image.stat()
    image.write_bytes(b"another image")
    os.utime(image, ns=(0, status.st_mtime_ns))
    places.append(kept.place(image))
    monkeypatch.setattr("PIL.__version__", "0.1")
    places.append(DecodedImages(kept.folder.parent, SHAPE, NO_RANGES).place(image))
    image.rename(image.with_name("moved.png"))
    places.append(kept.place(image.with_name("moved.png")))
    assert len(set(places)) == len(places)
    assert kept.place(image) is None
    assert kept.get(None) is None
    kept.put(None, PIXELS)
    assert not kept.folder.exists()


def test_a_full_disk_is_told_once_and_leaves_nothing(kept, image, monkeypatch):
    def full(path, data):
        path.write_bytes(data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(decoded_images.DISK, "write", full)
    with pytest.warns(UserWarning, match=r"No more decoded images are kept in .*: No space left on device\."):
        kept.put(kept.place(image), PIXELS)
    kept.put(kept.place(image), PIXELS)
    assert [path for path in kept.folder.rglob("*") if path.is_file()] == []


def test_room_is_asked_for_beforehand(kept, image, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(10 * (60 + CHECKSUM)))
    kept.check_room(10)
    with pytest.raises(InvalidValue, match=r"room for all decoded images\. Found 0\.0 GiB free"):
        kept.check_room(11)
    kept.put(kept.place(image), PIXELS)
    kept.check_room(11)


def test_workers_keep_what_they_decode_and_the_next_training_reads_it(made, large, tmp_path):  # noqa: F811
    folder = shutil.copytree(made, tmp_path / "pets")
    train = load_images(folder).train
    expected = train.__getitems__(range(len(train)))[0]
    broken, gone = (Path(train.paths.name(row)) for row in (3, 5))
    good = broken.read_bytes()
    broken.write_bytes(good[:-30])
    train.remember(0, DecodedImages(tmp_path / "decoded", train.shape, train.ranges))
    loader = DataLoader(train, 7, collate_fn=collate, num_workers=2)
    labels = torch.cat([labels for _, labels in loader])
    assert np.flatnonzero(labels == UNREADABLE).tolist() == [3]
    for path in folder.rglob("*.png"):  # another content of the same size and time: only the pixels kept tell
        status = path.stat()
        path.write_bytes(bytes(status.st_size))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    broken.write_bytes(good)
    gone.unlink()
    images, labels = train.__getitems__(range(len(train)))
    assert np.flatnonzero(labels == UNREADABLE).tolist() == [5]
    there = [row for row in range(len(train)) if row != 5]
    assert torch.equal(images[there], expected[there])


def test_a_run_is_the_same_with_decoded_images_kept(made, large, tmp_path, capsys):  # noqa: F811
    decoded = tmp_path / "decoded"
    for number in range(3):
        more = ["--cache_dir", str(decoded)] if number else []
        assert main(arguments(made, tmp_path / str(number), "--cache", "0", *more)) == 0
    files = [path for path in decoded.rglob("*") if path.is_file()]
    assert len(files) == len(list(made.rglob("*.png")))
    assert "--cache_dir" not in capsys.readouterr().err
    models = [(tmp_path / str(number) / "model.safetensors").read_bytes() for number in range(3)]
    assert models[0] == models[1] == models[2]
    assert samples(tmp_path / "0") == samples(tmp_path / "1") == samples(tmp_path / "2")


def test_a_folder_that_is_a_file_is_refused_before_training(made, large, tmp_path, capsys):  # noqa: F811
    (tmp_path / "decoded").write_text("")
    words = ("--cache_dir", str(tmp_path / "decoded"))
    assert main(arguments(made, tmp_path / "run", *words)) == 2
    assert "--cache_dir must be a folder." in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_small_folder_says_that_it_needs_none(made, tmp_path, capsys):  # noqa: F811
    assert main(arguments(made, tmp_path / "run", "--cache_dir", str(tmp_path / "decoded"))) == 0
    assert "--cache_dir is not used" in "".join(capsys.readouterr())
    assert not (tmp_path / "decoded").exists()


def test_a_folder_in_the_place_of_a_file_hinders_no_other(kept, image, tmp_path):
    place = kept.place(image)
    place.mkdir(parents=True)
    with pytest.warns(UserWarning, match=r"A decoded image is not kept in .*: Is a directory\."):
        kept.put(place, PIXELS)
    assert kept.get(place) is None
    other = tmp_path / "other.png"
    other.write_bytes(b"another")
    kept.put(kept.place(other), PIXELS)
    assert np.array_equal(kept.get(kept.place(other)), PIXELS)
