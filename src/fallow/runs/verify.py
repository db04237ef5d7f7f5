"""Check that every file of a run is unchanged."""

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
from .pushed import read_told
from .run_files import RunFiles


@dataclass
class Verification:
    """The result of a check.

    Attributes:
        checked: the files that were compared with a checksum.
        damaged: the problem of each damaged file.
        remarks: harmless observations.
        incomplete: whether all epochs are trained, but files of a finished run are missing.
        complete: whether all epochs are trained and nothing is missing.
    """

    checked: set[str] = field(default_factory=set)
    damaged: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    incomplete: bool = False
    complete: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values."""
        return {
            "sound": not self.damaged,
            "complete": self.complete,
            "checked": len(self.checked),
            "damaged": [{"file": name, "problem": problem} for name, problem in self.damaged.items()],
            "remarks": self.remarks,
        }


def verify(run: RunFiles) -> Verification:
    """Check all checksums of a run, and whether its files can be read.

    In an unfinished run only the files that its states need have checksums.
    """
    result = Verification()
    directory = run.directory
    for name, kind in directory.irregular().items():
        result.damaged[name] = f"{directory.path / name} must be a regular file. Found {kind}."
    for number in directory.checkpoints.numbers():
        _generation(run, number, result)
    if directory.sums_path.exists():
        _sums(run, result)
    for epoch in run.epochs:
        # As written: a damaged data file, which renumbering needs, is reported on its own.
        _readable(directory.epoch_path(epoch), lambda epoch=epoch: run.epoch_as_written(epoch), run, result)
    for path in sorted(directory.path.glob("data*.safetensors")):
        _readable(path, lambda path=path: DataFile.read(path), run, result)
    _readable(directory.summary_path, lambda: run.summary, run, result)
    _readable(directory.thumbnails_path, lambda: run.shown, run, result)
    _readable(directory.gaps_path, lambda: run.gaps, run, result)
    _state(run, result)
    _numbering(run, result)
    _leftovers(directory.path, result)
    _config(run, result)
    _unchecked(run, result)
    result.complete = run.finished and not (result.incomplete or result.damaged)
    return result


def _generation(run: RunFiles, number: int, result: Verification) -> None:
    checkpoints = run.directory.checkpoints
    names = [
        path.relative_to(run.directory.path).as_posix()
        for path in (checkpoints.state_path(number), checkpoints.manifest_path(number))
    ]
    result.checked.update(names)
    try:
        checkpoint = checkpoints.read(number)
    except FileNotFoundError:
        if checkpoints.manifest_path(number).exists() and not checkpoints.state_path(number).exists():
            result.damaged[names[0]] = f"{checkpoints.state_path(number)} is missing."
        # If it is gone altogether, a training has removed it since.
        elif number in checkpoints.numbers():
            result.remarks.append(
                f"State {number} was not finished, or its manifest is missing: it is not used."
            )
        return
    except DamagedData as error:
        result.damaged[_blamed(checkpoints, number, names)] = str(error)
        return
    result.checked.update(checkpoint.files)
    result.damaged |= checkpoints.unsound(checkpoint)


def _blamed(checkpoints: Checkpoints, number: int, names: list[str]) -> str:
    """Return the damaged file: the manifest, or else the state."""
    try:
        checkpoints.manifest(number)
    except (DamagedData, FileNotFoundError):
        return names[1]
    return names[0]


def _sums(run: RunFiles, result: Verification) -> None:
    folder, path = run.directory.path, run.directory.sums_path
    try:
        listed = run.directory.sums()
    except DamagedData as error:
        result.damaged[path.name] = str(error)
        return
    for name, digits in listed.items():
        result.checked.add(name)
        known = {} if run.search.found is None else run.search.found.files
        if name in known and known[name].sha256 != digits and name not in result.damaged:
            result.damaged[path.name] = (
                f"{path} must agree with the state. Found {digits[:12]} for {name}, and "
                f"{known[name].sha256[:12]} in the state."
            )
            continue
        try:
            check_file(folder, name, digits)
        except (DamagedData, FileNotFoundError) as error:
            result.damaged.setdefault(name, str(error))
    unlisted = sorted(set(run.directory.sealed()) - listed.keys())
    if missing := [name for name in unlisted if run.directory.is_own(name)]:
        result.damaged.setdefault(path.name, f"{path} must list every file. Found no {missing[0]}.")
    if others := [name for name in unlisted if not run.directory.is_own(name)]:
        result.remarks.append(f"Not of the run, and not checked: {', '.join(others)}.")


def _readable(path: Path, read: Any, run: RunFiles, result: Verification) -> None:
    name = path.relative_to(run.directory.path).as_posix()
    sums = run.directory.sums_path
    try:
        read()
    except DamagedData as error:
        # Each read loads SHA256SUMS first; if that is damaged, it is reported once.
        if sums.name not in result.damaged or not str(error).startswith(str(sums)):
            result.damaged.setdefault(name, str(error))


def _state(run: RunFiles, result: Verification) -> None:
    """Report a missing state, and one that is older than the epochs."""
    directory, planned = run.directory, run.about.epochs
    reported = any(name.startswith("state/") for name in result.damaged)
    if run.search.found is None:
        if not reported:
            result.damaged["state"] = f"{directory.path / 'state'} must hold a state of the run. Found none."
    elif directory.sums_path.exists() and not run.finished and not reported:
        result.damaged["state"] = f"A finished run must have its last state. Found that of {run.status}."
    elif planned is not None and len(run.epochs) >= planned and not run.finished:
        result.incomplete = True
        step = f"fallow train --resume {quote(str(directory.path))} trains the later ones again."
        result.remarks.append(
            f"The last saved state is from after epoch {run.about.epoch} of {planned}: {step}"
        )


def _numbering(run: RunFiles, result: Verification) -> None:
    """Report past epochs without a file, and files of epochs after the newest state."""
    done = run.about.epoch
    missing = sorted(epoch + 1 for epoch in set(range(done)) - set(run.epochs))
    if missing:
        result.remarks.append(f"Epochs without a file, counted from 1: {ranges(missing)}.")
    later = [epoch + 1 for epoch in run.epochs if epoch >= done]
    if later:
        text = "Epochs after the last state, which a resumed run trains again, counted from 1"
        result.remarks.append(f"{text}: {ranges(later)}.")


def ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as ranges, at most 20.

    >>> ranges([1, 2, 3, 7, 9])
    '1-3, 7, 9'
    """
    parts = []
    for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return ", ".join(parts[:20]) + (", ..." if len(parts) > 20 else "")


def _unchecked(run: RunFiles, result: Verification) -> None:
    """Report files without a checksum, and a trained run without its final files."""
    directory = run.directory
    if directory.sums_path.exists():
        return
    without = [name for name in directory.sealed() if name not in result.checked]
    if without:
        result.remarks.append(f"Without a checksum until training has ended: {', '.join(without)}.")
    if run.finished:
        result.incomplete = True
        step = f"fallow train --resume {quote(str(directory.path))} writes the missing files."
        if read_told(directory.path) is not None:
            step = "fallow push, where it was trained, sends the missing files."
        result.remarks.append(f"All epochs are trained, but the run is not complete: {step}")


def _config(run: RunFiles, result: Verification) -> None:
    """Report a ``config.yaml`` that cannot be read or that differs from the state."""
    path = run.directory.config_path
    if not os.path.lexists(path):
        return
    try:
        options = plain_yaml.parse_yaml(run.directory.read(path, plain_yaml.LARGEST), str(path))
    except DamagedData as error:
        result.damaged.setdefault("config.yaml", str(error))
        return
    except OSError as error:
        result.damaged["config.yaml"] = f"{path} must be readable. Found {error.strerror}."
        return
    if run.options and options != run.options:
        result.remarks.append("config.yaml differs from the trained options; a resumed run uses its state.")


def _leftovers(folder: Path, result: Verification) -> None:
    paths = (path for path in folder.rglob(".*.tmp") if is_temporary(path.name))
    names = sorted(path.relative_to(folder).as_posix() for path in paths)
    if names:
        result.remarks.append(f"Half-written files of a killed process: {', '.join(names)}.")


def to_json(run: RunFiles, result: Verification) -> str:
    """Return the result as JSON."""
    return json.dumps({"run": str(run.directory.path), "status": run.status, **result.to_dict()}, indent=2)
