"""A part of a very large training set, and decisions over all parts that need only sums over them.

Scores are float16, so a histogram of them is exact: 65,536 counts say all that a decision has to know of any
number of samples. All sums are of whole numbers, so they are the same in any order and for any number of
parts.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..arrays.distributed import Ranks
from ..arrays.selection import blocks
from ..errors import invalid
from ..policies.base import error_of
from ..policies.error_mass import BOUND, FEWEST, LEVERAGE, ErrorMass, audit
from ..policies.expectation import CELLS, FLOOR, RECENT, curve

Counts: TypeAlias = NDArray[np.int64]
Codes: TypeAlias = NDArray[np.uint16]
Flags: TypeAlias = NDArray[np.uint8]
Turn: TypeAlias = Callable[[int, int], NDArray[np.bool_]]
"""Which of the samples ``[start, stop)`` come back."""

GROUP = 64
"""Parts begin at multiples of this many samples: a word of bits belongs to one part."""
FRESH, KNOWN, OUT, IN_TURN, LEFT, WAS_LEFT = (np.uint8(1 << bit) for bit in range(6))
"""Bits of a sample: it trained in this epoch, has a score, was chosen by the policy, came back in its turn,
is left out of this epoch, was left out of the one before."""
LARGEST_FLAG = 63

BLOCK = 1 << 15
"""Arrays of this many whole numbers stay in the cache, and below the size that malloc maps anew."""
_SCORES = 1 << 16
MEANS = 0x3F81
"""The upper halves of the float32 numbers from 0 to 1: a mean is one of them."""
NO_SCORE_HALF = -math.inf
"""*No score* in float16, which has no room for the number that means it otherwise."""
ODD = np.uint16(0x7C00)
"""Codes from here on are infinite, NaN, or below 0."""
_UNIT = 2.0**-36
"""Errors are multiples of this: the sum of a block is then exact."""


class Shard:
    """The samples ``[start, stop)``: five bytes each, in memory or in a file.

    Args:
        start, stop: the samples; ``start`` is a multiple of 64.
        directory: a folder for the file; None for memory.

    Attributes:
        scores: float16 ``(rows,)``, the last score of each; the number of rows is a multiple of 64.
        means: uint16 ``(rows,)``, the upper half of the float32 mean of the errors of each; 0 for none.
        flags: uint8 ``(rows,)``.
        recorded: the number of scores that arrived in this epoch.
        bad: how many of them were not finite.
        lowest: the smallest of them, if it is below 0, and its sample; else 0 and -1.
    """

    def __init__(self, start: int, stop: int, directory: str | os.PathLike[str] | None = None) -> None:
        self.start, self.stop = start, stop
        rows = -(-(stop - start) // GROUP) * GROUP
        self.scores = zeros(rows, np.float16, directory)
        self.means = zeros(rows, np.uint16, directory)
        self.flags = zeros(rows, np.uint8, directory)
        # Rows behind the last sample are in no epoch.
        self.flags[stop - start :] = LEFT
        self.begin()

    def begin(self) -> None:
        """Begin an epoch, in which nothing has arrived."""
        self.recorded = self.bad = 0
        self.lowest = 0.0, -1

    def __len__(self) -> int:
        return self.stop - self.start

    def write(self, offset: NDArray[Any], scores: NDArray[np.float16]) -> None:
        """Store the scores ``(K,)`` of the samples at the places ``(K,)`` in this part.

        Of several finite scores of a sample the last one counts. *No score* leaves it as it was. A score
        that is not finite leaves it without one.
        """
        self.recorded += offset.size
        odd = scores.view(np.uint16) >= ODD
        if odd.any():
            self._write_odd(offset[odd], scores[odd])
            offset, scores = offset[~odd], scores[~odd]
        self.scores[offset] = scores
        self.flags[offset] |= FRESH | KNOWN

    def _write_odd(self, offset: NDArray[Any], scores: NDArray[np.float16]) -> None:
        scored = scores != NO_SCORE_HALF
        offset, scores = offset[scored], scores[scored]
        finite = np.isfinite(scores)
        self.bad += int(np.count_nonzero(~finite))
        self.flags[offset[~finite]] &= ~(KNOWN | FRESH)
        # At most 0: rounding may leave a divergence slightly below it.
        offset, scores = offset[finite], scores[finite]
        self.scores[offset] = np.float16(0)
        self.flags[offset] |= FRESH | KNOWN
        if scores.size and scores.min() < self.lowest[0]:
            at = int(np.argmin(scores))
            self.lowest = float(scores[at]), self.start + int(offset[at])

    def blocks(self) -> Iterator[tuple[int, Codes, Codes, Flags]]:
        """Yield the samples in blocks: the first one, and views of the bits of scores, means and flags."""
        for start, stop in blocks(len(self), BLOCK):
            rows = slice(start, stop)
            yield self.start + start, self.scores[rows].view(np.uint16), self.means[rows], self.flags[rows]

    def keep_all(self) -> int:
        """Begin an epoch of all samples; return how many were left out of the one before."""
        before = 0
        for _, _, _, flags in self.blocks():
            before += int(np.count_nonzero(flags & LEFT))
            flags &= KNOWN
        return before

    def kept_bits(self) -> NDArray[np.uint8]:
        """Return which rows are in this epoch, a bit each: uint8 ``(rows / 8,)``."""
        bits = np.empty(self.flags.size // 8, np.uint8)
        for start, stop in blocks(self.flags.size, BLOCK):
            kept = (self.flags[start:stop] & LEFT) == 0
            bits[start // 8 : stop // 8] = np.packbits(kept, bitorder="little")
        return bits


def zeros(rows: int, dtype: Any, directory: str | os.PathLike[str] | None) -> NDArray[Any]:
    """Return an array of zeros, in memory or in a file without a name."""
    if directory is None or not rows:
        return np.zeros(rows, dtype)
    with scratch_file(directory, rows * np.dtype(dtype).itemsize) as file:
        # An array of the plain type: each slice of a np.memmap costs more.
        return np.memmap(file, dtype, "r+", shape=(rows,)).view(np.ndarray)


def scratch_file(directory: str | os.PathLike[str], size: int) -> Any:
    """Return a file of ``size`` bytes without a name: nothing is left of it, however the process ends.

    Raises:
        InvalidValue: if there is no such folder, it cannot be written to, or it has no room.
    """
    try:
        file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115
    except OSError as error:
        rule = f"`directory` must be a folder for files, {os.fspath(directory)}."
        raise invalid(rule, error.strerror, "Make it, or choose another one.") from error
    try:
        # Space that is missing would end the process later, at the first write.
        if hasattr(os, "posix_fallocate") and size:
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    except OSError as error:
        file.close()
        rule = f"The folder {os.fspath(directory)} must have room for files of {size:,} bytes."
        raise invalid(rule, error.strerror, "Choose another directory=.") from error
    return file


@dataclass
class Tally:
    """What the samples say of an epoch; tallies add up.

    Attributes:
        pairs: of each cell of means, how many samples trained again ``(CELLS,)``.
        errors: the errors that these showed: whole ones, and the rest in units of 2^-36, ``(2, CELLS)``.
        back_pairs, back_errors: the same of those that the policy had left out.
        means: of each new mean, how many samples were right, and how many wrong, ``(2, 16257)``.
        back: of each score, how many samples that came back have it, ``(65536,)``.
        left_out: how many samples the policy had left out ``(1,)``.
    """

    pairs: Counts = field(default_factory=lambda: np.zeros(CELLS, np.int64))
    errors: Counts = field(default_factory=lambda: np.zeros((2, CELLS), np.int64))
    back_pairs: Counts = field(default_factory=lambda: np.zeros(CELLS, np.int64))
    back_errors: Counts = field(default_factory=lambda: np.zeros((2, CELLS), np.int64))
    means: Counts = field(default_factory=lambda: np.zeros((2, MEANS), np.int64))
    back: Counts = field(default_factory=lambda: np.zeros(_SCORES, np.int64))
    left_out: Counts = field(default_factory=lambda: np.zeros(1, np.int64))

    def _parts(self) -> list[Counts]:
        return [getattr(self, part.name) for part in fields(self)]

    @staticmethod
    def sum(tallies: Sequence[Tally], ranks: Ranks) -> Tally:
        """Return the sum of tallies over all ranks."""
        flat = sum(np.concatenate([part.reshape(-1) for part in tally._parts()]) for tally in tallies)
        shapes = [part.shape for part in Tally()._parts()]
        ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
        parts = np.split(ranks.total(np.asarray(flat)), ends)
        return Tally(*(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)))


@dataclass(frozen=True)
class Cut:
    """The samples that a policy leaves out, by the codes of what they are expected to show.

    Attributes:
        whole: the codes of which all samples are left out, bool ``(codes,)``.
        part: the codes of which those with low scores are left out, bool ``(codes,)``.
        below: of those, the samples whose score has a lower code, and the first ones that have this one.
        by_score: whether the codes are those of scores, and not of means. Only samples that are out already
            stay out then.
    """

    whole: NDArray[np.bool_]
    part: NDArray[np.bool_]
    below: int = 0
    by_score: bool = False


class ErrorTable:
    """The error of each score, as :class:`fallow.ErrorMass` reads it: float32 ``(65536,)`` by its code.

    Args:
        largest: the largest value that the score can have.
    """

    def __init__(self, largest: float) -> None:
        codes = np.arange(_SCORES, dtype=np.uint16)
        with np.errstate(invalid="ignore", over="ignore"):
            self.of_score = error_of(codes.view(np.float16).astype(np.float32), largest)
        self.of_score[0x7C00:] = 0
        self.at_least = np.maximum(self.of_score, np.float32(FLOOR))
        self.exact = np.round(self.at_least.astype(np.float64) / _UNIT) * _UNIT
        self.wrong_from = int(np.argmax(self.of_score > 0.5)) or 0x7C00
        self.of_mean = (np.arange(MEANS, dtype=np.uint32) << np.uint32(16)).view(np.float32)

    def tally(self, shard: Shard) -> Tally:
        """Return the tally of a part, and bring its means up to date: one pass over it."""
        tally = Tally()
        for _, code, means, flags in shard.blocks():
            self._add(tally, code, means, flags)
        return tally

    def _add(self, tally: Tally, code: Codes, means: Codes, flags: Flags) -> None:
        known, fresh = (flags & KNOWN) != 0, (flags & FRESH) != 0
        visited = means != 0
        # Cell 0 takes the samples that make no pair.
        cells = (means >> np.uint16(4)) * (fresh & visited)
        tally.pairs += np.bincount(cells, minlength=CELLS)
        exact = self.exact.take(code)
        _add_exact(tally.errors, np.bincount(cells, exact, CELLS).astype(np.float64))
        came_back = OUT | IN_TURN | FRESH
        at = np.flatnonzero((flags & came_back) == came_back)
        if at.size:
            tally.back_pairs += np.bincount(cells[at], minlength=CELLS)
            _add_exact(tally.back_errors, np.bincount(cells[at], exact[at], CELLS).astype(np.float64))
            tally.back += np.bincount(code[at], minlength=_SCORES)
        tally.left_out += np.count_nonzero(flags & OUT)
        error, mean = self.at_least.take(code), self.of_mean.take(means)
        # The first error is the first mean.
        mean += (error - mean) * (np.float32(RECENT) * visited + ~visited) * fresh
        means[:] = mean.view(np.uint32) >> np.uint32(16)
        wrong = (code >= self.wrong_from) * np.int32(MEANS)
        which = np.where(known & (means > 0), means + wrong, np.int32(2 * MEANS))
        tally.means += np.bincount(which, minlength=2 * MEANS + 1)[:-1].reshape(2, -1)

    def by_score(self, shard: Shard) -> Counts:
        """Return of each score how many samples have it, and how many of those are out: ``(2, 65536)``."""
        counts = np.zeros((2, _SCORES), np.int64)
        for _, code, _, flags in shard.blocks():
            known = (flags & KNOWN) != 0
            counts[0] += np.bincount(code[known], minlength=_SCORES)
            counts[1] += np.bincount(code[known & ((flags & OUT) != 0)], minlength=_SCORES)
        return counts

    def may_join(self, cut: Cut, code: Codes, means: Codes, flags: Flags) -> NDArray[np.bool_]:
        """Return which samples may be left out at all: those that were right on their last visit."""
        right: NDArray[np.bool_] = ((flags & KNOWN) != 0) & (code < self.wrong_from)
        return right & ((flags & OUT) != 0 if cut.by_score else means > 0)

    def tied(self, shard: Shard, cut: Cut) -> Counts:
        """Return of each score how many samples in ``cut.part`` have it: ``(65536,)``."""
        counts = np.zeros(_SCORES, np.int64)
        for _, code, means, flags in shard.blocks():
            at = np.flatnonzero(cut.part.take(code if cut.by_score else means))
            at = at[self.may_join(cut, code[at], means[at], flags[at])]
            counts += np.bincount(code[at], minlength=_SCORES)
        return counts

    def apply(self, shard: Shard, cut: Cut, ties: int, turn: Turn | None) -> Counts:
        """Leave out the samples of a cut, and give back those whose turn it is: one pass over a part.

        Args:
            shard: the part.
            cut: the samples.
            ties: how many samples at the cut itself this part leaves out, the first ones.
            turn: which samples come back; None for all, without a turn of their own.

        Returns:
            The number of samples that the policy chose, of those in the epoch, and of those in it that were
            not in the one before ``(3,)``.
        """
        counts = np.zeros(3, np.int64)
        for first, code, means, flags in shard.blocks():
            key = code if cut.by_score else means
            joins = cut.whole.take(key)
            in_part = cut.part.take(key)
            if in_part.any():
                joins |= in_part & (code < cut.below)
                at = np.flatnonzero(in_part & (code == cut.below)) if ties else np.zeros(0, np.intp)
                at = at[self.may_join(cut, code[at], means[at], flags[at])][:ties]
                joins[at] = True
                ties -= at.size
            joins &= self.may_join(cut, code, means, flags)
            back = np.zeros_like(joins) if turn is None else joins & turn(first, first + code.size)
            left = np.zeros_like(joins) if turn is None else joins & ~back
            was_left = (flags & LEFT) != 0
            counts[0] += np.count_nonzero(joins)
            counts[1] += left.size - np.count_nonzero(left)
            counts[2] += np.count_nonzero(was_left & ~left)
            flags &= KNOWN
            flags |= OUT * joins | IN_TURN * back | LEFT * left | WAS_LEFT * was_left
        return counts


def _add_exact(sums: Counts, block: NDArray[np.float64]) -> None:
    """Add the sums of a block, multiples of ``_UNIT`` below 2^17, to whole numbers ``(2, cells)``."""
    whole = np.floor(block)
    sums[0] += whole.astype(np.int64)
    sums[1] += ((block - whole) / _UNIT).astype(np.int64)


def _float(sums: Counts) -> NDArray[np.float64]:
    return np.asarray(sums[0] + sums[1] * _UNIT, np.float64)


@dataclass(frozen=True)
class Decision:
    """What is decided for an epoch.

    Attributes:
        chosen: the number of samples that the policy leaves out, before any come back.
        kept: the number of samples in the epoch.
        readmitted: how many of them were left out of the epoch before.
        notes: those of :class:`fallow.ErrorMass`.
    """

    chosen: int
    kept: int
    readmitted: int
    notes: dict[str, float]


def decide(
    shards: Sequence[Shard],
    policy: ErrorMass,
    errors: ErrorTable,
    notes: dict[str, float],
    turn: Turn | None,
    least: int,
    multiple: int,
    ranks: Ranks,
) -> Decision:
    """Decide for the next epoch as :class:`fallow.ErrorMass` does, over all parts of all ranks.

    Args:
        shards: the parts of this rank, ascending.
        policy: the policy, without outliers.
        errors: the errors of scores.
        notes: those of the epoch before.
        turn: which samples come back; None if nothing is left out, whatever the policy says.
        least: the minimum number of samples to keep.
        multiple: the number of kept samples is rounded up to a multiple of this, if there are as many.
        ranks: hold the other parts.
    """
    tally = Tally.sum([errors.tally(shard) for shard in shards], ranks)
    n = int(ranks.total(np.array([sum(map(len, shards))]))[0])
    notes = dict(notes)
    cut, ties = _cut(shards, policy, errors, notes, tally, n, ranks)
    counts = sum(errors.apply(shard, cut, some, turn) for shard, some in zip(shards, ties, strict=True))
    chosen, kept, readmitted = ranks.total(np.asarray(counts)).tolist()
    back = min(-(-max(kept, least) // multiple) * multiple, n) - kept
    if back:
        kept, readmitted = kept + back, readmitted + _give_back(shards, back, ranks)
    return Decision(chosen, kept, readmitted, notes)


def _cut(
    shards: Sequence[Shard],
    policy: ErrorMass,
    errors: ErrorTable,
    notes: dict[str, float],
    tally: Tally,
    n: int,
    ranks: Ranks,
) -> tuple[Cut, list[int]]:
    """Return what the policy leaves out, and how many ties each part takes; bring the notes up to date."""
    out, returned = int(tally.left_out[0]), int(tally.back.sum())
    more = out / max(1, returned) - 1
    counts = tally.pairs, tally.back_pairs, _float(tally.errors), _float(tally.back_errors)
    for values in counts:
        values[0] = 0  # samples that make no pair
    pairs, back_pairs, sums, back_sums = counts
    expected = curve(pairs, pairs + more * back_pairs, sums + more * back_sums)
    if expected is not None:
        of_code = expected.take(np.arange(MEANS) >> 4)
        (right, wrong), among = tally.means, tally.means[0]
    else:  # a last error alone decides only who stays out
        of_code, is_wrong = errors.of_score, np.arange(_SCORES) >= errors.wrong_from
        known, known_out = ranks.total(np.asarray(sum(errors.by_score(shard) for shard in shards)))
        right, wrong, among = known * ~is_wrong, known * is_wrong, known_out * ~is_wrong
    exact = of_code.astype(np.float64)
    mean = float((right + wrong) @ exact) / max(1, int((right + wrong).sum()))
    mass = max(float((right + wrong / 2) @ exact), 1e-30)
    if returned >= FEWEST:
        audit(notes, out * float(tally.back @ errors.of_score.astype(np.float64)) / returned / mass)
    among = among * (of_code <= min(BOUND * policy.error, LEVERAGE * mean))
    # Codes of equal errors go together, until one group does not fit.
    sizes, group = np.unique(of_code, return_inverse=True)
    members = np.bincount(group, among, minlength=sizes.size).astype(np.int64)
    up_to = np.cumsum(members * sizes.astype(np.float64))
    limit = policy.in_use(notes) * mass
    at = int(np.searchsorted(up_to, limit, side="right"))
    held = float(up_to[at - 1]) if at else 0.0
    fits, size = 0, 0.0
    if at < sizes.size and members[at]:
        size = float(sizes[at])
        fits = min(int((limit - held) / size), int(members[at]))
    part = (group == at) & (among > 0) & (fits > 0)
    cut = Cut((group < at) & (among > 0), part, by_score=expected is None)
    ties = [0] * len(shards)
    if fits:
        own = [errors.tied(shard, cut) for shard in shards]
        so_far = np.concatenate([[0], np.cumsum(ranks.total(np.asarray(sum(own))))])
        below = int(np.searchsorted(so_far, fits, side="right")) - 1
        cut = replace(cut, below=below)
        # Behind the last score, if all fit.
        tied = [int(scores[below]) if below < _SCORES else 0 for scores in own]
        ties = _allotted(tied, fits - int(so_far[below]), ranks)
    notes["left_out"] = (int(members[:at].sum()) + fits) / n
    notes["error"] = (held + fits * size) / mass
    notes["mean_error"] = mean
    return cut, ties


def _allotted(has: Sequence[int], wanted: int, ranks: Ranks) -> list[int]:
    """Return how many each part takes of ``wanted``, the first parts first, given how many each has."""
    counts = np.asarray(has, np.int64)
    before = ranks.before(int(counts.sum())) + np.cumsum(counts) - counts
    taken: list[int] = np.clip(wanted - before, 0, counts).tolist()
    return taken


def _give_back(shards: Sequence[Shard], count: int, ranks: Ranks) -> int:
    """Give back ``count`` of the samples that are left out, the highest scores first.

    Returns:
        How many of them were left out of the epoch before.
    """
    own = [np.zeros(_SCORES, np.int64) for _ in shards]
    for shard, scores in zip(shards, own, strict=True):
        for _, code, _, flags in shard.blocks():
            scores += np.bincount(code[(flags & LEFT) != 0], minlength=_SCORES)
    from_top = np.cumsum(ranks.total(np.asarray(sum(own)))[::-1])
    steps = int(np.searchsorted(from_top, count))
    lowest = _SCORES - 1 - steps
    above = int(from_top[steps - 1]) if steps else 0
    ties = _allotted([scores[lowest] for scores in own], count - above, ranks)
    before = 0
    for shard, some in zip(shards, ties, strict=True):
        for _, code, _, flags in shard.blocks():
            left = (flags & LEFT) != 0
            back = left & (code > lowest)
            at = np.flatnonzero(left & (code == lowest))[:some] if some else np.zeros(0, np.intp)
            some -= at.size
            back[at] = True
            before += int(np.count_nonzero(back & ((flags & WAS_LEFT) != 0)))
            flags[back] &= ~LEFT
    return int(ranks.total(np.array([before]))[0])
