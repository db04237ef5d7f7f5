"""A run read back, without torch and without a lock: past epochs, samples, options, and how it stands."""

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
from ..errors import damaged, invalid
from ..files.checked_json import check_kind, finite, parse_json
from .checkpoints import Search
from .data_file import DataFile
from .directory import RunDirectory
from .epoch_file import EpochFile
from .gaps_file import GapsFile
from .schema import PREDICTED, About, ShownOptions, Summary
from .thumbnails_file import ThumbnailsFile

_STEP = "Put back a copy of it."
_SUMMARY, _A_ROW = 1 << 22, 1 << 16
"""Bytes of a summary, at most, and how many more each epoch adds."""
_LARGEST = 1 << 33
"""No other file has more bytes."""


class Run:
    """A run that may still be under way. Everything is read when it is first asked for.

    Args:
        path: the folder.

    Attributes:
        directory: its files.

    Raises:
        InvalidValue: where there is no run.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.directory = RunDirectory(path)
        self.directory.check()

    @cached_property
    def epochs(self) -> list[int]:
        """Which epochs are finished, ascending; one is missing where its file was damaged."""
        return self.directory.epochs()

    @cached_property
    def search(self) -> Search:
        """The newest sound state, and what is wrong with newer ones."""
        return self.directory.checkpoints.newest()

    @cached_property
    def about(self) -> About:
        """What the newest sound state says of the run; the defaults without one."""
        return About() if self.search.found is None else self.search.found.about

    @property
    def epochs_done(self) -> int | None:
        """How many epochs the newest sound state has behind it; None without one."""
        return None if self.search.found is None else self.about.epoch

    @property
    def options(self) -> dict[str, Any]:
        """The options of ``fallow train``."""
        return self.about.options

    @cached_property
    def shown_options(self) -> ShownOptions:
        """The options that reading commands name.

        Raises:
            DamagedData: if one is of another type.
        """
        return check_kind(ShownOptions, self.options, f"The options of {self.directory.path}", _STEP)

    @cached_property
    def summary(self) -> Summary | None:
        """What ``summary.json`` says; None before training has ended or was stopped.

        Raises:
            DamagedData: if it is not as fallow writes it.
        """
        path = self.directory.summary_path
        limit = _SUMMARY + _A_ROW * len(self.epochs)
        try:
            found = parse_json(self.read(path, limit), str(path), _STEP)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise damaged(f"{path} must be readable.", error.strerror, _STEP) from None
        return check_kind(Summary, finite(found), str(path), _STEP)

    @cached_property
    def data(self) -> DataFile:
        """What the samples are: labels, classes, files.

        Raises:
            DamagedData: where that cannot be read.
        """
        self.directory.data_name = self.about.data
        path = self.directory.data_path
        found = DataFile.parse(self.read_file(path), str(path))
        self.directory.numbering = found.numbering
        return found

    @cached_property
    def shown(self) -> ThumbnailsFile | None:
        """Pictures or texts for a report, or None.

        Raises:
            DamagedData: where they cannot be read.
        """
        path = self.directory.thumbnails_path
        return ThumbnailsFile.parse(self.read_file(path), str(path)) if os.path.lexists(path) else None

    @cached_property
    def gaps(self) -> GapsFile | None:
        """What ``fallow gaps`` found last, or None.

        Raises:
            DamagedData: where that cannot be read.
        """
        path = self.directory.gaps_path
        return GapsFile.read(path) if os.path.lexists(path) else None

    @cached_property
    def labels(self) -> NDArray[np.int32] | None:
        """The class of each sample of the last finished epoch, ``(N,)``, -1 where unknown; or None."""
        found = self.data.labels
        return None if found is None else resized(found, self.history[-1].remaining, -1)

    def class_of(self, sample: int) -> str | None:
        """Return the class of a sample by name, or None."""
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
        """How the run stands, in words."""
        done, planned = len(self.epochs), self.about.epochs
        if self.finished:
            return f"finished after {planned} epoch{'s'[: planned != 1]}"
        return f"{done} of {'unknown' if planned is None else planned} epoch{'s'[: planned != 1]} done"

    @cached_property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of files that the newest state builds on, and of all once training has ended."""
        found = {} if self.search.found is None else self.search.found.files
        return self.directory.sums() | {name: digest.sha256 for name, digest in found.items()}

    def read(self, path: Path, limit: int | None = None) -> bytes:
        """Return the bytes of a file, which were held against its checksum if it has one.

        Raises:
            DamagedData: if it is not as it was written, or no regular file of at most ``limit`` bytes.
            OSError: if it cannot be read.
        """
        name = path.relative_to(self.directory.path).as_posix()
        data = self.directory.read(path, limit)
        digits = self.digests.get(name)
        found = hashlib.sha256(data).hexdigest() if digits is not None else None
        if found == digits:
            return data
        now = Run(self.directory.path).digests.get(name)
        if now is None or now == digits:  # else it was written anew since the run was first looked at
            what = f"another checksum, {str(found)[:12]} for {str(digits)[:12]}"
            raise damaged(f"{path} is not as it was written.", what, _STEP)
        self.digests[name] = now
        return self.read(path, limit)

    def read_file(self, path: Path) -> bytes:
        """Return the bytes of a file that must be there; see :meth:`read`.

        Raises:
            DamagedData: if it is missing or cannot be read.
        """
        try:
            return self.read(path, _LARGEST)
        except FileNotFoundError:
            raise damaged(f"{path} must be there.", "no such file", _STEP) from None
        except OSError as error:
            raise damaged(f"{path} must be readable.", error.strerror, _STEP) from None

    def epoch(self, epoch: int) -> EpochFile:
        """Return one past epoch: scores, reasons, what was used; the samples as they are numbered now.

        Raises:
            DamagedData: if its file, or that of the data, is not sound, or is not the one that was written.
        """
        found = self.epoch_as_written(epoch)
        return found.renumbered(self.data.numbering)

    def epoch_as_written(self, epoch: int) -> EpochFile:
        """Return one past epoch; the samples as they were numbered then.

        Raises:
            DamagedData: if its file is not sound, or is not the one that was written.
        """
        path = self.directory.epoch_path(epoch)
        return EpochFile.parse(self.read_file(path), str(path), epoch)

    def files(self) -> Iterator[EpochFile]:
        """Yield the past epochs, one in memory at a time."""
        yield from map(self.epoch, self.epochs)

    @cached_property
    def history(self) -> list[EpochRecord]:
        """The past epochs without their scores.

        Raises:
            InvalidValue: where none is finished.
        """
        if not self.epochs:
            run = quote(str(self.directory.path))
            step = f"Wait for it, or go on where training was stopped: --resume {run}."
            raise invalid(f"{self.directory.path} must have a finished epoch.", "none", step)
        for name in self.digests:
            if name.startswith("history/") and not (self.directory.path / name).exists():
                raise damaged(
                    f"{self.directory.path / name} must be there.", "none", "Put back a copy of it."
                )
        return [file.record for file in self.files()]

    @cached_property
    def last(self) -> EpochFile:
        """The last finished epoch."""
        assert self.history
        return self.epoch(self.epochs[-1])

    @cached_property
    def times_used(self) -> NDArray[np.int32]:
        """In how many of the finished epochs each sample was trained on: ``(N,)``."""
        return times_used(self.history)

    @cached_property
    def predicted(self) -> NDArray[np.int32] | None:
        """The class last predicted for each sample of the last finished epoch, ``(N,)``, -1 where unknown.

        None where none is kept.
        """
        if self.search.found is None:
            return None
        path = self.directory.checkpoints.state_path(self.search.found.number)
        try:
            with safe_open(path, framework="numpy") as state:  # it was found to be sound just now
                names = [name for name in state.keys() if name.endswith(PREDICTED)]  # noqa: SIM118
                found = state.get_tensor(names[0]) if names else None
        except (OSError, SafetensorError):  # a newer state has taken its place meanwhile
            return None
        if found is None or found.ndim != 1 or found.dtype.kind not in "iu":
            return None
        return resized(found.astype(np.int32) - 1, self.history[-1].remaining, -1)
