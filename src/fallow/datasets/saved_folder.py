"""Data sets that Hugging Face's ``datasets`` has saved: what lies in the folder, before it is loaded."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..errors import DamagedData, damaged
from ..files.regular_file import check_folder, opened, read_regular

_LARGEST = 1 << 26
"""Bytes of a file that describes others."""
_STEP = "Save the data set again."


def check_saved(folder: Path) -> None:
    """Raise if a file in the folder is no regular one, or names one that lies elsewhere.

    Raises:
        DamagedData: for the first.
    """
    for place, folders, names in os.walk(folder):
        for name in sorted(folders):
            check_folder(Path(place, name), folder)
        for name in sorted(names):
            path = Path(place, name)
            with opened(path, folder):
                pass
            if name == "state.json":
                for file in _listed(path, folder):
                    _check_name(path, file.get("filename") if isinstance(file, dict) else file)
            if name == "dataset_dict.json":
                for split in _read(path, folder).get("splits") or ():
                    _check_name(path, split)


def _listed(path: Path, folder: Path) -> list[Any]:
    files = _read(path, folder).get("_data_files")
    return files if isinstance(files, list) else []


def _read(path: Path, folder: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_regular(path, folder, _LARGEST))
    except DamagedData:
        raise
    except (ValueError, RecursionError) as error:
        raise damaged(f"{path} must be JSON.", type(error).__name__, _STEP) from None
    return found if isinstance(found, dict) else {}


def _check_name(path: Path, name: Any) -> None:
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise damaged(f"{path} must name files of its own folder.", repr(name)[:200], _STEP)
