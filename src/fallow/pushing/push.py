"""Push runs: each epoch once it is saved, until the training has ended. Runs are read, and never locked."""

from __future__ import annotations

import os
import re
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any

from ..errors import DamagedData, damaged, invalid
from ..files.disk import Digest
from ..runs.directory import RunDirectory
from ..runs.heartbeat import RUNNING, STALLED
from ..runs.listing import found, listed
from ..runs.pushed import may_hold
from . import sources
from .line import Line, Refusal
from .sources import Source

_EVERY = 5.0
"""Seconds between two looks at runs that train."""
_TRIES = 20
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST = 80
_FIT = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,78}[A-Za-z0-9_])?")


@dataclass
class PushedRun:
    """What became of a run.

    Attributes:
        path: its folder.
        name: what it is called on the server.
        state: what it was doing when it was last looked at.
        files: how many files the server has of it.
        refused: why the server does not take it, or empty.
        damaged: what is wrong with files that were not pushed, by their names.
    """

    path: str
    name: str
    state: str = ""
    files: int = 0
    refused: str = ""
    damaged: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as plain values."""
        return dict(vars(self))


def push(folder: Path, line: Line, *, follow: bool = False, name: str | None = None) -> list[PushedRun]:
    """Push a run, or the runs of a folder, until none of them trains any more.

    Args:
        folder: a run, or a folder of runs.
        line: to the server.
        follow: go on for ever, also with runs that begin later.
        name: what the server is to call the run; by default the name of its folder.

    Raises:
        InvalidValue: if there is no run, or the link is not that of the server.
        NotWritten: if the server is not reached for long.
    """
    if name is not None and not _FIT.fullmatch(name):
        rule = f"--name must have at most {_LONGEST} letters, digits, and any of . _ - in between."
        raise invalid(rule, repr(name), "As in --name digits-2.")
    pushers: dict[Path, _Pusher] = {}
    passed: set[Path] = set()
    while True:
        links: list[Path] = []
        for path in found(folder, links):
            if path not in pushers:
                pushers[path] = _Pusher(path, name or _name(folder, path), line)
        for link in sorted(set(links) - passed):
            line.say(
                f"{link}: a link, which is not followed. To push it, name it: fallow push {quote(str(link))}."
            )
        passed.update(links)
        if not pushers and not follow:
            raise invalid(
                "The folder must hold a run.", f"none in {folder}", "With --follow, push waits for one."
            )
        if name is not None and len(pushers) > 1:
            raise invalid("--name must be that of one run.", f"{len(pushers)} runs", "Name one run.")
        trains = [pusher.look() for pusher in pushers.values()]
        if not follow and not any(trains):
            return [pusher.result for pusher in pushers.values()]
        time.sleep(_EVERY)


def _name(folder: Path, path: Path) -> str:
    """Return what a run is called on the server.

    >>> _name(Path("runs"), Path("runs/comparison 1/full"))
    'comparison-1-full'
    """
    inside = path.relative_to(folder).as_posix()
    name = path.resolve().name if inside == "." else inside
    return _UNFIT.sub("-", name)[:_LONGEST].strip(".-") or "run"


class _Pusher:
    """Pushes what is new of one run.

    Args:
        path: its folder.
        name: what the server is to call it.
        line: to the server.
    """

    def __init__(self, path: Path, name: str, line: Line) -> None:
        self.run, self.name, self.line = RunDirectory(path), name, line
        self.result = PushedRun(str(path), name)
        self._id = ""
        self._there: dict[str, Digest] = {}
        self._times: dict[str, tuple[int, int, int]] = {}
        self._generation = -1
        self._said = ""
        self._asks = True

    def look(self) -> bool:
        """Push what is new, and return whether the run trains.

        Raises:
            InvalidValue, NotWritten: see :func:`push`.
        """
        # Before its files: so the server hears that it has ended only once it has all of them.
        row = listed(self.run.path, self.run.path)[1]
        state = self.result.state = row.state
        self.result.damaged.pop("run", None)
        if row.damage is not None:
            self.result.damaged["run"] = row.damage
        trains = state in (RUNNING, STALLED)
        try:
            self._push(state, trains=trains)
            self.result.refused = ""
        except Refusal as refusal:
            if str(refusal) != self.result.refused:
                self.line.say(f"{self.name}: {refusal}")
            self.result.refused = str(refusal)
            if refusal.code == "early":  # it has lost files that it had
                self._forget()
        except FileNotFoundError:
            pass  # The training goes on meanwhile: what is there is found at the next look.
        if not trains:
            self._compare()
        self.result.files = len(self._there)
        return trains

    def _compare(self) -> None:
        """Note which files of a run at rest are not as they were written."""
        try:
            written = self.run.sums()
        except DamagedData as error:
            self.result.damaged["SHA256SUMS"] = str(error)
            return
        for name, sha256 in written.items():
            # The state is not sent as it is here; and what was found before is told already.
            if not may_hold(name) or name.startswith("state/") or name in self.result.damaged:
                continue
            found = self._there.get(name)
            if not os.path.lexists(self.run.path / name):
                self.result.damaged[name] = f"{self.run.path / name} is gone. Put back a copy of it."
            elif found is not None and found.sha256 != sha256:
                self.result.damaged[name] = (
                    f"{self.run.path / name} has changed since it was written. Put back a copy of it."
                )

    def _push(self, state: str, *, trains: bool) -> None:
        id_ = sources.id_of(self.run)
        if id_ != self._id:  # at first, and if another run is in the folder
            self._forget()
            self._id = id_
        if trains:
            self._tell(state)
        for _ in range(_TRIES):
            try:
                self._files()
                self._asks = False
                break
            except FileNotFoundError:  # a training has replaced its state
                continue
        if not trains and self._said != state:
            self._tell(state)

    def _tell(self, state: str) -> None:
        called = self.line.tell(self.name, self._id, state)
        if not self._said:
            self.line.say(f"{self.result.path}: pushed to {self.line.link.place} as {called}.")
        self.result.name, self._said = called, state

    def _forget(self) -> None:
        self._there.clear()
        self._times.clear()
        self._generation, self._said, self._asks = -1, "", True

    def _files(self) -> None:
        """Push what the server does not have."""
        run = self.run
        try:
            newest = sources.newest(run)
        except DamagedData as error:
            self.result.damaged["state"] = str(error)
            return
        for name in sources.FIRST:
            self._changing(name)
        if newest is None:
            return
        for name, digest in newest.files.items():
            if not name.startswith("state/") and self._there.get(name) != digest:
                self._fixed(name, digest)
        if newest.number != self._generation:
            self._there = {name: each for name, each in self._there.items() if not name.startswith("state/")}
            state = f"state/{newest.number:06d}.safetensors"
            try:
                small = sources.small_state(run, newest.number)
            except DamagedData as error:
                self.result.damaged[state] = str(error)
                return
            self._send(state, sources.made(small))
            manifest = sources.manifest(newest, state, self._there)
            self._send(f"state/{newest.number:06d}.json", sources.made(manifest))
            self._generation = newest.number
        for name in sources.later_names(run):
            self._changing(name)
        try:
            sums = sources.sums(run, self._there)
        except DamagedData as error:
            self.result.damaged["SHA256SUMS"] = str(error)
            return
        if sums is not None:
            self._send("SHA256SUMS", sources.made(sums))

    def _changing(self, name: str) -> None:
        """Push a file if it has changed."""
        try:
            status = (self.run.path / name).lstat()
            times = (status.st_size, status.st_mtime_ns, status.st_ino)
            if self._times.get(name) != times and status.st_size:
                self._send(name, sources.source(self.run, name))
                self._times[name] = times
        except FileNotFoundError:
            pass
        except (DamagedData, OSError) as error:
            self.result.damaged[name] = str(error)

    def _fixed(self, name: str, digest: Digest) -> None:
        """Push a file that the manifest names."""
        try:
            with sources.source(self.run, name) as source:
                if source.digest != digest:
                    raise damaged(f"{name} must be unchanged.", "another checksum", "Put back a copy of it.")
                self._upload(name, source)
        except FileNotFoundError:
            self.result.damaged[name] = f"{self.run.path / name} is gone. Put back a copy of it."
        except (DamagedData, OSError) as error:
            # The others are pushed: the server shows that one epoch is missing.
            self.result.damaged[name] = str(error)
        else:
            self.result.damaged.pop(name, None)

    def _send(self, name: str, opened: AbstractContextManager[Source]) -> None:
        with opened as source:
            if self._there.get(name) != source.digest:
                self._upload(name, source)

    def _upload(self, name: str, source: Source) -> None:
        # The checksums do not hold while files change: the server removes its list of them.
        if name != "SHA256SUMS" and not name.startswith("state/"):
            self._there.pop("SHA256SUMS", None)
        digest = source.digest
        # An earlier push may have sent what this one has not: in its first pass it asks.
        size, sha256 = digest.size, digest.sha256
        self.line.upload(self.name, self._id, name, source.file, size, sha256, asks=self._asks)
        self._there[name] = digest
