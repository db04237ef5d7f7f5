"""The folder of a comparison: its settings, what it found out, and its lock."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from msgspec import structs, to_builtins

from ..errors import invalid, wrong_state
from ..files.lock import open_lock
from ..files.regular_file import check_folder
from ..runs.directory import RunDirectory
from ..runs.schema import Found
from .files import FORMAT, read_settings

RUNS = "runs"
"""The folder of the runs that are compared."""
_LOCK = ".lock"


class Folder:
    """The folder of a comparison: its settings, what it found out, and its lock.

    Args:
        path: the folder.
        settings: the options that all runs share, and the choices that are made before them; they must be
            equal to resume a comparison.

    Attributes:
        path, settings: as given.
        found: what the comparison found out, in this process or before.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.settings = path, settings
        self.found = Found()
        self._opened = False

    def check(self) -> None:
        """Read what was found out before.

        Raises:
            InvalidValue: if the folder holds something else; or another comparison, naming each setting that
                differs.
        """
        path = self.path / "compare.json"
        if path.exists():
            before = read_settings(path)
            refuse(self.path, differences(before.options, self.settings))
            self.found = before.found
        elif self.path.exists() and not (self.path.is_dir() and _is_unused(self.path)):
            step = "Name another folder."
            raise invalid("The out folder must be new, empty or a comparison's.", self.path, step)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Create and lock the folder, and write the settings.

        Raises:
            InvalidValue: if the folder cannot be created.
            WrongState: if another process trains in it.
        """
        make_folder(self.path, RUNS)
        with open_lock(self.path / _LOCK) as lock:
            _lock(lock, self.path)
            self._opened = True
            try:
                self.keep()
                yield
            finally:
                self._opened = False

    def keep(self, **found: Any) -> None:
        """Keep something that was found out; it is written while the folder is open."""
        self.found = structs.replace(self.found, **found)
        if self._opened:
            content = {"format": FORMAT, "options": self.settings, "found": to_builtins(self.found)}
            text = json.dumps(content, indent=2) + "\n"
            RunDirectory(self.path).write_text(self.path / "compare.json", text)


def make_folder(out: Path, place: str) -> None:
    """Make a folder for runs in the folder of a comparison.

    Raises:
        InvalidValue: if it cannot be made, or is a link.
    """
    check_folder(out / place, out)
    try:
        (out / place).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise invalid("The out folder must be writable.", f"{out}: {error.strerror}") from None


def refuse(holder: Path, different: list[str]) -> None:
    """Raise if options of runs in a folder differ from those of now."""
    if different:
        rule = "A comparison must keep the settings that it was started with."
        step = "Name another folder with --out, or repeat the settings."
        raise invalid(rule, f"{holder} holds {'; '.join(different)}", step)


def _is_unused(folder: Path) -> bool:
    """Return whether a folder holds at most what is created before the settings are written."""
    return {path.name for path in folder.iterdir()} <= {_LOCK, RUNS}


def _lock(lock: IO[str], folder: Path) -> None:
    """Lock a file until it is closed, if the system can."""
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock
    except ModuleNotFoundError:  # Windows
        return
    try:
        flock(lock, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        step = "Wait for it, or name another folder."
        raise wrong_state(f"Another process trains in {folder}.", step) from None


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return ``epochs 20, now 30`` for each option that differs.

    >>> differences({"epochs": 20, "low": 0.1}, {"epochs": 30})
    ['epochs 20, now 30', 'low 0.1, now not set']
    """
    names = [*before, *(name for name in now if name not in before)]
    return [
        f"{name} {_shown(before, name)}, now {_shown(now, name)}"
        for name in names
        if before.get(name) != now.get(name)
    ]


def _shown(options: dict[str, Any], name: str) -> Any:
    value = options.get(name)
    return "not set" if value is None or value == "" else value
