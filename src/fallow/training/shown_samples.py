"""The pictures or texts of the samples that a report shows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.history import times_used
from ..core.subsampler import Subsampler
from ..errors import FallowError
from ..runs.directory import RunDirectory
from ..runs.epoch_file import EpochFile
from ..runs.highlights import SUSPECTS, choose
from ..runs.run_files import RunFiles
from ..runs.suspects import find_suspects
from ..runs.thumbnails_file import ThumbnailsFile


def shown_samples(
    subsampler: Subsampler,
    read: Callable[[int], EpochFile],
    thumbnails: Callable[[NDArray[np.int64]], dict[str, Any]],
    suspects: NDArray[np.int64] | None = None,
) -> ThumbnailsFile:
    """Return the samples that a report of the last finished epoch shows.

    If that epoch left out no outliers, the report shows those of the last epoch that did.

    Args:
        subsampler: of the training, between two epochs.
        read: returns the file of a past epoch.
        thumbnails: returns ``pictures`` or ``texts`` of samples ``(K,)``.
        suspects: further samples to show, whose labels look wrong.

    Raises:
        DamagedData: if the file of a past epoch is damaged.
    """
    history = subsampler.history
    n, labels, ids = history[-1].remaining, subsampler.labels, subsampler.under_way.class_ids
    known = None if labels is None else ids.encode(labels.numpy()[:n])
    predicted = ids.encode(subsampler.predicted.numpy()[:n])
    last = read(history[-1].epoch)
    reasons = [last.reason]
    before = (record for record in reversed(history) if record.outliers and record.remaining == n)
    if not history[-1].outliers and (with_outliers := next(before, None)) is not None:
        reasons.append(read(with_outliers.epoch).reason)
    times = times_used(history)
    shown = [choose(last.scores, reason, times, known, predicted).index for reason in reasons]
    index = np.unique(np.concatenate(shown if suspects is None else [*shown, suspects]))
    return ThumbnailsFile(last.record.epoch, index, predicted[index], **thumbnails(index))


def shown_suspects(run: RunDirectory) -> NDArray[np.int64]:
    """Return the samples whose labels look wrong, as many as a report shows; none without labels."""
    # A damaged file costs pictures in the report, which need not end a training.
    with suppress(FallowError):
        found = find_suspects(RunFiles(run.path), SUSPECTS).suspects
        return np.array([one.index for one in found], np.int64)
    return np.zeros(0, np.int64)
