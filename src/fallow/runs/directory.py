"""The folder of a run: one writer, whole files, read without torch, no pickle.

RUN/config.yaml  environment.json     the options; machine and versions, a line per session
data.safetensors                  labels, class names, a checksum of each sample's content
tokenizer.json                    the tokenizer of texts
history/epoch-00000.safetensors   one per finished epoch, never changed again
history/shown.safetensors         pictures of the samples that the report shows
state/000012.safetensors .json    generations of the whole state, the newest two
added-000.csv  labels-000.csv     lists of collected samples that were added, and of corrected labels
model.safetensors  summary.json  samples.csv  usage.png  usage.svg    once training has ended
gaps.safetensors  picks-000.csv .html  report.html  ticks.jsonl    results of later commands
pushed.json                       in a run that another machine has pushed; it has no network to resume
SHA256SUMS                        of all of these, written last; `sha256sum -c` reads it
lock                              held by the writing process
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import Any

from ..core.numbering import Numbering
from ..errors import DamagedData as DamagedData
from ..errors import damaged, invalid, invalid_type
from ..files.checked_json import MAX_EPOCHS, finite
from ..files.disk import DISK, Digest, Disk, is_temporary, remove_temporaries
from ..files.lock import RunLock
from ..files.regular_file import check_folder, kind_of, read_regular
from ..import_path import run_around
from .checkpoints import Checkpoints
from .epoch_file import EpochFile
from .pushed import NAME as PUSHED

_EPOCH = re.compile(r"epoch-([0-9]{5})\.safetensors")
_OWN = re.compile(
    r"history/.*|data(-\d+)?\.safetensors|density\.safetensors|model\.safetensors|summary\.json|environment\.json|config\.yaml"
    r"|tokenizer\.json|samples\.csv|usage\.(png|svg)|(added|labels)-\d+\.csv"
)
_LOGS = "logs"
_SUM = re.compile(r"([0-9a-f]{64})  (\S.*)")
_FOLDERS = ("", "history", "state")
_WRITTEN = ("history", "state", _LOGS, "checkpoints", "export")
"""Folders of a run that are written into."""
_LARGEST_SUMS = 1 << 24
# They change after the run is sealed: the lock, the list itself, and what later commands write.
_UNSEALED = ("lock", "SHA256SUMS", "report.html", "gaps.safetensors", "ticks.jsonl", PUSHED)
_LIST = re.compile(r"(added|labels)-\d+\.csv")
_PICKS = re.compile(r"picks-\d+\.(csv|html)|suspects[^/]*\.csv")


def check_output(path: Path, own: str = "", option: str = "--out") -> None:
    """Raise if an output path is inside a run, or inside a run of a comparison.

    Args:
        path: the output path.
        own: a pattern for names that are allowed directly in the folder of a run.
        option: the option that names the path.

    Raises:
        InvalidValue: with the folder of the run.
    """
    folder = run_around(path.parent)
    if folder is None:
        return
    name = os.path.relpath(os.path.join(os.path.realpath(path.parent), path.name), os.path.realpath(folder))
    if not re.fullmatch(own, name):
        step = f"Omit {option}, or name a place outside the run."
        raise invalid(f"{option} must not be among the files of a run.", f"{name} in {folder}", step)


def run_of_list(path: Path) -> Path | None:
    """Return the folder of a list that is named like one of a run; None for a list of the user's own.

    A run may come from anybody, so that no links are followed in it.
    """
    return path.parent if _LIST.fullmatch(path.name) else None


class RunDirectory:
    """The files of one run.

    Args:
        path: the folder.
        disk: performs the writing.

    Attributes:
        path, disk: as given.
        checkpoints: the generations of the state.
        digests: the checksum of each file that this process wrote or checked, by path within the folder.
        data_name: the name of the file that describes the samples; it changes with the samples.
        lost: past epochs whose files are lost.
        numbering: the present numbers of the samples of past epochs.
    """

    def __init__(self, path: str | os.PathLike[str], disk: Disk = DISK) -> None:
        if not isinstance(path, str | os.PathLike):
            raise invalid_type("A run must be named by the path of its folder.", repr(path))
        self.path, self.disk = Path(path), disk
        self.checkpoints = Checkpoints(self.path, disk)
        self.digests: dict[str, Digest] = {}
        self.data_name = "data.safetensors"
        self.lost: set[int] = set()
        self.numbering = Numbering.none()
        self._lock: RunLock | None = None
        self._created = False

    @staticmethod
    def create(path: str | os.PathLike[str], disk: Disk = DISK) -> RunDirectory:
        """Create the folder of a new run and lock it for writing.

        Raises:
            InvalidValue: if the folder is not empty, or cannot be created.
            WrongState: if another process writes in it.
        """
        run = RunDirectory(path, disk)
        run.check_new()
        try:
            run._check_folders()
            disk.make_folder(run.path / "history")
            run._lock = RunLock(run.path)
            run._created = True
            remove_temporaries(run.path, disk)  # only under the lock: they may belong to another process
        except OSError as error:
            run.release()
            raise invalid("The out directory must be writable.", f"{path}: {error.strerror}") from None
        except BaseException:  # also KeyboardInterrupt; the lock of another process stays
            if run._lock is not None:
                run.discard()
                run.release()
            raise
        return run

    def check_new(self) -> None:
        """Raise if the folder is not empty.

        Raises:
            InvalidValue: with its content and the next step.
        """
        if self.path.is_dir() and not self._is_untouched():
            holds, step = "other files", "Name another."
            if self.summary_path.exists() or self.config_path.exists():
                holds, step = "a run", f"Name another, or resume the run: --resume {quote(str(self.path))}."
            elif self.checkpoints.numbers() or self.epochs():
                holds = "a run of a training loop"
            raise invalid("The out directory must be new or empty.", f"{holds} in {self.path}", step)

    def _is_untouched(self) -> bool:
        """Return whether the folder is empty, or holds only the leftovers of a run killed at its start."""
        names = {path.relative_to(self.path).as_posix() for path in self.path.rglob("*")}
        temporary = {name for name in names if is_temporary(Path(name).name)}
        return names - temporary <= {"lock", *_FOLDERS}

    @staticmethod
    def reopen(path: str | os.PathLike[str], disk: Disk = DISK) -> RunDirectory:
        """Return the folder of a run to resume, and lock it for writing.

        Raises:
            InvalidValue: if there is no run, or the folder cannot be written.
            DamagedData: if a folder that is written into is a link, or holds a link, FIFO or device.
            WrongState: if another process writes in it.
        """
        run = RunDirectory(path, disk)
        run.check()
        if os.path.lexists(run.path / PUSHED):
            step = "Resume it on the machine that it was pushed from."
            raise invalid("A run that is resumed must have its network.", f"{path}, which was pushed", step)
        run._check_folders()
        for name, kind in run.irregular().items():
            if Path(name).parts[0] in _WRITTEN:  # writing through a link would change its target
                rule = f"{run.path / name} must be a regular file."
                raise damaged(rule, kind, "Remove it: fallow does not write such files.")
        try:
            run._lock = RunLock(run.path)
            disk.make_folder(run.path / "history")
            for name in _FOLDERS:
                remove_temporaries(run.path / name, disk)
        except OSError as error:
            run.release()
            raise invalid("The run directory must be writable.", f"{path}: {error.strerror}") from None
        return run

    def _check_folders(self) -> None:
        """Raise if a folder that is written into is a link or not a folder."""
        for name in _WRITTEN:
            check_folder(self.path / name, self.path)

    def entries(self) -> Iterator[os.DirEntry[str]]:
        """Yield all entries in the folder except folders, at any depth; links are not followed."""
        folders = [os.fspath(self.path)]
        while folders:
            try:
                with os.scandir(folders.pop()) as listing:
                    # Sorted, since file systems list in different orders.
                    entries = sorted(listing, key=lambda entry: entry.name)
            # A training may have removed the folder meanwhile; one without permission cannot be listed.
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                continue
            folders += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            yield from (entry for entry in entries if not entry.is_dir(follow_symlinks=False))

    def irregular(self) -> dict[str, str]:
        """Return the kind of each entry that is not a regular file, by path within the folder."""
        kinds, logs = {}, (self.path / _LOGS).resolve()
        for entry in self.entries():
            mode = entry.stat(follow_symlinks=False).st_mode
            name = Path(entry.path).relative_to(self.path)
            # Trackers leave links in `logs`, which are fine if they stay in there.
            inside = name.parts[0] == _LOGS and Path(os.path.realpath(entry.path)).is_relative_to(logs)
            if not stat.S_ISREG(mode) and not (inside and stat.S_ISLNK(mode)):
                kinds[name.as_posix()] = kind_of(mode)
        return kinds

    def read(self, path: Path, limit: int | None = None) -> bytes:
        """Return the bytes of a file of the run; see :func:`fallow.files.regular_file.opened`."""
        return read_regular(path, self.path, limit)

    def check(self) -> None:
        """Raise if the folder does not hold a run."""
        if not self.path.is_dir():
            raise invalid("A run directory must exist.", self.path, "Name the folder that --out named.")
        if not (self.config_path.exists() or self.checkpoints.numbers() or self.epochs()):
            step = "Name the folder of a run, or start one with fallow train --data ... --out."
            if (self.path / "lock").exists():
                step = "A training has started there and not read its data yet: wait, or start it again."
            raise invalid("A run directory must hold a run.", f"no config.yaml in {self.path}", step)

    @property
    def locked(self) -> bool:
        """Whether this object holds the lock."""
        return self._lock is not None

    def lock(self) -> None:
        """Lock the folder again; see :meth:`reopen` for errors."""
        self._lock = self._lock or RunLock(self.path)

    def release(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def discard(self) -> None:
        """Remove the files of a run that has not trained; other files stay."""
        state = self.checkpoints.newest().found
        if self.epochs() or (state is not None and (state.about.epoch or state.about.recorded)):
            return
        paths = [self.config_path, self.environment_path, self.data_path]
        paths += [self.thumbnails_path, self.tokenizer_path]
        for number in self.checkpoints.numbers():
            paths += [self.checkpoints.manifest_path(number), self.checkpoints.state_path(number)]
        paths += [path for path in self.path.glob("*-*.csv") if self.is_list(path.name)]
        paths.append(self.path / "lock")
        with suppress(OSError):
            for name in _FOLDERS:
                remove_temporaries(self.path / name)
            for path in paths:
                path.unlink(missing_ok=True)
            # A resumed run may have older logs.
            if self._created:
                shutil.rmtree(self.path / _LOGS, ignore_errors=True)
        for name in reversed(_FOLDERS):  # rmdir fails, as it should, on a folder that is not empty
            with suppress(OSError):
                (self.path / name).rmdir()

    @property
    def config_path(self) -> Path:
        """``config.yaml``: the options of the run."""
        return self.path / "config.yaml"

    @property
    def environment_path(self) -> Path:
        """``environment.json``: machine and versions of each session."""
        return self.path / "environment.json"

    @property
    def data_path(self) -> Path:
        """``data.safetensors``: the description of the samples."""
        return self.path / self.data_name

    @property
    def tokenizer_path(self) -> Path:
        """``tokenizer.json``: the tokenizer of texts."""
        return self.path / "tokenizer.json"

    @property
    def thumbnails_path(self) -> Path:
        """``history/shown.safetensors``: pictures of the samples that the report shows."""
        return self.path / "history" / "shown.safetensors"

    @property
    def summary_path(self) -> Path:
        """``summary.json``: accuracy, samples, seconds."""
        return self.path / "summary.json"

    @property
    def model_path(self) -> Path:
        """``model.safetensors``: the weights."""
        return self.path / "model.safetensors"

    @property
    def density_path(self) -> Path:
        """``density.safetensors``: the density of the activations, if it scored the samples."""
        return self.path / "density.safetensors"

    @property
    def gaps_path(self) -> Path:
        """``gaps.safetensors``: the last result of ``fallow gaps``."""
        return self.path / "gaps.safetensors"

    @property
    def samples_path(self) -> Path:
        """``samples.csv``: one line per sample."""
        return self.path / "samples.csv"

    @property
    def sums_path(self) -> Path:
        """``SHA256SUMS``: the checksum of every file, once training has ended."""
        return self.path / "SHA256SUMS"

    def epoch_path(self, epoch: int) -> Path:
        """``history/epoch-00000.safetensors``: one epoch."""
        return self.path / "history" / f"epoch-{epoch:05d}.safetensors"

    def put(self, path: Path, data: bytes) -> None:
        """Write a file atomically."""
        self.digests[path.relative_to(self.path).as_posix()] = self.disk.put(path, data)

    def write_text(self, path: Path, text: str) -> None:
        """Write a text file atomically."""
        self.put(path, text.encode())

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write ``summary.json``; a value that is not finite becomes null."""
        self.write_text(self.summary_path, json.dumps(finite(summary), indent=2) + "\n")

    def write_epoch(self, file: EpochFile) -> None:
        """Write one epoch's file."""
        self.put(self.epoch_path(file.record.epoch), file.dump())

    def read_epoch(self, epoch: int) -> EpochFile:
        """Read one epoch's file, in the present numbering.

        Raises:
            DamagedData: if it is missing, truncated or in another format.
        """
        return EpochFile.read(self.epoch_path(epoch), epoch).renumbered(self.numbering)

    def parse_epoch(self, data: bytes, epoch: int) -> EpochFile:
        """Return an epoch from the bytes in the state, if its file could not be written."""
        file = EpochFile.parse(data, f"epoch {epoch} in the state of {self.path}", epoch)
        return file.renumbered(self.numbering)

    def epochs(self) -> list[int]:
        """Return the epochs that have a file, ascending."""
        names = (_EPOCH.fullmatch(path.name) for path in (self.path / "history").glob("epoch-*"))
        return sorted(int(name[1]) for name in names if name and int(name[1]) < MAX_EPOCHS)

    def needed(self, epochs: int) -> dict[str, Digest]:
        """Return the checksums of the files that a state after ``epochs`` epochs needs."""
        paths = [self.epoch_path(epoch) for epoch in range(epochs) if epoch not in self.lost]
        paths += [self.tokenizer_path] if self.tokenizer_path.name in self.digests else []
        names = [path.relative_to(self.path).as_posix() for path in (self.data_path, *paths)]
        return {name: self.digests[name] for name in names}

    def seal(self) -> None:
        """Write ``SHA256SUMS``, so that later changes of files are detected."""
        digests = ((name, Digest.of_file(self.path / name, self.path)) for name in self.sealed())
        lines = [f"{digest.sha256}  {name}\n" for name, digest in digests]
        self.write_text(self.sums_path, "".join(lines))

    def sealed(self) -> list[str]:
        """Return the sorted paths of the files that ``SHA256SUMS`` must list."""
        files = [Path(entry.path) for entry in self.entries() if entry.is_file(follow_symlinks=False)]
        return sorted(path.relative_to(self.path).as_posix() for path in files if self._is_sealed(path))

    def is_list(self, name: str) -> bool:
        """Return whether a name is that of a list of added samples or corrected labels in a run."""
        return bool(_LIST.fullmatch(name))

    def next_csv(self, name: str) -> Path:
        """Return the path of the next numbered table, such as ``added-000.csv``."""
        number = 0
        while (path := self.path / f"{name}-{number:03d}.csv").exists():
            number += 1
        return path

    def is_own(self, name: str) -> bool:
        """Return whether a file name is one that a run writes."""
        return bool(_OWN.fullmatch(name))

    def unseal(self) -> None:
        """Remove ``SHA256SUMS`` before the files change again."""
        if self.sums_path.exists():
            self.disk.remove(self.sums_path)
            # Otherwise a power cut could bring back a list with the old checksums.
            self.disk.sync_folder(self.path)

    def sums(self) -> dict[str, str]:
        """Return the SHA-256 of each file in ``SHA256SUMS``; nothing if it does not exist.

        Raises:
            DamagedData: if the list is invalid.
        """
        path = self.sums_path
        try:
            text = self.read(path, _LARGEST_SUMS).decode()
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise damaged(f"{path} must be readable.", error) from None
        if not text.endswith("\n"):
            raise damaged(f"{path} must end with a whole line.", f"{text[-20:]!r}")
        digests = {}
        # Not splitlines(), which splits at further characters that a file name may hold.
        for line in text.removesuffix("\n").split("\n"):
            match = _SUM.fullmatch(line)
            if match is None:
                raise damaged(f"{path} must hold a checksum and a name per line.", f"{line!r:.60}")
            digests[match[2]] = match[1]
        return digests

    def _is_sealed(self, path: Path) -> bool:
        inside = path.relative_to(self.path)
        if inside.name.startswith(".") or inside.name in _UNSEALED or _PICKS.fullmatch(inside.name):
            return False
        return len(inside.parts) == 1 or inside.parts[0] == "history"
