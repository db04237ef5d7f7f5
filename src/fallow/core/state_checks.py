"""What a saved state of a subsampler may hold: every kind, length and range, checked before anything changes.

A state may come from anywhere. What no training leaves would fail later, in the middle of a step, or be
written into a file that nobody can read.
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
from .described import same
from .history import EDGES, Aggregates
from .table import MEASURED, PREDICTED, UNSEEN

VERSION = 2
MOST = 1 << 53
"""Counts are below: JSON keeps no larger ones."""
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
_HOW = "Load a state that Subsampler.state_dict() returned and that nobody changed."

COLUMNS: dict[str, type[np.generic]] = {
    PREDICTED: np.int32,
    "visits_above_high": np.uint8,
    "visits_wrong": np.uint8,
    "visits": np.uint8,
    "mean_score": np.float32,
    "score_before": np.float32,
    "learned": np.bool_,
    "ies_last": np.float32,
    "ies_before": np.float32,
    "ies_count": np.uint8,
    "repb_sat_out": np.uint16,
    "ucb_mean": np.float32,
    "ucb_visits": np.uint16,
}
"""What the policies of this package remember of each sample; ``ies_change_0`` and so on are float32."""


def check_state(saved: Any, policy: Policy, *, without_history: bool = False) -> None:
    """Raise if a state holds anything that no training leaves; nothing is changed.

    Args:
        saved: the state.
        policy: what it remembers is looked at where the state belongs to it.
        without_history: whether the history lies elsewhere, as that of a run.

    Raises:
        InvalidType: for another kind of value, or a name that is missing or unknown.
        InvalidValue: for a value out of its range, or one that contradicts another.
    """
    if not isinstance(saved, dict) or not {"version", "settings", "table", "plan"} <= saved.keys():
        raise invalid_type("A state must come from Subsampler.state_dict().", type(saved).__name__)
    if isinstance(saved["version"], bool) or saved["version"] != VERSION:
        step = "Load it with the fallow that saved it."
        raise invalid(f"The state must be of version {VERSION}.", saved["version"], step)
    _names("", saved, _KEYS, optional={"class_ids"})
    n = _check_settings(saved["settings"])
    epoch = _whole("epoch", saved["epoch"], 0, MAX_EPOCHS - 1)
    _real("seconds", saved["seconds"])
    if type(saved["measured"]) is not bool:
        raise _wrong_kind("measured", "true or false", saved["measured"])
    if saved["labels"] is not None:
        _integers("labels", saved["labels"], n)
    ids = saved.get("class_ids")
    if ids is not None:
        found = _array("class_ids", ids, np.int64, None)
        if not found.size or (np.diff(found) <= 0).any():
            raise invalid("The state must hold `class_ids` in ascending order.", f"{found.size} others", _HOW)
    of_fallow = type(policy).__module__.startswith("fallow.")
    ours = of_fallow and same(saved["settings"]["policy"], policy)
    _check_table(saved["table"], n, epoch, ours=ours)
    _check_plan(saved["plan"], n, saved["table"], ours=ours)
    if saved["part"] is not None:
        _check_part(saved["part"], n, saved["table"])
    if not without_history:
        _check_history(saved["history"], epoch)


def _check_settings(settings: Any) -> int:
    """Return how many samples there are."""
    _names("settings", settings, _SETTINGS)
    n = _whole("settings.n", settings["n"], 1, MOST)
    _whole("settings.seed", settings["seed"], None, None)
    _whole("settings.min_kept", settings["min_kept"], 1, n)
    _whole("settings.min_kept_per_class", settings["min_kept_per_class"], 0, MOST)
    for name in ("policy", "schedule"):
        if not isinstance(settings[name], dict | str):
            raise _wrong_kind(f"settings.{name}", "a description", settings[name])
    return n


def _check_table(table: Any, n: int, epoch: int, *, ours: bool) -> None:
    _names("table", table, _TABLE)
    rows = {name: _array(f"table.{name}", table[name], kind, n) for name, kind in _ROWS.items()}
    again = {name: _array(f"table.{name}", table[name], kind, None) for name, kind in _REPEATS.items()}
    _check_columns(table["columns"], n, ours=ours)
    _check_notes("table.notes", table["notes"], ours=ours)
    highest = {"reason": len(Reason) - 1, "seen": MEASURED, "scored_in": epoch + 1}
    for name, most in highest.items():
        if (worst := int(rows[name].max(initial=0))) > most:
            raise invalid(f"The state must hold `{name}` of at most {most}.", worst, _HOW)
    scores, scored_in = rows["scores"], rows["scored_in"]
    if np.isinf(scores).any() or np.isinf(again["again_scores"]).any():
        raise invalid("The state must hold finite scores, or NaN for none.", "an infinite one", _HOW)
    if (~np.isnan(scores) & (scored_in == 0)).any():
        raise invalid("The state must hold no score of a sample that was never scored.", "one", _HOW)
    now = scored_in == epoch + 1
    if (now & (rows["seen"] == UNSEEN)).any():
        rule = "The state must have seen each sample that it scored in this epoch."
        raise invalid(rule, "one that was not seen", _HOW)
    index = again["again_index"]
    if index.shape != again["again_scores"].shape:
        found = f"{index.size:,} and {again['again_scores'].size:,}"
        raise invalid("The state must hold as many `again_index` as `again_scores`.", found, _HOW)
    if index.size and not (0 <= int(index.min()) <= int(index.max()) < n and now[index].all()):
        rule = f"`table.again_index` must name samples in [0, {n}) that were scored in this epoch."
        raise invalid(rule, f"{index.min()} to {index.max()}", _HOW)
    # A sample may come any number of times, and each time is counted.
    seen = int(np.count_nonzero(rows["seen"]))
    recorded = _whole("table.recorded", table["recorded"], seen, MOST if seen else 0)
    sound = int(np.isfinite(scores[now]).sum()) + int(np.isfinite(again["again_scores"]).sum())
    _whole("table.bad", table["bad"], 0, max(0, recorded - sound))


def _check_columns(columns: Any, n: int, *, ours: bool) -> None:
    _check_mapping("table.columns", columns)
    for name, column in columns.items():
        kind = np.float32 if name.startswith("ies_change_") else COLUMNS.get(name)
        if kind is None and ours:
            raise _unknown("table.columns", name, COLUMNS)
        found = _array(f"table.columns.{name}", column, kind, n)
        if found.dtype.kind not in "biuf":
            raise _wrong_kind(f"table.columns.{name}", "real numbers", found.dtype)
        if name == PREDICTED and int(found.min(initial=0)) < 0:
            raise invalid("The state must hold predicted classes of at least 0.", int(found.min()), _HOW)


def _check_notes(name: str, notes: Any, *, ours: bool) -> None:
    _check_mapping(name, notes)
    for key, value in notes.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong_kind(f"{name}.{key}", "a number", value)
        if ours and not math.isfinite(value):
            raise invalid(f"The state must hold `{name}.{key}` as a finite number.", value, _HOW)


def _check_plan(plan: Any, n: int, table: dict[str, Any], *, ours: bool) -> None:
    _names("plan", plan, _PLAN)
    kept = unpack(_bits("plan.kept", plan["kept"], n), n)
    if not kept.any():
        raise invalid("The state must plan at least one sample.", "none", _HOW)
    reason = table["reason"].detach().cpu().numpy()
    out = kept & (reason != Reason.KEPT) & (reason != Reason.BY_HAND)
    if out.any():
        rule = "The state must plan no sample that a policy leaves out."
        raise invalid(rule, f"sample {int(np.argmax(out))}, left out", _HOW)
    if plan["weights"] is not None:
        weights = _array("plan.weights", plan["weights"], np.float32, n)
        if not (np.isfinite(weights) & (weights >= 0)).all():
            raise invalid("The state must hold `plan.weights`, finite and at least 0.", "others", _HOW)
    _whole("plan.readmitted", plan["readmitted"], 0, n)
    _check_notes("plan.notes", plan["notes"], ours=ours)


def _check_part(part: Any, n: int, table: dict[str, Any]) -> None:
    _names("part", part, _PART)
    place = part["rank_and_size"]
    if not isinstance(place, list) or len(place) != 2:
        raise _wrong_kind("part.rank_and_size", "a list of two numbers", place)
    size = _whole("part.rank_and_size", place[1], 2, MOST)
    _whole("part.rank_and_size", place[0], 0, size - 1)
    _whole("part.recorded", part["recorded"], 0, n)
    _whole("part.shared_repeats", part["shared_repeats"], 0, len(table["again_index"]))
    if part["resumed"] is not None:
        _array("part.resumed", part["resumed"], np.bool_, n)


def _check_history(history: Any, epoch: int) -> None:
    if not isinstance(history, list):
        raise _wrong_kind("history", "a list", history)
    if len(history) != epoch:
        raise invalid(f"The state must hold the history of {epoch} epochs.", len(history), _HOW)
    for place, entry in enumerate(history):
        at = f"history[{place}]"
        _names(at, entry, _RECORD, optional={"gone"})
        try:
            said = check_kind(Aggregates, _as_json(entry), f"`{at}` of the state", _HOW)
        except DamagedData as error:
            raise InvalidValue(str(error)) from None
        _real(f"{at}.record_seconds", entry["record_seconds"])
        gone = _whole(f"{at}.gone", entry.get("gone", 0), 0, said.n)
        bits = _bits(f"{at}.used_bits", entry["used_bits"], said.n - gone)
        if said.epoch != place:
            raise invalid(f"`{at}` must be of epoch {place}, from 0.", said.epoch, _HOW)
        if int(np.bitwise_count(bits).sum()) > said.backward:
            raise invalid(f"`{at}` must have used at most {said.backward:,} samples.", "more", _HOW)
        apart = said.kept + said.learned + said.outliers + said.not_drawn + said.by_hand
        if apart != said.n or max(said.backward + said.forward_only, said.readmitted) > said.n:
            rule = f"`{at}` must count each of its {said.n:,} samples once."
            raise invalid(rule, f"{apart:,}, {said.backward:,} trained on, {said.readmitted:,} back", _HOW)
        if len(said.score_histogram) != len(EDGES):
            rule = f"`{at}` must hold a histogram of {len(EDGES)} bins."
            raise invalid(rule, len(said.score_histogram), _HOW)


def _as_json(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the plain values of a past epoch with None in place of NaN, as its file holds them."""

    def one(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: one(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [one(part) for part in value]
        return None if isinstance(value, float) and math.isnan(value) else value

    return {name: one(entry[name]) for name in Aggregates.__struct_fields__}


def _names(name: str, found: Any, wanted: Collection[str], *, optional: Collection[str] = ()) -> None:
    """Raise where a mapping has not exactly the wanted names."""
    _check_mapping(name or "state", found)
    lacking = sorted(set(wanted) - found.keys())
    if lacking:
        what = f"no {lacking[0]}" + (f" in {name}" if name else "")
        raise invalid_type("A state must be whole, as Subsampler.state_dict() gives it.", what, _HOW)
    unknown = sorted(found.keys() - set(wanted) - set(optional))
    if unknown:
        raise _unknown(name or "The state", unknown[0], wanted)


def _check_mapping(name: str, found: Any) -> None:
    if not isinstance(found, dict) or not all(type(key) is str for key in found):
        raise _wrong_kind(name, "a mapping from names", found)


def _unknown(name: str, found: str, known: Collection[str]) -> Exception:
    rule = f"{name} must hold no other names than {', '.join(sorted(known))}."
    return invalid_type(rule, repr(found)[:80], _HOW)


def _wrong_kind(name: str, kind: str, found: Any) -> Exception:
    return invalid_type(f"The state must hold `{name}`, {kind}.", _shown(found), _HOW)


def _shown(found: Any) -> str:
    """Return a plain value, if it is short, or its kind."""
    if isinstance(found, int) and abs(found) >= 1 << 63:
        return "a number of more than 64 bits"  # of more than 4,300 digits, Python prints none
    return repr(found)[:80] if isinstance(found, str | int | float | None) else type(found).__name__


def _whole(name: str, found: Any, low: int | None, high: int | None) -> int:
    if type(found) is not int:
        raise _wrong_kind(name, "a whole number", found)
    if (low is not None and found < low) or (high is not None and found > high):
        raise invalid(f"The state must hold `{name}` in [{low}, {high}].", _shown(found), _HOW)
    return found


def _real(name: str, found: Any) -> None:
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise _wrong_kind(name, "a number of seconds", found)
    if not 0 <= found < MOST_SECONDS:
        raise invalid(f"The state must hold `{name}`, seconds of at least 0.", _shown(found), _HOW)


def _array(name: str, found: Any, kind: type[np.generic] | None, size: int | None) -> NDArray[Any]:
    """Return a tensor ``(size,)`` of a type as an array; any type or size where that is None."""
    if not isinstance(found, Tensor) or found.layout != torch.strided or found.is_quantized:
        raise _wrong_kind(name, "a dense tensor", found)
    if found.device.type == "meta" or found.dtype == torch.bfloat16:
        raise _wrong_kind(name, "a tensor with values that numpy knows", found)
    array: NDArray[Any] = found.detach().cpu().numpy()
    right = array.ndim == 1 and size in (None, array.size) and kind in (None, array.dtype.type)
    if not right:
        wanted = f"{'' if kind is None else kind.__name__} ({'K' if size is None else size},)".strip()
        raise invalid(f"The state must hold `{name}`, {wanted}.", f"{array.dtype} {array.shape}", _HOW)
    return array


def _integers(name: str, found: Any, size: int) -> None:
    if _array(name, found, None, size).dtype.kind not in "iu":
        raise _wrong_kind(name, "whole numbers", found.dtype)


def _bits(name: str, found: Any, n: int) -> NDArray[np.uint8]:
    """Return the bits of ``n`` samples; those beyond are 0."""
    packed = _array(name, found, np.uint8, -(-n // 8))
    if n % 8 and packed[-1] >> n % 8:
        raise invalid(f"The state must hold `{name}` of {n:,} samples.", "bits beyond them", _HOW)
    return packed
