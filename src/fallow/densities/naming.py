"""Rows by name: whatever is drawn of them is the same wherever they lie."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..arrays.distributed import gather_rows
from ..arrays.keyed import mix

_LOTS = 0x10757


def lots(index: Tensor, seed: int) -> Tensor:
    """Return a draw for each name, int64 ``(N,)`` of either sign: the same for a name wherever it lies.

    References:
        Fast splittable pseudorandom number generators (Steele, Lea and Flood, 2014)

    >>> bool((lots(torch.arange(5), 7)[3:] == lots(torch.tensor([3, 4]), 7)).all())
    True
    """
    value = index ^ (mix(seed, _LOTS) >> 1)
    for factor in (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15):  # odd, of SplitMix64
        value = (value ^ ((value >> 30) & 0x3FFFFFFFF)) * factor
    return value ^ ((value >> 31) & 0x1FFFFFFFF)


def chosen(
    rows: tuple[Tensor, ...], index: Tensor, most: int, seed: int, *, together: bool = False
) -> tuple[Tensor, ...]:
    """Return at most so many rows, drawn and ordered by name.

    Args:
        rows: tensors with N rows each.
        index: int64 ``(N,)``, their names.
        most: how many at most.
        seed: of the draw.
        together: of all ranks, which get the same; the call is collective then.

    Returns:
        The columns of the chosen rows, and last their names.
    """
    columns = _first((*rows, index), most, seed)
    if together:
        parts = gather_rows(*(column.cpu().numpy() for column in columns))
        device = index.device
        joined = (np.concatenate(column) for column in zip(*parts, strict=True))
        columns = _first(tuple(torch.from_numpy(column).to(device) for column in joined), most, seed)
    order = columns[-1].argsort(stable=True)
    return tuple(column[order] for column in columns)


def _first(columns: tuple[Tensor, ...], most: int, seed: int) -> tuple[Tensor, ...]:
    if len(columns[-1]) <= most:
        return columns
    order = lots(columns[-1], seed).argsort(stable=True)[:most]
    return tuple(column[order] for column in columns)
