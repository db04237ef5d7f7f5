"""The folder where fetched data is kept, and the programs that fetch it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InvalidValue, invalid

PATIENCE = 1800
"""Seconds that a fetching program may take."""


def cache_folder(cache: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder for fetched data: ``cache``, else ``fallow`` in the user's cache folder.

    The user's cache folder is ``$XDG_CACHE_HOME``, or ``~/.cache`` where that is not set. The
    folder need not exist yet.
    """
    if cache is not None:
        return Path(cache).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "fallow"


@contextmanager
def working_folder(cache: Path) -> Iterator[Path]:
    """Make a folder inside ``cache`` that is gone after the block.

    It lies there, and not in the system's folder for such things, so that what is finished moves
    to its place in one step.

    Raises:
        InvalidValue: The cache cannot be written.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=cache, prefix=".fetching-")
    except OSError as error:
        step = "Free it, or set XDG_CACHE_HOME to a folder that can be written."
        raise invalid(f"The cache {cache} must be a folder to write in.", error, step) from error
    with folder as path:
        yield Path(path)


def run_program(command: list[str], folder: Path, data: str, step: str) -> None:
    """Run ``command`` in ``folder``.

    Args:
        command: the program and its arguments.
        folder: where it runs.
        data: the name of the data it fetches, for the error.
        step: what the user can do where it fails.

    Raises:
        InvalidValue: The program is missing, fails or takes longer than ``PATIENCE``.
    """
    program = command[0]
    if shutil.which(program) is None:
        raise not_had(data, f"no program `{program}`", step)
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise not_had(data, f"`{program}`: {error}", step) from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        reason = said[-1] if said else f"exit code {done.returncode}"
        raise not_had(data, f"`{' '.join(command)}` failed: {reason}", step)


def not_had(data: str, reason: str, step: str) -> InvalidValue:
    """Return the error for data that is neither on this machine nor could be fetched."""
    return invalid(f"The data `{data}` must be on this machine or be fetched.", reason, step)
