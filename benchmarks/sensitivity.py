"""How much the one dial of the default matters: the share of the error that may be left out.

    python benchmarks/sensitivity.py [WORK ...] --out FOLDER [--seeds 3] [--jobs 2]

Each WORK is one ``fallow compare``. What counts is the accuracy on the 40,000 training samples that the work
does not use: so the test set has no say, and networks are told apart better than by a validation split.
Beside the dial, full training of other lengths tells what the same number of samples gives without any rule.
The tables are printed; ``--table`` prints them from ``results/sensitivity.json`` and draws
``sensitivity.svg`` again, without training anything.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

import fallow
import works
from frontier import accuracy

ERRORS = (0.03, 0.1, 0.15, 0.3, 0.5)
LENGTHS = (0.5, 0.7, 0.9, 1.5)
"""Of full training, as shares of its epochs."""
WORKS: dict[str, dict[str, Any]] = {
    "fashion-noise0": {},
    "cifar-10k": {"model": "small-resnet", "precision": "bf16-mixed"},
}
EPOCHS = 30
RESULTS = Path(__file__).parent / "results"


def arms() -> dict[str, dict | None]:
    """Return the arms: every error, and full training of every length."""
    dials = {f"error-{error}": {"policy": "error-mass", "error": error} for error in ERRORS}
    lengths = {f"length-{share}": {"policy": "full", "epochs": round(share * EPOCHS)} for share in LENGTHS}
    return {"full": None, **dials, **lengths}


def runs_of(work: str, out: Path, seeds: int, jobs: int | None) -> list[dict[str, Any]]:
    """Return what counts of the runs of a work."""
    data, folder = works.build(work, out / "data"), out / f"sensitivity-{work}"
    results = fallow.compare(
        str(data), arms=arms(), seeds=seeds, out=folder, jobs=jobs, augment="crop-flip", epochs=EPOCHS,
        accelerator="cpu", trainer={"check_val_every_n_epoch": 3}, **WORKS[work],
    ).results  # fmt: skip
    found, unused = [], works.unused(data)
    for run in results["runs"]:
        brief = {key: run[key] for key in ("arm", "seed", "saved_fraction", "cpu_seconds")}
        on_unused = accuracy(folder / "runs" / run["name"], run["settings"]["model"], *unused)
        found.append({"work": work, **brief, "accuracy": on_unused})
    return found


def rows(runs: list[dict[str, Any]]) -> list[tuple[str, float, list[float]]]:
    """Return of each arm its name, the share saved, and the points against full training, seed by seed."""
    full = {run["seed"]: run["accuracy"] for run in runs if run["arm"] == "full"}
    found = []
    for arm in arms():
        own = [run for run in runs if run["arm"] == arm]
        points = [100 * (run["accuracy"] - full[run["seed"]]) for run in own]
        found.append((arm, mean(run["saved_fraction"] for run in own), points))
    return found


def picture(runs: list[dict[str, Any]], path: Path) -> None:
    """Draw points against full training over the share saved: the dial, and full training cut short."""
    names = list(dict.fromkeys(run["work"] for run in runs))
    figure, panes = plt.subplots(
        1, len(names), figsize=(4.6 * len(names), 3.6), layout="constrained", squeeze=False
    )
    for axes, work in zip(panes[0], names, strict=True):
        found = rows([run for run in runs if run["work"] == work])
        for start, label, form in (("error-", "--error", "o-"), ("length-", "fewer epochs", "s--")):
            part = sorted(
                (saved, points, arm) for arm, saved, points in found if arm.startswith(start) and saved >= 0
            )
            spread = [stdev(points) / len(points) ** 0.5 if len(points) > 1 else 0 for _, points, _ in part]
            heights = [mean(points) for _, points, _ in part]
            axes.errorbar([saved for saved, *_ in part], heights, spread, fmt=form, label=label, capsize=2)
            if start == "error-":
                for (saved, _, arm), height in zip(part, heights, strict=True):
                    axes.annotate(
                        arm.removeprefix(start), (saved, height), (3, 5), textcoords="offset points"
                    )
        axes.axhline(0, color="black", linewidth=0.8)
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.set_xlabel("samples saved")
        axes.set_title(work, loc="left", fontsize=10)
        axes.legend()
    panes[0][0].set_ylabel("points against full training")
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("works", nargs="*", default=list(WORKS), help=", ".join(WORKS))
    parser.add_argument("--out", type=Path, default=Path("comparisons"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--table", action="store_true", help="print and draw what was kept, and stop")
    options = parser.parse_args()
    path = RESULTS / "sensitivity.json"
    # Without a work: an earlier measurement, of another rule.
    runs = [run for run in json.loads(path.read_text()) if "work" in run] if path.exists() else []
    if not options.table:
        for work in options.works:
            new = runs_of(work, options.out, options.seeds, options.jobs)
            runs = [run for run in runs if run["work"] != work] + new
            path.write_text(json.dumps(runs, indent=1) + "\n")
    picture(runs, RESULTS / "sensitivity.svg")
    for work in dict.fromkeys(run["work"] for run in runs):
        print(f"\n### {work}\n\n| arm | saved | points against full training |\n|---|---|---|")
        for arm, saved, points in rows([run for run in runs if run["work"] == work]):
            spread = f" ± {stdev(points):.2f}" if len(points) > 1 else ""
            print(f"| {arm} | {saved:.1%} | {mean(points):+.2f}{spread} |")


if __name__ == "__main__":
    main()
