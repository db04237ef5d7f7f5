"""Fashion-MNIST, all 60,000 samples: full training, both controls, the published method and the soft one.

    python benchmarks/fashion_mnist.py --out FOLDER [--seeds 3] [--jobs 2]

Every arm is one ``fallow train``, one thread a run, final epoch, the test set never chosen by. A seed
changes initialisation, order and augmentation. The learning rate fits the steps that really happen.
A run that is already in FOLDER is not repeated. The table and ``results/fashion_mnist.json`` are
made from the summaries of the runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev

ARMS = {
    "full": ["--policy", "full", "--epochs", "20"],
    "fewer epochs": ["--policy", "full", "--epochs", "11"],
    "random": ["--policy", "random", "--epochs", "20"],
    "soft": ["--policy", "soft", "--epochs", "20"],
    "threshold": ["--policy", "threshold", "--epochs", "20"],
}


def run(folder: Path, arm: str, seed: int) -> dict:
    """Train one arm with one seed, or read what it left behind; return its summary."""
    out = folder / f"{arm.replace(' ', '-')}-{seed}"
    if not (out / "usage.svg").exists():
        words = ["train", "--data", "fashion-mnist", "--seed", str(seed), "--out", str(out), *ARMS[arm]]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "fallow", *words, "--accelerator", "cpu"]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    summary = json.loads((out / "summary.json").read_text())
    return {key: value for key, value in summary.items() if key != "epochs"} | {"arm": arm, "seed": seed}


def table(results: list[dict]) -> str:
    """Return the results as a Markdown table, an arm a row."""
    lines = ["| arm | accuracy by seed | mean ± sd | samples | saved | test NLL | seconds |"]
    lines.append("|---|---|---|---|---|---|---|")
    for arm in ARMS:
        rows = [row for row in results if row["arm"] == arm]
        accuracy = [100 * row["accuracy"] for row in rows]
        spread = f" ± {stdev(accuracy):.2f}" if len(rows) > 1 else ""
        saved = mean(row["saved_fraction"] for row in rows)
        lines.append(
            f"| {arm} | {' '.join(f'{a:.2f}' for a in accuracy)} | {mean(accuracy):.2f}{spread} "
            f"| {mean(row['samples_backward'] for row in rows):,.0f} | {saved:.1%} "
            f"| {mean(row['test_loss'] for row in rows):.3f} | {mean(row['seconds'] for row in rows):.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    work = [(arm, seed) for seed in range(options.seeds) for arm in ARMS]
    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(lambda pair: run(options.out, *pair), work))
    raw = Path(__file__).parent / "results" / "fashion_mnist.json"
    raw.parent.mkdir(exist_ok=True)
    raw.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
