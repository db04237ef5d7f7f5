"""What ranks tell each other: rows of unequal number, gathered in rank order. No pickle."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor


def rank_and_size() -> tuple[int, int]:
    """Return this process's rank and how many there are; ``(0, 1)`` outside a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _device() -> torch.device:
    """Return where the default group's collectives want their tensors."""
    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def gather_rows(*columns: NDArray[Any]) -> list[tuple[NDArray[Any], ...]]:
    """Return the columns of every rank, in rank order; the call is collective.

    Args:
        columns: arrays ``(K, ...)`` with the same ``K`` on this rank; another rank may have another K.

    Returns:
        One tuple of arrays a rank; outside a process group only this process's own.
    """
    _, size = rank_and_size()
    if size == 1:
        return [columns]
    device = _device()
    mine = torch.tensor([len(columns[0])], device=device)
    counts = [torch.zeros_like(mine) for _ in range(size)]
    dist.all_gather(counts, mine)
    rows = [int(count.item()) for count in counts]
    gathered = [_gather(column, rows, device) for column in columns]
    return [tuple(column[rank] for column in gathered) for rank in range(size)]


def _gather(column: NDArray[Any], rows: list[int], device: torch.device) -> list[NDArray[Any]]:
    """Gather one column, padded to the longest rank's number of rows and cut again."""
    mine = torch.zeros((max(rows), *column.shape[1:]), dtype=torch.from_numpy(column).dtype)
    mine[: len(column)] = torch.from_numpy(column)
    mine = mine.to(device)
    every = [torch.empty_like(mine) for _ in rows]
    dist.all_gather(every, mine)
    return [part[:count].cpu().numpy() for part, count in zip(every, rows, strict=True)]


def any_rank(value: int) -> int:
    """Return the largest of the ranks' values; the call is collective."""
    if rank_and_size()[1] == 1:
        return value
    largest = torch.tensor([value], device=_device())
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest.item())


def sum_over_ranks(total: Tensor) -> Tensor:
    """Return the sum of the ranks' tensors, each float64 and of one shape; the call is collective."""
    if rank_and_size()[1] == 1:
        return total
    found = total.to(_device(), copy=True)
    dist.all_reduce(found, dist.ReduceOp.SUM)
    return found.to(total.device)


def largest_over_ranks(values: Tensor) -> Tensor:
    """Return the largest of the ranks' values, element by element; the call is collective."""
    if rank_and_size()[1] == 1:
        return values
    found = values.to(_device(), copy=True)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return found.to(values.device)
