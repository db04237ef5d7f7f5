"""Real processes of one gloo group, which meet through a server in the process that starts them."""

import multiprocessing
import os
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

_PATIENCE = timedelta(seconds=100)


def in_ranks(work, size, *arguments):
    """Call ``work(rank, size, *arguments)`` in so many processes; a rank that hangs is an error."""
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=_PATIENCE)
    # Ranks are forked from a process that has done nothing but import: that takes seconds for each of them.
    multiprocessing.set_forkserver_preload(["torch", "torch.distributed.tensor", "fallow.core.subsampler"])
    mp.start_processes(_rank, (size, server.port, work, arguments), nprocs=size, start_method="forkserver")


def _rank(rank, size, port, work, arguments):
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = dist.TCPStore("127.0.0.1", port, wait_for_workers=False, timeout=_PATIENCE)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    try:
        work(rank, size, *arguments)
    finally:
        dist.destroy_process_group()
