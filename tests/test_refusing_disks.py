"""A disk that is full, read-only or broken: training says so and goes on, and nothing is lost."""

import errno
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from fallow.cli.main import main
from fallow.errors import FallowError, NotWritten
from fallow.files.disk import Disk
from fallow.options.train_options import TrainOptions
from fallow.runs.checkpoints import Checkpoints
from fallow.runs.run_files import RunFiles
from fallow.runs.verify import verify
from fallow.training.train import train
from killing import OPTIONS, begin_or_go_on, left
from test_resumed_runs import Told

REFUSALS = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES]
OPERATIONS = ("write", "sync", "rename", "sync_folder", "remove")
ONCE_AN_EPOCH = {name: value for name, value in OPTIONS.items() if name != "save_steps"}


@pytest.fixture
def folder():
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as place:
        yield Path(place)


class Refusing:
    """Lets the n-th operation of every disk fail, and all after it where the disk is broken for good."""

    def __init__(self, monkeypatch, at, number, for_good):
        self.count, self.at, self.number, self.for_good = 0, at, number, for_good
        for name in OPERATIONS:
            monkeypatch.setattr(Disk, name, self.method(getattr(Disk, name)))

    def method(self, real):
        def refusing(disk, *arguments):
            self.count += 1
            if self.count == self.at or (self.for_good and self.count > self.at):
                raise OSError(self.number, os.strerror(self.number))
            return real(disk, *arguments)

        return refusing


@contextmanager
def no_room_for(name):
    """Let every write of a file with this in its name fail, as on a full disk."""
    real = Disk.write

    def full(disk, path, data):
        if name in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(disk, path, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Disk, "write", full)
        yield


def whole(folder):
    """Train without a fault; return what is left and how many operations there were."""
    with pytest.MonkeyPatch.context() as patch:
        counting = Refusing(patch, 0, 0, False)
        train(TrainOptions(**ONCE_AN_EPOCH, out=str(folder / "whole")), Told())
    return left(folder / "whole"), counting.count


def trial(folder, want, at, number, for_good, **more):
    """Train on a disk that refuses, then go on when it is well again; return what was said."""
    run, told = folder / "run", Told()
    failed = None
    with pytest.MonkeyPatch.context() as patch:
        Refusing(patch, at, number, for_good)
        try:
            train(TrainOptions(**ONCE_AN_EPOCH | more, out=str(run)), told)
        except FallowError as error:
            failed = error
    sound = Checkpoints(run).newest().found if run.exists() else None
    if failed is not None:
        assert os.strerror(number) in str(failed) or "could not be written" in str(failed)
        if for_good and (run / "SHA256SUMS").exists():  # only its folder could not be synced: all is there
            assert verify(RunFiles(run)).damaged == {}
    if sound is not None:
        assert Checkpoints(run).unsound(sound) == {}
    if not run.exists() or (failed is not None and sound is None and not (run / "config.yaml").exists()):
        shutil.rmtree(run, ignore_errors=True)
    begin_or_go_on(run)
    found = left(run)
    shutil.rmtree(run)
    assert found == want
    return told.said, failed


def sweep(folder, step, numbers, kinds=(True, False), **more):
    want, operations = whole(folder)
    assert operations > 60
    warned = 0
    for number in numbers:
        for at in range(1, operations + 1, step):
            for for_good in kinds:
                said, failed = trial(folder, want, at, number, for_good, **more)
                warned += any(line.startswith("Warning: ") for line in said)
                if for_good:
                    assert failed is not None, at
    return warned


@pytest.mark.slow
def test_a_full_disk_now_and_then(folder):
    assert sweep(folder, 53, [errno.ENOSPC]) > 0


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("number", REFUSALS, ids=errno.errorcode.get)
def test_a_disk_that_refuses_at_any_operation(folder, number):
    """Refused once, training goes on and nothing is lost; refused for good, nothing claims success."""
    kinds = (True, False) if number == errno.ENOSPC else (True,)
    assert sweep(folder, 1 if number in (errno.ENOSPC, errno.EIO, errno.EROFS) else 7, [number], kinds) > 5


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_training_that_is_asked_to_stop_does(folder):
    assert sweep(folder, 3, [errno.ENOSPC], on_storage_error="stop") == 0


def test_nothing_claims_success(folder, monkeypatch, capsys):
    _, operations = whole(folder)
    run = folder / "run"
    words = ["train", *(f"--{name}={value}" for name, value in ONCE_AN_EPOCH.items()), "--out", str(run)]
    Refusing(monkeypatch, operations - 30, errno.ENOSPC, True)
    assert main(words) == 1
    printed = capsys.readouterr()
    assert "No space left on device" in printed.err
    assert f"--resume {run}" in printed.err
    assert not (run / "SHA256SUMS").exists()


@pytest.mark.slow
def test_a_warning_is_given_for_every_epoch_and_the_files_come_later(folder):
    want, _ = whole(folder)
    run, told = folder / "run", Told()
    lacking = pytest.raises(NotWritten, match="lacks the files of epochs 1, 2, 3 ")
    with no_room_for("epoch-00000"), lacking:
        train(TrainOptions(**ONCE_AN_EPOCH, out=str(run)), told)
    warnings = [line for line in told.said if line.startswith("Warning: ")]
    assert len(warnings) == 4
    assert "it is tried again after the next epoch" in warnings[0]
    summary = json.loads((run / "summary.json").read_text())
    assert len(summary["epochs"]) == 3
    begin_or_go_on(run)  # the files lay in the state
    assert left(run) == want


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shown.safetensors", "000003"])
def test_a_file_that_lacks_at_the_end_is_told_and_comes_with_the_next_call(folder, name):
    want, _ = whole(folder)
    run, told = folder / "run", Told()
    with no_room_for(name), pytest.raises(NotWritten, match="--resume"):
        train(TrainOptions(**ONCE_AN_EPOCH, out=str(run)), told)
    assert not (run / "SHA256SUMS").exists()
    begin_or_go_on(run)
    assert verify(RunFiles(run)).damaged == {}
    assert (run / "SHA256SUMS").exists()
    assert left(run) == want


def test_a_stop_before_anything_is_saved_does_not_name_a_folder_to_go_on_with(folder):
    run = folder / "run"
    with pytest.MonkeyPatch.context() as patch:
        Refusing(patch, 20, errno.ENOSPC, True)
        with pytest.raises(NotWritten, match=r"start the run again|Name another --out"):
            train(TrainOptions(**ONCE_AN_EPOCH, on_storage_error="stop", out=str(run)), Told())
    assert not (run / "config.yaml").exists()


@pytest.mark.slow
def test_a_finished_run_is_not_sealed_while_it_is_written_anew(folder):
    whole(folder)
    run = folder / "whole"
    with no_room_for("samples.csv"), pytest.raises(NotWritten):
        begin_or_go_on(run)
    assert verify(RunFiles(run)).damaged == {}
    assert verify(RunFiles(run)).incomplete
    begin_or_go_on(run)
    assert not verify(RunFiles(run)).incomplete
