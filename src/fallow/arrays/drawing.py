"""Draws by a key: for a while torch, numpy and Python draw what the key says, and then go on as before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_swap: Any = np.random  # its stubs lack two functions
_LENT = np.random.MT19937(0)
"""Lent to numpy's global functions for a while; making one each time would take longer than all else here."""
_OURS = np.random.RandomState(_LENT)


@contextmanager
def drawing_by(key: int) -> Iterator[None]:
    """Let global random functions draw by ``key`` inside the block; after it, as if they had not been called.

    A dataset that augments its samples so draws the same for the same batch: with any number of workers,
    whatever they have done before, and in a training that was stopped and goes on. Only the second normal of
    a pair, which numpy's old functions draw ahead, is forgotten at both ends. Blocks do not nest.

    Args:
        key: 64 bits, best made by :func:`fallow.arrays.keyed.mix`.

    Example:
        >>> with drawing_by(5):
        ...     first = torch.rand(2)
        >>> with drawing_by(5):
        ...     print(bool((torch.rand(2) == first).all()))
        True
    """
    generator = torch.default_generator
    theirs = generator.get_state(), _swap.get_bit_generator(), random.getstate()
    generator.set_state(torch.Generator().manual_seed(key & (1 << 63) - 1).get_state())
    _OURS.seed([key >> 32 & 0xFFFFFFFF, key & 0xFFFFFFFF])
    _swap.set_bit_generator(_LENT)
    random.setstate(random.Random(key).getstate())
    try:
        yield
    finally:
        generator.set_state(theirs[0])
        _swap.set_bit_generator(theirs[1])
        random.setstate(theirs[2])
