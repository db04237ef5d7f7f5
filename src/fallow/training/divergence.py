"""Whether a training diverged, or ended with a network that does no better than guessing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..arrays.shares import error_of_share
from ..report.text import plural

Rows = list[dict[str, Any]]

BAD_SHARE = 0.05
"""With more scores that are not finite than this share, the epoch went wrong."""
_FEW = 20
"""An accuracy of fewer samples tells hardly anything."""
_SURE, _VERY_SURE = 2.0, 4.0
"""Standard errors: of what is told apart, and of what one of many epochs may reach by chance."""
_WORSE, _TIMES, _ABSURD = 3.0, 10.0, 1e4
"""A network has diverged whose loss is so many times that of guessing, beside an accuracy of guessing; that
of its first epoch, if nobody knows what guessing gives; or that of guessing, whatever its accuracy is."""


def divergence(summary: Mapping[str, Any]) -> str:
    """Return in a sentence how the training diverged; nothing if it did not.

    A training diverged if its losses are not finite at its end, or if its network was better than guessing
    and no longer is, or never was and errs by far more than guessing would.

    Args:
        summary: as it lies in ``summary.json``, with ``guessing``: the accuracy and the loss of a network
            that knows nothing, each None if unknown.
    """
    rows: Rows = summary["epochs"]
    said = _not_finite(summary, rows) or _by_accuracy(summary, rows) or _by_loss(summary, rows)
    return f"The training diverged: {said}" if said else ""


def no_better_than_guessing(summary: Mapping[str, Any]) -> str:
    """Return in a sentence that the network is not shown to have learned anything; nothing if it is."""
    accuracy, samples = _finite(summary["accuracy"]), summary.get("samples_evaluated")
    guess, loss = _guessing(summary)
    part = str(summary["evaluated_on"])
    if accuracy is not None:
        if guess is None or not _at_chance(accuracy, guess, samples):
            return ""
        said = f"{part.capitalize()} accuracy, {accuracy:.2%}, is"
        if not samples or samples < _FEW:
            many = plural(samples or 0, "sample")
            return f"{said} measured on {many}: too few to tell whether the network has learned."
        return (
            f"{said} not surely above the {guess:.2%} that always naming the most frequent class gets on "
            f"these {samples:,} samples: nothing shows that the network has learned."
        )
    found = _finite(summary["test_loss"])
    if loss is None or found is None or found < loss:
        return ""
    return (
        f"The {part} loss, {found:.4g}, is not below that of guessing, {loss:.4g}: nothing shows that the "
        "network has learned."
    )


def _not_finite(summary: Mapping[str, Any], rows: Rows) -> str:
    if not (_broken(rows[-1]) or (_not_a_number(rows[-1]["test_loss"]) and not _still_right(summary, rows))):
        return ""
    first = len(rows) - 1
    while first and (_broken(rows[first - 1]) or _not_a_number(rows[first - 1]["test_loss"])):
        first -= 1
    when = f"from epoch {first + 1} on" if first + 1 < len(rows) else f"in the last epoch, {first + 1},"
    return f"{when} its losses were not finite. The network is of no use."


def _still_right(summary: Mapping[str, Any], rows: Rows) -> bool:
    """Return whether the accuracy at the end shows a sound network, whatever was logged as its loss."""
    accuracy, samples = _finite(rows[-1]["accuracy"]), summary.get("samples_evaluated")
    if accuracy is None:
        return False
    guess, _ = _guessing(summary)
    if guess is not None:
        return not _at_chance(accuracy, guess, samples)
    best = max(_finite(row["accuracy"]) or 0.0 for row in rows)
    return len(rows) > 1 and accuracy >= best - _SURE * (error_of_share(best, samples) or 0.0)


def _by_accuracy(summary: Mapping[str, Any], rows: Rows) -> str:
    """Return how the accuracy fell to that of guessing, or how the loss says less than guessing would."""
    guess, loss = _guessing(summary)
    samples, accuracy = summary.get("samples_evaluated"), _finite(rows[-1]["accuracy"])
    trained, tested = (_finite(rows[-1][name]) for name in ("mean_score", "test_loss"))
    part = str(summary["evaluated_on"])
    if guess is None or accuracy is None:
        return ""
    ends = ""
    if loss is not None and tested is not None:
        ends = (
            f"it ends at a {part} loss of {tested:.4g}, where guessing gives {loss:.4g}, and an accuracy of "
            f"{accuracy:.2%}. The network is of no use."
        )
        if tested > _ABSURD * loss:
            return ends
    if not _at_chance(accuracy, guess, samples):
        return ""
    values = [_finite(row["accuracy"]) for row in rows]
    best = max(range(len(rows)), key=lambda at: values[at] or 0.0)
    sure = _VERY_SURE * (error_of_share(guess, samples) or 0.0)
    learned = (values[best] or 0.0) > guess + sure and _trains_worse(summary, rows[best], rows[-1])
    if learned:
        return (
            f"{part} accuracy fell from {values[best]:.2%} after epoch {best + 1} to {accuracy:.2%} at the "
            f"end, where always naming the most frequent class gives {guess:.2%}. The network is of no use."
        )
    if loss is None or trained is None or tested is None or summary.get("score_unit") != "nats":
        return ""
    return ends if min(trained, tested) > _WORSE * loss else ""


def _trains_worse(summary: Mapping[str, Any], best: dict[str, Any], last: dict[str, Any]) -> bool:
    """Return whether training samples surprise more than they did: a network that overfits knows them."""
    was, now = _finite(best["mean_score"]), _finite(last["mean_score"])
    return summary.get("score_unit") != "nats" or was is None or now is None or now > was


def _by_loss(summary: Mapping[str, Any], rows: Rows) -> str:
    """Return how the loss rose, of a network without an accuracy to be judged by."""
    guess, chance = _guessing(summary)
    losses = [_finite(row["test_loss"]) for row in rows]
    last = losses[-1]
    if guess is not None or last is None or (chance is None and _still_right(summary, rows)):
        return ""
    known = [loss for loss in losses if loss is not None]
    lowest, part = min(known), str(summary["evaluated_on"])
    if chance is not None:
        if last > _WORSE * chance or (last >= chance > 1.1 * lowest):
            return (
                f"it ends at a {part} loss of {last:.4g}, where guessing gives {chance:.4g}. The network is "
                "of no use."
            )
        return ""
    if lowest <= 0 or last <= _TIMES * known[0]:
        return ""
    return f"its {part} loss rose from {lowest:.4g} in epoch {losses.index(lowest) + 1} to {last:.4g}."


def _broken(row: Mapping[str, Any]) -> bool:
    """Return whether too many scores of an epoch were not finite."""
    measured = row["backward"] + row.get("forward_only", 0)
    return bool(row["bad"] > BAD_SHARE * max(1, measured))


def _at_chance(accuracy: float, guess: float, samples: int | None) -> bool:
    return accuracy <= guess + _SURE * (error_of_share(guess, samples) or 0.0)


def _guessing(summary: Mapping[str, Any]) -> tuple[float | None, float | None]:
    found = summary.get("guessing") or {}
    return found.get("accuracy"), found.get("loss")


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _not_a_number(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
