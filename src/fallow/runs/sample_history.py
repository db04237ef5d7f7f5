"""One sample's life: epoch by epoch whether it was used, what it scored, and why it was left out."""

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
from .run import Run
from .sample_names import find

_LARGEST = 1 << 28
"""Bytes of a file that is looked at, at most."""
_INDEX = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True)
class Epoch:
    """One epoch of a sample's life.

    Attributes:
        epoch: which.
        used: whether it was trained on.
        score: its last score at the end of the epoch; None without one.
        reason: why it was left out, in words; ``kept`` where it was not.
    """

    epoch: int
    used: bool
    score: float | None
    reason: str


@dataclass(frozen=True)
class SampleHistory:
    """What a run tells of one sample.

    Attributes:
        sample: its index.
        label, predicted: its class, and the class last predicted, by name; None where unknown.
        file: where it came from, or None.
        text: how it begins, of a text that the report shows; else None.
        times_used: in how many epochs it was trained on.
        epochs: one by one, since it was there.
    """

    sample: int
    label: str | None
    predicted: str | None
    file: str | None
    text: str | None
    times_used: int
    epochs: list[Epoch]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return asdict(self)


def sample_of(run: Run, name: str) -> int:
    """Return the sample that a person means by its index, its file or the row of a table it stands in.

    Raises:
        InvalidValue: for a name of none, or of several.
        DamagedData: where the file that lists the samples is not sound.
    """
    if _INDEX.fullmatch(name):
        return int(name)
    if (files := run.data.files) is None:
        step = "samples.csv and the report list them."
        raise invalid("A sample of this run must be named by its index: it has no files.", name, step)
    folder = run.shown_options.data or ""
    try:
        return find(files, name, folder)
    except InvalidValue:
        if _is_held_out(run, folder, name):
            rule = "A sample must be of the training set."
            step = "Held-out samples only measure the accuracy; none is trained on, so none has a score."
            raise invalid(rule, f"{name}, which is held out", step) from None
        raise


def _is_held_out(run: Run, folder: str, name: str) -> bool:
    """Return whether a file, by its own path or within the folder of the data, is a held-out sample."""
    known = run.data.held_out_identity
    if known is None:
        return False
    for path in (Path(name), Path(folder, name)):
        with suppress(OSError, ValueError, DamagedData):
            if path.is_file() and np.isin(checksums([read_regular(path, limit=_LARGEST)]), known).any():
                return True
    return False


def history_of(run: Run, sample: int) -> SampleHistory:
    """Return the life of a sample.

    Raises:
        InvalidValue: where there is no such sample, or no finished epoch.
        DamagedData: where a file that tells of it is not sound.
    """
    n = run.history[-1].remaining
    if not 0 <= sample < n:
        rule = f"A sample must be in [0, {n:,}), a position in the training set."
        raise invalid(rule, sample, "samples.csv and the report list them.")
    words = [reason.text for reason in Reason]
    epochs = []
    for file in run.files():
        if sample >= file.record.remaining:
            continue
        score = float(file.scores[sample])
        used = bool(file.record.used_bits[sample >> 3] >> (sample & 7) & 1)
        shown = score if math.isfinite(score) else None
        epochs.append(Epoch(file.record.epoch, used, shown, words[int(file.reason[sample])]))
    data, predicted = run.data, None if run.predicted is None else int(run.predicted[sample])
    return SampleHistory(
        sample=sample,
        label=run.class_of(sample),
        predicted=None if predicted is None or predicted < 0 else data.class_name(predicted),
        file=run.file_of(sample),
        text=_text(run, sample),
        times_used=int(run.times_used[sample]),
        epochs=epochs,
    )


def _text(run: Run, sample: int) -> str | None:
    """Return the excerpt of a sample that the run keeps for its report, if it does."""
    shown = run.shown
    if shown is None or shown.texts is None:
        return None
    at = np.flatnonzero(shown.index == sample)
    return shown.texts[int(at[0])] if at.size else None
