"""Collectives over ranks, without pickle: gather rows of unequal number, take sums and maxima."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor


def rank_and_size() -> tuple[int, int]:
    """Return this process's rank and the number of ranks; ``(0, 1)`` outside a process group."""
    # A torch that is built without distributed has no is_initialized().
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _device() -> torch.device:
    # NCCL takes tensors on its own GPU only.
    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def gather_rows(*columns: NDArray[Any]) -> list[tuple[NDArray[Any], ...]]:
    """Return the columns of every rank, in rank order; the call is collective.

    Args:
        columns: arrays ``(K, ...)``; K is the same for all columns and may differ between ranks.

    Returns:
        One tuple of arrays per rank.
    """
    _, size = rank_and_size()
    if size == 1:
        return [columns]
    device = _device()
    count = torch.tensor([len(columns[0])], device=device)
    counts = [torch.zeros_like(count) for _ in range(size)]
    dist.all_gather(counts, count)
    rows = [int(count.item()) for count in counts]
    gathered = [_gather(column, rows, device) for column in columns]
    return [tuple(column[rank] for column in gathered) for rank in range(size)]


def _gather(column: NDArray[Any], rows: list[int], device: torch.device) -> list[NDArray[Any]]:
    # all_gather needs equal shapes: pad to the rank with the most rows, and cut afterwards.
    padded = torch.zeros((max(rows), *column.shape[1:]), dtype=torch.from_numpy(column).dtype)
    padded[: len(column)] = torch.from_numpy(column)
    padded = padded.to(device)
    parts = [torch.empty_like(padded) for _ in rows]
    dist.all_gather(parts, padded)
    return [part[:count].cpu().numpy() for part, count in zip(parts, rows, strict=True)]


def any_rank(value: int) -> int:
    """Return the maximum over the ranks; the call is collective."""
    if rank_and_size()[1] == 1:
        return value
    largest = torch.tensor([value], device=_device())
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest.item())


def sum_over_ranks(total: Tensor) -> Tensor:
    """Return the sum of a float64 tensor over the ranks; the call is collective."""
    if rank_and_size()[1] == 1:
        return total
    # A copy, because all_reduce works in place.
    reduced = total.to(_device(), copy=True)
    dist.all_reduce(reduced, dist.ReduceOp.SUM)
    return reduced.to(total.device)
