"""The files of a comparison's folder, read back: what is damaged is named, with what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import damaged
from ..files import plain_yaml
from ..files.checked_json import check_kind, finite, parse_json
from ..files.regular_file import read_regular
from ..runs.schema import CompareSettings, FinishedSummary

FORMAT = "fallow-compare-1"
AGAIN = "Remove the run's folder to train it again."
"""What to do about a damaged run."""
_LARGEST = 1 << 26


@dataclass(frozen=True)
class Finished:
    """What a finished run left behind.

    Attributes:
        summary: its ``summary.json``.
        plain: all of that file, as it goes on into ``results.json``.
    """

    summary: FinishedSummary
    plain: dict[str, Any]


def read_summary(path: Path) -> Finished:
    """Return what ``summary.json`` of a run says.

    Raises:
        DamagedData: where it is not what a finished run writes.
    """
    plain = finite(_json(path, AGAIN))
    return Finished(check_kind(FinishedSummary, plain, str(path), AGAIN), plain)


def read_config(path: Path) -> dict[str, Any]:
    """Return the options in ``config.yaml`` of a run.

    Raises:
        DamagedData: where it is not a mapping in YAML.
    """
    found = plain_yaml.parse_yaml(_bytes(path, plain_yaml.LARGEST, AGAIN), str(path), AGAIN)
    return check_kind(dict[str, Any], found, str(path), AGAIN)


def read_settings(path: Path) -> dict[str, Any]:
    """Return the settings in ``compare.json`` that a comparison began with.

    Raises:
        DamagedData: where it is not what this version of fallow writes.
    """
    step = "Name another folder with --out, or look for another copy of the file."
    found = check_kind(CompareSettings, _json(path, step), str(path), step)
    if found.format != FORMAT:
        raise damaged(f"{path} must be of the format {FORMAT}.", repr(found.format), step)
    return found.options


def _json(path: Path, step: str) -> Any:
    return parse_json(_bytes(path, _LARGEST, step), str(path), step)


def _bytes(path: Path, limit: int, step: str) -> bytes:
    try:
        return read_regular(path, path.parent, limit)
    except OSError as error:
        raise damaged(f"{path} must be readable.", error.strerror, step) from None
