"""Files of strangers: only regular ones, of a bounded size, reached without links."""

import os
import socket

import pytest

from fallow.errors import DamagedData
from fallow.files.regular_file import check_folder, kind_of, opened, read_regular


@pytest.fixture
def folder(tmp_path):
    """A folder with one of each kind, and a file outside of it."""
    inside = tmp_path / "run"
    (inside / "history").mkdir(parents=True)
    (inside / "history" / "a").write_bytes(b"good")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a").write_bytes(b"foreign")
    os.mkfifo(inside / "fifo")
    (inside / "link").symlink_to(outside / "a")
    (inside / "near").symlink_to(inside / "history" / "a")
    (inside / "endless").symlink_to("/dev/zero")
    (inside / "elsewhere").symlink_to(outside)
    with socket.socket(socket.AF_UNIX) as made:
        before = os.getcwd()
        os.chdir(inside)  # names of sockets are short
        made.bind("socket")
        os.chdir(before)
        yield inside


def test_a_regular_file_is_read(folder):
    assert read_regular(folder / "history" / "a", folder) == b"good"
    assert read_regular(folder / "history" / "a") == b"good"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("fifo", "a FIFO"),
        ("link", "a link"),
        ("near", "a link"),
        ("endless", "a link"),
        ("socket", "a socket"),
        ("history", "a folder"),
        ("elsewhere/a", "a link"),
        ("history/a/b", "a regular file"),
    ],
)
def test_other_things_are_refused_by_name(folder, name, found):
    with pytest.raises(DamagedData, match=f"{name.removesuffix('/a').removesuffix('/b')} .*Found {found}"):
        read_regular(folder / name, folder)


@pytest.mark.parametrize(
    ("name", "found"), [("fifo", "a FIFO"), ("endless", "a device"), ("socket", "a socket")]
)
def test_what_a_person_names_must_be_regular_too(folder, name, found):
    with pytest.raises(DamagedData, match=f"Found {found}"):
        read_regular(folder / name)


def test_a_link_that_a_person_names_is_followed(folder):
    assert read_regular(folder / "link") == b"foreign"


def test_no_path_leads_out(folder):
    with pytest.raises(DamagedData, match="must lie in"):
        read_regular(folder / ".." / "outside" / "a", folder)


def test_a_missing_file_is_missing(folder):
    for name in ("none", "history/none", "none/none"):
        with pytest.raises(FileNotFoundError, match="none"):
            read_regular(folder / name, folder)


def test_a_file_is_not_larger_than_it_may_be(folder):
    assert read_regular(folder / "history" / "a", folder, limit=4) == b"good"
    with pytest.raises(DamagedData, match=r"at most 3 bytes\. Found 4"):
        read_regular(folder / "history" / "a", folder, limit=3)


def test_a_file_that_only_claims_its_size_is_refused(folder):
    with (folder / "huge").open("wb") as file:
        file.truncate(1 << 36)
    with pytest.raises(DamagedData, match="a sparse file"):
        read_regular(folder / "huge", folder)


def test_a_file_is_closed_after_use(folder):
    with opened(folder / "history" / "a", folder) as file:
        assert file.read(2) == b"go"
    assert file.closed
    before = len(os.listdir("/proc/self/fd"))
    for name in ("fifo", "link", "elsewhere/a", "history"):
        with pytest.raises(DamagedData):
            read_regular(folder / name, folder)
    assert len(os.listdir("/proc/self/fd")) == before


def test_folders_are_folders(folder):
    check_folder(folder / "history", folder)
    check_folder(folder / "none" / "none", folder)
    with pytest.raises(DamagedData, match=r"elsewhere must be a folder\. Found a link"):
        check_folder(folder / "elsewhere", folder)
    with pytest.raises(DamagedData, match="Found a FIFO"):
        check_folder(folder / "fifo" / "deeper", folder)


def test_kinds_in_words(folder):
    assert kind_of(os.lstat(folder / "history" / "a").st_mode) == "a regular file"
