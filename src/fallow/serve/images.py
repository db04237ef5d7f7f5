"""Pictures of samples, from the folder of images that a person named: decoded in a limited process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from ..errors import DamagedData, invalid
from ..files.regular_file import read_regular
from ..runs.sample_names import relative
from .bounded import Bounded

SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
"""Files that are tried; what they are is read from their content."""
LARGEST = 20_000_000
"""Maximum size of a file in bytes."""
_ANSWER = 1 << 18
"""Maximum size of a thumbnail in bytes."""
_SECONDS = 10.0
"""After which a picture is given up, however little the process did meanwhile."""
_WORKER = Path(__file__).with_name("picture_worker.py")


class Worker:
    """A process that makes thumbnails: begun when it is needed, and again when it is gone.

    Args:
        seconds: how long it may take for one.
    """

    def __init__(self, seconds: float = _SECONDS) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The number of the process; None if there is none now."""
        return None if self._process is None else self._process.pid

    def thumbnail(self, data: bytes) -> bytes | None:
        """Return a small PNG of an image file; None if it cannot be shown, or ends the process.

        Raises:
            TimeoutError: if the process did not answer in time, which may be the fault of a busy machine.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._end()
                self._process = _begun()
            began = time.monotonic()
            found = _asked(self._process, data, self._seconds)
            if found is None:
                self._end()
                if time.monotonic() - began >= self._seconds:
                    raise TimeoutError
            return found or None

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            with suppress(OSError):
                self._process.communicate()
            self._process = None


def _begun() -> subprocess.Popen[bytes]:
    # -P keeps the folder of the worker off the import path. In a session of its own it gets no Ctrl-C.
    return subprocess.Popen(
        [sys.executable, "-P", str(_WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=os.sep,
        start_new_session=True,
    )


def _asked(process: subprocess.Popen[bytes], data: bytes, seconds: float) -> bytes | None:
    """Return what the process answers; None if it is of no use any more."""
    assert process.stdin is not None
    assert process.stdout is not None
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        process.stdin.write(len(data).to_bytes(4, "big") + data)
        process.stdin.flush()
        head = process.stdout.read(4)
        size = int.from_bytes(head, "big")
        if len(head) < 4 or size > _ANSWER:
            return None
        found = process.stdout.read(size)
        return found if len(found) == size else None
    except OSError:
        return None
    finally:
        timer.cancel()


class Images:
    """The folder of images that runs were trained on.

    A run names its files, and may come from anybody: nothing outside of this folder is read, and no link in
    it is followed.

    Args:
        folder: as a person named it.

    Raises:
        InvalidValue: if there is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise invalid("--data must be a folder of images.", folder, "Name the one that was trained on.")
        self.folder = folder
        self._worker = Worker()
        self._made: Bounded[bytes] = Bounded(1 << 23, lambda data: len(data) + 200)

    def path(self, file: str | None, data: str | None) -> Path | None:
        """Return where the file of a sample should be, or None for one that is no image of this folder.

        Args:
            file: as the run names it.
            data: the folder of the run's data, as the run names it.
        """
        if file is None or not file.lower().endswith(SUFFIXES):
            return None
        name = relative(file, data) if data else file
        parts = name.split("/")
        if not all(parts) or any(part in (".", "..") or "\\" in part or "\0" in part for part in parts):
            return None
        return self.folder / name

    def thumbnail(self, path: Path) -> bytes | None:
        """Return a small PNG of a file; None if it cannot be shown."""
        try:
            status = os.lstat(path)
            key = (str(path), status.st_size, status.st_mtime_ns, status.st_ino)
            known = self._made.get(key)
            if known is None:
                data = read_regular(path, self.folder, LARGEST)
                known = self._worker.thumbnail(data) or b""
                self._made.put(key, known)
        except (DamagedData, OSError, ValueError):
            return None
        return known or None

    def close(self) -> None:
        """End the process that decodes."""
        self._worker.close()
