"""The first facts of a report: progress, policy, savings and settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import structs

from ..core.history import FORWARD_SHARE
from ..runs.schema import ShownOptions, Summary, UsedSettings
from . import text
from .source import Source

_SHOWN_ELSEWHERE = {"policy", "schedule", "score", "step_rule", "by_default", "kind"}
"""Settings that the report shows in another form."""
_SETTINGS = 60
"""Maximum number of settings that are read."""
_PERSISTENT = " Samples that keep scoring high are left out as outliers if the data show two kinds."
_RULES = {
    "error-mass": "The samples with the least error are left out of each epoch, as many as together hold at "
    "most a small share of the error that is still to be learned.",
    "soft": "An exact share of the samples is left out of each epoch. They are drawn at random: the lower a "
    "sample scores, the likelier it is left out.",
    "fraction": "The lowest-scoring share of the samples is left out of each epoch.",
    "watch": "Nothing is left out. The default would leave out the samples with the least error, as many as "
    "together hold at most a small share of the error that is still to be learned.",
    "random": "A random share of the samples is left out of each epoch: a control.",
    "full": "Nothing is left out: full training.",
    "selective-backprop": "All samples are measured. The lower a sample scores, the likelier its backward "
    "pass is left out.",
}


@dataclass(frozen=True)
class Figure:
    """A figure with its formula.

    Attributes:
        title: the name of the quantity.
        value: the value as text.
        formula: the formula with its numbers.
        key: a short name for programs.
        number: the value; a share in [0, 1] or seconds.
    """

    title: str
    value: str
    formula: str
    key: str
    number: float


def heading(source: Source) -> dict[str, Any]:
    """Return the title, the facts beneath it, and the remarks."""
    options, summary = source.run.shown_options, source.summary
    facts = [("Run", text.name(source.run.directory.path.resolve().name))]
    facts += [("Samples", text.count(source.n)), ("Progress", source.run.status)]
    part = summary.evaluated_on.capitalize()
    if summary.bits_per_character is not None:
        facts.append((part, f"{summary.bits_per_character:.4f} bits a character"))
    elif summary.accuracy is not None:
        diverged = " of a network that diverged" if summary.diverged else ""
        facts.append((f"{part} accuracy", text.share(summary.accuracy, 2) + diverged))
    if summary.train_accuracy is not None:  # older versions did not write it
        facts.append(("Train accuracy", text.share(summary.train_accuracy, 2)))
    if summary.seconds is not None:
        facts.append(("Time", text.seconds(summary.seconds)))
    remarks = passages(summary.remarks)
    damage = source.run.search.damage
    remarks += [text.passage(f"A newer state is damaged: {message}", 500) for message in damage]
    if source.spaced:
        remarks.append(source.spaced)
    return {
        "title": _title(options.data or source.run.directory.path.resolve().name),
        "policy": policy(source),
        "facts": facts,
        "diverged": remarks.pop(0) if remarks and summary.diverged else "",
        "remarks": remarks[:12],
        "data": passages(summary.data_remarks)[:24],
    }


def policy(source: Source) -> str:
    """Return a description of the policy of a run, with the defaults that it used."""
    used = source.summary.used
    options = _with_defaults(source.run.shown_options, used)
    return rule(options, source.unit, stagger=used.schedule.stagger)


def passages(remarks: list[str]) -> list[str]:
    """Return remarks, each cut to 500 characters."""
    return [text.passage(remark, 500) for remark in remarks]


def _title(data: str) -> str:
    """Return the name of the data; of an absolute path the last part, as the settings show all of it."""
    path = Path(data.removeprefix("hf:"))
    return text.path((path.name if path.is_absolute() else "") or data, 48)


def rule(options: ShownOptions, unit: str, *, stagger: bool = False) -> str:
    """Return a description of the policy in the options; ``stagger``: samples come back in turns."""
    name = options.policy
    if name is None:
        return "The sections below show which samples were left out, and why."
    if name == "threshold":
        sentence = _thresholds(options, unit)
    elif name in _RULES:
        sentence = _RULES[name]
    else:
        sentence = f"Samples are left out by the rule {text.name(name)}."
    if options.error is not None:
        sentence += f" That share is {text.share(options.error, 0)}."
    if options.fraction is not None:
        sentence += f" The share is {text.share(options.fraction, 0)}."
    if every := options.readmit_every:
        often = "epoch" if every == 1 else f"{_value(every)} epochs"
        turns = f"in {_value(every)} turns, one an epoch" if stagger and every != 1 else f"every {often}"
        sentence += f" They come back {turns}."
    if name in ("error-mass", "soft") and options.high != "none" and options.task != "language-model":
        sentence += _PERSISTENT
    return sentence


def _thresholds(options: ShownOptions, unit: str) -> str:
    low, high = options.low, options.high
    if low is None:
        low = 0.3 if options.quantiles else 0.1
    suffix = " as quantile" if options.quantiles else f" {unit}".rstrip()
    bound = "a threshold that an audit adjusts" if low == "auto" else f"{_value(low)}{suffix}"
    sentence = f"A sample that scores below {bound} is learned and left out."
    if high == "auto":
        sentence += _PERSISTENT
    elif high not in (None, "none"):
        sentence += f" A sample that scores above {_value(high)}{suffix} is left out as an outlier."
    return sentence


def _value(value: float | str) -> str:
    return text.name(value) if isinstance(value, str) else f"{value:g}"


def saved(source: Source) -> list[Figure]:
    """Return the savings, each figure with its formula."""
    summary = source.summary
    backward, full, over = sum(record.backward for record in source.history), source.possible, ""
    forward = summary.samples_forward_only  # a step rule's count is not in the history
    if forward is None:
        forward = sum(record.forward_only for record in source.history)
    if source.missing:
        if summary.samples_backward is not None and summary.samples_full:
            backward, full = summary.samples_backward, summary.samples_full
        else:
            over = f", over {len(source.history):,} of {text.plural(source.run.ended, 'epoch')}"
    saved_cost = 1 - (backward + FORWARD_SHARE * forward) / full
    figures = [
        Figure(
            "Samples saved",
            text.share(1 - backward / full),
            f"1 − {backward:,} trained on / {full:,} in full training{over}",
            "samples",
            1 - backward / full,
        ),
        Figure(
            "Saved, measuring counted",
            text.share(saved_cost),
            f"1 − ({backward:,} trained on + ⅓ × {forward:,} measured only) / {full:,}{over}",
            "cost",
            saved_cost,
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
                "time",
                gained,
            )
        )
    if spent is not None and recording is not None and spent > 0:
        figures.append(
            Figure(
                "Spent on recording scores",
                text.seconds(recording),
                f"{text.share(recording / spent, 2)} of {text.seconds(spent)}",
                "recording",
                recording,
            )
        )
    return figures


def tokens(source: Source) -> str:
    """Return a sentence about the tokens that a step rule left out; empty without one."""
    summary = source.summary
    every, learned, odd = summary.tokens, summary.tokens_learned, summary.tokens_outliers
    if not every or learned is None or odd is None:
        return ""
    parts = [f"{count:,} ({text.share(count / every)})" for count in (learned, odd)]
    return (
        f"Of {every:,} tokens in the samples trained on, {parts[0]} were learned and {parts[1]} outliers: "
        "these passed without a gradient."
    )


def settings(source: Source) -> list[tuple[str, str]]:
    """Return the settings: those without an option, the objects in full, then options and defaults."""
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
            said = _warmup(summary, value) if name == "warmup" else str(value)
            rows.append((f"--{text.name(name)}", text.passage(said, 400) + by_default))
    return rows


def _warmup(summary: Summary, least: Any) -> str:
    """Return the number of full epochs at the start: the policy may have needed more than the option says."""
    used = summary.used.schedule.warmup
    return f"{least} or more" if used is None else str(used)


def _beside_options(settings: dict[str, Any], options: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the settings without an option: sizes of data and network, optimiser, device."""
    rows, hidden = [], {*options, *_SHOWN_ELSEWHERE} - {"devices"}
    for name, value in list(settings.items())[:_SETTINGS]:
        if isinstance(value, int | float | str | list) and name not in hidden:
            shown = f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)
            if name == "image_size" and isinstance(value, list):
                shown = " × ".join(map(str, value[:2]))
            rows.append((text.name(name.replace("_", " ")), text.passage(shown, 400)))
    return rows


def _with_defaults(options: ShownOptions, used: UsedSettings) -> ShownOptions:
    """Return the options with the defaults that the run used for the fraction and re-admission."""
    fraction, every = used.policy.fraction or None, used.schedule.readmit_every
    return structs.replace(
        options,
        fraction=fraction if options.fraction is None else options.fraction,
        readmit_every=every if options.readmit_every is None else options.readmit_every,
    )
