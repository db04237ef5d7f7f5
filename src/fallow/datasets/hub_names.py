"""Names of data sets of Hugging Face: of data alone, never of a program that reads some."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InvalidValue, invalid, missing_extra
from .npz_file import said
from .saved_folder import check_saved

HELD_OUT = ("test", "validation", "val", "dev")
"""Names of the part that is held out; the first that is there is taken."""
NO_CODE = {"trust_remote_code": False}
"""An argument of ``load_dataset``: some versions run a script that lies beside the data otherwise."""


_LOGGERS = ("huggingface_hub", "datasets", "fsspec")


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Keep the libraries from writing a line for each try: what is wrong is said once, by the error."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def check_hub_name(datasets: Any, place: str) -> None:
    """Raise for a name that is no data set: one of ``datasets``' own readers, or a script.

    A reader without files takes those of the working folder; that of pandas unpickles them.

    Raises:
        InvalidValue: saying what to name instead.
    """
    readers = getattr(getattr(datasets, "packaged_modules", None), "_PACKAGED_DATASETS_MODULES", {})
    if place in readers:
        step = "Name a data set as hf:OWNER/NAME, or a file or folder itself."
        raise invalid(f"hf:{place} must be a data set.", "a reader of files", step)
    if place.endswith(".py"):
        raise invalid(f"hf:{place} must be a data set.", "a script", "Name a data set that needs none.")


def saved_at(data: str) -> Path | None:
    """Return the folder that ``hf:FOLDER`` names; None for ``hf:NAME``."""
    place = Path(data.removeprefix("hf:"))
    try:
        return place if data != "hf:" and place.is_dir() else None
    except (OSError, ValueError):
        return None


def load_parts(data: str) -> dict[str, Any]:
    """Return the parts of ``hf:NAME`` or ``hf:FOLDER`` by their names; a set without parts is ``train``.

    Raises:
        InvalidValue: if it cannot be loaded.
        DamagedData: if a file of the folder is no regular one, or names one that lies elsewhere.
        ModuleNotFoundError: without ``datasets``.
    """
    try:
        import datasets
    except ModuleNotFoundError:
        raise missing_extra("A Hugging Face data set", "datasets", "hf") from None
    place, folder = data.removeprefix("hf:"), saved_at(data)
    rule = f"{data[:200]} must be a data set that can be loaded."
    if not place:
        raise invalid(rule, "no name", "Check its name.")
    if folder is not None:
        check_saved(folder)
    try:
        if folder is None:
            check_hub_name(datasets, place)
        with quiet_hub():
            found = (
                datasets.load_dataset(place, **NO_CODE) if folder is None else datasets.load_from_disk(place)
            )
    except InvalidValue:
        raise
    except Exception as error:  # the hub, the disk and the builders raise many kinds
        raise invalid(rule, said(error), "Check its name.") from None
    parts = found if isinstance(found, datasets.DatasetDict) else {"train": found}
    return {str(name): part for name, part in parts.items()}
