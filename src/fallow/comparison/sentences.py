"""The results of a comparison in sentences."""

from __future__ import annotations

from typing import Any

from ..core.history import FORWARD_SHARE
from ..spelling import plural
from .arms import CONTROLS, FULL, LEAST, RANDOM, THIN
from .measure import gain, gains, measure_of

SMALL = 0.003
"""A rule gains nothing if its interval ends below this difference of accuracy, or share of the bits."""
WORDS = {
    "fewer-epochs": "fewer epochs",
    "fewer-epochs-thin": "fewer epochs in thinner batches",
    "random": "random subsets",
    "random-dropped": "random subsets in fewer steps",
}
FEWEST_PAIRS = 3
"""An interval of fewer pairs of seeds settles nothing: it has hardly any width if two happen to agree."""
NOTHING = LEAST
"""An arm that saved less is not compared."""
NEAR = 0.02
"""A control whose saving differs by more from the arm's is shown with its own saving."""


def sentences(results: dict[str, Any]) -> list[str]:
    """Return which runs diverged, whether full training is too long, and the verdict on each arm.

    Arms of fewer than ``FEWEST_PAIRS`` seeds are not judged; the table shows their numbers.
    """
    rows = [gains(row) for row in results["arms"] if row["arm"] not in (FULL, *CONTROLS)]
    lines = _diverged(results, rows)
    if not any(row["diverged"] for row in results["arms"] if row["arm"] in (FULL, CONTROLS[0])):
        lines += _too_long(results["full_too_long"])
    lines += [sentence for row in rows if (sentence := _arm(row, results))]
    lines += _too_few(results["arms"])
    if results["settings"].get("validation") and rows:
        lines.append("All of this is measured on the validation samples, not on the test samples.")
    failed = [run["name"] for run in results["runs"] if run["status"] == "failed"]
    if failed:
        lines.append(f"{len(failed)} failed: {', '.join(failed)}. The same command tries them again.")
    return lines


def verdict(row: dict[str, Any]) -> str:
    """Return whether an arm pays: one of seven verdicts.

    ``row`` has the :func:`~fallow.comparison.measure.gains` of an arm. Each comparison is by the whole
    interval; fewer than ``FEWEST_PAIRS`` pairs, or an interval without a width, settle nothing.

    * ``pays``: above every control that was run; ``pays at a cost``: also below full training.
    * ``does not pay``: a control is above it, or at most ``SMALL`` below it; ``not settled``: none of these.
    * ``no control``; ``no saving``: less than ``NOTHING``.
    * ``diverged``: runs of the arm, of full training or of a control did.
    """
    if row.get("unsound"):
        return "diverged"
    if row["saved_fraction"] < NOTHING:
        return "no saving"
    against = [row["against"][control] for control in CONTROLS if control in row["against"]]
    if not against:
        return "no control"
    if not all(_conclusive(d) for d in against):
        return "not settled"
    if all(d["low"] > 0 for d in against):
        full = row["against"].get(FULL)
        return "pays at a cost" if full is not None and full["high"] < 0 else "pays"
    return "does not pay" if any(map(_no_worse, against)) else "not settled"


def _conclusive(d: dict[str, Any]) -> bool:
    """Return whether a difference has an interval that can settle anything."""
    return d["low"] is not None and d["n"] >= FEWEST_PAIRS and d["low"] < d["high"]


def _no_worse(d: dict[str, Any]) -> bool:
    """Return whether the control is certainly above the arm, or at most ``SMALL`` below it."""
    return bool(_conclusive(d) and d["low"] <= 0 and d["high"] <= SMALL)


def _diverged(results: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    names = [run["name"] for run in results["runs"] if run.get("diverged")]
    if not names:
        return []
    every = sum(run["status"] == "done" for run in results["runs"])
    unsound = [row["label"] for row in rows if row["unsound"]]
    judged = f" {', '.join(unsound)} cannot be judged." if unsound else ""
    return [
        f"{len(names)} of {plural(every, 'run')} diverged: {', '.join(names)}. Their results mean "
        f"nothing.{judged} Lower --learning_rate."
    ]


def _too_few(rows: list[dict[str, Any]]) -> list[str]:
    fewest = min((row["n"] for row in rows), default=FEWEST_PAIRS)
    if fewest >= FEWEST_PAIRS:
        return []
    settles = "One seed settles" if fewest == 1 else "Two seeds settle"
    return [f"{settles} nothing, so only the numbers are given: run {FEWEST_PAIRS} at least (--seeds 5)."]


def _arm(row: dict[str, Any], results: dict[str, Any]) -> str:
    """Return the sentence on an arm; empty if another sentence covers it, or too few seeds were run."""
    measure = measure_of(results)
    outcome = verdict(row)
    if outcome == "diverged":
        return ""
    if row[measure.name]["mean"] is None:
        return f"{row['label']} logs no {measure.words}, so it cannot be compared."
    if outcome == "no saving":
        saved = "nothing" if row["saved_fraction"] < 0.005 else f"only {_percent(row['saved_fraction'])}"
        return (
            f"{row['label']} saved {saved} in {plural(row['epochs'], 'epoch')}, "
            "so there is nothing to compare. Savings begin once samples are learned: --epochs trains longer."
        )
    if min([row["n"], *(d["n"] for d in row["against"].values())]) < FEWEST_PAIRS:
        return ""
    text = f"{row['arm']} saves {_percent(row['saved_fraction'])}{_asked(row)}{_measured(row, results)}"
    full = row["against"].get(FULL)
    if full is not None:
        text += f" and is {_points(full)} full training"
    controls = {c: row["against"][c] for c in CONTROLS if c in row["against"]}
    if outcome == "no control":
        share = f" and {row['saved_fraction']:.2f} to --saved" if row["saved"] is None else ""
        return f"{text}. No control saves as much: add {THIN} and {RANDOM} to --arms{share}."
    between = ", interpolated between the savings that were run"
    if outcome.startswith("pays"):
        price = f", at a price in {measure.words}" if outcome == "pays at a cost" else ""
        name, d = _lowest(controls)
        best = f", the best of {len(controls)} controls" if len(controls) > 1 else ""
        rest = between if d["interpolated"] else ""
        return f"{text}. It pays{price}: it is {_points(d)} {_named(name, d, row)}{best}{rest}."
    if outcome == "not settled":
        open_ = {c: d for c, d in controls.items() if not (_conclusive(d) and d["low"] > 0)}
        name, d = _lowest(open_)
        rest = between if d["interpolated"] else ""
        return f"{text}. Not settled: it is {_points(d)} {_named(name, d, row)}{rest}. More seeds would tell."
    name, d = _lowest({c: d for c, d in controls.items() if _no_worse(d)})
    rest = between if d["interpolated"] else ""
    better = "do better" if d["high"] < 0 else "do as well"
    return f"{text}. It does not pay: {_named(name, d, row)} {better}; it is {_points(d)} them{rest}."


def _lowest(controls: dict[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Return the control that is best compared with the arm."""
    return min(controls.items(), key=lambda pair: float(pair[1]["mean"]))


def _named(control: str, d: dict[str, Any], row: dict[str, Any]) -> str:
    """Return the name of a control, with its saving if that differs from the arm's."""
    saved = d.get("control_saved")
    if saved is None or abs(saved - row["saved_fraction"]) <= NEAR:
        return WORDS[control]
    if saved < NOTHING:
        return f"{WORDS[control]} (which save nothing)"
    only = "only " if saved < row["saved_fraction"] else ""
    return f"{WORDS[control]} (which save {only}{_percent(saved)})"


def _asked(row: dict[str, Any]) -> str:
    if row["saved"] is None or abs(row["saved"] - row["saved_fraction"]) < 0.015:
        return ""
    return f" (asked for {_percent(row['saved'])})"


def _measured(row: dict[str, Any], results: dict[str, Any]) -> str:
    """Return the saving net of forward passes, if that differs by half a percent."""
    cost = FORWARD_SHARE * row["samples_forward_only"] / results["samples_full"]
    return f" ({_percent(row['saved_fraction'] - cost)} net of measuring)" if cost >= 0.005 else ""


def _points(d: dict[str, Any]) -> str:
    """Return ``0.80 points (0.60 to 1.00) above`` or ``0.80 % (0.60 to 1.00) better than``.

    An end of the interval on the other side of 0 has a minus.
    """
    above = d["mean"] >= 0
    unit, *sides = ("%", "better than", "worse than") if d["relative"] else ("points", "above", "below")
    span = ""
    if d["low"] is not None:
        low, high = (d["low"], d["high"]) if above else (-d["high"], -d["low"])
        span = f" ({_signed(low)} to {_signed(high)})"
    return f"{abs(100 * d['mean']):.2f} {unit}{span} {sides[not above]}"


def _signed(share: float) -> str:
    return f"{100 * share:.2f}".replace("-0.00", "0.00")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _too_long(signs: dict[str, Any]) -> list[str]:
    shorter = [gain(d) for d in signs["fewer_epochs_above_full"]]
    above = [d for d in shorter if _conclusive(d) and d["low"] > -SMALL]
    if not above:
        return []
    best = max(above, key=lambda d: float(d["mean"]))
    return [
        f"{plural(best['epochs'], 'full epoch')} end{'s'[: best['epochs'] == 1]} {_points(best)} "
        f"full training: it {'is' if best['low'] > 0 else 'may be'} too long, and then no saving proves "
        "anything. Compare against fewer --epochs."
    ]
