"""How many of the first suspects of a run have wrong labels: a folder of drawn shapes, and Fashion-MNIST.

    python -m benchmarks.suspects [--data shapes fashion] [--policies error-mass full ...] [--seeds 3]

``shapes``: 1,200 pictures of 64 to 160 pixels, of five shapes in random colours and sizes, 60 of them
in the folder of another class. ``fashion``: 10,000 samples of Fashion-MNIST, a fifth of the labels drawn
anew. ``fallow train`` trains on them under each policy, and the run is read as ``fallow suspects`` reads it:
by the mean over the passes. Rows: the share of wrong labels among the first 44 suspects (shapes; about 48 of
the 60 are in the training set) or the first as many as there are wrong ones, average precision of the order
of all samples, how many of the wrong ones have the true class as their suggestion, and the same orders by
the last pass, by the mean over the raw passes of each sample, and by its mean rank in each epoch.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import tempfile
from pathlib import Path

import numpy as np
from benchmarks.data import path
from PIL import Image, ImageDraw
from sklearn.metrics import average_precision_score

from fallow.options.train_options import TrainOptions
from fallow.runs.run_files import RunFiles
from fallow.runs.suspects import doubts, find_suspects
from fallow.training.train import train

SHAPES = ("circle", "cross", "square", "star", "triangle")
PICTURES, WRONG, FIRST = 1_200, 60, 44
POLICIES = ("error-mass", "full", "watch", "soft", "random")


def outline(shape: str, turn: float) -> list[tuple[float, float]]:
    """Return the corners of a shape of radius 1, turned."""
    corners = {"square": 4, "triangle": 3, "circle": 48}.get(shape, 0)
    if shape == "star":
        radii = [1.0 if k % 2 == 0 else 0.42 for k in range(10)]
    elif shape == "cross":  # a plus: at the ends of its arms, and in its inner corners
        angles = [a + side for a in (0, 90, 180, 270) for side in (-19.0, 19.0, 45.0)]
        radii = [0.38 if k % 3 == 2 else 1.0 for k in range(12)]
        return [
            (r * math.cos(math.radians(a) + turn), r * math.sin(math.radians(a) + turn))
            for r, a in zip(radii, angles, strict=True)
        ]
    else:
        radii = [1.0] * corners
    step = 2 * math.pi / len(radii)
    return [(r * math.cos(k * step + turn), r * math.sin(k * step + turn)) for k, r in enumerate(radii)]


def drawn(shape: str, draw: np.random.Generator) -> Image.Image:
    """Return a picture of a shape: any size, place and colours, a little turned, on a noisy ground."""
    width, height = draw.integers(64, 161, 2).tolist()
    ground, ink = draw.integers(0, 100, 3), draw.integers(150, 256, 3)
    noise = draw.normal(0, 8, (height, width, 3))
    picture = Image.fromarray((ground + noise).clip(0, 255).astype(np.uint8))
    radius = min(width, height) * draw.uniform(0.3, 0.45)
    x, y = (draw.uniform(radius, side - radius) for side in (width, height))
    corners = [(x + radius * a, y + radius * b) for a, b in outline(shape, draw.uniform(-0.2, 0.2))]
    ImageDraw.Draw(picture).polygon(corners, fill=tuple(ink.tolist()))
    return picture


def shapes(folder: Path, seed: int) -> dict[str, str]:
    """Write the folder, and return the true class of each wrong file, by its path within the folder."""
    draw = np.random.default_rng(seed)
    wrong = set(draw.choice(PICTURES, WRONG, replace=False).tolist())
    truth = {}
    for number in range(PICTURES):
        shape = SHAPES[number % len(SHAPES)]
        given = shape
        if number in wrong:
            given = str(draw.choice([name for name in SHAPES if name != shape]))
            truth[f"{given}/{number:04d}.png"] = shape
        (folder / given).mkdir(parents=True, exist_ok=True)
        drawn(shape, draw).save(folder / given / f"{number:04d}.png")
    return truth


def fashion(folder: Path, seed: int) -> tuple[Path, np.ndarray]:
    """Write 10,000 samples with a fifth of the labels drawn anew, and return the true labels."""
    with np.load(path("fashion-mnist")) as known:
        parts = {name: known[name] for name in known.files}
    draw = np.random.default_rng(seed)
    rows = draw.choice(len(parts["y_train"]), 10_000, replace=False)
    truth = parts["y_train"][rows].astype(np.int64)
    noisy = truth.copy()
    anew = draw.choice(rows.size, rows.size // 5, replace=False)
    noisy[anew] = (truth[anew] + draw.integers(1, 10, anew.size)) % 10
    target = folder / "fashion.npz"
    np.savez(target, x_train=parts["x_train"][rows], y_train=noisy,
             x_test=parts["x_test"][:1000], y_test=parts["y_test"][:1000])  # fmt: skip
    return target, truth


def measured(name: str, policy: str, seed: int, folder: Path) -> dict[str, float]:
    """Train, read the run, and return the figures."""
    folder = folder / f"{name}-{policy}-{seed}"
    folder.mkdir(parents=True)
    if name == "shapes":
        data, true_class = folder / "shapes", shapes(folder / "shapes", seed)
        options = {"image_size": 32, "epochs": 30}
    else:
        data, truth = fashion(folder, seed)
        options = {"epochs": 15}
    out = folder / "run"
    with contextlib.redirect_stdout(io.StringIO()):
        train(TrainOptions(data=str(data), policy=policy, seed=seed, out=str(out), **options))
    run = RunFiles(out)
    n, classes = run.last.record.remaining, list(run.data.classes or ())
    assert run.labels is not None
    true = run.labels.copy()
    if name == "shapes":
        for sample in range(n):
            place = str(Path(str(run.file_of(sample))).relative_to(data))
            if place in true_class:
                true[sample] = classes.index(true_class[place])
    else:
        true = truth.astype(np.int32)
    wrong = true != run.labels
    found = find_suspects(run)
    first = min(FIRST if name == "shapes" else int(wrong.sum()), len(found.suspects))
    hits = [wrong[one.index] for one in found.suspects[:first]]
    told = {one.index: one.suggested for one in found.suspects}
    right = [told.get(row) == classes[true[row]] for row in np.flatnonzero(wrong).tolist()]
    ranked = {"mean of passes": doubts(run)} | rivals(run)
    return {
        "accuracy": run.summary.accuracy if run.summary and run.summary.accuracy else 0.0,
        "samples": n,
        "wrong": int(wrong.sum()),
        "suspects": len(found.suspects),
        "first": first,
        "precision of the first": float(np.mean(hits)) if hits else 0.0,
        "recall of all suspects": float(np.isin(np.flatnonzero(wrong), list(told)).mean()),
        "precision of all suspects": float(wrong[list(told)].mean()) if told else 0.0,
        "wrong ones with the true class suggested": float(np.mean(right)),
        **{f"AP, {way}": float(average_precision_score(wrong, values)) for way, values in ranked.items()},
    }


def rivals(run: RunFiles) -> dict[str, np.ndarray]:
    """Return other orders of all samples, the most doubtful with the highest value."""
    before = None
    total, count, ranks = (np.zeros(run.last.record.remaining) for _ in range(3))
    for file in run.files():
        scores = file.scores.astype(np.float64)
        fresh = np.isfinite(scores) & (file.record.used_mask | (True if before is None else scores != before))
        order = np.argsort(np.argsort(np.where(np.isfinite(scores), scores, -1)))
        total[fresh] += 1 - np.exp(-scores[fresh])
        ranks[fresh] += order[fresh] / scores.size
        count += fresh
        before = scores
    count = np.maximum(count, 1)
    return {
        "last pass": run.last.scores,
        "mean of a sample's own passes": total / count,
        "mean rank in the epochs of its passes": ranks / count,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", nargs="*", default=["shapes", "fashion"], choices=["shapes", "fashion"])
    parser.add_argument("--policies", nargs="*", default=list(POLICIES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", help="Where the data and the runs stay. Default: nowhere.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as kept:
        for name in asked.data:
            for policy in asked.policies:
                rows = []
                for seed in range(asked.seeds):
                    rows.append(measured(name, policy, seed, Path(asked.out or kept)))
                    print(json.dumps({"data": name, "policy": policy, "seed": seed, **rows[-1]}), flush=True)
                for key in rows[0]:
                    values = np.array([row[key] for row in rows])
                    print(f"  {name:8} {policy:11} {key:42} {values.mean():.3f} ± {values.std():.3f}")


if __name__ == "__main__":
    main()
