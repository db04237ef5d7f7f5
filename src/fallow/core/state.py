"""The state of a subsampler as tensors and plain Python values: exact, in the middle of an epoch too."""

from __future__ import annotations

from collections.abc import Collection
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arrays.bitset import Bitset, unpack
from ..arrays.distributed import rank_and_size
from ..errors import FallowError, invalid, unknown_name, wrong_state
from ..policies.base import Reason
from .class_ids import ClassIds
from .described import describe, same, shown
from .epoch_scores import EpochScores
from .history import EpochRecord
from .label_change import label_change
from .plan import Plan
from .state_checks import VERSION, check_state
from .table import PREDICTED, Table

ACCEPTABLE = ("n", "labels", "policy", "schedule", "seed", "min_kept", "min_kept_per_class")
"""What may differ from the state where the caller says so."""
_DESCRIBED = ("policy", "schedule")
"""Settings that are objects, and that a state describes."""
_HOW = "Make the Subsampler as it was made for the state, or load with accept=({name!r},)."


def pack(
    settings: dict[str, Any],
    labels: NDArray[Any] | None,
    scores: EpochScores,
    plan: Plan,
    history: list[EpochRecord],
    *,
    local: bool,
) -> dict[str, Any]:
    """Return the whole state; with other ranks in mid-epoch this is collective unless ``local``."""
    scores.flush()
    ids = scores.class_ids.ids
    _, size = rank_and_size()
    if size > 1 and not local and not scores.unbegun:
        scores = deepcopy(scores)
        scores.merge()
    return {
        "version": VERSION,
        "settings": settings | {name: describe(settings[name]) for name in _DESCRIBED},
        "labels": None if labels is None else _tensor(labels.astype(_smallest(labels))),
        **({} if ids is None else {"class_ids": _tensor(ids)}),
        "epoch": plan.epoch,
        "part": _pack_part(scores) if local and size > 1 else None,
        "seconds": scores.seconds,
        "measured": scores.measured,
        "table": _pack_table(scores.table),
        "plan": {
            "kept": _tensor(plan.kept.packed()),
            "weights": None if plan.weights is None else _tensor(plan.weights),
            "readmitted": plan.readmitted,
            "notes": dict(plan.notes),
        },
        "history": [{"used_bits": _tensor(record.used_bits), **record.aggregates()} for record in history],
    }


def restore(
    saved: dict[str, Any],
    settings: dict[str, Any],
    labels: NDArray[Any] | None,
    scores: EpochScores,
    accept: Collection[str] = (),
    origin: NDArray[np.int64] | None = None,
) -> tuple[Plan, list[EpochRecord]]:
    """Fill ``scores`` from a state, and return the plan and the history in it.

    ``origin`` says where each sample stood, -1 for a new one, if samples stand elsewhere than in the state;
    the history is taken as it is.

    Raises:
        InvalidType: if ``saved`` is no state of a subsampler.
        InvalidValue: if it is of another version, of settings or labels that differ and are not accepted,
            another rank's part, or holds what no training leaves.
        WrongState: for other samples or labels in the middle of an epoch.
    """
    try:
        return _restore(saved, settings, labels, scores, accept, origin)
    except FallowError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise invalid("A state must hold what Subsampler.state_dict() gives.", f"{what:.200}") from error


def _restore(
    saved: dict[str, Any],
    settings: dict[str, Any],
    labels: NDArray[Any] | None,
    scores: EpochScores,
    accept: Collection[str],
    origin: NDArray[np.int64] | None,
) -> tuple[Plan, list[EpochRecord]]:
    accept = (accept,) if isinstance(accept, str) else accept
    for name in accept:
        if name not in ACCEPTABLE:
            raise unknown_name("name in `accept`", name, ACCEPTABLE)
    check_state(saved, settings["policy"])
    before = None if saved["labels"] is None else _array(saved["labels"])
    if origin is not None:
        _check_origin(origin, int(saved["settings"]["n"]), settings["n"])
        before = _labels_moved(before, labels, origin)
    changed = _refuse(saved, settings, before, labels, accept)
    part = saved["part"]
    if part is not None and part["rank_and_size"] != list(rank_and_size()):
        raise invalid(
            f"A local state belongs to its own rank and number of ranks: {list(rank_and_size())}.",
            part["rank_and_size"],
            "Load the part of this rank, or save with local=False.",
        )
    n, epoch = int(saved["settings"]["n"]), int(saved["epoch"])
    scores.table = Table(n)
    scores.begin(epoch)
    _restore_table(scores.table, saved["table"])
    _renumber(scores, saved.get("class_ids"))
    scores.seconds, scores.measured = float(saved["seconds"]), saved["measured"]
    if part is not None:
        _restore_part(scores, part)
    elif scores.table.recorded:
        scores.resume()
    plan = saved["plan"]
    weights = None if plan["weights"] is None else _array(plan["weights"])
    kept = Bitset(unpack(_array(plan["kept"]), n))
    history = []
    for entry in saved["history"]:
        aggregates = {name: value for name, value in entry.items() if name != "used_bits"}
        history.append(EpochRecord.restore(_array(entry["used_bits"]), aggregates))
    planned = Plan(epoch, kept, weights, plan["readmitted"], dict(plan["notes"]))
    return _adapted(planned, scores, settings, (before, labels), changed, origin), history


def _check_origin(origin: NDArray[np.int64], before: int, n: int) -> None:
    """Raise where ``origin`` does not say where each of ``n`` samples stood among those before."""
    rule = f"`origin` must be int64 ({n},): where each sample stood, in [0, {before}), or -1 for a new one."
    if origin.dtype != np.int64 or origin.shape != (n,):
        raise invalid(rule, f"{origin.dtype} {origin.shape}")
    if n and not -1 <= int(origin.min()) <= int(origin.max()) < before:
        raise invalid(rule, f"{origin.min()} to {origin.max()}")
    known = origin[origin >= 0]
    if np.unique(known).size < known.size:
        raise invalid("`origin` must name each earlier sample once.", "one of them twice")


def _labels_moved(
    before: NDArray[Any] | None, now: NDArray[Any] | None, origin: NDArray[np.int64]
) -> NDArray[Any] | None:
    """Return the earlier label of each sample; a new one has always had the label that it has."""
    if before is None:
        return None
    new = np.full(origin.size, -1, np.int64) if now is None else now
    moved: NDArray[Any] = np.where(origin >= 0, before.astype(np.int64)[np.maximum(origin, 0)], new)
    return moved


def _renumber(scores: EpochScores, saved: Tensor | None) -> None:
    """Let the table know predicted classes by the numbers that they have now."""
    now, scores.class_ids = scores.class_ids, ClassIds(None if saved is None else _array(saved))
    if saved is not None and PREDICTED in scores.table.columns:
        most = int(scores.table.columns[PREDICTED].max(initial=0))
        if most > len(saved) + 1:
            raise invalid(f"The state must hold predicted classes of at most {len(saved) + 1}.", most)
    scores.renumber(now)


def _refuse(
    saved: dict[str, Any],
    settings: dict[str, Any],
    before: NDArray[Any] | None,
    labels: NDArray[Any] | None,
    accept: Collection[str],
) -> set[str]:
    """Raise for the first difference that is not accepted; return the names of those that are."""
    changed = set()
    for name, ours in settings.items():
        theirs = saved["settings"].get(name)
        described = name in _DESCRIBED
        if not (same(theirs, ours) if described else theirs == ours):
            if name not in accept:
                rule = f"The state must belong to the same `{name}`: {ours!r}."
                raise invalid(rule, shown(theirs) if described else repr(theirs), _HOW.format(name=name))
            changed.add(name)
    if (change := label_change(before, labels)) is not None:
        if "labels" not in accept:
            rule = "The state must belong to the same `labels`."
            raise invalid(rule, change.text, _HOW.format(name="labels"))
        changed.add("labels")
    return changed


def _adapted(
    plan: Plan,
    scores: EpochScores,
    settings: dict[str, Any],
    labels: tuple[NDArray[Any] | None, NDArray[Any] | None],
    changed: set[str],
    origin: NDArray[np.int64] | None,
) -> Plan:
    """Change what was restored for settings that differ and are accepted, and return the plan for them.

    Samples with another label lose their score, so that they train; new ones have none. A policy of
    another kind begins without the memory of the old one.
    """
    table = scores.table
    if (changed & {"n", "labels"} or origin is not None) and not scores.unbegun:
        raise wrong_state(
            f"The state was saved in the middle of an epoch ({plan.epoch + 1}, counted from 1), whose "
            "samples are planned.",
            "Other samples or labels need a state from between two epochs.",
        )
    if "policy" in changed:
        table.columns = {name: column for name, column in table.columns.items() if name == PREDICTED}
        table.notes.clear()
    weights, n = None if "policy" in changed else plan.weights, settings["n"]
    if origin is not None:
        scores.rearrange(origin)
        if weights is not None:
            weights = np.where(origin >= 0, weights[np.maximum(origin, 0)], np.float32(1))
    if "labels" in changed and labels[0] is not None and labels[1] is not None:
        common = min(labels[0].size, labels[1].size)
        table.forget(np.flatnonzero(labels[0][:common] != labels[1][:common]))
    if n < len(table):
        table.cut(n)
        weights = None if weights is None else weights[:n]
    elif n > len(table):
        more = n - len(table)
        scores.grow(more)
        weights = None if weights is None else np.concatenate([weights, np.ones(more, np.float32)])
    if changed & {"n", "labels"} or origin is not None:
        readmitted = min(plan.readmitted, len(table))  # of those that are gone nobody knows how many were
        plan = replace(plan, kept=Bitset(table.reason == Reason.KEPT), readmitted=readmitted)
    return replace(plan, weights=weights)


def _smallest(labels: NDArray[Any]) -> type[np.integer[Any]]:
    """Return the smallest type that holds all ids."""
    kinds: list[type[np.integer[Any]]] = [np.uint8, np.uint16, np.int32]
    low, high = labels.min(initial=0), labels.max(initial=0)
    return next(
        (kind for kind in kinds if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max), np.int64
    )


def _pack_part(scores: EpochScores) -> dict[str, Any]:
    """Return what only this rank knows, beside its table."""
    resumed = scores.resumed
    return {
        "rank_and_size": list(rank_and_size()),
        "recorded": scores.recorded,
        "resumed": None if resumed is None else _tensor(resumed),
        "shared_repeats": scores.shared_repeats,
    }


def _restore_part(scores: EpochScores, part: dict[str, Any]) -> None:
    scores.recorded = scores.loaded = int(part["recorded"])
    scores.shared_repeats = int(part["shared_repeats"])
    scores.resumed = None if part["resumed"] is None else _array(part["resumed"])


def _pack_table(table: Table) -> dict[str, Any]:
    again_index, again_scores = table.repeated()
    return {
        "scores": _tensor(table.scores),
        "scored_in": _tensor(table.scored_in),
        "reason": _tensor(table.reason),
        "seen": _tensor(table.seen),
        "again_index": _tensor(again_index),
        "again_scores": _tensor(again_scores),
        "columns": {name: _tensor(column) for name, column in table.columns.items()},
        "notes": dict(table.notes),
        "bad": table.bad,
        "recorded": table.recorded,
    }


def _restore_table(table: Table, saved: dict[str, Any]) -> None:
    for name in ("scores", "scored_in", "reason", "seen"):
        setattr(table, name, _array(saved[name]))
    table.columns = {name: _array(column) for name, column in saved["columns"].items()}
    table.notes = {name: float(value) for name, value in saved["notes"].items()}
    table.repeat(_array(saved["again_index"]), _array(saved["again_scores"]))
    table.bad, table.recorded = saved["bad"], saved["recorded"]


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(array.copy())


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy().copy()
