"""Seed torch's, numpy's and Python's global generators by a key for a while, then restore them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_numpy: Any = np.random  # numpy's stubs lack get_bit_generator and set_bit_generator
_BITS = np.random.MT19937(0)
"""Bit generator for numpy's global functions inside a block. Making one takes longer than seeding it."""
_KEYED = np.random.RandomState(_BITS)
_PYTHON = random.Random()


@contextmanager
def drawing_by(key: int) -> Iterator[None]:
    """Seed the global generators by ``key`` inside the block, and restore their states after it.

    A dataset that augments its samples then draws the same for the same batch: with any number of workers,
    whatever they drew before, and after a resume. numpy's legacy functions draw normals in pairs; a pending
    second one is dropped on entry and on exit. Blocks do not nest.

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
    torch_state = generator.get_state()
    numpy_bits = _numpy.get_bit_generator()
    python_state = random.getstate()
    generator.set_state(torch.Generator().manual_seed(key & (1 << 63) - 1).get_state())
    # RandomState takes its seed in words of 32 bits.
    _KEYED.seed([key >> 32 & 0xFFFFFFFF, key & 0xFFFFFFFF])
    _numpy.set_bit_generator(_BITS)
    _PYTHON.seed(key)
    random.setstate(_PYTHON.getstate())
    try:
        yield
    finally:
        generator.set_state(torch_state)
        _numpy.set_bit_generator(numpy_bits)
        random.setstate(python_state)
