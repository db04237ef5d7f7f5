"""The usage chart of prompts: which got a group of rollouts at which step, and how the group turned out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...errors import invalid
from ...prompts.log import GroupLog
from .style import INK, plain_style, write_chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
ROWS, COLUMNS = 120, 120
"""The most rows of prompts, and the most blocks of steps."""
OUTCOMES = ("mixed", "all right", "all wrong")
_COLOURS = ("#0072B2", "#F0E442", "#D55E00")  # Okabe and Ito, safe for colour-blind readers
_HATCHES = ("", "", "xx")


def outcome(log: GroupLog) -> NDArray[np.int64]:
    """Return how each group turned out, a place in :data:`OUTCOMES` or -1 for not judged: ``(K,)``."""
    right, attempts = log["right"].astype(np.int64), log["attempts"].astype(np.int64)
    found = np.where(right == attempts, 1, np.where(right == 0, 2, 0))
    return np.where(attempts == 0, -1, found)


def arrange(log: GroupLog, prompts: int) -> NDArray[np.int64]:
    """Return the prompts by their share of successes, the highest first, the unmeasured last: ``(N,)``."""
    right = np.bincount(log["row"], log["right"], prompts)
    attempts = np.bincount(log["row"], log["attempts"], prompts)
    share = np.divide(right, attempts, out=np.full(prompts, -1.0), where=attempts > 0)
    return np.argsort(-share, kind="stable")


def counts(
    log: GroupLog, prompts: int, steps: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Count the groups of each outcome by row and block.

    Returns:
        Groups ``(3, R, C)``; the first place of each row, and N, ``(R + 1,)``; the first step of each block,
        and the number of steps, ``(C + 1,)``.
    """
    rows, columns = min(ROWS, prompts), min(COLUMNS, max(1, steps))
    edges = np.arange(rows + 1) * prompts // rows
    blocks = np.arange(columns + 1) * max(1, steps) // columns
    place = np.empty(prompts, np.int64)
    place[arrange(log, prompts)] = np.arange(prompts)
    found = outcome(log)
    judged = found >= 0
    row = np.searchsorted(edges, place[log["row"][judged]], side="right") - 1
    column = np.searchsorted(blocks, log["step"][judged], side="right") - 1
    cells = (found[judged] * rows + row) * columns + np.minimum(column, columns - 1)
    return np.bincount(cells, minlength=3 * rows * columns).reshape(3, rows, columns), edges, blocks


def prompts_chart(log: GroupLog, prompts: int, steps: int, title: str = "") -> Figure:
    """Draw the groups of each prompt over the steps, and the share of each outcome.

    Args:
        log: the groups that were measured, at least one.
        prompts: the number of prompts.
        steps: the number of draws.
        title: of the figure, which is 12 x 7.5 inches and not registered with pyplot.

    Raises:
        InvalidValue: if nothing was measured.
        ModuleNotFoundError: if matplotlib is missing.
    """
    if not len(log):
        raise invalid("A chart of prompts needs at least one group.", 0, "Call prompts.record() first.")
    groups, edges, blocks = counts(log, prompts, steps)
    with plain_style("The usage chart"):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(12, 7.5), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        _image(upper, groups, edges, blocks)
        _shares(lower, groups, blocks)
        figure.suptitle(title or f"{prompts:,} prompts, {len(log):,} groups in {steps:,} steps", color=INK)
        handles, labels = lower.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def write_prompts_chart(log: GroupLog, prompts: int, steps: int, out: Path) -> list[Path]:
    """Draw the chart into ``out`` as ``prompts.png`` and ``prompts.svg``."""
    return write_chart(prompts_chart(log, prompts, steps), out, "prompts", DPI)


def _image(
    axes: Axes, groups: NDArray[np.int64], edges: NDArray[np.int64], blocks: NDArray[np.int64]
) -> None:
    from matplotlib.colors import to_rgb

    size = np.diff(edges)[:, None]
    shares = groups / size
    total = shares.sum(axis=0)
    # The fullest cells have the full colour: of many prompts, a block of steps reaches but a few.
    full = max(float(np.quantile(total[total > 0], 0.9)), 1e-12)
    shares = shares / np.maximum(total, full)
    # Light spots would hardly be seen: half a share has more than half of the colour.
    shares = shares * np.sqrt(1 / np.maximum(shares.sum(axis=0), 1e-12))
    colours = np.array([to_rgb(colour) for colour in _COLOURS])
    image = 1 + np.einsum("orc,ok->rck", shares, colours - 1)
    axes.imshow(
        image.clip(0, 1),
        aspect="auto",
        interpolation="nearest",
        extent=(0.0, float(blocks[-1]), float(edges[-1]), 0.0),
    )
    axes.set_ylabel("prompts\n(right most often on top)")
    axes.set_title("Which prompt got a group of rollouts; white: left out", fontsize=13, loc="left")


def _shares(axes: Axes, groups: NDArray[np.int64], blocks: NDArray[np.int64]) -> None:
    by_block = groups.sum(axis=1)
    shares = by_block / np.maximum(by_block.sum(axis=0), 1)
    base = np.zeros(by_block.shape[1])
    for name, colour, hatch, share in zip(OUTCOMES, _COLOURS, _HATCHES, shares, strict=True):
        axes.bar(
            blocks[:-1], share, np.diff(blocks), base, align="edge", color=colour, label=name,
            hatch=hatch, edgecolor=INK if hatch else colour, linewidth=0,
        )  # fmt: skip
        base = base + share
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axes.set_ylabel("groups")
    axes.set_xlabel("step")
