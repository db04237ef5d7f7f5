"""What the samples of a run are: labels, names, and a checksum of each, to tell whether data have changed."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._checks import damaged
from .headed_file import dump_headed, parse_headed, read_headed
from .schema import DataHeader

FORMAT = "fallow-data-1"
_STEP = "Put back a copy of it."
_LARGEST = 1 << 33
"""The file has at most so many bytes."""
_LONGEST = 1 << 13
"""The name of a file has at most so many bytes."""


@dataclass(frozen=True)
class DataFile:
    """``data.safetensors``.

    Attributes:
        n: how many samples.
        labels: int32 ``(n,)`` class ids, or None.
        content: uint64 ``(n,)``, a checksum of each sample, or None where the samples were not at hand.
        classes: names of the classes, or None.
        files: the file of each sample, or None.
        held_out: uint64 ``(m,)``, the checksums of the samples that accuracy is measured on, sorted; or None.
        held_out_labels: int32 ``(m,)``, their class ids, in that order; or None.
    """

    n: int
    labels: NDArray[np.int32] | None = None
    content: NDArray[np.uint64] | None = None
    classes: tuple[str, ...] | None = None
    files: tuple[str, ...] | None = None
    held_out: NDArray[np.uint64] | None = None
    held_out_labels: NDArray[np.int32] | None = None

    def dump(self) -> bytes:
        """Return the bytes of the file."""
        arrays: dict[str, NDArray[Any]] = {"n": np.array([self.n], np.int64)}
        if self.labels is not None:
            arrays["labels"] = self.labels
        if self.content is not None:
            arrays["content"] = self.content
        if self.held_out is not None:
            arrays["held_out"] = self.held_out
        if self.held_out_labels is not None:
            arrays["held_out_labels"] = self.held_out_labels
        if self.files is not None:
            names = "\0".join(self.files).encode("utf-8", "surrogateescape")
            arrays["files"] = np.frombuffer(zlib.compress(names, 3), np.uint8)
        header = {"format": FORMAT, "classes": self.classes}
        return dump_headed(arrays, header)

    @staticmethod
    def read(path: Path) -> DataFile:
        """Read the file.

        Raises:
            DamagedData: if it is missing, cut short, of another format, or says what cannot be.
        """
        return DataFile.parse(read_headed(path, _LARGEST, _STEP), str(path))

    @staticmethod
    def parse(data: bytes, path: str) -> DataFile:
        """Return what the bytes of a file hold; ``path`` names it in errors.

        Raises:
            DamagedData: as :meth:`read`.
        """
        header, arrays = parse_headed(data, path, FORMAT, DataHeader, _STEP)
        n = _length(path, arrays)
        shapes = {"labels": (np.int32, (n,)), "content": (np.uint64, (n,)), "held_out": (np.uint64, None)}
        held_out = arrays.get("held_out")
        shapes["held_out_labels"] = (np.int32, None if held_out is None else held_out.shape)
        found: dict[str, Any] = {name: arrays.get(name) for name in shapes}
        for name, (kind, shape) in shapes.items():
            part = found[name]
            if part is not None and (part.dtype != kind or part.shape != (shape or (part.size,))):
                raise damaged(
                    f"{path} must be of {n:,} samples.", f"`{name}` {part.dtype} {part.shape}", _STEP
                )
        classes = readable(None if header.classes is None else tuple(header.classes))
        _check_labels(path, found["labels"], classes)
        files = None
        if "files" in arrays:
            # Only arrays as long as n prove that there are so many samples to be named.
            proved = n if found["labels"] is not None or found["content"] is not None else 0
            files = readable(_unpacked(path, arrays["files"], proved))
        return DataFile(n, classes=classes, files=files, **found)

    def name(self, index: int) -> str | None:
        """Return the class of a sample, by name where it has one."""
        return None if self.labels is None else self.class_name(int(self.labels[index]))

    def class_name(self, label: int) -> str:
        """Return the name of a class, or its number where it has none."""
        return self.classes[label] if self.classes and 0 <= label < len(self.classes) else str(label)

    def changes(self, now: DataFile) -> list[str]:
        """Return in words what differs in the data of ``now``: length, order, content, labels.

        >>> before = DataFile(3, np.array([0, 1, 1], np.int32))
        >>> before.changes(DataFile(3, np.array([0, 0, 1], np.int32)))
        ['labels: 1 of 3 differs, the first at sample 1: it was 1 and is 0']
        """
        found = []
        if now.n != self.n:
            found.append(f"length: there were {self.n:,} samples and are {now.n:,}")
        if self.content is not None and now.content is not None:
            found += _contents(self.content, now.content)
        if (self.labels is None) != (now.labels is None):
            found.append(f"labels: there were {_some(self.labels)} and are {_some(now.labels)}")
        elif self.labels is not None and now.labels is not None:
            found += self._labels(now)
        if self.held_out is not None and now.held_out is not None:
            found += _held_out(self.held_out, now.held_out)
            if np.array_equal(self.held_out, now.held_out):
                found += _held_out_labels(self.held_out_labels, now.held_out_labels)
        if self.classes and now.classes and self.classes != now.classes:
            found.append(_class_names(self.classes, now.classes))
        return found

    def begins(self, now: DataFile) -> bool:
        """Return whether ``now`` has the same samples, held-out ones too, and further ones after them."""
        pairs = ((self.content, now.content), (self.labels, now.labels))
        same = all(a is not None and b is not None and np.array_equal(a, b[: self.n]) for a, b in pairs)
        held_out = (self.held_out, now.held_out), (self.held_out_labels, now.held_out_labels)
        return same and all(a is None or np.array_equal(a, b) for a, b in held_out if b is not None)

    def changed(self, now: DataFile) -> NDArray[np.int64]:
        """Return which samples of ``now`` are not what they were: those with another content or label."""
        n = min(self.n, now.n)
        differs = np.zeros(n, np.bool_)
        for before, after in ((self.content, now.content), (self.labels, now.labels)):
            if before is not None and after is not None:
                differs |= before[:n] != after[:n]
        return np.flatnonzero(differs)

    def leaked(self, now: DataFile) -> int:
        """Return how many samples of ``now`` were held out before and are to be trained on."""
        if self.held_out is None or self.content is None or now.content is None:
            return 0
        new = ~np.isin(now.content, self.content)
        return int(np.count_nonzero(np.isin(now.content[new], self.held_out)))

    def _labels(self, now: DataFile) -> list[str]:
        assert self.labels is not None
        assert now.labels is not None
        n = min(self.n, now.n)
        differ = np.flatnonzero(self.labels[:n] != now.labels[:n])
        if not differ.size:
            return []
        first = int(differ[0])
        return [
            f"labels: {differ.size:,} of {n:,} {_verb(differ.size)}, the first at sample {first}: "
            f"it was {self.name(first)} and is {now.name(first)}"
        ]


def _length(path: str, arrays: dict[str, NDArray[Any]]) -> int:
    found = arrays.get("n")
    if found is None or found.dtype != np.int64 or found.shape != (1,) or not 0 <= found[0] < 1 << 53:
        raise damaged(f"{path} must say how many samples there are.", f"{found!r:.60}", _STEP)
    return int(found[0])


def _check_labels(path: str, labels: NDArray[np.int32] | None, classes: Sequence[str] | None) -> None:
    if labels is None or not labels.size:
        return
    low, high = int(labels.min()), int(labels.max())
    if low < -1 or (classes is not None and high >= len(classes)):
        rule = f"Labels in {path} must be class ids, or -1 for none."
        known = "" if classes is None else f" of {len(classes):,} classes"
        raise damaged(rule, f"{low if low < -1 else high}{known}", _STEP)


def _unpacked(path: str, packed: NDArray[Any], n: int) -> tuple[str, ...]:
    """Return the names of n files, unpacked piece by piece: never more than n can need."""
    rule = f"{path} must name the files of {n:,} samples."
    if packed.dtype != np.uint8 or packed.ndim != 1:
        raise damaged(rule, f"{packed.dtype} {packed.shape}", _STEP)
    inflater, names, rest, data = zlib.decompressobj(), list[bytes](), b"", packed.tobytes()
    try:
        while data:
            parts = (rest + inflater.decompress(data, 1 << 20)).split(b"\0")
            data, rest = inflater.unconsumed_tail, parts.pop()
            names += parts
            if len(names) >= n or max(map(len, [rest, *parts])) > _LONGEST:
                break
    except zlib.error as error:
        raise damaged(rule, error, _STEP) from None
    names.append(rest)
    if data or len(names) != n or len(rest) > _LONGEST:
        raise damaged(rule, f"{len(names):,} or more" if data else f"{len(names):,}", _STEP)
    return tuple(name.decode("utf-8", "surrogateescape") for name in names)


def _contents(before: NDArray[np.uint64], now: NDArray[np.uint64]) -> list[str]:
    n = min(before.size, now.size)
    differ = np.flatnonzero(before[:n] != now[:n])
    if not differ.size:
        return []
    where = f"{differ.size:,} of {n:,} {_verb(differ.size)}, the first at sample {int(differ[0])}"
    if before.size == now.size and np.array_equal(np.sort(before), np.sort(now)):
        return [f"order: the same samples stand elsewhere, {where}"]
    new, gone = (int(np.count_nonzero(~np.isin(a, b))) for a, b in ((now, before), (before, now)))
    return [f"content: {new:,} new and {gone:,} gone; by position {where}"]


def _held_out(before: NDArray[np.uint64], now: NDArray[np.uint64]) -> list[str]:
    if np.array_equal(before, now):
        return []
    new, gone = (int(np.count_nonzero(~np.isin(a, b))) for a, b in ((now, before), (before, now)))
    return [f"held-out samples: {new:,} new and {gone:,} gone, of {before.size:,}"]


def _held_out_labels(before: NDArray[np.int32] | None, now: NDArray[np.int32] | None) -> list[str]:
    if before is None or now is None or np.array_equal(before, now):
        return []
    differ = int(np.count_nonzero(before != now))
    return [f"labels of held-out samples: {differ:,} of {before.size:,} {_verb(differ)}"]


def sorted_by_content(
    content: NDArray[np.uint64], labels: NDArray[np.int32]
) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """Return checksums, sorted, and their labels in that order."""
    order = np.lexsort((labels, content))
    return content[order], labels[order]


def _verb(count: int) -> str:
    return "differs" if count == 1 else "differ"


def _some(labels: NDArray[np.int32] | None) -> str:
    return "none" if labels is None else f"some ({labels.size:,})"


def _class_names(before: Sequence[str], now: Sequence[str]) -> str:
    for place, (old, new) in enumerate(zip(before, now, strict=False)):
        if old != new:
            return f"classes: class {place} was {old} and is {new}"
    return f"classes: there were {len(before)} and are {len(now)}"


def readable(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    r"""Return names as text that any file can hold: bytes that are not UTF-8 are spelled.

    >>> readable(("caf\udce9",))
    ('caf\\udce9',)
    """
    return None if names is None else tuple(n.encode("utf-8", "backslashreplace").decode() for n in names)


def row_checksums(rows: NDArray[np.generic]) -> NDArray[np.uint64]:
    """Return a 64-bit checksum (BLAKE2b) of the bytes of each row: ``(N, ...) -> (N,)``."""
    flat = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    return checksums(row.data for row in flat)


def checksums(rows: Iterable[bytes | memoryview]) -> NDArray[np.uint64]:
    """Return a 64-bit checksum (BLAKE2b) of each row of bytes: ``(N,)``."""
    digests = b"".join(blake2b(row, digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, "<u8").astype(np.uint64)
