"""A power cut at every operation of a whole training, on disks that lose what they may lose."""

import tempfile
from pathlib import Path

import pytest

from disks import MODELS, RecordingDisk, after_power_cuts, lay_out
from fallow.files.disk import Disk
from fallow.options.train_options import TrainOptions
from fallow.runs.run_files import RunFiles
from fallow.training.train import train
from killing import OPTIONS, begin_or_go_on, left
from test_resumed_runs import Told


@pytest.fixture(scope="module")
def recorded():
    """A training's folder in memory, and the log of all it wrote."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as place:
        disk, run = RecordingDisk(), Path(place) / "run"
        with pytest.MonkeyPatch.context() as patch:
            for name in ("write", "sync", "rename", "sync_folder", "remove"):
                patch.setattr(Disk, name, _logging(disk, name, getattr(Disk, name)))
            train(TrainOptions(**OPTIONS, out=str(run)), Told())
        yield run, disk.log, Path(place)


def _logging(disk, name, real):
    def method(self, path, *more):
        disk.log.append((name, path, *(bytes(part) if name == "write" else part for part in more)))
        return real(self, path, *more)

    return method


def first_state(log):
    """Return after how many operations the first manifest of a state is safe."""
    names = [str(operation[2]) if operation[0] == "rename" else "" for operation in log]
    return next(i for i, name in enumerate(names) if name.endswith("state/000000.json")) + 2


@pytest.mark.slow
def test_a_sound_state_is_always_there(recorded):
    run, log, place = recorded
    first, seen, newest = first_state(log), 0, 0
    assert len(log) > 150
    for done, model, contents in after_power_cuts(log, run):
        if done < first:
            continue
        cut = lay_out(contents, place / "cut")
        found = RunFiles(cut)
        assert found.search.found is not None, (done, model)
        assert found.directory.checkpoints.unsound(found.search.found) == {}, (done, model)
        number = found.search.found.number
        assert number >= newest - 1
        newest = max(newest, number)
        for path in sorted(cut.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        seen += 1
    assert seen == (len(log) + 1 - first) * len(MODELS)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_what_is_left_goes_on_to_the_same_end(recorded):
    run, log, place = recorded
    want, first = left(run), first_state(log)
    for done, model, contents in after_power_cuts(log, run):
        if done < first or done % 9 != MODELS.index(model):
            continue
        cut = lay_out(contents, place / f"{done}-{model}")
        begin_or_go_on(cut)
        assert left(cut) == want, (done, model)
