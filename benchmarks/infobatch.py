"""InfoBatch's real class beside `BelowMean`: the same decisions where it works, and where it does not.

    git clone https://github.com/NUS-HPC-AI-Lab/InfoBatch FOLDER
    python benchmarks/infobatch.py FOLDER [--n 50000] [--repeats 5]

Its random choice is replaced by ours, so that what is left to compare is the rule: which samples lie below
the mean, how many of them are kept, which weights they get. Then a DataLoader is made as its README says, and
what an epoch really brings is counted. Each line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.dataloader import _BaseDataLoaderIter

from fallow.arrays.keyed import mix, uniform
from fallow.policies import BelowMean, PolicyInput, Reason


@contextmanager
def original(folder: Path) -> Iterator[ModuleType]:
    """Import InfoBatch's package file; what it replaces in torch is put back afterwards."""
    path = next(p for p in (folder / "infobatch" / "infobatch.py", folder / "infobatch.py") if p.is_file())
    spec = importlib.util.spec_from_file_location("infobatch_original", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before, state = _BaseDataLoaderIter.__next__, np.random.get_state()  # noqa: NPY002
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        _BaseDataLoaderIter.__next__ = before
        np.random.set_state(state)  # noqa: NPY002


def shown(scores: np.ndarray, epoch: int = 1) -> PolicyInput:
    """Return the standing of samples that were all scored in the epoch that ended."""
    n, key = scores.size, mix(0, epoch)
    columns: dict[str, Any] = {}
    return PolicyInput(
        scores=scores,
        fresh=np.ones(n, np.bool_),
        reason=np.zeros(n, np.uint8),
        epoch=epoch,
        uniform=lambda start, stop: uniform(key, start, stop),
        column=lambda name, dtype: columns.setdefault(name, np.zeros(n, dtype)),
    )


def side_by_side(module: ModuleType, scores: np.ndarray, ratio: float) -> dict[str, Any]:
    """Return what both rules make of the same scores, their draw replaced by ours."""
    policy, inputs = BelowMean(ratio), shown(scores)
    reason = policy.decide(inputs)
    kept = reason == Reason.KEPT
    weights = policy.weights(inputs, reason)
    assert weights is not None
    theirs = module.InfoBatch(TensorDataset(torch.arange(scores.size)), 100, ratio)
    theirs.scores = torch.from_numpy(scores.copy())
    asked = {}

    def ours(below: np.ndarray, count: int, replace: bool) -> np.ndarray:
        asked.update(below=below, count=count, replace=replace)
        return below[kept[below]]

    with mock.patch("numpy.random.choice", ours):
        remained = np.sort(np.asarray(theirs.prune(), np.int64))
    low = np.flatnonzero(weights != 1) if ratio else asked["below"]
    exact = scores.mean(dtype=np.float64)
    return {
        "n": int(scores.size),
        "ratio": ratio,
        "their_mean": float(theirs.scores.mean()),
        "exact_mean": float(exact),
        "same_below_mean": bool(np.array_equal(asked["below"], np.flatnonzero(scores < exact))),
        "same_weighted": bool(np.array_equal(low, asked["below"])),
        "same_kept": bool(np.array_equal(remained, np.flatnonzero(kept))),
        "their_count": int(asked["count"]),
        "our_count": int(np.count_nonzero(kept[asked["below"]])),
        "their_weight": float(theirs.weights[remained].max()),
        "our_weight": float(weights[kept].max()),
    }


def epochs_of(module: ModuleType, n: int, batch_size: int, *, drop_last: bool) -> dict[str, Any]:
    """Return how its epochs end, if they do, and to where one epoch moves its counter of epochs."""
    data = module.InfoBatch(TensorDataset(torch.arange(n).float()), 100, 0.5)
    sampler = data.sampler
    loader = DataLoader(data, batch_size, sampler=sampler, drop_last=drop_last)
    steps, counter, most = [], [], 5 * n // batch_size
    for _ in range(3):
        count = 0
        for (values,) in itertools.islice(loader, most):
            data.update(values / n)
            count += 1
        steps.append(count)
        counter.append(sampler.iterations)
    return {
        "drop_last": drop_last,
        "batch_size": batch_size,
        "steps_of_a_full_epoch": n // batch_size,
        "steps": [f"{count}, stopped by us" if count == most else count for count in steps],
        "epoch_counter_of_100": counter,
    }


def seconds(call: Any, repeats: int) -> float:
    """Return the median seconds of a call."""
    found = []
    for _ in range(repeats):
        began = perf_counter()
        call()
        found.append(perf_counter() - began)
    return median(found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    scores = rng.exponential(size=options.n).astype(np.float32)
    with original(options.folder) as module:
        print(json.dumps({"torch": torch.__version__, "numpy": np.__version__}))
        for ratio in (0.5, 0.3, 0.7, 0.95):
            print(json.dumps(side_by_side(module, scores, ratio)))
        bad = scores.copy()
        bad[0] = np.nan
        print(json.dumps({"one NaN": side_by_side(module, bad, 0.5)["their_count"]}))
        for batch_size, drop_last in ((10, False), (10, True), (100, True)):
            print(json.dumps(epochs_of(module, 1000, batch_size, drop_last=drop_last)))
        theirs = module.InfoBatch(TensorDataset(torch.arange(options.n)), 100, 0.5)
        theirs.scores = torch.from_numpy(scores.copy())
        print(
            json.dumps(
                {
                    "n": options.n,
                    "their_prune_ms": round(1e3 * seconds(theirs.prune, options.repeats), 2),
                    "our_decide_ms": round(
                        1e3 * seconds(lambda: BelowMean(0.5).decide(shown(scores)), options.repeats), 2
                    ),
                }
            )
        )


if __name__ == "__main__":
    main()
