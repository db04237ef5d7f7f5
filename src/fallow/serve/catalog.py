"""The runs that are served: found in a folder, known by opaque ids, with what each is doing now."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import OrderedDict
from pathlib import Path

from ..errors import DamagedData, FallowError, invalid
from ..import_path import run_around
from ..runs.heartbeat import DAMAGED, RUNNING, STALLED, last_write
from ..runs.listing import ListedRun, RunInBrief, found, listed
from ..runs.pushed import read_told
from ..spelling import one_line
from .answers import RunRow
from .errors import Refused, unknown
from .images import Images
from .places import Places, last_part
from .served_run import Memory, ServedRun, stamp

_OPEN = 4
"""Runs that are kept open."""
_LINKS = 20
"""Links that are named at most."""
_LOOK, _GLANCE = 2.0, 0.25
"""Seconds after which the folder is looked through again, and the files of a run."""
_TEXTS = {
    "running": "training now",
    "stalled": "a process holds it and has written nothing for long",
    "crashed": "its process has gone without ending it",
    "stopped": "stopped before its last epoch",
    "finished": "all epochs are done",
    "diverged": "its loss is not finite any more",
    "damaged": "files are damaged",
}


class Catalog:
    """The runs in a folder, or one run.

    Args:
        folder: the folder of a run, or one that holds runs.
        images: the folder of images that they were trained on, or None.

    Attributes:
        folder, images: as given.
        single: the id of the run, if the folder is one.
        links: names of links to runs, which are not served, as of the last look.

    Raises:
        InvalidValue: if there is no such folder.
    """

    def __init__(self, folder: Path, images: Images | None = None) -> None:
        if not folder.is_dir():
            raise invalid("The folder to serve must exist.", folder, "Name a run, or a folder of runs.")
        self.folder, self.images = folder, images
        self.memory = Memory()
        self._lock = threading.RLock()
        self._paths: dict[str, Path] = {}
        self._looked = -_LOOK
        self.links: list[str] = []
        self._rows: dict[str, tuple[float, str, ListedRun, float]] = {}
        self._stamps: dict[str, tuple[float, str]] = {}
        self._open: OrderedDict[str, ServedRun] = OrderedDict()
        around = run_around(folder)
        self.single = _id(".") if list(found(folder)) == [folder] else None
        if (
            self.single is None
            and around is not None
            and os.path.realpath(around) != os.path.realpath(folder)
        ):
            raise invalid("A folder inside a run must not be served.", folder, f"Name the run: {around}.")

    @property
    def name(self) -> str:
        """The name of the folder."""
        return one_line(os.path.basename(os.path.realpath(self.folder)) or "runs")

    def paths(self) -> dict[str, Path]:
        """Return the folder of each run, by its id."""
        with self._lock:
            if time.monotonic() - self._looked >= _LOOK:
                links: list[Path] = []
                self._paths = {
                    _id(path.relative_to(self.folder).as_posix()): path for path in found(self.folder, links)
                }
                named = sorted(path.relative_to(self.folder).as_posix() for path in links)
                self.links = [one_line(name) for name in named[:_LINKS]]
                self._looked = time.monotonic()
            return dict(self._paths)

    def path(self, run: str | None) -> tuple[str, Path]:
        """Return the id and the folder of a run.

        Raises:
            Refused: if there is no such run, or it must be named and is not.
        """
        if run is None:
            run = self.single
            if run is None:
                raise Refused(400, "wrong", "`run` must name a run of this folder. /api/runs lists them.")
        paths = self.paths()
        if run not in paths:
            # A run that has lost its files, or was moved: the server goes on without it.
            if run == self.single:
                raise Refused(503, "gone", "The run is not in its folder any more. Put it back.")
            raise unknown("The run", run)
        return run, paths[run]

    def stamp(self, run: str, path: Path) -> str:
        """Return the stamp of a run's files, at most a quarter of a second old."""
        now = time.monotonic()
        with self._lock:
            when, known = self._stamps.get(run, (-_GLANCE, ""))
        if now - when < _GLANCE:
            return known
        fresh = stamp(path)
        with self._lock:
            self._stamps[run] = now, fresh
        return fresh

    def row(self, run: str, path: Path) -> RunRow:
        """Return a run with what it is doing now, at most half a second ago."""
        fresh, now = self.stamp(run, path), time.monotonic()
        with self._lock:
            known = self._rows.get(run)
            opened = self._open.get(run)
        if known is None or known[1] != fresh or now - known[0] >= _GLANCE:
            # A lock is taken and let go of without any file of ours being written.
            if known is None or known[1] != fresh or known[2].state in (RUNNING, STALLED, DAMAGED):
                found_ = listed(self.folder, path)[1]
            else:
                found_ = _relocked(self.folder, path, known[2])
            known = now, fresh, found_, last_write(path)
            with self._lock:
                self._rows[run] = known
        _, _, found_, changed = known
        damage = dict(opened.damage) if opened is not None and opened.stamp == fresh else {}
        state = DAMAGED if damage else found_.state
        sentence = found_.damage or next(iter(damage.values()), None)
        places = Places([(path, last_part(str(path))), (self.folder, self.name)])
        plain = {name: getattr(found_, name) for name in RunInBrief.__struct_fields__}
        plain |= {
            "name": one_line(self.name if found_.path == str(self.folder) else found_.name),
            "state": state,
            "data": None if found_.data is None else one_line(last_part(found_.data)),
            "damage": None if sentence is None else places.hidden(sentence),
        }
        unread = opened.known_unread if opened is not None and opened.stamp == fresh else ""
        said = "" if unread and state == DAMAGED else _TEXTS.get(state, state)
        text = "; ".join(filter(None, [said, unread]))
        return RunRow(**plain, id=run, state_text=text, changed_at=changed or None)

    def open(self, run: str | None) -> ServedRun:
        """Return the files of a run as they are now.

        Raises:
            Refused: if there is no such run, or it cannot be opened now.
        """
        run, path = self.path(run)
        fresh = self.stamp(run, path)
        with self._lock:
            known = self._open.get(run)
            if known is not None and known.stamp == fresh:
                self._open.move_to_end(run)
                return known
            try:
                opened = ServedRun(path, last_part(str(path.absolute())), self.memory, self.images)
            except DamagedData as error:
                raise Refused(503, "damaged", Places([(path, path.name)]).hidden(str(error))) from None
            except FallowError:
                raise Refused(
                    409, "early", "The run has not begun: none of its files is there yet. Wait."
                ) from None
            self._open[run] = opened
            while len(self._open) > _OPEN:
                self._open.popitem(last=False)
            # What was opened may be newer than the stamp that is remembered.
            self._stamps[run] = time.monotonic(), opened.stamp
            return opened

    def fresh(self, run: str | None) -> ServedRun:
        """Return the files of a run, opened apart from all others: for long work."""
        run, path = self.path(run)
        return ServedRun(path, last_part(str(path.absolute())), self.memory)


def _id(name: str) -> str:
    """Return the id of a run by its name within the folder: the same whenever the server starts."""
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def _relocked(top: Path, path: Path, known: ListedRun) -> ListedRun:
    """Return a listed run whose files are the same, after another look at its lock or its last word."""
    from ..files.lock import is_held

    try:
        changes = is_held(path) or read_told(path) is not None
    except (FallowError, OSError):
        changes = True
    return listed(top, path)[1] if changes else known
