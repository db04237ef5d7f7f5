"""What a person should know of a run's result: that it diverged, or why leaving samples out did not pay."""

from __future__ import annotations

import math
from statistics import median
from typing import Any

from ..arrays.shares import error_of_share
from ..core.history import FORWARD_SHARE
from ..report.text import plural
from .divergence import divergence, no_better_than_guessing

LITTLE = 0.10
"""A saving below this share is hardly one; time saved is compared with samples saved to within it."""
SHORT = 60.0
"""Full training of fewer seconds leaves little to save, and its times are too short to compare."""
WAITING = 0.4
"""With a larger share of the time spent waiting for data, the loader is the first thing to mend."""
EARLY = 0.6
"""The end of a training is held against the epoch that this share of it ends with: one that is fixed
beforehand, as the best of many is the best by chance too."""
MATTERS = 0.01
"""A gain in accuracy that counts: the last epochs are only called needless if they gained less for sure."""
RISE, FEWEST = 0.05, 30
"""Of bits and errors the noise is not known: they must end worse by this share, over so many samples."""


def time_saved(epochs: list[dict[str, Any]]) -> float | None:
    r"""Return the share of full training's time that was saved.

    .. math:: 1 - \sum_e t_e / (E t), \quad t = N \cdot \operatorname{median}_e (t_e - v_e) / b_e + \bar v

    with :math:`t_e` seconds, :math:`v_e` of them evaluating, and :math:`b_e` samples trained on in epoch e.
    The first epoch, in which caches and kernels warm up, is left out of t where there are others.

    Args:
        epochs: what ``summary.json`` says of each.

    Returns:
        None if nothing was trained on, or no time went by.
    """
    steady = [epoch for epoch in epochs[1:] or epochs if epoch["backward"]]
    if not steady:
        return None
    rate = median(max(0.0, e["seconds"] - e["evaluating_seconds"]) / e["backward"] for e in steady)
    full = [e["n"] * rate + e["evaluating_seconds"] for e in epochs]
    if sum(full) <= 0:
        return None
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
) -> list[str]:
    """Return what a person should know of the result: first whether it diverged, then why nothing was saved.

    Nothing is said of savings if the training diverged or has not ended.

    Args:
        summary: as it lies in ``summary.json``.
        rule: whether samples were to be left out at all.
        thin: in how many epochs they could have been.
        fewest_kept: how many samples each epoch keeps, whatever they score.
        unpredicted: whether the rule looks at predicted classes, there are labels, and none was recorded.
        share: of the samples that the rule leaves out of an epoch, if it was given one.
        own: whether the module is the user's own, whose learning rate no option sets.
    """
    epochs = summary["epochs"]
    if summary["diverged"]:
        rate = "the learning rate in your module" if own else "--learning_rate"
        return [f"{divergence(summary)} Lower {rate}, and look at the inputs."]
    said = _bad_scores(epochs)
    if not summary.get("finished", True):
        return said
    lost = no_better_than_guessing(summary)
    if lost:
        said.append(lost)
    if rule and thin > 0 and unpredicted:
        said.append(
            "No predicted class was recorded, so wrong labels are told from hard samples less well than they "
            "could be. Return `predicted` (class ids) from training_step, beside the losses."
        )
    if rule:
        said += _left_out(summary, epochs, thin, fewest_kept, share)
    said += _data_and_size(summary, epochs, rule)
    return said if lost else said + _too_long(summary)


def _bad_scores(epochs: list[dict[str, Any]]) -> list[str]:
    """Return how many scores were not finite, and that of the evaluation, in a training that went on."""
    said = []
    bad = sum(epoch["bad"] for epoch in epochs)
    if bad:
        places = [place for place, epoch in enumerate(epochs, 1) if epoch["bad"]]
        first, last = places[0], places[-1]
        when = f"in epoch {first}" if first == last else f"in epochs {first} to {last}"
        said.append(
            f"{plural(bad, 'score was', 'scores were')} not finite, {when} of {len(epochs)}. Look at the "
            "loss and the inputs."
        )
    loss = epochs[-1]["test_loss"]
    if loss is not None and not math.isfinite(loss):
        said.append("The loss of the last evaluation is not finite. Look at how it is computed.")
    return said


def _nothing(epochs: list[dict[str, Any]], thin: int, fewest_kept: int) -> str:
    """Return why every epoch was full."""
    said = "Leaving samples out saved nothing: "
    if thin <= 0:
        return (
            f"{said}every epoch was full. A sample is measured before it is left out, so it begins to pay "
            "after the warm-up epochs; for one epoch, train on a part of the data instead (--samples)."
        )
    n = epochs[-1]["n"]
    if fewest_kept >= n:
        if n == 1:
            return f"{said}there is only one sample."
        return (
            f"{said}all {n:,} samples are kept in any case, to fill whole batches or as the least. "
            "Lower --batch_size, --min_kept or --min_kept_per_class."
        )
    return f"{said}the rule found no sample to leave out."


def _not_ready(summary: dict[str, Any]) -> str:
    """Return why no density was to be trusted; nothing where one was, or none was asked for."""
    density = summary.get("density")
    if density is None or density["ready"]:
        return ""
    said = "Leaving samples out saved nothing: no density of the activations was to be trusted"
    if density["fits"] < 2:
        return f"{said}, as there were too few samples to fit two. Train longer, or on more."
    stable = math.floor(100 * density["stability"]) / 100  # rounded up it would seem to be enough
    found = f"the ranks of the last two agree by {stable:.2f} (0.8 is needed)"
    if density["agreement"] == density["agreement"]:  # NaN where the density has no halves
        found += f", those of its halves by {density['agreement']:.2f} (0.7)"
    step = "Train on more samples, or with less dropout, or prune by the default score."
    return f"{said} at the end: {found}. {step}"


def _left_out(
    summary: dict[str, Any], epochs: list[dict[str, Any]], thin: int, fewest_kept: int, share: float | None
) -> list[str]:
    saved = summary["saved_fraction"]
    if all(epoch["backward"] == epoch["n"] for epoch in epochs):
        return [_not_ready(summary) or _nothing(epochs, thin, fewest_kept)]
    if saved < LITTLE:
        said = f"Leaving samples out saved little: {saved:.1%} of the samples. "
        if share is not None:
            could = f"{thin} of {plural(len(epochs), 'epoch')}"
            return [f"{said}The rule was to leave {share:.0%} of them out of {could}."]
        return [f"{said}The rule found no more; a threshold or a fraction that is higher leaves out more."]
    gained = summary["time_saved_fraction"]
    if gained is None or gained >= saved - LITTLE or _whole(summary, epochs) < SHORT:
        return []
    why = _what_stays(summary, epochs)
    if round(gained, 3) < 0:
        return [f"{saved:.0%} of the samples were saved, but the time grew by {-gained:.1%}: {why}."]
    return [f"{saved:.0%} of the samples saved only {max(gained, 0.0):.0%} of the time: {why}."]


def _what_stays(summary: dict[str, Any], epochs: list[dict[str, Any]]) -> str:
    """Return what of the time does not shrink with the samples."""
    seconds = sum(epoch["seconds"] for epoch in epochs)
    evaluating = sum(epoch["evaluating_seconds"] for epoch in epochs) / seconds if seconds else 0.0
    if evaluating > LITTLE:
        return f"evaluating takes {evaluating:.0%} of it and does not shrink"
    forward = FORWARD_SHARE * summary.get("samples_forward_only", 0)
    backward = summary.get("samples_backward", 0)
    if forward > LITTLE * (forward + backward):
        return f"measuring takes about {forward / (forward + backward):.0%} of the work"
    return "part of each epoch does not shrink with its samples"


def _whole(summary: dict[str, Any], epochs: list[dict[str, Any]]) -> float:
    """Return about how many seconds full training takes."""
    seconds, gained = sum(epoch["seconds"] for epoch in epochs), summary["time_saved_fraction"]
    return float(seconds if gained is None or gained >= 1 else seconds / (1 - gained))


def _data_and_size(summary: dict[str, Any], epochs: list[dict[str, Any]], rule: bool) -> list[str]:
    whole = _whole(summary, epochs)
    if whole < SHORT:
        if not rule:
            return []
        long = "less than a second" if whole < 1 else f"about {whole:.0f} s"
        return [f"Full training takes {long} here, so there is little to save: this is a run to learn by."]
    seconds = sum(epoch["seconds"] for epoch in epochs)
    waiting = sum(epoch["waiting_seconds"] for epoch in epochs)
    if waiting <= WAITING * seconds:
        return []
    return [
        f"Training waited for its data {waiting / seconds:.0%} of the time ({waiting:.0f} of {seconds:.0f} s)"
        ": quicker loading (--workers) saves up to that much."
    ]


def _too_long(summary: dict[str, Any]) -> list[str]:
    """Say that the last epochs did not help, by what the run is judged by.

    Of an accuracy it must be sure that they gained less than ``MATTERS``, by two standard errors of the
    difference of two shares. What a shorter training reaches is not promised: its learning rate falls sooner.
    """
    epochs = summary["epochs"]
    early = math.floor(EARLY * len(epochs))
    if len(epochs) < 5:
        return []
    was, now = epochs[early - 1], epochs[-1]
    samples, part = summary.get("samples_evaluated") or 0, summary["evaluated_on"]
    if "bits_per_character" in now:
        found = _worse(was, now, "bits_per_character", samples)
        what, form = f"{part} bits a character", "{:.4f}"
    elif now["accuracy"] is not None:
        found = _no_gain(was["accuracy"], now["accuracy"], samples)
        what, form = f"{part} accuracy", "{:.2%}"
    else:
        found = _worse(was, now, "test_loss", samples)
        what, form = f"{part} loss", "{:.4g}"
    if found is None:
        return []
    before, after = (form.format(value) for value in found)
    return [
        f"The last {len(epochs) - early} of {len(epochs)} epochs did not improve the {what}: {before} before "
        f"them, {after} after them, over {samples:,} samples. Whether fewer --epochs do as well, only such a "
        "training shows, as its learning rate falls sooner: fallow compare has it as fewer-epochs."
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
