"""Changes of a run's data: samples are matched by their checksums, whatever their positions."""

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
    """The checksums and labels by which samples are matched.

    Attributes:
        content: uint64 ``(N,)``, checksums of the network's input.
        identity: uint64 ``(N,)``, checksums of the sources, such as files; or None.
        labels: class ids ``(N,)``, or None.
    """

    content: Sums
    identity: Sums | None = None
    labels: NDArray[np.integer] | None = None

    @staticmethod
    def trained(data: DataFile) -> Samples | None:
        """Return the training samples; None without checksums."""
        return None if data.content is None else Samples(data.content, data.identity, data.labels)

    @staticmethod
    def held_out(data: DataFile) -> Samples | None:
        """Return the held-out samples; None without checksums."""
        if data.held_out is None:
            return None
        return Samples(data.held_out, data.held_out_identity, data.held_out_labels)

    def __len__(self) -> int:
        return int(self.content.size)

    def beside(self, other: Samples) -> Samples:
        """Return these samples followed by others."""
        pairs = ((self.identity, other.identity), (self.labels, other.labels))
        identity, labels = (None if a is None or b is None else np.concatenate([a, b]) for a, b in pairs)
        return Samples(np.concatenate([self.content, other.content]), identity, labels)

    def found_in(self, before: Samples) -> NDArray[np.int64]:
        """Return the position of each sample among others, -1 for a new one; one to one: ``(N,)``.

        Equal samples are matched first by label, then in order.
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
        """Return which samples a run has trained on, one to one: ``(N,)``; None without checksums."""
        old = Samples.trained(before)
        return None if old is None else self.found_in(old) >= 0

    def are_in(self, others: Samples) -> NDArray[np.bool_]:
        """Return which samples are copies of any of the others: ``(N,)``."""
        copies = np.isin(self.content, others.content)
        if self.identity is not None and others.identity is not None:
            copies |= np.isin(self.identity, others.identity)
        return copies


def sides(before: DataFile, now: Samples) -> NDArray[np.int8]:
    """Return the side of a run that each sample was on: 1 held out, -1 trained on, 0 new: ``(N,)``.

    A further copy of a known sample takes its side.
    """
    trained, held = Samples.trained(before), Samples.held_out(before)
    assert trained is not None
    every = trained if held is None else trained.beside(held)
    at = now.found_in(every)
    side = np.where(at < 0, 0, np.where(at < len(trained), -1, 1)).astype(np.int8)
    if held is not None:
        side[(at < 0) & now.are_in(held)] = 1
    # Last, so that a copy of samples on both sides counts as trained on.
    side[(at < 0) & now.are_in(trained)] = -1
    return side


def known_first(origin: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return the order of known samples by earlier position, then new ones; None if nothing moves.

    >>> known_first(np.array([1, -1, 0])).tolist()
    [2, 0, 1]
    """
    last = np.iinfo(np.int64).max
    order = np.argsort(np.where(origin < 0, last, origin), kind="stable")
    return None if np.array_equal(order, np.arange(order.size)) else order


@dataclass(frozen=True, eq=False)
class Changes:
    """Differences between the earlier and the present samples of a run.

    Attributes:
        origin: int64 ``(N,)``, the earlier position of each sample, -1 for a new one; None without checksums.
        gone: the number of samples that are missing now.
        relabelled, remade: int64, samples with another label, or with other content from the same source.
        held_out: the number of held-out samples that are ``same``, ``gone``, ``new`` or ``relabelled``; or
            None.
        leaked: the number of earlier held-out samples that are now in the training set.
        renamed: whether file names differ.
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
        """Return the changes from ``before`` to ``now``."""
        old, new = Samples.trained(before), Samples.trained(now)
        if old is None or new is None:
            return Changes(None, by_position=tuple(before.changes(now)))
        if classes := before.class_changes(now):
            # A new class may shift the ids of all others, which would look like changed labels.
            now = _with_ids_of(before, now)
            new = Samples(new.content, new.identity, now.labels)
        origin = new.found_in(old)
        known = np.flatnonzero(origin >= 0)
        earlier = origin[known]
        relabelled = known[:0]
        if old.labels is not None and new.labels is not None:
            relabelled = known[new.labels[known] != old.labels[earlier]]
        held, leaked = Samples.held_out(before), 0
        if held is not None:
            # A copy that was in both parts before has not moved.
            leaked = int(np.count_nonzero(new.are_in(held) & ~new.are_in(old)))
        return Changes(
            origin,
            gone=len(old) - known.size,
            relabelled=relabelled,
            remade=known[new.content[known] != old.content[earlier]],
            held_out=_held_out(held, Samples.held_out(now)),
            leaked=leaked,
            renamed=before.files != now.files,
            by_position=tuple(classes),
        )

    @property
    def new(self) -> int:
        """The number of new samples."""
        return 0 if self.origin is None else int(np.count_nonzero(self.origin < 0))

    @property
    def moved(self) -> NDArray[np.int64] | None:
        """:attr:`origin`, or None if no sample moved."""
        if self.origin is None or (not self.gone and not self.new and known_first(self.origin) is None):
            return None
        return self.origin

    @property
    def only_added(self) -> bool:
        """Whether samples were added and nothing else has changed."""
        held = self.held_out or {}
        lost = self.gone + self.relabelled.size + self.remade.size + self.leaked
        return bool(self.new) and not (lost or self.by_position or any(held[k] for k in held if k != "same"))

    def __bool__(self) -> bool:
        """Return whether the samples, their labels or the held-out part differ."""
        held = self.held_out or {}
        some = self.new + self.gone + self.relabelled.size + self.remade.size
        return bool(some or self.by_position or any(held[kind] for kind in held if kind != "same"))

    def describe(self, noun: str) -> str:
        """Return the changes as text; ``noun`` is the word for a sample.

        >>> held_out = {"same": 240, "gone": 2, "new": 0, "relabelled": 0}
        >>> Changes(np.array([0, -1]), gone=3, held_out=held_out).describe("image")
        '1 image is new, 3 are gone; held out: 240 images as before, 2 gone'
        """
        counts = [
            (self.new, "is new", "are new"),
            (self.gone, "is gone", "are gone"),
            (self.relabelled.size, "has another label", "have another label"),
            (self.remade.size, "is read differently", "are read differently"),
        ]
        phrases: list[str] = []
        for count, singular, plural in counts:
            if count:
                samples = "" if phrases else f" {_plural(count, noun)}"
                phrases.append(f"{count:,}{samples} {singular if count == 1 else plural}")
        parts = [", ".join(phrases)] if phrases else []
        if (held := self.held_out) is not None:
            more = [
                f"{held[kind]:,} {phrase}"
                for kind, phrase in (("gone", "gone"), ("new", "new"), ("relabelled", "with another label"))
                if held[kind]
            ]
            same = f"{held['same']:,} {_plural(held['same'], noun)} as before"
            parts.append(f"held out: {', '.join([same, *more])}")
        return "; ".join([*parts, *map(str, self.by_position)])


def _with_ids_of(before: DataFile, now: DataFile) -> DataFile:
    """Return the samples with the earlier class ids; classes are matched by name."""
    assert before.classes is not None
    assert now.classes is not None
    numbers: dict[str, int] = {}
    for name in (*before.classes, *now.classes):
        numbers.setdefault(name, len(numbers))
    ids = np.array([*(numbers[name] for name in now.classes), -1], np.int32)  # -1 is no class

    def translated(labels: NDArray[np.int32] | None) -> NDArray[np.int32] | None:
        # A label without a class name becomes -1, which indexes the last entry, *no class*.
        return None if labels is None else ids[np.where(labels < len(ids) - 1, labels, -1)]

    return replace(now, labels=translated(now.labels), held_out_labels=translated(now.held_out_labels))


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
    """Return checksums of samples and their labels together."""
    # Odd multipliers keep different labels apart modulo 2^64; those are the ones of splitmix64.
    return (sums ^ (labels.astype(np.int64).view(np.uint64) * _FIRST)) * _SECOND


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"
