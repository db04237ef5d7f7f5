"""Ranks, and collectives over them without pickle: gather rows of unequal number, take sums and maxima."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from ..errors import invalid, invalid_type, wrong_state

DATA_DIMENSIONS = ("dp", "data", "data_parallel", "ddp", "fsdp", "dp_shard", "dp_replicate", "batch")
"""Names of the dimension of a device mesh along which ranks get different samples."""
PATIENCE = timedelta(seconds=20)
"""How long the first rank of a group waits for the others in :func:`meet`."""


class Ranks:
    """The ranks that divide the training set among them.

    Attributes:
        group: a process group; None for all ranks, as they are at each call: they may meet later.
    """

    def __init__(self) -> None:
        self.group: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Ranks:
        return self  # a process group cannot be copied

    @property
    def rank(self) -> int:
        """This process's rank among them."""
        return rank_and_size(self.group)[0]

    @property
    def size(self) -> int:
        """The number of ranks."""
        return rank_and_size(self.group)[1]

    def total(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the sum of an array over the ranks; the call is collective."""
        if self.size == 1:
            return counts
        # A copy, because all_reduce works in place.
        reduced = torch.from_numpy(counts).to(_device(self.group), copy=True)
        dist.all_reduce(reduced, dist.ReduceOp.SUM, group=self.group)
        return reduced.cpu().numpy()

    def together(self, part: NDArray[Any]) -> NDArray[Any]:
        """Return the parts of all ranks in their order, which are of one length; the call is collective."""
        size = self.size
        if size == 1:
            return part
        device = _device(self.group)
        whole = torch.empty(size * len(part), dtype=torch.from_numpy(part).dtype, device=device)
        dist.all_gather(list(whole.chunk(size)), torch.from_numpy(part).to(device), group=self.group)
        return whole.cpu().numpy()

    def divided(self, part: Tensor, length: int) -> Tensor:
        """Return the DTensor ``(length, ...)`` of which ``part`` is this rank's chunk, on the CPU."""
        from torch.distributed.device_mesh import DeviceMesh
        from torch.distributed.tensor import DTensor, Shard

        group: Any = self.group or dist.group.WORLD
        shape = torch.Size((length, *part.shape[1:]))
        mesh, along = DeviceMesh.from_group(group, "cpu"), [Shard(0)]
        return DTensor.from_local(part, mesh, along, run_check=False, shape=shape, stride=part.stride())

    def before(self, count: int) -> int:
        """Return the sum of a number over the ranks before this one; the call is collective."""
        if self.size == 1:
            return 0
        ranks = np.zeros(self.size, np.int64)
        ranks[self.rank] = count
        return int(self.total(ranks)[: self.rank].sum())


def rank_and_size(group: Any = None) -> tuple[int, int]:
    """Return this process's rank in a group and the group's size; ``(0, 1)`` if there are no groups."""
    # A torch that is built without distributed has no is_initialized().
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(group), dist.get_world_size(group)
    return 0, 1


def data_group(group: Any) -> Any:
    """Return the process group of the ranks that get different samples.

    Args:
        group: a process group, or a ``DeviceMesh`` with one dimension, or with one that is named as one of
            ``DATA_DIMENSIONS``.

    Raises:
        InvalidType: if it is neither.
        InvalidValue: if a mesh has no such dimension, or more than one; or the group is one of other ranks.
    """
    if hasattr(group, "mesh_dim_names"):
        names = group.mesh_dim_names or ()
        data = [name for name in names if name in DATA_DIMENSIONS]
        if group.ndim > 1 and len(data) != 1:
            rule = "A mesh must have one dimension along which ranks get different samples, named dp or data."
            step = "Pass the process group of those ranks, such as mesh['dp'].get_group()."
            raise invalid(rule, ", ".join(names) or f"{group.ndim} dimensions without names", step)
        group = group.get_group(data[0] if data else None)
    available = dist.is_available()
    # What new_group() and a mesh return to the ranks outside.
    if available and isinstance(group, int) and group == dist.GroupMember.NON_GROUP_MEMBER:
        step = "Each rank passes the group that it belongs to."
        raise invalid("`group` must hold this rank.", "a group of others", step)
    if not (available and isinstance(group, dist.ProcessGroup)):
        step = "Pass torch.distributed.new_group(...), or a DeviceMesh."
        raise invalid_type("`group` must be a process group or a DeviceMesh.", type(group).__name__, step)
    return group


def ranks_apart() -> int:
    """Return the number of processes that were started as ranks and have not met in a process group, or 0."""
    size = os.environ.get("WORLD_SIZE", "")
    met = dist.is_available() and dist.is_initialized()
    return 0 if met or not size.isdecimal() or int(size) < 2 else int(size)


def meet(call: str, group: Any = None) -> None:
    """Wait until all ranks of a group make a call.

    The first rank waits for :data:`PATIENCE`: a call that only it makes is a common error, and a hanging
    training tells nobody. The others wait as long as the group does, while the first one may write files.

    Raises:
        WrongState: on the first rank, if a rank does not come.
    """
    rank, size = rank_and_size(group)
    if size == 1:
        return
    try:
        if dist.get_backend(group) == "gloo":
            # Without a limit of its own, a rank takes that of the group.
            dist.monitored_barrier(group, PATIENCE if rank == 0 else None, wait_all_ranks=True)
        else:
            _barrier(group, PATIENCE.total_seconds() if rank == 0 else float("inf"))
    except RuntimeError as error:
        raise wrong_state(
            f"{call} is a collective call inside an epoch: each of the {size} ranks must make it. Found some "
            f"that have not come in {PATIENCE.total_seconds():g} seconds.",
            "Call it on every rank, and write its result on one.",
        ) from error


def _barrier(group: Any, seconds: float) -> None:
    work = dist.barrier(group, async_op=True)
    deadline = time.monotonic() + seconds
    while work is not None and not work.is_completed():
        if time.monotonic() > deadline:
            raise RuntimeError("timed out")
        time.sleep(0.001)


def _device(group: Any = None) -> torch.device:
    # NCCL takes tensors on its own GPU only.
    if dist.get_backend(group) == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def gather_rows(*columns: NDArray[Any], group: Any = None) -> list[tuple[NDArray[Any], ...]]:
    """Return the columns of every rank, in rank order; the call is collective.

    Args:
        columns: arrays ``(K, ...)``; K is the same for all columns and may differ between ranks.
        group: of the ranks; None for all.

    Returns:
        One tuple of arrays per rank.
    """
    _, size = rank_and_size(group)
    if size == 1:
        return [columns]
    device = _device(group)
    count = torch.tensor([len(columns[0])], device=device)
    counts = [torch.zeros_like(count) for _ in range(size)]
    dist.all_gather(counts, count, group=group)
    rows = [int(count.item()) for count in counts]
    gathered = [_gather(column, rows, device, group) for column in columns]
    return [tuple(column[rank] for column in gathered) for rank in range(size)]


def send_rows(
    counts: NDArray[np.int64], *columns: NDArray[Any], group: Any = None
) -> tuple[NDArray[Any], ...]:
    """Send each rank its rows, and return those that this one gets, in rank order; the call is collective.

    Args:
        counts: int64 ``(ranks,)``, how many rows go to each rank; they stand in this order in the columns.
        columns: arrays ``(K,)`` of numbers.
        group: of the ranks; None for all.
    """
    device = _device(group)
    sent = torch.from_numpy(counts).to(device)
    got = torch.empty_like(sent)
    dist.all_to_all_single(got, sent, group=group)
    to, from_ = counts.tolist(), got.tolist()
    arrived = []
    for column in columns:
        # As bytes: some backends know few types.
        size = column.itemsize
        out = torch.empty(sum(from_) * size, dtype=torch.uint8, device=device)
        into = torch.from_numpy(np.ascontiguousarray(column).view(np.uint8)).to(device)
        dist.all_to_all_single(out, into, [c * size for c in from_], [c * size for c in to], group=group)
        arrived.append(out.cpu().numpy().view(column.dtype))
    return tuple(arrived)


def _gather(column: NDArray[Any], rows: list[int], device: torch.device, group: Any) -> list[NDArray[Any]]:
    # all_gather needs equal shapes: pad to the rank with the most rows, and cut afterwards.
    padded = torch.zeros((max(rows), *column.shape[1:]), dtype=torch.from_numpy(column).dtype)
    padded[: len(column)] = torch.from_numpy(column)
    padded = padded.to(device)
    parts = [torch.empty_like(padded) for _ in rows]
    dist.all_gather(parts, padded, group=group)
    return [part[:count].cpu().numpy() for part, count in zip(parts, rows, strict=True)]


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor without a graph, gathered if it is split over ranks; the call is collective then."""
    tensor = tensor.detach()
    # A DTensor, by its method: its class is loaded only where one is made.
    full: Any = getattr(tensor, "full_tensor", None)
    return tensor if full is None else full()


def any_rank(value: int) -> int:
    """Return the maximum over the ranks; the call is collective."""
    if rank_and_size()[1] == 1:
        return value
    largest = torch.tensor([value], device=_device())
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest.item())


def sum_over_ranks(total: Tensor, group: Any = None) -> Tensor:
    """Return the sum of a float64 tensor over the ranks of a group, None for all; the call is collective."""
    if rank_and_size(group)[1] == 1:
        return total
    # A copy, because all_reduce works in place.
    reduced = total.to(_device(group), copy=True)
    dist.all_reduce(reduced, dist.ReduceOp.SUM, group=group)
    return reduced.to(total.device)
