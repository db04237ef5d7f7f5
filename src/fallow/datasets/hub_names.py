"""Names of data sets of Hugging Face: of data alone, never of a program that reads some."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import invalid

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
