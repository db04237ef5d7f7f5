"""The state of Prompts: everything that its draws depend on, and the groups that were measured."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from ..errors import damaged, invalid
from ..files.checked_json import Count, Share, check_kind
from .log import GroupLog
from .reasons import PromptReason
from .table import PromptTable
from .tally import PromptEpoch

FORMAT = "fallow-prompts-1"
STEP = "Load a state that Prompts.state_dict() returned or Prompts.save() wrote."
_ARRAYS = {"right": np.float32, "wrong": np.float32, "reason": np.uint8}
_SETTINGS = ("group", "bound", "revisit", "memory", "success", "min_share", "seed")
Name = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class _Epoch(Struct, frozen=True):
    """As :class:`fallow.prompts.tally.PromptEpoch`."""

    epoch: Count
    first_step: Count
    kept: Count
    solved: Count
    hopeless: Count
    returned: Count
    uniform: Share


class Plain(Struct, frozen=True):
    """The plain values of a state."""

    format: str
    name: Name
    settings: dict[str, int | float]
    n: Count
    keys: str
    step: Count
    drawn: Count
    groups: Count
    merged: dict[Name, Count]
    history: list[_Epoch]


def check_settings(found: Any, name: str) -> dict[str, int | float]:
    """Return settings that were read, once they are known to be whole."""
    step = "Put back a copy of the folder, or begin a new one."
    checked = check_kind(dict[str, int | float], found, name, step)
    if sorted(checked) != sorted(_SETTINGS):
        raise damaged(f"{name} must hold the settings {', '.join(_SETTINGS)}.", ", ".join(checked), step)
    return checked


def of(table: PromptTable, *, log: bool = True) -> dict[str, Any]:
    """Return the state; without the groups if ``log`` is False."""
    tree: dict[str, Any] = {
        "format": FORMAT,
        "name": table.name,
        "settings": dict(table.settings),
        "n": len(table),
        "keys": table.fingerprint,
        "step": table.step,
        "drawn": table.drawn,
        "groups": len(table.log),
        "merged": dict(table.merged),
        "history": [asdict(epoch) for epoch in table.history],
        **{name: getattr(table, name).copy() for name in _ARRAYS},
    }
    return tree | {"log": table.log.part(0)} if log else tree


def put_back(table: PromptTable, tree: Any, log: GroupLog | None = None) -> PromptTable:
    """Return the table of a state, once it is known to be whole and of the same prompts.

    Args:
        table: with the same keys, domains and settings.
        tree: the state.
        log: the groups, if the state has none.

    Raises:
        InvalidValue: if prompts or settings differ.
        DamagedData: if the state is not whole.
    """
    if not isinstance(tree, dict):
        raise damaged("The state of Prompts must be a dict.", type(tree).__name__, STEP)
    values = {key: tree.get(key) for key in Plain.__struct_fields__}
    plain = check_kind(Plain, values, "The state of Prompts", STEP)
    if plain.format != FORMAT:
        raise damaged(f"The state of Prompts must be of format {FORMAT}.", plain.format, STEP)
    _check_same(table, plain)
    arrays = {name: _column(tree, name, kind, len(table)) for name, kind in _ARRAYS.items()}
    if arrays["reason"].max(initial=0) >= len(PromptReason):
        raise damaged("The state of Prompts must hold known reasons.", int(arrays["reason"].max()), STEP)
    for name in ("right", "wrong"):
        if not (np.isfinite(arrays[name]).all() and (arrays[name] >= 0).all()):
            raise damaged(f"`{name}` must hold counts of at least 0.", "another", STEP)
    if log is None:
        log = GroupLog()
        log.add(**GroupLog.checked(tree.get("log") or {}, len(table), "The state of Prompts", STEP))
    if len(log) != plain.groups:
        raise damaged(f"The state of Prompts must hold {plain.groups:,} groups.", f"{len(log):,}", STEP)
    history = [
        PromptEpoch(**{key: getattr(each, key) for key in each.__struct_fields__}) for each in plain.history
    ]
    kept = int(np.count_nonzero(arrays["reason"] == PromptReason.KEPT))
    if history and (kept != history[-1].kept or plain.drawn > kept):
        value = f"{kept:,}, {plain.drawn:,} of them drawn"
        raise damaged(f"The epoch must have {history[-1].kept:,} prompts.", value, STEP)
    return replace(
        table,
        right=arrays["right"],
        wrong=arrays["wrong"],
        reason=arrays["reason"],
        log=log,
        history=history,
        step=plain.step,
        drawn=plain.drawn,
        merged=dict(plain.merged),
        name=plain.name,
        saved={},
    )


def _check_same(table: PromptTable, plain: Plain) -> None:
    if (plain.n, plain.keys) != (len(table), table.fingerprint):
        other = f"one of {plain.n:,}, here are {len(table):,}"
        found = "one of other keys or domains" if plain.n == len(table) else other
        step = "Make Prompts with the keys of the run that saved it, in their order."
        raise invalid("A state must be of the same prompts.", found, step)
    for name, value in plain.settings.items():
        if table.settings.get(name) != value:
            found = f"{value}, here it is {table.settings.get(name)}"
            raise invalid(
                f"A state must have the same `{name}`.", found, f"Make Prompts with {name}={value}."
            )


def _column(tree: dict[str, Any], name: str, kind: Any, n: int) -> NDArray[Any]:
    array = tree.get(name)
    if not isinstance(array, np.ndarray) or array.dtype != kind or array.shape != (n,):
        rule = f"The state of Prompts must hold `{name}`, {np.dtype(kind)} ({n},)."
        raise damaged(rule, "another", STEP)
    return array.copy()
