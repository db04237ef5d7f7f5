"""When a run first shows two kinds of labels: the epoch of the first valley of each depth.

    python benchmarks/valleys.py RUN [RUN ...] [--count_rare]

RUN is a folder of ``fallow train``, or one of the ``runs`` of ``fallow compare``. The histogram is that of
``Persistence``, made of the scores that the run kept. Samples of rare classes do not count unless
``--count_rare`` is given. A run without wrong labels should print no epoch. The other conditions of an
outlier are not applied: see docs/decisions/011.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from fallow.policies import PolicyInput, persistence

DEPTHS = (0.55, 0.65, 0.8)
VISITS = 3


def first_valleys(run: Path, *, count_rare: bool) -> dict[float, int]:
    """Return the first epoch, from 1, with a valley of each depth; a depth without one is missing."""
    with (run / "samples.csv").open() as file:
        names = [row["label"] for row in csv.DictReader(file)]
    labels = np.unique(names, return_inverse=True)[1].astype(np.int32)
    detector = persistence.Persistence(persistence.AUTO, VISITS)
    columns: dict[str, Any] = {}
    found: dict[float, int] = {}
    before = np.full(labels.size, np.nan, np.float32)
    for epoch, path in enumerate(sorted((run / "history").glob("epoch-*.safetensors")), 1):
        scores = load_file(path)["score"].astype(np.float32)
        inputs = PolicyInput(
            scores=scores,
            fresh=(scores != before) & (scores == scores),
            reason=np.zeros(labels.size, np.uint8),
            epoch=epoch,
            uniform=lambda start, stop: np.ones(stop - start, np.float32),
            column=lambda name, kind: columns.setdefault(name, np.zeros(labels.size, kind)),
            labels=labels,
        )
        counts = detector._histogram(inputs, None if count_rare else inputs.rare)
        for depth in DEPTHS:
            persistence.DEPTH = depth
            if depth not in found and persistence.find_valley(counts):
                found[depth] = epoch
        before = scores
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--count_rare", action="store_true", help="count samples of rare classes too")
    options = parser.parse_args()
    print("| run |", " | ".join(f"depth {depth}" for depth in DEPTHS), "|")
    print("|---|" + "---|" * len(DEPTHS))
    for run in options.runs:
        found = first_valleys(run, count_rare=options.count_rare)
        print(f"| {run.name} |", " | ".join(str(found.get(depth, "")) for depth in DEPTHS), "|", flush=True)


if __name__ == "__main__":
    main()
