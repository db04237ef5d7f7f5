"""The frontier: accuracy against samples saved, every rule on the same work, against the plain controls.

    python benchmarks/frontier.py --out FOLDER [WORK ...] [--seeds 5] [--jobs 2]

Each WORK is one ``fallow compare`` (its command is printed), and goes on where it was stopped. The default
runs first; controls and other rules save what it saved. When it is done, what counts of it is kept in
``results/frontier/WORK.json`` beside this file, and its chart in ``WORK.svg``. ``--table`` prints the tables
for RESULTS.md from there, without training anything.

The final epoch counts, and seeds are paired: see docs/decisions/010.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

import works
from data import located
from fallow.comparison.arms import CONTROLS
from fallow.comparison.statistics import deviation, mean, paired
from fallow.datasets import ImageData
from fallow.datasets.images import ImageDataset
from fallow.models import image_model

RESULTS = Path(__file__).parent / "results" / "frontier"
ROOT = Path(__file__).parent.parent

PEERS = ("infobatch", "seta", "kakurenbo", "ucb", "repb", "order-dp", "ies")
BEST_PEERS = ("infobatch", "seta", "order-dp")
RULES = ("fraction", "hard", "threshold")
BASE = ("full", *CONTROLS, "default")


@dataclass(frozen=True)
class Work:
    """One comparison, at the saving that the default finds.

    Attributes:
        options: of ``fallow compare``; without the data, if ``works.py`` makes it.
        arms: names, beside those of ``BASE``; ``arm@saved`` has a saving of its own.
        seeds: at most so many.
        data: name in ``works.py``, if it differs from the work's.
    """

    options: str
    arms: tuple[str, ...] = ()
    seeds: int = 5
    data: str = ""


SMALL_RESNET = "--model small-resnet --augment crop-flip "
# Evaluated every few epochs, which divide the epochs of every arm: the last one counts.
THIRTY = SMALL_RESNET + """--precision bf16-mixed --epochs 30 --trainer '{"check_val_every_n_epoch": 3}'"""
SIXTY = SMALL_RESNET + """--epochs 60 --trainer '{"check_val_every_n_epoch": 6}'"""
PICTURES = "--epochs 30 --augment crop-flip"
WORKS = {
    "fashion-20k": Work(
        f"--data fashion-mnist --samples 20000 {PICTURES}", (*RULES, *PEERS, "selective-backprop")
    ),
    "fashion-60k": Work("--data fashion-mnist --epochs 20 --augment crop-flip", ("fraction",)),
    "fashion-noise20": Work(PICTURES, (*RULES, *BEST_PEERS)),
    "fashion-noise40": Work(PICTURES, (*RULES, *BEST_PEERS)),
    "fashion-longtail": Work(PICTURES, ("fraction", "order-dp")),
    "fashion-duplicates": Work(PICTURES, ("fraction", "order-dp")),
    "cifar-10k": Work(THIRTY, BEST_PEERS),
    "cifar-10k-64": Work(f"{THIRTY} --batch_size 64", BEST_PEERS, data="cifar-10k"),
    "cifar-10k-60": Work(SIXTY, seeds=3, data="cifar-10k"),
    "cifar-10k-60-64": Work(f"{SIXTY} --batch_size 64", seeds=3, data="cifar-10k"),
    "cifar10n-10k": Work(THIRTY, ("infobatch", "order-dp")),
    "newsgroups": Work(
        "--data benchmarks.newsgroups:News --model benchmarks.newsgroups:BagOfWords --epochs 20",
        # The module records its loss as the score and trains on whole batches: neither suits these two.
        (*RULES, *(peer for peer in PEERS if peer != "repb")),
    ),
    "r8": Work("--data r8", ("fraction", "ies")),
    "20newsgroups": Work("--data 20newsgroups --epochs 10", ("ies",), seeds=3),
    "shakespeare": Work(
        "--data shakespeare --test_share 0.10678 --samples 7500 --epochs 8", ("fraction@0.25",), seeds=3
    ),
}


def data_of(name: str, out: Path) -> Path | None:
    """Return the file of a work that has its data from ``works.py``."""
    source = WORKS[name].data or name
    return out / "data" / f"{source}.npz" if source in works.WORKS else None


def command(name: str, out: Path, seeds: int, jobs: int | None, *, base: bool) -> list[str]:
    """Return the ``fallow compare`` of a work; its data is built first if it is one of ``works.py``."""
    work = WORKS[name]
    words = ["compare", *map(located, shlex.split(work.options))]
    data = data_of(name, out)
    if data is not None:
        words += ["--data", str(data if data.exists() else works.build(data.stem, data.parent))]
    words += [
        "--arms",
        ",".join(BASE if base else (*BASE, *work.arms)),
        "--seeds",
        str(min(seeds, work.seeds)),
    ]
    words += ["--out", str(out / name)]
    return words if jobs is None else [*words, "--jobs", str(jobs)]


def wrong_labels(run: Path, data: Path) -> dict[str, float] | None:
    """Return precision and recall of the outliers of a run among the labels that are wrong."""
    with np.load(data) as arrays:
        if "y_true" not in arrays or (arrays["y_true"] == arrays["y_train"]).all():
            return None
        wrong = arrays["y_true"] != arrays["y_train"]
    with (run / "samples.csv").open() as file:
        found = np.array([row["reason"] == "outlier" for row in csv.DictReader(file)])
    hits = int(np.count_nonzero(found & wrong))
    return {
        "found": int(found.sum()),
        "precision": hits / max(1, int(found.sum())),
        "recall": hits / int(wrong.sum()),
    }


@torch.no_grad()
def accuracy(run: Path, model: str, data: ImageData, on: ImageDataset) -> float:
    """Return the accuracy of the network of a finished run on some images."""
    network = image_model(model, *on.images.shape[1:3], len(data.classes)).eval()
    network.load_state_dict(load_file(run / "model.safetensors"))
    middle, spread = (values.view(-1, 1, 1) for values in data.train.mean_std())
    hits = 0
    for images, labels in zip(on.images.split(1000), on.labels.split(1000), strict=True):
        hits += int((network((images / 255 - middle) / spread).argmax(1) == labels).sum())
    return hits / len(on)


def keep(name: str, out: Path) -> None:
    """Keep what counts of a finished comparison."""
    results = json.loads((out / name / "results.json").read_text())
    data = data_of(name, out)
    unused = None if data is None else works.unused(data)
    kept = RESULTS / f"{name}.json"
    before = json.loads(kept.read_text())["runs"] if kept.exists() else []
    # A run is known by its name and its time, so that what was measured on its network stands.
    measured = {(run["name"], run.get("seconds")): run.get("accuracy_on_unused") for run in before}
    for run in results["runs"]:
        if run["status"] == "done":
            folder = out / name / "runs" / run["name"]
            epochs = json.loads((folder / "summary.json").read_text())["epochs"]
            run["most_outliers"] = max(epoch["outliers"] for epoch in epochs)
            if data is not None and unused is not None:
                run["wrong_labels"] = wrong_labels(folder, data)
                known = measured.get((run["name"], run["seconds"]))
                run["accuracy_on_unused"] = known or accuracy(folder, run["settings"]["model"], *unused)
            run["settings"]["data"] = Path(run["settings"]["data"]).name
        for field in [
            field for field, value in run.items() if field in ("epochs", "options", "accuracy_by_class")
        ]:
            del run[field]
    for settings in ("settings", "settings_used"):
        if "data" in results[settings]:
            results[settings]["data"] = Path(results[settings]["data"]).name
    RESULTS.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(results, indent=1) + "\n")
    shutil.copy(out / name / "frontier.svg", RESULTS / f"{name}.svg")


def points(difference: dict | None) -> str:
    """Return a difference with its interval: points of accuracy, or per cent of the bits."""
    if difference is None:
        return ""
    if difference["low"] is None:
        return f"{100 * difference['mean']:+.2f}"
    low, high = 100 * difference["low"], 100 * difference["high"]
    rest = "~" if difference.get("interpolated") else ""
    return f"{100 * difference['mean']:+.2f} ({low:+.2f} to {high:+.2f}){rest}"


def best_control(row: dict) -> tuple[str, dict | None]:
    """Return the control that an arm is least above, and the difference to it."""
    against = {name: row["against"][name] for name in CONTROLS if row["against"].get(name)}
    # A difference of bits is better if it is negative.
    best = min(
        against,
        key=lambda name: -against[name]["mean"] if against[name]["relative"] else against[name]["mean"],
        default="",
    )
    return best, against.get(best)


def ended_at(row: dict) -> str:
    """Return the accuracy of an arm, or its bits a character, with the deviation over the seeds."""
    measured, form, factor = row["accuracy"], ".2f", 100
    if row["bits_per_character"]["mean"] is not None:
        measured, form, factor = row["bits_per_character"], ".4f", 1
    spread = "" if measured["sd"] is None else f" ± {factor * measured['sd']:{form}}"
    return f"{factor * measured['mean']:{form}}{spread}"


def table(name: str) -> str:
    """Return the results of a work as a Markdown table, an arm and saving a row."""
    results = json.loads((RESULTS / f"{name}.json").read_text())
    unused = on_unused(results["runs"])
    titles = ["arm", "saved", "ended at", "against full", "against the best control", "worst class", "CPU s"]
    titles += ["on unused samples", "against full"] if unused else []
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for row in results["arms"]:
        control, difference = best_control(row)
        worst = row["worst_class_accuracy"]
        lines.append(
            f"| {row['arm']} | {row['saved_fraction']:.1%} | {ended_at(row)} "
            f"| {points(row['against'].get('full'))} "
            f"| {f'{points(difference)} {control}' if row['arm'] not in CONTROLS else ''} "
            f"| {'' if worst is None else f'{worst:.1%}'} | {row['cpu_seconds']:.0f} |"
            f"{unused.get((row['arm'], row['saved']), '')}"
        )
    return "\n".join(lines)


def on_unused(runs: list[dict]) -> dict[tuple[str, float | None], str]:
    """Return the last two cells of the row of each arm and saving; empty for data that use all samples."""
    found: dict[tuple[str, float | None], dict[int, float]] = {}
    for run in runs:
        if run.get("accuracy_on_unused") is not None:
            values = found.setdefault((run["arm"], run["saved"]), {})
            values[run["seed"]] = run["accuracy_on_unused"]
    full = found.get(("full", None), {})
    cells = {}
    for arm, values in found.items():
        spread = deviation(list(values.values()))
        ends = f"{100 * mean(list(values.values())):.2f}" + (f" ± {100 * spread:.2f}" if spread else "")
        difference = None if arm == ("full", None) else paired(values, full)
        cells[arm] = f" {ends} | {points(None if difference is None else asdict(difference))} |"
    return cells


def summary(names: list[str]) -> str:
    """Return what the default does on each work as a Markdown table."""
    lines = [
        "| work | seeds | saved | ended at | against full | against the best control | CPU time of full |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in names:
        rows = {row["arm"]: row for row in json.loads((RESULTS / f"{name}.json").read_text())["arms"]}
        row = rows["default"]
        control, difference = best_control(row)
        lines.append(
            f"| {name} | {row['n']} | {row['saved_fraction']:.1%} | {ended_at(row)} "
            f"| {points(row['against'].get('full'))} | {points(difference)} {control} "
            f"| {row['cpu_seconds'] / rows['full']['cpu_seconds']:.0%} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("works", nargs="*", default=list(WORKS), help=", ".join(WORKS))
    parser.add_argument("--out", type=Path, default=Path("comparisons"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--base", action="store_true", help=f"only the arms {', '.join(BASE)}")
    parser.add_argument("--table", action="store_true", help="print the tables of what was kept, and stop")
    options = parser.parse_args()
    for name in options.works:
        if not options.table:
            words = command(name, options.out.resolve(), options.seeds, options.jobs, base=options.base)
            print("fallow", shlex.join(words), flush=True)
            subprocess.run([sys.executable, "-m", "fallow", *words], check=True, cwd=ROOT)
            keep(name, options.out.resolve())
        if (RESULTS / f"{name}.json").exists():
            print(f"\n### {name}\n\n{table(name)}\n", flush=True)
    kept = [name for name in options.works if (RESULTS / f"{name}.json").exists()]
    print(f"\n### What the default does\n\n{summary(kept)}\n", flush=True)


if __name__ == "__main__":
    main()
