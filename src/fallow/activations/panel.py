"""A fixed part of the training set, drawn by name, whose latest activations are held."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arrays.distributed import gather_rows, rank_and_size
from ..densities.naming import lots

_PANEL = 0x9A4E1


class Panel:
    """The samples with the smallest lots of all that were seen, at most ``size``, and their latest rows.

    Whether a sample belongs to it is drawn by its name, so that it is the same for any number of ranks and
    any order, and stays so: its density is that of the whole training set, however much of it is left out.
    What is not seen again keeps its row.

    Args:
        size: how many samples at most.
        seed: of the lots.

    Attributes:
        index: int64 ``(R,)``, the samples, ascending.
        rows: float32 ``(R, D)`` a layer.
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size, self.seed = size, seed
        self.index: NDArray[np.int64] = np.zeros(0, np.int64)
        self.rows: list[Tensor] = []
        self._calls = 0
        self._most = np.iinfo(np.int64).max
        self._new: list[_Part] = []
        self._waiting = 0

    def __len__(self) -> int:
        return len(self.index)

    def lots(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the lot of each sample."""
        found: NDArray[np.int64] = lots(torch.from_numpy(index), self.seed ^ _PANEL).numpy()
        return found

    def members(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places of the samples that belong to it, as far as is known."""
        return np.flatnonzero(self.lots(index) <= self._most)

    def add(self, index: NDArray[np.int64], rows: list[Tensor]) -> None:
        """Take the rows of the members of a batch; nothing is copied from their device.

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
        if self._waiting > 4 * self.size:
            self._new = [self._latest(self._new)]
            self._waiting = len(self._new[0].index)

    def settle(self, *, together: bool = False) -> None:
        """Put what was added in its place: the latest row of each member, of all ranks if ``together``."""
        new = self._latest(self._new) if self._new else None
        if together and rank_and_size()[1] > 1:
            new = self._of_all_ranks(new)
        if new is None:
            return
        held = _Part(self.index, self.rows or [rows[:0] for rows in new.rows], 0)
        whole = self._latest([held, new])
        self.index, self.rows = whole.index, whole.rows
        self._new, self._waiting = [], 0

    def _latest(self, parts: list[_Part]) -> _Part:
        """Return the latest row of each sample in parts, of the ``size`` with the smallest lots."""
        device = parts[-1].rows[0].device
        index = np.concatenate([part.index for part in parts])
        calls = np.concatenate([np.broadcast_to(part.call, len(part.index)) for part in parts])
        order = np.lexsort((calls, index))
        places = order[np.flatnonzero(np.diff(index[order], append=-1))]
        if len(places) > self.size:
            lot = self.lots(index[places])
            first = np.argsort(lot, kind="stable")[: self.size]
            self._most = min(self._most, int(lot[first[-1]]))
            places = places[np.sort(first)]
        at = torch.from_numpy(places)
        layers = zip(*(part.rows for part in parts), strict=True)
        rows = [
            torch.cat([one.to(device) for one in layer]).index_select(0, at.to(device)) for layer in layers
        ]
        return _Part(index[places], rows, calls[places])

    def _of_all_ranks(self, new: _Part | None) -> _Part | None:
        """Return what all ranks have added; the call is collective."""
        widths = [rows.shape[1] for rows in (new.rows if new else self.rows)]
        index = np.zeros(0, np.int64) if new is None else new.index
        calls = np.zeros(0, np.int64) if new is None else np.asarray(new.call, np.int64)
        layers = [np.zeros((0, width), np.float32) for width in widths]
        layers = layers if new is None else [rows.cpu().numpy() for rows in new.rows]
        found = [
            _Part(part[0], [torch.from_numpy(rows) for rows in part[2:]], part[1])
            for part in gather_rows(index, calls, *layers)
        ]
        if not any(len(part.index) for part in found):
            return None
        device = (new.rows if new else self.rows)[0].device
        whole = self._latest(found)
        return _Part(whole.index, [rows.to(device) for rows in whole.rows], whole.call)

    def renumber(self, origin: NDArray[np.int64]) -> None:
        """Take note that samples stand elsewhere now: sample i stood at ``origin[i]``, -1 for a new one."""
        self.settle()
        now = np.flatnonzero(np.isin(origin, self.index))
        now = now[self.members(now)]
        at = torch.from_numpy(np.searchsorted(self.index, origin[now]))
        self.index = now.astype(np.int64)
        self.rows = [rows.index_select(0, at.to(rows.device)) for rows in self.rows]

    def population(self) -> int:
        """Return about how many different samples were seen."""
        if self._most == np.iinfo(np.int64).max:
            return len(self)
        return round(len(self) * 2.0**64 / (self._most + 2.0**63 + 1))

    def finite(self) -> tuple[Tensor, list[Tensor]]:
        """Return index and rows of the samples whose rows are finite, on the rows' device."""
        if not self.rows:
            return torch.from_numpy(self.index), []
        sound = torch.stack([layer.isfinite().all(1) for layer in self.rows]).all(0)
        device = self.rows[0].device
        index = torch.from_numpy(self.index).to(device)
        return index[sound], [layer[sound] for layer in self.rows]

    def state_dict(self) -> dict[str, Any]:
        """Return what is held; nothing is settled by it."""
        held = copy(self)
        held.settle()
        return held._state()

    def _state(self) -> dict[str, Any]:
        return {"index": torch.from_numpy(self.index), "rows": self.rows, "most": int(self._most),
                "calls": self._calls}  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        self.index = state["index"].numpy()
        self.rows, self._most = list(state["rows"]), state["most"]
        self._calls = state["calls"]
        self._new, self._waiting = [], 0


@dataclass
class _Part:
    """Rows of some samples: which, a tensor a layer, and in which calls they came."""

    index: NDArray[np.int64]
    rows: list[Tensor]
    call: NDArray[np.int64] | int
