"""Bits a character of a comparison of language models, against full training and the two controls.

    fallow compare --data shakespeare --samples 7500 --epochs 4 --saved 0.25 --seeds 3 --out FOLDER
    python -m benchmarks.bits FOLDER

Differences are in per cent of full training's bits, paired by seed, with 95 % intervals of Student's t: below
0 is better.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fallow.comparison.statistics import Difference, deviation, mean, paired


def read(folder: Path) -> dict[str, dict[int, dict[str, float]]]:
    """Return bits, saved share and seconds of each arm by seed, of the runs that are done."""
    arms: dict[str, dict[int, dict[str, float]]] = {}
    for path in sorted(folder.glob("runs/*/summary.json")):
        summary = json.loads(path.read_text())
        if summary["finished"]:
            arm, _, seed = path.parent.name.rpartition("-")
            kept = ("bits_per_character", "samples_backward", "cpu_seconds", "accuracy")
            arms.setdefault(arm, {})[int(seed)] = {name: summary[name] for name in kept}
    return arms


def shown(difference: Difference | None) -> str:
    if difference is None:
        return ""
    if difference.low is None or difference.high is None:
        return f"{difference.mean:+.2f} %"
    return f"{difference.mean:+.2f} % ({difference.low:+.2f} to {difference.high:+.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    arms = read(parser.parse_args().folder)
    full = {seed: row["bits_per_character"] for seed, row in arms["full"].items()}
    most = max(row["samples_backward"] for row in arms["full"].values())
    relative = {
        arm: {
            seed: 100 * (row["bits_per_character"] / full[seed] - 1)
            for seed, row in rows.items()
            if seed in full
        }
        for arm, rows in arms.items()
    }
    print("| arm | saved | bits a character | against full | against fewer epochs | against random | CPU s |")
    print("|---|---|---|---|---|---|---|")
    for arm, rows in arms.items():
        values = [row["bits_per_character"] for row in rows.values()]
        trained = mean([row["samples_backward"] for row in rows.values()])
        cells = [arm, f"{1 - trained / most:.1%}"]
        cells.append(f"{mean(values):.4f} ± {deviation(values) or 0:.4f}")
        saving = arm.partition("-0")[2]
        for other in ("full", f"fewer-epochs-0{saving}", f"random-0{saving}"):
            same = other == arm or arm == "full"
            cells.append("" if same else shown(paired(relative[arm], relative.get(other, {}))))
        cells.append(f"{mean([row['cpu_seconds'] for row in rows.values()]):.0f}")
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
