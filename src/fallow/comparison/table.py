"""The results as rows of words."""

from __future__ import annotations

from typing import Any

from .arms import CONTROLS, FULL
from .sentences import WORDS


def rows(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the heads and the cells of the table: an arm at a saving a row, full training first."""
    present = {name for row in results["arms"] for name in row["against"]}
    others = [name for name in (FULL, *CONTROLS) if name in present]
    validated = bool(results["settings"].get("validation"))
    bits = any(row.get("bits_per_character") is not None for row in results["arms"])
    measure = "next token %" if bits else "accuracy %"
    heads = ["arm", "saved %", f"validation {measure}" if validated else measure]
    heads += [f"against {WORDS.get(name, name)}" for name in others]
    loss = "loss in bits a character" if bits else "validation loss" if validated else "test loss"
    heads += ["worst class %", loss, "CPU s"]
    cells = []
    for row in sorted(results["arms"], key=lambda row: row["arm"] != FULL):
        line = [row["arm"], f"{100 * row['saved_fraction']:.1f}", _accuracy(row["accuracy"])]
        line += [_difference(row["against"].get(name)) for name in others]
        worst, seconds = row["worst_class_accuracy"], row["cpu_seconds"]
        ends = row.get("bits_per_character") if bits else row["test_loss"]
        line.append("-" if worst is None else f"{100 * worst:.1f}")
        line.append("-" if ends is None else f"{ends:.4f}" if bits else f"{ends:.3f}")
        line.append("-" if seconds is None else f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.1f}")
        cells.append(line)
    return heads, cells


def _accuracy(found: dict[str, Any]) -> str:
    if found["mean"] is None:
        return "-"
    spread = "" if found["sd"] is None else f" ± {100 * found['sd']:.2f}"
    return f"{100 * found['mean']:.2f}{spread}"


def _difference(d: dict[str, Any] | None) -> str:
    if d is None:
        return "-"
    half = "" if d["low"] is None else f" ± {50 * (d['high'] - d['low']):.2f}"
    return f"{'~' if d['interpolated'] else ''}{100 * d['mean']:+.2f}{half}"


def caption(results: dict[str, Any]) -> str:
    """Return what the signs in the table mean."""
    rows = results["arms"]
    part = ", on the validation samples" if results["settings"].get("validation") else ""
    text = f"Final epoch{part}. Saved: of full training's samples. against: difference in points"
    if any(row["n"] > 1 for row in rows):
        text = f"{text} ± 95 % interval, paired by seed; accuracy ± standard deviation"
    if any(d["interpolated"] for row in rows for d in row["against"].values()):
        text += "; ~ interpolated between the savings that were run"
    return f"{text}."
