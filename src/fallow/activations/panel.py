"""The panel: a fixed random part of the training set whose latest activations are held."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arrays.distributed import Ranks, gather_rows
from ..densities.row_draws import random_keys

_DOMAIN = 0x9A4E1
_LARGEST = np.iinfo(np.int64).max


class Panel:
    """The ``size`` samples with the smallest random keys of all samples seen, and their latest rows.

    The key of a sample depends on its index and the seed only. So the panel is the same for any order and
    any number of ranks, and represents the whole training set, however much of it is left out. A sample that
    is not seen again keeps its row.

    Args:
        size: the largest number of samples.
        seed: of the keys.
        ranks: those that see different samples.

    Attributes:
        index: int64 ``(R,)``, the samples, ascending.
        rows: float32 ``(R, D)`` a layer.
    """

    def __init__(self, size: int, seed: int = 0, ranks: Ranks | None = None) -> None:
        self.size = size
        self.seed = seed
        self.ranks = ranks or Ranks()
        self.index: NDArray[np.int64] = np.zeros(0, np.int64)
        self.rows: list[Tensor] = []
        self._calls = 0
        self._most = _LARGEST  # the largest key in the panel, once it is full
        self._new: list[_Part] = []
        self._waiting = 0

    def __len__(self) -> int:
        return len(self.index)

    def keys(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the random key of each sample."""
        # A domain of its own, so that belonging to the panel says nothing about the half.
        keys: NDArray[np.int64] = random_keys(torch.from_numpy(index), self.seed ^ _DOMAIN).numpy()
        return keys

    def members(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions of the samples that belong to the panel, given the samples seen so far."""
        return np.flatnonzero(self.keys(index) <= self._most)

    def add(self, index: NDArray[np.int64], rows: list[Tensor]) -> None:
        """Add the rows of the members in a batch; the rows stay on their device.

        Args:
            index: ``(B,)``.
            rows: ``(B, D)`` a layer.
        """
        self._calls += 1
        places = self.members(index)
        if not places.size:
            return
        at = torch.from_numpy(places).to(rows[0].device, non_blocking=True)
        kept = [layer.index_select(0, at) for layer in rows]
        self._new.append(_Part(index[places], kept, self._calls))
        self._waiting += places.size
        if self._waiting > 4 * self.size:  # bounds the memory of rows that wait for settle()
            self._new = [self._latest(self._new)]
            self._waiting = len(self._new[0].index)

    def settle(self, *, together: bool = False) -> None:
        """Merge the rows added since, the latest of each member; those of all ranks if ``together``."""
        new = self._latest(self._new) if self._new else None
        if together and self.ranks.size > 1:
            new = self._of_all_ranks(new)
        if new is None:
            return
        held = _Part(self.index, self.rows or [rows[:0] for rows in new.rows], 0)
        merged = self._latest([held, new])
        self.index = merged.index
        self.rows = merged.rows
        self._new = []
        self._waiting = 0

    def _latest(self, parts: list[_Part]) -> _Part:
        """Return the latest row of each sample in the parts, for the ``size`` smallest keys."""
        device = parts[-1].rows[0].device
        index = np.concatenate([part.index for part in parts])
        calls = np.concatenate([np.broadcast_to(part.call, len(part.index)) for part in parts])
        order = np.lexsort((calls, index))
        # The last row of each sample is the latest; no index is -1.
        places = order[np.flatnonzero(np.diff(index[order], append=-1))]
        if len(places) > self.size:
            keys = self.keys(index[places])
            first = np.argsort(keys, kind="stable")[: self.size]
            self._most = min(self._most, int(keys[first[-1]]))
            places = places[np.sort(first)]
        at = torch.from_numpy(places).to(device)
        layers = zip(*(part.rows for part in parts), strict=True)
        rows = [torch.cat([x.to(device) for x in layer]).index_select(0, at) for layer in layers]
        return _Part(index[places], rows, calls[places])

    def _of_all_ranks(self, new: _Part | None) -> _Part | None:
        """Return the rows added on all ranks; the call is collective."""
        if new is None:  # the others may have rows, so this rank takes part with none
            empty = np.zeros(0, np.int64)
            new = _Part(empty, [rows[:0] for rows in self.rows], empty)
        calls = np.asarray(new.call, np.int64)
        columns = (new.index, calls, *(rows.cpu().numpy() for rows in new.rows))
        gathered = gather_rows(*columns, group=self.ranks.group)
        parts = [_Part(index, [torch.from_numpy(x) for x in rows], call) for index, call, *rows in gathered]
        if not any(len(part.index) for part in parts):
            return None
        device = new.rows[0].device
        merged = self._latest(parts)
        return _Part(merged.index, [rows.to(device) for rows in merged.rows], merged.call)

    def renumber(self, origin: NDArray[np.int64]) -> None:
        """Follow a new numbering of the samples: sample i was ``origin[i]``, -1 for a new one."""
        self.settle()
        now = np.flatnonzero(np.isin(origin, self.index))
        now = now[self.members(now)]
        at = torch.from_numpy(np.searchsorted(self.index, origin[now]))
        self.index = now.astype(np.int64)
        self.rows = [rows.index_select(0, at.to(rows.device)) for rows in self.rows]

    def population(self) -> int:
        """Return an estimate of the number of distinct samples seen."""
        if self._most == _LARGEST:
            return len(self)
        # The keys are uniform over 2^64 values: the panel holds the share of them up to the largest key.
        return round(len(self) * 2.0**64 / (self._most + 2.0**63 + 1))

    def finite(self) -> tuple[Tensor, list[Tensor]]:
        """Return index and rows of the samples whose rows are finite, on the rows' device."""
        if not self.rows:
            return torch.from_numpy(self.index), []
        finite = torch.stack([layer.isfinite().all(1) for layer in self.rows]).all(0)
        index = torch.from_numpy(self.index).to(self.rows[0].device)
        return index[finite], [layer[finite] for layer in self.rows]

    def state_dict(self) -> dict[str, Any]:
        """Return the panel with the rows added since; the panel itself does not settle."""
        settled = copy(self)
        settled.settle()
        return {
            "index": torch.from_numpy(settled.index),
            "rows": settled.rows,
            "most": int(settled._most),
            "calls": settled._calls,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned."""
        self.index = state["index"].numpy()
        self.rows = list(state["rows"])
        self._most = state["most"]
        self._calls = state["calls"]
        self._new = []
        self._waiting = 0


@dataclass
class _Part:
    """Rows of some samples: their index, a tensor a layer, and the calls that added them."""

    index: NDArray[np.int64]
    rows: list[Tensor]
    call: NDArray[np.int64] | int
