"""Does ``fallow gaps`` find what is missing, and stay quiet where nothing is?

    python benchmarks/missing_regions.py                                   digits: about 8 minutes
    python benchmarks/missing_regions.py --data fashion-mnist --rows 6000 --classes 0,5,8 --seeds 3 --quiet 6

One class is taken out of the training set of a network that learns two coarse labels, as in
``acquisition.py``; the reference holds all classes. Reported: how many hidden classes were found (a
region is called missing most of whose reference samples are of the class), which share of the regions'
reference samples are of the class, which share of the class in the reference they hold; and, with nothing
hidden, in how many runs a region was called missing, which is a false alarm. Half of the quiet runs have
a quarter of junk in the reference.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from acquisition import EPOCHS, junk_of, read, train
from fallow import ActivationDensity
from fallow.gaps import Surveyor, find_regions

FIRST = 400


def look(arguments, hidden: int | None, seed: int, images, labels, other, junk: bool) -> dict:
    """Return what was found in one run."""
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=draw)
    known, offered = order[: arguments.rows], order[arguments.rows : arguments.rows + arguments.pool]
    if hidden is not None:
        known = known[labels[known] != hidden]
    coarse = (labels >= 5).long() if seed % 2 else labels % 2
    reference = images[offered]
    if junk:
        reference = torch.cat([reference, junk_of(images, other, len(offered) // 3, draw)])
    mean, std = images[known].mean(), images[known].std()
    network = train((images[known] - mean) / std, coarse[known], seed, EPOCHS * (len(known) // 64))

    def batches(rows, given=None):
        for start in range(0, len(rows), 512):
            yield (
                (rows[start : start + 512] - mean) / std,
                None if given is None else given[start : start + 512],
            )

    surveyor = Surveyor(ActivationDensity(network, seed=seed), network)
    surveyor.learn(batches(images[known], coarse[known]))
    training = surveyor.survey(batches(images[known], coarse[known]), training=True)
    found = find_regions(training, surveyor.survey(batches(reference)), seed=seed)
    truth = np.zeros(len(reference), bool)
    truth[: len(offered)] = (labels[offered] == hidden).numpy() if hidden is not None else False
    named = [region.reference for region in found.missing]
    every = np.concatenate(named) if named else np.zeros(0, np.int64)
    return {
        "hidden": hidden, "seed": seed, "junk": junk, "regions": len(named),
        "found": any(truth[rows].mean() > 0.5 for rows in named),
        "of_it": float(truth[every].mean()) if every.size else None,
        "held": float(truth[every].sum() / max(1, truth.sum())) if hidden is not None else None,
    }  # fmt: skip


def main() -> None:
    """Run all and print what was found."""
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=shape)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--classes", default="0,1,2,3,4,5,6,7,8,9")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quiet", type=int, default=40, help="runs with nothing hidden")
    parser.add_argument("--rows", type=int, default=900)
    parser.add_argument("--pool", type=int)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    arguments.pool = arguments.pool or (500 if arguments.data == "digits" else 4000)
    torch.set_num_threads(1)
    images, labels, foreign = read(arguments.data)
    begun = time.perf_counter()
    rows = [
        look(arguments, hidden, FIRST + seed, images, labels, foreign, junk=False)
        for seed in range(arguments.seeds)
        for hidden in map(int, arguments.classes.split(","))
    ]
    quiet = [
        look(arguments, None, FIRST + seed, images, labels, foreign, junk=bool(seed // 2 % 2))
        for seed in range(arguments.quiet)
    ]
    hits = [row for row in rows if row["found"]]
    alarms = sum(bool(row["regions"]) for row in quiet)
    print(f"{len(hits)} of {len(rows)} hidden classes found, {time.perf_counter() - begun:.0f} s")
    if hits:
        purity, held = (np.mean([row[name] for row in hits]) for name in ("of_it", "held"))
        print(f"{purity:.1%} of the regions' samples are of the class, {held:.1%} of the class lie in them")
    wrong = sum(row["regions"] > 0 and not row["found"] for row in rows)
    print(
        f"{wrong} runs called something else missing; nothing hidden: {alarms} of {len(quiet)} false alarms"
    )
    by = {
        h: sum(r["found"] for r in rows if r["hidden"] == h) for h in dict.fromkeys(r["hidden"] for r in rows)
    }
    print("found by class:", by)
    if arguments.out:
        settings = {**vars(arguments), "out": None}
        arguments.out.write_text(json.dumps({"settings": settings, "rows": rows, "quiet": quiet}))


if __name__ == "__main__":
    main()
