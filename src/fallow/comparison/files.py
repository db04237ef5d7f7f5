"""Read the files in a comparison's folder; an error names a damaged file and the next step."""

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
"""The next step after damage to a run."""
_LARGEST = 1 << 26


@dataclass(frozen=True)
class Finished:
    """The summary of a finished run.

    Attributes:
        summary: its ``summary.json``.
        plain: all values of that file, for ``results.json``.
    """

    summary: FinishedSummary
    plain: dict[str, Any]


def read_summary(path: Path) -> Finished:
    """Read ``summary.json`` of a run.

    Raises:
        DamagedData: if it is not that of a finished run.
    """
    plain = finite(_json(path, AGAIN))
    return Finished(check_kind(FinishedSummary, plain, str(path), AGAIN), plain)


def read_config(path: Path) -> dict[str, Any]:
    """Read the options in ``config.yaml`` of a run.

    Raises:
        DamagedData: if it is not a mapping in YAML.
    """
    options = plain_yaml.parse_yaml(_bytes(path, plain_yaml.LARGEST, AGAIN), str(path), AGAIN)
    return check_kind(dict[str, Any], options, str(path), AGAIN)


def read_settings(path: Path) -> CompareSettings:
    """Read ``compare.json``: the settings that a comparison was started with, and what it found out.

    Raises:
        DamagedData: if it is damaged or of another version of fallow.
    """
    step = "Name another folder with --out, or look for another copy of the file."
    settings = check_kind(CompareSettings, _json(path, step), str(path), step)
    if settings.format != FORMAT:
        raise damaged(f"{path} must be of the format {FORMAT}.", repr(settings.format), step)
    return settings


def _json(path: Path, step: str) -> Any:
    return parse_json(_bytes(path, _LARGEST, step), str(path), step)


def _bytes(path: Path, limit: int, step: str) -> bytes:
    try:
        return read_regular(path, path.parent, limit)
    except OSError as error:
        raise damaged(f"{path} must be readable.", error.strerror, step) from None
