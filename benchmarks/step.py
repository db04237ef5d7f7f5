"""``step()`` and the first million positions of the next order, at 1.28 and at 100 million samples.

    python benchmarks/step.py [--infobatch FOLDER] [--repeats 7] [--large]

FOLDER holds a checkout of InfoBatch (its ``infobatch/infobatch.py``); its own ``prune`` is then timed in
the same run. ``--large`` adds 100 million samples and reports the memory held beyond the imports. Scores
are log-normal, half of them under the threshold. Floor at N samples: reading 4 bytes and writing 1 each.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch

import fallow

MILLION = 1_000_000
POLICIES = {
    "threshold": fallow.Threshold(low=0.1),
    "soft": fallow.Fraction(0.5, exponent=0.5),
}


def resident() -> float:
    """Return the memory this process holds now, in GiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**30


def recorded(n: int, policy: fallow.Policy) -> fallow.Subsampler:
    """Return a subsampler whose first epoch is recorded, a million scores at a time."""
    subsampler = fallow.Subsampler(n, policy, fallow.Schedule(epochs=3))
    generator = torch.Generator().manual_seed(0)
    for start in range(0, n, MILLION):
        index = torch.arange(start, min(start + MILLION, n))
        scores = torch.empty(len(index)).log_normal_(np.log(0.1), 2.0, generator=generator)
        subsampler.record(index, scores)
    return subsampler


def once(n: int, policy: fallow.Policy) -> dict[str, float]:
    """Time one ``step()``, and the first and a later million positions."""
    subsampler = recorded(n, policy)
    began = perf_counter()
    subsampler.step()
    stepped = perf_counter()
    order = subsampler.order()
    order[: min(MILLION, len(order))]
    first = perf_counter()
    middle = max(0, len(order) // 2)
    order[middle : middle + min(MILLION, len(order) - middle)]
    return {
        "step_s": stepped - began,
        "first_million_s": first - stepped,
        "both_s": first - began,
        "later_million_s": perf_counter() - first,
        "resident_gib": resident(),
        "kept": len(order),
    }


def infobatch_prune(folder: Path, n: int) -> float:
    """Time InfoBatch's own ``prune`` on the same scores."""
    spec = importlib.util.spec_from_file_location("infobatch", folder / "infobatch" / "infobatch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    theirs = module.InfoBatch(range(n), num_epochs=3)
    generator = torch.Generator().manual_seed(0)
    theirs.scores = torch.empty(n).log_normal_(np.log(0.1), 2.0, generator=generator)
    began = perf_counter()
    theirs.prune()
    return perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--infobatch", type=Path)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args()
    fallow.Subsampler(1, POLICIES["threshold"], fallow.Schedule(epochs=1))
    imports = resident()
    sizes = [(1_281_167, options.repeats)] + ([(100 * MILLION, 1)] if options.large else [])
    for n, repeats in sizes:
        for name, policy in POLICIES.items():
            runs, theirs = [], []
            for _ in range(repeats):
                runs.append(once(n, policy))
                if options.infobatch and n < 10 * MILLION:
                    theirs.append(infobatch_prune(options.infobatch, n))
            row = {key: round(median(run[key] for run in runs), 4) for key in runs[0]}
            row["beyond_imports_gib"] = round(row.pop("resident_gib") - imports, 3)
            row["peak_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20 - imports, 3)
            if theirs:
                ratios = [t / run["both_s"] for t, run in zip(theirs, runs, strict=True)]
                row["infobatch_prune_s"] = round(median(theirs), 4)
                row["times_infobatch"] = round(median(ratios), 1)
            print(json.dumps({"n": n, "policy": name, "repeats": repeats, **row}), flush=True)


if __name__ == "__main__":
    main()
