"""``results.json``: the summary of each run, and each arm against full training and the controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..options.resolve import as_given
from .arms import CONTROLS, FULL
from .files import FORMAT, Finished
from .measure import ACCURACY, BITS, Measure, gain, measure_in
from .plan import Plan, Run
from .sentences import NEAR
from .statistics import Difference, between, deviation, mean, paired

_MEANS = (
    "test_loss", "worst_class_accuracy", "saved_fraction", "samples_backward", "samples_forward_only",
    "steps", "cpu_seconds", "seconds",
)  # fmt: skip
_OF_AN_EPOCH = ("accuracy", "test_loss", "samples_backward", "samples_forward_only")


def gather(plan: Plan, jobs: int | None, failed: Mapping[str, str]) -> dict[str, Any]:
    """Return the results of all runs that are finished.

    Args:
        plan: of the comparison.
        jobs: runs at a time, if any was trained.
        failed: by name, why a run failed.
    """
    runs = plan.runs()
    summaries = {run.name: run.summary() for run in runs}
    finished = [summary for summary in summaries.values() if summary is not None]
    # Epochs of any arm will do: all have the same data, even if not as many epochs.
    full_samples = finished[0].summary.epochs[0].samples_full * plan.base.epochs if finished else None
    rows = [_run_row(run, summaries[run.name], full_samples, failed.get(run.name)) for run in runs]
    measure = measure_in(rows)
    arms = _arms(plan, [row for row in rows if row["status"] == "done"], measure)
    return {
        "format": FORMAT,
        "settings": {
            **plan.settings,
            "arms": list(dict.fromkeys(arm.name for arm in plan.arms)),
            "saved": list(plan.saved),
            "seeds": list(plan.seeds),
            "jobs": jobs,
        },
        "settings_used": _shared(finished),
        "samples_full": full_samples,
        "measure": measure.name,
        "arms": arms,
        "full_too_long": _too_long(arms),
        "runs": rows,
    }


def _shared(finished: Sequence[Finished]) -> dict[str, Any]:
    """Return the settings that all finished runs share, with the defaults that they used."""
    used = [run.summary.settings for run in finished]
    if not used or not all(used):  # older versions did not write them
        return {}
    first = {name: value for name, value in used[0].items() if name != "by_default"}
    return {n: value for n, value in first.items() if all(settings.get(n) == value for settings in used)}


def _run_row(
    run: Run, finished: Finished | None, full_samples: int | None, reason: str | None
) -> dict[str, Any]:
    row: dict[str, Any] = {"name": run.name, "arm": run.arm.name, "saved": run.arm.saved, "seed": run.seed}
    if finished is None or full_samples is None:
        return row | {"status": "failed" if reason else "not run", "reason": reason}
    changed = {
        name: value for name, value in asdict(as_given(run.options)).items() if value not in (None, [], {})
    }
    epochs = [{name: getattr(epoch, name) for name in _OF_AN_EPOCH} for epoch in finished.summary.epochs]
    return (
        row
        | {"status": "done", "reason": None, "options": changed}
        | finished.plain
        | {
            "samples_full": full_samples,
            "saved_fraction": 1 - finished.summary.samples_backward / full_samples,
            "epochs": epochs,
        }
    )


def _arms(plan: Plan, rows: Sequence[dict[str, Any]], measure: Measure) -> list[dict[str, Any]]:
    """Return a row for each arm and saving that has a finished run."""
    by_arm: list[dict[str, Any]] = []
    for arm in plan.arms:
        own = [row for row in rows if (row["arm"], row["saved"]) == (arm.name, arm.saved)]
        if not own:
            continue
        by_arm.append(
            {
                "arm": arm.name,
                "saved": arm.saved,
                "label": arm.label,
                "n": len(own),
                "seeds": [row["seed"] for row in own],
                "epochs": arm.options.epochs,
                "learning_rate": arm.rate,
                "rate_factor": None if arm.rate is None else arm.factor,
                "diverged": sum(bool(row.get("diverged")) for row in own),
                ACCURACY.name: _values_of(own, ACCURACY.name),
                BITS.name: _values_of(own, BITS.name),
                **{name: _values_of(own, name)["mean"] for name in _MEANS},
            }
        )
    by_seed = _by_seed(rows, measure)
    # Accuracy moves in steps of one sample; bits a character do not.
    step = _step(rows) if measure == ACCURACY else 0.0
    others = sum(row["diverged"] for row in by_arm if row["arm"] in (FULL, *CONTROLS))
    for row in by_arm:
        against = {} if row["arm"] == FULL else _against(row, by_arm, by_seed, step)
        # A diverged control cannot be compared with, so it leaves every arm unjudged.
        row["unsound"] = bool(row["diverged"] or others)
        row["against"] = {name: measure.to_dict(d) | rest for name, (d, rest) in against.items()}
    return by_arm


def _values_of(rows: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    values = [row[name] for row in rows if row.get(name) is not None]
    middle, spread = (mean(values), deviation(values)) if values else (None, None)
    return {"mean": middle, "sd": spread, "values": values}


def _step(rows: Sequence[dict[str, Any]]) -> float:
    """Return the accuracy of one evaluated sample; 0 if their number is unknown."""
    return max((1 / row["samples_evaluated"] for row in rows if row.get("samples_evaluated")), default=0.0)


Seeds = dict[int, tuple[float, float]]
"""By seed: the share saved, and the number to compare."""


def _by_seed(rows: Sequence[dict[str, Any]], measure: Measure) -> Callable[[str, float | None], Seeds]:
    def of(arm: str, saved: float | None) -> Seeds:
        own = [row for row in rows if (row["arm"], row["saved"]) == (arm, saved)]
        values = ((row["seed"], row["saved_fraction"], measure.of(row)) for row in own)
        return {seed: (share, value) for seed, share, value in values if value is not None}

    return of


def _against(
    row: dict[str, Any],
    rows: Sequence[dict[str, Any]],
    by_seed: Callable[[str, float | None], Seeds],
    step: float,
) -> dict[str, tuple[Difference, dict[str, Any]]]:
    """Return the paired differences of an arm from full training and each control, with their savings.

    A control that saves more than the arm is read off the line between the control's savings instead.
    """
    own = by_seed(row["arm"], row["saved"])
    values = {seed: value for seed, (_, value) in own.items()}
    full = by_seed(FULL, None)
    differences: dict[str, tuple[Difference, dict[str, Any]]] = {}
    if (d := paired(values, {s: a for s, (_, a) in full.items()}, step)) is not None:
        differences[FULL] = d, _saving(0.0, interpolated=False)
    for control in CONTROLS:
        others = [r for r in rows if r["arm"] == control]
        if control == row["arm"] or not others:
            continue
        same = _nearest(row, others)
        saved = None if same is None else same["saved_fraction"]
        # A rule that saves less trains on more samples, so the two would not be comparable.
        if saved is None or saved > row["saved_fraction"] + NEAR:
            every = [by_seed(control, r["saved"]) for r in others] + [full]
            lines = {
                s: between({c[s][0]: c[s][1] for c in every if s in c}, share)
                for s, (share, _) in own.items()
            }
            if all(value is not None for value in lines.values()):
                d = paired(values, {s: v for s, v in lines.items() if v is not None}, step)
                if d is not None:
                    differences[control] = d, _saving(row["saved_fraction"], interpolated=True)
                    continue
        if same is not None:
            of_same = {s: a for s, (_, a) in by_seed(control, same["saved"]).items()}
            if (d := paired(values, of_same, step)) is not None:
                differences[control] = d, _saving(saved, interpolated=False)
    return differences


def _nearest(row: dict[str, Any], others: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the row of a control that an arm is held against directly; None if none is near enough.

    That is the control nearest to what the arm saved: by what it saved itself or, since it rounds to whole
    epochs in its own favour, by what it was asked for. If none is near, it is the one that was asked for the
    same.
    """
    own = row["saved_fraction"]

    def distance(other: dict[str, Any]) -> float:
        return float(min(abs(other["saved"] - own), abs(other["saved_fraction"] - own)))

    asked = next((other for other in others if other["saved"] == row["saved"]), None)
    near = [other for other in others if distance(other) <= NEAR + 1e-9]
    return min(near, key=distance) if near else asked


def _saving(saved: float | None, *, interpolated: bool) -> dict[str, Any]:
    return {"control_saved": saved, "interpolated": interpolated}


def _too_long(arms: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the signs that full training is past its optimum, so that a saving proves nothing.

    Only a training of fewer epochs that ends higher is a sign: a loss may rise together with accuracy, and
    an early epoch of a long training is not the end of a short one.
    """
    above = [
        {"saved": row["saved"], "epochs": row["epochs"], **row["against"][FULL]}
        for row in arms
        if row["arm"] == CONTROLS[0] and FULL in row["against"] and gain(row["against"][FULL])["mean"] > 0
    ]
    return {"fewer_epochs_above_full": above}
