"""A billion samples: seconds to plan an epoch, memory, and bytes between ranks.

    python benchmarks/scale.py --folder FOLDER [--samples 1000000000] [--epochs 4]
    torchrun --nproc-per-node 4 benchmarks/scale.py --folder FOLDER
    python benchmarks/scale.py --simulate 1000 --samples 1000000

Scores are scripted (most are low and fall from epoch to epoch), and recorded 2^20 at a time in dataset order;
what is timed is the end of the epoch, and the first million positions of the next one. Memory is that of the
process without pages of files, the most that was seen ten times a second.

``--simulate R`` divides the samples among R parts in one process, compares each decision with that over one
part, and counts what R ranks would hold and send; then it computes the same for 10^9 samples.
"""

from __future__ import annotations

import argparse
import math
import os
import threading
from dataclasses import fields
from time import perf_counter

import numpy as np
import torch
import torch.distributed as dist

from fallow import ErrorMass, Schedule, ShardedSubsampler
from fallow.arrays.distributed import Ranks
from fallow.arrays.selection import blocks
from fallow.core.shard import ErrorTable, Shard, Tally, decide

POLICY = ErrorMass(high=None)
BLOCK = 1 << 20


class Memory:
    """The most memory of this process that is not of files, seen ten times a second."""

    def __init__(self) -> None:
        self.most = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            self.most = max(self.most, self.now())

    @staticmethod
    def now() -> int:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))

    def stop(self) -> int:
        self._done.set()
        self._thread.join()
        return self.most


def scores_of(epoch: int, at: int, count: int) -> torch.Tensor:
    """Return scripted scores of the samples from ``at`` on, of which the first is a multiple of BLOCK."""
    own = np.random.default_rng(at // BLOCK % 16).gamma(0.3, 1.0, BLOCK)
    noise = np.random.default_rng([epoch, at // BLOCK % 16]).normal(0, 0.6, BLOCK)
    return torch.from_numpy(np.minimum(own * np.exp(noise - 0.35 * epoch), 20).astype(np.float32)[:count])


def run(samples: int, epochs: int, folder: str) -> None:
    rank, size = 0, 1
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
        rank, size = dist.get_rank(), dist.get_world_size()
    memory, began = Memory(), perf_counter()
    scripted = {(e, b): scores_of(e, b * BLOCK, BLOCK) for e in range(epochs) for b in range(16)}
    subsampler = ShardedSubsampler(samples, POLICY, Schedule(epochs + 1), directory=folder)
    if rank == 0:
        print(f"{samples:,} samples on {size} ranks: made in {perf_counter() - began:.1f} s", flush=True)
    for epoch in range(epochs):
        began = perf_counter()
        for start, stop in list(blocks(samples, BLOCK))[rank::size]:
            index = torch.arange(start, stop)
            index = index[subsampler.keeps(index)]
            scores = scripted[epoch, start // BLOCK % 16][index - start]
            subsampler.record(index, scores)
        recorded, began = perf_counter() - began, perf_counter()
        subsampler.step()
        planned, began = perf_counter() - began, perf_counter()
        order = subsampler.order()
        order.read(0, min(len(order), 1_000_000))
        read = perf_counter() - began
        if rank == 0:
            print(
                f"epoch {epoch + 1}: recorded in {recorded:.0f} s, step() {planned:.1f} s, first million "
                f"positions {read:.2f} s; {subsampler.kept:,} kept, "
                f"most memory {memory.most / 2**30:.2f} GiB",
                flush=True,
            )
    memory.stop()
    if size > 1:
        most = torch.tensor([memory.most])
        dist.all_reduce(most, dist.ReduceOp.MAX)
        if rank == 0:
            print(f"most memory of any rank {most.item() / 2**30:.2f} GiB")
        dist.destroy_process_group()


def simulate(samples: int, ranks: int, epochs: int) -> None:
    rows = math.ceil(math.ceil(samples / 64) / ranks) * 64
    parts = [Shard(a, min(a + rows, samples)) for a in range(0, samples, rows)]
    one, errors, schedule = [Shard(0, samples)], ErrorTable(np.inf), Schedule(epochs + 1).or_turns(10)
    notes: dict[str, float] = {}
    kept = np.ones(samples, np.bool_)
    reader = np.random.default_rng(0).integers(0, len(parts), samples)  # which rank trains on a sample
    for epoch in range(epochs):
        scores = np.concatenate([scores_of(epoch, a, b - a).numpy() for a, b in blocks(samples, BLOCK)])
        half = scores.astype(np.float16)
        for shards in (parts, one):
            for shard in shards:
                own = np.flatnonzero(kept[shard.start : shard.stop])
                shard.write(own, half[shard.start : shard.stop][own])

        def turn(start: int, stop: int, epoch: int = epoch) -> np.ndarray:
            return schedule.turn(epoch + 1, 0, start, stop)

        both = [decide(shards, POLICY, errors, notes, turn, 1, 1, Ranks()) for shards in (parts, one)]
        bits = [np.concatenate([shard.kept_bits() for shard in shards]) for shards in (parts, one)]
        assert np.array_equal(bits[0], bits[1]), "parts and one table differ"
        assert both[0] == both[1]
        away = kept & (np.arange(samples) // rows != reader)
        notes, sent = both[0].notes, int(np.bincount(reader[away], minlength=len(parts)).max())
        kept = np.unpackbits(bits[0], count=samples, bitorder="little").astype(np.bool_)
        print(
            f"epoch {epoch + 1}: {len(parts)} parts decide as one; {kept.mean():.1%} kept; a rank sends at "
            f"most {6 * sent:,} bytes of scores"
        )
    tally = 8 * sum(getattr(Tally(), part.name).size for part in fields(Tally))
    share = both[0].kept / samples
    for n, size in ((samples, len(parts)), (10**9, 1000)):
        held, bitset = 5 * n / size, n / 8 + n / 16 + share * n / 16
        scores = 6 * share * n / size * (size - 1) / size
        print(
            f"{n:,} samples on {size:,} ranks, a rank: holds {held / 1e6:.3f} MB of samples and "
            f"{bitset / 1e6:.3f} MB of the epoch's bits and their directory; an epoch sends "
            f"{scores / 1e6:.3f} MB of scores, sums {2 * (tally + 8 * 65536 * 2) / 1e6:.1f} MB of counts, "
            f"sends {n / 8 / size / 1e6:.4f} MB of bits and gets {n / 8 / 1e6:.3f} MB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=lambda text: int(float(text)), default=10**9)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--folder", default=".", help="for the files of the scores")
    parser.add_argument("--simulate", type=int, metavar="R", help="divide among R parts in one process")
    options = parser.parse_args()
    if options.simulate:
        simulate(options.samples, options.simulate, options.epochs)
    else:
        run(options.samples, options.epochs, options.folder)


if __name__ == "__main__":
    main()
