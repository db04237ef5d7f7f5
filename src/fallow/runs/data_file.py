"""The samples of a run: labels, names, and checksums that detect changed data."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.label_change import Change, label_change
from ..core.numbering import Numbering
from ..errors import damaged
from ..files.array_file import dump_headed, parse_headed, read_headed
from .schema import DataHeader

FORMAT = "fallow-data-1"
_STEP = "Put back a copy of it."
_ARRAYS = {
    "labels": (np.int32, "n"),
    "content": (np.uint64, "n"),
    "identity": (np.uint64, "n"),
    "held_out": (np.uint64, "m"),
    "held_out_labels": (np.int32, "m"),
    "held_out_identity": (np.uint64, "m"),
    "origin": (np.int64, "kn"),
    "since": (np.int64, "k"),
    "cut": (np.uint64, "2"),
    "ranges": (np.float64, "4"),
}
"""The type of each array, and the lengths of its axes: n samples, m held out, k earlier numberings."""
_LARGEST = 1 << 33
"""Maximum size of the file in bytes."""
_LONGEST = 1 << 13
"""Maximum length of a file name in bytes."""


@dataclass(frozen=True)
class DataFile:
    """``data.safetensors``.

    Attributes:
        n: the number of samples.
        labels: int32 ``(n,)`` class ids, or None.
        content: uint64 ``(n,)``, a checksum of each sample, or None if the samples were not available.
        classes: names of the classes, or None.
        files: the file of each sample, or None.
        held_out: uint64 ``(m,)``, the sorted checksums of the held-out samples, or None.
        held_out_labels: int32 ``(m,)``, their class ids, in that order; or None.
        identity: uint64 ``(n,)``, a checksum of the source of each sample, the bytes of its file or its text
            alone, which does not depend on the preprocessing; None if there is only ``content``.
        held_out_identity: uint64 ``(m,)``, those of the held-out samples, in their order; or None.
        origin: int64 ``(k, n)``, the position of each sample in earlier epochs, see
            :class:`fallow.core.numbering.Numbering`; None if samples never moved.
        since: int64 ``(k,)``, the first epoch after each of these numberings; or None.
        cut: uint64 ``(2,)``, length and checksum of the beginning of a single text's held-out end.
        ranges: float64 ``(4,)``, the black and white values of deep pixels, see
            :class:`fallow.datasets.pixel_range.PixelRanges`; None for other data.
    """

    n: int
    labels: NDArray[np.int32] | None = None
    content: NDArray[np.uint64] | None = None
    classes: tuple[str, ...] | None = None
    files: tuple[str, ...] | None = None
    held_out: NDArray[np.uint64] | None = None
    held_out_labels: NDArray[np.int32] | None = None
    identity: NDArray[np.uint64] | None = None
    held_out_identity: NDArray[np.uint64] | None = None
    origin: NDArray[np.int64] | None = None
    since: NDArray[np.int64] | None = None
    cut: NDArray[np.uint64] | None = None
    ranges: NDArray[np.float64] | None = None

    def dump(self) -> bytes:
        """Return the bytes of the file."""
        arrays: dict[str, NDArray[Any]] = {"n": np.array([self.n], np.int64)}
        for name in _ARRAYS:
            if (array := getattr(self, name)) is not None:
                arrays[name] = np.ascontiguousarray(array)
        if self.files is not None:
            # NUL is the one character that no file name can hold.
            names = "\0".join(self.files).encode("utf-8", "surrogateescape")
            arrays["files"] = np.frombuffer(zlib.compress(names, 3), np.uint8)
        return dump_headed(arrays, {"format": FORMAT, "classes": self.classes})

    @staticmethod
    def read(path: Path) -> DataFile:
        """Read the file.

        Raises:
            DamagedData: if it is missing, truncated, in another format or inconsistent.
        """
        return DataFile.parse(read_headed(path, _LARGEST, _STEP), str(path))

    @staticmethod
    def parse(data: bytes, path: str) -> DataFile:
        """Return the content of a file's bytes; ``path`` names it in errors.

        Raises:
            DamagedData: as :meth:`read`.
        """
        header, arrays = parse_headed(data, path, FORMAT, DataHeader, _STEP)
        n = _length(path, arrays)
        parts: dict[str, Any] = {name: arrays.get(name) for name in _ARRAYS}
        m, k = (0 if parts[name] is None else parts[name].size for name in ("held_out", "since"))
        shapes = {"n": (n,), "m": (m,), "k": (k,), "kn": (k, n), "2": (2,), "4": (4,)}
        for name, (kind, shape) in _ARRAYS.items():
            part = parts[name]
            if part is not None and (part.dtype != kind or part.shape != shapes[shape]):
                value = f"`{name}` {part.dtype} {part.shape}"
                raise damaged(f"{path} must be of {n:,} samples.", value, _STEP)
        _check_origin(path, parts["origin"], parts["since"])
        classes = readable(None if header.classes is None else tuple(header.classes))
        _check_labels(path, parts["labels"], classes)
        files = None
        if "files" in arrays:
            # Without an array of length n, a forged n could make the names fill the memory.
            limit = n if parts["labels"] is not None or parts["content"] is not None else 0
            files = readable(_unpacked(path, arrays["files"], limit))
        return DataFile(n, classes=classes, files=files, **parts)

    @property
    def numbering(self) -> Numbering:
        """The present numbers of the samples of past epochs."""
        if self.origin is None or self.since is None:
            return Numbering.none()
        return Numbering(self.origin, self.since)

    def take(self, rows: NDArray[np.int64]) -> DataFile:
        """Return the description of some of the samples."""
        parts = {name: getattr(self, name) for name in ("labels", "content", "identity")}
        taken = {name: None if part is None else part[rows] for name, part in parts.items()}
        files = None if self.files is None else tuple(self.files[row] for row in rows.tolist())
        return replace(self, n=rows.size, files=files, **taken)

    def name(self, index: int) -> str | None:
        """Return the name of a sample's class, or its number if it has no name."""
        return None if self.labels is None else self.class_name(int(self.labels[index]))

    def class_name(self, label: int) -> str:
        """Return the name of a class, or its number if it has no name."""
        return self.classes[label] if self.classes and 0 <= label < len(self.classes) else str(label)

    def changes(self, now: DataFile) -> list[Change]:
        """Return the differences by position: number of samples, labels, class names."""
        changes = []
        if now.n != self.n:
            changes.append(Change("length", f"there were {self.n:,} samples and are {now.n:,}"))
        labels = label_change(self.labels, now.labels, self.class_name, now.class_name)
        if labels is not None:
            changes.append(labels)
        return changes + self.class_changes(now)

    def class_changes(self, now: DataFile) -> list[Change]:
        """Return the differences between the class names, if both have names."""
        if self.classes and now.classes and self.classes != now.classes:
            return [Change("classes", _class_names(self.classes, now.classes))]
        return []


def _length(path: str, arrays: dict[str, NDArray[Any]]) -> int:
    n = arrays.get("n")
    if n is None or n.dtype != np.int64 or n.shape != (1,) or not 0 <= n[0] < 1 << 53:
        raise damaged(f"{path} must hold the number of samples.", f"{n!r:.60}", _STEP)
    return int(n[0])


def _check_origin(path: str, origin: NDArray[np.int64] | None, since: NDArray[np.int64] | None) -> None:
    """Raise if the earlier numberings are invalid."""
    if (origin is None) != (since is None):
        raise damaged(f"{path} must hold `origin` and `since`.", "one of them", _STEP)
    if origin is None or since is None:
        return
    if (np.diff(since) < 0).any() or (since < 0).any():
        raise damaged(f"{path} must hold ascending epochs in `since`.", since[:8].tolist(), _STEP)
    for row in origin:  # samples that existed come first, in their old order
        known = row[row >= 0]
        if (row < -1).any() or (np.diff(known) <= 0).any() or (row[: known.size] < 0).any():
            rule = f"{path} must hold earlier positions in `origin`: ascending, then -1."
            raise damaged(rule, "another order", _STEP)


def _check_labels(path: str, labels: NDArray[np.int32] | None, classes: Sequence[str] | None) -> None:
    if labels is None or not labels.size:
        return
    low, high = int(labels.min()), int(labels.max())
    if low < -1 or (classes is not None and high >= len(classes)):
        rule = f"Labels in {path} must be class ids, or -1 for none."
        known = "" if classes is None else f" of {len(classes):,} classes"
        raise damaged(rule, f"{low if low < -1 else high}{known}", _STEP)


def _unpacked(path: str, packed: NDArray[Any], n: int) -> tuple[str, ...]:
    """Return the names of n files. They are unpacked in pieces, so that a zip bomb stops early."""
    rule = f"{path} must name the files of {n:,} samples."
    if packed.dtype != np.uint8 or packed.ndim != 1:
        raise damaged(rule, f"{packed.dtype} {packed.shape}", _STEP)
    inflater, names, rest, data = zlib.decompressobj(), list[bytes](), b"", packed.tobytes()
    try:
        while data:
            parts = (rest + inflater.decompress(data, 1 << 20)).split(b"\0")
            # The last name may go on in the next piece.
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


def held_out_order(content: NDArray[np.uint64], labels: NDArray[np.int32] | None = None) -> NDArray[np.int64]:
    """Return the order of the held-out samples in a :class:`DataFile`: by content, then label."""
    return np.argsort(content, kind="stable") if labels is None else np.lexsort((labels, content))


def held_out_arrays(
    content: NDArray[np.uint64],
    labels: NDArray[np.int32] | None = None,
    identity: NDArray[np.uint64] | None = None,
) -> dict[str, Any]:
    """Return the arrays of a :class:`DataFile` that describe the held-out samples, by name."""
    order = held_out_order(content, labels)
    arrays = {"held_out": content, "held_out_labels": labels, "held_out_identity": identity}
    return {name: None if array is None else array[order] for name, array in arrays.items()}


def _class_names(before: Sequence[str], now: Sequence[str]) -> str:
    new = [name for name in dict.fromkeys(now) if name not in before]
    gone = [name for name in dict.fromkeys(before) if name not in now]
    phrases = []
    for names, word in ((new, "new"), (gone, "gone")):
        if names:
            more, verb = ", ..." if len(names) > 3 else "", "is" if len(names) == 1 else "are"
            phrases.append(f"{', '.join(names[:3])}{more} {verb} {word}")
    return "; ".join(phrases) or "they are in another order"


def readable(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    r"""Return names with bytes that are not UTF-8 as escapes, so that any file can hold them.

    >>> readable(("caf\udce9",))
    ('caf\\udce9',)
    """
    if names is None:
        return None
    # The same objects if nothing is escaped, as a folder may have millions of them.
    return tuple(n if n.isascii() else n.encode("utf-8", "backslashreplace").decode() for n in names)
