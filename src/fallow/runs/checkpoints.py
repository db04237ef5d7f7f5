"""Checkpoints of a run: a new one is complete before an old one is removed, and is checked before use.

A checkpoint, or generation, is a state file and a manifest. The manifest is written last; it holds size and
SHA-256 of the state and of every file that the state needs, and a checksum of itself.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec import structs

from ..errors import DamagedData, damaged
from ..files.checked_json import check_kind, decode, parse_json
from ..files.disk import DISK, Digest, Disk
from ..files.regular_file import opened, read_regular
from .schema import About, Manifest

FORMAT = "fallow-generation-1"
KEPT = 2
"""The number of sound generations that are kept, besides the newest one from between two epochs."""
_LARGEST, _PER_EPOCH = 1 << 20, 1 << 8
"""Maximum size of a manifest in bytes, and what each epoch with a file adds to it."""
_NAME = re.compile(r"([0-9]{6,9})\.(json|safetensors)")
_TRIES = 100
"""Maximum number of generations that are tried to find a sound one; a run keeps three."""
_STEP = "Put back a copy of it, or resume from an older state."


@dataclass(frozen=True)
class Checkpoint:
    """One generation, as its manifest describes it.

    Attributes:
        number: its number, from 0.
        about: the progress of the training.
        files: the checksum of each file that it needs, by path within the run.
    """

    number: int
    about: About
    files: dict[str, Digest]


@dataclass(frozen=True)
class Search:
    """The result of a search for a sound generation.

    Attributes:
        found: the newest sound one, or None.
        damage: a message about each newer one, which names the file.
    """

    found: Checkpoint | None
    damage: list[str] = field(default_factory=list)


class Checkpoints:
    """The generations in the folder ``state`` of a run.

    Args:
        run: the run's folder.
        disk: performs the writing.
    """

    def __init__(self, run: Path, disk: Disk = DISK) -> None:
        self.run, self.disk = run, disk
        self.folder = run / "state"
        self._sound: list[Checkpoint] = []

    def state_path(self, number: int) -> Path:
        """Return ``state/000012.safetensors``."""
        return self.folder / f"{number:06d}.safetensors"

    def manifest_path(self, number: int) -> Path:
        """Return ``state/000012.json``."""
        return self.folder / f"{number:06d}.json"

    def numbers(self) -> list[int]:
        """Return the generations with at least one file, ascending."""
        names = (_NAME.fullmatch(path.name) for path in self.folder.glob("*.*"))
        return sorted({int(name[1]) for name in names if name})

    def next_number(self) -> int:
        """Return the number of the next generation; numbers are not reused."""
        return max(self.numbers(), default=-1) + 1

    def write(self, state: bytes, about: About, needs: Mapping[str, Digest]) -> Checkpoint:
        """Write the next generation, and then remove the old ones.

        Args:
            state: the result of :func:`fallow.files.state_file.dump`.
            about: the progress of the training.
            needs: the files of the run that the state needs.

        Raises:
            OSError: if the disk refuses; earlier generations stay unchanged.
        """
        number = self.next_number()
        path = self.state_path(number)
        self.disk.make_folder(self.folder)
        # The state before its manifest: a state without one is never used.
        files = {self._name(path): self.disk.put(path, state), **needs}
        checkpoint = Checkpoint(number, about, files)
        self.disk.put(self.manifest_path(number), _manifest(checkpoint))
        self._remember(checkpoint)
        self._remove_old()
        return checkpoint

    def _remember(self, checkpoint: Checkpoint) -> None:
        sound = [*self._sound, checkpoint]
        # A changed data set can only be resumed between two epochs: keep one state from there.
        between = [item for item in sound if not item.about.recorded][-1:]
        self._sound = [*(item for item in between if item not in sound[-KEPT:]), *sound[-KEPT:]]

    def _remove_old(self) -> None:
        """Remove all but the kept generations: older, damaged and half-written ones."""
        kept = {checkpoint.number for checkpoint in self._sound}
        old = [number for number in self.numbers() if number not in kept]
        # Manifests go first: a state without one is never used. The next write removes any leftovers.
        with suppress(OSError):
            for number in old:
                self.disk.remove(self.manifest_path(number))
            if old:
                self.disk.sync_folder(self.folder)
        for number in old:
            with suppress(OSError):
                self.disk.remove(self.state_path(number))

    def trust(self, checkpoint: Checkpoint) -> None:
        """Keep a generation that is resumed, and the last one from between two epochs before it.

        They are kept until there are newer ones.
        """
        for number in reversed(self.numbers()):
            if number < checkpoint.number:
                with suppress(DamagedData, FileNotFoundError):
                    older = self.read(number)
                    if not older.about.recorded:
                        self._remember(older)
                        break
        self._remember(checkpoint)

    def distrust(self) -> None:
        """Let the next write remove all present generations, because they need damaged files."""
        self._sound.clear()

    def newest(self, *, between: bool = False) -> Search:
        """Return the newest generation whose state is unchanged.

        The files that it needs, those of past epochs, are checked by :meth:`unsound`.

        Args:
            between: consider only generations from between two epochs.
        """
        # Not for ever: a folder that changes at every look must not hold up a reader.
        for _ in range(100):
            numbers = self.numbers()
            search = self._search(numbers, between=between)
            # A training process may have removed a generation during the search: then search again.
            if not search.damage or self.numbers() == numbers:
                break
        return search

    def _search(self, numbers: list[int], *, between: bool) -> Search:
        damage: list[str] = []
        for number in numbers[: -_TRIES - 1 : -1]:
            try:
                checkpoint = self.read(number)
                if not (between and checkpoint.about.recorded):
                    return Search(checkpoint, damage)
            except FileNotFoundError:
                path = self.manifest_path(number)
                damage.append(f"{path} or its state is missing: it was not finished.")
            except DamagedData as error:
                damage.append(str(error))
        return Search(None, damage)

    def read(self, number: int) -> Checkpoint:
        """Return a generation after comparing its state with its checksum.

        Raises:
            DamagedData: if the manifest or the state has changed.
            FileNotFoundError: if one of them is missing, because it was not finished or was removed.
        """
        checkpoint = self.manifest(number)
        name = self._name(self.state_path(number))
        check_file(self.run, name, checkpoint.files[name])
        return checkpoint

    def manifest(self, number: int) -> Checkpoint:
        """Return a generation by its manifest alone, which is checked; the state is not read.

        Raises:
            DamagedData: if the manifest has changed.
            FileNotFoundError: if it is missing.
        """
        path = self.manifest_path(number)
        checkpoint = _parsed(path, self._read_manifest(path))
        if checkpoint.number != number:
            raise damaged(f"{path} must belong to generation {number}.", checkpoint.number)
        if self._name(self.state_path(number)) not in checkpoint.files:
            raise damaged(f"{path} must name its state.", ", ".join(checkpoint.files) or "nothing")
        return checkpoint

    def unsound(self, checkpoint: Checkpoint) -> dict[str, str]:
        """Return a message about each damaged file that a generation needs."""
        messages = {}
        for name, digest in checkpoint.files.items():
            if name == self._name(self.state_path(checkpoint.number)):
                continue
            try:
                check_file(self.run, name, digest)
            except FileNotFoundError:
                messages[name] = f"{self.run / name} is missing."
            except DamagedData as error:
                messages[name] = str(error)
        return messages

    def _read_manifest(self, path: Path) -> bytes:
        try:
            # A manifest names the file of every epoch, so its limit grows with them.
            epochs = sum(1 for _ in (self.run / "history").glob("epoch-*"))
            return read_regular(path, self.run, _LARGEST + _PER_EPOCH * epochs)
        except FileNotFoundError:
            # No damage: the generation was not finished, or has been removed.
            raise
        except OSError as error:
            raise damaged(f"{path} must be readable.", error.strerror, _STEP) from None

    def _name(self, path: Path) -> str:
        return path.relative_to(self.run).as_posix()


def check_file(run: Path, name: str, digest: Digest | str) -> None:
    """Compare a file of a run with its checksum, and with its size if that is known.

    Raises:
        DamagedData: if it is missing, is not a regular file of this run, or has changed.
        FileNotFoundError: if a state is missing, as a newer one may have replaced it.
    """
    path = run / name
    size, expected = (None, digest) if isinstance(digest, str) else (digest.size, digest.sha256)
    try:
        with opened(path, run) as file:
            length = file.seek(0, 2)
            if size is not None and length != size:  # saves reading a huge file
                raise damaged(f"{path} must be unchanged.", f"{length:,} bytes for {size:,}", _STEP)
            file.seek(0)
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        if name.startswith("state/"):
            raise
        raise damaged(f"{path} must be a file of this run.", "none", _STEP) from None
    except OSError as error:
        raise damaged(f"{path} must be readable.", error.strerror, _STEP) from None
    if actual != expected:
        value = f"another checksum, {actual[:12]} for {expected[:12]}"
        raise damaged(f"{path} must be unchanged.", value, _STEP)


def _manifest(checkpoint: Checkpoint) -> bytes:
    about = structs.asdict(checkpoint.about)
    others = about.pop("others")  # a newer version may have written fields that this one does not know
    return manifest_of(checkpoint.number, about | others, checkpoint.files)


def manifest_of(number: int, about: dict[str, Any], digests: Mapping[str, Digest]) -> bytes:
    """Return the bytes of a manifest, with a checksum of itself."""
    files = {name: {"bytes": digest.size, "sha256": digest.sha256} for name, digest in digests.items()}
    content = {"format": FORMAT, "number": number, "about": about, "files": files}
    checksum = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return (json.dumps({**content, "checksum": checksum}, indent=1) + "\n").encode()


def glance(path: Path, data: bytes) -> Manifest:
    """Return the content of a manifest by its own checksum alone: far quicker than :meth:`Checkpoints.read`.

    Raises:
        DamagedData: if it has changed.
    """
    manifest = decode(Manifest, data, str(path), _STEP)
    plain = json.loads(data)
    checksum = plain.pop("checksum", None)
    if checksum != hashlib.sha256(json.dumps(plain).encode()).hexdigest():
        raise damaged(f"{path} must be unchanged.", "another checksum", _STEP)
    return manifest


def _parsed(path: Path, data: bytes) -> Checkpoint:
    """Return the content of a manifest."""
    plain = parse_json(data, str(path), _STEP)
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        value = plain.get("format") if isinstance(plain, dict) else type(plain).__name__
        raise damaged(
            f"{path} must be of the format {FORMAT}.", f"{value!r:.60}", "A newer fallow may read it."
        )
    manifest = check_kind(Manifest, plain, str(path), _STEP)
    about = plain["about"]
    files = {name: Digest(digest.bytes, digest.sha256) for name, digest in manifest.files.items()}
    # Rendering it again checks every byte, with its checksum.
    if manifest_of(manifest.number, about, files) != data:
        raise damaged(f"{path} must be unchanged.", "another checksum", _STEP)
    others = {name: value for name, value in about.items() if name not in About.__struct_fields__}
    return Checkpoint(manifest.number, structs.replace(manifest.about, others=others), files)
