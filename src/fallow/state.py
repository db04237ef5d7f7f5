"""The state of a subsampler as tensors and plain Python values: exact, in the middle of an epoch too."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._checks import invalid, invalid_type
from .bitset import Bitset, unpack
from .distributed import rank_and_size
from .history import EpochRecord
from .ledger import Ledger
from .plan import Plan
from .table import Table

VERSION = 1


def pack(
    settings: dict[str, Any], ledger: Ledger, plan: Plan, history: list[EpochRecord], *, local: bool
) -> dict[str, Any]:
    """Return the whole state; with other ranks in mid-epoch this is collective unless ``local``."""
    ledger.flush()
    _, size = rank_and_size()
    if size > 1 and not local and not ledger.unbegun:
        ledger = deepcopy(ledger)
        ledger.merge()
    return {
        "version": VERSION,
        "settings": settings,
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
    saved: dict[str, Any], settings: dict[str, Any], ledger: Ledger
) -> tuple[Plan, list[EpochRecord]]:
    """Fill ``ledger`` from a state, and return the plan and the history in it.

    Raises:
        InvalidType: where ``saved`` is no state of a subsampler.
        InvalidValue: where it is of another version, of other settings, or another rank's part.
    """
    if not isinstance(saved, dict) or not {"version", "settings", "table", "plan"} <= saved.keys():
        raise invalid_type("A state must come from Subsampler.state_dict().", type(saved).__name__)
    if saved["version"] != VERSION:
        raise invalid(f"The state must be of version {VERSION}.", saved["version"], "Upgrade fallow.")
    for name, ours in settings.items():
        theirs = saved["settings"].get(name)
        if theirs != ours:
            raise invalid(
                f"The state must belong to the same `{name}`: {ours!r}.",
                repr(theirs),
                "Make the Subsampler as it was made for the state, then load.",
            )
    part = saved["part"]
    if part is not None and part["rank_and_size"] != list(rank_and_size()):
        raise invalid(
            f"A local state belongs to its own rank and number of ranks: {list(rank_and_size())}.",
            part["rank_and_size"],
            "Load the part of this rank, or save with local=False.",
        )
    n, epoch = settings["n"], int(saved["epoch"])
    ledger.begin(epoch)
    _restore_table(ledger.table, saved["table"])
    ledger.seconds, ledger.measured = float(saved["seconds"]), bool(saved["measured"])
    if part is not None:
        _restore_part(ledger, part)
    elif ledger.table.recorded:
        ledger.resume()
    plan = saved["plan"]
    weights = None if plan["weights"] is None else _array(plan["weights"])
    kept = Bitset(unpack(_array(plan["kept"]), n))
    history = []
    for entry in saved["history"]:
        aggregates = {name: value for name, value in entry.items() if name != "used_bits"}
        history.append(EpochRecord.restore(_array(entry["used_bits"]), aggregates))
    return Plan(epoch, kept, weights, int(plan["readmitted"]), dict(plan["notes"])), history


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
        "scored_in": _tensor(table.scored_in.astype(np.int32)),
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
    table.scores = _array(saved["scores"])
    table.scored_in = _array(saved["scored_in"]).astype(np.uint16)
    table.reason = _array(saved["reason"])
    table.seen = _array(saved["seen"])
    table.columns = {name: _array(column) for name, column in saved["columns"].items()}
    table.notes = {name: float(value) for name, value in saved["notes"].items()}
    table.repeat(_array(saved["again_index"]), _array(saved["again_scores"]))
    table.bad, table.recorded = int(saved["bad"]), int(saved["recorded"])


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(array.copy())


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy().copy()
