"""Detects a training that diverged, or a network that does no better than guessing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..arrays.shares import error_of_share
from ..report.text import plural

Rows = list[dict[str, Any]]

BAD_SHARE = 0.05
"""The epoch failed if a larger share of its scores is not finite."""
_FEW = 20
"""An accuracy on fewer samples says little."""
_SURE, _VERY_SURE = 2.0, 4.0
"""Standard errors for a single comparison, and for the best of many epochs, which may be high by chance."""
_WORSE, _TIMES, _ABSURD = 3.0, 10.0, 1e4
"""A network has diverged if its loss is this multiple of the loss of guessing, at the accuracy of guessing;
of its first loss, if the loss of guessing is unknown; of the loss of guessing, at any accuracy."""


def divergence(summary: Mapping[str, Any]) -> str:
    """Return a sentence on how the training diverged, or "" if it did not.

    A training diverged if its losses are not finite at the end, if its network was better than guessing
    and no longer is, or if it never was and its loss is far above that of guessing.

    Args:
        summary: the content of ``summary.json``. ``guessing`` holds the accuracy and the loss of an
            untrained network, each None if unknown.
    """
    rows: Rows = summary["epochs"]
    reason = _not_finite(summary, rows) or _by_accuracy(summary, rows) or _by_loss(summary, rows)
    return f"The training diverged: {reason}" if reason else ""


def no_better_than_guessing(summary: Mapping[str, Any]) -> str:
    """Return a sentence if there is no evidence that the network has learned, and "" otherwise."""
    accuracy, samples = _finite(summary["accuracy"]), summary.get("samples_evaluated")
    guess, chance = _guessing(summary)
    part = str(summary["evaluated_on"])
    if accuracy is not None:
        if guess is None or not _at_chance(accuracy, guess, samples):
            return ""
        subject = f"{part.capitalize()} accuracy, {accuracy:.2%}, is"
        if not samples or samples < _FEW:
            count = plural(samples or 0, "sample")
            return f"{subject} measured on {count}: too few to tell whether the network has learned."
        return (
            f"{subject} not significantly above {guess:.2%}, the result of always naming the most frequent "
            f"class of these {samples:,} samples: there is no evidence that the network has learned."
        )
    loss = _finite(summary["test_loss"])
    if chance is None or loss is None or loss < chance:
        return ""
    return (
        f"The {part} loss, {loss:.4g}, is not below that of guessing, {chance:.4g}: there is no evidence "
        "that the network has learned."
    )


def _not_finite(summary: Mapping[str, Any], rows: Rows) -> str:
    if not (_broken(rows[-1]) or (_not_a_number(rows[-1]["test_loss"]) and not _still_right(summary, rows))):
        return ""
    first = len(rows) - 1
    while first and (_broken(rows[first - 1]) or _not_a_number(rows[first - 1]["test_loss"])):
        first -= 1
    when = f"from epoch {first + 1} on" if first + 1 < len(rows) else f"in the last epoch, {first + 1},"
    return f"{when} its losses were not finite. The network is unusable."


def _still_right(summary: Mapping[str, Any], rows: Rows) -> bool:
    """Return whether the last accuracy shows a sound network, whatever loss was logged."""
    accuracy, samples = _finite(rows[-1]["accuracy"]), summary.get("samples_evaluated")
    if accuracy is None:
        return False
    guess, _ = _guessing(summary)
    if guess is not None:
        return not _at_chance(accuracy, guess, samples)
    best = max(_finite(row["accuracy"]) or 0.0 for row in rows)
    return len(rows) > 1 and accuracy >= best - _SURE * (error_of_share(best, samples) or 0.0)


def _by_accuracy(summary: Mapping[str, Any], rows: Rows) -> str:
    """Return how the accuracy fell to that of guessing, or how far the loss is above that of guessing."""
    guess, chance = _guessing(summary)
    samples, accuracy = summary.get("samples_evaluated"), _finite(rows[-1]["accuracy"])
    train_score, test_loss = (_finite(rows[-1][name]) for name in ("mean_score", "test_loss"))
    part = str(summary["evaluated_on"])
    if guess is None or accuracy is None:
        return ""
    sentence = ""
    if chance is not None and test_loss is not None:
        sentence = (
            f"it ends at a {part} loss of {test_loss:.4g} (guessing gives {chance:.4g}) and an accuracy of "
            f"{accuracy:.2%}. The network is unusable."
        )
        if test_loss > _ABSURD * chance:
            return sentence
    if not _at_chance(accuracy, guess, samples):
        return ""
    values = [_finite(row["accuracy"]) for row in rows]
    best = max(range(len(rows)), key=lambda epoch: values[epoch] or 0.0)
    margin = _VERY_SURE * (error_of_share(guess, samples) or 0.0)
    if (values[best] or 0.0) > guess + margin and _trains_worse(summary, rows[best], rows[-1]):
        return (
            f"{part} accuracy fell from {values[best]:.2%} after epoch {best + 1} to {accuracy:.2%} at the "
            f"end. Always naming the most frequent class gives {guess:.2%}. The network is unusable."
        )
    if chance is None or train_score is None or test_loss is None or summary.get("score_unit") != "nats":
        return ""
    return sentence if min(train_score, test_loss) > _WORSE * chance else ""


def _trains_worse(summary: Mapping[str, Any], best: dict[str, Any], last: dict[str, Any]) -> bool:
    """Return whether training scores are higher than at the best epoch. If it overfits, they are lower."""
    was, now = _finite(best["mean_score"]), _finite(last["mean_score"])
    return summary.get("score_unit") != "nats" or was is None or now is None or now > was


def _by_loss(summary: Mapping[str, Any], rows: Rows) -> str:
    """Return how the loss rose, for a network that is not judged by an accuracy."""
    guess, chance = _guessing(summary)
    losses = [_finite(row["test_loss"]) for row in rows]
    last = losses[-1]
    if guess is not None or last is None or (chance is None and _still_right(summary, rows)):
        return ""
    known = [loss for loss in losses if loss is not None]
    lowest, part = min(known), str(summary["evaluated_on"])
    if chance is not None:
        # The second case: it was clearly better than guessing, and no longer is.
        if last > _WORSE * chance or (last >= chance > 1.1 * lowest):
            return (
                f"it ends at a {part} loss of {last:.4g} (guessing gives {chance:.4g}). The network is "
                "unusable."
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
    guessing = summary.get("guessing") or {}
    return guessing.get("accuracy"), guessing.get("loss")


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _not_a_number(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
