"""What fallow costs and saves on a GPU, in one command of at most some minutes.

    python benchmarks/gpu.py --out FOLDER [--minutes 8] [--seeds 10] [--data cifar10 | FILE.npz]

What is measured, the most important first:

1. **Waiting.** `record` runs under ``torch.cuda.set_sync_debug_mode("error")``, in which an operation that
   waits for the device is an error; waits of whole steps and of the end of an epoch are counted.
2. **Overhead.** A ResNet-18 (bf16, channels last) makes steps with and without fallow in turns, at batches of
   128 to 1,024 of large and of small pictures.
3. **Accuracy.** A ResNet-9 learns CIFAR-10 (50,000 pictures, kept on the device): fallow's default, full
   training, and three controls that save as many samples as the default has just done with that seed: fewer
   epochs, fewer epochs with batches so thin that there are as many steps as in full training, and random
   samples each epoch with the steps kept. Seed by seed, so that a stop leaves whole rows.
4. **Thin batches.** Epochs at several savings with steps kept (thinner batches) and with steps dropped. A
   device that the thin batch does not fill gives less than it saves.

Each finished measurement is kept in FOLDER/gpu.json and is not made again: a stopped run goes on from there.
The time begins once the data lie on this machine. Nothing begins that would not end in time, by what such a
measurement took before, and what is left is named at the end. ``--table`` prints what was found so far as
tables for RESULTS.md and measures nothing. ``--small`` runs everything in a minute on the CPU, with tiny
networks and scikit-learn's digits: its figures mean nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

import fallow
import gpu_steps
import gpu_tables
import gpu_training
from data import SETS, located
from fallow.errors import DamagedData, FallowError, damaged, invalid

EXPECTED = {"waiting": 15.0, "overhead": 10.0, "train": 15.0, "wall": 8.0, "shapes": 6.0}
"""Seconds that a measurement takes by its kind, until one has been made."""
EARLY = 3
"""Seeds that train before thin batches are timed."""


@dataclass(frozen=True)
class Form:
    """How much is measured: all of it on a GPU, or a little on the CPU."""

    name: str
    steps: gpu_steps.StepSizes
    training: gpu_training.TrainingSizes


FORMS = {
    "whole": Form("whole", gpu_steps.WHOLE, gpu_training.WHOLE),
    "small": Form("small", gpu_steps.SMALL, gpu_training.SMALL),
}


class Kept:
    """The measurements of a folder, each with the seconds it took.

    Args:
        folder: where ``gpu.json`` lies.

    Attributes:
        settings: what they were made with; empty if there are none.
        found: results by the name of the measurement.

    Raises:
        DamagedData: if the file is not of this benchmark.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "gpu.json"
        self.settings: dict[str, Any] = {}
        self.found: dict[str, dict[str, Any]] = {}
        if not self.path.exists():
            return
        try:
            stored = json.loads(self.path.read_text())
            self.settings, self.found = stored["settings"], stored["found"]
        except (ValueError, KeyError, TypeError) as error:
            rule = f"{self.path} must hold measurements of this benchmark."
            raise damaged(rule, repr(error), "Name another folder with --out.") from None

    def begin(self, settings: dict[str, Any]) -> None:
        """Take up the settings of this run, which must be those of what is kept.

        Raises:
            InvalidValue: if they differ.
        """
        plain = json.loads(json.dumps(settings))
        for name, value in plain.items():
            if self.settings and self.settings.get(name) != value:
                rule = f"Measurements in {self.path} must be made with the same {name}."
                raise invalid(
                    rule, f"{value}, not {self.settings.get(name)}", "Name another folder with --out."
                )
        self.settings = plain

    def add(self, name: str, result: dict[str, Any], seconds: float) -> None:
        """Keep a finished measurement; the file is whole at every moment."""
        self.found[name] = {**result, "seconds": round(seconds, 3)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".tmp")
        beside.write_text(json.dumps({"settings": self.settings, "found": self.found}, indent=1) + "\n")
        os.replace(beside, self.path)

    def expected(self, name: str) -> float:
        """Return how many seconds a measurement may take: the most that one of its kind took."""
        taken = [found["seconds"] for other, found in self.found.items() if kind_of(other) == kind_of(name)]
        return 1.1 * max(taken) if taken else EXPECTED[name.partition(" ")[0]]


def kind_of(name: str) -> str:
    """Return what measurements that take about as long have in common.

    >>> kind_of("train 3 full"), kind_of("overhead 224 512"), kind_of("wall 32 128 kept 0.5")
    ('train full', 'overhead 224', 'wall 32 128')
    """
    first, *rest = name.split()
    if first == "train":
        return f"{first} {rest[-1]}"
    return " ".join([first, *rest[: {"overhead": 1, "wall": 2}.get(first, 0)]])


@dataclass
class Measures:
    """Makes measurements by name.

    Args:
        form: how much is measured.
        device: on which.
        data: path or name of the data of the trainings; read when the first of them needs it.
        kept: the results so far, from which controls learn what the default saved.
    """

    form: Form
    device: torch.device
    data: str
    kept: Kept
    _material: gpu_training.Material | None = field(default=None, init=False)

    def plan(self, seeds: int) -> list[list[str]]:
        """Return the names of all measurements in their order; those in one list belong together."""
        steps = self.form.steps
        rows = [[f"train {seed} {arm}" for arm in gpu_training.ARMS] for seed in range(seeds)]
        # Where an order of sides and sizes is as good as another, the target of 256 comes first.
        sizes = sorted(steps.batches, key=lambda batch: (batch != 256, batch))
        walls = [
            [
                f"wall {at.side} {at.batch} plain 0",
                f"wall {at.side} {at.batch} kept 0",
                *(f"wall {at.side} {at.batch} {how} {s:g}" for s in at.saved for how in ("kept", "dropped")),
            ]
            for at in steps.walls
        ]
        shapes = [[f"shapes {mode}" for mode in ("off", "on")]] if self.device.type == "cuda" else []
        return [
            ["waiting"],
            *([f"overhead {side} {batch}"] for batch in sizes for side in steps.sides),
            *rows[:EARLY],
            *walls,
            *shapes,
            *rows[EARLY:],
        ]

    def prepare(self, name: str) -> None:
        """Read what a measurement needs; the seconds of this are not those of the measurement."""
        if name.startswith("train") and self._material is None:
            self._material = gpu_training.material(self.data, self.device)
            if self.device.type == "cuda":
                # What is loaded and chosen once must not count for the first arm.
                gpu_training.warm_up(self._material, self.form.training, self.device)

    def make(self, name: str) -> dict[str, Any]:
        """Make a measurement, or say that the device is too small for it."""
        try:
            return self._maker(name)()
        except torch.cuda.OutOfMemoryError:
            return {"failed": "out of memory"}
        finally:
            # Each starts with an empty device.
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _maker(self, name: str) -> Callable[[], dict[str, Any]]:
        sizes, device = self.form.steps, self.device
        kind, *words = name.split()
        if kind == "waiting":
            return lambda: gpu_steps.synchronisations(sizes, device)
        if kind == "overhead":
            return lambda: gpu_steps.overhead(sizes, device, *map(int, words))
        if kind == "shapes":
            return lambda: gpu_steps.new_shapes(sizes, device, benchmark=words == ["on"])
        if kind == "train":
            return lambda: self._train(int(words[0]), words[1])
        side, batch, mode, saved = int(words[0]), int(words[1]), words[2], float(words[3])
        at = next(wall for wall in sizes.walls if (wall.side, wall.batch) == (side, batch))
        return lambda: gpu_steps.wall(sizes, device, at, mode, saved)

    def _train(self, seed: int, arm: str) -> dict[str, Any]:
        assert self._material is not None
        saved = self.kept.found.get(f"train {seed} default", {}).get("saved")
        return gpu_training.train(self._material, self.form.training, self.device, arm, seed, saved)


def measure(measures: Measures, kept: Kept, seeds: int, limit: float) -> list[str]:
    """Make what is not made yet, as long as there is time; return the names of what is left."""
    began = perf_counter()
    groups = [[name for name in group if name not in kept.found] for group in measures.plan(seeds)]
    while groups:
        group = groups[0]
        if perf_counter() - began + sum(map(kept.expected, group)) > limit:
            break
        for name in group:
            measures.prepare(name)
            started = perf_counter()
            result = measures.make(name)
            kept.add(name, result, perf_counter() - started)
            print(f"{perf_counter() - began:6.1f} s  {name}: {gpu_tables.brief(result)}", flush=True)
        del groups[0]
    return [name for group in groups for name in group]


def settings_of(form: Form, device: torch.device, data: str) -> dict[str, Any]:
    """Return what all measurements of a file must have in common."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {
        "form": form.name,
        "device": name,
        "torch": torch.__version__,
        "fallow": fallow.__version__,
        "data": data,
        "steps": asdict(form.steps),
        "training": asdict(form.training),
    }


def run(asked: argparse.Namespace) -> None:
    """Measure, or print what was measured.

    Raises:
        InvalidValue: if there is no GPU, or the folder holds measurements made in another way.
    """
    kept = Kept(asked.out)
    if not asked.table:
        if not asked.small and not torch.cuda.is_available():
            step = "Run it on a machine with one, or add --small to try the code on the CPU."
            raise invalid("The measurements need a CUDA device.", "none", step)
        form = FORMS["small" if asked.small else "whole"]
        device = torch.device("cpu" if asked.small else "cuda")
        data = asked.data or ("digits" if asked.small else "cifar10")
        kept.begin(settings_of(form, device, Path(data).stem))
        place = located(data)
        if place != "digits" and not Path(place).exists():
            raise invalid("--data must be a known name or a file.", place, f"Known: {', '.join(SETS)}.")
        left = measure(Measures(form, device, place, kept), kept, asked.seeds, 60 * asked.minutes)
        if left:
            rest = sum(map(kept.expected, left))
            print(f"Left ({rest:.0f} s, by what such took; run the same command again): {', '.join(left)}")
        print()
    print(gpu_tables.report(kept.settings, kept.found))


def main(words: Sequence[str] | None = None) -> int:
    """Return 0, or 2 after wrong use and 3 for a damaged file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=8.0, help="at most so long (default 8)")
    parser.add_argument("--seeds", type=int, default=10, help="at most so many (default 10)")
    parser.add_argument("--data", help="a name of `benchmarks.data` or a FILE.npz (default cifar10)")
    parser.add_argument("--small", action="store_true", help="try the code on the CPU")
    parser.add_argument("--table", action="store_true", help="print what was found so far, and stop")
    try:
        run(parser.parse_args(words))
    except FallowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3 if isinstance(error, DamagedData) else 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
