"""The states of a run; what one is doing now, by its lock and the times of its files."""

from __future__ import annotations

import os
import re
import socket
import statistics
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from ..errors import DamagedData
from ..files.checked_json import parse_json
from ..files.regular_file import read_regular
from .pushed import Told, read_told

RUNNING, STALLED, CRASHED = "running", "stalled", "crashed"
"""A process trains it; one holds it and has long written nothing; its process has gone without ending."""
STOPPED, FINISHED, DIVERGED = "stopped", "finished", "diverged"
"""It has ended: before its last epoch, after it, or without a finite loss."""
DAMAGED = "damaged"
"""A file is not as it was written."""
LATE = 3
"""A run has stalled once it has written nothing for this many of its usual epochs."""
_SHORTEST = 30.0
"""Nor before so many seconds, since the epochs of a small run take less than its evaluation."""
_UNKNOWN = 600.0
"""The same for a run whose epochs have no usual length yet."""
_EPOCHS = 16
"""Epochs that the usual length is taken from, the last ones."""
_EPOCH = re.compile(r"epoch-[0-9]{5}\.safetensors")
_MOST = 1 << 10


def doing(run: Path, state: str, now: float) -> str:
    """Return the state of a run, with ``running``, ``stalled`` or ``crashed`` for one that has not ended.

    Args:
        run: the folder of the run.
        state: ``running`` if its lock is held, else what its files say.
        now: the present time, in seconds since the epoch.

    Returns:
        ``running``, ``stalled``, ``crashed``, or ``state``.
    """
    told = read_told(run)
    if told is not None:
        return _told(told, state, now)
    if state == RUNNING:
        return STALLED if _is_late(run, now) else RUNNING
    if state != STOPPED:
        return state
    holder = _holder(run)
    if holder is None:
        return STOPPED
    # The lock of another machine may be invisible here, so that only its files tell whether it lives.
    if holder not in ("", socket.gethostname()):
        return STALLED if _is_late(run, now) else RUNNING
    return CRASHED


def _told(told: Told, state: str, now: float) -> str:
    """Return the state of a pushed run: by its files, and by the last word where they leave it open."""
    if state not in (RUNNING, STOPPED):
        return state
    if told.state in (RUNNING, STALLED):
        # Who no longer hears of a run does not know that it still trains.
        return told.state if told.is_training(now) else STALLED
    return CRASHED if told.state == CRASHED else STOPPED


def last_write(run: Path) -> float:
    """Return when a run was last written to, in seconds since the epoch; 0 if it has no files."""
    times = [0.0]
    for folder in ("state", "history", ""):
        with suppress(OSError), os.scandir(run / folder) as entries:
            times += [
                entry.stat(follow_symlinks=False).st_mtime
                for entry in entries
                if folder or entry.name in ("summary.json", "config.yaml", "lock")
            ]
    return max(times)


def usual_epoch(run: Path) -> float | None:
    """Return the median time between the last epochs in seconds; None before there are two."""
    times = []
    with suppress(OSError), os.scandir(run / "history") as entries:
        named = sorted((entry.name, entry) for entry in entries if _EPOCH.fullmatch(entry.name))
        times = [entry.stat(follow_symlinks=False).st_mtime for _, entry in named[-_EPOCHS:]]
    gaps = [b - a for a, b in pairwise(times) if b > a]
    return statistics.median(gaps) if gaps else None


def _is_late(run: Path, now: float) -> bool:
    usual = usual_epoch(run)
    limit = _UNKNOWN if usual is None else max(_SHORTEST, LATE * usual)
    return now - last_write(run) > limit


def _holder(run: Path) -> str | None:
    """Return the machine that a lock names, empty if it names none; None if nobody has left a name in it."""
    try:
        data = read_regular(run / "lock", run, _MOST)
        found = parse_json(data, "lock") if data else None
    except DamagedData:
        return ""
    except OSError:
        return None
    if found is None:
        return None
    host = found.get("host") if isinstance(found, dict) else None
    return host if isinstance(host, str) else ""
