"""Save and restore a subsampler as tensors and plain Python values, exactly, also inside an epoch."""

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
from ..arrays.distributed import meet
from ..errors import FallowError, invalid, unknown_name, wrong_state
from ..policies.base import Reason
from .class_ids import ClassIds
from .described import as_code, describe, same
from .epoch_scores import EpochScores
from .history import EpochRecord
from .label_change import label_change
from .plan import Plan, full_count
from .state_checks import VERSION, check_state
from .table import PREDICTED, Table

ACCEPTABLE = ("n", "labels", "policy", "schedule", "seed", "min_kept", "min_kept_per_class")
"""Names that a caller may pass in ``accept``."""
_DESCRIBED = ("policy", "schedule")
"""Settings that are objects; a state holds their descriptions."""
_STEP = "Make the Subsampler with the settings of the state, or load with accept=({name!r},)."


def sealed(packed: dict[str, Any]) -> dict[str, Any]:
    """Return a state whose content is one entry to ``torch.distributed.checkpoint``.

    That loads into the entries of the state of a new object, one by one, and would drop those that this does
    not have yet, such as past epochs. A tuple it stores and loads as a whole.
    """
    return {"version": packed["version"], "state": (packed,)}


def opened(saved: Any) -> Any:
    """Return the content of a state, as :func:`pack` has made it."""
    content = saved.get("state") if isinstance(saved, dict) else None
    return content[0] if isinstance(content, tuple) and len(content) == 1 else saved


def pack(
    settings: dict[str, Any],
    labels: NDArray[Any] | None,
    scores: EpochScores,
    plan: Plan,
    history: list[EpochRecord],
    *,
    local: bool,
) -> dict[str, Any]:
    """Return the whole state; inside an epoch of several ranks the call is collective unless ``local``."""
    scores.flush()
    ids = scores.class_ids.ids
    size = scores.ranks.size
    if size > 1 and not local and not scores.untouched:
        meet("state_dict()", scores.ranks.group)
        # A copy, so that this rank still knows which scores are its own.
        scores = deepcopy(scores)
        scores.merge()
    return {
        "version": VERSION,
        "settings": settings | {name: describe(settings[name]) for name in _DESCRIBED},
        "labels": None if labels is None else _tensor(labels.astype(_smallest_type(labels))),
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
            "full": plan.full,
            "learned": plan.learned,
        },
        "history": pack_history(history),
    }


def pack_history(history: list[EpochRecord]) -> list[dict[str, Any]]:
    """Return past epochs as a state holds them."""
    return [{"used_bits": _tensor(record.used_bits), **record.aggregates()} for record in history]


def restore(
    saved: dict[str, Any],
    settings: dict[str, Any],
    labels: NDArray[Any] | None,
    scores: EpochScores,
    accept: Collection[str] = (),
    origin: NDArray[np.int64] | None = None,
) -> tuple[Plan, list[EpochRecord]]:
    """Fill ``scores`` from a state, and return its plan and history.

    If the samples have moved since the state was saved, ``origin`` is the former position of each, -1 for a
    new one. The history is not renumbered.

    Raises:
        InvalidType: if ``saved`` is not the state of a subsampler.
        InvalidValue: if the state has another version, settings or labels that differ and are not accepted,
            or invalid values, or belongs to another rank.
        WrongState: if samples or labels differ in a state from the middle of an epoch.
    """
    try:
        return _restore(saved, settings, labels, scores, accept, origin)
    except FallowError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        # check_state() should have refused it; a state from anywhere must not end in a bare traceback.
        message = f"{type(error).__name__}: {error}"
        raise invalid("A state must be a result of Subsampler.state_dict().", f"{message:.200}") from error


def _restore(
    saved: dict[str, Any],
    settings: dict[str, Any],
    labels: NDArray[Any] | None,
    scores: EpochScores,
    accept: Collection[str],
    origin: NDArray[np.int64] | None,
) -> tuple[Plan, list[EpochRecord]]:
    # A text is a collection too, of its letters.
    accept = (accept,) if isinstance(accept, str) else accept
    for name in accept:
        if name not in ACCEPTABLE:
            raise unknown_name("name in `accept`", name, ACCEPTABLE)
    check_state(saved, settings["policy"])
    before = None if saved["labels"] is None else _array(saved["labels"])
    if origin is not None:
        _check_origin(origin, int(saved["settings"]["n"]), settings["n"])
        before = _move_labels(before, labels, origin)
    changed = _accepted_changes(saved, settings, before, labels, accept)
    part = saved["part"]
    place = [scores.ranks.rank, scores.ranks.size]
    if part is not None and part["rank_and_size"] != place:
        raise invalid(
            f"A local state belongs to its own rank and number of ranks: {place}.",
            part["rank_and_size"],
            "Load the part of this rank, or save with local=False.",
        )
    n, epoch = int(saved["settings"]["n"]), int(saved["epoch"])
    # As long as in the state; _adapted() reorders, cuts or extends it afterwards.
    scores.table = Table(n)
    scores.begin(epoch)
    _restore_table(scores.table, saved["table"])
    _renumber(scores, saved.get("class_ids"))
    # After begin(), which sets both to nothing.
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
    # States of versions without kept steps do not have it.
    full = plan.get("full", full_count(scores.table.reason))
    learned = plan.get("learned", int(np.count_nonzero(scores.table.reason == Reason.LEARNED)))
    planned = Plan(epoch, kept, weights, plan["readmitted"], dict(plan["notes"]), full, learned)
    return _adapted(planned, scores, settings, (before, labels), changed, origin), history


def _check_origin(origin: NDArray[np.int64], before: int, n: int) -> None:
    rule = f"`origin` must be int64 ({n},): each sample's former position in [0, {before}), or -1 if new."
    if origin.dtype != np.int64 or origin.shape != (n,):
        raise invalid(rule, f"{origin.dtype} {origin.shape}")
    if n and not -1 <= int(origin.min()) <= int(origin.max()) < before:
        raise invalid(rule, f"{origin.min()} to {origin.max()}")
    known = origin[origin >= 0]
    if np.unique(known).size < known.size:
        raise invalid("`origin` must name each earlier sample once.", "one of them twice")


def _move_labels(
    before: NDArray[Any] | None, now: NDArray[Any] | None, origin: NDArray[np.int64]
) -> NDArray[Any] | None:
    """Return the earlier label of each sample; a new sample's label counts as unchanged."""
    if before is None:
        return None
    new = np.full(origin.size, -1, np.int64) if now is None else now
    moved: NDArray[Any] = np.where(origin >= 0, before.astype(np.int64)[np.maximum(origin, 0)], new)
    return moved


def _renumber(scores: EpochScores, saved: Tensor | None) -> None:
    """Translate the predicted classes of a state to the present numbers."""
    now, scores.class_ids = scores.class_ids, ClassIds(None if saved is None else _array(saved))
    if saved is not None and PREDICTED in scores.table.columns:
        # A larger number would index past the end of the ids.
        most = int(scores.table.columns[PREDICTED].max(initial=0))
        if most > len(saved) + 1:
            raise invalid(f"The state must hold predicted classes of at most {len(saved) + 1}.", most)
    scores.renumber(now)


def _accepted_changes(
    saved: dict[str, Any],
    settings: dict[str, Any],
    before: NDArray[Any] | None,
    labels: NDArray[Any] | None,
    accept: Collection[str],
) -> set[str]:
    """Return the names of settings that differ from the state.

    Raises:
        InvalidValue: if a difference is not accepted.
    """
    changed = set()
    for name, now in settings.items():
        former = saved["settings"].get(name)
        described = name in _DESCRIBED
        if not (same(former, now) if described else former == now):
            if name not in accept:
                # Both by the fields that differ from the defaults, so that one sees what differs.
                wanted = as_code(describe(now)) if described else repr(now)
                found = as_code(former) if described else repr(former)
                raise invalid(
                    f"The state must have the same `{name}`: {wanted}.", found, _STEP.format(name=name)
                )
            changed.add(name)
    if (change := label_change(before, labels)) is not None:
        if "labels" not in accept:
            rule = "The state must have the same `labels`."
            raise invalid(rule, change.text, _STEP.format(name="labels"))
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
    """Adapt table and plan to the accepted differences, and return the plan.

    Samples whose label changed lose their score, so that they train. Another policy starts without the memory
    of the old one.
    """
    table = scores.table
    if (changed & {"n", "labels"} or origin is not None) and not scores.untouched:
        raise wrong_state(
            f"The state was saved in the middle of epoch {plan.epoch + 1}, whose samples are planned.",
            "To change samples or labels, load a state from between two epochs.",
        )
    if "policy" in changed:
        table.columns = {name: column for name, column in table.columns.items() if name == PREDICTED}
        table.notes.clear()
    n = settings["n"]
    weights = None if "policy" in changed else plan.weights
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
        readmitted = min(plan.readmitted, len(table))  # an upper bound: some may have been deleted
        kept, full = Bitset(table.reason == Reason.KEPT), full_count(table.reason)
        plan = replace(plan, kept=kept, readmitted=readmitted, full=full)
    return replace(plan, weights=weights)


def _smallest_type(labels: NDArray[Any]) -> type[np.integer[Any]]:
    low, high = labels.min(initial=0), labels.max(initial=0)
    kinds: list[type[np.integer[Any]]] = [np.uint8, np.uint16, np.int32]
    # A class id mostly fits into one byte, and a state holds one for each sample.
    for kind in kinds:
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return kind
    return np.int64


def _pack_part(scores: EpochScores) -> dict[str, Any]:
    resumed = scores.resumed
    return {
        "rank_and_size": [scores.ranks.rank, scores.ranks.size],
        "recorded": scores.recorded,
        "resumed": None if resumed is None else _tensor(resumed),
        "shared_repeats": scores.shared_repeats,
    }


def _restore_part(scores: EpochScores, part: dict[str, Any]) -> None:
    scores.recorded = scores.loaded = int(part["recorded"])
    scores.shared_repeats = int(part["shared_repeats"])
    scores.resumed = None if part["resumed"] is None else _array(part["resumed"])


def _pack_table(table: Table) -> dict[str, Any]:
    repeated_index, repeated_scores = table.repeated()
    return {
        "scores": _tensor(table.scores),
        "scored_in": _tensor(table.scored_in),
        "reason": _tensor(table.reason),
        "seen": _tensor(table.seen),
        "again_index": _tensor(repeated_index),
        "again_scores": _tensor(repeated_scores),
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
    # A copy, because the training goes on changing the array.
    return torch.from_numpy(array.copy())


def _array(tensor: Tensor) -> NDArray[Any]:
    # A copy, because numpy() shares the memory of the state, which may be loaded again.
    return tensor.detach().cpu().numpy().copy()
