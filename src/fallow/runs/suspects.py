"""Samples of a run whose labels look wrong, by the mean over all passes; and copies with different labels.

By the last pass a network knows many wrong labels by heart. So each pass counts: the value of a sample in it
is the root of the probability that it gave to the given label, and a pass in which the network was unsure of
the share v of all labels has the weight v (1 - v). Passes that know nothing yet, and passes that know all by
heart, hardly count. The benchmark ``benchmarks/wrong_labels.py`` compares this with other means.

A sample that was left out of an epoch keeps the score of its last pass, as the files of the run have it. A
learned one keeps a low score, an outlier a high one, so that both stay where they belong. Where a sample has
no score at all, as before it was added, its value is compared with the mean of the other epochs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays.selection import blocks
from ..errors import InvalidValue, invalid
from .epoch_file import EpochFile
from .run_files import RunFiles

_HALF = 0.5
_ROOT_HALF = math.sqrt(_HALF)
_PART, _VOTES = 1 << 15, 1 << 20
"""Samples of which sums are made at a time; votes that are held until they are summed up."""
_PROBABILITIES = (None, "kl", "renyi")
"""Scores whose exp(-score) is the probability of a hard label; None is the default."""


@dataclass(frozen=True)
class Suspect:
    """A training sample whose label looks wrong.

    Attributes:
        index: its position in the training set.
        file: its file, or the row of its table; None if the samples have no names.
        given: the name of its class.
        suggested: the name of the class that most passes took it for; None if no other class is known.
        confidence: in [0, 1], 1 - the mean probability of the given class (the power mean of exponent 1/2
            over the passes); for other scores than ``kl`` and ``renyi`` its mean rank.
    """

    index: int
    file: str | None
    given: str
    suggested: str | None
    confidence: float


@dataclass(frozen=True)
class Confusion:
    """A pair of classes among the suspects: ``count`` of them are called given and look like suggested."""

    given: str
    suggested: str
    count: int


@dataclass(frozen=True)
class Copy:
    """One of several equal samples."""

    index: int
    file: str | None
    given: str


@dataclass(frozen=True)
class Suspects:
    """What a run says about the labels of its N training samples.

    Attributes:
        suspects: the samples that look wrong, the surest first; at most as many as were asked for.
        found: the number of all of them.
        samples: N.
        epochs: the number of finished epochs.
        pairs: the pairs of classes among all suspects, the most frequent first.
        copies: groups of equal samples with different labels; None if the run does not know which are equal.
    """

    suspects: tuple[Suspect, ...]
    found: int
    samples: int
    epochs: int
    pairs: tuple[Confusion, ...]
    copies: tuple[tuple[Copy, ...], ...] | None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


def find_suspects(run: RunFiles, count: int | None = None) -> Suspects:
    """Return the training samples whose labels look wrong, the surest first.

    A label looks wrong if most passes after the first, by their weights, took the sample for another class.
    In a run of an earlier version, which has only the last predictions, it does if most of them gave the
    label less than half of the probability.

    Args:
        run: a run with labels and at least one finished epoch.
        count: the largest number of suspects to return; None for all.

    Raises:
        InvalidValue: if ``count`` is below 1, no epoch is finished, or the run has no labels to judge.
        DamagedData: if a file of the run is damaged.
    """
    if count is not None and count < 1:
        raise invalid("`count` must be at least 1.", count, "Leave it out for all suspects.")
    labels = _labels(run)
    passes = _Passes.read(run, labels)
    rows = passes.suspects(labels)
    rows = rows[np.lexsort((rows, -passes.doubt[rows]))]
    suggested = _suggested(run, labels, rows, passes.weights)
    names = [
        run.data.class_name(int(label))
        for label in range(int(max(labels.max(), suggested.max(initial=0))) + 1)
    ]
    pairs = Counter(zip(labels[rows].tolist(), suggested.tolist(), strict=True))
    shown = rows if count is None else rows[:count]
    return Suspects(
        suspects=tuple(
            Suspect(
                row,
                run.file_of(row),
                names[labels[row]],
                None if other < 0 else names[other],
                float(passes.doubt[row]),
            )
            for row, other in zip(shown.tolist(), suggested[: shown.size].tolist(), strict=True)
        ),
        found=rows.size,
        samples=labels.size,
        epochs=len(run.history),
        pairs=tuple(
            Confusion(names[given], names[other], number)
            for (given, other), number in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
            if other >= 0
        ),
        copies=_copies(run, labels),
    )


def suspected(run: RunFiles) -> NDArray[np.int64]:
    """Return the samples of :func:`find_suspects`, ascending, in half of its time: ``(K,)``.

    Raises:
        InvalidValue, DamagedData: as :func:`find_suspects`.
    """
    labels = _labels(run)
    return _Passes.read(run, labels).suspects(labels)


def doubts(run: RunFiles) -> NDArray[np.float64]:
    """Return the confidence that each label is wrong, in [0, 1], -1 without a score: ``(N,)``.

    Raises:
        InvalidValue: as :func:`find_suspects`.
        DamagedData: if a file of the run is damaged.
    """
    labels = _labels(run)
    return np.nan_to_num(_Passes.read(run, labels).doubt, nan=-1.0)


def roots(
    scores: NDArray[np.floating], *, probabilities: bool, out: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the root of the probability of each given label in one pass: ``(N,)``, NaN without a score.

    Args:
        scores: of all samples, ``(N,)``.
        probabilities: whether exp(-score) is the probability; else the rank among all samples stands for it.
        out: takes them, if it has room for N.
    """
    root = np.empty(scores.shape) if out is None or out.size < scores.size else out[: scores.size]
    if probabilities:
        for at in _parts(scores.size):
            np.exp(np.maximum(scores[at], 0) * -0.5, out=root[at], dtype=np.float64)
    else:
        root.fill(np.nan)
        known = np.isfinite(scores)
        # Equal scores have equal ranks, so that their order in the data counts for nothing.
        _, place, sizes = np.unique(scores[known], return_inverse=True, return_counts=True)
        root[known] = np.sqrt(1 - (np.cumsum(sizes) - sizes / 2)[place] / max(1, int(sizes.sum())))
    return root


def _parts(n: int) -> Iterator[slice]:
    """Yield parts of N rows: what is made of one stays in the cache of the processor."""
    for start, stop in blocks(n, _PART):
        yield slice(start, stop)


def weight(roots_: NDArray[np.float64]) -> float:
    """Return the weight of a pass, v (1 - v): v is the mean probability that its labels are wrong."""
    return _weight_and_mean(roots_)[0]


def _weight_and_mean(roots_: NDArray[np.float64]) -> tuple[float, float | None]:
    """Return the weight of a pass and the mean of its roots; None without any."""
    count, total, squares = 0, 0.0, 0.0
    for at in _parts(roots_.size):
        known = roots_[at][np.isfinite(roots_[at])]
        count, total, squares = count + known.size, total + known.sum(), squares + np.square(known).sum()
    if not count:
        return 0.0, None
    v = 1 - float(squares) / count
    return v * (1 - v), float(total) / count


@dataclass(frozen=True, eq=False)
class _Passes:
    """The sums over the passes.

    Attributes:
        doubt: ``(N,)``, 1 - the mean probability of each given label; NaN without a score.
        wrong: ``(N,)``, the share of the passes after the first, by weight, that took a sample for another
            class.
        weights: of each epoch, in their order.
    """

    doubt: NDArray[np.float64]
    wrong: NDArray[np.float64]
    weights: list[float]

    def suspects(self, labels: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return the samples whose labels look wrong, ascending: ``(K,)``."""
        return np.flatnonzero((labels >= 0) & np.isfinite(self.doubt) & (self.wrong > _HALF))

    @staticmethod
    def read(run: RunFiles, labels: NDArray[np.int32]) -> _Passes:
        n, exact = labels.size, _are_probabilities(run)
        above, present, others, voted = np.zeros((4, n))
        mean, whole, weights = 0.0, 0.0, []
        # Memory that is new in each pass would take as long as the pass.
        held = np.empty(n)
        for file in run.files():
            found = roots(file.scores, probabilities=exact, out=held)
            each, middle = _weight_and_mean(found)
            weights.append(each)
            if middle is None:
                continue
            mean, whole = mean + each * middle, whole + each
            # In the first pass the network had yet to learn the classes; it counts for the order alone.
            votes = (file.other is not None or exact) and (len(weights) > 1 or len(run.epochs) == 1)
            for at in _parts(found.size):
                known = np.isfinite(found[at])
                above[at] += np.where(known, each * (found[at] - middle), 0)
                present[at] += each * known
                if votes:
                    voted[at] += each * known
                    differs = found[at] < _ROOT_HALF if file.other is None else _differs(file, labels, at)
                    others[at] += each * (differs & known)
        doubt = np.divide(above, present, out=np.full(n, np.nan), where=present > 0)
        doubt += mean / whole if whole else 0.0
        np.clip(doubt, 0, 1, out=doubt)
        np.subtract(1, np.square(doubt, out=doubt), out=doubt)
        wrong = np.divide(others, voted, out=doubt.copy(), where=voted > 0)
        return _Passes(doubt, wrong, weights)


def _differs(file: EpochFile, labels: NDArray[np.int32], at: slice | NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which of some samples an epoch took for another class than the present one."""
    assert file.other is not None
    other = file.other[at]
    # The label of a sample may have been corrected since.
    differs: NDArray[np.bool_] = (other > 0) & (other != labels[: file.other.size][at] + 1)
    return differs


def _suggested(
    run: RunFiles, labels: NDArray[np.int32], rows: NDArray[np.int64], weights: list[float]
) -> NDArray[np.int64]:
    """Return the class that most passes took each of some samples for, by weight; -1 if none: ``(K,)``."""
    best = np.full(rows.size, -1, np.int64)
    if not rows.size:
        return best
    keys: NDArray[np.int64] = np.zeros(0, np.int64)
    total: NDArray[Any] = np.zeros(0)
    votes, counts, size = list[NDArray[np.int64]](), list[NDArray[np.float64]](), 0
    for place, (each, file) in enumerate(zip(weights, run.files(), strict=True), 1):
        if file.other is not None:
            cast = np.flatnonzero(rows < file.other.size)
            cast = cast[_differs(file, labels, rows[cast])]
            votes.append(cast << 16 | file.other[rows[cast]].astype(np.int64))
            counts.append(np.full(cast.size, each))
            size += cast.size
        # Votes are summed up now and then, since those of all passes would take much memory.
        if votes and (size > _VOTES or place == len(weights)):
            keys, where = np.unique(np.concatenate([keys, *votes]), return_inverse=True)
            total = np.bincount(where, np.concatenate([total, *counts]), keys.size)
            votes, counts, size = [], [], 0
    order = np.lexsort((-keys, total))  # ascending: the last one written below has the most votes
    best[keys[order] >> 16] = (keys[order] & 0xFFFF) - 1
    if (last := run.predicted) is not None:
        unknown = np.flatnonzero(best < 0)
        other = last[rows[unknown]]
        best[unknown] = np.where(other == labels[rows[unknown]], -1, other)
    return best


def _copies(run: RunFiles, labels: NDArray[np.int32]) -> tuple[tuple[Copy, ...], ...] | None:
    """Return the groups of equal samples with different labels; None if the run does not know."""
    data = run.data
    sums = data.content
    if run.shown_options.task == "text":
        # The content of a text with soft labels includes them.
        sums = sums if data.identity is None else data.identity
    elif data.files is not None and data.identity is None:
        return None  # known by their names: images of a large folder, or samples of a user's own loop
    if sums is None or sums.size < labels.size:
        return None
    sums = sums[: labels.size]
    order = np.argsort(sums, kind="stable")
    sums = sums[order]
    # Places whose sample equals the next one; a group is a stretch of them, and one more.
    alike = np.flatnonzero(sums[1:] == sums[:-1])
    stretches = np.split(alike, np.flatnonzero(np.diff(alike) > 1) + 1) if alike.size else []
    groups = [order[each[0] : each[-1] + 2] for each in stretches]
    conflicts = [group for group in groups if np.unique(labels[group][labels[group] >= 0]).size > 1]
    return tuple(
        tuple(Copy(row, run.file_of(row), run.class_of(row) or "") for row in group.tolist())
        for group in sorted(conflicts, key=lambda group: int(group[0]))
    )


def _are_probabilities(run: RunFiles) -> bool:
    """Return whether exp(-score) is the probability of the given label."""
    return run.score_unit == "nats" and run.shown_options.score in _PROBABILITIES


def _labels(run: RunFiles) -> NDArray[np.int32]:
    """Return the class of each sample, -1 if unknown: ``(N,)``.

    Raises:
        InvalidValue: if the run has no labels, or its scores do not judge them.
    """
    assert run.history  # raises a clear error if no epoch is finished
    options = run.shown_options
    if options.task in ("language-model", "autoencoder"):
        kind = {"language-model": "a language model", "autoencoder": "an autoencoder"}[options.task]
        raise _no_labels(run, f"{kind}, which has none")
    if options.score == "density":
        rule = f"The scores of {run.directory.path} must judge labels to find wrong ones."
        step = "Train with --score kl, the default. fallow report shows what this run found unusual."
        raise invalid(rule, "--score density, which looks at inputs alone", step)
    labels = run.labels
    if labels is None or not (labels >= 0).any():
        raise _no_labels(run, "none" if options.data else "none in its data")
    return labels


def _no_labels(run: RunFiles, found: str) -> InvalidValue:
    step = "Train a classifier on labelled data; fallow report shows this run's most surprising samples."
    return invalid(f"{run.directory.path} must have labels to find wrong ones.", found, step)
