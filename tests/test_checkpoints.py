"""Generations of the state: the newest sound one is found, whatever the disk lost or somebody changed."""

import json
import os
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from disks import RecordingDisk, RefusingDisk, after_power_cuts, lay_out
from fallow.errors import DamagedData
from fallow.files.disk import Digest, Disk
from fallow.runs.checkpoints import Checkpoints, check_file, manifest_of
from fallow.runs.schema import About


def content(number):
    return bytes([number]) * (100 + number)


def write(checkpoints, number, recorded=0, needs=()):
    """Write a past epoch and the generation that builds on it and those before."""
    needs = dict(needs)
    if not recorded:
        path = checkpoints.run / "history" / f"epoch-{number:05d}"
        checkpoints.disk.make_folder(path.parent)
        needs[f"history/{path.name}"] = checkpoints.disk.put(path, b"epoch %d" % number)
    made = checkpoints.write(content(number), About(epoch=number, recorded=recorded), needs)
    return made, needs


def several(run, disk=None, recorded=(0, 0, 5, 0, 7, 9, 0)):
    """Write generations one after the other; return the log's length after each."""
    checkpoints = Checkpoints(run, disk or Disk())
    ends, needs = [], {}
    for number, inside in enumerate(recorded):
        made, needs = write(checkpoints, number, inside, needs)
        assert made.number == number
        ends.append(len(getattr(disk, "log", ())))
    return checkpoints, ends


def test_the_newest_two_are_kept_and_the_newest_from_between_two_epochs(tmp_path):
    checkpoints, _ = several(tmp_path, recorded=(0, 0, 5, 6))
    assert checkpoints.numbers() == [1, 2, 3]
    assert checkpoints.newest().found.number == 3
    assert checkpoints.newest(between=True).found.number == 1
    write(checkpoints, 4)
    assert checkpoints.numbers() == [3, 4]


def test_after_a_power_cut_at_any_operation_the_last_finished_generation_is_sound(tmp_path):
    disk = RecordingDisk()
    run = tmp_path / "run"
    run.mkdir()
    _, ends = several(run, disk)
    seen = 0
    for done, model, contents in after_power_cuts(disk.log, run):
        left = lay_out(contents, tmp_path / f"{done}-{model}")
        finished = [number for number, end in enumerate(ends) if end <= done]
        found = Checkpoints(left).newest().found
        if finished:
            assert found is not None, (done, model)
            assert found.number >= finished[-1]
        if found is not None:
            assert Checkpoints(left).state_path(found.number).read_bytes() == content(found.number)
            assert Checkpoints(left).unsound(found) == {}
        seen += 1
    assert seen == 4 * (len(disk.log) + 1) > 200


def test_the_test_can_fail(tmp_path):
    """A disk that is not asked to sync loses a finished generation."""

    class Careless(RecordingDisk):
        def sync(self, path):
            pass

    run = tmp_path / "run"
    run.mkdir()
    disk = Careless()
    _, ends = several(run, disk)
    lost = 0
    for done, model, contents in after_power_cuts(disk.log, run):
        left = lay_out(contents, tmp_path / f"{done}-{model}")
        found = Checkpoints(left).newest().found
        lost += bool([end for end in ends if end <= done]) and found is None
    assert lost > 0


@pytest.mark.parametrize("for_good", [True, False])
def test_a_disk_that_refuses_at_any_operation_leaves_the_last_generation(tmp_path, for_good):
    disk = RecordingDisk()
    (tmp_path / "counted").mkdir()
    _, ends = several(tmp_path / "counted", disk)
    for at in range(1, len(disk.log) + 1):
        run = tmp_path / f"{at}"
        run.mkdir()
        refusing = RefusingDisk(at, 28, for_good)
        refused = False
        try:
            several(run, refusing)
        except OSError:
            refused = True
        assert refused or disk.log[at - 1][0] in (
            "remove",
            "sync_folder",
        )  # an old one that stays hurts nobody
        finished = [number for number, end in enumerate(ends) if end < at]
        found = Checkpoints(run).newest().found
        assert found is None if not finished and found is None else found.number >= max(finished, default=0)
        checkpoints = Checkpoints(run)
        if found is not None:
            checkpoints.trust(found)
        number = checkpoints.next_number()
        made, _ = write(checkpoints, number)
        assert made.number == number
        assert checkpoints.newest().found.number == number


def test_a_damaged_one_is_named_and_the_one_before_is_used(tmp_path):
    checkpoints, _ = several(tmp_path)
    path = checkpoints.state_path(6)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    search = checkpoints.newest()
    assert search.found.number == 5
    assert len(search.damage) == 1
    assert str(path) in search.damage[0]
    assert "another checksum" in search.damage[0]
    checkpoints.manifest_path(5).unlink()
    search = checkpoints.newest()
    assert search.found is None
    assert "not finished" in search.damage[1]


def test_numbers_are_never_given_twice(tmp_path):
    checkpoints, _ = several(tmp_path)
    checkpoints.state_path(6).write_bytes(b"damaged")
    again = Checkpoints(tmp_path)
    again.trust(again.newest().found)
    made, _ = write(again, 7)
    assert made.number == 7
    assert again.numbers() == [5, 7]


def test_what_it_builds_on_is_looked_at_by_itself(tmp_path):
    checkpoints, _ = several(tmp_path)
    found = checkpoints.newest().found
    (tmp_path / "history" / "epoch-00003").write_bytes(b"epoch 4")
    (tmp_path / "history" / "epoch-00001").unlink()
    assert checkpoints.newest().found == found
    wrong = checkpoints.unsound(found)
    assert sorted(wrong) == ["history/epoch-00001", "history/epoch-00003"]
    assert "must be a file of this run" in wrong["history/epoch-00001"]


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_change_of_a_manifest_or_a_state_is_found(tmp_path, data):
    check_change(tmp_path, data)


@pytest.mark.slow
@settings(max_examples=2500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_one_of_many_changes_is_found(tmp_path, data):
    check_change(tmp_path, data)


def check_change(tmp_path, data):
    checkpoints, _ = _whole(tmp_path)
    which = data.draw(st.sampled_from(["state", "manifest"]))
    path = checkpoints.state_path(6) if which == "state" else checkpoints.manifest_path(6)
    before = path.read_bytes()
    after = data.draw(mutated(before))
    path.write_bytes(after)
    try:
        search = checkpoints.newest()
        assert search.found.number == (6 if after == before else 5)
    finally:
        path.write_bytes(before)


def _whole(tmp_path):
    checkpoints = Checkpoints(tmp_path / "whole")
    if not checkpoints.folder.exists():
        checkpoints.run.mkdir()
        several(checkpoints.run)
    return checkpoints, None


@st.composite
def mutated(draw, data):
    """Bytes flipped, cut, swapped, zeroed, added, or replaced by another file."""
    kind = draw(st.sampled_from(["flip", "cut", "zero", "append", "swap", "foreign"]))
    at = draw(st.integers(0, len(data) - 1))
    if kind == "flip":
        out = bytearray(data)
        for _ in range(draw(st.integers(1, 8))):
            out[draw(st.integers(0, len(data) - 1))] ^= 1 << draw(st.integers(0, 7))
        return bytes(out)
    if kind == "cut":
        return data[:at]
    if kind == "zero":
        return data[:at] + bytes(min(64, len(data) - at)) + data[at + 64 :]
    if kind == "append":
        return data + draw(st.binary(min_size=1, max_size=20))
    if kind == "swap":
        other = draw(st.integers(0, len(data) - 1))
        out = bytearray(data)
        out[at], out[other] = out[other], out[at]
        return bytes(out)
    foreign = [b"", b"\x80\x04K\x05.", b"PK\x03\x04", b"[" * 5000, b"{}", b"null", b"\xff" * 64]
    return draw(st.sampled_from(foreign))


FOREIGN = {
    "folder": lambda path: path.mkdir(),
    "pipe": lambda path: os.mkfifo(path),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "link out": lambda path: path.symlink_to("/etc/passwd"),
    "link to nothing": lambda path: path.symlink_to("nowhere"),
    "huge number": lambda path: path.write_text('{"format": "fallow-generation-1", "number": 1e999}'),
    "deep": lambda path: path.write_text('{"format":' + "[" * 100_000),
    "newer": lambda path: path.write_text('{"format": "fallow-generation-2", "number": 6}'),
}


@pytest.mark.parametrize("which", ["state", "manifest"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_file_of_ours_is_refused_at_once(tmp_path, kind, which):
    checkpoints, _ = several(tmp_path)
    path = checkpoints.state_path(6) if which == "state" else checkpoints.manifest_path(6)
    path.unlink()
    FOREIGN[kind](path)
    search = checkpoints.newest()
    assert search.found.number == 5
    assert len(search.damage) == 1


def test_a_newer_format_says_so(tmp_path):
    checkpoints, _ = several(tmp_path)
    FOREIGN["newer"](checkpoints.manifest_path(6))
    with pytest.raises(DamagedData, match="A newer fallow may read it"):
        checkpoints.read(6)


def test_a_manifest_of_another_number_is_refused(tmp_path):
    checkpoints, _ = several(tmp_path)
    checkpoints.manifest_path(6).write_bytes(checkpoints.manifest_path(5).read_bytes())
    with pytest.raises(DamagedData, match="must belong to generation 6"):
        checkpoints.read(6)


def test_readers_never_see_half_a_generation(tmp_path):
    checkpoints, _ = several(tmp_path)
    stop, wrong, reads = threading.Event(), [], [0]

    def read():
        while not stop.is_set():
            search = Checkpoints(tmp_path).newest()
            reads[0] += 1
            if search.found is None:
                wrong.append(search.damage)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(7, 60):
        write(checkpoints, number, recorded=number % 3)
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert reads[0] > 20


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DamagedData, match="must be a file of this run"):
        check_file(tmp_path, "nothing", Digest.of(b""))
    (tmp_path / "short").write_bytes(b"12")
    with pytest.raises(DamagedData, match="2 bytes for 3"):
        check_file(tmp_path, "short", Digest.of(b"123"))


def test_a_manifest_is_json_for_everybody(tmp_path):
    checkpoints, _ = several(tmp_path)
    told = json.loads(checkpoints.manifest_path(6).read_text())
    assert told["format"] == "fallow-generation-1"
    assert told["files"]["state/000006.safetensors"]["bytes"] == 106
    assert np.all([len(file["sha256"]) == 64 for file in told["files"].values()])


def test_what_another_version_says_of_the_training_is_kept_when_it_is_written_anew(tmp_path):
    checkpoints, _ = several(tmp_path)
    path = checkpoints.manifest_path(6)
    digests = checkpoints.read(6).files
    path.write_bytes(manifest_of(6, {"epoch": 6, "colour": ["red", 1.5]}, digests))
    found = checkpoints.newest().found
    assert (found.about.epoch, found.about.recorded, found.about.data) == (6, 0, "data.safetensors")
    made = checkpoints.write(b"more", structs.replace(found.about, data="data-007.safetensors"), {})
    told = json.loads(checkpoints.manifest_path(made.number).read_text())["about"]
    assert told["colour"] == ["red", 1.5]
    assert (told["epoch"], told["data"]) == (6, "data-007.safetensors")
    assert "others" not in told
    assert checkpoints.newest().found.about == made.about
