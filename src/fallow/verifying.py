"""Whether every file of a run is as it was written."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ._checks import DamagedData
from .generations import check_file
from .reading import Run
from .storage import Digest

_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


@dataclass
class Verification:
    """What was found.

    Attributes:
        checked: how many files were held against a checksum.
        damaged: what is wrong with each file that is not sound.
        remarks: what is worth knowing and harms nothing.
    """

    checked: set[str] = field(default_factory=set)
    damaged: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        damaged = [{"file": name, "problem": words} for name, words in self.damaged.items()]
        return {
            "sound": not self.damaged,
            "checked": len(self.checked),
            "damaged": damaged,
            "remarks": self.remarks,
        }


def verify(run: Run) -> Verification:
    """Check every checksum of a run, and whether its files can be read.

    Of a run that has not ended, the files are covered that its states build on.
    """
    found = Verification()
    directory = run.directory
    for number in directory.generations.numbers():
        _generation(run, number, found)
    if directory.sums_path.exists():
        _sums(run, found)
    for epoch in run.epochs:
        _readable(directory.epoch_path(epoch), lambda epoch=epoch: run.epoch(epoch), run, found)
    for path in sorted(directory.path.glob("data*.safetensors")):
        _readable(path, lambda: run.data, run, found)
    _numbering(run, found)
    _leftovers(directory.path, found)
    return found


def _generation(run: Run, number: int, found: Verification) -> None:
    generations = run.directory.generations
    names = [
        path.relative_to(run.directory.path).as_posix()
        for path in (generations.state_path(number), generations.manifest_path(number))
    ]
    found.checked.update(names)
    try:
        generation = generations.read(number)
    except FileNotFoundError:
        if number in generations.numbers() and number != generations.numbers()[-1]:
            found.remarks.append(f"State {number} was never finished; newer ones are there.")
        elif number in generations.numbers():
            found.remarks.append(f"State {number} was never finished; the one before it is used.")
        return
    except DamagedData as error:
        found.damaged[names[0] if "is not as it was written" in str(error) else names[1]] = str(error)
        return
    found.checked.update(generation.files)
    found.damaged |= generations.unsound(generation)


def _sums(run: Run, found: Verification) -> None:
    folder, path = run.directory.path, run.directory.sums_path
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        found.damaged[path.name] = f"{path} must be readable. Found {error}."
        return
    listed = set()
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            found.damaged[path.name] = f"{path} must hold a checksum and a name a line. Found {line!r:.60}."
            continue
        digits, name = match.groups()
        listed.add(name)
        found.checked.add(name)
        try:
            size = (folder / name).stat().st_size if (folder / name).is_file() else 0
            check_file(folder, name, Digest(size, digits))
        except (DamagedData, FileNotFoundError) as error:
            found.damaged.setdefault(name, str(error))
    lacking = sorted(set(run.directory.sealed()) - listed)
    if lacking:
        found.damaged.setdefault(path.name, f"{path} must list every file. Found no {lacking[0]}.")


def _readable(path: Path, read: Any, run: Run, found: Verification) -> None:
    name = path.relative_to(run.directory.path).as_posix()
    try:
        read()
    except DamagedData as error:
        found.damaged.setdefault(name, str(error))


def _numbering(run: Run, found: Verification) -> None:
    """Note past epochs without a file, and files of epochs that the newest state does not know."""
    done = int(run.about.get("epoch", 0)) if run.about else 0
    lacking = sorted(set(range(done)) - set(run.epochs))
    if lacking:
        found.remarks.append(f"Epochs without a file: {', '.join(map(str, lacking))}.")
    later = [epoch for epoch in run.epochs if epoch >= done]
    if later:
        words = ", ".join(map(str, later))
        found.remarks.append(f"Epochs after the last state, which a resumed run trains again: {words}.")


def _leftovers(folder: Path, found: Verification) -> None:
    left = sorted(path.relative_to(folder).as_posix() for path in folder.rglob(".*.tmp"))
    if left:
        found.remarks.append(f"Half-written files of a killed process: {', '.join(left)}.")


def told_json(run: Run, found: Verification) -> str:
    """Return what was found as JSON."""
    return json.dumps({"run": str(run.directory.path), "status": run.status, **found.told()}, indent=2)
