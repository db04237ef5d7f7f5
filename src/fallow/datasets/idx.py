"""The idx format of the MNIST family, read and checked.

A file is two zero bytes, one byte for the type, one for the number of dimensions, each length as a
big-endian 32-bit number, then the values. Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST
database", 1998.
"""

from __future__ import annotations

import struct

import numpy as np

from ..errors import damaged

UNSIGNED_BYTE = 0x08


def parse_idx(content: bytes, dimensions: int, name: str) -> np.ndarray:
    """Return the array of bytes that an idx file holds.

    Args:
        content: the whole file, not compressed.
        dimensions: how many dimensions it must have: 3 for images, 1 for labels.
        name: the file's name, for errors.

    Returns:
        A read-only uint8 array over ``content``.

    Raises:
        InvalidValue: The first bytes, the dimensions or the length are not those of such a file.

    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]), 1, "labels")
    array([7, 9], dtype=uint8)
    """
    step = "Replace the file by a whole one."
    magic = bytes([0, 0, UNSIGNED_BYTE, dimensions])
    if content[:4] != magic:
        rule = f"{name} must begin with {magic.hex(' ')}, as an idx file of bytes does."
        raise damaged(rule, content[:4].hex(" ") or "an empty file", step)
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise damaged(f"{name} must hold {dimensions} lengths.", f"{len(content)} bytes", step)
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    values = np.frombuffer(content, np.uint8, offset=start)
    expected = int(np.prod(shape, dtype=object))
    if values.size != expected:
        size = "×".join(str(length) for length in shape)
        raise damaged(f"{name} must hold {size} = {expected} bytes.", values.size, step)
    return values.reshape(shape)
