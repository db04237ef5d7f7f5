"""Time and memory of the keys of a stream.

    python benchmarks/keys.py [--samples 10000000]

Texts of 24 characters, as of files in shards: bytes a key in the store and at the peak, seconds to join at
the end of the first epoch, microseconds a key in the filter (one by one, and 256 at a time). Floor: 16 bytes
of digest and 4 of row; a BLAKE2 digest of a text takes about 1 microsecond.
"""

from __future__ import annotations

import argparse
import json
import resource
from hashlib import blake2b
from time import perf_counter

import numpy as np
import torch

from fallow import KeyedSubsampler, Schedule, Threshold
from fallow.arrays.key_store import KeyStore, digests


def name(row: int) -> str:
    return f"shard-{row % 997:06}/{row:09}.j"


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=10_000_000)
    options = parser.parse_args()
    n = options.samples
    subsampler = KeyedSubsampler(Threshold(0.1), Schedule(3))
    before, began = peak(), perf_counter()
    for start in range(0, n, 4096):
        rows = range(start, min(n, start + 4096))
        subsampler.record([name(row) for row in rows], torch.full((len(rows),), 0.05) + torch.rand(len(rows)))
    recorded, began = perf_counter() - began, perf_counter()
    subsampler.step()
    joined = perf_counter() - began
    asked = [name(row) for row in range(0, n, max(1, n // 2560))][:2560]
    began = perf_counter()
    for key in asked:
        subsampler.keeps(key)
    single, began = perf_counter() - began, perf_counter()
    for start in range(0, len(asked), 256):
        subsampler.keeps.each(asked[start : start + 256])
    batched, began = perf_counter() - began, perf_counter()
    for key in asked:
        blake2b(key.encode(), digest_size=16).digest()
    digest = perf_counter() - began
    store = KeyStore()
    store.add(digests(np.arange(n)))
    print(
        json.dumps(
            {
                "samples": n,
                "bytes_a_key": store.nbytes / n,
                "peak_bytes_a_sample": round((peak() - before) / n, 1),
                "record_us": round(recorded / n * 1e6, 2),
                "join_and_plan_s": round(joined, 2),
                "filter_us": round(single / len(asked) * 1e6, 2),
                "filter_256_us": round(batched / len(asked) * 1e6, 2),
                "digest_us": round(digest / len(asked) * 1e6, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
