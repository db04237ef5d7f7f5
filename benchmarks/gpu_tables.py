"""Tables and sentences of what `gpu.py` found, for RESULTS.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fallow.comparison.statistics import deviation, mean, paired
from gpu_training import ARMS

Found = Mapping[str, Mapping[str, Any]]
UNFILLED = 1.1
"""A thin epoch that takes this many times what as many samples in full batches take is told."""
ORDER = ("full", *(arm for arm in ARMS if arm != "full"))
CONTROLS = ("fewer", "fewer-thin", "random")


def brief(result: Mapping[str, Any]) -> str:
    """Return the single values of a measurement in a line."""
    shown = {key: value for key, value in result.items() if not isinstance(value, list | dict)}
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in shown.items()
    )


def report(settings: Mapping[str, Any], found: Found) -> str:
    """Return everything that was found, as Markdown."""
    if not found:
        return "Nothing is measured yet."
    parts = [f"{settings['device']}, torch {settings['torch']}, form {settings['form']}.", waiting(found)]
    parts += [overhead(found), trainings(settings, found), walls(found), shapes(found)]
    return "\n\n".join(part for part in parts if part)


def done(found: Found, kind: str) -> dict[str, Mapping[str, Any]]:
    """Return the measurements of a kind that did not fail, by the rest of their names."""
    return {
        name.partition(" ")[2]: result
        for name, result in found.items()
        if name.partition(" ")[0] == kind and "failed" not in result
    }


def rows_of(titles: str, rows: list[list[str]]) -> str:
    """Return a Markdown table; ``titles`` are divided by ``|``."""
    columns = titles.split("|")
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def waiting(found: Found) -> str:
    """Say whether `record` waits for the device."""
    result = done(found, "waiting").get("")
    if result is None:
        return ""
    if not result["device"]:
        return "**Waiting.** Not measured: on the CPU nothing waits."
    if not result["noticed"]:
        return "**Waiting.** Not measured: this torch did not notice `item()`, which waits."
    parts = []
    for form, error in result["record"].items():
        parts.append(f"{form}: {'no wait' if error is None else f'WAITS ({error})'}")
    return (
        f"**Waiting.** {result['calls']} calls of `record` in each form, under a mode in which waiting is an "
        f"error, which it notices of `item()`: {'; '.join(parts)}. Waits in a step without fallow "
        f"{result['step_plain']}, with it {result['step_fallow']}; at the end of an epoch "
        f"{result['epoch_end']}."
    )


def overhead(found: Found) -> str:
    """Return the table of steps with and without fallow."""
    results = {tuple(map(int, name.split())): one for name, one in done(found, "overhead").items()}
    rows = [
        [
            f"{side} × {side}",
            f"{batch:,}",
            f"{one['plain_ms']:.2f}",
            f"{one['fallow_ms']:.2f}",
            f"{one['ratio']:.4f} ({one['lowest']:.4f} to {one['highest']:.4f})",
            f"{one['record_us']:.0f}",
            f"{one['plain_queued_ms'] / one['plain_ms']:.0%}",
        ]
        for (side, batch), one in sorted(results.items(), reverse=True)
    ]
    titles = "pictures|batch|step, ms|with fallow, ms|ratio (range of pairs)|in `record`, µs|host busy"
    if not rows:
        return ""
    return f"**Overhead.** ResNet-18, bf16, channels last; medians.\n\n{rows_of(titles, rows)}"


def walls(found: Found) -> str:
    """Return the tables of epochs with kept and with dropped steps, and where the device is not filled."""
    results: dict[tuple[int, int], dict[tuple[str, float], Mapping[str, Any]]] = {}
    for name, one in done(found, "wall").items():
        side, batch, mode, saved = name.split()
        results.setdefault((int(side), int(batch)), {})[mode, float(saved)] = one
    rows, remarks = [], []
    for (side, batch), group in sorted(results.items()):
        full = group.get(("kept", 0.0))
        if full is None:
            continue
        place = f"{side} × {side}, batch {batch}"
        plain = group.get(("plain", 0.0))
        if plain is not None:
            rows.append([place, "without fallow", seconds(plain, full), ""])
        rows.append([place, "0%", seconds(full, full), ""])
        for saved in sorted({saved for mode, saved in group if saved}):
            kept, dropped = group.get(("kept", saved)), group.get(("dropped", saved))
            rows.append([place, f"{saved:.0%}", seconds(kept, full), seconds(dropped, full)])
            if kept is not None and kept["epoch_s"] > UNFILLED * (1 - kept["saved"]) * full["epoch_s"]:
                times = kept["epoch_s"] / ((1 - kept["saved"]) * full["epoch_s"])
                thin = batch * (1 - kept["saved"])
                remarks.append(f"{place}: batches of {thin:.0f} cost {times:.2f} times their samples' share")
    if not rows:
        return ""
    titles = "pictures|saved|steps kept: s an epoch (share of full)|steps dropped: s an epoch (share of full)"
    told = f"Not filled: {'; '.join(remarks)}." if remarks else "Every thin batch fills the device."
    return f"**Thin batches.** ResNet-18, bf16, channels last.\n\n{rows_of(titles, rows)}\n\n{told}"


def seconds(one: Mapping[str, Any] | None, full: Mapping[str, Any]) -> str:
    """Return the seconds of an epoch, and their share of a full one."""
    return "" if one is None else f"{one['epoch_s']:.3f} ({one['epoch_s'] / full['epoch_s']:.0%})"


def shapes(found: Found) -> str:
    """Say what the first step at a new batch size costs."""
    parts = [
        f"with cudnn.benchmark {mode} {one['first_ms']:.1f} ms (later steps {one['later_ms']:.1f})"
        for mode, one in done(found, "shapes").items()
    ]
    return f"The first step at a new batch size takes {', '.join(parts)}." if parts else ""


def trainings(settings: Mapping[str, Any], found: Found) -> str:
    """Return the table of the arms over the seeds that all of them have."""
    by_arm: dict[str, dict[int, Mapping[str, Any]]] = {arm: {} for arm in ORDER}
    for name, one in done(found, "train").items():
        seed, arm = name.split()
        by_arm[arm][int(seed)] = one
    seeds = sorted(set.intersection(*(set(runs) for runs in by_arm.values())))
    if not seeds:
        return ""
    right = {arm: {seed: runs[seed]["accuracy"] for seed in seeds} for arm, runs in by_arm.items()}
    rows = []
    for arm in ORDER:
        runs = [by_arm[arm][seed] for seed in seeds]
        spread = deviation(list(right[arm].values()))
        rows.append(
            [
                arm,
                f"{mean([run['saved'] for run in runs]):.1%}",
                f"{100 * mean(list(right[arm].values())):.2f}"
                + ("" if spread is None else f" ± {100 * spread:.2f}"),
                *("" if arm == other else points(right[arm], right[other]) for other in ("full", *CONTROLS)),
                f"{mean([run['wall_s'] for run in runs]):.2f}",
                f"{mean([run['cpu_s'] for run in runs]):.2f}",
                f"{mean([run['forward_only'] for run in runs]):,.0f}",
            ]
        )
    sizes = settings["training"]
    titles = "arm|saved|accuracy|against full|" + "|".join(f"against {arm}" for arm in CONTROLS)
    head = (
        f"**Accuracy.** {settings['data']}, ResNet-9 of width {sizes['width']}, {sizes['epochs']} epochs, "
        f"batch {sizes['batch']}, {len(seeds)} seed{'s' * (len(seeds) > 1)}; differences in points, "
        "paired by seed, with 95 % intervals."
    )
    return f"{head}\n\n{rows_of(f'{titles}|wall s|CPU s|forward only', rows)}"


def points(first: Mapping[int, float], second: Mapping[int, float]) -> str:
    """Return a paired difference in points, with its interval if there are several seeds."""
    difference = paired(first, second)
    assert difference is not None
    middle = f"{100 * difference.mean:+.2f}"
    if difference.low is None or difference.high is None:
        return middle
    return f"{middle} ({100 * difference.low:+.2f} to {100 * difference.high:+.2f})"
