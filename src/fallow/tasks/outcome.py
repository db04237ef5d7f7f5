"""What a run leaves behind when it has ended: the summary, the samples and the chart."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from lightning.pytorch import Trainer

from ..charts import save_usage
from ..data_file import DataFile
from ..history import FORWARD_SHARE, EpochRecord, fitted, times_used
from ..plan import thin_epochs
from ..policies import RandomFraction
from ..run_directory import RunDirectory
from ..sample_names import relative
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
    samples: DataFile,
    epochs: list[dict[str, Any]],
    step_rule: StepRule | None,
    more: dict[str, Any],
    console: Console,
) -> dict[str, Any]:
    """Write the summary, the samples and the chart; print the table; return the summary.

    Args:
        run: where to write.
        subsampler: after its last epoch.
        samples: what the samples are: their classes and files.
        epochs: what is said of each.
        step_rule: which chose rows of each batch, or None.
        more: what else the summary says: seconds, steps, accuracy by class.
        console: where to print.
    """
    history, labels = subsampler.history, subsampler.labels
    last = epochs[-1]
    nats = subsampler.score is None or subsampler.score.unit == "nats"
    summary = {
        "accuracy": last["accuracy"],
        "train_accuracy": last.get("train_accuracy"),
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
    classes = samples.classes
    names = None if labels is None or classes is None else [classes[i] for i in labels.tolist()]
    table = _samples(subsampler, samples, names, str(more["settings"]["data"]), nats=nats)
    run.write_text(run.samples_path, table)
    drawn = None if names is None else fitted(np.asarray(names), history[-1].n, "")
    charts = save_usage(history, run.path, labels=drawn, unit="nats" if nats else "")
    console.table(_rows(summary, labelled=labels is not None))
    console.line()
    for remark in summary["remarks"]:
        console.passage(remark)
    console.line(f"Run directory: {run.path}")
    console.line(f"Chart:         {charts[0]}")
    console.line(f"Report:        fallow report {run.path}")
    return summary


def _samples(
    subsampler: Subsampler, samples: DataFile, names: list[str] | None, data: str, *, nats: bool
) -> str:
    """Return ``samples.csv``."""
    scores, reason = subsampler.scores.numpy(), subsampler.reason.numpy()
    times = fitted(times_used(subsampler.history), subsampler.n, 0)
    files = None if samples.files is None else [relative(file, data) for file in samples.files]
    predicted = [samples.class_name(i) if i >= 0 else None for i in subsampler.predicted.tolist()]
    return samples_csv(names, scores, reason, times, nats=nats, files=files, predicted=predicted)


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
    if summary["train_accuracy"] is not None:
        said = "while training, on the samples that the last epoch trained on"
        rows.append(("Train accuracy", f"{summary['train_accuracy']:.2%}  ({said})"))
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
