"""The folder of a run's prompts: their keys, the state, and the groups in files that are only added to."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..arrays.key_store import Digests, KeyStore
from ..errors import NotWritten, damaged, invalid, wrong_state
from ..files import state_file
from ..files.checked_json import Count, check_kind
from ..files.disk import TEMPORARY, Digest, Disk
from ..files.regular_file import read_regular
from . import state
from .log import COLUMNS, GroupLog
from .table import PromptTable

KEYS, STATE = "prompts.safetensors", "state.safetensors"
FORMAT = "fallow-groups-1"
_GROUPS = re.compile(r"groups-[0-9]{10}-[0-9]{10}\.safetensors")
_STEP = "Put back a copy of the folder, or begin a new one."


class Part(msgspec.Struct, frozen=True):
    """A file of groups: those from ``first`` up to ``stop``, and its checksum."""

    first: Count
    stop: Count
    sha256: str

    @property
    def name(self) -> str:
        """The name of the file."""
        return f"groups-{self.first:010d}-{self.stop:010d}.safetensors"


def save(table: PromptTable, path: str | os.PathLike[str], disk: Disk | None = None) -> None:
    """Write what is new; see :meth:`fallow.Prompts.save`."""
    folder, disk = Path(path), disk or Disk()
    whose = name_of(folder)
    if whose not in (None, table.name):
        step = "Name another folder, or go on with its run by Prompts.load()."
        raise wrong_state(f"{folder} holds the prompts of another run.", step)
    try:
        disk.make_folder(folder)
        if whose is None:
            disk.put(folder / KEYS, state_file.dump(_keys(table)))
        parts = _agreeing(table, folder)
        saved = parts[-1].stop if parts else 0
        if saved < len(table.log):
            data = state_file.dump(_groups(table, saved))
            parts.append(Part(saved, len(table.log), Digest.of(data).sha256))
            disk.put(folder / parts[-1].name, data)
        # From here on the new files count.
        plain = {"parts": [msgspec.to_builtins(part) for part in parts]}
        disk.put(folder / STATE, state_file.dump(state.of(table, log=False) | plain))
        table.saved = {str(folder): len(parts)}
        for file in _files_of_groups(folder) - {part.name for part in parts}:
            disk.remove(folder / file)
    except OSError as error:
        step = "Make room, or name another folder; what was saved before is whole."
        raise NotWritten(f"{folder} cannot be written: {error.strerror or error}. {step}") from None


def _agreeing(table: PromptTable, folder: Path) -> list[Part]:
    """Return the files whose groups the table has, too; after a return to an older state some differ."""
    if not (folder / STATE).exists():
        return []
    tree = _read(folder / STATE, state.FORMAT)
    parts = _parts(tree, folder)
    trusted = table.saved.get(str(folder), 0)
    for place, part in enumerate(parts):
        if place < trusted:
            continue
        own = table.log.part(part.first, part.stop)
        found = _columns(folder, part, str(tree.get("name")), table.keys)
        if any(not np.array_equal(own[name], found[name]) for name in COLUMNS):
            return parts[:place]
    return parts


def name_of(folder: Path) -> str | None:
    """Return the name of the run whose prompts a folder holds, None if it is new or empty.

    Raises:
        InvalidValue: if it holds other files.
        DamagedData: if its file of keys is damaged.
    """
    if (folder / KEYS).exists():
        return str(_read_keys(folder)["name"])
    if folder.exists() and not folder.is_dir():
        raise invalid("Prompts are saved in a folder.", f"the file {folder}", "Name a new folder.")
    found: list[str] = []
    with suppress(FileNotFoundError):
        found = [each.name for each in folder.iterdir() if not each.name.endswith(TEMPORARY)]
    if found:
        rule = f"{folder} must be new, empty, or hold saved prompts."
        raise invalid(rule, min(found), "Name another folder.")
    return None


def load(path: str | os.PathLike[str]) -> PromptTable:
    """Return the table in a folder; see :meth:`fallow.Prompts.load`."""
    folder = Path(path)
    found, keys = _read_keys(folder), KeyStore()
    keys.add(_digests(found.get("keys"), f"{folder / KEYS}"))
    domains = found.get("domains")
    if domains is not None and (getattr(domains, "dtype", None), np.shape(domains)) != (
        np.int32,
        (len(keys),),
    ):
        raise damaged(f"{folder / KEYS} must hold `domains`, int32 ({len(keys)},).", "another", _STEP)
    tree, log = _read(folder / STATE, state.FORMAT), GroupLog()
    for part in _parts(tree, folder):
        log.add(**_columns(folder, part, found["name"], keys))
    return state.put_back(PromptTable.new(keys, domains, found["settings"]), tree, log)


def merge(table: PromptTable, path: str | os.PathLike[str], weight: float) -> int:
    """Add the groups of another run; see :meth:`fallow.Prompts.merge`."""
    folder = Path(path)
    name = str(_read_keys(folder)["name"])
    if name == table.name:
        step = "Its groups are known: Prompts.load() goes on with it."
        raise invalid("`merge` needs the folder of another run.", f"{folder}, which is this run's own", step)
    parts, before = _parts(_read(folder / STATE, state.FORMAT), folder), table.merged.get(name, 0)
    right, wrong = np.zeros(len(table)), np.zeros(len(table))
    for part in parts:
        if part.stop <= before:
            continue
        columns = _columns(folder, part, name, table.keys)
        new = (np.arange(part.first, part.stop) >= before) & (columns["row"] >= 0)
        rows, successes = columns["row"][new], columns["right"][new].astype(np.float64)
        right += np.bincount(rows, successes, len(table))
        wrong += np.bincount(rows, columns["attempts"][new] - successes, len(table))
    table.right += (weight * right).astype(np.float32)
    table.wrong += (weight * wrong).astype(np.float32)
    table.merged[name] = max([before, *(part.stop for part in parts)])
    return int(np.count_nonzero(right + wrong))


def _keys(table: PromptTable) -> dict[str, Any]:
    tree = {
        "format": state.FORMAT,
        "name": table.name,
        "settings": dict(table.settings),
        "keys": table.keys.digests(),
    }
    return tree if table.domains is None else tree | {"domains": table.domains}


def _groups(table: PromptTable, first: int) -> dict[str, Any]:
    part = table.log.part(first)
    keys = table.keys.digests()[part.pop("row")]
    return {"format": FORMAT, "name": table.name, "keys": keys, **part}


def _parts(tree: dict[str, Any], folder: Path) -> list[Part]:
    """Return the files of groups that a state names, in their order."""
    parts = check_kind(list[Part], tree.get("parts"), f"{folder / STATE}", _STEP)
    stops = [0, *(part.stop for part in parts)]
    if [part.first for part in parts] != stops[:-1] or stops[-1] != tree.get("groups"):
        raise damaged(f"{folder / STATE} must name files of all groups.", "a gap", _STEP)
    return parts


def _columns(folder: Path, part: Part, name: str, keys: KeyStore) -> dict[str, NDArray[Any]]:
    """Return the columns of a file of groups. Rows are places in ``keys``, int64, -1 for unknown prompts."""
    path = folder / part.name
    tree = _read(path, FORMAT, part.sha256)
    if tree.get("name") != name:
        raise damaged(f"{path} must be of the run {name}.", "another run", _STEP)
    found = _digests(tree.get("keys"), str(path))
    count = part.stop - part.first
    columns = {column: tree.get(column) for column in COLUMNS if column != "row"}
    checked = GroupLog.checked(columns | {"row": np.zeros(len(found), np.uint32)}, 1, str(path), _STEP)
    if len(found) != count:
        raise damaged(f"{path} must hold {count:,} groups.", f"{len(found):,}", _STEP)
    return {**checked, "row": keys.find(found)}


def _files_of_groups(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir() if _GROUPS.fullmatch(each.name)}


def _read_keys(folder: Path) -> dict[str, Any]:
    tree = _read(folder / KEYS, state.FORMAT)
    state.check_settings(tree.get("settings"), f"{folder / KEYS}")
    check_kind(state.Name, tree.get("name"), f"{folder / KEYS}", _STEP)
    return tree


def _read(path: Path, format: str, sha256: str | None = None) -> dict[str, Any]:
    """Return the tree in a file of the folder."""
    try:
        data = read_regular(path, path.parent)
    except FileNotFoundError:
        step = "Name a folder that Prompts.save() wrote."
        raise damaged(f"{path} must exist.", "no such file", step) from None
    except OSError as error:
        raise damaged(f"{path} must be readable.", error.strerror, _STEP) from None
    if sha256 is not None and Digest.of(data).sha256 != sha256:
        raise damaged(f"{path} must have the checksum {sha256[:12]}.", Digest.of(data).sha256[:12], _STEP)
    tree = state_file.parse(data, str(path))
    if not isinstance(tree, dict) or tree.get("format") != format:
        raise damaged(f"{path} must be of format {format}.", "another", _STEP)
    return tree


def _digests(keys: Any, name: str) -> Digests:
    if not isinstance(keys, np.ndarray) or keys.dtype != np.uint64 or keys.ndim != 2 or keys.shape[1] != 2:
        raise damaged(f"{name} must hold `keys`, uint64 (K, 2).", "another", _STEP)
    found: NDArray[np.uint64] = keys
    return found
