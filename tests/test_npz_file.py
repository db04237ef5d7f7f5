"""Numpy archives that were made to harm: each is refused by name, before room is made for what it claims."""

import io
import os
import socket
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
import torch

from fallow.datasets import ImageDataset, load_images
from fallow.datasets.npz_file import LARGE, open_npz
from fallow.datasets.pools import open_pool
from fallow.errors import FallowError, InvalidValue

N = 12
X = (np.arange(N * 64) % 251).astype(np.uint8).reshape(N, 8, 8)
Y = np.arange(N) % 3
GOOD = {"x_train": X, "y_train": Y, "x_test": X[:3], "y_test": Y[:3], "x": X, "y": Y}
SOME = 8_000_000
"""More than this is never needed to refuse one."""


def npy(array=None, *, header=None, data=b"", version=(1, 0)):
    """Return the bytes of an array, or of a header that claims something and other data."""
    if array is not None:
        file = io.BytesIO()
        np.save(file, array)
        return file.getvalue()
    text = header if isinstance(header, bytes) else (repr(header) + "\n").encode()
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + data


def claims(shape, descr="|u1", fortran=False, data=b"\0" * 64, **more):
    return npy(header={"descr": descr, "fortran_order": fortran, "shape": shape, **more}, data=data)


def bomb(shape, dtype=np.uint8):
    return claims(shape, np.dtype(dtype).str, data=bytes(int(np.prod(shape)) * np.dtype(dtype).itemsize))


def archive(path, changed, method=zipfile.ZIP_STORED):
    """Write an archive for a training and for a pool; ``changed`` holds the bytes of some arrays."""
    members = {name: npy(array) for name, array in GOOD.items()} | changed
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data, zipfile.ZIP_DEFLATED if name in changed else method)
    return path


def patched(path, name, at, value):
    """Change a field of an array's entry in the list of the archive: its place, and the bytes for it."""
    data = bytearray(path.read_bytes())
    entry = data.rindex(f"{name}.npy".encode()) - 46
    assert data[entry : entry + 4] == b"PK\x01\x02"
    data[entry + at : entry + at + len(value)] = value
    path.write_bytes(data)


def train(path):
    return load_images(path)


def pool(path):
    like = ImageDataset(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))
    return list(open_pool(path, like, ("0", "1", "2")).parts())


def refused(read, path, *words, most=SOME):
    """Assert that a file is refused with a rule, what was found and a next step, in little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(FallowError) as error:
            read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    text = str(error.value)
    assert " Found " in text, text
    assert text.endswith("."), text
    assert len(text) < 1200
    for word in words:
        assert word in text, text
    assert peak < most


HEADERS = {
    "a count of 10^12": (claims((10**12, 8, 8)), "must be whole"),
    "a side of 10^12": (claims((N, 10**12, 8)), "must be whole"),
    "an overflow": (claims((2**32, 2**32, 1)), "must be whole"),
    "an overflow to nothing": (claims((2**62, 2, 4)), "must be whole"),
    "400 digits": (claims((10**400, 8, 8)), ""),
    "a negative length": (claims((-N, -8, 8)), "must be an array"),
    "a length that is true": (claims((True, 8, 8)), "must be an array"),
    "many axes": (claims((1,) * 300), ""),
    "nothing": (claims((0, 8, 8), data=b""), ""),
    "objects": (claims((N, 8, 8), "|O"), "Python objects"),
    "a structure": (claims((N, 8, 8), [("a", "<i4"), ("b", "|O")]), "must hold numbers"),
    "a plain structure": (claims((N, 8, 8), [("a", "|u1")]), "must hold numbers"),
    "an array in each place": (claims((N, 8, 8), "(99999999,)u1"), "must hold numbers"),
    "places without bytes": (claims((10**12, 8, 8), "|V0"), "must hold numbers"),
    "words without letters": (claims((10**12, 8, 8), "<U0"), "must hold numbers"),
    "long words": (claims((N, 8, 8), "<U500000000"), "must be whole"),
    "no type": (claims((N, 8, 8), "rubbish"), "must be an array"),
    "no shape": (npy(header={"descr": "|u1", "fortran_order": False}), "must be an array"),
    "one key more": (claims((N, 8, 8), extra=1), "must be an array"),
    "code": (npy(header=b"__import__('os').system('true')\n"), "must be an array"),
    "brackets": (npy(header=b"(" * 1000), "must be an array"),
    "signs": (npy(header=b"-" * 1000 + b"1"), "must be an array"),
    "a header of 20 MB": (npy(header=b" " * 20_000_000, version=(2, 0)), "header of at most 1,024"),
    "a header that is not there": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "header of at most 1,024"),
    "a header that ends": (b"\x93NUMPY\x01\x00\xf0\x00{'descr'", "must be an array"),
    "version 9": (npy(header={}, version=(9, 9)), "format 1 to 3"),
    "no array": (b"text", "must be an array"),
    "no bytes": (b"", "must be an array"),
}


@pytest.mark.parametrize("what", HEADERS)
@pytest.mark.filterwarnings("ignore:.*:SyntaxWarning")
def test_arrays_whose_header_lies(tmp_path, what):
    data, words = HEADERS[what]
    path = archive(tmp_path / "a.npz", {"x_train": data, "x": data})
    for read in (train, pool):
        refused(read, path, words)
    path = archive(tmp_path / "labels.npz", {"y_train": data, "y": data})
    refused(train, path)
    try:
        labels = pool(path)[0].labels
    except FallowError:
        return
    assert labels.tolist() == [-1] * N, "other arrays of a pool may be anything"


@pytest.mark.parametrize("count", [0, N - 1, 10**6])
def test_labels_of_another_length(tmp_path, count):
    path = archive(tmp_path / "a.npz", {"y_train": npy(np.zeros(count, np.int64))})
    refused(train, path, f"one label for each of the {N} images", f"Found {count}", most=3_000_000)


def test_labels_of_four_gigabytes_of_nothing(tmp_path):
    """Packed they have 4 megabytes; here they are 80 and 69 megabytes."""
    for shape in ((10_000_000,), (N, 720_000)):
        data = bomb(shape, np.int64)
        path = archive(tmp_path / "a.npz", {"y_train": data, "y": data})
        assert path.stat().st_size < 1_000_000
        refused(
            train, path, "`y_train`", "must not be packed more than 200 times", "numpy.savez", most=5_000_000
        )
        refused(pool, path, "`y`", "must not be packed more than 200 times", "numpy.savez", most=5_000_000)


def test_one_hot_rows_of_a_gigabyte(tmp_path):
    data = npy(np.zeros((N, (1 << 20) + 1), np.bool_))
    path = archive(tmp_path / "a.npz", {"y_train": data, "y": data})
    refused(train, path, "`y_train` must have the shape (N,)", "1048577", most=3_000_000)
    assert pool(path)[0].labels.tolist() == [-1] * N


def test_images_of_nothing_but_zeros(tmp_path):
    data = bomb((1 << 20, 8, 9))
    path = archive(tmp_path / "a.npz", {"x_train": data, "x": data})
    for read, name in ((train, "x_train"), (pool, "x")):
        refused(read, path, f"`{name}`", "75,497,472 bytes packed in", "does not pack it", most=5_000_000)


def test_what_is_packed_well_and_damaged_does_not_fill_the_memory(tmp_path):
    rows = np.zeros((1 << 20, 12, 8), np.uint8)
    rows[:, 0, 0] = np.random.default_rng(0).integers(0, 8, 1 << 20)
    path = archive(tmp_path / "a.npz", {"x_train": npy(rows), "y_train": npy(np.arange(1 << 20) % 2)})
    with open_npz(path, "") as file:
        (header,) = file.headers(["x_train"])
    assert header.size > LARGE
    assert 20 < header.size / header.packed < 200
    del rows
    patched(path, "x_train", 16, b"\0\0\0\0")  # its checksum
    with open_npz(path, "") as file, pytest.raises(FallowError, match="readable"):
        file.check(header)


def test_what_together_is_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr("fallow.datasets.npz.MEMORY_LIMIT", N * 64 + 100)
    path = archive(tmp_path / "a.npz", {})
    refused(train, path, "must fit", "12 and 3 of shape (8, 8)", most=3_000_000)
    floats = {f"x_{part}": npy(GOOD[f"x_{part}"] / 255) for part in ("train", "test")}
    monkeypatch.setattr("fallow.datasets.npz.MEMORY_LIMIT", 15 * 64 * 4 + 15 * 8 - 1)
    refused(train, archive(tmp_path / "a.npz", floats), "must fit")
    monkeypatch.setattr("fallow.datasets.npz.MEMORY_LIMIT", 15 * 64 * 4 + 15 * 8)
    assert len(train(path).train) == N, "floats of 8 bytes are kept in 4"


def twice(path):
    with zipfile.ZipFile(path, "a") as file:
        for name in ("x_train.npy", "x.npy"):
            with pytest.warns(UserWarning, match="Duplicate"):
                file.writestr(name, npy(X))


def once_more_without_its_ending(path):
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("x_train", npy(X))
        file.writestr("x", npy(X))


def field(at, value):
    def change(path):
        data = bytearray(path.read_bytes())
        for name in (b"x_train.npy", b"x.npy"):
            entry = data.rindex(b"PK\x01\x02", 0, data.rindex(name))
            data[entry + at : entry + at + len(value)] = value
        path.write_bytes(data)

    return change


def huge_by_zip64(path):
    """The sizes of the members are in another field, and say 2^60."""
    with zipfile.ZipFile(path, "w") as file:
        for name, array in GOOD.items():
            info = zipfile.ZipInfo(f"{name}.npy")
            file.writestr(info, npy(array))
            if name in ("x_train", "x"):
                info.file_size = info.compress_size = 2**60


ENTRIES = {
    "names twice": (twice, "once"),
    "names twice in two ways": (once_more_without_its_ending, "once"),
    "encrypted": (field(8, b"\x01\x00"), "encrypted"),
    "strongly encrypted": (field(8, b"\x41\x00"), "encrypted"),
    "another way to pack": (field(10, b"\x0e\x00"), "lzma"),
    "an unknown way to pack": (field(10, b"\x63\x00"), "plain or deflated"),
    "a size of 4 GB": (field(24, b"\xfe\xff\xff\xff"), "must be whole"),
    "a size of nothing": (field(24, b"\0\0\0\0"), "must be whole"),
    "packed in 4 GB": (field(20, b"\xfe\xff\xff\xff"), "whole"),
    "beyond the end": (field(42, b"\xf0\xff\xff\x7f"), "must lie in the file"),
    "in another place": (field(42, b"\x07\0\0\0"), "readable"),
    "by zip64": (huge_by_zip64, "must lie in the file"),
    "checksum": (field(16, b"abcd"), "must be readable"),
}


@pytest.mark.parametrize("what", ENTRIES)
def test_entries_that_lie(tmp_path, what):
    path = archive(tmp_path / "a.npz", {})
    change, words = ENTRIES[what]
    change(path)
    for read in (train, pool):
        refused(read, path, words, most=5_000_000)


def test_a_list_of_arrays_that_is_longer_than_it_may_be(tmp_path):
    path = archive(tmp_path / "a.npz", {})
    with zipfile.ZipFile(path, "a") as file:
        for number in range(20_000):
            file.writestr(f"{number:060}.npy", b"")
    refused(train, path, "must be a numpy archive", "a list of arrays of")
    refused(pool, path, "must be a numpy archive", "a list of arrays of")


def test_bytes_after_the_packed_ones(tmp_path):
    """More comes out than the archive says: only what it says is taken, and its checksum is wrong then."""
    path = archive(tmp_path / "a.npz", {"x_train": npy(X) + bytes(1 << 26), "x": npy(X) + bytes(1 << 26)})
    size = struct.pack("<I", len(npy(X)))
    for name in ("x_train", "x"):
        data = bytearray(path.read_bytes())
        entry = data.rindex(b"PK\x01\x02", 0, data.rindex(f"{name}.npy".encode()))
        data[entry + 24 : entry + 28] = size
        data[entry + 16 : entry + 20] = struct.pack("<I", zlib.crc32(b"else"))
        path.write_bytes(data)
    refused(train, path, "must be readable", most=5_000_000)
    refused(pool, path, "must be readable", most=5_000_000)


@pytest.mark.parametrize("read", [train, pool])
def test_what_is_no_regular_file(tmp_path, read):
    os.mkfifo(tmp_path / "fifo.npz")
    os.symlink("/dev/zero", tmp_path / "device.npz")
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(str(tmp_path / "s.npz"))
        for name, kind in (("fifo", "a FIFO"), ("device", "a device"), ("s", "a socket")):
            refused(read, tmp_path / f"{name}.npz", "must be a regular file", kind)
    with (tmp_path / "sparse.npz").open("wb") as file:
        file.truncate(1 << 33)
    refused(read, tmp_path / "sparse.npz", "sparse")


def test_words_that_are_no_text(tmp_path):
    for letter in (0x120000, 0xDC80):  # beyond the last character there is, and half of one
        for order in "<>":
            letters = np.array([65, 66, 67, letter] * 6, f"{order}u4")
            data = claims((N,), f"{order}U2", data=letters.tobytes())
            path = archive(tmp_path / "a.npz", {"y_train": data, "y": data})
            refused(train, path, "`y_train` must hold words as text", f"{letter:#x} at sample 1")
            assert pool(path)[0].labels.tolist() == [-1] * N


def test_labels_are_read_beside_the_images(tmp_path):
    """The labels of a pool never lie in memory whole."""
    count = 1 << 19
    like = ImageDataset(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))
    names = np.array(["0" * 60, "1" * 60])
    np.savez(tmp_path / "a.npz", x=np.zeros((count, 2, 2), np.uint8), y=names[np.arange(count) % 2])
    tracemalloc.start()
    opened = open_pool(tmp_path / "a.npz", like, tuple(names.tolist()))
    seen = 0
    for part in opened.parts(np.arange(0, count, 1023)):
        assert part.labels.tolist() == (part.index % 2).tolist()
        seen += len(part)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen == -(-count // 1023)
    assert opened.notes == ()
    assert peak < count * 240 / 1.2


def test_an_honest_one_is_read(tmp_path):
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = archive(tmp_path / "a.npz", {}, method)
        assert np.array_equal(train(path).train.images.numpy()[:, 0], X)
        assert pool(path)[0].labels.tolist() == Y.tolist()


def test_a_missing_array_does_not_list_thousands(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        for number in range(3000):
            file.writestr(f"{number}.npy", b"")
    with pytest.raises(InvalidValue, match="and 2,990 more") as error:
        train(tmp_path / "a.npz")
    assert len(str(error.value)) < 700
