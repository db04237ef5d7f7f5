"""The results of a run: the summary, the table of samples and the chart."""

from __future__ import annotations

import math
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from ..core.history import FORWARD_SHARE, EpochRecord, resized, times_used
from ..core.plan import in_use, thin_epochs
from ..core.subsampler import Subsampler
from ..policies import RandomFraction, Reason, Watch
from ..report.charts import reached_of, save_usage
from ..report.charts.usage_rows import ReasonOf
from ..report.text import plural
from ..runs.data_file import DataFile
from ..runs.directory import RunDirectory
from ..runs.sample_names import relative
from ..runs.samples_csv import LARGEST, samples_csv
from ..step_rules import StepRule
from ..tasks.console import Console, number
from .divergence import divergence
from .payoff import remarks, time_saved

_NOT_FINITE = "not finite"
# In this order: a suspect may never have been learned.
_FINDINGS = {"learned_early": "learned early", "never_learned": "never learned", "suspects": "suspect"}


def counts(history: list[EpochRecord], full: int, step_rule: StepRule | None) -> dict[str, Any]:
    """Return how many of ``full`` samples were trained on and measured, and the share that was saved."""
    backward = sum(record.backward for record in history)
    forward = sum(record.forward_only for record in history)
    return {
        "samples_backward": backward,
        # A step rule measures all rows of a batch in an extra forward pass, those that it then trains on too.
        "samples_forward_only": forward if step_rule is None else forward + backward,
        "samples_full": full,
        "saved_fraction": 1 - backward / full,
    }


def epoch_row(
    record: EpochRecord, used: dict[str, Any], metrics: dict[str, Any], times: dict[str, float]
) -> dict[str, Any]:
    """Return an epoch as a row of ``summary.json``.

    Args:
        record: of the epoch.
        used: from :func:`counts`.
        metrics: the results after the epoch, by name.
        times: its seconds, of which some were spent waiting and evaluating, by name.
    """
    aggregates = {k: v for k, v in record.aggregates().items() if k not in ("epoch", "record_seconds")}
    times = {**times, "record_seconds": record.record_seconds}
    return {"epoch": record.epoch, **used, **metrics, **times, **aggregates}


def finish(
    run: RunDirectory,
    subsampler: Subsampler,
    samples: DataFile,
    epochs: list[dict[str, Any]],
    step_rule: StepRule | None,
    more: dict[str, Any],
    console: Console,
    reason_of: ReasonOf | None = None,
    *,
    loss_in_nats: bool,
    own: bool = False,
) -> dict[str, Any]:
    """Write the summary, the samples and the chart; print the table; return the summary.

    Args:
        run: the run directory.
        subsampler: after its last epoch.
        samples: the classes and files of the samples.
        epochs: the rows of ``summary.json``.
        step_rule: chose rows of each batch, or None.
        more: further entries of the summary: seconds, steps, accuracy by class, the result of guessing.
        console: prints the table.
        reason_of: returns the reason for each sample in an epoch, for the chart.
        loss_in_nats: whether the test loss is known to be in nats, so that its exponential is a perplexity.
        own: whether the module is the user's own.
    """
    history, labels, last = subsampler.history, subsampler.labels, epochs[-1]
    policy = subsampler.policy
    unit = "" if subsampler.score is None else subsampler.score.unit  # "" if the losses may be anything
    summary = {
        "diverged": False,
        "accuracy": last["accuracy"],
        "train_accuracy": last.get("train_accuracy"),
        "test_loss": last["test_loss"],
        "perplexity": perplexity(last["test_loss"]) if loss_in_nats else None,
        **_of_tokens(epochs),
        **counts(history, sum(record.n for record in history), step_rule),
        # The rows also count forward passes that the history does not have.
        "samples_forward_only": sum(row["samples_forward_only"] for row in epochs),
        **more,
        "record_seconds": subsampler.record_seconds,
        "time_saved_fraction": time_saved(epochs),
        "policy": repr(policy),
        "step_rule": None if step_rule is None else repr(step_rule),
        "schedule": repr(in_use(subsampler.schedule, policy)),
        "score": repr(subsampler.score),
        "score_unit": unit,
        "seed": subsampler.seed,
        "watched": _watched(subsampler),
        "epochs": epochs,
    }
    summary["diverged"] = bool(divergence(summary))
    summary["remarks"] = _remarks(summary, subsampler, step_rule, own=own)
    run.write_summary(summary)
    classes, names = samples.classes, None
    if labels is not None and classes is not None:
        names = [classes[i] for i in subsampler.under_way.class_ids.encode(labels.numpy()).tolist()]
    table = _samples(subsampler, samples, names, str(more["settings"]["data"]), nats=unit == "nats")
    run.write_text(run.samples_path, table)
    # Written last: for a comparison, the chart shows that a run has ended.
    charts = _draw(run, subsampler, classes, summary, reason_of)
    console.table(_rows(summary, subsampler))
    if summary["diverged"] and console.silent:
        console.warn(summary["remarks"][0])
    console.line()
    for remark in summary["remarks"][summary["diverged"] :]:  # a divergence stands in the table already
        console.passage(remark)
    console.line(f"Run directory: {run.path}")
    console.line(f"Chart:         {charts[0]}")
    console.line(f"Report:        fallow report {quote(str(run.path))}")
    return summary


def _remarks(
    summary: dict[str, Any], subsampler: Subsampler, step_rule: StepRule | None, *, own: bool
) -> list[str]:
    policy = subsampler.policy
    watches = isinstance(policy, Watch)
    full = watches or (isinstance(policy, RandomFraction) and policy.fraction == 0 and step_rule is None)
    unpredicted = subsampler.labels is not None and not bool((subsampler.predicted >= 0).any())
    sentences = remarks(
        summary,
        rule=not full,
        thin=thin_epochs(policy, subsampler.schedule),
        fewest_kept=subsampler.under_way.fewest_kept(policy),
        unpredicted=policy.reads_predictions and unpredicted,
        share=getattr(policy, "fraction", None),
        own=own,
        kept_steps=subsampler.under_way.kept_steps is not None,
        fewest_samples=policy.fewest_samples,
    )
    if nothing_left := summary["nothing_left"]:
        advice = "--stop auto ends a training there."
        if summary["stopped_early"]:
            planned, done = subsampler.schedule.epochs, len(summary["epochs"])
            advice = (
                f"So the training had {done} of {planned} epochs; what it saved is a share of the {done}."
            )
        sentences.append(f"{nothing_left} {advice}")
    return sentences + (str(subsampler.findings()).splitlines() if watches else [])


def _watched(subsampler: Subsampler) -> dict[str, Any] | None:
    """Return what the default would have saved and what the data showed, in numbers; None if none watched."""
    if not isinstance(subsampler.policy, Watch):
        return None
    found = subsampler.findings()
    rows = {name: len(getattr(found, name)) for name in _FINDINGS}
    return {"policy": found.policy, "saved_fraction": found.saved, "error": found.error, **rows}


def _findings(subsampler: Subsampler) -> list[str | None] | None:
    """Return what the data showed of each sample; a suspect is no more than that."""
    if not isinstance(subsampler.policy, Watch):
        return None
    found = subsampler.findings()
    names = np.full(subsampler.n, None, object)
    for name, text in _FINDINGS.items():
        names[getattr(found, name).numpy()] = text
    return list(names)


def _draw(
    run: RunDirectory,
    subsampler: Subsampler,
    classes: tuple[str, ...] | None,
    summary: dict[str, Any],
    reason_of: ReasonOf | None,
) -> list[Path]:
    """Draw the chart of the finished epochs, and return its files."""
    history, labels = subsampler.history, subsampler.labels
    n, class_numbers = history[-1].remaining, None
    if labels is not None:
        class_numbers = resized(subsampler.under_way.class_ids.encode(labels.numpy()), n, -1)
    return save_usage(
        history,
        run.path,
        labels=class_numbers,
        classes=classes,
        scores=resized(subsampler.scores.numpy(), n, np.nan),
        reached=reached_of(summary["epochs"], summary["evaluated_on"]),
        reason_of=reason_of,
        unit=summary["score_unit"],
    )


def _samples(
    subsampler: Subsampler, samples: DataFile, names: list[str] | None, data: str, *, nats: bool
) -> str:
    """Return ``samples.csv``."""
    scores, reason = subsampler.scores.numpy(), subsampler.reason.numpy()
    times = resized(times_used(subsampler.history), subsampler.n, 0)
    files = None if samples.files is None else [relative(file, data) for file in samples.files]
    class_numbers = subsampler.under_way.class_ids.encode(subsampler.predicted.numpy()).tolist()
    predicted = [samples.class_name(i) if i >= 0 else None for i in class_numbers]
    return samples_csv(
        names,
        scores,
        reason,
        times,
        nats=nats,
        files=files,
        predicted=predicted,
        findings=_findings(subsampler),
    )


def _of_tokens(epochs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the entries of a language model: bits a character, and the tokens that a rule left out."""
    entries: dict[str, Any] = {}
    if "bits_per_character" in epochs[-1]:
        entries["bits_per_character"] = epochs[-1]["bits_per_character"]
    for name in ("tokens", "tokens_learned", "tokens_outliers"):
        if name in epochs[-1]:
            entries[name] = sum(row.get(name, 0) for row in epochs)
    return entries


def perplexity(nats: float | None) -> float | None:
    """Return the exponential of a loss in nats; None if there is no loss, or no float can hold the result.

    >>> perplexity(0.0), perplexity(float("nan")), perplexity(1e4)
    (1.0, None, None)
    """
    return None if nats is None or not nats < LARGEST else math.exp(nats)


def _rows(summary: dict[str, Any], subsampler: Subsampler) -> list[tuple[str, str]]:
    """Return the rows of the table at the end, as names and values."""
    backward, forward, full = (
        summary[name] for name in ("samples_backward", "samples_forward_only", "samples_full")
    )
    cost = 1 - (backward + FORWARD_SHARE * forward) / full
    rows = [("DIVERGED", summary["remarks"][0])] if summary["diverged"] else []
    if not summary["finished"] and (done := len(summary["epochs"])) < subsampler.epochs:
        rows.append(("Stopped", f"after {done} of {plural(subsampler.epochs, 'epoch')}"))
    saved = f"{summary['saved_fraction']:.1%} of the samples; {cost:.1%} if measuring one costs a third"
    rows += [
        *_metrics(summary),
        ("Samples", f"{backward:,} trained on, {forward:,} measured, of {full:,} in full training"),
        ("Saved", saved),
    ]
    if tokens := summary.get("tokens"):
        learned, outliers = summary["tokens_learned"] / tokens, summary["tokens_outliers"] / tokens
        rows.append(("Tokens", f"{learned:.1%} learned and {outliers:.1%} outliers, without a gradient"))
    rows += _outliers(subsampler)
    time = f"{summary['seconds']:.1f} s, {summary['record_seconds']:.2f} s of it recording scores"
    return [*rows, ("Time", time)]


def _metrics(summary: dict[str, Any]) -> list[tuple[str, str]]:
    rows, part = [], summary["evaluated_on"].capitalize()
    suffix = " of a network that diverged" if summary["diverged"] else ""
    bits, loss = summary.get("bits_per_character"), summary["test_loss"]
    if bits is not None:
        rows.append((part, f"{number(bits)} bits a character" if math.isfinite(bits) else _NOT_FINITE))
    if summary["accuracy"] is not None:
        name = "accuracy" if bits is None else "next token"
        rows.append((f"{part} {name}", f"{summary['accuracy']:.2%}{suffix}"))
    if summary["train_accuracy"] is not None:
        samples = "while training, on the samples that the last epoch trained on"
        rows.append(("Train accuracy", f"{summary['train_accuracy']:.2%}  ({samples})"))
    if summary["perplexity"] is not None:
        value = f"{number(summary['perplexity'])}  (exp of {number(loss)} nats)"
        rows.append((f"{part} perplexity", value))
    elif loss is not None:
        rows.append((f"{part} loss", number(loss) if math.isfinite(loss) else _NOT_FINITE))
    return rows


def _outliers(subsampler: Subsampler) -> list[tuple[str, str]]:
    """Return how many samples the last epoch left out as outliers, and how many labels are suspect."""
    count = subsampler.history[-1].outliers
    if not count:
        return []
    rows = [("Outliers", f"{plural(count, 'sample')} with unusually high scores (reason outlier)")]
    if subsampler.labels is None:
        return rows
    left_out = subsampler.reason == Reason.OUTLIER
    predicted = subsampler.predicted[left_out].long()
    wrong = int(((predicted >= 0) & (predicted != subsampler.labels[left_out].long())).sum())
    if wrong:
        rows.append(("Suspect labels", f"{wrong:,} of these, for which the network predicts another class"))
    return rows
