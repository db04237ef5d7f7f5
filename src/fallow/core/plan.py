"""Plan the samples of the next epoch from the scores: decide, re-admit, apply the floors."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays.bitset import Bitset
from ..arrays.keyed import mix, uniform
from ..arrays.selection import blocks, smallest
from ..errors import invalid, wrong_state
from ..policies.base import IN_TURN, Policy, PolicyInput, Reason
from .schedule import Schedule
from .table import PREDICTED, Table

BAD_SHARE = 0.05
"""If more than this share of an epoch's scores is not finite, nothing is removed."""
_DRAW = 0xD4A3


@dataclass(frozen=True)
class Floors:
    """Minimum numbers of samples to keep, regardless of the policy.

    Attributes:
        labels: int32 ``(N,)``, or None.
        kept: the minimum number of samples that was asked for.
        thinnest: the minimum number that fills batches under kept steps.
        per_class: the minimum number per class; smaller classes are kept whole.
        multiple: the number of kept samples is rounded up to a multiple of this.
    """

    labels: NDArray[np.int32] | None = None
    kept: int = 1
    per_class: int = 0
    multiple: int = 1
    thinnest: int = 0

    @property
    def least(self) -> int:
        """The minimum number of samples."""
        return max(self.kept, self.thinnest)


@dataclass(frozen=True)
class Plan:
    """The samples of one epoch, fixed before it begins.

    Attributes:
        epoch: the number of the epoch, from 0.
        kept: the samples.
        weights: float32 ``(N,)`` loss weights, or None if all are 1.
        readmitted: how many of the samples were left out of the previous epoch.
        notes: the policy's notes from planning the epoch.
        full: the number of samples of full training: all but those removed by hand.
        learned: how many of them are left out as learned.
    """

    epoch: int
    kept: Bitset
    weights: NDArray[np.float32] | None = None
    readmitted: int = 0
    notes: dict[str, float] = field(default_factory=dict)
    full: int = 0
    learned: int = 0


def full_count(reason: NDArray[np.uint8]) -> int:
    """Return the number of samples of full training: all but those removed by hand."""
    return reason.size - int(np.count_nonzero(reason == Reason.BY_HAND))


def plan_epoch(
    table: Table,
    policy: Policy,
    schedule: Schedule,
    floors: Floors,
    epoch: int,
    seed: int,
    largest: float = math.inf,
) -> tuple[NDArray[np.uint8], Plan]:
    """Return each sample's :class:`Reason` for ``epoch``, and the plan.

    ``largest`` is the largest value that the score can have.

    Raises:
        InvalidValue: if the first decision of the policy would remove every sample.
    """
    held = table.reason
    weights = None
    if schedule.warms_up(epoch):
        reason = np.where(held == Reason.BY_HAND, held, np.uint8(Reason.KEPT))
    else:
        inputs = replace(_policy_input(table, schedule, floors, epoch, seed), largest=largest)
        reason = _decide(table, policy, inputs)
        # Later it is success, see docs/decisions/005-when-a-policy-removes-everything.md.
        if epoch == schedule.warmup and floors.kept <= 1:
            _check_some_kept(reason, policy, table)
        left_out = reason != Reason.KEPT
        readmit(reason, schedule, epoch, seed)
        if policy.returns_every is not None:
            inputs.column(IN_TURN, np.bool_)[:] = left_out & (reason == Reason.KEPT)
        # After re-admission, which may already give back what the floors ask for.
        apply_floors(reason, table.scores, floors)
        # Weights make up for samples that are left out, and here all learned ones train.
        if not schedule.returns_all(epoch):
            weights = _check_weights(policy.weights(inputs, reason), policy, reason.size)
    kept = reason == Reason.KEPT
    learned = int(np.count_nonzero(reason == Reason.LEARNED))
    readmitted = int(np.count_nonzero(kept[held != Reason.KEPT])) if held.any() else 0
    return reason, Plan(
        epoch, Bitset(kept), weights, readmitted, dict(table.notes), full_count(reason), learned
    )


def planned_counts(policy: Policy, schedule: Schedule, floors: Floors, n: int) -> list[int]:
    """Return how many samples each epoch keeps, if that does not depend on the scores.

    Raises:
        WrongState: if it does.
    """
    epochs = range(schedule.epochs)
    full = [schedule.returns_all(epoch) for epoch in epochs]
    count = policy.kept_count(n)
    at_least = max(count or 0, floors.least)
    depends = count is None or schedule.stagger or floors.per_class > 0
    if policy.finds_outliers:  # these stay out of most full epochs, and do not fill up batches
        depends |= at_least % floors.multiple > 0
        depends |= any(full[epoch] and not schedule.returns_outliers(epoch) for epoch in epochs)
    if depends:
        raise wrong_state(
            f"The number of steps depends on the scores under {policy!r}, {schedule!r}"
            + (" with class floors." if floors.per_class else "."),
            "Drive the learning rate with `subsampler.progress`, or use Fraction of the lowest scores "
            "(without `high`, if samples are re-admitted or batches filled up).",
        )
    reduced = min(n, -(-at_least // floors.multiple) * floors.multiple)
    return [n if full[epoch] else reduced for epoch in epochs]


def in_use(schedule: Schedule, policy: Policy) -> Schedule:
    """Return a schedule with the epochs of warm-up that there are: a policy may need more than it says."""
    return replace(schedule, warmup=max(schedule.warmup, policy.first_epoch()))


def thin_epochs(policy: Policy, schedule: Schedule) -> int:
    """Return the number of epochs in which samples can be left out."""
    return sum(not schedule.returns_all(epoch) for epoch in range(policy.first_epoch(), schedule.epochs))


def _policy_input(table: Table, schedule: Schedule, floors: Floors, epoch: int, seed: int) -> PolicyInput:
    key = mix(_DRAW, seed, epoch)
    predicted = table.columns.get(PREDICTED)
    return PolicyInput(
        scores=table.scores,
        # `scored_in` is 1 + the epoch, so this is the epoch that has just ended.
        fresh=table.scored_in == epoch,
        reason=table.reason,
        epoch=epoch,
        # A function instead of N numbers: some policies draw nothing, the others block by block.
        uniform=lambda start, stop: uniform(key, start, stop),
        column=table.column,
        epochs=schedule.epochs,
        labels=floors.labels,
        predicted=None if predicted is None else predicted - 1,
        notes=table.notes,
    )


def _decide(table: Table, policy: Policy, inputs: PolicyInput) -> NDArray[np.uint8]:
    """Return the policy's decision, or keep everything if too many scores are bad; by-hand removals stand."""
    held = table.reason
    # A copy: a policy may return an array of its own, and this one is changed below.
    decided = np.array(policy.decide(inputs))
    if decided.shape != held.shape or decided.dtype != np.uint8:
        raise invalid(
            f"A policy must return uint8 of shape {held.shape}.",
            f"{decided.dtype} of shape {decided.shape} from {policy!r}",
            "See fallow.policies.Policy.decide.",
        )
    # Only now: the decision has also updated what the policy remembers of each sample.
    if table.bad > BAD_SHARE * max(1, table.recorded):
        warnings.warn(
            f"{table.bad:,} of {table.recorded:,} scores of epoch {inputs.epoch} of {inputs.epochs} are "
            f"not finite, more than {BAD_SHARE:.0%}: nothing is removed for the next one. "
            "Look at the loss and the inputs.",
            RuntimeWarning,
            stacklevel=4,
        )
        # Outliers come back by measurement only, see docs/decisions/004-outliers-come-back-by-measurement.md.
        stays = (held == Reason.OUTLIER) | (held == Reason.BY_HAND)
        return np.where(stays, held, np.uint8(Reason.KEPT))
    decided[held == Reason.BY_HAND] = Reason.BY_HAND
    return decided


def _check_weights(weights: Any, policy: Policy, n: int) -> NDArray[np.float32] | None:
    if weights is None:
        return None
    values = np.asarray(weights)
    rule = f"A policy must return weights float32 ({n},), finite and at least 0, or None."
    step = "See fallow.policies.Policy.weights."
    if values.dtype.kind != "f" or values.shape != (n,):
        raise invalid(rule, f"{values.dtype} of shape {values.shape} from {policy!r}", step)
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise invalid(rule, f"{values[at]:g} for sample {at} from {policy!r}", step)
    return values.astype(np.float32, copy=False)


def _check_some_kept(reason: NDArray[np.uint8], policy: Policy, table: Table) -> None:
    """Raise if the first decision keeps no sample: then the thresholds are wrong."""
    if not reason.all() or (reason == Reason.BY_HAND).all():
        return
    # The epoch stays open and will be decided again: without this, the policy would count it twice.
    table.columns = {name: column for name, column in table.columns.items() if name == PREDICTED}
    table.notes.clear()
    scores = table.scores
    raise invalid(
        "A policy must keep at least one sample at its first decision.",
        f"none of {scores.size:,} kept by {policy!r}, with scores from {np.nanmin(scores):.4g} to "
        f"{np.nanmax(scores):.4g}",
        "Choose thresholds inside that range, or set `min_kept`.",
    )


def readmit(reason: NDArray[np.uint8], schedule: Schedule, epoch: int, seed: int) -> None:
    """Give back, in place, the removed samples whose turn it is before ``epoch``."""
    in_tail = schedule.in_tail(epoch)
    if not (in_tail or schedule.has_turns(epoch)):
        return
    for start, stop in blocks(reason.size):
        rows = reason[start:stop]
        turn = schedule.turn(epoch, seed, start, stop)
        learned = (rows == Reason.LEARNED) | (rows == Reason.NOT_DRAWN)
        back = learned & (turn | in_tail)
        if schedule.outliers == "readmit":
            back |= (rows == Reason.OUTLIER) & turn
        rows[back] = Reason.KEPT


def due(table: Table, policy: Policy, schedule: Schedule, epoch: int, seed: int) -> NDArray[np.int64]:
    """Return the removed samples to measure before ``epoch`` is planned, ascending."""
    if epoch >= schedule.epochs or schedule.warms_up(epoch):
        return np.zeros(0, np.int64)
    if policy.measures_removed:
        removed = (table.reason != Reason.KEPT) & (table.reason != Reason.BY_HAND)
        return np.flatnonzero(removed).astype(np.int64, copy=False)
    if schedule.outliers != "remeasure" or not schedule.measures(epoch):
        return np.zeros(0, np.int64)
    parts = []
    for start, stop in blocks(len(table)):
        outliers = table.reason[start:stop] == Reason.OUTLIER
        parts.append(start + np.flatnonzero(outliers & schedule.measured(epoch, seed, start, stop)))
    return np.concatenate(parts)


def apply_floors(reason: NDArray[np.uint8], scores: NDArray[np.float32], floors: Floors) -> None:
    """Give back, in place, as many samples as the floors require, the highest-scoring learned ones first."""
    if floors.labels is not None and floors.per_class:
        _apply_class_floor(reason, scores, floors.labels, floors.per_class)
    kept = int(reason.size - np.count_nonzero(reason))
    wanted = max(kept, floors.least)
    if wanted == kept and kept % floors.multiple == 0:
        return
    learned = (reason == Reason.LEARNED) | (reason == Reason.NOT_DRAWN)
    back = min(-(-wanted // floors.multiple) * floors.multiple - kept, int(np.count_nonzero(learned)))
    if back > 0:
        _give_back(reason, scores, learned, back, highest=True)
    # Outliers come last, the lowest first, and only for the floor itself: not to fill up a batch.
    short = floors.least - kept - max(back, 0)
    outliers = reason == Reason.OUTLIER
    short = min(short, int(np.count_nonzero(outliers)))
    if short > 0:
        _give_back(reason, scores, outliers, short, highest=False)


def _give_back(
    reason: NDArray[np.uint8],
    scores: NDArray[np.float32],
    which: NDArray[np.bool_],
    count: int,
    *,
    highest: bool,
) -> None:
    sign = np.float32(-1.0 if highest else 1.0)

    def rank(start: int, stop: int) -> NDArray[np.float32]:
        value = np.nan_to_num(sign * scores[start:stop], nan=-np.inf)  # without a score: first
        return np.where(which[start:stop], value, np.float32(np.nan))

    reason[smallest(rank, reason.size, count)] = Reason.KEPT


def _apply_class_floor(
    reason: NDArray[np.uint8], scores: NDArray[np.float32], labels: NDArray[np.int32], floor: int
) -> None:
    """Keep at least ``floor`` samples per class: its highest learned ones first, then its lowest outliers."""
    kept = np.bincount(labels[reason == Reason.KEPT], minlength=int(labels.max()) + 1)
    short = np.maximum(floor - kept, 0)
    removed = (reason != Reason.KEPT) & (reason != Reason.BY_HAND) & (short[labels] > 0)
    candidates = np.flatnonzero(removed)
    if not candidates.size:
        return
    outlier = reason[candidates] == Reason.OUTLIER
    priority = np.where(outlier, scores[candidates], -scores[candidates])
    # lexsort sorts by its last key first.
    by_class = np.lexsort((candidates, priority, outlier, labels[candidates]))
    candidates = candidates[by_class]
    label = labels[candidates]
    rank = np.arange(candidates.size) - np.searchsorted(label, label, side="left")
    reason[candidates[rank < short[label]]] = Reason.KEPT
