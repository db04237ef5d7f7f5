"""Validate a saved state of a subsampler (types, lengths, ranges, consistency) before anything changes.

A state may come from anywhere. Invalid values would otherwise fail later, in the middle of a step, or be
written to a file that cannot be read back.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arrays.bitset import unpack
from ..errors import DamagedData, InvalidValue, invalid, invalid_type
from ..files.checked_json import MAX_EPOCHS, MOST_SECONDS, check_kind
from ..policies.base import Policy, Reason
from ..policies.watch import WOULD
from .described import same
from .history import EDGES, Aggregates
from .table import MEASURED, PREDICTED, UNSEEN

VERSION = 2
MOST = 1 << 53
"""Upper bound of counts: JSON readers keep larger integers as rounded floats."""
_KEYS = {"version", "settings", "labels", "epoch", "part", "seconds", "measured", "table", "plan", "history"}
_SETTINGS = {"n", "policy", "schedule", "seed", "min_kept", "min_kept_per_class"}
_ROWS: dict[str, type[np.generic]] = {
    "scores": np.float32,
    "scored_in": np.uint16,
    "reason": np.uint8,
    "seen": np.uint8,
}
_REPEATS: dict[str, type[np.generic]] = {"again_index": np.int64, "again_scores": np.float32}
_TABLE = {*_ROWS, *_REPEATS, "columns", "notes", "bad", "recorded"}
_PLAN = {"kept", "weights", "readmitted", "notes"}
_PART = {"rank_and_size", "recorded", "resumed", "shared_repeats"}
_RECORD = {*Aggregates.__struct_fields__, "used_bits", "record_seconds"}
_STEP = "Load an unchanged result of Subsampler.state_dict()."

COLUMNS: dict[str, type[np.generic]] = {
    PREDICTED: np.int32,
    "visits_above_high": np.uint8,
    "visits_wrong": np.uint8,
    "visits": np.uint8,
    "mean_score": np.float32,
    "in_turn": np.bool_,
    "mean_error": np.float32,
    "score_before": np.float32,  # of earlier versions
    "learned": np.bool_,
    "left_out": np.bool_,
    "learned_since": np.uint16,
    "once_right": np.bool_,
    "ies_last": np.float32,
    "ies_before": np.float32,
    "ies_count": np.uint8,
    "repb_sat_out": np.uint16,
    "ucb_mean": np.float32,
    "ucb_visits": np.uint16,
}
"""The columns of this package's policies; ``ies_change_0`` and so on are float32."""


def check_state(saved: Any, policy: Policy, *, without_history: bool = False) -> None:
    """Raise if a state is one that no training can leave.

    Args:
        saved: the state.
        policy: the present policy. If the state has the same one, its columns and notes are checked, too.
        without_history: whether the history is stored elsewhere, as in a run.

    Raises:
        InvalidType: if a value has another type, or a name is missing or unknown.
        InvalidValue: if a value is out of range or contradicts another one.
    """
    if not isinstance(saved, dict) or not {"version", "settings", "table", "plan"} <= saved.keys():
        raise invalid_type("A state must come from Subsampler.state_dict().", type(saved).__name__)
    if isinstance(saved["version"], bool) or saved["version"] != VERSION:
        step = "Load it with the fallow that saved it."
        raise invalid(f"The state must be of version {VERSION}.", saved["version"], step)
    _check_names("", saved, _KEYS, optional={"class_ids", "ending"})
    n = _check_settings(saved["settings"])
    epoch = _whole("epoch", saved["epoch"], 0, MAX_EPOCHS - 1)
    _seconds("seconds", saved["seconds"])
    if type(saved["measured"]) is not bool:
        raise _wrong_kind("measured", "true or false", saved["measured"])
    if saved["labels"] is not None:
        labels = _array("labels", saved["labels"], None, n)
        if labels.dtype.kind not in "iu":
            raise _wrong_kind("labels", "whole numbers", saved["labels"].dtype)
    if "ending" in saved:
        _check_ending(saved["ending"], epoch)
    ids = saved.get("class_ids")
    if ids is not None:
        values = _array("class_ids", ids, np.int64, None)
        if not values.size or (np.diff(values) <= 0).any():
            raise invalid(
                "The state must hold `class_ids` in ascending order.", f"{values.size} others", _STEP
            )
    # A user's own policy may keep any columns and notes.
    known_policy = type(policy).__module__.startswith("fallow.") and same(saved["settings"]["policy"], policy)
    _check_table(saved["table"], n, epoch, known_policy=known_policy)
    _check_plan(saved["plan"], n, saved["table"], known_policy=known_policy)
    if saved["part"] is not None:
        _check_part(saved["part"], n, saved["table"])
    if not without_history:
        _check_history(saved["history"], epoch)


def _check_ending(ending: Any, epoch: int) -> None:
    _check_names("ending", ending, {"start", "progress", "end"})
    start = _whole("ending.start", ending["start"], 0, epoch)
    _whole("ending.end", ending["end"], max(epoch, start + 1), MAX_EPOCHS)
    progress = ending["progress"]
    if not isinstance(progress, float) or not 0 <= progress <= 1:
        raise invalid("The state must hold `ending.progress` in [0, 1].", progress, _STEP)


def _check_settings(settings: Any) -> int:
    """Check the settings and return the number of samples."""
    _check_names("settings", settings, _SETTINGS)
    n = _whole("settings.n", settings["n"], 1, MOST)
    _whole("settings.seed", settings["seed"], None, None)
    _whole("settings.min_kept", settings["min_kept"], 1, n)
    _whole("settings.min_kept_per_class", settings["min_kept_per_class"], 0, MOST)
    for name in ("policy", "schedule"):
        if not isinstance(settings[name], dict | str):
            raise _wrong_kind(f"settings.{name}", "a description", settings[name])
    return n


def _check_table(table: Any, n: int, epoch: int, *, known_policy: bool) -> None:
    _check_names("table", table, _TABLE)
    rows = {name: _array(f"table.{name}", table[name], kind, n) for name, kind in _ROWS.items()}
    again = {name: _array(f"table.{name}", table[name], kind, None) for name, kind in _REPEATS.items()}
    _check_columns(table["columns"], n, known_policy=known_policy)
    _check_notes("table.notes", table["notes"], known_policy=known_policy)
    highest = {"reason": len(Reason) - 1, "seen": MEASURED, "scored_in": epoch + 1}
    for name, most in highest.items():
        if (worst := int(rows[name].max(initial=0))) > most:
            raise invalid(f"The state must hold `{name}` of at most {most}.", worst, _STEP)
    scores, scored_in = rows["scores"], rows["scored_in"]
    if np.isinf(scores).any() or np.isinf(again["again_scores"]).any():
        raise invalid("The state must hold finite scores, or NaN for none.", "an infinite one", _STEP)
    if (~np.isnan(scores) & (scored_in == 0)).any():
        raise invalid("The state must hold no score of a sample that was never scored.", "one", _STEP)
    now = scored_in == epoch + 1
    if (now & (rows["seen"] == UNSEEN)).any():
        rule = "The state must mark as seen each sample that was scored in this epoch."
        raise invalid(rule, "an unseen one", _STEP)
    index = again["again_index"]
    if index.shape != again["again_scores"].shape:
        found = f"{index.size:,} and {again['again_scores'].size:,}"
        raise invalid("The state must hold as many `again_index` as `again_scores`.", found, _STEP)
    if index.size and not (0 <= int(index.min()) <= int(index.max()) < n and now[index].all()):
        rule = f"`table.again_index` must name samples in [0, {n}) that were scored in this epoch."
        raise invalid(rule, f"{index.min()} to {index.max()}", _STEP)
    # `recorded` counts repeats, so only samples seen bound it from below.
    seen = int(np.count_nonzero(rows["seen"]))
    recorded = _whole("table.recorded", table["recorded"], seen, MOST if seen else 0)
    sound = int(np.isfinite(scores[now]).sum()) + int(np.isfinite(again["again_scores"]).sum())
    _whole("table.bad", table["bad"], 0, max(0, recorded - sound))


def _check_columns(columns: Any, n: int, *, known_policy: bool) -> None:
    _check_mapping("table.columns", columns)
    for name, column in columns.items():
        kind = _kind(name)
        if kind is None and known_policy:
            raise _unknown("table.columns", name, COLUMNS)
        values = _array(f"table.columns.{name}", column, kind, n)
        if values.dtype.kind not in "biuf":
            raise _wrong_kind(f"table.columns.{name}", "real numbers", values.dtype)
        if name == PREDICTED and int(values.min(initial=0)) < 0:
            raise invalid("The state must hold predicted classes of at least 0.", int(values.min()), _STEP)
        if name == "mean_error" and not ((values >= 0) & (values <= 1)).all():
            raise invalid("The state must hold `mean_error` in [0, 1].", "others", _STEP)


def _kind(name: str) -> type[np.generic] | None:
    """Return the type of a column of this package's policies; None if it is of none."""
    if name.startswith(WOULD):
        name = name.removeprefix(WOULD)
        return _ROWS.get(name) or COLUMNS.get(name)
    return np.float32 if name.startswith("ies_change_") else COLUMNS.get(name)


def _check_notes(name: str, notes: Any, *, known_policy: bool) -> None:
    _check_mapping(name, notes)
    for key, value in notes.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong_kind(f"{name}.{key}", "a number", value)
        if known_policy and not math.isfinite(value):
            raise invalid(f"The state must hold `{name}.{key}` as a finite number.", value, _STEP)


def _check_plan(plan: Any, n: int, table: dict[str, Any], *, known_policy: bool) -> None:
    _check_names("plan", plan, _PLAN, optional={"full", "learned"})
    kept = unpack(_bits("plan.kept", plan["kept"], n), n)
    if not kept.any():
        raise invalid("The state must plan at least one sample.", "none", _STEP)
    reason = table["reason"].detach().cpu().numpy()
    # Samples may be removed by hand in the middle of an epoch that has them planned.
    left_out = kept & (reason != Reason.KEPT) & (reason != Reason.BY_HAND)
    if left_out.any():
        rule = "The state must plan no sample that a policy leaves out."
        raise invalid(rule, f"sample {int(np.argmax(left_out))}, left out", _STEP)
    if plan["weights"] is not None:
        weights = _array("plan.weights", plan["weights"], np.float32, n)
        if not (np.isfinite(weights) & (weights >= 0)).all():
            raise invalid("The state must hold `plan.weights`, finite and at least 0.", "others", _STEP)
    _whole("plan.readmitted", plan["readmitted"], 0, n)
    if "full" in plan:
        _whole("plan.full", plan["full"], int(np.count_nonzero(kept)), n)
    if "learned" in plan:
        _whole("plan.learned", plan["learned"], 0, n - int(np.count_nonzero(kept)))
    _check_notes("plan.notes", plan["notes"], known_policy=known_policy)


def _check_part(part: Any, n: int, table: dict[str, Any]) -> None:
    _check_names("part", part, _PART)
    rank_and_size = part["rank_and_size"]
    if not isinstance(rank_and_size, list) or len(rank_and_size) != 2:
        raise _wrong_kind("part.rank_and_size", "a list of two numbers", rank_and_size)
    size = _whole("part.rank_and_size", rank_and_size[1], 2, MOST)
    _whole("part.rank_and_size", rank_and_size[0], 0, size - 1)
    _whole("part.recorded", part["recorded"], 0, n)
    _whole("part.shared_repeats", part["shared_repeats"], 0, len(table["again_index"]))
    if part["resumed"] is not None:
        _array("part.resumed", part["resumed"], np.bool_, n)


def _check_history(history: Any, epoch: int) -> None:
    if not isinstance(history, list):
        raise _wrong_kind("history", "a list", history)
    if len(history) != epoch:
        raise invalid(f"The state must hold the history of {epoch} epochs.", len(history), _STEP)
    for number, entry in enumerate(history):
        name = f"history[{number}]"
        _check_names(name, entry, _RECORD, optional={"gone"})
        try:
            record = check_kind(Aggregates, _as_json(entry), f"`{name}` of the state", _STEP)
        except DamagedData as error:
            raise InvalidValue(str(error)) from None  # no file is damaged here
        _seconds(f"{name}.record_seconds", entry["record_seconds"])
        gone = _whole(f"{name}.gone", entry.get("gone", 0), 0, record.n)
        bits = _bits(f"{name}.used_bits", entry["used_bits"], record.n - gone)
        if record.epoch != number:
            raise invalid(f"`{name}` must be of epoch {number}, from 0.", record.epoch, _STEP)
        # There may be fewer: samples that are gone since have no bit, but stay in the count.
        if int(np.bitwise_count(bits).sum()) > record.backward:
            raise invalid(f"`{name}` must have used at most {record.backward:,} samples.", "more", _STEP)
        total = record.kept + record.learned + record.outliers + record.not_drawn + record.by_hand
        if total != record.n or max(record.backward + record.forward_only, record.readmitted) > record.n:
            rule = f"`{name}` must count each of its {record.n:,} samples once."
            found = f"{total:,}, {record.backward:,} trained on, {record.readmitted:,} readmitted"
            raise invalid(rule, found, _STEP)
        if len(record.score_histogram) != len(EDGES):
            rule = f"`{name}` must hold a histogram of {len(EDGES)} bins."
            raise invalid(rule, len(record.score_histogram), _STEP)


def _as_json(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the plain values of a past epoch with None for NaN, as in its file."""

    def without_nan(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_nan(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [without_nan(part) for part in value]
        return None if isinstance(value, float) and math.isnan(value) else value

    return {name: without_nan(entry[name]) for name in Aggregates.__struct_fields__}


def _check_names(name: str, value: Any, wanted: Collection[str], *, optional: Collection[str] = ()) -> None:
    _check_mapping(name or "state", value)
    missing = sorted(set(wanted) - value.keys())
    if missing:
        found = f"no {missing[0]}" + (f" in {name}" if name else "")
        raise invalid_type("A state must be complete, as Subsampler.state_dict() returns it.", found, _STEP)
    unknown = sorted(value.keys() - set(wanted) - set(optional))
    if unknown:
        raise _unknown(name or "The state", unknown[0], wanted)


def _check_mapping(name: str, value: Any) -> None:
    if not isinstance(value, dict) or not all(type(key) is str for key in value):
        raise _wrong_kind(name, "a mapping from names", value)


def _unknown(name: str, key: str, known: Collection[str]) -> Exception:
    rule = f"{name} must hold no other names than {', '.join(sorted(known))}."
    return invalid_type(rule, repr(key)[:80], _STEP)


def _wrong_kind(name: str, kind: str, value: Any) -> Exception:
    return invalid_type(f"The state must hold `{name}`, {kind}.", _summary(value), _STEP)


def _summary(value: Any) -> str:
    """Return a plain value, cut if it is long, or the type of another value."""
    if isinstance(value, int) and abs(value) >= 1 << 63:
        return "a number of more than 64 bits"  # Python refuses to print more than 4,300 digits
    return repr(value)[:80] if isinstance(value, str | int | float | None) else type(value).__name__


def _whole(name: str, value: Any, low: int | None, high: int | None) -> int:
    # Not isinstance: True and False are ints too.
    if type(value) is not int:
        raise _wrong_kind(name, "a whole number", value)
    if (low is not None and value < low) or (high is not None and value > high):
        raise invalid(f"The state must hold `{name}` in [{low}, {high}].", _summary(value), _STEP)
    return value


def _seconds(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong_kind(name, "a number of seconds", value)
    if not 0 <= value < MOST_SECONDS:
        raise invalid(f"The state must hold `{name}`, seconds of at least 0.", _summary(value), _STEP)


def _array(name: str, value: Any, kind: type[np.generic] | None, size: int | None) -> NDArray[Any]:
    """Return a tensor as an array; None for ``kind`` or ``size`` allows any."""
    # numpy() refuses these as well, but with a message that names no entry.
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
        raise _wrong_kind(name, "a dense tensor", value)
    if value.device.type == "meta" or value.dtype == torch.bfloat16:
        raise _wrong_kind(name, "a tensor that numpy can hold", value)
    array: NDArray[Any] = value.detach().cpu().numpy()
    if array.ndim != 1 or size not in (None, array.size) or kind not in (None, array.dtype.type):
        wanted = f"{'' if kind is None else kind.__name__} ({'K' if size is None else size},)".strip()
        raise invalid(f"The state must hold `{name}`, {wanted}.", f"{array.dtype} {array.shape}", _STEP)
    return array


def _bits(name: str, value: Any, n: int) -> NDArray[np.uint8]:
    """Return the packed bits of ``n`` samples; the bits beyond must be 0."""
    packed = _array(name, value, np.uint8, -(-n // 8))
    if n % 8 and packed[-1] >> n % 8:
        raise invalid(f"The state must hold `{name}` of {n:,} samples.", "bits beyond them", _STEP)
    return packed
