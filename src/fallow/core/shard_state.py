"""What is saved of a sharded subsampler, and the checks before it is loaded."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor

from ..arrays.selection import blocks
from ..errors import invalid
from ..files.checked_json import Count, Epoch, Epochs, Name, Real, check_kind, check_plain
from .shard import BLOCK, GROUP, LARGEST_FLAG, LEFT, MEANS, ODD, Shard

VERSION = 1
ARRAYS = {"scores": torch.float16, "means": torch.bfloat16, "flags": torch.uint8}
"""The arrays of a part, ``(rows / 64, 64)``, and their types in a state."""
_RULE = "A state must be a result of ShardedSubsampler.state_dict()."


class ShardedRecord(Struct, frozen=True):
    """The record of one epoch.

    Attributes:
        epoch: the number of the epoch, from 0.
        kept: the number of samples in the epoch.
        readmitted: how many of them were left out of the epoch before.
        recorded: the number of scores.
        bad: how many of them were not finite.
        notes: the policy's notes from planning the epoch, see :class:`fallow.ErrorMass`.
    """

    epoch: Epoch
    kept: Count
    readmitted: Count
    recorded: Count
    bad: Count
    notes: dict[Name, Real] = {}

    @property
    def backward(self) -> int:
        """The number of samples trained on, as in the history of a Subsampler."""
        return self.recorded


class Numbers(Struct, frozen=True):
    """The numbers of a state.

    Attributes:
        version: of states.
        settings: those of the subsampler, as plain values.
        epoch: the number of the present epoch.
        kept, readmitted, notes: as those of :class:`ShardedRecord`, of the present epoch.
        used: how many of its samples are recorded.
        recorded: the number of scores of them.
        bad: how many of those were not finite.
        history: of the finished epochs.
    """

    version: int
    settings: dict[str, Any]
    epoch: Epochs
    kept: Count
    readmitted: Count
    used: Count
    recorded: Count
    bad: Count
    notes: dict[Name, Real]
    history: list[ShardedRecord]


def numbers_of(saved: Any, settings: dict[str, Any], epochs: int) -> Numbers:
    """Return the checked numbers of a state.

    Raises:
        InvalidValue, DamagedData: if it is something else, or the state of another training.
    """
    if not isinstance(saved, dict) or not {*ARRAYS, "run"} <= set(saved):
        raise invalid(_RULE, f"{type(saved).__name__:.80}")
    try:
        values = json.loads(saved["run"])
    except (TypeError, ValueError, RecursionError) as error:
        raise invalid(_RULE, f"{type(error).__name__}: {error}"[:200]) from None
    check_plain(values, "The state")
    # Before all else: another version may have other numbers.
    version = values.get("version") if isinstance(values, dict) else None
    if version != VERSION:
        raise invalid(f"The state must be of version {VERSION}.", version)
    numbers = check_kind(Numbers, values, "The state")
    for name, value in settings.items():
        found = numbers.settings.get(name)
        if found != value:
            step = "Make the ShardedSubsampler with the settings of the state."
            raise invalid(f"`{name}` must be that of the state, {value!r} here.", found, step)
    n = settings["n"]
    if not (numbers.epoch <= epochs and numbers.used <= numbers.kept <= n and numbers.kept > 0):
        where = f"epoch {numbers.epoch}, {numbers.used:,} of {numbers.kept:,} samples used"
        raise invalid(f"A state must be of at most {epochs} epochs and {n:,} samples.", where)
    if [record.epoch for record in numbers.history] != list(range(numbers.epoch)):
        raise invalid("A state must hold a record of each finished epoch.", f"{len(numbers.history)} records")
    return numbers


def part_of(name: str, value: Any, shard: Shard, groups: int) -> Tensor:
    """Return a rank's checked part of an array of a state.

    Args:
        name: of the array.
        value: a tensor ``(groups, 64)``, whole or divided among the ranks.
        shard: the samples of this rank.
        groups: the number of groups of 64 samples.

    Raises:
        InvalidValue: if it is something else, or divided otherwise.
    """
    shape = groups, GROUP
    usable = isinstance(value, Tensor) and value.device.type == "cpu" and value.layout == torch.strided
    if not usable or tuple(value.shape) != shape or value.dtype != ARRAYS[name]:
        found = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise invalid(f"`{name}` of a state must be {ARRAYS[name]} {shape}, on the CPU.", found)
    if hasattr(value, "to_local"):
        local: Tensor = value.to_local()
        if local.numel() != shard.flags.size:
            rule = "A state that is divided among ranks must be loaded by as many."
            found = f"{local.numel():,} samples for the {shard.flags.size:,} of this rank"
            step = "Load it by torch.distributed.checkpoint, which divides it anew."
            raise invalid(rule, found, step)
    else:
        first = shard.start // GROUP
        local = value[first : first + shard.flags.size // GROUP]
    local = local.contiguous().view(-1)
    _check_values(name, local, shard)
    return local


def _check_values(name: str, local: Tensor, shard: Shard) -> None:
    bits = local.view(torch.uint8 if name == "flags" else torch.int16).numpy()
    bits = bits if name == "flags" else bits.view(np.uint16)
    above = {"scores": int(ODD), "means": MEANS, "flags": LARGEST_FLAG + 1}[name]
    largest = max((int(bits[a:b].max()) for a, b in blocks(bits.size, BLOCK)), default=0)
    if largest >= above:
        raise invalid(
            f"The numbers in `{name}` of a state must be those that it was saved with.", hex(largest)
        )
    if name == "flags" and (bits[len(shard) :] != LEFT).any():
        raise invalid("Rows behind the last sample must be in no epoch.", f"flags {bits[len(shard) :][:9]}")


def directory_of(directory: Any) -> str | None:
    """Return a folder's path, or None."""
    if directory is None:
        return None
    if (
        isinstance(directory, bool | int)
        or not isinstance(directory, str | os.PathLike)
        or not str(directory)
    ):
        raise invalid(
            "`directory` must be the path of a folder.", repr(directory), "None keeps all in memory."
        )
    return os.fspath(directory)
