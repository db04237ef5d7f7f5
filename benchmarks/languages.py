"""Which of 15 languages a title is in: ``fallow compare``, read by macro-F1 and by the rare languages.

    python benchmarks/languages.py --out FOLDER [--arms A,B] [--saved 0.5] [--seeds 5] [--jobs 2]

The data are ``debian-titles`` of ``data.py``. The command of the comparison is printed; it goes on where it
was stopped. Then each run labels the titles held out, and what counts is kept in ``results/languages.json``
beside this file: accuracy, macro-F1 (the mean over languages of the harmonic mean of precision and recall),
the same over the rare languages alone, and how much less than full training it trained on their titles.
``--table`` prints the table for RESULTS.md from there, without training anything.

A language is rare if fewer than 1,000 titles of it are trained on.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from sklearn.metrics import f1_score

from data import located
from fallow.comparison.statistics import deviation, mean, paired
from fallow.datasets import TextData, load_text_table
from fallow.datasets.tokenizing import Tokenizer
from fallow.models import SmallTransformer

KEPT = Path(__file__).parent / "results" / "languages.json"
ROOT = Path(__file__).parent.parent
OPTIONS = (
    "--data debian-titles --max_tokens 32 --vocabulary 4000 --batch_size 128 "
    """--trainer '{"check_val_every_n_epoch": 3}'"""
)
EPOCHS = 6
ARMS = "full,fewer-epochs,fewer-epochs-thin,random,random-dropped,default"
RARE = 1_000
FORMS = {"macro_f1": "macro-F1", "rare_f1": "F1 of rare languages", "accuracy": "accuracy"}


def command(out: Path, arms: str, saved: str | None, seeds: int, jobs: int | None) -> list[str]:
    """Return the comparison."""
    words = [
        "compare",
        *map(located, shlex.split(OPTIONS)),
        "--epochs",
        str(EPOCHS),
        "--arms",
        arms,
        "--seeds",
        str(seeds),
    ]
    for name, value in (("--saved", saved), ("--jobs", jobs)):
        words += [] if value is None else [name, str(value)]
    return [*words, "--out", str(out)]


def predicted(run: Path, data: TextData) -> np.ndarray:
    """Return the class that the network of a finished run gives to each title held out, ``(M,)``."""
    tokenizer = Tokenizer.parse((run / "tokenizer.json").read_bytes(), "tokenizer.json")
    weights = load_file(run / "model.safetensors")
    longest = len(weights["position"])
    network = SmallTransformer(len(tokenizer), len(data.classes), longest, tokenizer.pad)
    network.load_state_dict(weights)
    network.eval()
    encoded = tokenizer.encode(data.test.texts, longest)
    ids, edges = torch.from_numpy(encoded.ids).long(), encoded.edges.tolist()
    rows = [ids[start:stop] for start, stop in pairwise(edges)]
    found = []
    with torch.no_grad():
        for start in range(0, len(rows), 1024):
            part = rows[start : start + 1024]
            padded = torch.nn.utils.rnn.pad_sequence(part, batch_first=True, padding_value=tokenizer.pad)
            found.append(network(padded).argmax(1))
    return torch.cat(found).numpy()


def measured(run: Path, data: TextData) -> dict[str, Any]:
    """Return what counts of a finished run."""
    truth, counts = data.test.labels, np.bincount(data.train.labels, minlength=len(data.classes))
    found = predicted(run, data)
    f1 = f1_score(truth, found, labels=np.arange(len(data.classes)), average=None)
    with (run / "samples.csv").open() as file:
        used = np.array([int(row["times_used"]) for row in csv.DictReader(file)])
    rare = counts < RARE
    return {
        "accuracy": float((found == truth).mean()),
        "macro_f1": float(f1.mean()),
        "rare_f1": float(f1[rare].mean()),
        "rare_left_out": 1 - float(used[rare[data.train.labels]].mean()) / EPOCHS,
        "f1_by_class": {name: round(float(one), 4) for name, one in zip(data.classes, f1, strict=True)},
    }


def keep(out: Path) -> None:
    """Keep what counts of a finished comparison."""
    data = load_text_table(located("debian-titles"), "text", ["label"])
    runs = []
    for run in json.loads((out / "results.json").read_text())["runs"]:
        if run["status"] == "done":
            brief = {
                key: run[key] for key in ("arm", "saved", "seed", "saved_fraction", "steps", "cpu_seconds")
            }
            runs.append({**brief, **measured(out / "runs" / run["name"], data)})
    counts = np.bincount(data.train.labels, minlength=len(data.classes)).tolist()
    trained = dict(zip(data.classes, counts, strict=True))
    KEPT.parent.mkdir(exist_ok=True)
    KEPT.write_text(json.dumps({"options": OPTIONS, "trained": trained, "runs": runs}, indent=1) + "\n")


def table() -> str:
    """Return the kept results as a Markdown table, an arm and saving a row."""
    groups: dict[tuple[str, Any], list[dict[str, Any]]] = {}
    for run in json.loads(KEPT.read_text())["runs"]:
        groups.setdefault((run["arm"], run["saved"]), []).append(run)
    full = next((runs for (arm, _), runs in groups.items() if arm == "full"), [])
    titles = ["arm", "saved", "rare: visits left out"]
    for form in FORMS.values():
        titles += [form, "against full"]
    lines = [f"| {' | '.join([*titles, 'CPU s'])} |", "|" + "---|" * (len(titles) + 1)]
    for (arm, _), runs in groups.items():
        cells = [arm, f"{mean([run['saved_fraction'] for run in runs]):.1%}"]
        cells.append(f"{mean([run['rare_left_out'] for run in runs]):.1%}")
        for name in FORMS:
            values = {run["seed"]: 100 * run[name] for run in runs}
            spread = deviation(list(values.values()))
            cells.append(f"{mean(list(values.values())):.2f}{'' if spread is None else f' ± {spread:.2f}'}")
            against = (
                None if arm == "full" else paired(values, {run["seed"]: 100 * run[name] for run in full})
            )
            ends = (
                ""
                if against is None or against.low is None
                else f" ({against.low:+.2f} to {against.high:+.2f})"
            )
            cells.append("" if against is None else f"{against.mean:+.2f}{ends}")
        cells.append(f"{mean([run['cpu_seconds'] for run in runs]):.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("comparisons/languages"))
    parser.add_argument("--arms", default=ARMS)
    parser.add_argument("--saved", help="as of fallow compare")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--table", action="store_true", help="print the table of what was kept, and stop")
    options = parser.parse_args()
    if not options.table:
        out = options.out.resolve()
        words = command(out, options.arms, options.saved, options.seeds, options.jobs)
        print("fallow", shlex.join(words), flush=True)
        subprocess.run([sys.executable, "-m", "fallow", *words], check=True, cwd=ROOT)
        keep(out)
    print(f"\n### Languages\n\n{table()}\n", flush=True)


if __name__ == "__main__":
    main()
