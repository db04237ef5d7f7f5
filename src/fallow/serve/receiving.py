"""Runs of other machines, which push their files here: whole, checked, once, and within bounds.

RUN/pushed.json       marks a run that was pushed; a run without it is never written to
.fallow-push/token    what the link for pushing has; remove it to make a new one
.fallow-push/part     files that have begun to come
.fallow-push/new      runs that are not shown yet, since what they need has not come

A file comes in pieces. Each piece says where it belongs, and each answer says how much is there: so a client
that has lost the line goes on where it was. A file gets its name once its checksum is right and it is on the
disk. Files of past epochs never change again. Nothing that has come is called, imported or unpickled: all of
it is read as the files of any run are.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from ..errors import DamagedData, WrongState, invalid
from ..files.disk import DISK, Digest, remove_temporaries
from ..files.lock import RunLock
from ..files.regular_file import check_folder, read_regular
from ..runs import pushed
from ..runs.checkpoints import glance
from ..runs.listing import found
from ..runs.pushed import Mark, State, may_hold, read_told
from .answers import Answer
from .asks import Ask
from .errors import Refused, wrong
from .wording import FORM

OWN = ".fallow-push"
MOST_RUNS, MOST_PARTS, LEAST_SIZE = 2000, 64, 4096
"""The most runs, and files that have begun to come; what a file counts at least, in bytes."""
_LARGEST, _LARGEST_TEXT = 1 << 33, 1 << 26
"""The largest arrays and texts, in bytes."""
_TOKEN = re.compile(rb"[A-Za-z0-9_-]{43}\n")
_MANIFEST = re.compile(r"state/([0-9]{6,9})\.json")
_TAKEN = ("history", "state", "lock")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

RunName = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z0-9_]([A-Za-z0-9._-]{0,78}[A-Za-z0-9_])?\Z",
        description="What the run is called. If another has the name, a part of its id is added.",
        extra_json_schema={
            FORM: "a name of at most 80 letters A-Z and a-z, digits and _, with . and - in between"
        },
    ),
]
PushId = Annotated[
    str,
    Meta(
        pattern=r"\A[0-9a-f]{32}\Z",
        description="Of the run: made where it trains, the same each time.",
        extra_json_schema={FORM: "32 of the digits 0-9 and a-f"},
    ),
]


class Tell(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a run is doing where it trains; to be said at least once a minute while it trains."""

    run: RunName
    id: PushId
    state: State


class Push(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A piece of a file: its bytes from ``offset`` on, of ``size`` in all. None: what is there?"""

    run: RunName
    id: PushId
    file: Annotated[str, Meta(max_length=64, description="Its path within the run.")]
    size: Annotated[int, Meta(ge=1, le=_LARGEST)]
    sha256: Annotated[
        str, Meta(pattern=r"\A[0-9a-f]{64}\Z", extra_json_schema={FORM: "64 of the digits 0-9 and a-f"})
    ]
    offset: Annotated[int, Meta(ge=0, lt=_LARGEST)] = 0


class Heard(Answer, kw_only=True):
    """What the run is called here."""

    run: str


class Had(Answer, kw_only=True):
    """How many bytes of the file are there, from its beginning; ``whole`` once it is in its place."""

    have: int
    whole: bool


class Receiver:
    """Takes the files of runs into a folder. One thread at a time may call it.

    Args:
        folder: of runs.
        most: the most bytes of all runs that are received.

    Attributes:
        token: what a client needs to push, 256 random bits; it stays the same when the server starts again.
        own: the folder of what is not a run, which this user alone can enter.

    Raises:
        InvalidValue: if the folder is a run, cannot be written, or another server receives into it.
    """

    def __init__(self, folder: Path, most: int) -> None:
        if list(found(folder)) == [folder]:
            raise invalid(
                "--receive needs a folder of runs.", f"the run {folder}", "Name the folder around it."
            )
        self.folder, self.most, self.own = folder, most, folder / OWN
        self._parts, self._new = self.own / "part", self.own / "new"
        self._digests: dict[Path, tuple[tuple[int, int, int], Digest]] = {}
        try:
            with suppress(FileExistsError):
                os.mkdir(self.own, 0o700)
            self._check_own()
            self._lock = RunLock(self.own)
            for name in (self._parts, self._new):
                DISK.make_folder(name)
            self.token = self._token()
        except WrongState:
            raise invalid("One server alone may receive into a folder.", f"another in {folder}") from None
        except OSError as error:
            raise invalid(
                "The folder of --receive must be writable.", f"{folder}: {error.strerror}"
            ) from None
        self._runs = {path for path in [*self._new.iterdir(), *found(folder)] if read_told(path) is not None}
        for path in (self.own, *self._runs):  # of a server that was killed
            remove_temporaries(path)
        self._total = sum(_counted(size) for size in self._sizes())

    def close(self) -> None:
        """Let another server receive into the folder."""
        self._lock.release()

    def _check_own(self) -> None:
        status = os.lstat(self.own)
        other = hasattr(os, "geteuid") and (status.st_uid != os.geteuid() or status.st_mode & 0o077)
        if not stat.S_ISDIR(status.st_mode) or other:
            step = "Remove it; the next start makes another link for pushing."
            raise invalid(f"{self.own} must be a folder that you alone can enter.", "another", step)

    def _token(self) -> str:
        path = self.own / "token"
        try:
            data = read_regular(path, self.own, 64)
        except FileNotFoundError:
            data = f"{secrets.token_urlsafe(32)}\n".encode()
            DISK.put(path, data)
        if not _TOKEN.fullmatch(data):
            raise invalid(
                f"{path} must hold a token.", "something else", "Remove it; the next start makes one."
            )
        return data.decode().strip()

    def _sizes(self) -> Iterator[int]:
        for top in (self._parts, *self._runs):
            for folder, _, names in os.walk(top):
                for name in names:
                    with suppress(OSError):
                        yield os.lstat(os.path.join(folder, name)).st_size

    def tell(self, ask: Tell) -> Heard:
        """Note what a run is doing.

        Raises:
            Refused: if it cannot be written.
        """
        try:
            place = self._place(ask.run, ask.id)
            told = read_told(place)
            if told is not None and told.state == ask.state:
                os.utime(place / pushed.NAME)
            else:
                self._mark(place, ask.id, ask.state)
        except OSError as error:
            raise _not_written(error) from None
        return Heard(run=ask.run if place.parent == self._new else place.name)

    def take(self, ask: Push, body: bytes) -> Had:
        """Take a piece of a file, and give the file its name once it is whole.

        Raises:
            Refused: if it is none that a run may hold, another file has its name, it is not what its checksum
                says, or there is no room.
        """
        if not may_hold(ask.file):
            raise wrong(f"`file` must be one that a pushed run may hold. Found {ask.file!r}.")
        if ask.size > (_LARGEST if ask.file.endswith(".safetensors") else _LARGEST_TEXT):
            raise Refused(413, "limit", f"{ask.file} is too large. Found {ask.size:,} bytes.")
        try:
            return self._take(self._place(ask.run, ask.id), ask, body)
        except DamagedData:
            step = "Look at it on the machine of the server."
            rule = f"{ask.run}/{ask.file} must be a regular file, and is another there."
            raise Refused(409, "other", f"{rule} {step}") from None
        except OSError as error:
            raise _not_written(error) from None

    def _take(self, place: Path, ask: Push, body: bytes) -> Had:
        path, wanted = place / ask.file, Digest(ask.size, ask.sha256)
        check_folder(path.parent, self.folder)
        there = self._digest(path, place)
        part = self._parts / _key(ask)
        os.utime(place / pushed.NAME)
        if there == wanted:
            self._remove(part)
            self._show(place, ask)
            return Had(have=ask.size, whole=True)
        if there is not None and pushed.is_fixed(ask.file):
            step = "Push the run under another name: --name."
            raise Refused(409, "other", f"{ask.file} differs from what was pushed before. {step}")
        have = _size(part) or 0
        if body and ask.offset == have:
            if have + len(body) > ask.size:
                raise wrong(f"{ask.file} must have {ask.size:,} bytes. Found {have + len(body):,}.")
            self._append(part, ask.size - have, body)
            have += len(body)
        if have < ask.size:
            return Had(have=have, whole=False)
        if Digest.of_file(part, self._parts) != wanted:
            self._remove(part)
            raise wrong(f"{ask.file} has not the checksum that was named. Send it again.")
        try:
            self._accept(part, path, place, ask)
        except OSError:
            self._remove(part)
            raise
        self._show(place, ask)
        return Had(have=ask.size, whole=True)

    def _append(self, part: Path, missing: int, body: bytes) -> None:
        size = _size(part)
        if self._total + missing + LEAST_SIZE * (size is None) > self.most:
            # What has begun to come and cannot end would stay for ever.
            self._remove(part)
            limit = f"{self.most / (1 << 30):,.2f} GiB"
            raise Refused(507, "full", f"Pushed runs may take {limit} here: remove some, or --receive_most.")
        if size is None:
            self._make_way()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        flags |= sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_BINARY"))
        try:
            with os.fdopen(os.open(part, flags, 0o666), "wb") as file:
                file.write(body)
        except OSError:
            part.unlink(missing_ok=True)
            self._total -= 0 if size is None else _counted(size)
            raise
        self._total += _counted((size or 0) + len(body)) - (0 if size is None else _counted(size))

    def _make_way(self) -> None:
        """Remove the part that was written to longest ago, if there are many."""
        parts = sorted(self._parts.iterdir(), key=lambda path: path.lstat().st_mtime_ns)
        for path in parts[: max(0, len(parts) - MOST_PARTS + 1)]:
            self._remove(path)

    def _accept(self, part: Path, path: Path, place: Path, ask: Push) -> None:
        """Give a whole file its name."""
        manifest = _MANIFEST.fullmatch(ask.file)
        if manifest is not None:
            self._check_manifest(part, place)
        elif not ask.file.startswith("state/"):
            # The checksums do not hold while files change. They come last, and again.
            self._remove(place / "SHA256SUMS")
        DISK.make_folder(path.parent)
        before = _size(path)
        DISK.sync(part)
        DISK.rename(part, path)
        self._total -= 0 if before is None else _counted(before)
        DISK.sync_folder(path.parent)
        if manifest is not None:
            self._remove_generations(place, int(manifest[1]))

    def _check_manifest(self, part: Path, place: Path) -> None:
        """Raise Refused if a file that a manifest names has not come."""
        try:
            named = glance(part, read_regular(part, self._parts, _LARGEST_TEXT)).files
        except DamagedData:
            self._remove(part)
            raise wrong("A manifest must be as fallow writes it, and this one is not.") from None
        for name, digest in named.items():
            # A name may be anything: only what a run may hold is looked for.
            if not may_hold(name) or _size(place / name) != digest.bytes:
                self._remove(part)
                raise Refused(409, "early", "A manifest must come after the files that it names.")

    def _remove_generations(self, place: Path, number: int) -> None:
        """Remove all states but the one that has come and the one before it; manifests first."""
        names = [path for path in (place / "state").iterdir() if may_hold(f"state/{path.name}")]
        older = [int(path.stem) for path in names if int(path.stem) < number and path.suffix == ".json"]
        kept = {number, max(older, default=number)}
        for path in sorted(names, key=lambda path: path.suffix):
            if int(path.stem) not in kept:
                self._remove(path)

    def _show(self, place: Path, ask: Push) -> None:
        """Show a run that is not shown yet, if its manifest has come: the last file that it needs."""
        if place.parent != self._new or not _MANIFEST.fullmatch(ask.file):
            return
        for target in (self.folder / ask.run, self.folder / f"{ask.run}-{ask.id[:8]}"):
            # An empty folder would be replaced by the new name.
            if os.path.lexists(target):
                continue
            with suppress(FileExistsError, NotADirectoryError):
                place.rename(target)
                DISK.sync_folder(self.folder)
                self._runs = (self._runs - {place}) | {target}
                return
        raise Refused(
            409, "other", f"Another run must not be called {ask.run}. Push it under another name: --name."
        )

    def _place(self, name: str, id_: str) -> Path:
        """Return the folder of a run; a new one is made where it is not shown yet."""
        if name in _TAKEN:
            raise wrong(f"A run must not be called {name}. Push it under another name: --name.")
        hidden = self._new / f"{name}.{id_}"
        for place in (self.folder / f"{name}-{id_[:8]}", self.folder / name, hidden):
            with suppress(OSError):
                told = read_told(place) if stat.S_ISDIR(os.lstat(place).st_mode) else None
                if told is not None and told.id == id_:
                    return place
        self._runs = {path for path in self._runs if path.is_dir()}
        if len(self._runs) >= MOST_RUNS:
            raise Refused(507, "full", f"At most {MOST_RUNS:,} runs may be pushed here: remove some.")
        hidden.mkdir(exist_ok=True)
        self._mark(hidden, id_, "stopped")
        self._runs.add(hidden)
        return hidden

    def _mark(self, place: Path, id_: str, state: State) -> None:
        DISK.put(place / pushed.NAME, msgspec.json.encode(Mark(id_, state)) + b"\n")

    def _digest(self, path: Path, place: Path) -> Digest | None:
        """Return the digest of a file that is there, from memory if it has not changed; or None."""
        try:
            status = os.lstat(path)
            key = (status.st_size, status.st_mtime_ns, status.st_ino)
            known = self._digests.get(path)
            if known is None or known[0] != key:
                known = key, Digest.of_file(path, place)
                while len(self._digests) >= 1 << 16:
                    self._digests.pop(next(iter(self._digests)))
                self._digests[path] = known
            return known[1]
        except FileNotFoundError:
            return None

    def _remove(self, path: Path) -> None:
        size = _size(path)
        if size is not None:
            path.unlink(missing_ok=True)
            self._total -= _counted(size)


def _key(ask: Push) -> str:
    """Return the name of a part: that of one file of one run, with one content."""
    names = "\n".join((ask.run, ask.id, ask.file, str(ask.size), ask.sha256))
    return hashlib.blake2b(names.encode(), digest_size=16).hexdigest()


def _size(path: Path) -> int | None:
    """Return the size of a file, or None if there is none."""
    try:
        return os.lstat(path).st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def _counted(size: int) -> int:
    return max(size, LEAST_SIZE)


def _not_written(error: OSError) -> Refused:
    why = errno.errorcode.get(error.errno or 0, "unknown")
    if error.errno in _FULL:
        return Refused(
            507, "full", f"There is no room on the disk of the server ({why}). Free some space there."
        )
    return Refused(503, "gone", f"The server could not write ({why}). Look at its folder.")
