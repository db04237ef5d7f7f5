"""Which network `fallow train --data FOLDER` should take by default: accuracy in the same processor time.

    python -m benchmarks.default_network [--data shapes stamps cifar digits] [--seeds 3]

``cifar``: 5,000 pictures of CIFAR-10 as PNG files; ``stamps``: 275 pictures, mostly photographs, in four
classes; ``digits``: 1,797 grey pictures of 8 pixels a side; ``shapes``: 1,200 drawn shapes, 60 of them in a
wrong folder (see ``benchmarks/suspects.py``). A part of each is held out by ``fallow train``.

The first network trains with today's defaults, and says how many processor seconds that takes. Each other one
trains for as many epochs as fit into that time, by what an epoch of it took when it trained for two epochs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.data import path
from benchmarks.suspects import FIRST, shapes
from PIL import Image
from sklearn.datasets import load_digits

from fallow.options.train_options import TrainOptions
from fallow.runs.run_files import RunFiles
from fallow.runs.suspects import find_suspects
from fallow.training.train import train

DATA = ("shapes", "stamps", "cifar", "digits")
NETWORKS: dict[str, dict[str, Any]] = {
    "small-conv": {"model": "small-conv"},
    "small-resnet": {"model": "small-resnet"},
}


def folder_of(name: str, place: Path, seed: int, count: int = 5_000) -> tuple[Path, dict[str, str]]:
    """Return a folder of images, and the true class of each file that lies in a wrong class."""
    if name == "stamps":
        return path("stamps"), {}
    folder = place / f"{name}-{seed}"
    if name == "shapes":
        return folder, shapes(folder, seed)
    if folder.exists():
        return folder, {}
    if name == "cifar":
        with np.load(path("cifar10")) as known:
            chosen = np.random.default_rng(seed).permutation(50_000)[:count]
            images, labels = known["x_train"][chosen].transpose(0, 2, 3, 1), known["y_train"][chosen]
    else:
        found = load_digits()
        images, labels = (found.images * 15.9).astype(np.uint8), found.target
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / str(label) / f"{number:05d}.png")
    return folder, {}


def trained(data: Path, out: Path, seed: int, **options: Any) -> tuple[float, float, int]:
    """Train; return the accuracy, the processor seconds of the whole training, and its epochs."""
    with contextlib.redirect_stdout(io.StringIO()):
        before = time.process_time()
        train(TrainOptions(data=str(data), seed=seed, out=str(out), **options))
        seconds = time.process_time() - before
    run = RunFiles(out)
    assert run.summary is not None
    assert run.summary.accuracy is not None
    return run.summary.accuracy, seconds, sum(1 for _ in run.files())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", nargs="*", default=list(DATA), choices=DATA)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as kept:
        for name in asked.data:
            rows: dict[str, list[list[float]]] = {}
            for seed in range(asked.seeds):
                data, wrong = folder_of(name, Path(kept), seed)
                budget = None
                for network in asked.networks:
                    out = Path(kept) / f"{name}-{seed}-{network}"
                    options = dict(NETWORKS[network])
                    if budget is None:
                        if asked.epochs:
                            options["epochs"] = asked.epochs
                    else:
                        times = [
                            trained(data, Path(f"{out}-{n}"), seed, epochs=n, **options)[1] for n in (2, 4)
                        ]
                        epoch = (times[1] - times[0]) / 2
                        options["epochs"] = max(2, int((budget - times[0]) / epoch) + 2)
                    accuracy, seconds, epochs = trained(data, out, seed, **options)
                    budget = budget or seconds
                    row = [accuracy, seconds, epochs]
                    if wrong:
                        run = RunFiles(out)
                        first = find_suspects(run).suspects[:FIRST]
                        places = [str(Path(str(run.file_of(one.index))).relative_to(data)) for one in first]
                        row.append(float(np.mean([place in wrong for place in places])))
                    rows.setdefault(network, []).append(row)
                    print(
                        json.dumps({"data": name, "network": network, "seed": seed, "row": row}), flush=True
                    )
            for network, of in rows.items():
                mean, spread = np.mean(of, 0), np.std(of, 0)
                text = f"  {name:7} {network:14} {mean[0]:.4f} ± {spread[0]:.4f}, {mean[1]:5.1f} s, "
                text += f"{mean[2]:.0f} epochs"
                right = f", precision of the first {FIRST} {mean[3]:.3f}" if len(mean) > 3 else ""
                print(text + right, flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)  # threads that wait would count as time
    main()
