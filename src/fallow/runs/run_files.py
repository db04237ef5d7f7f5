"""The files of a run, read without torch and without a lock: past epochs, samples, options and progress."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ..core.history import EpochRecord, resized, times_used
from ..errors import DamagedData, damaged, invalid
from ..files.array_file import KEY
from ..files.checked_json import check_kind, finite, parse_json
from ..spelling import plural
from .checkpoints import Search
from .data_file import DataFile
from .directory import RunDirectory
from .epoch_file import EpochFile
from .epoch_part import Rows
from .gaps_file import GapsFile
from .schema import PREDICTED, REACHED, RECORDED, About, ShownOptions, Summary, SummaryRow
from .thumbnails_file import ThumbnailsFile

_STEP = "Put back a copy of it."
_SUMMARY, _SUMMARY_ROW = 1 << 22, 1 << 16
"""Maximum size of a summary in bytes, and what each epoch adds to it."""
_IN_NATS = {"kl", "reverse-kl", "js", "renyi"}
"""Scores in nats, for states of older versions, which do not name the unit."""
_LARGEST = 1 << 33
"""Maximum size of every other file in bytes."""


def _listed(epochs: list[int]) -> str:
    """Return epochs by their numbers from 1, the first alone if they are several.

    >>> _listed([1]), _listed([1, 2, 3])
    ('epoch 2', 'epoch 2 and 2 others')
    """
    others = f" and {plural(len(epochs) - 1, 'other')}" if epochs[1:] else ""
    return f"epoch {epochs[0] + 1}{others}"


class RunFiles:
    """The files of a run, which may still be training. Every part is read at its first use.

    Args:
        path: the folder.

    Attributes:
        directory: its files.

    Raises:
        InvalidValue: if there is no run.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.directory = RunDirectory(path)
        self.directory.check()

    @cached_property
    def epochs(self) -> list[int]:
        """The finished epochs, ascending; one is missing if its file was damaged."""
        return self.directory.epochs()

    @cached_property
    def ended(self) -> int:
        """The number of finished epochs, also of those whose files are damaged or gone."""
        return max([self.epochs_done or 0, *(epoch + 1 for epoch in self.directory.epochs())])

    @property
    def missing(self) -> list[int]:
        """The finished epochs that no count is over, since they cannot be read, ascending."""
        return sorted(set(range(self.ended)) - set(self.epochs))

    @property
    def unread(self) -> str:
        """Which finished epochs cannot be read, as a clause; empty if all can."""
        return "" if not self.missing else f"{_listed(self.missing)} cannot be read"

    @cached_property
    def search(self) -> Search:
        """The newest sound state, and the damage of newer ones."""
        return self.directory.checkpoints.newest()

    @cached_property
    def about(self) -> About:
        """The description of the run in the newest sound state; the defaults without one."""
        return About() if self.search.found is None else self.search.found.about

    @property
    def epochs_done(self) -> int | None:
        """The number of finished epochs in the newest sound state; None without one."""
        return None if self.search.found is None else self.about.epoch

    @property
    def options(self) -> dict[str, Any]:
        """The options of ``fallow train``."""
        return self.about.options

    @cached_property
    def shown_options(self) -> ShownOptions:
        """The options that reading commands name.

        Raises:
            DamagedData: if one has another type.
        """
        return check_kind(ShownOptions, self.options, f"The options of {self.directory.path}", _STEP)

    @cached_property
    def summary(self) -> Summary | None:
        """The content of ``summary.json``; None before training has ended or was stopped.

        Raises:
            DamagedData: if it is damaged.
        """
        path = self.directory.summary_path
        limit = _SUMMARY + _SUMMARY_ROW * len(self.epochs)
        try:
            content = parse_json(self.read(path, limit), str(path), _STEP)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise damaged(f"{path} must be readable.", error.strerror, _STEP) from None
        return check_kind(Summary, finite(content), str(path), _STEP)

    @property
    def score_unit(self) -> str:
        """``nats``, or empty if the scores have another unit or none that is known."""
        unit = self.about.score_unit if self.summary is None else self.summary.score_unit
        if unit is not None:
            return "nats" if unit == "nats" else ""
        # A run of an earlier version does not say it; the losses of a user's own class may be anything.
        options = self.shown_options
        own = ":" in (options.model or "") and not (options.model or "").startswith("hf:")
        other = own or options.policy == "repb" or options.task == "autoencoder"
        return "nats" if not other and (options.score or "kl") in _IN_NATS else ""

    @cached_property
    def data(self) -> DataFile:
        """The description of the samples: labels, classes, files.

        Raises:
            DamagedData: if it cannot be read.
        """
        self.directory.data_name = self.about.data
        path = self.directory.data_path
        data = DataFile.parse(self.read_file(path), str(path))
        self.directory.numbering = data.numbering
        return data

    @cached_property
    def shown(self) -> ThumbnailsFile | None:
        """Pictures or texts for a report, or None.

        Raises:
            DamagedData: if they cannot be read.
        """
        path = self.directory.thumbnails_path
        # lexists also finds a link to nothing, which must be refused instead of ignored.
        return ThumbnailsFile.parse(self.read_file(path), str(path)) if os.path.lexists(path) else None

    @cached_property
    def gaps(self) -> GapsFile | None:
        """The last result of ``fallow gaps``, or None.

        Raises:
            DamagedData: if it cannot be read.
        """
        path = self.directory.gaps_path
        return GapsFile.read(path) if os.path.lexists(path) else None

    @cached_property
    def labels(self) -> NDArray[np.int32] | None:
        """The class of each sample of the last finished epoch, ``(N,)``, -1 if unknown; or None."""
        labels = self.data.labels
        return None if labels is None else resized(labels, self.history[-1].remaining, -1)

    def class_of(self, sample: int) -> str | None:
        """Return the name of a sample's class, or None."""
        label = -1 if self.labels is None else int(self.labels[sample])
        return None if label < 0 else self.data.class_name(label)

    def file_of(self, sample: int) -> str | None:
        """Return the file of a sample, or None."""
        files = self.data.files
        return files[sample] if files is not None and sample < len(files) else None

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.about.epochs is not None and self.about.epoch == self.about.epochs

    @property
    def status(self) -> str:
        """The progress of the run as text."""
        done, planned = self.ended, self.about.epochs
        if self.finished:
            return f"finished after {planned} epoch{'s'[: planned != 1]}"
        return f"{done} of {'unknown' if planned is None else planned} epoch{'s'[: planned != 1]} done"

    @cached_property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of files that the newest state needs, and of all files once training has ended."""
        files = {} if self.search.found is None else self.search.found.files
        return self.directory.sums() | {name: digest.sha256 for name, digest in files.items()}

    def read(self, path: Path, limit: int | None = None) -> bytes:
        """Return the bytes of a file, after comparing them with its checksum, if there is one.

        Raises:
            DamagedData: if it has changed, or is not a regular file of at most ``limit`` bytes.
            OSError: if it cannot be read.
        """
        name = path.relative_to(self.directory.path).as_posix()
        data = self.directory.read(path, limit)
        expected = self.digests.get(name)
        if expected is None:
            return data
        actual = hashlib.sha256(data).hexdigest()
        if actual == expected:
            return data
        # A training process may have replaced the file since the checksums were read.
        now = RunFiles(self.directory.path).digests.get(name)
        if now is None or now == expected:
            value = f"another checksum, {actual[:12]} for {expected[:12]}"
            raise damaged(f"{path} must be unchanged.", value, _STEP)
        self.digests[name] = now
        return self.read(path, limit)

    def read_file(self, path: Path) -> bytes:
        """Return the bytes of a required file; see :meth:`read`.

        Raises:
            DamagedData: if it is missing or cannot be read.
        """
        try:
            return self.read(path, _LARGEST)
        except FileNotFoundError:
            raise damaged(f"{path} must exist.", "no such file", _STEP) from None
        except OSError as error:
            raise damaged(f"{path} must be readable.", error.strerror, _STEP) from None

    def epoch(self, epoch: int) -> EpochFile:
        """Return one past epoch in the present numbering: scores, reasons, used samples.

        Raises:
            DamagedData: if its file or that of the data is damaged or has changed.
        """
        return self.epoch_as_written(epoch).renumbered(self.data.numbering)

    def epoch_as_written(self, epoch: int) -> EpochFile:
        """Return one past epoch in its own numbering.

        Raises:
            DamagedData: if its file is damaged or has changed.
        """
        path = self.directory.epoch_path(epoch)
        return EpochFile.parse(self.read_file(path), str(path), epoch)

    def rows(self, epoch: int, index: NDArray[np.int64]) -> Rows:
        """Return some samples in one past epoch.

        Args:
            epoch: its number, from 0.
            index: int64 ``(K,)``, samples in the present numbering that existed in that epoch.

        Raises:
            DamagedData: as :meth:`epoch`.
        """
        file = self.epoch(epoch)
        return Rows(file.scores[index], file.reason[index])

    def files(self) -> Iterator[EpochFile]:
        """Yield the past epochs, one in memory at a time."""
        yield from map(self.epoch, self.epochs)

    @cached_property
    def history(self) -> list[EpochRecord]:
        """The past epochs without their scores.

        Raises:
            InvalidValue: if none is finished.
        """
        if not self.epochs:
            run = quote(str(self.directory.path))
            step = f"Wait for it, or resume a stopped training: --resume {run}."
            raise invalid(f"{self.directory.path} must have a finished epoch.", "none", step)
        for name in self.digests:
            if name.startswith("history/") and not (self.directory.path / name).exists():
                raise damaged(f"{self.directory.path / name} must exist.", "no such file", _STEP)
        return [file.record for file in self.files()]

    @cached_property
    def last(self) -> EpochFile:
        """The last finished epoch."""
        # Raises a clear error if no epoch is finished, in place of an IndexError below.
        assert self.history
        return self.epoch(self.epochs[-1])

    @cached_property
    def times_used(self) -> NDArray[np.int32]:
        """The number of finished epochs that trained on each sample: ``(N,)``."""
        return times_used(self.history)

    @cached_property
    def reached(self) -> list[SummaryRow]:
        """What each epoch reached, as far as it is known.

        A training writes its summary when it ends, and states meanwhile: the newest one may know more epochs.
        """
        rows = [] if self.summary is None else list(self.summary.epochs)
        if self.search.found is None or len(rows) >= self.about.epoch:
            return rows
        path = self.directory.checkpoints.state_path(self.search.found.number)
        try:
            with safe_open(path, framework="numpy") as state:
                tree: Any = parse_json(state.metadata()[KEY].encode(), str(path))["tree"]
            for name in ("rows",) if RECORDED in self.options else REACHED:
                tree = tree[name]
            plain = [{k: v for k, v in row.items() if isinstance(v, int | float | str)} for row in tree]
            return check_kind(list[SummaryRow], finite(plain), str(path))
        # A training process may have replaced it; a state that is damaged says nothing.
        except (OSError, SafetensorError, DamagedData, LookupError, TypeError, AttributeError):
            return rows

    @cached_property
    def predicted(self) -> NDArray[np.int32] | None:
        """The class last predicted for each sample of the last finished epoch, ``(N,)``, -1 if unknown.

        None if the state does not keep them.
        """
        if self.search.found is None:
            return None
        path = self.directory.checkpoints.state_path(self.search.found.number)
        try:
            # It loads one array alone: the weights beside it may be large.
            with safe_open(path, framework="numpy") as state:  # `search` has checked it
                names = [name for name in state.keys() if name.endswith(PREDICTED)]  # noqa: SIM118
                numbers = state.get_tensor(names[0]) if names else None
        except (OSError, SafetensorError):  # a training process may have replaced it by a newer state
            return None
        if numbers is None or numbers.ndim != 1 or numbers.dtype.kind not in "iu":
            return None
        return resized(numbers.astype(np.int32) - 1, self.history[-1].remaining, -1)
