"""The lock of a run: one writer at a time, and an error for a second one that names the first."""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ..errors import damaged, wrong_state
from .regular_file import kind_of, opened

_held: set[Path] = set()
"""Locks held by this process: record locks do not exclude their own process."""
_FLOCK = {"linux": ("hhqqi", 0), "darwin": ("qqihh", 3)}
"""By platform, the C structure ``flock`` of 64-bit systems, and the place of the kind of lock in it."""
_MAX_CHARACTERS = 1 << 10
"""Maximum number of characters read from a lock."""


class RunLock:
    """The exclusive right to write in a folder, until it is released or the process ends.

    It is a record lock of the operating system on the file ``lock``. The system drops it when the process
    is killed, and a forked worker never holds it. Readers need no lock. The file names the holder.

    Args:
        folder: an existing folder.

    Raises:
        WrongState: if another process holds the lock; the message names it.
        DamagedData: if ``lock`` is a link or not a regular file: writing it would change another file.
    """

    def __init__(self, folder: Path) -> None:
        # Resolved, so that two paths to one folder are one entry of `_held`.
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
        # For a lock that is held POSIX allows EACCES, a PermissionError, as well as EAGAIN.
        except (BlockingIOError, PermissionError):
            raise _refused(folder, _holder(self._file)) from None
        except OSError as error:
            warnings.warn(
                f"{self.path} cannot be locked ({error.strerror}): this file system has no locks. "
                "Make sure that only one training writes there.",
                stacklevel=4,
            )
        # Only now: without the lock the content belongs to another process.
        self._file.seek(0)
        self._file.truncate()
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": time.ctime()}, self._file)
        self._file.flush()

    def release(self) -> None:
        """Release the lock."""
        if self._file is None or self._pid != os.getpid():  # a forked child does not hold the lock
            return
        # Before the lock is dropped, so that the file does not name a process that has gone.
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


def is_held(folder: Path) -> bool:
    """Return whether a process holds the lock of a folder, without taking it or opening it for writing.

    Raises:
        DamagedData: if the lock is a link or not a regular file.
        OSError: if it cannot be read.
    """
    path = folder / "lock"
    # Before the file is opened: to close it would release the record lock of this process.
    if _held and folder.resolve() / "lock" in _held:
        return True
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    _check(path, status)
    # The holder writes its name, and removes it before it lets go; a killed one leaves it.
    if not status.st_size:
        return False
    layout = _FLOCK.get(sys.platform)
    if layout is None:
        return True
    import fcntl

    form, place = layout
    # Five fields: the kind of lock, where it begins, and zeros for the whole file.
    fields = [0] * 5
    fields[place] = fcntl.F_WRLCK
    with opened(path, folder) as file:
        answer = fcntl.fcntl(file, fcntl.F_GETLK, struct.pack(form, *fields))
    return bool(struct.unpack(form, answer)[place] != fcntl.F_UNLCK)


def open_lock(path: Path) -> IO[str]:
    """Open a lock file, creating it if it is missing; its content is left alone.

    Raises:
        DamagedData: if it is a link, not a regular file, or has a second hard link.
        OSError: if it cannot be opened.
    """
    flags = os.O_RDWR | os.O_CREAT
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"):  # missing on Windows
        flags |= getattr(os, name, 0)
    # Opening can already have effects on a device. fstat below catches a file exchanged since.
    with suppress(FileNotFoundError):
        _check(path, os.lstat(path))
    descriptor = os.open(path, flags, 0o666)
    try:
        _check(path, os.fstat(descriptor))
        return os.fdopen(descriptor, "r+", encoding="utf-8", errors="replace")
    except BaseException:
        os.close(descriptor)
        raise


def _check(path: Path, status: os.stat_result) -> None:
    regular = stat.S_ISREG(status.st_mode)
    if not regular or status.st_nlink > 1:
        kind = kind_of(status.st_mode) + (" with a second name (a hard link)" if regular else "")
        rule = f"{path} must be a regular file with one name."
        raise damaged(rule, kind, "Remove it, if no training runs there.")


def _holder(file: IO[str]) -> dict[str, Any]:
    file.seek(0)
    with suppress(ValueError, OSError, RecursionError):
        holder = json.loads(file.read(_MAX_CHARACTERS))
        if isinstance(holder, dict):
            return {str(name): str(value)[:80] for name, value in holder.items()}
    return {}


def _refused(folder: Path, holder: dict[str, Any]) -> Exception:
    who = f"process {holder.get('pid', 'unknown')} on {holder.get('host', 'an unknown host')}"
    since = f" since {holder['since']}" if "since" in holder else ""
    return wrong_state(
        f"Another training writes to {folder}: {who}{since}.", "Wait for it, stop it, or name another folder."
    )
