"""Remarks on the result of a run: that it diverged, or why leaving samples out saved little."""

from __future__ import annotations

import math
from statistics import median
from typing import Any

from ..arrays.shares import error_of_share
from ..core.history import FORWARD_SHARE
from ..report.text import plural
from .divergence import divergence, no_better_than_guessing

LITTLE = 0.10
"""A smaller saving gets a remark, as do savings in time and in samples that differ by more."""
SHORT = 60.0
"""Full training of fewer seconds leaves little to save, and its times are too short to compare."""
WAITING = 0.4
"""A larger share of the time spent waiting for data gets a remark on the loader."""
EARLY = 0.6
"""The last epoch is compared with the one at this share of the training. It is fixed beforehand, as the
best of many epochs is partly the best by chance."""
MATTERS = 0.01
"""The last epochs get a remark if they surely gained less accuracy than this."""
_NO_SAVING = "Leaving samples out saved nothing"
RISE, FEWEST = 0.05, 30
"""Bits and losses have an unknown noise: they must rise by this share, over at least this many samples."""


def time_saved(epochs: list[dict[str, Any]]) -> float | None:
    r"""Return the share of full training's time that was saved.

    .. math:: 1 - \sum_e t_e / (E t), \quad t = N \cdot \operatorname{median}_e (t_e - v_e) / b_e + \bar v

    with :math:`t_e` seconds, :math:`v_e` of them evaluating, and :math:`b_e` samples trained on in epoch e.
    If there are others, t leaves out the first epoch, in which caches and kernels warm up.

    Args:
        epochs: the rows of ``summary.json``.

    Returns:
        None if no sample was trained on, or no time passed.
    """
    steady = [epoch for epoch in epochs[1:] or epochs if epoch["backward"]]
    if not steady:
        return None
    # A median, as other programs may slow down single epochs.
    rate = median(max(0.0, e["seconds"] - e["evaluating_seconds"]) / e["backward"] for e in steady)
    full = [e["n"] * rate + e["evaluating_seconds"] for e in epochs]
    if sum(full) <= 0:
        return None
    # Caches and kernels would have to warm up in full training too.
    spent = sum(epoch["seconds"] for epoch in epochs[1:]) + min(epochs[0]["seconds"], full[0])
    return float(1 - spent / sum(full))


def remarks(
    summary: dict[str, Any],
    *,
    rule: bool,
    thin: int = 1,
    fewest_kept: int = 1,
    unpredicted: bool = False,
    share: float | None = None,
    own: bool = False,
    kept_steps: bool = False,
    fewest_samples: int = 1,
) -> list[str]:
    """Return remarks on the result: first whether the training diverged, then why nothing was saved.

    A training that diverged or has not ended gets no remark on savings.

    Args:
        summary: the content of ``summary.json``.
        rule: whether samples can be left out at all.
        thin: the number of epochs in which they can be left out.
        fewest_kept: the number of samples that each epoch keeps at least.
        unpredicted: whether the rule reads predicted classes, there are labels, and no class was recorded.
        share: of the samples that the rule leaves out of an epoch; None if it has no fixed share.
        own: whether the module is the user's own, whose learning rate no option sets.
        kept_steps: whether the batches are thinned, so that no step is dropped.
        fewest_samples: how many samples the rule needs to leave any out.
    """
    epochs = summary["epochs"]
    if summary["diverged"]:
        rate = "the learning rate in your module" if own else "--learning_rate"
        return [f"{divergence(summary)} Lower {rate}, and check the inputs."]
    sentences = _bad_scores(epochs)
    if not summary.get("finished", True):
        return sentences
    guesses = no_better_than_guessing(summary)
    if guesses:
        sentences.append(guesses)
    if rule and thin > 0 and unpredicted:
        sentences.append(
            "No predicted class was recorded. With predictions, wrong labels are told from hard samples more "
            "reliably. Return `predicted` (class ids) from training_step, beside the losses."
        )
    if rule:
        sentences += _savings(
            summary, epochs, thin, fewest_kept, share, kept_steps=kept_steps, fewest_samples=fewest_samples
        )
    sentences += _waiting_and_size(summary, epochs, rule)
    # A network that learned nothing cannot have trained too long.
    return sentences if guesses else sentences + _too_long(summary)


def _bad_scores(epochs: list[dict[str, Any]]) -> list[str]:
    """Return remarks on scores and on a last loss that are not finite, in a training that did not diverge."""
    sentences = []
    bad = sum(epoch["bad"] for epoch in epochs)
    if bad:
        numbers = [number for number, epoch in enumerate(epochs, 1) if epoch["bad"]]
        first, last = numbers[0], numbers[-1]
        when = f"in epoch {first}" if first == last else f"in epochs {first} to {last}"
        sentences.append(
            f"{plural(bad, 'score was', 'scores were')} not finite, {when} of {len(epochs)}. Check the "
            "loss and the inputs."
        )
    loss = epochs[-1]["test_loss"]
    if loss is not None and not math.isfinite(loss):
        sentences.append("The loss of the last evaluation is not finite. Check how it is computed.")
    return sentences


def _no_saving(epochs: list[dict[str, Any]], thin: int, fewest_kept: int, fewest_samples: int) -> str:
    """Return why every epoch was full."""
    if thin <= 0:
        return (
            f"{_NO_SAVING}: every epoch was full. A sample is measured before it is left out, so savings "
            "begin after the warm-up epochs. For one epoch, train on a part of the data instead (--samples)."
        )
    n = epochs[-1]["n"]
    if fewest_kept < n < fewest_samples:
        return f"{_NO_SAVING}: the rule needs {fewest_samples} samples at least, and there are {n:,}."
    if fewest_kept < n:
        return f"{_NO_SAVING}: the rule found no sample to leave out."
    if n == 1:
        return f"{_NO_SAVING}: there is only one sample."
    return (
        f"{_NO_SAVING}: all {n:,} samples are kept to fill whole batches or to meet the minimum. "
        "Lower --batch_size, --min_kept or --min_kept_per_class."
    )


def _not_ready(summary: dict[str, Any]) -> str:
    """Return why no density was reliable; "" if one was, or if scores come from elsewhere."""
    density = summary.get("density")
    if density is None or density["ready"]:
        return ""
    if density["fits"] < 2:
        return (
            f"{_NO_SAVING}: too few samples to fit the density of the activations twice. Train longer, or on "
            "more samples."
        )
    stable = math.floor(100 * density["stability"]) / 100  # rounded up, 0.799 would look sufficient
    agreement = f"the ranks of the last two fits agree by {stable:.2f} (0.8 is needed)"
    if not math.isnan(density["agreement"]):  # NaN if the density has no halves
        agreement += f", those of its halves by {density['agreement']:.2f} (0.7)"
    return (
        f"{_NO_SAVING}: the density of the activations was not reliable at the end: {agreement}. "
        "Train on more samples, or with less dropout, or prune by the default score."
    )


def _savings(
    summary: dict[str, Any],
    epochs: list[dict[str, Any]],
    thin: int,
    fewest_kept: int,
    share: float | None,
    *,
    kept_steps: bool,
    fewest_samples: int,
) -> list[str]:
    saved = summary["saved_fraction"]
    if all(epoch["backward"] == epoch["n"] for epoch in epochs):
        return [_not_ready(summary) or _no_saving(epochs, thin, fewest_kept, fewest_samples)]
    if saved < LITTLE:
        little = f"Leaving samples out saved little: {saved:.1%} of the samples."
        if share is not None:
            possible = f"{thin} of {plural(len(epochs), 'epoch')}"
            return [f"{little} The rule leaves {share:.0%} of them out of {possible}."]
        more = "A higher threshold, fraction or --error leaves out more, if it has one."
        return [f"{little} The rule found no more. {more}"]
    time_saved = summary["time_saved_fraction"]
    if time_saved is None or time_saved >= saved - LITTLE or _full_seconds(summary, epochs) < SHORT:
        return []
    cause = _fixed_cost(summary, epochs, kept_steps=kept_steps)
    # Rounded as it is printed, so that no sentence says "grew by 0.0%".
    if round(time_saved, 3) < 0:
        return [f"{saved:.0%} of the samples were saved, but the time grew by {-time_saved:.1%}: {cause}."]
    return [f"{saved:.0%} of the samples saved only {max(time_saved, 0.0):.0%} of the time: {cause}."]


def _fixed_cost(summary: dict[str, Any], epochs: list[dict[str, Any]], *, kept_steps: bool) -> str:
    """Return which part of the time does not shrink with the samples."""
    seconds = sum(epoch["seconds"] for epoch in epochs)
    evaluating = sum(epoch["evaluating_seconds"] for epoch in epochs) / seconds if seconds else 0.0
    if evaluating > LITTLE:
        return f"evaluating takes {evaluating:.0%} of it and does not shrink"
    forward = FORWARD_SHARE * summary.get("samples_forward_only", 0)
    backward = summary.get("samples_backward", 0)
    if forward > LITTLE * (forward + backward):
        return f"measuring takes about {forward / (forward + backward):.0%} of the work"
    if kept_steps:
        return (
            "a thin batch takes nearly as long as a whole one here. With --kept_steps false there are fewer "
            "batches, all whole; fewer steps may cost accuracy"
        )
    return "part of each epoch does not shrink with its samples"


def _full_seconds(summary: dict[str, Any], epochs: list[dict[str, Any]]) -> float:
    """Return an estimate of the seconds of full training."""
    seconds, saved = sum(epoch["seconds"] for epoch in epochs), summary["time_saved_fraction"]
    return float(seconds if saved is None or saved >= 1 else seconds / (1 - saved))


def _waiting_and_size(summary: dict[str, Any], epochs: list[dict[str, Any]], rule: bool) -> list[str]:
    full = _full_seconds(summary, epochs)
    if full < SHORT:
        if not rule:
            return []
        duration = "less than a second" if full < 1 else f"about {full:.0f} s"
        return [f"Full training takes {duration} here, so there is little to save."]
    seconds = sum(epoch["seconds"] for epoch in epochs)
    waiting = sum(epoch["waiting_seconds"] for epoch in epochs)
    if waiting <= WAITING * seconds:
        return []
    return [
        f"Training waited for its data {waiting / seconds:.0%} of the time ({waiting:.0f} of {seconds:.0f} s)"
        ": faster loading (--workers) saves up to that much."
    ]


def _too_long(summary: dict[str, Any]) -> list[str]:
    """Return a remark if the last epochs did not improve the bits per character, the accuracy or the loss.

    The gain in accuracy must be below ``MATTERS`` by two standard errors of the difference of two shares.
    """
    epochs = summary["epochs"]
    early = math.floor(EARLY * len(epochs))
    if len(epochs) < 5:
        return []
    was, now = epochs[early - 1], epochs[-1]
    samples, part = summary.get("samples_evaluated") or 0, summary["evaluated_on"]
    if "bits_per_character" in now:
        values = _worse(was, now, "bits_per_character", samples)
        metric, form = f"{part} bits a character", "{:.4f}"
    elif now["accuracy"] is not None:
        values = _no_gain(was["accuracy"], now["accuracy"], samples)
        metric, form = f"{part} accuracy", "{:.2%}"
    else:
        values = _worse(was, now, "test_loss", samples)
        metric, form = f"{part} loss", "{:.4g}"
    if values is None:
        return []
    before, after = (form.format(value) for value in values)
    # A shorter training may do worse than its epoch here: its learning rate falls sooner.
    return [
        f"The last {len(epochs) - early} of {len(epochs)} epochs did not improve the {metric}: {before} "
        f"before them, {after} after them, over {samples:,} samples. To see if fewer --epochs do as well, "
        "run fallow compare with the arm fewer-epochs."
    ]


def _no_gain(was: float | None, now: float, samples: int) -> tuple[float, float] | None:
    if was is None or now > was:
        return None
    before, after = error_of_share(was, samples), error_of_share(now, samples)
    if before is None or after is None:
        return None
    return (was, now) if now - was + 2 * math.hypot(before, after) < MATTERS else None


def _worse(was: dict[str, Any], now: dict[str, Any], name: str, samples: int) -> tuple[float, float] | None:
    before, after = was.get(name), now.get(name)
    if samples < FEWEST or before is None or after is None or before <= 0 or not math.isfinite(after):
        return None
    return (before, after) if after > (1 + RISE) * before else None
