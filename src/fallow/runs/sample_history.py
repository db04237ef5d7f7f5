"""The history of one sample: its use, score and reason in each epoch."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays.checksums import checksums
from ..errors import DamagedData, InvalidValue, invalid
from ..files.regular_file import read_regular
from ..policies.base import Reason
from .run_files import RunFiles
from .sample_names import find

_LARGEST = 1 << 28
"""Maximum size in bytes of a file that is compared with the held-out samples."""
_INDEX = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True)
class Epoch:
    """One epoch in the history of a sample.

    Attributes:
        epoch: its number, from 0.
        used: whether the sample was trained on.
        score: its last score at the end of the epoch, or None.
        reason: why it was left out, or ``kept``.
    """

    epoch: int
    used: bool
    score: float | None
    reason: str


@dataclass(frozen=True)
class SampleHistory:
    """The data that a run has about one sample.

    Attributes:
        sample: its index.
        label, predicted: the names of its class and of the class last predicted; None if unknown.
        file: its file, or None.
        text: its beginning, if it is a text that the report shows; else None.
        times_used: the number of epochs that trained on it.
        epochs: all epochs since it was added.
    """

    sample: int
    label: str | None
    predicted: str | None
    file: str | None
    text: str | None
    times_used: int
    epochs: list[Epoch]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


def sample_of(run: RunFiles, name: str) -> int:
    """Return the sample with an index, a file name or the name of a table row.

    Raises:
        InvalidValue: if no sample or several have the name.
        DamagedData: if the file that lists the samples is damaged.
    """
    if _INDEX.fullmatch(name):  # an index wins over a file that is called like a number
        return int(name)
    if (files := run.data.files) is None:
        step = "samples.csv and the report list them."
        raise invalid("A sample of this run must be given by its index: it has no files.", name, step)
    folder = run.shown_options.data or ""
    try:
        return find(files, name, folder)
    except InvalidValue:
        if _is_held_out(run, folder, name):
            rule = "A sample must be in the training set."
            step = "Held-out samples only measure the accuracy: they are not trained on and have no score."
            raise invalid(rule, f"{name}, which is held out", step) from None
        raise


def _is_held_out(run: RunFiles, folder: str, name: str) -> bool:
    """Return whether a file, given by its path or relative to the data folder, is a held-out sample."""
    known = run.data.held_out_identity
    if known is None:
        return False
    for path in (Path(name), Path(folder, name)):
        with suppress(OSError, ValueError, DamagedData):
            if path.is_file() and np.isin(checksums([read_regular(path, limit=_LARGEST)]), known).any():
                return True
    return False


def history_of(run: RunFiles, sample: int) -> SampleHistory:
    """Return the history of a sample.

    Raises:
        InvalidValue: if there is no such sample, or no finished epoch.
        DamagedData: if a file that is read is damaged.
    """
    n = run.history[-1].remaining
    if not 0 <= sample < n:
        rule = f"A sample must be in [0, {n:,}), a position in the training set."
        raise invalid(rule, sample, "samples.csv and the report list them.")
    reasons = [reason.text for reason in Reason]
    epochs = []
    for record in run.history:
        if sample >= record.remaining:
            continue
        row = run.rows(record.epoch, np.array([sample]))
        score = float(row.scores[0])
        # Unpacking the bits would make N values in each epoch for one sample.
        used = bool(record.used_bits[sample >> 3] >> (sample & 7) & 1)
        known = score if math.isfinite(score) else None
        epochs.append(Epoch(record.epoch, used, known, reasons[int(row.reason[0])]))
    predicted = -1 if run.predicted is None else int(run.predicted[sample])
    return SampleHistory(
        sample=sample,
        label=run.class_of(sample),
        predicted=None if predicted < 0 else run.data.class_name(predicted),
        file=run.file_of(sample),
        text=text_of(run, sample),
        times_used=int(run.times_used[sample]),
        epochs=epochs,
    )


def text_of(run: RunFiles, sample: int) -> str | None:
    """Return the excerpt of a sample that the run keeps for its report, or None."""
    shown = run.shown
    if shown is None or shown.texts is None:
        return None
    at = np.flatnonzero(shown.index == sample)
    return shown.texts[int(at[0])] if at.size else None
