"""What an epoch under way has brought, as it came: indices on the host, values where they were computed.

A value waits on its device until somebody asks, so that recording never makes the device and the host
wait for each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PAGE = 1 << 16


class Journal:
    """Pages of ``(index, value)`` that have not yet been handed on.

    Args:
        n: how many samples; indices need 4 bytes below 2^31.
        dtype: of the values.
    """

    def __init__(self, n: int, dtype: torch.dtype = torch.float32) -> None:
        self._index_dtype = np.int32 if n < 2**31 else np.int64
        self._dtype = dtype
        self._full: list[tuple[NDArray[np.integer], Tensor]] = []
        self._index: NDArray[np.integer] = np.empty(0, self._index_dtype)
        self._values = torch.empty(0, dtype=dtype)
        self._host: NDArray[Any] | None = None
        self._at = 0

    def append(self, index: NDArray[np.int64], values: Tensor) -> None:
        """Take down one batch: one copy on the device of the values, and no waiting for it."""
        count = index.size
        if self._at + count > self._index.size or self._values.device != values.device:
            self._turn(max(PAGE, count), values.device)
        page = slice(self._at, self._at + count)
        self._index[page] = index
        if self._host is not None and values.dtype == self._dtype:
            self._host[page] = values.numpy()
        else:
            self._values[page].copy_(values)
        self._at += count

    def _turn(self, size: int, device: torch.device) -> None:
        """Put the page under way aside and begin a new one."""
        if self._at:
            self._full.append((self._index[: self._at], self._values[: self._at]))
        self._index = np.empty(size, self._index_dtype)
        self._values = torch.empty(size, dtype=self._dtype, device=device)
        self._host = self._values.numpy() if device.type == "cpu" else None
        self._at = 0

    @property
    def ripe(self) -> bool:
        """Whether full pages lie on the CPU, where handing them on waits for nothing."""
        return bool(self._full) and self._full[-1][1].device.type == "cpu"

    def drain(self) -> list[tuple[NDArray[np.int64], NDArray[Any]]]:
        """Hand on and forget everything: indices and values, one copy for each device."""
        pages = [*self._full, (self._index[: self._at], self._values[: self._at])]
        by_device: dict[torch.device, list[tuple[NDArray[np.integer], Tensor]]] = {}
        for index, values in pages:
            if index.size:
                by_device.setdefault(values.device, []).append((index, values))
        drained = [
            (
                np.concatenate([index for index, _ in group]).astype(np.int64),
                torch.cat([values for _, values in group]).cpu().numpy(),
            )
            for group in by_device.values()
        ]
        self._full, self._at = [], 0
        return drained
