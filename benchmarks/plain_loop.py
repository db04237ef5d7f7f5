"""Small networks trained by a plain loop over ``fallow.Subsampler``, arm against arm: no script of its own.

``coordinates.py`` and ``rare_events.py`` say what is trained and what counts. Here are the arms, the loop,
and how runs are kept: each is one JSON file, and a run that is done is not made again.

======================  ==========================================================================
full                    all samples in each epoch; a plain DataLoader, without fallow
fewer-epochs            the same with fewer epochs, at most the saving asked for
fewer-epochs-thin       and with smaller batches, so that it makes as many steps as full training
random, random-dropped  a random subset each epoch; with as many steps as full training, or fewer
hard                    the highest scores of all samples; as many steps as full training
soft                    a draw by the root of the score; the same
default                 what ``fallow.ErrorMass`` leaves out; the same
default-dropped         the same rule, steps dropped
======================  ==========================================================================

With ``--saved auto`` the arms that find their share run first, and the others save what ``default`` saved in
the mean of its seeds. CPU time is that of the loop, without what is measured at its end. One thread a run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import fallow
from fallow.comparison.arms import fewer_epochs
from fallow.comparison.statistics import deviation, mean, paired
from fallow.errors import invalid, unknown_name
from fallow.policies import Policy

RESULTS = Path(__file__).parent / "results"
Batch = tuple[Tensor, ...]
Draw = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


class Rows(Dataset[Batch]):
    """Tensors ``(N, ...)`` each, of which a batch takes the same rows."""

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: int) -> Batch:
        return tuple(tensor[index] for tensor in self.tensors)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        rows = torch.as_tensor(indices)
        return tuple(tensor[rows] for tensor in self.tensors)

    def part(self, start: int, stop: int) -> Batch:
        return tuple(tensor[start:stop] for tensor in self.tensors)

    @staticmethod
    def collate(batch: Batch) -> Batch:
        return batch


@dataclass
class Material:
    """What one run trains on.

    Attributes:
        rows: the training samples.
        model: the network.
        losses: from a batch to a loss for each sample, ``(B,)``, and predicted classes or None.
        measure: what counts, after the training.
        labels: class ids ``(N,)``, if there are classes.
    """

    rows: Rows
    model: nn.Module
    losses: Callable[[Batch], tuple[Tensor, Tensor | None]]
    measure: Callable[[], dict[str, float]]
    labels: np.ndarray | None = None


@dataclass(frozen=True)
class Arm:
    """How an arm leaves samples out.

    Attributes:
        policy: from the share to leave out of an epoch to the rule; None trains without fallow.
        kept_steps: whether an epoch makes as many steps as one of full training.
        finds_share: whether the rule finds the share itself.
        fewer: whether there are fewer epochs.
        draw: from labels, a count and a generator to the rows of an epoch, instead of all of them.
    """

    policy: Callable[[float], Policy] | None = None
    kept_steps: bool = True
    finds_share: bool = False
    fewer: bool = False
    draw: Draw | None = None


FULL = "full"
DEFAULT = "default"
ARMS: dict[str, Arm] = {
    FULL: Arm(),
    DEFAULT: Arm(lambda _: fallow.ErrorMass(), finds_share=True),
    "default-dropped": Arm(lambda _: fallow.ErrorMass(), kept_steps=False, finds_share=True),
    "fewer-epochs": Arm(fewer=True, kept_steps=False),
    "fewer-epochs-thin": Arm(fewer=True),
    "random": Arm(fallow.RandomFraction),
    "random-dropped": Arm(fallow.RandomFraction, kept_steps=False),
    "hard": Arm(fallow.Fraction),
    "soft": Arm(lambda share: fallow.Fraction(share, exponent=0.5)),
}


@dataclass(frozen=True)
class Work(ABC):
    """What a benchmark trains. A subclass makes the material of a seed.

    Attributes:
        epochs: of full training.
        batch_size: of full training.
        learning_rate: the highest; it rises over the first twentieth and falls as a cosine to 0.
        measures: of each figure what the table calls it, how it is written, and whether more is better.
        arms: further arms, of this work only.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    measures: ClassVar[Mapping[str, tuple[str, str]]] = {}
    own_arms: ClassVar[Mapping[str, Arm]] = {}

    @abstractmethod
    def material(self, seed: int) -> Material:
        """Return what the run of a seed trains on; the same for all arms."""


@dataclass
class _Counts:
    """What a loop counts."""

    passes: int = 0
    steps: int = 0
    left_out: list[float] = field(default_factory=list)
    error: list[float | None] = field(default_factory=list)
    outliers: list[int] = field(default_factory=list)


def rate(progress: float) -> float:
    """Return the share of the learning rate at a share of the training.

    >>> rate(0.025), rate(0.05), rate(1.0)
    (0.5, 1.0, 0.0)
    """
    if progress < 0.05:
        return progress / 0.05
    return 0.5 + 0.5 * math.cos(math.pi * (progress - 0.05) / 0.95)


class _Plain:
    """Batches of a training without fallow."""

    def __init__(self, work: Work, arm: Arm, made: Material, saved: float, seed: int) -> None:
        self.arm, self.made, self.kept = arm, made, 1.0 if arm.fewer else 1 - saved
        self.epochs = fewer_epochs(work.epochs, saved) if arm.fewer else work.epochs
        share = (self.epochs / work.epochs if arm.fewer else self.kept) if arm.kept_steps else 1.0
        self.batch_size = round(work.batch_size * share)
        self.seed = seed
        count = round(len(made.rows) * self.kept)
        self.total = self.epochs * math.ceil(count / self.batch_size)

    def batches(self) -> Iterator[tuple[Tensor | None, Batch, float]]:
        generator = torch.Generator().manual_seed(self.seed)
        rng = np.random.default_rng(self.seed)
        done, options = 0, {"collate_fn": Rows.collate, "generator": generator}
        loader = DataLoader(self.made.rows, self.batch_size, shuffle=True, **options)
        for _ in range(self.epochs):
            if self.arm.draw is not None:
                drawn = self.arm.draw(self.made.labels, round(len(self.made.rows) * self.kept), rng)
                loader = DataLoader(self.made.rows, self.batch_size, sampler=drawn, **options)
            for batch in loader:
                yield None, batch, done / self.total
                done += 1

    def loss(self, index: Tensor | None, losses: Tensor, predicted: Tensor | None) -> Tensor:
        return losses.mean()

    def close(self, counts: _Counts) -> None:
        """There is nothing to tell."""


class _Subsampled:
    """Batches of a training with fallow."""

    def __init__(self, work: Work, arm: Arm, made: Material, saved: float, seed: int) -> None:
        assert arm.policy is not None
        # The first epoch is full, so that the others leave out more.
        share = saved * work.epochs / (work.epochs - 1)
        self.epochs, self.made = work.epochs, made
        self.subsampler = fallow.Subsampler(
            len(made.rows),
            arm.policy(share),
            fallow.Schedule(epochs=work.epochs),
            seed=seed,
            labels=made.labels,
        )
        self.loader = self.subsampler.loader(
            made.rows, work.batch_size, collate_fn=Rows.collate, kept_steps=arm.kept_steps
        )

    def batches(self) -> Iterator[tuple[Tensor | None, Batch, float]]:
        for _ in range(self.epochs):
            for index, batch in self.loader:
                yield index, batch, self.subsampler.progress
            if self.subsampler.epoch + 1 < self.epochs:
                # Outliers come back by measurement only.
                self.subsampler.remeasure(self.made.rows, self.score, collate_fn=Rows.collate)
            self.subsampler.step()

    def score(self, index: Tensor, batch: Batch) -> Any:
        losses, predicted = self.made.losses(batch)
        return losses if predicted is None else (losses, predicted)

    def loss(self, index: Tensor | None, losses: Tensor, predicted: Tensor | None) -> Tensor:
        assert index is not None
        return self.subsampler.record(index, losses, predicted=predicted)

    def close(self, counts: _Counts) -> None:
        for record in self.subsampler.history:
            counts.left_out.append(round(1 - record.backward / record.n, 4))
            counts.error.append(record.notes.get("error"))
            counts.outliers.append(record.outliers)


def train(work: Work, name: str, saved: float | None, seed: int) -> dict[str, Any]:
    """Train one arm on one seed and return what counts of it."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    made, arm = work.material(seed), arms_of(work)[name]
    kind = _Plain if arm.policy is None else _Subsampled
    way, counts = kind(work, arm, made, saved or 0.0, seed), _Counts()
    optimizer = torch.optim.Adam(made.model.parameters(), work.learning_rate)
    began, cpu = time.perf_counter(), time.process_time()
    made.model.train()
    for index, batch, progress in way.batches():
        optimizer.param_groups[0]["lr"] = work.learning_rate * rate(progress)
        losses, predicted = made.losses(batch)
        loss = way.loss(index, losses, predicted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        counts.passes += len(losses)
        counts.steps += 1
    used = {"cpu_seconds": time.process_time() - cpu, "seconds": time.perf_counter() - began}
    way.close(counts)
    made.model.eval()
    with torch.no_grad():
        measured = made.measure()
    return {
        "arm": name, "saved": saved, "seed": seed, **{key: round(value, 3) for key, value in used.items()},
        "saved_fraction": 1 - counts.passes / (len(made.rows) * work.epochs),
        "passes": counts.passes, "steps": counts.steps, "measured": measured,
        "left_out": counts.left_out, "error": counts.error,
        "outliers": counts.outliers,
    }  # fmt: skip


# Runs


def arms_of(work: Work) -> dict[str, Arm]:
    """Return the arms of a work by name."""
    return {**ARMS, **work.own_arms}


def settings(work: Work) -> dict[str, Any]:
    """Return what makes runs of two works differ."""
    return asdict(work)


def run_file(folder: Path, arm: str, saved: float | None, seed: int) -> Path:
    """Return where a run is kept."""
    return folder / f"{arm if saved is None else f'{arm}-{saved:g}'}-seed{seed}.json"


def run_all(
    work: Work, folder: Path, wanted: Sequence[tuple[str, float | None, int]], jobs: int
) -> list[dict[str, Any]]:
    """Make the runs that are not done, several at a time, and return all of them.

    Raises:
        InvalidValue: if a run in the folder was made with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[Path, dict[str, Any]] = {}
    for path in (run_file(folder, *one) for one in wanted):
        if path.exists():
            found[path] = json.loads(path.read_text())
            if found[path]["settings"] != settings(work):
                known = found[path]["settings"]
                raise invalid(
                    f"The runs in {folder} must have the same settings.", known, "Name another --out."
                )
    missing = [one for one in wanted if run_file(folder, *one) not in found]
    # Started anew, so that one run's threads and memory are no part of another's time.
    with ProcessPoolExecutor(jobs, get_context("spawn"), max_tasks_per_child=1) as pool:
        waiting = {pool.submit(train, work, *one): one for one in missing}
        for done in as_completed(waiting):
            path = run_file(folder, *waiting[done])
            found[path] = {"settings": settings(work), **done.result()}
            part = path.with_suffix(".part")
            part.write_text(json.dumps(found[path], indent=1) + "\n")
            part.replace(path)
            print(_line(found[path]), flush=True)
    return [found[run_file(folder, *one)] for one in wanted]


def _line(run: Mapping[str, Any]) -> str:
    measured = ", ".join(f"{name} {value:.4g}" for name, value in run["measured"].items())
    return (
        f"{run['arm']} seed {run['seed']}: saved {run['saved_fraction']:.1%}, {run['steps']} steps, "
        f"{run['cpu_seconds']:.0f} CPU s, {measured}"
    )


def compare(
    work: Work, folder: Path, names: Sequence[str], saved: str, seeds: int, jobs: int
) -> list[dict[str, Any]]:
    """Return the runs of all arms; those that find their share run before those that are given it."""
    arms = arms_of(work)
    for name in names:
        if name not in arms:
            raise unknown_name("arm", name, arms)
    alone = [name for name in names if name == FULL or arms[name].finds_share]
    runs = run_all(work, folder, [(name, None, seed) for name in alone for seed in range(seeds)], jobs)
    given = [name for name in names if name not in alone]
    if given and saved == "auto" and DEFAULT not in names:
        raise invalid(f"--saved auto needs the arm {DEFAULT}.", ",".join(names), "Give a share, as 0.5.")
    if given:
        found = [run["saved_fraction"] for run in runs if run["arm"] == DEFAULT]
        share = round(mean(found), 2) if saved == "auto" else float(saved)
        runs += run_all(work, folder, [(name, share, seed) for name in given for seed in range(seeds)], jobs)
    return runs


# What is kept and shown


def kept_results(name: str, runs: Sequence[Mapping[str, Any]]) -> Path:
    """Keep the runs of a work beside those of earlier savings, and return the file."""
    path = RESULTS / f"{name}.json"
    before = json.loads(path.read_text())["runs"] if path.exists() else []
    new = [{key: value for key, value in run.items() if key != "settings"} for run in runs]
    keys = {(run["arm"], run["saved"], run["seed"]) for run in new}
    same = [run for run in before if (run["arm"], run["saved"], run["seed"]) not in keys]
    threads = {"threads": 1, "torch": torch.__version__, "settings": runs[0]["settings"]}
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps({**threads, "runs": same + new}, indent=1) + "\n")
    return path


def _of(runs: Sequence[Mapping[str, Any]], measure: str) -> dict[int, float]:
    return {run["seed"]: run["measured"][measure] for run in runs}


def table(name: str, work: Work) -> str:
    """Return the kept results of a work as a Markdown table, an arm and saving a row."""
    groups: dict[tuple[str, float | None], list[Mapping[str, Any]]] = {}
    for run in json.loads((RESULTS / f"{name}.json").read_text())["runs"]:
        groups.setdefault((run["arm"], run["saved"]), []).append(run)
    order = list(arms_of(work))
    rows = sorted(groups, key=lambda key: (key[1] or 0.0, order.index(key[0])))
    titles = ["arm", "seeds", "saved", "steps"]
    for title, _ in work.measures.values():
        titles += [title, "against full"]
    lines = [f"| {' | '.join([*titles, 'CPU s'])} |", "|" + "---|" * (len(titles) + 1)]
    for key in rows:
        runs = groups[key]
        cells = [key[0], str(len(runs)), f"{mean([run['saved_fraction'] for run in runs]):.1%}"]
        cells.append(f"{mean([run['steps'] for run in runs]):,.0f}")
        for measure, (_, form) in work.measures.items():
            values = _of(runs, measure)
            spread = deviation(list(values.values()))
            cells.append(
                f"{mean(list(values.values())):{form}}{'' if spread is None else f' ± {spread:{form}}'}"
            )
            against = paired(values, _of(groups.get((FULL, None), []), measure)) if key[0] != FULL else None
            cells.append("" if against is None else _difference(against, form))
        cells.append(f"{mean([run['cpu_seconds'] for run in runs]):.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _difference(found: Any, form: str) -> str:
    """Return a difference with its interval."""
    if found.low is None:
        return f"{found.mean:+{form}}"
    return f"{found.mean:+{form}} ({found.low:+{form}} to {found.high:+{form}})"


def parser_of(text: str, works: Mapping[str, Work]) -> argparse.ArgumentParser:
    """Return the options that all these benchmarks have."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("works", nargs="*", default=list(works), metavar="WORK", help=", ".join(works))
    parser.add_argument("--out", type=Path, default=Path("comparisons"), help="default comparisons")
    parser.add_argument("--arms", help="names, separated by commas; default all")
    parser.add_argument("--saved", default="auto", help="what arms that need a share save; default auto")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time")
    parser.add_argument("--epochs", type=int, help="of full training, for trials: nothing is kept")
    parser.add_argument("--table", action="store_true", help="print the tables of what was kept, and stop")
    return parser


def main(text: str, works: Mapping[str, Work]) -> None:
    """Run the comparisons that the command line names, keep what counts, and print their tables."""
    options = parser_of(text, works).parse_args()
    for name in options.works:
        if name not in works:
            raise unknown_name("work", name, works)
        work = works[name]
        if not options.table:
            folder = options.out / name
            if options.epochs is not None:
                work, folder = replace(work, epochs=options.epochs), options.out / f"{name}-{options.epochs}"
            names = options.arms.split(",") if options.arms else list(arms_of(work))
            runs = compare(work, folder, names, options.saved, options.seeds, options.jobs)
            if options.epochs is None:
                kept_results(name, runs)
        if (RESULTS / f"{name}.json").exists() and options.epochs is None:
            print(f"\n### {name}\n\n{table(name, works[name])}\n", flush=True)
