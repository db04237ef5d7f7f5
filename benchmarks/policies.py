"""Seconds that each policy takes to decide, once an epoch.

    python benchmarks/policies.py [--n 1280000] [--epochs 8]

One thread. Scores are lognormal and drift from epoch to epoch; the median over epochs is printed, one JSON
line a policy, with the share that the last epoch leaves out.
"""

from __future__ import annotations

import argparse
import json
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from fallow.arrays.keyed import mix, uniform
from fallow.policies import (
    IES,
    UCB,
    BelowMean,
    ErrorMass,
    Fraction,
    Kakurenbo,
    OrderDP,
    Policy,
    PolicyInput,
    RandomFraction,
    RePB,
    SeTa,
    Threshold,
)

POLICIES = [
    Threshold(low=0.1, high=5.0),
    Threshold(low="auto", high="auto", visits=3),
    Fraction(0.5),
    Fraction(0.5, exponent=0.5),
    ErrorMass(),
    RandomFraction(0.5),
    BelowMean(),
    BelowMean(budget=0.3),
    SeTa(),
    SeTa(budget=0.3),
    Kakurenbo(),
    UCB(0.3),
    RePB(),
    RePB(budget=0.3),
    OrderDP(),
    OrderDP(budget=0.3),
    IES(),
    IES(budget=0.3),
]


def standing_of(epoch: int, **more: Any) -> PolicyInput:
    """Return a standing with the draws of that epoch."""
    key = mix(0, epoch)
    return PolicyInput(epoch=epoch, uniform=lambda start, stop: uniform(key, start, stop), **more)


def time_policy(policy: Policy, n: int, epochs: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    base = rng.lognormal(-1, 1.5, n).astype(np.float32)
    labels = rng.integers(0, 1000, n).astype(np.int32)
    predicted = np.where(rng.random(n) < 0.8, labels, 0).astype(np.int32)
    columns: dict[str, Any] = {}
    notes: dict[str, float] = {}
    reason, seconds = np.zeros(n, np.uint8), []
    for epoch in range(1, epochs + 1):
        scores = base * rng.lognormal(0, 0.05, n).astype(np.float32)
        if isinstance(policy, RePB):
            scores -= scores.mean()
        inputs = standing_of(
            epoch,
            scores=scores,
            fresh=(reason == 0) | policy.measures_removed,
            reason=reason,
            column=lambda name, dtype: columns.setdefault(name, np.zeros(n, dtype)),
            epochs=2 * epochs,
            labels=labels,
            predicted=predicted,
            notes=notes,
        )
        began = perf_counter()
        reason = policy.decide(inputs)
        policy.weights(inputs, reason)
        seconds.append(perf_counter() - began)
    found = round(1e3 * median(seconds), 1), round(1e3 * max(seconds), 1)
    left_out = round(np.count_nonzero(reason) / n, 4)
    return {"policy": repr(policy), "median_ms": found[0], "longest_ms": found[1], "left_out": left_out}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=1_280_000)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    for policy in POLICIES:
        print(json.dumps(time_policy(policy, options.n, options.epochs)))


if __name__ == "__main__":
    main()
