"""The rows and the caption of the table of results."""

from __future__ import annotations

from typing import Any

from ..spelling import one_line
from .arms import CONTROLS, FULL
from .measure import ACCURACY, BITS, measure_of, rate_text
from .sentences import FEWEST_PAIRS, WORDS


def rows(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the heads and the cells of the table: a row for each arm and saving, full training first."""
    present = {name for row in results["arms"] for name in row["against"]}
    others = [name for name in (FULL, *CONTROLS) if name in present]
    measure = measure_of(results)
    part = "validation " if results["settings"].get("validation") else ""
    heads = ["arm", "saved %", f"{part}{measure.words}" if measure.relative else f"{part}accuracy %"]
    heads += [f"against {WORDS.get(name, name)}" for name in others]
    heads += ["next token %"] if measure.relative else ["worst class %", f"{part or 'test '}loss"]
    rates = any(row.get("learning_rate") is not None for row in results["arms"])
    heads += ["rate"] if rates else []
    heads.append("CPU s")
    cells = []
    for row in sorted(results["arms"], key=lambda row: row["arm"] != FULL):
        line = [one_line(row["arm"]), f"{100 * row['saved_fraction']:.1f}"]
        reached = _spread(row[BITS.name], 4) if measure.relative else _spread(row[ACCURACY.name], 2, 100)
        line.append(f"{reached} !" if row["diverged"] else reached)
        line += [_difference(row["against"].get(name)) for name in others]
        if measure.relative:
            line.append(_number(row[ACCURACY.name]["mean"], 2, 100))
        else:
            line += [_number(row["worst_class_accuracy"], 1, 100), _number(row["test_loss"], 3)]
        line += [rate_text(row["learning_rate"], row["rate_factor"])] if rates else []
        line.append(_seconds(row["cpu_seconds"]))
        cells.append(line)
    return heads, cells


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _number(value: float | None, digits: int, scale: int = 1) -> str:
    if value is None:
        return "-"
    shown = scale * value
    # The loss of a diverged run may have dozens of digits.
    return f"{shown:.{digits}f}" if abs(shown) < 1e5 else f"{shown:.1e}"


def _spread(values: dict[str, Any], digits: int, scale: int = 1) -> str:
    spread = "" if values["sd"] is None else f" ± {_number(values['sd'], digits, scale)}"
    return _number(values["mean"], digits, scale) + spread


def _difference(d: dict[str, Any] | None) -> str:
    if d is None:
        return "-"
    half = "" if d["low"] is None or d["n"] < FEWEST_PAIRS else f" ± {50 * (d['high'] - d['low']):.2f}"
    return f"{'~' if d['interpolated'] else ''}{100 * d['mean']:+.2f}{half}"


def caption(results: dict[str, Any]) -> str:
    """Return a sentence that explains the signs in the table."""
    rows = results["arms"]
    part = ", on the validation samples" if results["settings"].get("validation") else ""
    measure = measure_of(results)
    unit = "difference in % (below 0 is better)" if measure.relative else "difference in points"
    text = f"Final epoch{part}. Saved: of full training's samples. against: {unit}"
    pairs = [d["n"] for row in rows for d in row["against"].values()]
    if any(n >= FEWEST_PAIRS for n in pairs):
        text = f"{text} ± 95 % interval, paired by seed"
    if any(n < FEWEST_PAIRS for n in pairs):
        text = f"{text}; fewer than {FEWEST_PAIRS} seeds have no interval"
    if any(row["n"] > 1 for row in rows):
        text = f"{text}; {measure.words} ± standard deviation"
    if any(row["diverged"] for row in rows):
        text = f"{text}; ! runs of it diverged"
    if any(d["interpolated"] for row in rows for d in row["against"].values()):
        text += "; ~ interpolated between the savings that were run"
    if any(row.get("learning_rate") is not None for row in rows):
        text += "; rate: the learning rate, chosen on a validation split"
    return f"{text}."
