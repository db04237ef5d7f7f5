"""Trainings that are killed at any instant, chains of kills too, and then go on to their end.

Everything is imported and warmed up once; each training is a fork of that process, so that a trial
takes a second.
"""

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.console import Console as RichConsole

from fallow.errors import FallowError
from fallow.files.disk import Disk
from fallow.options.resume_options import stored_options
from fallow.options.train_options import TrainOptions
from fallow.runs.directory import RunDirectory
from fallow.tasks.console import Console
from fallow.training import summary
from fallow.training.train import train

OPTIONS = {
    "data": "digits", "samples": 192, "epochs": 3, "batch_size": 48, "accelerator": "cpu",
    "policy": "threshold", "low": 0.5, "high": 2.5, "readmit_every": 2, "save_steps": 1,
}  # fmt: skip


def left(run):
    """What a finished run leaves behind that times have no part in."""
    names = [
        "model.safetensors",
        "samples.csv",
        *sorted(f"history/{p.name}" for p in (run / "history").iterdir()),
    ]
    summary = json.loads((run / "summary.json").read_text())
    told = {
        name: summary[name] for name in ("accuracy", "test_loss", "steps", "samples_backward", "finished")
    }
    return {name: (run / name).read_bytes() for name in names if not name.endswith(".tmp")}, told


def begin_or_go_on(run):
    """Do what a person does who finds the folder: begin the run, or go on with it."""
    console = Console(RichConsole(stderr=True), silent=True)
    directory = RunDirectory(run)
    begun = run.is_dir() and (
        directory.config_path.exists() or directory.checkpoints.numbers() or directory.epochs()
    )
    if begun:
        train(TrainOptions(**{**stored_options(str(run)), "resume": str(run)}), console)
    else:
        train(TrainOptions(**OPTIONS, out=str(run)), console)


def killed_at(operation, half):
    """Let this process be killed at its n-th operation on the disk: before it, or half way through it."""
    count = 0

    def dying(name, real):
        def method(self, *arguments):
            nonlocal count
            count += 1
            if count == operation:
                if half and name == "write":
                    arguments[0].write_bytes(arguments[1][: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(self, *arguments)

        return method

    for name in ("write", "sync", "rename", "sync_folder", "remove"):
        setattr(Disk, name, dying(name, getattr(Disk, name)))


def in_a_fork(work, seconds=None):
    """Run `work` in a fork, killed after so many seconds; return its exit status."""
    child = os.fork()
    if not child:
        code = 1
        try:
            with open(os.devnull, "w") as nothing:
                os.dup2(nothing.fileno(), 1)
                os.dup2(nothing.fileno(), 2)
            work()
            code = 0
        except FallowError as error:
            Path(f"/tmp/fallow-kill-{os.getpid()}").write_text(str(error))
            code = 3
        except BaseException:
            import traceback

            Path(f"/tmp/fallow-kill-{os.getpid()}").write_text(traceback.format_exc())
        finally:
            os._exit(code)
    if seconds is not None:
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    note = Path(f"/tmp/fallow-kill-{child}")
    why = note.read_text() if note.exists() else ""
    note.unlink(missing_ok=True)
    return status, why


@dataclass
class Trials:
    """What came of the trials.

    Attributes:
        trials: runs that were killed at least once and taken to their end.
        kills: processes that were killed; ``writing``: those at an operation on the disk.
        longest: the longest chain of kills of one run.
        differing: runs that did not leave what the run that was never killed left.
        unreadable: runs that would not go on; with what was said.
    """

    trials: int = 0
    kills: int = 0
    writing: int = 0
    longest: int = 0
    differing: int = 0
    unreadable: list = field(default_factory=list)


def trials(count, seed, folder, tell=lambda done: None):
    """Kill so many runs at random instants and take each to its end.

    The usage chart, which takes longer than the training and is not compared, is left out.
    """
    torch.set_num_threads(1)
    summary.save_usage = lambda history, folder, **options: [folder / "usage.png"]
    folder = Path(folder)
    whole = folder / "whole"
    begin_or_go_on(whole)  # warms up, too
    began = time.perf_counter()
    status, why = in_a_fork(lambda: begin_or_go_on(folder / "timed"))
    assert status == 0, why
    seconds = time.perf_counter() - began
    want, found = left(whole), Trials()
    rng = np.random.default_rng(seed)
    assert left(folder / "timed") == want
    while found.trials < count:
        run = folder / f"{seed}-{found.trials}"
        chain = 0
        for _ in range(int(rng.choice([1, 1, 1, 2, 3, 5]))):
            if rng.random() < 0.5:
                operation, half = int(rng.integers(1, 110)), bool(rng.random() < 0.5)

                def work(operation=operation, half=half, run=run):
                    killed_at(operation, half)
                    begin_or_go_on(run)

                status, why = in_a_fork(work)
                writing = 1
            else:
                status, why = in_a_fork(lambda run=run: begin_or_go_on(run), rng.random() * seconds)
                writing = 0
            if os.WIFSIGNALED(status):
                chain, found.kills, found.writing = chain + 1, found.kills + 1, found.writing + writing
            elif status:
                found.unreadable.append(why)
        found.longest = max(found.longest, chain)
        if not chain:
            shutil.rmtree(run, ignore_errors=True)
            continue
        status, why = in_a_fork(lambda run=run: begin_or_go_on(run))
        found.trials += 1
        if status:
            found.unreadable.append(why)
        elif left(run) != want:
            found.differing += 1
        else:
            shutil.rmtree(run)
        tell(found)
    return found


if __name__ == "__main__":
    number, first, place = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    result = trials(number, first, place)
    print(json.dumps(asdict(result)))
