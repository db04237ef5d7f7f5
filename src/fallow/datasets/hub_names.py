"""Data sets of Hugging Face, by their name on the hub or saved in a folder.

Only data are loaded: no script is run, and no file outside a saved folder is opened.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import DamagedData, InvalidValue, damaged, invalid, missing_extra
from ..files.regular_file import check_folder, opened, read_regular
from .messages import error_text

HELD_OUT = ("test", "validation", "val", "dev")
"""Names of the part that is held out; the first that exists is taken."""
NO_CODE = {"trust_remote_code": False}
"""Arguments of ``load_dataset``: by default some versions run a script that lies beside the data."""
_LOGGERS = ("huggingface_hub", "datasets", "fsspec")
_LARGEST = 1 << 26
"""Maximum size of a JSON file in a saved folder, in bytes."""


def hub_library() -> Any:
    """Return the module ``datasets``.

    Raises:
        ModuleNotFoundError: if it is missing.
    """
    try:
        import datasets
    except ModuleNotFoundError:
        raise missing_extra("A Hugging Face data set", "datasets", "hf") from None
    return datasets


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Keep the libraries from logging each attempt: the error that is raised says what failed."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def loading(data: str) -> Iterator[None]:
    """Raise any error of the libraries as :class:`~fallow.InvalidValue`, and keep them quiet."""
    try:
        with quiet_hub():
            yield
    except InvalidValue:
        raise
    except Exception as error:  # the hub, the disk and the builders raise many kinds
        rule = f"{data[:200]} must be a data set that can be loaded."
        raise invalid(rule, error_text(error), "Check its name.") from None


def check_hub_name(datasets: Any, name: str) -> None:
    """Raise if a name is one of the readers in ``datasets``, or a script.

    Without files, a reader takes those of the working folder, and that of pandas unpickles them.

    Raises:
        InvalidValue: with a name to use instead.
    """
    # The list has no public name; in a version without it no name is refused here.
    readers = getattr(getattr(datasets, "packaged_modules", None), "_PACKAGED_DATASETS_MODULES", {})
    if name in readers:
        step = "Name a data set as hf:OWNER/NAME, or a file or folder itself."
        raise invalid(f"hf:{name} must be a data set.", "a reader of files", step)
    if name.endswith(".py"):
        raise invalid(f"hf:{name} must be a data set.", "a script", "Name a data set that needs none.")


def saved_at(data: str) -> Path | None:
    """Return the folder of ``hf:FOLDER``; None for ``hf:NAME``."""
    folder = Path(data.removeprefix("hf:"))
    try:
        return folder if data != "hf:" and folder.is_dir() else None
    except (OSError, ValueError):
        return None


def load_parts(data: str) -> dict[str, Any]:
    """Return the parts of ``hf:NAME`` or ``hf:FOLDER`` by their names; a set without parts is ``train``.

    Raises:
        InvalidValue: if it cannot be loaded.
        DamagedData: if a file of the folder is not a regular one, or names a file outside the folder.
        ModuleNotFoundError: if ``datasets`` is missing.
    """
    datasets = hub_library()
    name = data.removeprefix("hf:")
    folder = saved_at(data)
    if not name:
        raise invalid(f"{data} must be a data set that can be loaded.", "no name", "Check its name.")
    if folder is None:
        check_hub_name(datasets, name)
        with loading(data):
            loaded = datasets.load_dataset(name, **NO_CODE)
    else:
        check_saved(folder)
        with loading(data):
            loaded = datasets.load_from_disk(name)
    parts = loaded if isinstance(loaded, datasets.DatasetDict) else {"train": loaded}
    return {str(name): part for name, part in parts.items()}


def check_saved(folder: Path) -> None:
    """Raise if a file in a saved folder is not a regular one, or names a file outside its own folder.

    Raises:
        DamagedData: for the first such file.
    """
    for parent, folders, names in os.walk(folder):
        for name in sorted(folders):
            check_folder(Path(parent, name), folder)
        for name in sorted(names):
            path = Path(parent, name)
            with opened(path, folder):
                pass
            # `load_from_disk` opens whatever these two files name.
            if name == "state.json":
                files = _read_object(path, folder).get("_data_files")
                for file in files if isinstance(files, list) else []:
                    _check_name(path, file.get("filename") if isinstance(file, dict) else file)
            if name == "dataset_dict.json":
                for split in _read_object(path, folder).get("splits") or ():
                    _check_name(path, split)


def _read_object(path: Path, folder: Path) -> dict[str, Any]:
    try:
        value = json.loads(read_regular(path, folder, _LARGEST))
    except DamagedData:
        raise
    except (ValueError, RecursionError) as error:
        raise damaged(f"{path} must be JSON.", type(error).__name__, "Save the data set again.") from None
    return value if isinstance(value, dict) else {}


def _check_name(path: Path, name: Any) -> None:
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        rule = f"{path} must name files of its own folder."
        raise damaged(rule, repr(name)[:200], "Save the data set again.")
