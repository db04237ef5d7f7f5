"""What a report says first: how the run stands, what it left out and what that saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import structs

from ..core.history import FORWARD_SHARE
from ..runs.schema import ShownOptions, Summary, UsedSettings
from . import text
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
    options, summary = source.run.shown_options, source.summary
    facts = [("Run", text.name(source.run.directory.path.resolve().name))]
    facts += [("Samples", text.count(source.n)), ("Standing", source.run.status)]
    part = summary.evaluated_on.capitalize()
    if summary.bits_per_character is not None:
        facts.append((part, f"{summary.bits_per_character:.4f} bits a character"))
    elif summary.accuracy is not None:
        diverged = " of a network that diverged" if summary.diverged else ""
        facts.append((f"{part} accuracy", text.share(summary.accuracy, 2) + diverged))
    if summary.train_accuracy is not None:
        facts.append(("Train accuracy", text.share(summary.train_accuracy, 2)))
    if summary.seconds is not None:
        facts.append(("Time", text.seconds(summary.seconds)))
    remarks = _passages(summary.remarks)
    remarks += [text.passage(f"A newer state is damaged: {found}", 500) for found in source.run.search.damage]
    if source.spaced:
        remarks.append(source.spaced)
    return {
        "title": _title(options.data or source.run.directory.path.resolve().name),
        "policy": rule(_with_defaults(options, summary.used), source.unit),
        "facts": facts,
        "diverged": remarks.pop(0) if remarks and summary.diverged else "",
        "remarks": remarks[:12],
        "data": _passages(summary.data_remarks)[:24],
    }


def _passages(remarks: list[str]) -> list[str]:
    return [text.passage(remark, 500) for remark in remarks]


def _title(data: str) -> str:
    """Return what was trained on; of a path the last name, as Settings have all of it."""
    path = Path(data.removeprefix("hf:"))
    return text.path((path.name if path.is_absolute() else "") or data, 48)


def rule(options: ShownOptions, unit: str) -> str:
    """Return in words what the options leave out."""
    policy = options.policy
    if policy is None:
        return "What was left out, and why, is told below."
    if policy == "threshold":
        said = _thresholds(options, unit)
    elif policy in _RULES:
        said = _RULES[policy]
    else:
        said = f"Samples are left out by the rule {text.name(policy)}."
    if policy == "soft" and options.high != "none" and options.task != "language-model":
        said += (
            " What keeps scoring high, where the data show two kinds of samples, is left out as an outlier."
        )
    if options.fraction is not None:
        said += f" The share is {text.share(options.fraction, 0)}."
    if every := options.readmit_every:
        often = "epoch" if every == 1 else f"{_value(every)} epochs"
        said += f" They come back every {often}."
    return said


def _thresholds(options: ShownOptions, unit: str) -> str:
    low, high = options.low, options.high
    if low is None:
        low = 0.3 if options.quantiles else 0.1
    what = " as quantile" if options.quantiles else f" {unit}".rstrip()
    shown = "a threshold that an audit holds" if low == "auto" else f"{_value(low)}{what}"
    said = f"A sample that scores below {shown} is learned and left out."
    if high == "auto":
        said += " Samples that keep scoring high, where the data show two kinds, are left out as outliers."
    elif high not in (None, "none"):
        said += f" One that scores above {_value(high)}{what} is left out as an outlier."
    return said


def _value(value: float | str) -> str:
    return text.name(value) if isinstance(value, str) else f"{value:g}"


def saved(source: Source) -> list[Figure]:
    """Return what was saved, each figure with its formula."""
    summary = source.summary
    backward = sum(record.backward for record in source.history)
    forward = summary.samples_forward_only  # a step rule's count is not in the history
    if forward is None:
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
    return figures + _times(summary)


def _times(summary: Summary) -> list[Figure]:
    spent, recording, gained = summary.seconds, summary.record_seconds, summary.time_saved_fraction
    figures = []
    if gained is not None:
        figures.append(
            Figure(
                "Time saved",
                text.share(gained),
                "1 − seconds of the epochs / seconds that as many full epochs would take: all samples × the "
                "median time for a sample trained on, plus the time spent evaluating",
            )
        )
    if spent is not None and recording is not None and spent > 0:
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
    summary = source.summary
    every, learned, odd = summary.tokens, summary.tokens_learned, summary.tokens_outliers
    if not every or learned is None or odd is None:
        return ""
    parts = (f"{count:,} ({text.share(count / every)})" for count in (learned, odd))
    left_out = "{} were learned and {} outliers".format(*parts)
    return f"Of {every:,} tokens in the samples trained on, {left_out}: these passed without a gradient."


def settings(source: Source) -> list[tuple[str, str]]:
    """Return what was set, the options and their defaults too, and what the summary says of the rest."""
    summary, about, shown = source.summary, source.run.about, source.run.shown_options
    objects = ("policy", summary.policy), ("schedule", summary.schedule), ("score", summary.score)
    rows = _beside_options(summary.settings, about.options)
    for name, value in (*objects, ("step rule", summary.step_rule)):
        rows += [(f"{name} in full", text.passage(value, 400))] if value else []
    for name, value in about.options.items():
        if name == "density" and shown.score != "density" and shown.task != "autoencoder":
            continue
        if name != "out" and value not in (None, "", [], {}, ()):
            by_default = " (by default)" if name in about.defaults else ""
            rows.append((f"--{text.name(name)}", text.passage(str(value), 400) + by_default))
    return rows


def _beside_options(found: dict[str, Any], options: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the settings that no option names: sizes of data and network, optimiser, device."""
    rows = []
    for name, value in list(found.items())[:_SETTINGS]:
        if isinstance(value, int | float | str | list) and name not in {*options, *_TOLD} - {"devices"}:
            shown = f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)
            if name == "image_size" and isinstance(value, list):
                shown = " × ".join(map(str, value[:2]))
            rows.append((text.name(name.replace("_", " ")), text.passage(shown, 400)))
    return rows


def _with_defaults(options: ShownOptions, used: UsedSettings) -> ShownOptions:
    """Return the options with what the rule used: the share that it leaves out, when samples come back."""
    fraction, every = used.policy.fraction or None, used.schedule.readmit_every
    return structs.replace(
        options,
        fraction=fraction if options.fraction is None else options.fraction,
        readmit_every=every if options.readmit_every is None else options.readmit_every,
    )
