"""Killed at any instant, a run goes on and leaves what the run that was never killed leaves."""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from killing import OPTIONS, begin_or_go_on, left

HERE = Path(__file__).parent
MEMORY = Path("/dev/shm")


@pytest.fixture
def folder():
    """A folder in memory, where there is one: nothing here depends on what a disk has synced."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as place:
        yield Path(place)


def killed(count, seeds, folder):
    """Run the trials of several seeds beside each other, each in a process that forks."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = []
    for seed in seeds:
        (folder / str(seed)).mkdir()
        words = [sys.executable, str(HERE / "killing.py"), str(count), str(seed), str(folder / str(seed))]
        running.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment))
    return [json.loads(child.communicate()[0].splitlines()[-1]) for child in running]


def check(found, count):
    assert sum(one["trials"] for one in found) == count
    assert sum(one["kills"] for one in found) >= count
    assert [one["differing"] for one in found] == [0] * len(found)
    assert [one["unreadable"] for one in found] == [[]] * len(found)


@pytest.mark.slow
def test_a_few_kills(folder):
    check(killed(2, [100], folder), 2)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_three_hundred_runs_that_are_killed(folder):
    found = killed(150, [1, 2], folder)
    check(found, 300)
    assert sum(one["writing"] for one in found) > 100
    assert max(one["longest"] for one in found) >= 4


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_twenty_kills_of_the_command_line(folder):
    begin_or_go_on(folder / "whole")
    want = left(folder / "whole")
    draw = random.Random(0)
    for number in range(20):
        run = folder / f"{number}"
        words = [f"--{name}={value}" for name, value in OPTIONS.items()]
        base = [sys.executable, "-m", "fallow", "train"]
        kills = 0
        while True:
            begun = (run / "config.yaml").exists()
            command = [*base, "--resume", str(run)] if begun else [*base, *words, "--out", str(run)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            child = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
            )
            if kills < 1 + number % 3:
                wait_for_the_training(run, child, draw)
                child.send_signal(signal.SIGKILL)
            said = child.communicate()[0].decode()
            if child.returncode == -signal.SIGKILL:
                kills += 1
                continue
            assert child.returncode == 0, said
            break
        assert left(run) == want


def wait_for_the_training(run, child, draw):
    """Wait until the process has begun to write, and then a moment more."""
    before = newest(run)
    while child.poll() is None and newest(run) == before:
        time.sleep(0.005)
    time.sleep(draw.random() * 0.6)


def newest(run):
    return max((path.stat().st_mtime_ns for path in run.rglob("*") if path.exists()), default=0)
