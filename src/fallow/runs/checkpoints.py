"""Generations of a run's state: a new one is whole before an old one goes, and damage is found before use.

A generation is a state file and a manifest, written last, which holds size and SHA-256 of the state and of
every file that it builds on, and a checksum of itself.
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
from ..files.checked_json import check_kind, parse_json
from ..files.disk import DISK, Digest, Disk
from ..files.regular_file import opened, read_regular
from .schema import About, Manifest

FORMAT = "fallow-generation-1"
KEPT = 2
"""How many sound generations are kept, and one more: the newest from between two epochs."""
_LARGEST, _AN_EPOCH = 1 << 20, 1 << 8
"""Bytes of a manifest, at most, and how many more each epoch adds that has a file."""
_NAME = re.compile(r"([0-9]{6,9})\.(json|safetensors)")
_TRIES = 100
"""Generations that are tried to find a sound one; a run keeps three."""
_STEP = "Put back a copy of it, or go on from an older state."


@dataclass(frozen=True)
class Checkpoint:
    """One generation, as its manifest describes it.

    Attributes:
        number: counts up from 0.
        about: how far the training was.
        files: the checksum of each file it needs, by path within the run.
    """

    number: int
    about: About
    files: dict[str, Digest]


@dataclass(frozen=True)
class Search:
    """What a look for a sound generation found.

    Attributes:
        found: the newest sound one, or None.
        damage: what is wrong with each newer one, in words that name the file.
    """

    found: Checkpoint | None
    damage: list[str] = field(default_factory=list)


class Checkpoints:
    """The generations in the folder ``state`` of a run.

    Args:
        run: the run's folder.
        disk: what they are written with.
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
        """Return which generations there is anything of, ascending."""
        names = (_NAME.fullmatch(path.name) for path in self.folder.glob("*.*"))
        return sorted({int(name[1]) for name in names if name})

    def next_number(self) -> int:
        """Return the number of the next generation; none is given twice."""
        return max(self.numbers(), default=-1) + 1

    def write(self, state: bytes, about: About, needs: Mapping[str, Digest]) -> Checkpoint:
        """Write the next generation, and then remove the old ones.

        Args:
            state: what :func:`fallow.files.state_file.dump` returned.
            about: how far the training is.
            needs: files of the run that the state builds on.

        Raises:
            OSError: where the disk refuses; the generations that there were are untouched.
        """
        number = self.next_number()
        path = self.state_path(number)
        self.disk.make_folder(self.folder)
        files = {self._name(path): self.disk.put(path, state), **needs}
        made = Checkpoint(number, about, files)
        self.disk.put(self.manifest_path(number), _manifest(made))
        self._remember(made)
        self._remove_old()
        return made

    def _remember(self, checkpoint: Checkpoint) -> None:
        sound = [*self._sound, checkpoint]
        between = [one for one in sound if not one.about.recorded][-1:]
        self._sound = [*(one for one in between if one not in sound[-KEPT:]), *sound[-KEPT:]]

    def _remove_old(self) -> None:
        """Remove what is not among the sound generations: older, damaged, or half written."""
        kept = {checkpoint.number for checkpoint in self._sound}
        old = [number for number in self.numbers() if number not in kept]
        with suppress(OSError):  # the new one is safe; what is left over goes with the next
            for number in old:
                self.disk.remove(self.manifest_path(number))
            if old:
                self.disk.sync_folder(self.folder)
        for number in old:
            with suppress(OSError):
                self.disk.remove(self.state_path(number))

    def trust(self, checkpoint: Checkpoint) -> None:
        """Take note of a generation that is gone on from, and of the one from between two epochs before it.

        They stay until there are newer ones.
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
        """Let the generations that there are go with the next one: they build on what is damaged."""
        self._sound.clear()

    def newest(self, *, between: bool = False) -> Search:
        """Return the newest generation whose state is as it was written.

        What it builds on, the files of past epochs, is looked at by :meth:`unsound`. Readers may call it
        while another process writes: where that removes one meanwhile, they look anew.

        Args:
            between: look only at those from between two epochs.
        """
        for _ in range(100):
            numbers = self.numbers()
            search = self._search(numbers, between=between)
            if not search.damage or self.numbers() == numbers:
                break
        return search

    def _search(self, numbers: list[int], *, between: bool) -> Search:
        damage: list[str] = []
        for number in numbers[: -_TRIES - 1 : -1]:
            try:
                found = self.read(number)
                if not (between and found.about.recorded):
                    return Search(found, damage)
            except FileNotFoundError:
                path = self.manifest_path(number)
                damage.append(f"{path} or its state is missing: it was never finished.")
            except DamagedData as error:
                damage.append(str(error))
        return Search(None, damage)

    def read(self, number: int) -> Checkpoint:
        """Return a generation whose state was held against its checksum.

        Raises:
            DamagedData: naming the file that is not as it was written.
            FileNotFoundError: where its manifest or its state is not there: never finished, or removed.
        """
        checkpoint = self.manifest(number)
        name = self._name(self.state_path(number))
        check_file(self.run, name, checkpoint.files[name])
        return checkpoint

    def manifest(self, number: int) -> Checkpoint:
        """Return a generation as its manifest describes it, which is sound; its state was not looked at.

        Raises:
            DamagedData: where the manifest is not as it was written.
            FileNotFoundError: where there is none.
        """
        path = self.manifest_path(number)
        checkpoint = _parsed(path, self._small(path))
        if checkpoint.number != number:
            raise damaged(f"{path} must belong to generation {number}.", checkpoint.number)
        if self._name(self.state_path(number)) not in checkpoint.files:
            raise damaged(f"{path} must name its state.", ", ".join(checkpoint.files) or "nothing")
        return checkpoint

    def unsound(self, checkpoint: Checkpoint) -> dict[str, str]:
        """Return what is wrong with each file that a generation builds on; nothing where all are sound."""
        wrong = {}
        for name, digest in checkpoint.files.items():
            if name == self._name(self.state_path(checkpoint.number)):
                continue
            try:
                check_file(self.run, name, digest)
            except FileNotFoundError:
                wrong[name] = f"{self.run / name} is missing."
            except DamagedData as error:
                wrong[name] = str(error)
        return wrong

    def _small(self, path: Path) -> bytes:
        """Return the content of a manifest.

        Raises:
            FileNotFoundError: if it is missing.
            DamagedData: if it cannot be one.
        """
        try:
            epochs = sum(1 for _ in (self.run / "history").glob("epoch-*"))
            return read_regular(path, self.run, _LARGEST + _AN_EPOCH * epochs)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise damaged(f"{path} must be readable.", error.strerror, _STEP) from None

    def _name(self, path: Path) -> str:
        return path.relative_to(self.run).as_posix()


def check_file(run: Path, name: str, digest: Digest | str) -> None:
    """Hold a file of a run against its checksum, and its size if that is known too.

    Raises:
        DamagedData: if it is missing, no regular file of this run, or not what was written.
        FileNotFoundError: if it is a state, which may have been removed for a newer one.
    """
    path = run / name
    size, digits = (None, digest) if isinstance(digest, str) else (digest.size, digest.sha256)
    try:
        with opened(path, run) as file:
            found = file.seek(0, 2)
            if size is not None and found != size:  # before the whole of it is read
                raise damaged(f"{path} is not as it was written.", f"{found:,} bytes for {size:,}", _STEP)
            file.seek(0)
            now = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        if name.startswith("state/"):
            raise
        raise damaged(f"{path} must be a file of this run.", "none", _STEP) from None
    except OSError as error:
        raise damaged(f"{path} must be readable.", error.strerror, _STEP) from None
    if now != digits:
        raise damaged(
            f"{path} is not as it was written.", f"another checksum, {now[:12]} for {digits[:12]}", _STEP
        )


def _manifest(checkpoint: Checkpoint) -> bytes:
    about = structs.asdict(checkpoint.about)
    others = about.pop("others")
    return manifest_of(checkpoint.number, about | others, checkpoint.files)


def manifest_of(number: int, about: dict[str, Any], digests: Mapping[str, Digest]) -> bytes:
    """Return the bytes of a manifest, with a checksum of itself."""
    files = {name: {"bytes": digest.size, "sha256": digest.sha256} for name, digest in digests.items()}
    content = {"format": FORMAT, "number": number, "about": about, "files": files}
    checksum = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return (json.dumps({**content, "checksum": checksum}, indent=1) + "\n").encode()


def _parsed(path: Path, data: bytes) -> Checkpoint:
    """Return what a manifest says, if it is byte for byte what its content is written as."""
    plain = parse_json(data, str(path), _STEP)
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        found = plain.get("format") if isinstance(plain, dict) else type(plain).__name__
        raise damaged(
            f"{path} must be of the format {FORMAT}.", f"{found!r:.60}", "A newer fallow may read it."
        )
    manifest = check_kind(Manifest, plain, str(path), _STEP)
    about = plain["about"]
    files = {name: Digest(one.bytes, one.sha256) for name, one in manifest.files.items()}
    if manifest_of(manifest.number, about, files) != data:
        raise damaged(f"{path} is not as it was written.", "another checksum", _STEP)
    others = {name: value for name, value in about.items() if name not in About.__struct_fields__}
    return Checkpoint(manifest.number, structs.replace(manifest.about, others=others), files)
