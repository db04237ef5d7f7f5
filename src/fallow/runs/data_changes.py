"""What has happened to the samples of a run since: each is known by its checksum, wherever it stands."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..arrays.matching import matched_in_turn
from ..core.label_change import Change
from .data_file import DataFile

Sums = NDArray[np.uint64]
_FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


@dataclass(frozen=True, eq=False)
class Samples:
    """What some samples are known by.

    Attributes:
        content: uint64 ``(N,)``, checksums of what a network sees.
        identity: uint64 ``(N,)``, checksums of what that was made of; or None.
        labels: class ids ``(N,)``, or None.
    """

    content: Sums
    identity: Sums | None = None
    labels: NDArray[np.integer] | None = None

    @staticmethod
    def trained(data: DataFile) -> Samples | None:
        """Return the samples that are trained on; None without checksums."""
        return None if data.content is None else Samples(data.content, data.identity, data.labels)

    @staticmethod
    def held_out(data: DataFile) -> Samples | None:
        """Return the samples that are held out; None without checksums."""
        if data.held_out is None:
            return None
        return Samples(data.held_out, data.held_out_identity, data.held_out_labels)

    def __len__(self) -> int:
        return int(self.content.size)

    def beside(self, other: Samples) -> Samples:
        """Return these samples and others after them."""
        pairs = ((self.identity, other.identity), (self.labels, other.labels))
        identity, labels = (None if a is None or b is None else np.concatenate([a, b]) for a, b in pairs)
        return Samples(np.concatenate([self.content, other.content]), identity, labels)

    def found_in(self, before: Samples) -> NDArray[np.int64]:
        """Return where each of these stood among others, -1 for a new one; one to one: ``(N,)``.

        Of several equal ones, those with the same label are matched first, then those in the same order.
        """
        pairs = []
        if self.identity is not None and before.identity is not None:
            pairs.append((before.identity, self.identity))
        pairs.append((before.content, self.content))
        turns: list[tuple[Sums, Sums]] = []
        for old, new in pairs:
            if self.labels is not None and before.labels is not None:
                turns.append((_labelled(old, before.labels), _labelled(new, self.labels)))
            turns.append((old, new))
        return matched_in_turn([old for old, _ in turns], [new for _, new in turns])

    def known_to(self, before: DataFile) -> NDArray[np.bool_] | None:
        """Return which of these a run has trained on, one to one: ``(N,)``; None where nobody can tell."""
        old = Samples.trained(before)
        return None if old is None else self.found_in(old) >= 0

    def are_in(self, others: Samples) -> NDArray[np.bool_]:
        """Return which of these are copies of any of the others: ``(N,)``."""
        found = np.isin(self.content, others.content)
        if self.identity is not None and others.identity is not None:
            found |= np.isin(self.identity, others.identity)
        return found


def sides(before: DataFile, now: Samples) -> NDArray[np.int8]:
    """Return on which side of a run each sample was: 1 held out, -1 trained on, 0 where it is new: ``(N,)``.

    A further copy of a known sample goes where that is.
    """
    trained, held = Samples.trained(before), Samples.held_out(before)
    assert trained is not None
    every = trained if held is None else trained.beside(held)
    at = now.found_in(every)
    found = np.where(at < 0, 0, np.where(at < len(trained), -1, 1)).astype(np.int8)
    if held is not None:
        found[(at < 0) & now.are_in(held)] = 1
    found[(at < 0) & now.are_in(trained)] = -1
    return found


def known_first(origin: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return an order in which known samples stand as they stood, and new ones after them; None as it is.

    >>> known_first(np.array([1, -1, 0])).tolist()
    [2, 0, 1]
    """
    last = np.iinfo(np.int64).max
    order = np.argsort(np.where(origin < 0, last, origin), kind="stable")
    return None if np.array_equal(order, np.arange(order.size)) else order


@dataclass(frozen=True, eq=False)
class Changes:
    """How the samples of a run differ from what they were.

    Attributes:
        origin: int64 ``(N,)``, where each sample stood, -1 for a new one; None where nobody can tell.
        gone: how many are not there any more.
        relabelled, remade: int64, those that have another label, or other content made of the same thing.
        held_out: how many held-out samples are ``same``, ``gone``, ``new`` and ``relabelled``; or None.
        leaked: how many were held out and are to be trained on.
        renamed: whether files are called otherwise than they were.
        by_position: differences found without checksums, and those of the classes.
    """

    origin: NDArray[np.int64] | None
    gone: int = 0
    relabelled: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    remade: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    held_out: dict[str, int] | None = None
    leaked: int = 0
    renamed: bool = False
    by_position: tuple[Change, ...] = ()

    @staticmethod
    def of(before: DataFile, now: DataFile) -> Changes:
        """Return what has changed from ``before`` to ``now``."""
        old, new = Samples.trained(before), Samples.trained(now)
        if old is None or new is None:
            return Changes(None, by_position=tuple(before.changes(now)))
        if classes := before.class_changes(now):
            now = _with_ids_of(before, now)
            new = Samples(new.content, new.identity, now.labels)
        origin = new.found_in(old)
        known = np.flatnonzero(origin >= 0)
        there = origin[known]
        relabelled = known[:0]
        if old.labels is not None and new.labels is not None:
            relabelled = known[new.labels[known] != old.labels[there]]
        held, leaked = Samples.held_out(before), 0
        if held is not None:
            leaked = int(np.count_nonzero(new.are_in(held) & ~new.are_in(old)))
        return Changes(
            origin,
            gone=len(old) - known.size,
            relabelled=relabelled,
            remade=known[new.content[known] != old.content[there]],
            held_out=_held_out(held, Samples.held_out(now)),
            leaked=leaked,
            renamed=before.files != now.files,
            by_position=tuple(classes),
        )

    @property
    def new(self) -> int:
        """How many samples are new."""
        return 0 if self.origin is None else int(np.count_nonzero(self.origin < 0))

    @property
    def moved(self) -> NDArray[np.int64] | None:
        """Where each sample stood, as :attr:`origin`; None where all stand where they stood."""
        if self.origin is None or (not self.gone and not self.new and known_first(self.origin) is None):
            return None
        return self.origin

    @property
    def only_added(self) -> bool:
        """Whether there are more samples than there were, and nothing else has changed."""
        held = self.held_out or {}
        lost = self.gone + self.relabelled.size + self.remade.size + self.leaked
        return bool(self.new) and not (lost or self.by_position or any(held[k] for k in held if k != "same"))

    def __bool__(self) -> bool:
        """Return whether the samples, their labels or the held-out part differ."""
        held = self.held_out or {}
        some = self.new + self.gone + self.relabelled.size + self.remade.size
        return bool(some or self.by_position or any(held[kind] for kind in held if kind != "same"))

    def describe(self, noun: str) -> str:
        """Return it in plain words; ``noun`` is what a sample is called.

        >>> held_out = {"same": 240, "gone": 2, "new": 0, "relabelled": 0}
        >>> Changes(np.array([0, -1]), gone=3, held_out=held_out).describe("image")
        '1 image is new, 3 are gone; held out: 240 images as before, 2 gone'
        """
        counts = [
            (self.new, "is new", "are new"),
            (self.gone, "is gone", "are gone"),
            (self.relabelled.size, "has another label", "have another label"),
            (self.remade.size, "is read otherwise", "are read otherwise"),
        ]
        said: list[str] = []
        for count, one, many in counts:
            if count:
                what = "" if said else f" {_plural(count, noun)}"
                said.append(f"{count:,}{what} {one if count == 1 else many}")
        parts = [", ".join(said)] if said else []
        if (held := self.held_out) is not None:
            more = [
                f"{held[kind]:,} {words}"
                for kind, words in (("gone", "gone"), ("new", "new"), ("relabelled", "with another label"))
                if held[kind]
            ]
            same = f"{held['same']:,} {_plural(held['same'], noun)} as before"
            parts.append(f"held out: {', '.join([same, *more])}")
        return "; ".join([*parts, *map(str, self.by_position)])


def _with_ids_of(before: DataFile, now: DataFile) -> DataFile:
    """Return the samples with the class ids of before: a class is the same if it is called the same."""
    assert before.classes is not None
    assert now.classes is not None
    numbers: dict[str, int] = {}
    for name in (*before.classes, *now.classes):
        numbers.setdefault(name, len(numbers))
    ids = np.array([*(numbers[name] for name in now.classes), -1], np.int32)  # -1 is no class

    def renamed(labels: NDArray[np.int32] | None) -> NDArray[np.int32] | None:
        return None if labels is None else ids[np.where(labels < len(ids) - 1, labels, -1)]

    return replace(now, labels=renamed(now.labels), held_out_labels=renamed(now.held_out_labels))


def _held_out(before: Samples | None, now: Samples | None) -> dict[str, int] | None:
    if before is None or now is None:
        return None
    at = now.found_in(before)
    known = np.flatnonzero(at >= 0)
    relabelled = 0
    if before.labels is not None and now.labels is not None:
        relabelled = int(np.count_nonzero(now.labels[known] != before.labels[at[known]]))
    gone, new = len(before) - known.size, len(now) - known.size
    return {"same": known.size, "gone": gone, "new": new, "relabelled": relabelled}


def _labelled(sums: Sums, labels: NDArray[np.integer]) -> Sums:
    """Return checksums of samples together with their labels."""
    return (sums ^ (labels.astype(np.int64).view(np.uint64) * _FIRST)) * _SECOND


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"
