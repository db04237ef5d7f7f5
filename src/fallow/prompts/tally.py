"""What a training with prompts cost and saved, counted from its groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .log import GroupLog

_RAREST = 1e-3
"""The least chance that is assumed: where hardly any group is mixed, a saving would be a guess."""


@dataclass(frozen=True)
class PromptEpoch:
    """One walk over all prompts.

    Attributes:
        epoch: its number, from 0.
        first_step: the draw that began it.
        kept: prompts that it draws.
        solved, hopeless: prompts that it leaves out, by reason.
        returned: prompts below the bound that it draws all the same, to measure them again.
        uniform: the mean chance of a mixed group over all prompts, as it was known when the epoch began.
    """

    epoch: int
    first_step: int
    kept: int
    solved: int
    hopeless: int
    returned: int
    uniform: float


@dataclass(frozen=True)
class PromptSummary:
    """Counts over a training so far.

    Attributes:
        prompts, measured: all prompts; those that were measured in this run.
        steps, epochs: draws; walks over all prompts, the last one in part.
        groups, rollouts, tokens: that were recorded; tokens are 0 if none were passed.
        mixed, whole_right, whole_wrong: the groups by their outcome. Only mixed ones have a gradient.
        rollouts_saved: an estimate: how many more uniform draws would have spent on as many mixed groups,
            by the chances that were known when each epoch began. Below 0 if they would have spent fewer.
        tokens_saved: of these rollouts, each at the mean length.
        solved, hopeless: prompts that the present epoch leaves out.
        forgotten: how often a prompt whose group was whole right was later right less than half of the time.
        relearned: how often a forgotten one was whole right again.
        lost: forgotten prompts that were not relearned.
    """

    prompts: int
    measured: int
    steps: int
    epochs: float
    groups: int
    rollouts: int
    tokens: int
    mixed: int
    whole_right: int
    whole_wrong: int
    rollouts_saved: int
    tokens_saved: int
    solved: int
    hopeless: int
    forgotten: int
    relearned: int
    lost: int


def summarise(
    log: GroupLog, history: Sequence[PromptEpoch], prompts: int, steps: int, done: float, group: int
) -> PromptSummary:
    """Count what a training cost and saved.

    Args:
        log: its groups.
        history: its epochs, with the present one.
        prompts: the number of prompts.
        steps: the number of draws.
        done: the share of the present epoch that is drawn.
        group: rollouts of a prompt at a time.
    """
    attempts, right, tokens = (log[name].astype(np.int64) for name in ("attempts", "right", "tokens"))
    whole = (attempts > 0) & (right == attempts)
    wrong = (attempts > 0) & (right == 0)
    mixed = (right > 0) & (right < attempts)
    saved = _rollouts_of_uniform(log, history, mixed, group) - int(attempts.sum())
    forgotten, relearned, lost = lapses(log["row"], attempts, right)
    last = history[-1] if history else PromptEpoch(0, 0, prompts, 0, 0, 0, 1.0)
    return PromptSummary(
        prompts=prompts,
        measured=np.unique(log["row"]).size,
        steps=steps,
        epochs=max(0.0, len(history) - 1 + done),
        groups=len(log),
        rollouts=int(attempts.sum()),
        tokens=int(tokens.sum()),
        mixed=int(np.count_nonzero(mixed)),
        whole_right=int(np.count_nonzero(whole)),
        whole_wrong=int(np.count_nonzero(wrong)),
        rollouts_saved=saved,
        tokens_saved=round(saved * int(tokens.sum()) / max(1, int(attempts.sum()))),
        solved=last.solved,
        hopeless=last.hopeless,
        forgotten=forgotten,
        relearned=relearned,
        lost=lost,
    )


def _rollouts_of_uniform(
    log: GroupLog, history: Sequence[PromptEpoch], mixed: NDArray[np.bool_], group: int
) -> int:
    """Return the rollouts that uniform draws would have spent on as many mixed groups."""
    if not history:
        return int(log["attempts"].sum(dtype=np.int64))
    begun = np.array([epoch.first_step for epoch in history])
    chance = np.array([epoch.uniform for epoch in history])
    whole = np.array([epoch.solved + epoch.hopeless == 0 for epoch in history])
    # Groups may be recorded before the first draw.
    epoch = np.maximum(np.searchsorted(begun, log["step"], side="right") - 1, 0)
    groups = np.bincount(epoch[mixed], minlength=len(history))
    made = np.bincount(epoch, log["attempts"], len(history))
    # An epoch that leaves nothing out is uniform.
    return round(float(np.where(whole, made, groups / np.maximum(chance, _RAREST) * group).sum()))


def lapses(
    row: NDArray[np.integer], attempts: NDArray[np.int64], right: NDArray[np.int64]
) -> tuple[int, int, int]:
    """Count how often solved prompts were forgotten and relearned, and how many are forgotten at the end.

    A prompt is solved by a group that is whole right, and forgotten by a later one that is right less than
    half of the time.

    Args:
        row: the prompt of each group, in the order of time: ``(K,)``.
        attempts: its rollouts, ``(K,)``.
        right: those that were right, ``(K,)``.

    >>> lapses(np.array([0, 0, 0, 1, 1]), np.full(5, 8), np.array([8, 3, 8, 8, 0]))
    (2, 1, 1)
    """
    told = (attempts > 0) & ((right == attempts) | (2 * right < attempts))
    row, solved = row[told], right[told] == attempts[told]
    order = np.argsort(row, kind="stable")
    row, solved = row[order], solved[order]
    same = row[1:] == row[:-1]
    # Only what follows a prompt's first success counts: before it, nothing can be forgotten.
    successes = np.cumsum(solved)
    first = np.searchsorted(row, row, side="left")
    since = successes - (successes - solved)[first]
    forgotten = same & solved[:-1] & ~solved[1:]
    relearned = same & ~solved[:-1] & solved[1:] & (since[:-1] > 0)
    ends = np.ones(row.size, np.bool_)
    ends[:-1] = ~same
    lost = ends & ~solved & (since > 0)
    return tuple(int(np.count_nonzero(count)) for count in (forgotten, relearned, lost))  # type: ignore[return-value]
