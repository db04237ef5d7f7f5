"""A run as it is served: opened anew when its files change, read in parts, of use while a part is damaged."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.history import EpochRecord, resized
from ..errors import DamagedData, invalid
from ..report.classes import Exposure, exposure
from ..report.source import Source
from ..runs.checkpoints import Search
from ..runs.data_file import DataFile
from ..runs.epoch_file import EpochFile
from ..runs.epoch_part import Rows, read_other, read_record, read_rows
from ..runs.run_files import RunFiles
from .bounded import Bounded
from .images import Images
from .places import Places

_WATCHED = re.compile(
    r"config\.yaml|data(-\d+)?\.safetensors|summary\.json|environment\.json|SHA256SUMS|gaps\.safetensors"
    r"|picks-\d+\.csv|ticks\.jsonl|(added|labels)-\d+\.csv"
)
"""Files in the folder of a run that answers depend on, besides ``history`` and ``state``."""
_TRIES = 5


def stamp_of(path: Path) -> str:
    """Return what changes when a file is written: its size and time; empty if there is none."""
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return ""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"


def stamp(run: Path) -> str:
    """Return what changes whenever a file of a run is written: from names, sizes and times alone."""
    lines = []
    for folder in ("", "history", "state"):
        with suppress(OSError), os.scandir(run / folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or (not folder and not _WATCHED.fullmatch(entry.name)):
                    continue
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    lines.append(
                        f"{folder}/{entry.name} {status.st_size} {status.st_mtime_ns} {status.st_ino}"
                    )
    return hashlib.blake2b(
        "\n".join(sorted(lines)).encode("utf-8", "surrogateescape"), digest_size=12
    ).hexdigest()


class Memory:
    """What stays in memory when runs are opened anew: the records of epochs, and the description of samples.

    Both never change once they are written, so that a file is known by its size and time.
    """

    def __init__(self) -> None:
        self.records: Bounded[EpochRecord] = Bounded(1 << 27, lambda record: record.used_bits.nbytes + 2048)
        self.data: Bounded[DataFile] = Bounded(1 << 27, _size_of)


def _size_of(data: DataFile) -> int:
    parts = (data.labels, data.content, data.identity, data.held_out, data.origin)
    arrays = sum(0 if part is None else part.nbytes for part in parts)
    return arrays + (0 if data.files is None else 150 * len(data.files)) + 4096


class ServedRun(RunFiles):
    """The files of a run at one moment.

    Its state is known by the manifest alone, and past epochs by their aggregates and bits of use. An epoch
    that cannot be read is left out and named in :attr:`damage`.

    Args:
        path: the folder.
        name: what the run is called.
        memory: of the server.
        images: the folder of images that it was trained on, or None.

    Attributes:
        damage: what is wrong, by the file's name.
        stamp: of the files when they were opened.
        lock: for the parts that are read at their first use.

    Raises:
        InvalidValue: if there is no run.
    """

    def __init__(self, path: Path, name: str, memory: Memory, images: Images | None = None) -> None:
        self.stamp = stamp(path)
        super().__init__(path)
        self.name = name
        self.damage: dict[str, str] = {}
        self.lock = threading.RLock()
        self._memory = memory
        self.images = images

    @cached_property
    def places(self) -> Places:
        """The places that must not be told."""
        folders = [(self.directory.path, self.name)]
        data = self.options.get("data")
        if isinstance(data, str) and os.path.isabs(data):
            folders.append((Path(data), Path(data).name or "data"))
        return Places(folders)

    @cached_property
    def source(self) -> Source:
        """What pages and reports are made from."""
        return Source(self)

    @cached_property
    def exposure(self) -> Exposure | None:
        """The use of each class; None without labels."""
        return exposure(self.source)

    @cached_property
    def search(self) -> Search:
        """The newest state by its manifest, without reading the state itself."""
        checkpoints, damage = self.directory.checkpoints, list[str]()
        for _ in range(_TRIES):
            numbers = checkpoints.numbers()
            for number in reversed(numbers[-4:]):
                try:
                    found = checkpoints.manifest(number)
                    if not checkpoints.state_path(number).exists():
                        raise FileNotFoundError
                    return Search(found, damage)
                except FileNotFoundError:  # not finished, or removed since
                    continue
                except DamagedData as error:
                    damage.append(str(error))
                    self.damage[f"state/{number:06d}.json"] = str(error)
            if checkpoints.numbers() == numbers:
                break
        return Search(None, damage)

    @cached_property
    def epochs(self) -> list[int]:
        """The finished epochs that can be read, ascending."""
        return sorted(self._records)

    @property
    def known_unread(self) -> str:
        """:attr:`unread` if the epochs have been read already: this reads nothing."""
        return self.unread if "epochs" in vars(self) else ""

    @cached_property
    def _records(self) -> dict[int, EpochRecord]:
        found = {}
        for epoch in self.directory.epochs():
            path = self.directory.epoch_path(epoch)
            try:
                status = os.lstat(path)
                key = (str(path), status.st_size, status.st_mtime_ns, status.st_ino)
                record = self._memory.records.get(key)
                if record is None:
                    record = read_record(path, epoch)
                    self._memory.records.put(key, record)
                found[epoch] = record
            except FileNotFoundError:
                continue
            except (DamagedData, OSError) as error:
                self.damage[f"history/{path.name}"] = str(error)
        # Whole files are compared with their checksums when they are read. The last one is needed everywhere.
        while found and (last := max(found)) not in self._whole:
            try:
                self._whole[last] = RunFiles.epoch_as_written(self, last)
            except DamagedData as error:
                self.damage[f"history/{self.directory.epoch_path(last).name}"] = str(error)
                del found[last]
        missing = [name for name in self.digests if name.startswith("history/epoch-")]
        for name in missing:
            if not (self.directory.path / name).exists():
                self.damage.setdefault(name, f"{name} is gone. Put back a copy of it.")
        return found

    @cached_property
    def _whole(self) -> dict[int, EpochFile]:
        return {}

    @cached_property
    def digests(self) -> dict[str, str]:
        """The known checksums; those of a damaged list are not."""
        try:
            return super().digests
        except DamagedData as error:
            self.damage["SHA256SUMS"] = str(error)
            return {}

    @cached_property
    def data(self) -> DataFile:
        """The description of the samples, from memory if its file is the same."""
        self.directory.data_name = self.about.data
        with suppress(OSError):
            status = os.lstat(self.directory.data_path)
            key = (str(self.directory.data_path), status.st_size, status.st_mtime_ns, status.st_ino)
            data = self._memory.data.get(key)
            if data is None:
                data = super().data
                self._memory.data.put(key, data)
            self.directory.numbering = data.numbering
            return data
        return super().data

    @cached_property
    def history(self) -> list[EpochRecord]:
        """The past epochs that can be read, without their scores, in the present numbering."""
        if not self.epochs:
            raise invalid("A run must have a finished epoch.", "none", "Wait for the first one.")
        try:
            numbering = self.data.numbering
        except DamagedData as error:
            self.damage[self.about.data] = str(error)
            raise
        records = (self._records[epoch] for epoch in self.epochs)
        return [record.renumbered(numbering.places(record.epoch, record.n)) for record in records]

    def epoch_as_written(self, epoch: int) -> EpochFile:
        """Return one past epoch in its own numbering; the last one is kept."""
        whole = self._whole.get(epoch)
        if whole is not None:
            return whole
        try:
            return super().epoch_as_written(epoch)
        except DamagedData as error:
            self.damage[f"history/{self.directory.epoch_path(epoch).name}"] = str(error)
            raise

    def rows(self, epoch: int, index: NDArray[np.int64]) -> Rows:
        """Return some samples in one past epoch, reading nothing else."""
        places = self.data.numbering.places(epoch, self._records[epoch].n)
        try:
            return read_rows(self.directory.epoch_path(epoch), index if places is None else places[index])
        except OSError as error:
            raise DamagedData(f"Epoch {epoch} must be readable. Found {error.strerror}.") from None

    def other(self, epoch: int, sample: int) -> int | None:
        """Return which other class a sample was taken for in a past epoch; None: its own, or unknown."""
        places = self.data.numbering.places(epoch, self._records[epoch].n)
        try:
            there = sample if places is None else int(places[sample])
            return read_other(self.directory.epoch_path(epoch), there)
        except OSError as error:
            raise DamagedData(f"Epoch {epoch} must be readable. Found {error.strerror}.") from None

    @cached_property
    def labels(self) -> NDArray[np.int32] | None:
        """The class of each sample of the last epoch, or None."""
        labels = self.data.labels
        if labels is None:
            return None
        n = self.history[-1].remaining
        return labels if labels.size == n else resized(labels, n, -1)

    @cached_property
    def shown_rows(self) -> dict[int, int]:
        """The row of each sample that the run keeps a picture or text of; nothing if they cannot be read."""
        try:
            shown = self.shown
        except DamagedData as error:
            self.damage["history/shown.safetensors"] = str(error)
            return {}
        return {} if shown is None else {sample: row for row, sample in enumerate(shown.index.tolist())}

    def has_picture(self, sample: int) -> bool:
        """Return whether there should be a picture of a sample: one that the run keeps, or its file."""
        return self.keeps_picture(sample) or self.image(sample) is not None

    def keeps_picture(self, sample: int) -> bool:
        """Return whether the run keeps a picture of a sample."""
        return sample in self.shown_rows and self.shown is not None and self.shown.pictures is not None

    def image(self, sample: int) -> Path | None:
        """Return where the image of a sample should be; None if no folder of images was named."""
        if self.images is None:
            return None
        data = self.options.get("data")
        return self.images.path(self.file_of(sample), data if isinstance(data, str) else None)

    def text(self, sample: int) -> str | None:
        """Return the beginning of a sample, if it is a text that the run keeps."""
        row = self.shown_rows.get(sample)
        if row is None or self.shown is None or self.shown.texts is None:
            return None
        return self.shown.texts[row]
