"""One writer a run, whatever becomes of it."""

import os
import signal
import subprocess
import sys

import pytest

from fallow.errors import WrongState
from fallow.files.lock import RunLock

HOLD = """
import sys, time
from pathlib import Path
from fallow.files.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "held\n"
    yield child
    child.kill()
    child.wait()
    child.stdout.close()


def test_a_second_process_is_told_who_holds_it(tmp_path, holder):
    with pytest.raises(WrongState) as refused:
        RunLock(tmp_path)
    assert f"process {holder.pid} on {os.uname().nodename} since " in str(refused.value)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_holds_nothing(tmp_path, holder, number):
    holder.send_signal(number)
    holder.wait()
    with RunLock(tmp_path):
        pass


def test_a_stopped_process_holds_it_still(tmp_path, holder):
    holder.send_signal(signal.SIGSTOP)
    with pytest.raises(WrongState):
        RunLock(tmp_path)
    holder.send_signal(signal.SIGCONT)


def test_a_second_writer_in_this_process_is_refused_too(tmp_path):
    with RunLock(tmp_path), pytest.raises(WrongState, match=f"process {os.getpid()}"):
        RunLock(tmp_path)
    with RunLock(tmp_path) as lock:
        lock.release()
        lock.release()
        RunLock(tmp_path).release()


def test_a_forked_worker_does_not_hold_it(tmp_path):
    lock = RunLock(tmp_path)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        lock.release()  # does nothing: it is its parent's
        os.read(read, 1)
        os._exit(0)
    code = "import sys, pathlib, fallow.files.lock as lock; lock.RunLock(pathlib.Path(sys.argv[1]))"
    try:
        words = [sys.executable, "-c", code, str(tmp_path)]
        assert subprocess.run(words, capture_output=True).returncode == 1
        lock.release()
        assert subprocess.run(words, capture_output=True).returncode == 0
    finally:
        os.write(write, b"x")
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)


def test_a_lock_file_with_anything_in_it_is_no_hindrance(tmp_path):
    (tmp_path / "lock").write_text("[" * 5000)
    with RunLock(tmp_path):
        assert str(os.getpid()) in (tmp_path / "lock").read_text()
