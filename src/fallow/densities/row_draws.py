"""Random draws of rows by their sample index: the same for any order of rows and number of ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..arrays.distributed import gather_rows
from ..arrays.keyed import mix

_DOMAIN = 0x10757


def random_keys(index: Tensor, seed: int) -> Tensor:
    """Return a random key for each sample, int64 ``(N,)`` of either sign; it depends on index and seed only.

    References:
        Fast splittable pseudorandom number generators (Steele, Lea and Flood, 2014)

    >>> bool((random_keys(torch.arange(5), 7)[3:] == random_keys(torch.tensor([3, 4]), 7)).all())
    True
    """
    # The shift makes the key fit into int64, since mix() returns 64 bits without a sign.
    value = index ^ (mix(seed, _DOMAIN) >> 1)
    # The multipliers of SplitMix64 as signed numbers. torch shifts int64 with the sign: the masks drop it.
    for factor in (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15):
        value = (value ^ ((value >> 30) & 0x3FFFFFFFF)) * factor
    return value ^ ((value >> 31) & 0x1FFFFFFFF)


def draw_rows(
    rows: tuple[Tensor, ...],
    index: Tensor,
    most: int,
    seed: int,
    *,
    together: bool = False,
    group: Any = None,
) -> tuple[Tensor, ...]:
    """Return at most ``most`` rows, drawn by their sample index and ordered by it.

    Args:
        rows: tensors with N rows each.
        index: int64 ``(N,)``, the sample of each row.
        most: how many at most.
        seed: of the draw.
        together: draw from the rows of all ranks; all ranks call it and get the same rows.
        group: the process group of these ranks; None for all.

    Returns:
        The columns of the drawn rows; their index is the last one.
    """
    columns = _smallest_keys((*rows, index), most, seed)
    if together:
        # The smallest keys of all are among the smallest of each rank, so few rows are sent.
        parts = gather_rows(*(column.cpu().numpy() for column in columns), group=group)
        gathered = (torch.from_numpy(np.concatenate(column)) for column in zip(*parts, strict=True))
        columns = _smallest_keys(tuple(column.to(index.device) for column in gathered), most, seed)
    order = columns[-1].argsort(stable=True)
    return tuple(column[order] for column in columns)


def _smallest_keys(columns: tuple[Tensor, ...], most: int, seed: int) -> tuple[Tensor, ...]:
    if len(columns[-1]) <= most:
        return columns
    order = random_keys(columns[-1], seed).argsort(stable=True)[:most]
    return tuple(column[order] for column in columns)
