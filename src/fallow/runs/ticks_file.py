"""What people found of what a run lacks: lines that are only ever added to, ``ticks.jsonl``.

A line is one JSON object. The last line about a pick or a gap counts. A line that was cut off, as by a full
disk, is passed over, and the next one begins on a line of its own.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from ..errors import damaged
from ..files.regular_file import opened, read_regular

NAME = "ticks.jsonl"
LARGEST = 1 << 24
"""Maximum size of the file in bytes; nothing more is written then."""
_FLAGS = (
    os.O_RDWR
    | os.O_APPEND
    | os.O_CREAT
    | sum(getattr(os, n, 0) for n in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"))
)


class Tick(Struct, frozen=True):
    """What somebody found.

    Attributes:
        at: when, in ISO 8601 with the offset from UTC.
        found: how many.
        list, place, checksum: the list of picks, the place in it and the checksum of the pick; or None.
        gap: the name of a gap; or None.
        note: in the person's words.
    """

    at: Annotated[str, Meta(max_length=64)]
    found: Annotated[int, Meta(ge=0, lt=1 << 53)]
    list: Annotated[str, Meta(max_length=64)] | None = None
    place: Annotated[int, Meta(ge=0, lt=1 << 53)] | None = None
    checksum: Annotated[str, Meta(max_length=64)] | None = None
    gap: Annotated[str, Meta(max_length=200)] | None = None
    note: Annotated[str, Meta(max_length=2000)] = ""


def read_ticks(run: Path) -> list[Tick]:
    """Return what was found so far, in the order in which it was written; nothing without a file.

    Raises:
        DamagedData: if the file is a link, not a regular file, or too large.
        OSError: if it cannot be read.
    """
    try:
        data = read_regular(run / NAME, run, LARGEST + 1)
    except FileNotFoundError:
        return []
    ticks = []
    for line in data.split(b"\n"):
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):
            ticks.append(msgspec.json.decode(line, type=Tick))
    return ticks


def add_tick(run: Path, tick: Tick) -> None:
    """Add a line to the file of a run, and wait until it is on the disk.

    Raises:
        DamagedData: if the file is a link, not a regular file, or full.
        OSError: if it cannot be written; then the file is as it was.
    """
    path = run / NAME
    line = msgspec.json.encode(tick) + b"\n"
    with suppress(FileNotFoundError), opened(path, run, LARGEST):
        pass
    descriptor = os.open(path, _FLAGS, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        if size + len(line) > LARGEST:
            raise damaged(f"{NAME} must have at most {LARGEST:,} bytes.", f"{size:,}", "Move it away.")
        # After half a line of a full disk or a killed server.
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        # One call, so that two writers never mix their lines.
        written = os.write(descriptor, line)
        try:
            if written != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        except OSError:
            # What may be on the disk in part is taken back, unless somebody has written behind it.
            if os.fstat(descriptor).st_size == size + written:
                os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def found_by_gap(ticks: Sequence[Tick]) -> dict[str, int]:
    """Return how many were found of each gap, by its name: the last word on it."""
    return {tick.gap: tick.found for tick in ticks if tick.gap is not None}


def found_by_pick(ticks: Sequence[Tick]) -> dict[tuple[str, str], int]:
    """Return how many were found of each pick, by its list and checksum: the last word on it."""
    return {
        (tick.list, tick.checksum): tick.found
        for tick in ticks
        if tick.list is not None and tick.checksum is not None
    }
