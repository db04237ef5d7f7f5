"""Generations of a run's state: a new one is whole before an old one goes, and damage is found before use.

A generation is a state file and a manifest, written last, which holds size and SHA-256 of the state and of
every file that it builds on, and a checksum of itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ._checks import DamagedData, damaged
from .storage import DISK, Digest, Disk

FORMAT = "fallow-generation-1"
KEPT = 2
"""How many sound generations are kept, and one more: the newest from between two epochs."""
_LARGEST = 1 << 26


@dataclass(frozen=True)
class Generation:
    """One generation, as its manifest describes it.

    Attributes:
        number: counts up from 0.
        about: how far the training was: plain values.
        files: the checksum of each file it needs, by path within the run.
    """

    number: int
    about: dict[str, Any]
    files: dict[str, Digest]


@dataclass(frozen=True)
class Search:
    """What a look for a sound generation found.

    Attributes:
        found: the newest sound one, or None.
        damage: what is wrong with each newer one, in words that name the file.
    """

    found: Generation | None
    damage: list[str] = field(default_factory=list)


class Generations:
    """The generations in the folder ``state`` of a run.

    Args:
        run: the run's folder.
        disk: what they are written with.
    """

    def __init__(self, run: Path, disk: Disk = DISK) -> None:
        self.run, self.disk = run, disk
        self.folder = run / "state"
        self._sound: list[Generation] = []

    def state_path(self, number: int) -> Path:
        """Return ``state/000012.safetensors``."""
        return self.folder / f"{number:06d}.safetensors"

    def manifest_path(self, number: int) -> Path:
        """Return ``state/000012.json``."""
        return self.folder / f"{number:06d}.json"

    def numbers(self) -> list[int]:
        """Return which generations there is anything of, ascending."""
        names = {path.stem for path in self.folder.glob("*.*") if path.suffix in (".json", ".safetensors")}
        return sorted(int(name) for name in names if name.isdecimal())

    def next_number(self) -> int:
        """Return the number of the next generation; none is given twice."""
        return max(self.numbers(), default=-1) + 1

    def write(self, state: bytes, about: dict[str, Any], needs: Mapping[str, Digest]) -> Generation:
        """Write the next generation, and then remove the old ones.

        Args:
            state: what :func:`fallow.state_file.dump` returned.
            about: how far the training is; ``recorded`` is 0 between two epochs.
            needs: files of the run that the state builds on.

        Raises:
            OSError: where the disk refuses; the generations that there were are untouched.
        """
        number = self.next_number()
        path = self.state_path(number)
        self.disk.make_folder(self.folder)
        files = {self._name(path): self.disk.put(path, state), **needs}
        made = Generation(number, about, files)
        self.disk.put(self.manifest_path(number), _manifest(made))
        self._remember(made)
        self._remove_old()
        return made

    def _remember(self, generation: Generation) -> None:
        sound = [*self._sound, generation]
        between = [one for one in sound if not one.about.get("recorded")][-1:]
        self._sound = [*(one for one in between if one not in sound[-KEPT:]), *sound[-KEPT:]]

    def _remove_old(self) -> None:
        """Remove what is not among the sound generations: older, damaged, or half written."""
        kept = {generation.number for generation in self._sound}
        old = [number for number in self.numbers() if number not in kept]
        with suppress(OSError):  # the new one is safe; what is left over goes with the next
            for number in old:
                self.disk.remove(self.manifest_path(number))
            if old:
                self.disk.sync_folder(self.folder)
        for number in old:
            with suppress(OSError):
                self.disk.remove(self.state_path(number))

    def trust(self, generation: Generation) -> None:
        """Take note of a generation that is gone on from, and of the one from between two epochs before it.

        They stay until there are newer ones.
        """
        for number in reversed(self.numbers()):
            if number < generation.number:
                with suppress(DamagedData, FileNotFoundError):
                    older = self.read(number)
                    if not older.about.get("recorded"):
                        self._remember(older)
                        break
        self._remember(generation)

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
        for number in reversed(numbers):
            try:
                found = self.read(number)
                if not (between and found.about.get("recorded")):
                    return Search(found, damage)
            except FileNotFoundError:
                path = self.manifest_path(number)
                damage.append(f"{path} or its state is missing: it was never finished.")
            except DamagedData as error:
                damage.append(str(error))
        return Search(None, damage)

    def read(self, number: int) -> Generation:
        """Return a generation whose state was held against its checksum.

        Raises:
            DamagedData: naming the file that is not as it was written.
            FileNotFoundError: where its manifest or its state is not there: never finished, or removed.
        """
        generation = self.manifest(number)
        name = self._name(self.state_path(number))
        check_file(self.run, name, generation.files[name])
        return generation

    def manifest(self, number: int) -> Generation:
        """Return a generation as its manifest describes it, which is sound; its state was not looked at.

        Raises:
            DamagedData: where the manifest is not as it was written.
            FileNotFoundError: where there is none.
        """
        path = self.manifest_path(number)
        generation = _parsed(path, _small(path))
        if generation.number != number:
            raise damaged(f"{path} must belong to generation {number}.", generation.number)
        if self._name(self.state_path(number)) not in generation.files:
            raise damaged(f"{path} must name its state.", ", ".join(generation.files) or "nothing")
        return generation

    def unsound(self, generation: Generation) -> dict[str, str]:
        """Return what is wrong with each file that a generation builds on; nothing where all are sound."""
        wrong = {}
        for name, digest in generation.files.items():
            if name == self._name(self.state_path(generation.number)):
                continue
            try:
                check_file(self.run, name, digest)
            except FileNotFoundError:
                wrong[name] = f"{self.run / name} is missing."
            except DamagedData as error:
                wrong[name] = str(error)
        return wrong

    def _name(self, path: Path) -> str:
        return path.relative_to(self.run).as_posix()


def check_file(run: Path, name: str, digest: Digest) -> None:
    """Hold a file of a run against its checksum.

    Raises:
        DamagedData: where it is gone, or is not what was written.
        FileNotFoundError: where it is a state, which may have been removed for a newer one.
    """
    path = run / name
    if not path.exists() and name.startswith("state/"):
        raise FileNotFoundError(path)
    if path.is_symlink() or not path.is_file():
        raise damaged(f"{path} must be a file of this run.", "none")
    try:
        found = Digest.of_file(path)
    except OSError as error:
        raise damaged(f"{path} must be readable.", error.strerror) from None
    if found == digest:
        return
    what = f"another checksum, {found.sha256[:12]} for {digest.sha256[:12]}"
    if found.size != digest.size:
        what = f"{found.size:,} bytes for {digest.size:,}"
    raise damaged(f"{path} is not as it was written.", what)


def _small(path: Path) -> bytes:
    """Return the content of a manifest.

    Raises:
        FileNotFoundError: where it is not there.
        DamagedData: where it cannot be one.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _LARGEST:
        raise damaged(f"{path} must be a manifest.", "no plain file of its size")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise damaged(f"{path} must be readable.", error.strerror) from None


def _manifest(generation: Generation) -> bytes:
    files = {
        name: {"bytes": digest.size, "sha256": digest.sha256} for name, digest in generation.files.items()
    }
    content = {"format": FORMAT, "number": generation.number, "about": generation.about, "files": files}
    checksum = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return (json.dumps({**content, "checksum": checksum}, indent=1) + "\n").encode()


def _parsed(path: Path, data: bytes) -> Generation:
    """Return what a manifest says, where it is byte for byte what its content is written as."""
    step = "Put back a copy of it, or go on from an older state."
    try:
        content = json.loads(data)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            found = content.get("format") if isinstance(content, dict) else type(content).__name__
            raise damaged(f"{path} must be of the format {FORMAT}.", found, "A newer fallow may read it.")
        files = {name: Digest.restore(digest) for name, digest in content["files"].items()}
        found = Generation(int(content["number"]), dict(content["about"]), files)
        if _manifest(found) != data:
            raise damaged(f"{path} is not as it was written.", "another checksum", step)
    except DamagedData:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise damaged(f"{path} must be a manifest.", error, step) from None
    return found
