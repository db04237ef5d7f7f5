"""Files are written whole or not at all, on disks that refuse too."""

import errno
import hashlib
import os

import pytest

from disks import RecordingDisk, RefusingDisk
from fallow.files.disk import Digest, Disk, remove_temporaries

REFUSALS = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EMFILE]


def test_a_file_is_written_and_its_digest_told(tmp_path):
    path = tmp_path / "file"
    found = Disk().put(path, b"content")
    assert path.read_bytes() == b"content"
    assert found == Digest(7, hashlib.sha256(b"content").hexdigest()) == Digest.of_file(path)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_nothing_is_named_before_it_is_safe(tmp_path):
    disk = RecordingDisk()
    disk.put(tmp_path / "file", b"content")
    temporary = disk.log[0][1]
    assert disk.log == [
        ("write", temporary, b"content"),
        ("sync", temporary),
        ("rename", temporary, tmp_path / "file"),
        ("sync_folder", tmp_path),
    ]
    assert temporary.parent == tmp_path


@pytest.mark.parametrize("number", REFUSALS, ids=errno.errorcode.get)
@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_disk_that_refuses_leaves_the_old_file_or_the_new_one(tmp_path, at, number):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match=os.strerror(number).replace("(", r"\(").replace(")", r"\)")):
        RefusingDisk(at, number).put(path, b"new")
    assert path.read_bytes() == (b"new" if at == 4 else b"old")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_folders_are_made_with_those_above_and_their_names_are_safe(tmp_path):
    disk = RecordingDisk()
    disk.make_folder(tmp_path / "a" / "b")
    assert disk.log == [("sync_folder", tmp_path), ("sync_folder", tmp_path / "a")]
    disk.make_folder(tmp_path / "a" / "b")
    assert len(disk.log) == 2


def test_only_what_a_killed_writer_left_is_forgotten(tmp_path):
    for name in (".file.77.tmp", "file.tmp", ".hidden"):
        (tmp_path / name).write_bytes(b"x")
    remove_temporaries(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"file.tmp", ".hidden"}
    remove_temporaries(tmp_path / "nowhere")
