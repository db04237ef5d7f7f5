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

from ._checks import FallowError, invalid, invalid_type, unknown_name, wrong_state
from .bitset import Bitset, unpack
from .class_ids import ClassIds
from .data_file import DataFile
from .described import describe, same, shown
from .distributed import rank_and_size
from .history import EpochRecord
from .ledger import Ledger
from .plan import Plan
from .policies.base import Reason
from .table import MEASURED, PREDICTED, Table

VERSION = 2
ACCEPTABLE = ("n", "labels", "policy", "schedule", "seed", "min_kept", "min_kept_per_class")
"""What may differ from the state where the caller says so."""
_KEYS = {"version", "settings", "labels", "epoch", "part", "seconds", "measured", "table", "plan", "history"}
_TABLE = {"scores", "scored_in", "reason", "seen", "again_index", "again_scores", "columns", "notes", "bad"}
_TABLE |= {"recorded"}
_DESCRIBED = ("policy", "schedule")
"""Settings that are objects, and that a state describes."""
_HOW = "Make the Subsampler as it was made for the state, or load with accept=({name!r},)."


def pack(
    settings: dict[str, Any],
    labels: NDArray[Any] | None,
    ledger: Ledger,
    plan: Plan,
    history: list[EpochRecord],
    *,
    local: bool,
) -> dict[str, Any]:
    """Return the whole state; with other ranks in mid-epoch this is collective unless ``local``."""
    ledger.flush()
    ids = ledger.class_ids.ids
    _, size = rank_and_size()
    if size > 1 and not local and not ledger.unbegun:
        ledger = deepcopy(ledger)
        ledger.merge()
    return {
        "version": VERSION,
        "settings": settings | {name: describe(settings[name]) for name in _DESCRIBED},
        "labels": None if labels is None else _tensor(labels.astype(_smallest(labels))),
        **({} if ids is None else {"class_ids": _tensor(ids)}),
        "epoch": plan.epoch,
        "part": _pack_part(ledger) if local and size > 1 else None,
        "seconds": ledger.seconds,
        "measured": ledger.measured,
        "table": _pack_table(ledger.table),
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
    ledger: Ledger,
    accept: Collection[str] = (),
    origin: NDArray[np.int64] | None = None,
) -> tuple[Plan, list[EpochRecord]]:
    """Fill ``ledger`` from a state, and return the plan and the history in it.

    ``origin`` says where each sample stood, -1 for a new one, if samples stand elsewhere than in the state;
    the history is taken as it is.

    Raises:
        InvalidType: if ``saved`` is no state of a subsampler.
        InvalidValue: if it is of another version, of settings or labels that differ and are not accepted,
            another rank's part, or holds what no training leaves.
        WrongState: for other samples or labels in the middle of an epoch.
    """
    try:
        return _restore(saved, settings, labels, ledger, accept, origin)
    except FallowError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise invalid("A state must hold what Subsampler.state_dict() gives.", f"{what:.200}") from error


def _restore(
    saved: dict[str, Any],
    settings: dict[str, Any],
    labels: NDArray[Any] | None,
    ledger: Ledger,
    accept: Collection[str],
    origin: NDArray[np.int64] | None,
) -> tuple[Plan, list[EpochRecord]]:
    if not isinstance(saved, dict) or not {"version", "settings", "table", "plan"} <= saved.keys():
        raise invalid_type("A state must come from Subsampler.state_dict().", type(saved).__name__)
    if saved["version"] != VERSION:
        step = "Load it with the fallow that saved it."
        raise invalid(f"The state must be of version {VERSION}.", saved["version"], step)
    accept = (accept,) if isinstance(accept, str) else accept
    lacking = sorted(_KEYS - saved.keys()) + sorted(_TABLE - saved["table"].keys())
    if lacking:
        raise invalid_type("A state must be whole, as Subsampler.state_dict() gives it.", f"no {lacking[0]}")
    for name in accept:
        if name not in ACCEPTABLE:
            raise unknown_name("name in `accept`", name, ACCEPTABLE)
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
    if len(saved["table"]["scores"]) != n:  # before so much memory is taken
        rule = f"The state must hold the scores of {n:,} samples."
        raise invalid(rule, f"{len(saved['table']['scores']):,}")
    ledger.table = Table(n)
    ledger.begin(epoch)
    _restore_table(ledger.table, saved["table"])
    _renumber(ledger, saved.get("class_ids"))
    ledger.seconds, ledger.measured = float(saved["seconds"]), bool(saved["measured"])
    if part is not None:
        _restore_part(ledger, part)
    elif ledger.table.recorded:
        ledger.resume()
    _check_values(ledger.table, epoch)
    plan = saved["plan"]
    weights = None if plan["weights"] is None else _array(plan["weights"])
    for name, found, size in (("kept", plan["kept"], -(-n // 8)), ("weights", weights, n)):
        if found is not None and found.shape != (size,):
            raise invalid(f"The state must hold `plan.{name}`, ({size},).", f"shape {tuple(found.shape)}")
    kept = Bitset(unpack(_array(plan["kept"]), n))
    history = []
    for entry in saved["history"]:
        aggregates = {name: value for name, value in entry.items() if name != "used_bits"}
        history.append(EpochRecord.restore(_array(entry["used_bits"]), aggregates))
    planned = Plan(epoch, kept, weights, int(plan["readmitted"]), dict(plan["notes"]))
    return _adapted(planned, ledger, settings, (before, labels), changed, origin), history


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


def _renumber(ledger: Ledger, saved: Tensor | None) -> None:
    """Let the table know predicted classes by the numbers that they have now."""
    now, ledger.class_ids = ledger.class_ids, ClassIds(None if saved is None else _array(saved))
    if saved is not None and PREDICTED in ledger.table.columns:
        most = int(ledger.table.columns[PREDICTED].max(initial=0))
        if most > len(saved) + 1:
            raise invalid(f"The state must hold predicted classes of at most {len(saved) + 1}.", most)
    ledger.renumber(now)


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
    first, second = DataFile(saved["settings"]["n"], before), DataFile(settings["n"], labels)
    words = [said for said in first.changes(second) if said.startswith("labels")]
    if words:
        if "labels" not in accept:
            rule = "The state must belong to the same `labels`."
            raise invalid(rule, words[0].removeprefix("labels: "), _HOW.format(name="labels"))
        changed.add("labels")
    return changed


def _adapted(
    plan: Plan,
    ledger: Ledger,
    settings: dict[str, Any],
    labels: tuple[NDArray[Any] | None, NDArray[Any] | None],
    changed: set[str],
    origin: NDArray[np.int64] | None,
) -> Plan:
    """Change what was restored for settings that differ and are accepted, and return the plan for them.

    Samples with another label lose their score, so that they train; new ones have none. A policy of
    another kind begins without the memory of the old one.
    """
    table = ledger.table
    if (changed & {"n", "labels"} or origin is not None) and not ledger.unbegun:
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
        ledger.rearrange(origin)
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
        ledger.grow(more)
        weights = None if weights is None else np.concatenate([weights, np.ones(more, np.float32)])
    if changed & {"n", "labels"} or origin is not None:
        plan = replace(plan, kept=Bitset(table.reason == Reason.KEPT))
    return replace(plan, weights=weights)


def _smallest(labels: NDArray[Any]) -> type[np.integer[Any]]:
    """Return the smallest type that holds all ids."""
    kinds: list[type[np.integer[Any]]] = [np.uint8, np.uint16, np.int32]
    low, high = labels.min(initial=0), labels.max(initial=0)
    return next(
        (kind for kind in kinds if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max), np.int64
    )


def _check_values(table: Table, epoch: int) -> None:
    """Raise where a state holds what no training leaves."""
    if not 0 <= epoch < 1 << 16:
        raise invalid("The state must be of an epoch in [0, 65536).", epoch)
    highest = {"reason": len(Reason) - 1, "seen": MEASURED, "scored_in": epoch + 1}
    for name, most in highest.items():
        if (found := int(getattr(table, name).max(initial=0))) > most:
            raise invalid(f"The state must hold `{name}` of at most {most}.", found)
    if np.isinf(table.scores).any():
        raise invalid("The state must hold finite scores, or NaN for none.", "an infinite one")


def _pack_part(ledger: Ledger) -> dict[str, Any]:
    """Return what only this rank knows, beside its table."""
    resumed = ledger.resumed
    return {
        "rank_and_size": list(rank_and_size()),
        "recorded": ledger.recorded,
        "resumed": None if resumed is None else _tensor(resumed),
        "shared_repeats": ledger.shared_repeats,
    }


def _restore_part(ledger: Ledger, part: dict[str, Any]) -> None:
    ledger.recorded = ledger.loaded = int(part["recorded"])
    ledger.shared_repeats = int(part["shared_repeats"])
    ledger.resumed = None if part["resumed"] is None else _array(part["resumed"])


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
        setattr(table, name, _column(name, saved[name], getattr(table, name)))
    table.columns = {str(name): _array(column) for name, column in saved["columns"].items()}
    for name, column in table.columns.items():
        if column.shape[:1] != (len(table),):
            raise invalid(f"The state must hold a column `{name}` of {len(table):,} rows.", column.shape)
    table.notes = {name: float(value) for name, value in saved["notes"].items()}
    table.repeat(_array(saved["again_index"]), _array(saved["again_scores"]))
    table.bad, table.recorded = int(saved["bad"]), int(saved["recorded"])


def _column(name: str, saved: Tensor, like: NDArray[Any]) -> NDArray[Any]:
    """Return a column of the table, which must be of the type and the length that it has."""
    found = _array(saved)
    if found.shape != like.shape or found.dtype != like.dtype:
        rule = f"The state must hold `{name}`, {like.dtype} {like.shape}."
        raise invalid(rule, f"{found.dtype} {found.shape}")
    return found


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(array.copy())


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy().copy()
