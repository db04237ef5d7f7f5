"""What a run leaves behind when it has ended: the summary, the samples and the chart."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Trainer

from ..charts import Reached, save_usage
from ..charts.usage_rows import ReasonOf
from ..history import FORWARD_SHARE, EpochRecord, fitted, times_used
from ..plan import thin_epochs
from ..policies import RandomFraction
from ..run_directory import RunDirectory
from ..sample_table import samples_csv
from ..step_rules import StepRule
from ..subsampler import Subsampler
from .console import Console
from .payoff import remarks, time_saved


def samples_evaluated(trainer: Trainer) -> int | None:
    """Return how many samples one evaluation counts; None where nobody knows."""
    try:
        return len(trainer.val_dataloaders.dataset) or None  # type: ignore[union-attr]
    except (AttributeError, TypeError):
        return None


def counts(history: list[EpochRecord], full: int, step_rule: StepRule | None) -> dict[str, Any]:
    """Return how many samples were used, of ``full``, and which share of them that saved.

    A step rule measures every row of a batch by a forward pass of its own, those that it then trains on too.
    """
    backward = sum(record.backward for record in history)
    forward = sum(record.forward_only for record in history)
    return {
        "samples_backward": backward,
        "samples_forward_only": forward if step_rule is None else forward + backward,
        "samples_full": full,
        "saved_fraction": 1 - backward / full,
    }


def finish(
    run: RunDirectory,
    subsampler: Subsampler,
    classes: tuple[str, ...] | None,
    epochs: list[dict[str, Any]],
    step_rule: StepRule | None,
    more: dict[str, Any],
    console: Console,
    reason_of: ReasonOf | None = None,
) -> dict[str, Any]:
    """Write the summary, the samples and the chart; print the table; return the summary.

    Args:
        run: where to write.
        subsampler: after its last epoch.
        classes: names of the classes, or None.
        epochs: what is said of each.
        step_rule: which chose rows of each batch, or None.
        more: what else the summary says: seconds, steps, accuracy by class.
        console: where to print.
        reason_of: says why samples were left out of an epoch, for the chart.
    """
    history, labels = subsampler.history, subsampler.labels
    last = epochs[-1]
    nats = subsampler.score is None or subsampler.score.unit == "nats"
    summary = {
        "accuracy": last["accuracy"],
        "test_loss": last["test_loss"],
        "perplexity": None
        if last["test_loss"] is None or not (nats or labels is not None)
        else math.exp(min(last["test_loss"], 700.0)),
        **_of_tokens(epochs),
        **counts(history, sum(record.n for record in history), step_rule),
        "samples_forward_only": sum(row["samples_forward_only"] for row in epochs),
        **more,
        "record_seconds": subsampler.record_seconds,
        "time_saved_fraction": time_saved(epochs),
        "policy": repr(subsampler.policy),
        "step_rule": None if step_rule is None else repr(step_rule),
        "schedule": repr(subsampler.schedule),
        "score": repr(subsampler.score),
        "seed": subsampler.seed,
        "epochs": epochs,
    }
    policy = subsampler.policy
    full = isinstance(policy, RandomFraction) and policy.fraction == 0 and step_rule is None
    told = labels is None or bool((subsampler.predicted >= 0).any())
    summary["remarks"] = remarks(
        summary,
        rule=not full,
        thin=thin_epochs(policy, subsampler.schedule),
        min_kept=subsampler.min_kept,
        unpredicted=policy.reads_predictions and not told,
    )
    run.write_summary(summary)
    numbers = [] if labels is None else subsampler.class_ids.encode(labels.numpy()).tolist()
    names = None if labels is None or classes is None else [classes[i] for i in numbers]
    scores, reason = subsampler.scores.numpy(), subsampler.reason.numpy()
    times = fitted(times_used(history), subsampler.n, 0)
    table = samples_csv(names, scores, reason, times, nats=nats)
    run.write_text(run.samples_path, table)
    charts = _draw(run, subsampler, classes, summary, reason_of)
    console.table(_rows(summary, labelled=labels is not None))
    console.line()
    for remark in summary["remarks"]:
        console.line(remark)
    console.line(f"Run directory: {run.path}")
    console.line(f"Chart:         {charts[0]}")
    console.line(f"Report:        fallow report {run.path}")
    return summary


def _draw(
    run: RunDirectory,
    subsampler: Subsampler,
    classes: tuple[str, ...] | None,
    summary: dict[str, Any],
    reason_of: ReasonOf | None,
) -> list[Path]:
    """Draw the chart of the finished epochs, and return its files."""
    history, labels = subsampler.history, subsampler.labels
    n, unit = history[-1].there, "nats" if subsampler.score is None else subsampler.score.unit
    return save_usage(
        history,
        run.path,
        labels=None if labels is None else fitted(labels.numpy(), n, -1),
        classes=classes,
        scores=fitted(subsampler.scores.numpy(), n, np.nan),
        reached=_reached(summary),
        reason_of=reason_of,
        unit=unit if unit == "nats" else "",
    )


def _reached(summary: dict[str, Any]) -> Reached | None:
    """Return what the network reached after each epoch: bits a character, or else accuracy, or else loss."""
    for field, words in (
        ("bits_per_character", "bits a character"),
        ("accuracy", "accuracy"),
        ("test_loss", "loss"),
    ):
        found = {row["epoch"]: row[field] for row in summary["epochs"] if row.get(field) is not None}
        if found:
            share = field == "accuracy"
            name = f"{summary['evaluated_on'].capitalize()} {words}"
            return Reached(name, found, percent=share, less_is_better=not share)
    return None


def _of_tokens(epochs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a language model says more: bits a character, and the tokens that a rule left out."""
    found: dict[str, Any] = {}
    if "bits_per_character" in epochs[-1]:
        found["bits_per_character"] = epochs[-1]["bits_per_character"]
    for name in ("tokens", "tokens_learned", "tokens_outliers"):
        if name in epochs[-1]:
            found[name] = sum(row.get(name, 0) for row in epochs)
    return found


def _rows(summary: dict[str, Any], *, labelled: bool) -> list[tuple[str, str]]:
    """Return what the table at the end says."""
    backward, forward, full = (
        summary[name] for name in ("samples_backward", "samples_forward_only", "samples_full")
    )
    cost = 1 - (backward + FORWARD_SHARE * forward) / full
    rows = []
    part = summary["evaluated_on"].capitalize()
    bits = summary.get("bits_per_character")
    if bits is not None:
        rows.append((part, f"{bits:.4f} bits a character"))
    if summary["accuracy"] is not None:
        what = "accuracy" if bits is None else "next token"
        rows.append((f"{part} {what}", f"{summary['accuracy']:.2%}"))
    if summary["perplexity"] is not None:
        rows.append(
            (f"{part} perplexity", f"{summary['perplexity']:.4f}  (exp of {summary['test_loss']:.4f} nats)")
        )
    elif summary["test_loss"] is not None:
        rows.append((f"{part} loss", f"{summary['test_loss']:.4f}"))
    rows += [
        ("Samples", f"{backward:,} trained on, {forward:,} measured, of {full:,} in full training"),
        ("Saved", f"{summary['saved_fraction']:.1%} of the samples; {cost:.1%} with measuring at a third"),
    ]
    if every := summary.get("tokens"):
        learned, odd = summary["tokens_learned"] / every, summary["tokens_outliers"] / every
        rows.append(("Tokens", f"{learned:.1%} learned and {odd:.1%} outliers, without a gradient"))
    outliers = summary["epochs"][-1]["outliers"]
    if outliers:
        odd = "look mislabelled" if labelled else "surprise far too much"
        rows.append(("Outliers", f"{outliers:,} samples {odd}: reason outlier in samples.csv"))
    rows += [
        ("Time", f"{summary['seconds']:.1f} s, {summary['record_seconds']:.2f} s of it recording scores"),
    ]
    return rows
