"""Whether leaving samples out paid in this run, in plain sentences, where it did not."""

from __future__ import annotations

from statistics import median
from typing import Any

LITTLE = 0.10
"""A saving below this share is hardly one; time saved is compared with samples saved to within it."""
SHORT = 60.0
"""Full training of fewer seconds leaves little to save."""
WAITING = 0.4
"""With a larger share of the time spent waiting for data, the loader is the first thing to mend."""
STALE = 0.6
"""Full training is too long where the best epoch lies before this share of it."""


def time_saved(epochs: list[dict[str, Any]]) -> float | None:
    r"""Return the share of full training's time that was saved.

    .. math:: 1 - \sum_e t_e / (E t), \quad t = N \cdot \operatorname{median}_e (t_e - v_e) / b_e + \bar v

    with :math:`t_e` seconds, :math:`v_e` of them evaluating, and :math:`b_e` samples trained on in epoch e.
    The first epoch, in which caches and kernels warm up, is left out of t where there are others.

    Args:
        epochs: what ``summary.json`` says of each.

    Returns:
        None where nothing was trained on.
    """
    steady = [epoch for epoch in epochs[1:] or epochs if epoch["backward"]]
    if not steady:
        return None
    rate = median((e["seconds"] - e["evaluating_seconds"]) / e["backward"] for e in steady)
    full = [e["n"] * rate + e["evaluating_seconds"] for e in epochs]
    spent = sum(epoch["seconds"] for epoch in epochs[1:]) + min(epochs[0]["seconds"], full[0])
    return float(1 - spent / sum(full))


def remarks(
    summary: dict[str, Any], *, rule: bool, thin: int = 1, min_kept: int = 1, unpredicted: bool = False
) -> list[str]:
    """Return why leaving samples out did not pay, or would not; nothing where it did as it should.

    Args:
        summary: as it lies in ``summary.json``.
        rule: whether samples were to be left out at all.
        thin: in how many epochs they could have been.
        min_kept: how many are kept in any case.
        unpredicted: whether the rule looks at predicted classes, there are labels, and none was recorded.
    """
    epochs, said = summary["epochs"], _broken(summary["epochs"])
    if rule and thin > 0 and unpredicted:
        said.append(
            "No predicted class was recorded, so wrong labels are told from hard samples less well than they "
            "could be. Return `predicted` (class ids) from training_step, beside the losses."
        )
    if rule:
        said += _left_out(summary, epochs, thin, min_kept)
    said += _data_and_size(summary, epochs, rule)
    said += _too_long(epochs)
    return said


def _broken(epochs: list[dict[str, Any]]) -> list[str]:
    bad = sum(epoch["bad"] for epoch in epochs)
    if not bad:
        return []
    first = next(place for place, epoch in enumerate(epochs, 1) if epoch["bad"])
    return [
        f"{bad:,} scores were not finite, the first in epoch {first} of {len(epochs)}: the training went "
        "wrong. Try a lower --learning_rate."
    ]


def _nothing(epochs: list[dict[str, Any]], thin: int, min_kept: int) -> str:
    """Return why every epoch was full."""
    said = "Leaving samples out saved nothing: "
    if thin <= 0:
        return (
            f"{said}every epoch was full. A sample is measured before it is left out, so it begins to pay "
            "after the warm-up epochs; for one epoch, train on a part of the data instead (--samples)."
        )
    if min_kept >= epochs[-1]["n"]:
        return (
            f"{said}at least {min_kept:,} samples are kept in any case, and there are {epochs[-1]['n']:,}. "
            "Lower --min_kept or --batch_size."
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
    found = f"the ranks of the last two agree by {density['stability']:.2f} (0.8 is needed)"
    if density["agreement"] == density["agreement"]:  # NaN where the density has no halves
        found += f", those of its halves by {density['agreement']:.2f} (0.7)"
    step = "Train on more samples, or with less dropout, or prune by the default score."
    return f"{said} at the end: {found}. {step}"


def _left_out(summary: dict[str, Any], epochs: list[dict[str, Any]], thin: int, min_kept: int) -> list[str]:
    saved = summary["saved_fraction"]
    if all(epoch["backward"] == epoch["n"] for epoch in epochs):
        return [_not_ready(summary) or _nothing(epochs, thin, min_kept)]
    if saved < LITTLE:
        return [
            f"Leaving samples out saved little: {saved:.0%} of the samples. Most still surprise the network; "
            "raise the threshold or the fraction, or train in full."
        ]
    gained = summary["time_saved_fraction"]
    if gained is None or gained >= saved - LITTLE:
        return []
    evaluating = sum(epoch["evaluating_seconds"] for epoch in epochs) / sum(e["seconds"] for e in epochs)
    why = (
        f"evaluating takes {evaluating:.0%} of it and does not shrink"
        if evaluating > LITTLE
        else "part of each epoch does not shrink with its samples"
    )
    if round(gained, 3) < 0:
        return [f"{saved:.0%} of the samples were saved, but the time grew by {-gained:.1%}: {why}."]
    return [f"{saved:.0%} of the samples saved only {max(gained, 0.0):.0%} of the time: {why}."]


def _data_and_size(summary: dict[str, Any], epochs: list[dict[str, Any]], rule: bool) -> list[str]:
    said = []
    seconds = sum(epoch["seconds"] for epoch in epochs)
    waiting = sum(epoch["waiting_seconds"] for epoch in epochs) / seconds if seconds else 0.0
    if waiting > WAITING:
        said.append(
            f"Training waited for its data {waiting:.0%} of the time: quicker loading (--workers) saves more "
            "than leaving samples out."
        )
    gained = summary["time_saved_fraction"]
    whole = seconds if gained is None or gained >= 1 else seconds / (1 - gained)
    if rule and whole < SHORT:
        said.append(
            f"Full training takes about {whole:.0f} s here, so there is little to save: this is a run to "
            "learn by."
        )
    return said


def _too_long(epochs: list[dict[str, Any]]) -> list[str]:
    """Say where the network was best long before its end, by loss and by accuracy."""
    if len(epochs) < 5 or any(epoch["test_loss"] is None or epoch["accuracy"] is None for epoch in epochs):
        return []
    losses, right = [e["test_loss"] for e in epochs], [e["accuracy"] for e in epochs]
    best = min(range(len(epochs)), key=losses.__getitem__)
    early = best < STALE * len(epochs) and right.index(max(right)) < STALE * len(epochs)
    if not early or losses[-1] < 1.05 * losses[best]:
        return []
    return [
        f"The network was best in epoch {best + 1} of {len(epochs)} (loss {losses[best]:.3f}, "
        f"{losses[-1]:.3f} at the end): fewer --epochs save as much, without any rule."
    ]
