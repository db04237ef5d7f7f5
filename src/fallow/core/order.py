"""The order of an epoch: a pure function of seed, epoch, kept samples and position.

It depends on no number of ranks, workers or calls. So all iterators, ranks and resumed runs see the same
order, and the last position costs no more than the first.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arrays.bitset import Bitset
from ..arrays.keyed import Permutation, mix
from ..arrays.selection import blocks
from ..errors import invalid, invalid_type

# 256 KB of positions: a block stays in the cache.
BLOCK = 1 << 15
# Mixed into the key, so that the order is independent of other draws with the same seed.
_ORDER = 0x0DE5


class Order:
    """The kept samples of one epoch, in the order in which they are used.

    ``order[a:b]`` evaluates positions a to b and nothing else; ``order[a]`` is one index.

    Args:
        kept: the kept samples.
        seed: the seed of the training.
        epoch: the number of the epoch, from 0.
        shuffle: if False, the order is ascending.

    Example:
        >>> order = Order(Bitset(np.ones(6, bool)), seed=0, epoch=2)
        >>> len(order), torch.equal(order[1:4], order[:][1:4])
        (6, True)
    """

    def __init__(self, kept: Bitset, seed: int, epoch: int, *, shuffle: bool = True) -> None:
        self.kept, self.seed, self.epoch, self.shuffle = kept, seed, epoch, shuffle
        self._place = Permutation(len(kept), mix(_ORDER, seed, epoch)) if shuffle else None

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, position: slice | int) -> Tensor | int:
        if isinstance(position, slice):
            start, stop, step = position.indices(len(self))
            if step != 1:
                raise invalid("An order must be sliced in steps of 1.", step, "Index the result.")
            return torch.from_numpy(self.read(start, max(start, stop)))
        # True and False have an __index__ too.
        if isinstance(position, bool) or not hasattr(position, "__index__"):
            raise invalid_type("A position must be a whole number or a slice.", repr(position))
        at = int(position.__index__())
        if not -len(self) <= at < len(self):
            raise IndexError(f"A position must be below {len(self)}, the number of kept samples. Found {at}.")
        at %= len(self)
        return int(self.read(at, at + 1)[0])

    def at(self, position: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the index at each position: int64 ``(K,) -> (K,)``, all below ``len(self)``."""
        return self.kept.select(position if self._place is None else self._place(position))

    def read(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return positions ``[start, stop)`` as int64, evaluated in blocks that fit into the cache."""
        out = np.empty(stop - start, np.int64)
        for begin in range(start, stop, BLOCK):
            end = min(begin + BLOCK, stop)
            out[begin - start : end - start] = self.at(np.arange(begin, end))
        return out

    def __iter__(self) -> Iterator[int]:
        for at in range(0, len(self), BLOCK):
            yield from self.read(at, min(at + BLOCK, len(self))).tolist()


class RemainingOrder(Order):
    """An order without the samples already used.

    Args:
        order: the whole order.
        used: bool ``(N,)``, the samples to skip.
    """

    def __init__(self, order: Order, used: NDArray[np.bool_]) -> None:
        super().__init__(order.kept, order.seed, order.epoch, shuffle=order.shuffle)
        left = np.empty(len(order), np.bool_)
        for start, stop in blocks(left.size, BLOCK):
            np.logical_not(used[order.read(start, stop)], out=left[start:stop])
        self._left = Bitset(left)

    def __len__(self) -> int:
        return len(self._left)

    def at(self, position: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the index at each remaining position: int64 ``(K,) -> (K,)``."""
        return super().at(self._left.select(position))
