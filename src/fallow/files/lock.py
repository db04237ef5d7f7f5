"""One writer a run: who holds the lock, and what a second one is told."""

from __future__ import annotations

import json
import os
import socket
import stat
import time
import warnings
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ..errors import damaged, wrong_state
from .regular_file import kind_of

_held: set[Path] = set()
"""The locks of this process: the system would give it each a second time."""
_LONGEST = 1 << 10
"""Characters of a lock that are read, at most."""


class RunLock:
    """The right to write in a folder, until it is released or the process ends, however it ends.

    It is a record lock of the operating system on the file ``lock``: a killed process holds it no
    longer, and a worker that was forked never does. Readers need none. The file says who holds it.

    Args:
        folder: which must be there.

    Raises:
        WrongState: if another process holds it; says who.
        DamagedData: if ``lock`` is no regular file of its own: what it leads to would be changed.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder.resolve() / "lock"
        if self.path in _held:
            raise _refused(folder, {"pid": os.getpid(), "host": socket.gethostname()})
        self._file: IO[str] | None = open_lock(self.path)
        try:
            self._take(folder)
        except BaseException:
            self._file.close()
            raise
        _held.add(self.path)
        self._pid = os.getpid()

    def _take(self, folder: Path) -> None:
        assert self._file is not None
        try:
            from fcntl import LOCK_EX, LOCK_NB, lockf
        except ModuleNotFoundError:  # Windows
            return
        try:
            lockf(self._file, LOCK_EX | LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise _refused(folder, _holder(self._file)) from None
        except OSError as error:
            warnings.warn(
                f"{self.path} cannot be locked ({error.strerror}): this file system has no locks. "
                "Make sure that only one training writes there.",
                stacklevel=4,
            )
        self._file.seek(0)
        self._file.truncate()
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": time.ctime()}, self._file)
        self._file.flush()

    def release(self) -> None:
        """Let others write."""
        if self._file is None or self._pid != os.getpid():  # a forked child releases nothing
            return
        with suppress(OSError):
            self._file.truncate(0)
        self._file.close()
        self._file = None
        _held.discard(self.path)

    def __enter__(self) -> RunLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def open_lock(path: Path) -> IO[str]:
    """Open a file to be locked, and make it if it is missing; its content is left as it is.

    Raises:
        DamagedData: if it is a link, no regular file, or has another name elsewhere.
        OSError: as the system says.
    """
    flags = os.O_RDWR | os.O_CREAT
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"):  # Windows has none of them
        flags |= getattr(os, name, 0)
    with suppress(FileNotFoundError):
        _check(path, os.lstat(path))
    descriptor = os.open(path, flags, 0o666)
    try:
        _check(path, os.fstat(descriptor))
        return os.fdopen(descriptor, "r+", encoding="utf-8", errors="replace")
    except BaseException:
        os.close(descriptor)
        raise


def _check(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        what = kind_of(found.st_mode) + (
            " with another name elsewhere" if stat.S_ISREG(found.st_mode) else ""
        )
        raise damaged(f"{path} must be a file of its own.", what, "Remove it, if nobody trains there.")


def _holder(file: IO[str]) -> dict[str, Any]:
    file.seek(0)
    with suppress(ValueError, OSError, RecursionError):
        found = json.loads(file.read(_LONGEST))
        if isinstance(found, dict):
            return {str(name): str(value)[:80] for name, value in found.items()}
    return {}


def _refused(folder: Path, holder: dict[str, Any]) -> Exception:
    who = f"process {holder.get('pid', 'unknown')} on {holder.get('host', 'an unknown host')}"
    since = f" since {holder['since']}" if "since" in holder else ""
    return wrong_state(
        f"Another training writes in {folder}: {who}{since}.", "Wait for it, stop it, or name another folder."
    )
