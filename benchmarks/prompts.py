"""Post-training with rewards on a budget of rollouts: fallow.Prompts against plain controls.

    python benchmarks/prompts.py --out FOLDER [--part tune|main|hopeless|again|cost] [--seeds 5] [--jobs 2]

A small GPT, taught by imitation (``prompt_tasks.py``), is trained by group-relative policy gradients (GRPO
without a penalty, eight rollouts a prompt, eight prompts a step) on 1,000 prompts. What counts is the success
on 500 other prompts after a fixed number of rollouts; the learning rate falls to 0 over them. Runs go on
where they were stopped: each is a line of ``FOLDER/runs.jsonl``.

- ``tune``: learning rates of ``uniform`` and ``prompts``, with two seeds that no other part uses; the other
  controls take the rate of ``uniform``.
- ``main``: each arm at its best rate; ``prompts`` also with 70 and 50 % of the rollouts.
- ``hopeless``: 30 % of the prompts have an answer that nobody can give.
- ``again``: a second run that merges what a first run of another seed recorded.
- ``cost``: the time of bookkeeping in a step, and 10 million prompts.

Arms: ``uniform``; ``dynamic`` (groups that are not mixed are thrown away and others drawn, until the step is
full); ``for-good`` (a prompt is removed for good once 7 of 8 rollouts are right); ``skip`` (a prompt whose
last group was not mixed is drawn at odds of 1/8); ``prompts`` (fallow.Prompts with its defaults).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import fallow
from fallow.comparison.statistics import Difference, deviation, mean, paired
from prompt_tasks import (
    ANSWER,
    GPT,
    Task,
    encode,
    imitated,
    log_probabilities,
    make_tasks,
    rollouts,
    success,
)

POOL, HELD_OUT = 1000, 500
GROUP, BATCH, ROLLOUTS = 8, 8, 32_768
RATES = (2.5e-4, 5e-4, 1e-3, 2e-3)
ARMS = ("uniform", "dynamic", "for-good", "skip", "prompts")
TUNED = ("uniform", "prompts")
TUNING_SEEDS = (100, 101)
IMPOSSIBLE = "$"


class Walk:
    """Draws prompts in random order, each at its odds; a control."""

    def __init__(self, n: int, seed: int) -> None:
        self._draw = np.random.default_rng(seed)
        self._left = np.zeros(0, np.int64)
        self.odds = np.ones(n)

    def draw(self, count: int) -> NDArray[np.int64]:
        taken = np.zeros(0, np.int64)
        while taken.size < count:
            if not self._left.size:
                self._left = self._draw.permutation(self.odds.size)
            look, self._left = self._left[:count], self._left[count:]
            passed = look[self._draw.random(look.size) < self.odds[look]]
            passed = passed[~np.isin(passed, taken)]
            need = count - taken.size
            taken = np.concatenate([taken, passed[:need]])
            self._left = np.concatenate([passed[need:], self._left])
        return taken

    def record(self, rows: NDArray[np.int64], right: NDArray[np.float64]) -> None:
        """Uniform sampling learns nothing."""


class ForGood(Walk):
    """Removes a prompt for good once it is right in 7 of 8 rollouts."""

    def record(self, rows: NDArray[np.int64], right: NDArray[np.float64]) -> None:
        solved = rows[right.mean(1) >= 0.875]
        # Some prompts must be left for a step.
        if np.count_nonzero(self.odds) - solved.size >= 2 * BATCH:
            self.odds[solved] = 0


class Skip(Walk):
    """Draws a prompt whose last group was not mixed at odds of 1/8."""

    def record(self, rows: NDArray[np.int64], right: NDArray[np.float64]) -> None:
        self.odds[rows] = np.where(np.ptp(right, 1) > 0, 1, 1 / 8)


def made(arm: str, tasks: list[Task], seed: int, first: Path | None) -> Any:
    """Return what draws the prompts of an arm."""
    if arm == "prompts":
        prompts = fallow.Prompts([task.question for task in tasks], GROUP, seed=seed)
        if first is not None:
            prompts.merge(first)
        return prompts
    kind = {"for-good": ForGood, "skip": Skip}.get(arm, Walk)
    return kind(len(tasks), seed)


def pools(hopeless: bool) -> tuple[list[Task], list[Task]]:
    """Return the prompts to train on and the held-out ones."""
    tasks = make_tasks(HELD_OUT + POOL, 0)
    pool = tasks[HELD_OUT:]
    if hopeless:
        chosen = np.random.default_rng(3).permutation(POOL)[: int(0.3 * POOL)]
        for row in chosen:
            pool[row] = pool[row]._replace(right=IMPOSSIBLE, habit=IMPOSSIBLE)
    return pool, tasks[:HELD_OUT]


def train(options: argparse.Namespace) -> dict[str, Any]:
    """Train once, and return what came of it."""
    torch.set_num_threads(1)
    folder = Path(options.out)
    network = imitated(folder / "imitated.safetensors")
    pool, held_out = pools(options.hopeless)
    impossible = np.array([task.right == IMPOSSIBLE for task in pool])
    x, y = encode([task.question for task in pool], [task.right for task in pool])
    optimizer = torch.optim.AdamW(network.parameters(), options.rate, betas=(0.9, 0.95), weight_decay=0.0)
    generator = torch.Generator().manual_seed(options.seed)
    arm = made(options.arm, pool, options.seed, Path(options.first) if options.first else None)
    test = encode([task.question for task in held_out], [task.right for task in held_out])
    used, curve, mixed_groups, groups, lost = 0, [], 0, 0, np.zeros(2)
    spent = {"arm": 0.0, "all": 0.0}
    next_look = options.rollouts // 8
    began = time.perf_counter()
    while used < options.rollouts:
        kept: list[tuple[NDArray[np.int64], torch.Tensor, torch.Tensor]] = []
        full = 0
        while full < BATCH and used < options.rollouts:
            start = time.perf_counter()
            rows = arm.draw(BATCH)
            spent["arm"] += time.perf_counter() - start
            answers = rollouts(network, x[rows], GROUP, generator)
            right = (answers == y[rows].repeat_interleave(GROUP, 0)).all(1).view(-1, GROUP).float()
            start = time.perf_counter()
            arm.record(rows, right.numpy().astype(np.float64))
            spent["arm"] += time.perf_counter() - start
            used += len(answers)
            mixed = (right.sum(1) > 0) & (right.sum(1) < GROUP)
            mixed_groups, groups = mixed_groups + int(mixed.sum()), groups + BATCH
            lost += [impossible[rows].sum(), used > POOL * GROUP and impossible[rows].sum()]
            chosen = mixed.numpy()
            kept.append((rows[chosen], answers.view(-1, GROUP, ANSWER)[mixed], right[mixed]))
            full = sum(len(part[0]) for part in kept) if options.arm == "dynamic" else BATCH
        update(network, optimizer, x, kept, options.rate * rate_at(used / options.rollouts))
        if used >= next_look:
            curve.append([used, float(success(network, *test, GROUP, seed=7).mean())])
            next_look += options.rollouts // 8
    spent["all"] = time.perf_counter() - began
    after = success(network, *test, 32, seed=8).mean()
    result = vars(options) | {
        "success": float(after),
        "train_success": float(success(network, x, y, GROUP, seed=9)[~impossible].mean()),
        "mixed": mixed_groups / groups,
        "curve": curve,
        "bookkeeping": spent["arm"] / spent["all"],
        "hopeless_later": float(lost[1] / max(1, groups - POOL)),
    }
    if options.arm == "prompts":
        summary = arm.summary()
        result |= {"forgotten": summary.forgotten, "lost": summary.lost, "saved": summary.rollouts_saved}
        if options.save:
            arm.save(folder / options.save)
    return result


def rate_at(done: float) -> float:
    """Return the learning rate as a share of its highest: up over the first 5 %, then down to 0."""
    return min(1.0, done / 0.05) * max(0.0, 1 - done)


def update(
    network: GPT, optimizer: torch.optim.Optimizer, x: torch.Tensor, kept: list[Any], rate: float
) -> None:
    """Make a step with the mixed groups; the others of the step count as groups without a gradient."""
    rows = np.concatenate([part[0] for part in kept])[:BATCH]
    if not rows.size:
        return
    answers = torch.cat([part[1] for part in kept])[:BATCH].reshape(-1, ANSWER)
    right = torch.cat([part[2] for part in kept])[:BATCH]
    advantage = (right - right.mean(1, keepdim=True)) / (right.std(1, keepdim=True) + 1e-4)
    for group in optimizer.param_groups:
        group["lr"] = rate
    chosen = log_probabilities(network, x[rows].repeat_interleave(GROUP, 0), answers)
    loss = -(chosen * advantage.reshape(-1, 1)).sum() / (BATCH * GROUP * ANSWER / 2)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()


def plan(part: str, rates: dict[str, float], seeds: int) -> list[dict[str, Any]]:
    """Return the runs of a part, each as the options of :func:`train` that differ from the defaults."""
    if part == "tune":
        return [
            {"arm": arm, "rate": rate, "seed": seed}
            for seed in TUNING_SEEDS
            for rate in RATES
            for arm in TUNED
        ]
    runs: list[dict[str, Any]] = []
    for seed in range(seeds):
        if part == "main":
            runs += [{"arm": arm, "rate": rates[arm], "seed": seed} for arm in ARMS]
            runs += [
                {"arm": "prompts", "rate": rates["prompts"], "seed": seed, "rollouts": int(share * ROLLOUTS)}
                for share in (0.7, 0.5)
            ]
        elif part == "hopeless":
            arms = ("uniform", "prompts")
            runs += [{"arm": arm, "rate": rates[arm], "seed": seed, "hopeless": True} for arm in arms]
        elif part == "again":
            own = {"arm": "prompts", "rate": rates["prompts"], "seed": seed}
            runs += [own | {"save": f"records-{seed}"}]
            runs += [own | {"seed": seed + 50, "first": first} for first in ("", f"records-{seed}")]
    return runs


def key(run: dict[str, Any]) -> str:
    return json.dumps(run, sort_keys=True)


def carried_out(wanted: list[dict[str, Any]], folder: Path, jobs: int) -> list[dict[str, Any]]:
    """Make the runs that are not in ``runs.jsonl`` yet, and return the results of all."""
    path = folder / "runs.jsonl"
    done = {}
    if path.exists():
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            done[key(entry["run"])] = entry["result"]
    missing = [run for run in wanted if key(run) not in done]

    def make(run: dict[str, Any]) -> None:
        words = [f"--{name}={value}" for name, value in run.items() if name != "hopeless"]
        words += ["--hopeless"] if run.get("hopeless") else []
        command = [sys.executable, __file__, "--out", str(folder), "--one", *words]
        result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        done[key(run)] = result
        with path.open("a") as file:
            file.write(json.dumps({"run": run, "result": result}) + "\n")
        print(f"{len(done)} {key(run)}: {100 * result['success']:.2f} %", flush=True)

    # A run that begins with another's records waits for it.
    for later in (False, True):
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(make, [run for run in missing if bool(run.get("first")) == later]))
    return [done[key(run)] for run in wanted]


def best_rates(results: list[dict[str, Any]]) -> dict[str, float]:
    """Return the learning rate of each arm with the highest mean success; that of uniform if it has none."""
    rates = {}
    for arm in TUNED:
        own = [each for each in results if each["arm"] == arm]
        means = {rate: mean([each["success"] for each in own if each["rate"] == rate]) for rate in RATES}
        rates[arm] = max(means, key=means.__getitem__)
        print(f"{arm:<9}" + "  ".join(f"{rate:g}: {100 * value:.2f}" for rate, value in means.items()))
    return {arm: rates.get(arm, rates["uniform"]) for arm in ARMS}


def interval(gain: Difference) -> str:
    return "" if gain.low is None or gain.high is None else f" ({gain.low:+.2f} to {gain.high:+.2f})"


def percents(runs: dict[int, dict[str, Any]]) -> dict[int, float]:
    return {seed: 100 * each["success"] for seed, each in runs.items()}


def table(results: list[dict[str, Any]]) -> None:
    """Print the mean of each arm, and its difference to uniform sampling by seed."""
    groups: dict[tuple[Any, ...], dict[int, dict[str, Any]]] = {}
    for each in results:
        name = each["arm"] + (" with records" if each["first"] else "")
        groups.setdefault((name, each["rollouts"]), {})[each["seed"]] = each
    uniform = groups.get(("uniform", ROLLOUTS), {})
    print(
        "| arm | rollouts | success | against uniform | mixed groups | hopeless later | lost | bookkeeping |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for (name, used), runs in groups.items():
        values = list(percents(runs).values())
        against = "–"
        if name != "uniform":
            gain = paired(percents(runs), percents(uniform))
            against = "–" if gain is None else f"{gain.mean:+.2f}{interval(gain)}"
        parts = [
            statistics.mean(each[field] for each in runs.values())
            for field in ("mixed", "hopeless_later", "bookkeeping")
        ]
        lost = statistics.mean(each.get("lost", float("nan")) for each in runs.values())
        cells = [
            name,
            f"{used:,}",
            f"{mean(values):.2f} ± {deviation(values) or 0:.2f}",
            against,
            *(f"{100 * part:.1f} %" for part in parts[:2]),
            f"{lost:.1f}",
            f"{100 * parts[2]:.3f} %",
        ]
        print(f"| {' | '.join(cells)} |")


def cost() -> None:
    """Measure ten million prompts."""
    count = 10_000_000
    began = time.perf_counter()
    prompts = fallow.Prompts(_Keys(count), GROUP)
    print(f"{count:,} keys: {time.perf_counter() - began:.0f} s, {resident():,} MiB resident")
    began = time.perf_counter()
    prompts.draw(512)
    print(f"the first draw plans an epoch: {time.perf_counter() - began:.2f} s")
    times = []
    for _ in range(200):
        began = time.perf_counter()
        rows = prompts.draw(512)
        prompts.record(rows, np.ones((512, GROUP)))
        times.append(time.perf_counter() - began)
    middle = 1e3 * statistics.median(times)
    print(f"draw and record of 512 prompts: {middle:.2f} ms; {resident():,} MiB resident")


class _Keys:
    """Names of prompts that are made when they are read."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Any:
        return (f"prompt-{number}" for number in range(self.count))


def resident() -> int:
    """Return the memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", choices=("tune", "main", "hopeless", "again", "cost"), default="main")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--arm", choices=ARMS, default="prompts", help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=float, default=5e-4, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--rollouts", type=int, default=ROLLOUTS, help=argparse.SUPPRESS)
    parser.add_argument("--hopeless", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--save", default="", help=argparse.SUPPRESS)
    parser.add_argument("--first", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        if options.first:
            options.first = str(options.out / options.first)
        options.out = str(options.out)
        print(json.dumps(train(options)))
        return
    if options.part == "cost":
        cost()
        return
    imitated(options.out / "imitated.safetensors")
    rates = best_rates(carried_out(plan("tune", {}, 0), options.out, options.jobs))
    if options.part != "tune":
        table(carried_out(plan(options.part, rates, options.seeds), options.out, options.jobs))


if __name__ == "__main__":
    main()
