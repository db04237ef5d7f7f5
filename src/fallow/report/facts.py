"""What a report says first: how the run stands, what it left out and what that saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.history import FORWARD_SHARE
from . import text, told
from .source import Source

_TOLD = {"policy", "schedule", "score", "step_rule", "by_default", "kind"}
"""Settings that are shown in other words."""
_SETTINGS = 60
"""At most so many of them are read."""
_RULES = {
    "soft": "An exact share of the samples is left out of each epoch. Which ones is drawn: the lower a "
    "sample scores, the likelier it is left out.",
    "fraction": "The lowest-scoring share of the samples is left out of each epoch.",
    "random": "A random share of the samples is left out of each epoch: a control.",
    "full": "Nothing is left out: full training.",
    "selective-backprop": "All samples are measured; backward passes are left out, the likelier the lower "
    "the sample scores.",
}


@dataclass(frozen=True)
class Figure:
    """A figure with the formula that it comes from.

    Attributes:
        title: what it is of.
        value: as it is shown.
        formula: with its numbers put in.
    """

    title: str
    value: str
    formula: str


def heading(source: Source) -> dict[str, Any]:
    """Return the title, the facts beneath it, and the remarks."""
    options, summary = source.run.options, source.summary or {}
    facts = [("Run", text.name(source.run.directory.path.resolve().name))]
    facts += [("Samples", text.count(source.n)), ("Standing", source.run.status)]
    accuracy = summary.get("accuracy")
    part = text.name(str(summary.get("evaluated_on", "test"))).capitalize()
    if isinstance(bits := summary.get("bits_per_character"), float):
        facts.append((part, f"{bits:.4f} bits a character"))
    elif isinstance(accuracy, float):
        diverged = " of a network that diverged" if summary.get("diverged") is True else ""
        facts.append((f"{part} accuracy", text.share(accuracy, 2) + diverged))
    if (right := told.share(summary.get("train_accuracy"))) is not None:
        facts.append(("Train accuracy", text.share(right, 2)))
    if isinstance(summary.get("seconds"), float):
        facts.append(("Time", text.seconds(summary["seconds"])))
    remarks = _passages(summary.get("remarks"))
    remarks += [text.passage(f"A newer state is damaged: {found}", 500) for found in source.run.search.damage]
    if source.spaced:
        remarks.append(source.spaced)
    used = {name: value for name, value in _used_by_rule(summary).items() if options.get(name) is None}
    return {
        "title": _title(str(options.get("data", source.run.directory.path.resolve().name))),
        "policy": rule({**options, **used}, source.unit),
        "facts": facts,
        "diverged": remarks.pop(0) if remarks and summary.get("diverged") is True else "",
        "remarks": remarks[:12],
        "data": _passages(summary.get("data_remarks"))[:24],
    }


def _passages(said: Any) -> list[str]:
    return [text.passage(str(remark), 500) for remark in (said if isinstance(said, list) else [])]


def _title(data: str) -> str:
    """Return what was trained on; of a path the last name, as Settings have all of it."""
    path = Path(data.removeprefix("hf:"))
    return text.path((path.name if path.is_absolute() else "") or data, 48)


def rule(options: dict[str, Any], unit: str) -> str:
    """Return in words what the options leave out."""
    policy = options.get("policy")
    if policy is None:
        return "What was left out, and why, is told below."
    if policy == "threshold":
        said = _thresholds(options, unit)
    elif policy in _RULES:
        said = _RULES[policy]
    else:
        said = f"Samples are left out by the rule {text.name(str(policy))}."
    if policy == "soft" and options.get("high") != "none" and options.get("task") != "language-model":
        said += (
            " What keeps scoring high, where the data show two kinds of samples, is left out as an outlier."
        )
    if isinstance(share := options.get("fraction"), int | float):
        said += f" The share is {text.share(share, 0)}."
    every = options.get("readmit_every")
    if every:
        often = "epoch" if every == 1 else f"{_value(every)} epochs"
        said += f" They come back every {often}."
    return said


def _thresholds(options: dict[str, Any], unit: str) -> str:
    quantile = bool(options.get("quantiles"))
    low, high = options.get("low", 0.3 if quantile else 0.1), options.get("high")
    what = " as quantile" if quantile else f" {unit}".rstrip()
    shown = "a threshold that an audit holds" if low == "auto" else f"{_value(low)}{what}"
    said = f"A sample that scores below {shown} is learned and left out."
    if high == "auto":
        said += " Samples that keep scoring high, where the data show two kinds, are left out as outliers."
    elif high not in (None, "none"):
        said += f" One that scores above {_value(high)}{what} is left out as an outlier."
    return said


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else text.name(str(value))


def saved(source: Source) -> list[Figure]:
    """Return what was saved, each figure with its formula."""
    summary = source.summary or {}
    backward = sum(record.backward for record in source.history)
    forward = summary.get("samples_forward_only")  # a step rule's count is not in the history
    if not isinstance(forward, int):
        forward = sum(record.forward_only for record in source.history)
    full = source.possible
    cost = 1 - (backward + FORWARD_SHARE * forward) / full
    figures = [
        Figure(
            "Samples saved",
            text.share(1 - backward / full),
            f"1 − {backward:,} trained on / {full:,} in full training",
        ),
        Figure(
            "Saved, measuring counted",
            text.share(cost),
            f"1 − ({backward:,} trained on + ⅓ × {forward:,} measured only) / {full:,}",
        ),
    ]
    return figures + (_times(source.summary) if source.summary is not None else [])


def _times(summary: dict[str, Any]) -> list[Figure]:
    spent, recording, gained = (
        summary.get(name) for name in ("seconds", "record_seconds", "time_saved_fraction")
    )
    figures = []
    if isinstance(gained, int | float):
        figures.append(
            Figure(
                "Time saved",
                text.share(gained),
                "1 − seconds of the epochs / seconds that as many full epochs would take: all samples × the "
                "median time for a sample trained on, plus the time spent evaluating",
            )
        )
    if isinstance(spent, int | float) and isinstance(recording, int | float) and spent > 0:
        figures.append(
            Figure(
                "Spent on recording scores",
                text.seconds(recording),
                f"{text.share(recording / spent, 2)} of {text.seconds(spent)}",
            )
        )
    return figures


def tokens(source: Source) -> str:
    """Return in a sentence what a step rule left out inside the windows; nothing where none did."""
    names = ("tokens", "tokens_learned", "tokens_outliers")
    every, learned, odd = (told.whole((source.summary or {}).get(name)) for name in names)
    if not every or learned is None or odd is None:
        return ""
    parts = (f"{count:,} ({text.share(count / every)})" for count in (learned, odd))
    left_out = "{} were learned and {} outliers".format(*parts)
    return f"Of {every:,} tokens in the samples trained on, {left_out}: these passed without a gradient."


def settings(source: Source) -> list[tuple[str, str]]:
    """Return what was set, the options and their defaults too, and what the summary says of the rest."""
    summary, options = source.summary or {}, source.run.options
    rows = [(name.replace("_", " "), text.passage(str(summary[name]), 400))
            for name in ("policy", "schedule", "score", "step_rule") if summary.get(name)]  # fmt: skip
    rows = [(f"{name} in full", value) for name, value in rows]
    rows = _beside_options(summary, options) + rows
    found = source.run.about.get("defaults")
    by_default = found if isinstance(found, list) else []
    for name, value in options.items():
        if name == "density" and options.get("score") != "density" and options.get("task") != "autoencoder":
            continue
        if name != "out" and value not in (None, "", [], {}, ()):
            shown = text.passage(str(value), 400) + (" (by default)" if name in by_default else "")
            rows.append((f"--{text.name(str(name))}", shown))
    return rows


def _beside_options(summary: dict[str, Any], options: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the settings that no option names: sizes of data and network, optimiser, device."""
    found = summary.get("settings")
    rows = []
    for name, value in list(found.items() if isinstance(found, dict) else ())[:_SETTINGS]:
        if isinstance(value, int | float | str | list) and name not in {*options, *_TOLD} - {"devices"}:
            shown = f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)
            if name == "image_size" and isinstance(value, list):
                shown = " × ".join(map(str, value[:2]))
            rows.append((text.name(str(name).replace("_", " ")), text.passage(shown, 400)))
    return rows


def _used_by_rule(summary: dict[str, Any]) -> dict[str, Any]:
    """Return what the rule used for the share that it leaves out, and for when samples come back."""
    found = summary.get("settings")
    parts = found if isinstance(found, dict) else {}
    policy, schedule = (told.rows([parts.get(name)], 1) for name in ("policy", "schedule"))
    values = {
        "fraction": told.share(policy[0].get("fraction")) if policy else None,
        "readmit_every": told.whole(schedule[0].get("readmit_every")) if schedule else None,
    }
    return {name: value for name, value in values.items() if value}
