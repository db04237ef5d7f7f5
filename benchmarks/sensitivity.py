"""How much the two main knobs of the soft rule matter: the share left out and the exponent of the odds.

    python benchmarks/sensitivity.py --out FOLDER [--seeds 3] [--jobs 2]

One ``fallow compare`` on 20,000 samples of Fashion-MNIST x 30 epochs, accuracy on a validation split cut
from the training set, so that settings can be chosen here without the test set having a say. Exponent 0 is
a random subset; ``hard`` leaves out the lowest scores. Beside them the plain draw (the arm ``soft``: odds by
the last score, nothing else), and full training for other numbers of epochs, which tells whether it is past
its optimum. The table is printed; ``results/sensitivity.json`` and ``.svg`` keep it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

import fallow
from data import located

SHARES = (0.3, 0.5, 0.7)
EXPONENTS = (0.5, 1.0, 2.0)
RULES: dict[str, dict[str, object]] = {
    "random": {"policy": "random"},
    "plain": {"policy": "soft", "high": "none"},
    **{f"a{a}": {"policy": "soft", "exponent": a} for a in EXPONENTS},
    "hard": {"policy": "fraction"},
}
COLUMNS = ("random", "0.5, plain", *(f"{a:g}" for a in EXPONENTS), "hard")
EPOCHS = 30
OTHER_EPOCHS = (15, 45)
RESULTS = Path(__file__).parent / "results"


def arms() -> dict[str, dict | None]:
    """Return the arms: every share under every rule, and full training of other lengths."""
    found: dict[str, dict | None] = {"full": None}
    for share in SHARES:
        fraction = share * EPOCHS / (EPOCHS - 1)  # the first epoch is full
        found |= {f"s{share}-{name}": {**rule, "fraction": fraction} for name, rule in RULES.items()}
    for epochs in OTHER_EPOCHS:
        found[f"epochs{epochs}"] = {"policy": "full", "epochs": epochs}
    return found


def picture(table: np.ndarray, full: float, path: Path) -> None:
    """Draw points against full training, a row a share and a column a rule."""
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    difference = 100 * (table - full)
    reach = max(1.0, float(np.abs(difference).max()))
    image = axes.imshow(difference, cmap="RdBu", vmin=-reach, vmax=reach, aspect="auto")
    for row, column in np.ndindex(*difference.shape):
        value = difference[row, column]
        dark = abs(value) > 0.6 * reach
        axes.text(column, row, f"{value:+.2f}", ha="center", va="center", color="white" if dark else "black")
    axes.set_xticks(range(len(COLUMNS)), COLUMNS)
    axes.set_yticks(range(len(SHARES)), [f"{share:.0%}" for share in SHARES])
    axes.set_xlabel("exponent of the odds")
    axes.set_ylabel("samples saved")
    axes.set_title(f"Points against full training ({full:.2%}), validation split", loc="left", fontsize=10)
    figure.colorbar(image, shrink=0.9)
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("comparisons"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int)
    options = parser.parse_args()
    results = fallow.compare(
        located("fashion-mnist"), arms=arms(), seeds=options.seeds, out=options.out / "sensitivity",
        jobs=options.jobs, augment="crop-flip",
        samples=20_000, validation=1 / 6, epochs=EPOCHS, accelerator="cpu",
    ).results  # fmt: skip
    by_arm = {row["arm"]: row["accuracy"]["mean"] for row in results["arms"]}
    kept = [{k: run[k] for k in ("arm", "seed", "accuracy", "saved_fraction")} for run in results["runs"]]
    (RESULTS / "sensitivity.json").write_text(json.dumps(kept, indent=1) + "\n")
    table = np.array([[by_arm[f"s{share}-{name}"] for name in RULES] for share in SHARES])
    picture(table, by_arm["full"], RESULTS / "sensitivity.svg")
    print("| saved | " + " | ".join(COLUMNS) + " |\n" + "|---" * (len(COLUMNS) + 1) + "|")
    for share, row in zip(SHARES, table, strict=True):
        print(f"| {share:.0%} | " + " | ".join(f"{value:.2%}" for value in row) + " |")
    for name in ("full", *(f"epochs{epochs}" for epochs in OTHER_EPOCHS)):
        accuracies = [run["accuracy"] for run in kept if run["arm"] == name]
        print(f"{name}: {mean(accuracies):.2%}")


if __name__ == "__main__":
    main()
