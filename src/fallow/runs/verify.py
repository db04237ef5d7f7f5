"""Whether every file of a run is as it was written."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from shlex import quote
from typing import Any

from ..errors import DamagedData
from ..files import plain_yaml
from ..files.disk import is_temporary
from .checkpoints import Checkpoints, check_file
from .data_file import DataFile
from .run import Run


@dataclass
class Verification:
    """What was found.

    Attributes:
        checked: how many files were held against a checksum.
        damaged: what is wrong with each file that is not sound.
        remarks: what is worth knowing and harms nothing.
        incomplete: all epochs are trained, and files that a run leaves behind are missing.
        complete: all epochs are trained, and nothing is missing.
    """

    checked: set[str] = field(default_factory=set)
    damaged: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    incomplete: bool = False
    complete: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        damaged = [{"file": name, "problem": words} for name, words in self.damaged.items()]
        return {
            "sound": not self.damaged,
            "complete": self.complete,
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
    for name, kind in directory.strange().items():
        found.damaged[name] = f"{directory.path / name} must be a regular file. Found {kind}."
    for number in directory.checkpoints.numbers():
        _generation(run, number, found)
    if directory.sums_path.exists():
        _sums(run, found)
    for epoch in run.epochs:
        _readable(directory.epoch_path(epoch), lambda epoch=epoch: run.epoch_as_written(epoch), run, found)
    for path in sorted(directory.path.glob("data*.safetensors")):
        _readable(path, lambda path=path: DataFile.read(path), run, found)
    _readable(directory.summary_path, lambda: run.summary, run, found)
    _readable(directory.thumbnails_path, lambda: run.shown, run, found)
    _readable(directory.gaps_path, lambda: run.gaps, run, found)
    _state(run, found)
    _numbering(run, found)
    _leftovers(directory.path, found)
    _config(run, found)
    _unchecked(run, found)
    found.complete = run.finished and not (found.incomplete or found.damaged)
    return found


def _generation(run: Run, number: int, found: Verification) -> None:
    checkpoints = run.directory.checkpoints
    names = [
        path.relative_to(run.directory.path).as_posix()
        for path in (checkpoints.state_path(number), checkpoints.manifest_path(number))
    ]
    found.checked.update(names)
    try:
        checkpoint = checkpoints.read(number)
    except FileNotFoundError:
        if checkpoints.manifest_path(number).exists() and not checkpoints.state_path(number).exists():
            found.damaged[names[0]] = f"{checkpoints.state_path(number)} is missing."
        elif number in checkpoints.numbers():
            found.remarks.append(
                f"State {number} was never finished, or its manifest is gone: it is not used."
            )
        return
    except DamagedData as error:
        found.damaged[_blamed(checkpoints, number, names)] = str(error)
        return
    found.checked.update(checkpoint.files)
    found.damaged |= checkpoints.unsound(checkpoint)


def _blamed(checkpoints: Checkpoints, number: int, names: list[str]) -> str:
    """Return which is damaged: the manifest, or else the state."""
    try:
        checkpoints.manifest(number)
    except (DamagedData, FileNotFoundError):
        return names[1]
    return names[0]


def _sums(run: Run, found: Verification) -> None:
    folder, path = run.directory.path, run.directory.sums_path
    try:
        listed = run.directory.sums()
    except DamagedData as error:
        found.damaged[path.name] = str(error)
        return
    for name, digits in listed.items():
        found.checked.add(name)
        known = {} if run.search.found is None else run.search.found.files
        if name in known and known[name].sha256 != digits and name not in found.damaged:
            said = f"{path} says {digits[:12]} of {name}, and the state {known[name].sha256[:12]}."
            found.damaged[path.name] = said
            continue
        try:
            check_file(folder, name, digits)
        except (DamagedData, FileNotFoundError) as error:
            found.damaged.setdefault(name, str(error))
    unlisted = sorted(set(run.directory.sealed()) - listed.keys())
    if lacking := [name for name in unlisted if run.directory.is_ours(name)]:
        found.damaged.setdefault(path.name, f"{path} must list every file. Found no {lacking[0]}.")
    if others := [name for name in unlisted if not run.directory.is_ours(name)]:
        found.remarks.append(f"Not of the run, and not checked: {', '.join(others)}.")


def _readable(path: Path, read: Any, run: Run, found: Verification) -> None:
    name = path.relative_to(run.directory.path).as_posix()
    sums = run.directory.sums_path
    try:
        read()
    except DamagedData as error:
        if sums.name not in found.damaged or not str(error).startswith(str(sums)):
            found.damaged.setdefault(name, str(error))


def _state(run: Run, found: Verification) -> None:
    """Note where no state is there to go on from, or none that all its epochs need."""
    directory, planned = run.directory, run.about.epochs
    told = any(name.startswith("state/") for name in found.damaged)
    if run.search.found is None:
        if not told:
            found.damaged["state"] = f"{directory.path / 'state'} must hold a state of the run. Found none."
    elif directory.sums_path.exists() and not run.finished and not told:
        found.damaged["state"] = (
            f"The state of the finished training must be there. Found that of {run.status}."
        )
    elif planned is not None and len(run.epochs) >= planned and not run.finished:
        found.incomplete = True
        step = f"fallow train --resume {quote(str(directory.path))} trains the others again."
        found.remarks.append(
            f"The last saved state is from after epoch {run.about.epoch} of {planned}: {step}"
        )


def _numbering(run: Run, found: Verification) -> None:
    """Note past epochs without a file, and files of epochs that the newest state does not know."""
    done = run.about.epoch
    lacking = sorted(set(range(done)) - set(run.epochs))
    if lacking:
        found.remarks.append(f"Epochs without a file, counted from 1: {_counted(lacking)}.")
    later = [epoch for epoch in run.epochs if epoch >= done]
    if later:
        what = "Epochs after the last state, which a resumed run trains again, counted from 1"
        found.remarks.append(f"{what}: {_counted(later)}.")


def _counted(epochs: list[int]) -> str:
    """Return epochs as people count them, from 1, in few words."""
    return ranges([epoch + 1 for epoch in epochs])


def ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers in few words.

    >>> ranges([1, 2, 3, 7, 9])
    '1-3, 7, 9'
    """
    parts = []
    for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return ", ".join(parts[:20]) + (", ..." if len(parts) > 20 else "")


def _unchecked(run: Run, found: Verification) -> None:
    """Note what has no checksum yet, and a run that trained to its end and is not put together."""
    directory = run.directory
    if directory.sums_path.exists():
        return
    without = [name for name in directory.sealed() if name not in found.checked]
    if without:
        found.remarks.append(f"Without a checksum until training has ended: {', '.join(without)}.")
    if run.finished:
        found.incomplete = True
        step = f"fallow train --resume {quote(str(directory.path))} writes what is missing."
        found.remarks.append(f"All epochs are trained, but the run is not complete: {step}")


def _config(run: Run, found: Verification) -> None:
    """Note options that cannot be read, and those that are not what was trained."""
    path = run.directory.config_path
    if not os.path.lexists(path):
        return
    try:
        options = plain_yaml.parse_yaml(run.directory.read(path, plain_yaml.LARGEST), str(path))
    except DamagedData as error:
        found.damaged.setdefault("config.yaml", str(error))
        return
    except OSError as error:
        found.damaged["config.yaml"] = f"{path} must be readable. Found {error.strerror}."
        return
    if run.options and options != run.options:
        found.remarks.append("config.yaml is not what was trained; a run goes on by its state.")


def _leftovers(folder: Path, found: Verification) -> None:
    half = (path for path in folder.rglob(".*.tmp") if is_temporary(path.name))
    left = sorted(path.relative_to(folder).as_posix() for path in half)
    if left:
        found.remarks.append(f"Half-written files of a killed process: {', '.join(left)}.")


def to_json(run: Run, found: Verification) -> str:
    """Return what was found as JSON."""
    return json.dumps({"run": str(run.directory.path), "status": run.status, **found.to_dict()}, indent=2)
