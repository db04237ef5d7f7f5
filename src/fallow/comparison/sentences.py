"""What the results mean, in plain sentences."""

from __future__ import annotations

from typing import Any

from ..history import FORWARD_SHARE
from .arms import CONTROLS, FULL

SMALL = 0.003
"""Accuracy that does not matter: an interval that ends below it shows that a rule gains nothing."""
WORDS = {"fewer-epochs": "fewer epochs", "random": "random subsets"}
ONE_SEED = "One seed gives no interval and settles nothing: run more (--seeds 5)."


def sentences(results: dict[str, Any]) -> list[str]:
    """Return whether full training is too long, then a sentence or two for each arm and saving."""
    said = _too_long(results["full_too_long"])
    rows = [row for row in results["arms"] if row["arm"] not in (FULL, *CONTROLS)]
    said += [_arm(row, results) for row in rows]
    if any(row["n"] == 1 for row in results["arms"]):
        said.append(ONE_SEED)
    failed = [run["name"] for run in results["runs"] if run["status"] == "failed"]
    if failed:
        said.append(f"{len(failed)} failed: {', '.join(failed)}. The same command tries them again.")
    return said


def verdict(row: dict[str, Any]) -> str:
    """Return ``pays``, ``pays at a cost``, ``does not pay``, ``not settled`` or ``no control``.

    An arm pays where it is above every control that was run, by the whole interval, and at a cost where it
    is so below full training. It does not pay where a control is above it, or at most ``SMALL`` below it.
    """
    against = [row["against"][control] for control in CONTROLS if control in row["against"]]
    if not against:
        return "no control"
    if any(d["low"] is None for d in against):
        return "not settled"
    if all(d["low"] > 0 for d in against):
        full = row["against"].get(FULL)
        return "pays at a cost" if full is not None and full["high"] < 0 else "pays"
    return "does not pay" if any(d["low"] <= 0 and d["high"] <= SMALL for d in against) else "not settled"


def _arm(row: dict[str, Any], results: dict[str, Any]) -> str:
    if row["accuracy"]["mean"] is None:
        return f"{row['label']} logs no accuracy, so it cannot be compared."
    text = f"{row['arm']} saves {_percent(row['saved_fraction'])}{_asked(row)}{_measured(row, results)}"
    full = row["against"].get(FULL)
    if full is not None:
        text += f" and is {_points(full)} full training"
    what = verdict(row)
    controls = {c: row["against"][c] for c in CONTROLS if c in row["against"]}
    if what == "no control":
        share = f" and {row['saved_fraction']:.2f} to --saved" if row["saved"] is None else ""
        return f"{text}. No control saves as much: add {' and '.join(CONTROLS)} to --arms{share}."
    between = ", interpolated between the savings that were run"
    rest = between if any(d["interpolated"] for d in controls.values()) else ""
    told = " and ".join(f"{_points(d)} {WORDS[c]}" for c, d in controls.items())
    if row["n"] == 1:
        return f"{text}; it is {told}{rest}."
    if what.startswith("pays"):
        price = ", at a price in accuracy" if what == "pays at a cost" else ""
        return f"{text}. It pays{price}: it is {told}{rest}."
    name, d = min(controls.items(), key=lambda pair: float(pair[1]["mean"]))
    rest = between if d["interpolated"] else ""
    if what == "not settled":
        return f"{text}. Not settled: it is {_points(d)} {WORDS[name]}{rest}. More seeds would tell."
    better = "do better" if d["high"] < 0 else "do as well"
    return f"{text}. It does not pay: {WORDS[name]} {better}; it is {_points(d)} them{rest}."


def _asked(row: dict[str, Any]) -> str:
    if row["saved"] is None or abs(row["saved"] - row["saved_fraction"]) < 0.015:
        return ""
    return f" (asked for {_percent(row['saved'])})"


def _measured(row: dict[str, Any], results: dict[str, Any]) -> str:
    """Return what forward passes alone take away of the saving, where it can be seen."""
    cost = FORWARD_SHARE * row["samples_forward_only"] / results["samples_full"]
    return f", {_percent(row['saved_fraction'] - cost)} net of measuring," if cost >= 0.005 else ""


def _points(d: dict[str, Any]) -> str:
    """Return ``0.80 points (0.60 to 1.00) above``."""
    side = "above" if d["mean"] >= 0 else "below"
    span = "" if d["low"] is None else f" ({_signed(d['low'])} to {_signed(d['high'])})"
    return f"{abs(100 * d['mean']):.2f} points{span} {side}"


def _signed(share: float) -> str:
    return f"{100 * share:.2f}".replace("-0.00", "0.00")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _too_long(found: dict[str, Any]) -> list[str]:
    said = []
    above = found["fewer_epochs_above_full"]
    if above:
        best = max(above, key=lambda d: float(d["mean"]))
        sure = best["low"] is not None and best["low"] > 0
        said.append(
            f"{best['epochs']} full epochs end {_points(best)} full training: it "
            f"{'is' if sure else 'may be'} too long, and then no saving proves "
            "anything. Compare against fewer --epochs."
        )
    rise = found["test_loss_rises"]
    if rise:
        said.append(
            f"The test loss of full training rises from {rise['lowest']:.3f} in epoch "
            f"{rise['lowest_epoch']} to {rise['last']:.3f} at its end: it is too long, and then no saving "
            "proves anything."
        )
    return said
