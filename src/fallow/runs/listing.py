"""Find the runs in a folder and read what they reached from their small files: quick for thousands of runs.

Past epochs and states are known by their sizes alone, so a run that is listed may still be damaged: ``fallow
verify`` reads every file.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from ..errors import FallowError, damaged, invalid, sentence
from ..files.checked_json import decode
from ..files.lock import is_held
from .checkpoints import glance
from .directory import RunDirectory
from .heartbeat import DAMAGED, DIVERGED, FINISHED, RUNNING, STOPPED, doing
from .pushed import is_fixed, read_told
from .schema import Manifest, Summary

DEEPEST = 6
"""Folders are looked into down to this many levels below the one that is named."""
_MANIFEST = re.compile(r"[0-9]{6,9}\.json")
_EPOCH = re.compile(r"epoch-[0-9]{5}\.safetensors")
_GLANCED = 200
"""Entries of a folder that a link leads to that are looked at."""
_LARGEST = 1 << 26
"""Maximum size of a summary in bytes."""
_STEP = "Put back a copy of it."


class RunInBrief(Struct, frozen=True, kw_only=True):
    """A run in a few words. What is unknown is None: a run has a summary once it ended or was stopped.

    Attributes:
        name: its path within the folder that was listed.
        state: one of ``running``, ``stalled``, ``crashed``, ``stopped``, ``finished``, ``diverged`` and
            ``damaged``; see :mod:`fallow.runs.heartbeat`.
        data, policy, task: the options.
        epochs_done, epochs: finished and planned epochs.
        saved_fraction: the share of full training's samples that was saved, of the epochs done.
        accuracy: after them, in [0, 1].
        test_loss: after them.
        bits_per_character: after them, of a language model.
        changed: when the run was last written to, in ISO 8601 with the offset from UTC.
        damage: what is wrong with a damaged run, in a sentence.
    """

    name: str
    state: str
    data: str | None = None
    policy: str | None = None
    task: str | None = None
    epochs_done: int | None = None
    epochs: int | None = None
    saved_fraction: float | None = None
    accuracy: float | None = None
    test_loss: float | None = None
    bits_per_character: float | None = None
    changed: str | None = None
    damage: str | None = None


class ListedRun(RunInBrief, frozen=True, kw_only=True):
    """A run in a list.

    Attributes:
        path: the folder of the run.
    """

    path: str

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as plain values."""
        return structs.asdict(self)


def list_runs(folder: str | os.PathLike[str]) -> list[ListedRun]:
    """Return the runs in a folder at any depth down to six levels, the newest first.

    A folder inside a run is not looked into, nor one whose name begins with a dot, nor a link. A damaged run
    is listed as such.

    Args:
        folder: of runs, of a comparison, of both; or a run.

    Raises:
        InvalidValue: if there is no such folder.
    """
    return listing(Path(folder))[0]


def listing(top: Path) -> tuple[list[ListedRun], list[str]]:
    """Return what :func:`list_runs` does, and the names of links to runs, which it leaves out.

    Raises:
        InvalidValue: if there is no such folder.
    """
    if not top.is_dir():
        found_there = f"a file, {top}" if top.exists() else top
        raise invalid(
            "The folder of runs must exist.", found_there, "Name another, or start a run: fallow train."
        )
    links: list[Path] = []
    every = [listed(top, path) for path in found(top, links)]
    # Of equal times the names decide, so that the order is always the same.
    every.sort(key=lambda each: (-each[0], each[1].path))
    return [run for _, run in every], [link.relative_to(top).as_posix() for link in sorted(links)]


def found(top: Path, links: list[Path] | None = None) -> Iterator[Path]:
    """Yield the folders of the runs in a folder, as :func:`list_runs` finds them.

    Args:
        top: the folder.
        links: takes the links to runs, and to folders of runs, which are not followed.
    """
    level = [top]
    for depth in range(DEEPEST + 1):
        below: list[Path] = []
        for folder in level:
            files, folders, linked = _entries(folder)
            if _is_run(folder, files, folders):
                yield folder
            elif depth < DEEPEST:
                below += [folder / name for name in folders if not name.startswith(".")]
                if links is not None:
                    links += [folder / name for name in linked if _leads_to_runs(folder / name)]
        level = below


def _leads_to_runs(path: Path) -> bool:
    """Return whether a path is a link to a run, or to a folder of runs, as far as a glance shows."""
    if path.name.startswith("."):
        return False
    try:
        with os.scandir(path) as entries:
            inside = [Path(entry.path) for entry in islice(entries, _GLANCED) if entry.is_dir()]
    except OSError:
        return False
    parts = ("history", "state")
    return any(each.name in parts or any((each / part).is_dir() for part in parts) for each in inside)


def _entries(folder: Path) -> tuple[set[str], list[str], list[str]]:
    """Return the names of files, of folders, and of files that are links; nothing if it cannot be read."""
    files: set[str] = set()
    folders: list[str] = []
    links: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                else:
                    files.add(entry.name)
                    if entry.is_symlink():
                        links.append(entry.name)
    except OSError:
        pass
    return files, sorted(folders), links


def _is_run(folder: Path, files: set[str], folders: list[str]) -> bool:
    """Return whether a folder is a run, also one that has just begun or has lost files."""
    if "history" not in folders and "state" not in folders:
        return False
    if files & {"config.yaml", "data.safetensors", "lock"}:
        return True
    return any(
        name in folders and any(map(form.fullmatch, _entries(folder / name)[0]))
        for name, form in (("state", _MANIFEST), ("history", _EPOCH))
    )


def listed(top: Path, path: Path) -> tuple[float, ListedRun]:
    """Return when a run was last written to, in seconds since the epoch, and the run.

    Args:
        top: the folder that its name is relative to.
        path: the folder of the run.
    """
    manifests = sorted(name for name in _entries(path / "state")[0] if _MANIFEST.fullmatch(name))
    newest = [path / "state" / name for name in manifests[-1:]]
    times = list(filter(None, map(_time_of, [*newest, path / "summary.json"]))) or [_time_of(path)]
    name = path.relative_to(top).as_posix()
    about: dict[str, Any] = {
        "name": path.name if name == "." else name,
        "path": str(path),
        "changed": datetime.fromtimestamp(max(times)).astimezone().isoformat(timespec="seconds"),
    }
    try:
        facts = _facts(RunDirectory(path))
        state = doing(path, facts.pop("state"), time.time())
        return max(times), ListedRun(**about, **facts, state=state)
    except (FallowError, OSError) as error:
        return max(times), ListedRun(**about, state=DAMAGED, damage=str(error))


def _time_of(path: Path) -> float:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return 0.0


def _facts(run: RunDirectory) -> dict[str, Any]:
    """Return what the manifest and the summary of a run say."""
    told = read_told(run.path)
    trains = is_held(run.path) if told is None else told.is_training(time.time())
    newest = _newest(run)
    if newest is None:
        if run.epochs():
            raise damaged(f"{run.path} must hold a state.", "none", "Put back a copy of the folder.")
        return {"state": RUNNING if trains else STOPPED}
    about, damage = newest.about, _damage(run, newest)
    facts: dict[str, Any] = {"damage": damage, "epochs_done": about.epoch, "epochs": about.epochs}
    for name in ("data", "policy", "task"):
        value = about.options.get(name)
        facts[name] = value if isinstance(value, str) else None
    summary = _summary(run, trains=trains)
    diverged = False
    # A run that was resumed has a summary of before.
    if summary is not None and len(summary.epochs) == about.epoch:
        diverged = summary.diverged
        for name in ("saved_fraction", "accuracy", "test_loss", "bits_per_character"):
            facts[name] = getattr(summary, name)
        # The options of a training loop of your own do not hold it.
        facts["policy"] = facts["policy"] or summary.used.policy.name
    if damage is not None:
        return facts | {"state": DAMAGED}
    state = FINISHED if about.epoch == about.epochs else STOPPED
    return facts | {"state": RUNNING if trains else DIVERGED if diverged else state}


def _newest(run: RunDirectory) -> Manifest | None:
    """Return the newest manifest; None if there is none yet.

    Raises:
        DamagedData: if the manifest has changed, or the state is missing or has another size.
    """
    folder, before = run.checkpoints.folder, None
    while True:
        names = sorted(name for name in _entries(folder)[0] if _MANIFEST.fullmatch(name))
        if not names:
            return None
        path = folder / names[-1]
        state = path.with_suffix(".safetensors")
        try:
            manifest = glance(path, run.read(path, _LARGEST))
            size = os.lstat(state).st_size
        except FileNotFoundError:
            # A training process may have replaced it since: then there is a newer one.
            if names[-1] == before:
                raise damaged(f"{state} must exist.", "no such file", _STEP) from None
            before = names[-1]
            continue
        expected = manifest.files.get(f"{folder.name}/{state.name}")
        if expected is None or size != expected.bytes:
            found = f"{size:,} bytes" + (f" for {expected.bytes:,}" if expected else "")
            raise damaged(f"{state} must be unchanged.", found, _STEP)
        return manifest


def _damage(run: RunDirectory, manifest: Manifest) -> str | None:
    """Return what is wrong with a past epoch or the samples' description, as far as sizes show; or None."""
    for name, digest in manifest.files.items():
        if is_fixed(name):
            path = run.path / name
            try:
                size = os.lstat(path).st_size
            except FileNotFoundError:
                return sentence(f"{path} must exist.", "no such file", _STEP)
            if size != digest.bytes:
                return sentence(f"{path} must be unchanged.", f"{size:,} bytes for {digest.bytes:,}", _STEP)
    return None


def _summary(run: RunDirectory, *, trains: bool) -> Summary | None:
    """Return the summary of a run, after comparing it with its checksum if there is one; or None."""
    path = run.summary_path
    try:
        data = run.read(path, _LARGEST)
    except FileNotFoundError:
        return None
    expected = run.sums().get(path.name)
    # While it trains, the list may be of before or after the summary.
    if expected is not None and not trains and hashlib.sha256(data).hexdigest() != expected:
        raise damaged(f"{path} must be unchanged.", "another checksum", _STEP)
    return decode(Summary, data, str(path), _STEP)
