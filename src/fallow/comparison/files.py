"""The files of a comparison's folder, read back: what is damaged is named, with what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import damaged
from ..files import plain_yaml
from ..files.checked_json import parse_json
from ..files.regular_file import read_regular

FORMAT = "fallow-compare-1"
AGAIN = "Remove the run's folder to train it again."
"""What to do about a damaged run."""
_LARGEST = 1 << 26
_NUMBERS = ("samples_backward", "samples_forward_only")
_REACHED = ("accuracy", "test_loss", "bits_per_character")
_OF_AN_EPOCH = ("accuracy", "test_loss", "samples_backward", "samples_forward_only", "samples_full")


def read_summary(path: Path) -> dict[str, Any]:
    """Return what ``summary.json`` of a run says.

    Raises:
        DamagedData: where it is not what a finished run writes.
    """
    summary = _mapping(path, _json(path, AGAIN), AGAIN)
    epochs = summary.get("epochs")
    if not isinstance(epochs, list) or not all(isinstance(epoch, dict) for epoch in epochs):
        raise damaged(f"{path} must list its epochs.", "none", AGAIN)
    for name in _NUMBERS:
        if not _number(summary.get(name)):
            raise damaged(f"{path} must hold the number {name}.", repr(summary.get(name)), AGAIN)
    lacking = [name for name in _OF_AN_EPOCH if any(name not in epoch for epoch in epochs)]
    lacking += [name for name in ("accuracy", "test_loss") if name not in summary]
    wrong = [epoch for epoch in epochs if not _number(epoch.get("samples_full"))]
    wrong += [part for part in (summary, *epochs) if not all(map(_fits, map(part.get, _REACHED)))]
    if lacking or wrong:
        found = f"no {lacking[0]}" if lacking else "a value that is no number"
        raise damaged(f"{path} must hold what a finished run writes.", found, AGAIN)
    return summary


def read_config(path: Path) -> dict[str, Any]:
    """Return the options in ``config.yaml`` of a run.

    Raises:
        DamagedData: where it is not a mapping in YAML.
    """
    found = plain_yaml.parse_yaml(_bytes(path, plain_yaml.LARGEST, AGAIN), str(path), AGAIN)
    return _mapping(path, found, AGAIN)


def read_settings(path: Path) -> dict[str, Any]:
    """Return the settings in ``compare.json`` that a comparison began with.

    Raises:
        DamagedData: where it is not what this version of fallow writes.
    """
    step = "Name another folder with --out, or look for another copy of the file."
    found = _mapping(path, _json(path, step), step)
    if found.get("format") != FORMAT:
        raise damaged(f"{path} must be of the format {FORMAT}.", repr(found.get("format")), step)
    return _mapping(path, found.get("options"), step)


def _json(path: Path, step: str) -> Any:
    return parse_json(_bytes(path, _LARGEST, step), str(path), step)


def _bytes(path: Path, limit: int, step: str) -> bytes:
    try:
        return read_regular(path, path.parent, limit)
    except OSError as error:
        raise damaged(f"{path} must be readable.", error.strerror, step) from None


def _mapping(path: Path, found: Any, step: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise damaged(f"{path} must map names to values.", type(found).__name__, step)
    return found


def _number(found: Any) -> bool:
    return isinstance(found, int | float) and not isinstance(found, bool)


def _fits(found: Any) -> bool:
    return found is None or _number(found)
