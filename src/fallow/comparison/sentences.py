"""What the results mean, in plain sentences."""

from __future__ import annotations

from typing import Any

from ..core.history import FORWARD_SHARE
from .arms import CONTROLS, FULL
from .measure import gain, gains, measure_of

SMALL = 0.003
"""A difference that does not matter, of accuracy or a share of the bits: an interval that ends below it
shows that a rule gains nothing."""
WORDS = {"fewer-epochs": "fewer epochs", "random": "random subsets"}
FEWEST_PAIRS = 3
"""With fewer pairs of seeds an interval settles nothing: two that happen to agree have hardly any width."""
NOTHING = 0.01
"""An arm that saved less has nothing to be compared for."""
NEAR = 0.02
"""A control whose saving is further off than this from the arm's is named with its own."""


def sentences(results: dict[str, Any]) -> list[str]:
    """Return what diverged, whether full training is too long, then what is found of each arm and saving.

    Arms of fewer than ``FEWEST_PAIRS`` seeds are not judged: their numbers stand in the table.
    """
    part = "validation" if results["settings"].get("validation") else "test"
    rows = [gains(row) for row in results["arms"] if row["arm"] not in (FULL, *CONTROLS)]
    said = _diverged(results, rows)
    if not any(row["diverged"] for row in results["arms"] if row["arm"] in (FULL, CONTROLS[0])):
        said += _too_long(results["full_too_long"])
    said += [sentence for row in rows if (sentence := _arm(row, results))]
    said += _too_few(results["arms"])
    if part == "validation" and rows:
        said.append("All of this is measured on the validation samples, not on the test samples.")
    failed = [run["name"] for run in results["runs"] if run["status"] == "failed"]
    if failed:
        said.append(f"{len(failed)} failed: {', '.join(failed)}. The same command tries them again.")
    return said


def verdict(row: dict[str, Any]) -> str:
    """Return ``pays``, ``pays at a cost``, ``does not pay``, ``not settled`` or why none of these.

    That is ``no control``, ``no saving``, or ``diverged`` if runs of the arm or of the controls did.
    ``row`` has the :func:`~fallow.comparison.measure.gains` of an arm. It pays where it is above every
    control that was run, by the whole interval, and at a cost where it is so below full training. It does
    not pay where a control is above it, or at most ``SMALL`` below it.
    Fewer than ``FEWEST_PAIRS`` pairs, or an interval without a width, settle nothing.
    """
    if row.get("unsound"):
        return "diverged"
    if row["saved_fraction"] < NOTHING:
        return "no saving"
    against = [row["against"][control] for control in CONTROLS if control in row["against"]]
    if not against:
        return "no control"
    if not all(_tells(d) for d in against):
        return "not settled"
    if all(d["low"] > 0 for d in against):
        full = row["against"].get(FULL)
        return "pays at a cost" if full is not None and full["high"] < 0 else "pays"
    return "does not pay" if any(map(_no_worse, against)) else "not settled"


def _tells(d: dict[str, Any]) -> bool:
    """Return whether a difference has an interval that can settle anything."""
    return d["low"] is not None and d["n"] >= FEWEST_PAIRS and d["low"] < d["high"]


def _no_worse(d: dict[str, Any]) -> bool:
    """Return whether it is settled that the control is above the arm, or at most ``SMALL`` below it."""
    return bool(_tells(d) and d["low"] <= 0 and d["high"] <= SMALL)


def _diverged(results: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    names = [run["name"] for run in results["runs"] if run.get("diverged")]
    if not names:
        return []
    every = sum(run["status"] == "done" for run in results["runs"])
    unsound = [row["label"] for row in rows if row["unsound"]]
    judged = f" {', '.join(unsound)} cannot be judged." if unsound else ""
    return [
        f"{len(names)} of {counted(every, 'run')} diverged: {', '.join(names)}. What they reach is that of "
        f"networks of no use.{judged} Lower --learning_rate."
    ]


def _too_few(rows: list[dict[str, Any]]) -> list[str]:
    fewest = min((row["n"] for row in rows), default=FEWEST_PAIRS)
    if fewest >= FEWEST_PAIRS:
        return []
    settles = "One seed settles" if fewest == 1 else "Two seeds settle"
    return [f"{settles} nothing, so only the numbers are given: run {FEWEST_PAIRS} at least (--seeds 5)."]


def _arm(row: dict[str, Any], results: dict[str, Any]) -> str:
    """Return what is known of an arm; nothing if that is said elsewhere, or too few seeds were run."""
    measure, what = measure_of(results), verdict(row)
    if what == "diverged":
        return ""
    if row[measure.name]["mean"] is None:
        return f"{row['label']} logs no {measure.words}, so it cannot be compared."
    if what == "no saving":
        return (
            f"{row['label']} saved nothing in {counted(row['epochs'], 'epoch')}, "
            "so there is nothing to compare."
        )
    if min([row["n"], *(d["n"] for d in row["against"].values())]) < FEWEST_PAIRS:
        return ""
    text = f"{row['arm']} saves {_percent(row['saved_fraction'])}{_asked(row)}{_measured(row, results)}"
    full = row["against"].get(FULL)
    if full is not None:
        text += f" and is {_points(full)} full training"
    controls = {c: row["against"][c] for c in CONTROLS if c in row["against"]}
    if what == "no control":
        share = f" and {row['saved_fraction']:.2f} to --saved" if row["saved"] is None else ""
        return f"{text}. No control saves as much: add {' and '.join(CONTROLS)} to --arms{share}."
    between = ", interpolated between the savings that were run"
    rest = between if any(d["interpolated"] for d in controls.values()) else ""
    told = " and ".join(f"{_points(d)} {_named(c, d, row)}" for c, d in controls.items())
    if what.startswith("pays"):
        price = f", at a price in {measure.words}" if what == "pays at a cost" else ""
        return f"{text}. It pays{price}: it is {told}{rest}."
    if what == "not settled":
        open_ = {c: d for c, d in controls.items() if not (_tells(d) and d["low"] > 0)}
        name, d = _lowest(open_)
        rest = between if d["interpolated"] else ""
        return f"{text}. Not settled: it is {_points(d)} {_named(name, d, row)}{rest}. More seeds would tell."
    name, d = _lowest({c: d for c, d in controls.items() if _no_worse(d)})
    rest = between if d["interpolated"] else ""
    better = "do better" if d["high"] < 0 else "do as well"
    return f"{text}. It does not pay: {_named(name, d, row)} {better}; it is {_points(d)} them{rest}."


def _lowest(controls: dict[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Return the control that the arm fares worst against."""
    return min(controls.items(), key=lambda pair: float(pair[1]["mean"]))


def _named(control: str, d: dict[str, Any], row: dict[str, Any]) -> str:
    """Return a control in words, with its own saving where that is another than the arm's."""
    saved = d.get("control_saved")
    if saved is None or abs(saved - row["saved_fraction"]) <= NEAR:
        return WORDS[control]
    if saved < NOTHING:
        return f"{WORDS[control]} (which save nothing)"
    only = "only " if saved < row["saved_fraction"] else ""
    return f"{WORDS[control]} (which save {only}{_percent(saved)})"


def counted(number: int, thing: str) -> str:
    """Return a number of things in words.

    >>> counted(1, "run"), counted(1200, "run")
    ('1 run', '1,200 runs')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _asked(row: dict[str, Any]) -> str:
    if row["saved"] is None or abs(row["saved"] - row["saved_fraction"]) < 0.015:
        return ""
    return f" (asked for {_percent(row['saved'])})"


def _measured(row: dict[str, Any], results: dict[str, Any]) -> str:
    """Return what forward passes alone take away of the saving, where it can be seen."""
    cost = FORWARD_SHARE * row["samples_forward_only"] / results["samples_full"]
    return f" ({_percent(row['saved_fraction'] - cost)} net of measuring)" if cost >= 0.005 else ""


def _points(d: dict[str, Any]) -> str:
    """Return ``0.80 points (0.60 to 1.00) above`` or ``0.80 % (0.60 to 1.00) better than``.

    Ends on the other side have a minus.
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


def _too_long(found: dict[str, Any]) -> list[str]:
    said = []
    shorter = [gain(d) for d in found["fewer_epochs_above_full"]]
    above = [d for d in shorter if _tells(d) and d["low"] > -SMALL]
    if above:
        best = max(above, key=lambda d: float(d["mean"]))
        sure = best["low"] > 0
        said.append(
            f"{counted(best['epochs'], 'full epoch')} end{'s'[: best['epochs'] == 1]} {_points(best)} "
            "full training: it "
            f"{'is' if sure else 'may be'} too long, and then no saving proves "
            "anything. Compare against fewer --epochs."
        )
    return said
