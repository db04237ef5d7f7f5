"""The usage chart of a run: the samples used in each epoch, the reasons of the others, and the scores.

Up to 60 samples are drawn as in the publication, with a mark for each epoch that used the sample. More are
drawn as an image with blocks of samples as rows, so that its size does not grow with their number.

References:
    Subsampling Training Data During Artificial Neural Network Training (US 2020/0302273 A1)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...core.history import EDGES
from ...errors import invalid
from ...policies.base import Reason
from .style import INK, one_line, plain_style, write_chart
from .usage_rows import (
    DARKER,
    PALEST,
    Arrangement,
    History,
    ReasonOf,
    Shares,
    arrange,
    came_back,
    epoch_ticks,
    row_shares,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

FEW, FEW_CELLS, DPI = 60, 6_000, 150
NAMED, LONGEST = 20, 14  # the maximum number of named classes, and of letters in a name
_USED, _OUT, _CUT = "#0072B2", "#D55E00", "#555555"
_ABSENT: dict[str, Any] = {"facecolor": "#EDEDED", "edgecolor": "#A8A8A8", "hatch": "///", "linewidth": 0}
_FIELDS = "kept", "learned", "outliers", "not_drawn", "by_hand"  # of a record, one per Reason
_COLOURS = _USED, "#F0E442", _OUT, "#56B4E9", "#CC79A7"  # Okabe and Ito, safe for colour-blind readers
_HATCHES = "", "", "xx", "..", "\\\\"
_LINES = ("median", "-", [2]), ("25, 75 %", "--", [1, 3]), ("5, 95 %", ":", [0, 4])


class Reached(NamedTuple):
    """The result of the network after each epoch.

    Attributes:
        name: the measure and its data, such as ``test accuracy``.
        values: by epoch, from 0.
        percent: whether the values are shares.
        less_is_better: whether the lowest value is the best.
    """

    name: str
    values: Mapping[int, float]
    percent: bool = True
    less_is_better: bool = False

    def sentence(self) -> str:
        """Return a sentence about the last and the best value; empty without values."""
        known = {epoch: value for epoch, value in self.values.items() if value == value}
        if not known:
            return ""
        best = (min if self.less_is_better else max)(known, key=lambda epoch: (known[epoch], 0))
        last = self.shown(known[max(known)])
        return f"{self.name}: {last} at the end, best {self.shown(known[best])} in epoch {best + 1}"

    def shown(self, value: float) -> str:
        """Return a value as text."""
        return f"{100 * value:.2f} %" if self.percent else f"{value:.4f}"


def reached_of(rows: Sequence[Mapping[str, Any]], part: str) -> Reached | None:
    """Return the result after each epoch: bits a character, or else accuracy, or else loss; None without any.

    Args:
        rows: the epochs of ``summary.json``.
        part: the samples that it was measured on, ``test`` or ``validation``.
    """
    for field, metric in (
        ("bits_per_character", "bits a character"),
        ("accuracy", "accuracy"),
        ("test_loss", "loss"),
    ):
        logged = ((row["epoch"], row.get(field)) for row in rows)
        values = {epoch: value for epoch, value in logged if value is not None and math.isfinite(value)}
        if values:
            share = field == "accuracy"
            return Reached(f"{part.capitalize()} {metric}", values, percent=share, less_is_better=not share)
    return None


def usage_chart(
    history: History,
    *,
    labels: NDArray[Any] | None = None,
    classes: Sequence[str] | None = None,
    scores: NDArray[np.floating] | None = None,
    reached: Reached | None = None,
    reason_of: ReasonOf | None = None,
    title: str = "",
    unit: str = "nats",
) -> Figure:
    """Draw the samples used in each epoch, the reasons of those left out, and the distribution of the scores.

    Args:
        history: consecutive epochs of a run, at least one.
        labels: classes ``(N,)`` that group the rows of many samples; few samples are in index order.
        classes: the names of the labels, which index it; by default the labels themselves.
        scores: ``(N,)``, the order of samples that were used equally often.
        reached: the result after each epoch, drawn below the samples.
        reason_of: returns the reasons of an epoch, to mark outliers.
        title: of the figure, which is 12 x 7.5 inches and not registered with pyplot.
        unit: of the scores.

    Raises:
        InvalidValue: if there is no epoch, or ``labels`` does not have one label per sample.
        ModuleNotFoundError: if matplotlib is missing.
    """
    if not history:
        raise invalid("A usage chart needs at least one finished epoch.", 0, "Train for an epoch first.")
    n, epochs = history[-1].remaining, len(history)
    if labels is not None and np.shape(labels) != (n,):
        raise invalid(f"`labels` must have one label per sample, ({n},).", f"shape {np.shape(labels)}")
    used = sum(record.backward for record in history) / sum(record.n for record in history)
    facts = f"{n:,} sample{'s'[: n - 1]}, {epochs:,} epoch{'s'[: epochs - 1]}: {100 * used:.1f} % used"
    with plain_style("The usage chart"):
        # Without pyplot, which would keep every figure and choose a backend.
        from matplotlib.figure import Figure

        figure = Figure(figsize=(12, 7.5), layout="constrained")
        grid = figure.add_gridspec(1, 2, width_ratios=(1.25, 1))
        left, right = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
        upper, side, lower = _places(left)
        if n <= FEW and n * epochs <= FEW_CELLS:
            rows = Arrangement(np.arange(n), np.arange(n + 1), [])
            shares = row_shares(history, rows, reason_of)
            pad = _marks(upper, history, shares, facts)
        else:
            rows = arrange(history, labels, scores)
            shares = row_shares(history, rows, reason_of)
            pad = _image(upper, history, rows, shares, facts, classes)
        _times(side, upper, shares, pad)
        _strip(lower, history, reached)
        above, below = right.subplots(2)
        _reasons(above, history)
        _scores(below, history, unit)
        figure.suptitle(one_line(title, 120), fontsize=16, parse_math=False, wrap=True)
    return figure


def save_usage(history: History, folder: Path, **options: Any) -> list[Path]:
    """Write :func:`usage_chart` to ``usage.png`` and ``usage.svg`` in ``folder``, and return the two paths.

    The folder is created if it does not exist. The same history and options give the same bytes.
    """
    return write_chart(usage_chart(history, **options), folder, "usage", DPI)


def shades(shares: Shares) -> NDArray[np.uint8]:
    """Return the colour of each row in each epoch: ``(R, E) -> uint8 (R, E, 4)``, clear for NaN.

    Used samples make a row blue, outliers make it red, all others leave it white.
    """
    from matplotlib.colors import to_rgb

    mixed = np.ones((*shares.used.shape, 3), np.float32)
    for share, colour in zip(shares, (_USED, _OUT), strict=True):
        depth = np.where(share == 1, 1, np.where(share > 0, PALEST + DARKER * share, 0)).astype(np.float32)
        mixed -= depth[..., None] * (1 - np.array(to_rgb(colour), np.float32))
    clear = np.isnan(shares.used)
    mixed = np.clip(255 * mixed, 0, 255).round()
    return np.concatenate([np.nan_to_num(mixed), 255.0 * ~clear[..., None]], axis=2).astype(np.uint8)


def _places(figure: SubFigure) -> tuple[Axes, Axes, Axes]:
    """Return the axes for the samples, for their share of epochs, and for the result of each epoch."""
    grid = figure.add_gridspec(2, 2, height_ratios=(4.4, 1), width_ratios=(6, 1))
    upper = figure.add_subplot(grid[0, 0])
    side, lower = figure.add_subplot(grid[0, 1], sharey=upper), figure.add_subplot(grid[1, 0], sharex=upper)
    return upper, side, lower


def _marks(ax: Axes, history: History, shares: Shares, heading: str) -> int:
    """Draw a row per sample, a column per epoch, and a mark for each use; return the heading's pad."""
    from matplotlib.patches import Patch

    n, first = history[-1].remaining, history[0].epoch + 1
    side = min(20.0, 0.62 * 72 * min(4.6 / len(history), 4.4 / n))
    out = (shares.used == 0) & (shares.outliers == 0)
    marks = (
        (shares.used == 1, _USED, "s", side**2, "_"),
        (out, "#767676", ".", min(40, side**2 / 2), _left_out(history)),
        (shares.outliers == 1, _OUT, "x", side**2 / 3, "outlier"),
    )
    for cells, colour, marker, size, label in marks:
        sample, epoch = np.nonzero(cells)
        if sample.size:
            width = 1.5 if marker == "x" else 0
            ax.scatter(epoch + first, sample, size, colour, marker=marker, label=label, lw=width, zorder=3)
    ax.set_ylim(n - 0.5, -0.5)
    if history[0].remaining < n:
        late = np.array([[r.epoch + 1, n - r.remaining] for r in history if r.remaining < n])
        ax.bar(late[:, 0], late[:, 1], 1, n - late[:, 1] - 0.5, label="not there yet", zorder=2, **_ABSENT)
    ax.set_yticks(range(n), ["" if n > 24 and i % 5 else str(i) for i in range(n)])
    ax.set_ylabel("sample")
    ax.grid(color="#DDDDDD", linewidth=0.7)
    return _frame(ax, history, heading, [Patch(fc=_USED, label="used")], below="")


def _image(
    ax: Axes, history: History, rows: Arrangement, shares: Shares, heading: str, classes: Sequence[str] | None
) -> int:
    """Draw a row per block of samples, a column per epoch, a shade per share; return the heading's pad."""
    from matplotlib.patches import Patch

    n, height = history[-1].remaining, len(rows.edges) - 1
    across = history[0].epoch + 0.5, history[-1].epoch + 1.5
    high = height if rows.classes else n  # rows of different classes hold different numbers of samples
    # Any other interpolation blends neighbouring rows and epochs.
    ax.imshow(shades(shares), aspect="auto", interpolation="nearest", extent=(*across, high, 0))
    ax.patch.set(**_ABSENT)
    odd = bool(np.any(shares.outliers > 0))
    reasons = _left_out(history, outliers=not odd)
    patches = [Patch(fc=_USED, label="used" if rows.single else "all used")]
    if np.any((shares.used > 0) & (shares.used < 1)):
        patches += [Patch(fc=_USED, alpha=PALEST + DARKER * share, label=label)
                    for share, label in ((0.5, "half"), (0.1, "few"))]  # fmt: skip
    if np.any(shares.used == 0):
        patches.append(Patch(fc="white", ec="#999999", label=reasons if rows.single else f"none: {reasons}"))
    if odd:
        patches.append(Patch(fc=_OUT, label="outliers"))
    if history[0].remaining < n:
        patches.append(Patch(label="not there yet", **_ABSENT))
    each = "" if rows.single else f" ({n / height:,.0f} a row)"
    ax.set_ylabel(f"samples{' by class' if rows.classes else ''}, most used first{each}")
    ax.yaxis.set_major_formatter("{x:,.0f}")
    if rows.classes:
        _name_classes(ax, rows, classes)
    return _frame(ax, history, heading, patches, below="")


def _left_out(history: History, *, outliers: bool = False) -> str:
    """Return the reasons that share the colour white."""
    fields = {field: reason.text for field, reason in zip(_FIELDS, Reason, strict=True)}
    del fields["kept"]
    if not outliers:
        del fields["outliers"]
    reasons = [
        reason for field, reason in fields.items() if any(getattr(record, field) for record in history)
    ]
    return ", ".join(reasons) or "not used"


def _name_classes(ax: Axes, rows: Arrangement, classes: Sequence[str] | None) -> None:
    """Draw lines between the classes and name them, if there is room."""
    height, ticks = len(rows.edges) - 1, dict[float, str]()
    starts = [start for _, start in rows.classes]
    named = len(starts) <= NAMED
    for (label, start), end in zip(rows.classes, [*starts[1:], height], strict=True):
        middle = (start + end) / 2
        if named and (not ticks or middle - max(ticks) >= 0.05 * height):
            # A dollar in a name must not begin a formula.
            ticks[middle] = one_line(_class_name(label, classes), LONGEST).replace("$", r"\$")
    ax.hlines(starts[1:] if named else [], *ax.get_xlim(), color=_CUT, linewidth=1)
    ax.set_yticks(list(ticks), list(ticks.values()))


def _class_name(label: Any, classes: Sequence[str] | None) -> str:
    """Return the name of a class; samples without one have a negative label."""
    if classes is None or label >= len(classes):
        return str(label)
    return "no class" if label < 0 else classes[label]


def _times(ax: Axes, upper: Axes, shares: Shares, pad: int) -> None:
    """Draw the share of epochs that used the samples of each row, as bars beside the rows."""
    existing = ~np.isnan(shares.used)
    share = 100 * np.nansum(shares.used, axis=1) / np.maximum(existing.sum(axis=1), 1)
    bottom, top = sorted(upper.get_ylim())
    edges = np.linspace(bottom, top, share.size + 1)
    ax.stairs(share, edges, orientation="horizontal", fill=True, color=_USED)
    ax.set_xlim(0, 100)
    ax.set_xticks([0, 50, 100], ["0", "", "100"])
    ax.set_title("% of epochs", fontsize="small", pad=pad)
    ax.tick_params(axis="y", length=0, labelleft=False)
    ax.grid(axis="x", color="#DDDDDD", linewidth=0.7)
    ax.spines[["top", "right"]].set_visible(False)


def _strip(ax: Axes, history: History, reached: Reached | None) -> None:
    """Draw the share of samples that each epoch used as steps, and the result after it as a line."""
    edges = np.arange(history[0].epoch + 1, history[-1].epoch + 3) - 0.5
    used = np.array([100 * record.backward / record.n for record in history])
    sentence = "" if reached is None else reached.sentence()
    behind = ax.twinx() if sentence else ax
    behind.set_in_layout(False)  # there is room for its numbers below the bars
    behind.stairs(used, edges, fill=True, color=_USED, alpha=0.25)
    behind.set(ylim=(0, 100))
    behind.set_yticks([0, 50, 100])
    behind.set_ylabel("used, %", color=_USED)
    behind.tick_params(axis="y", colors=_USED)
    if reached is not None and sentence:
        epochs = np.array([record.epoch for record in history])
        values = np.array([reached.values.get(epoch, np.nan) for epoch in epochs.tolist()], np.float64)
        values *= 100 if reached.percent else 1
        # Axes made later are drawn in front; their steps would hide the line.
        ax.set_zorder(behind.get_zorder() + 1)
        ax.patch.set_visible(False)
        dot = "o" if len(history) <= 40 else None
        ax.plot(epochs + 1, values, color=INK, linewidth=1.6, marker=dot, markersize=3.5, clip_on=False)
        ax.set_ylabel("%" if reached.percent else "")
        low, high = np.nanmin(values), np.nanmax(values)
        room = max(0.06 * (high - low), 0.1 if reached.percent else 0.001)
        ax.set_ylim(low - room, min(high + room, 100.0) if reached.percent else high + room)
        ax.locator_params(axis="y", nbins=3)
    ax.set(xlabel="epoch")
    ax.set_title(sentence or "samples used", loc="left", fontsize="small", pad=11, parse_math=False)


def _reasons(ax: Axes, history: History) -> None:
    """Draw the number of samples that each epoch kept, and left out for each reason."""
    from matplotlib.ticker import MaxNLocator

    edges = np.arange(history[0].epoch + 1, history[-1].epoch + 3) - 0.5
    below = np.zeros(len(history))
    for reason, field, colour, hatch in zip(Reason, _FIELDS, _COLOURS, _HATCHES, strict=True):
        above = below + [getattr(record, field) for record in history]
        if (above > below).any():
            ax.stairs(above, edges, baseline=below, fill=True, label=reason.text,
                      facecolor=colour, edgecolor="white", hatch=hatch, linewidth=0)  # fmt: skip
        below = above
    measured = np.array([record.forward_only for record in history])
    if (at := np.flatnonzero(measured)).size:
        ax.scatter(edges[at] + 0.5, measured[at], 50, INK, edgecolors="white", clip_on=False,
                   label="forward only", zorder=3)  # fmt: skip
    ax.set_ylim(0, below.max())
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ax.set_ylabel("samples")
    _frame(ax, history, "Kept and left out")


def _scores(ax: Axes, history: History, unit: str) -> None:
    """Draw the histogram of each epoch's scores as a column of shades, and its quantiles as lines."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap
    from matplotlib.patheffects import withStroke

    counts = np.stack([record.score_histogram for record in history], axis=1)
    edges = np.array([EDGES[1] / 2, *EDGES[1:], EDGES[-1] * 1.5])  # a log axis cannot show 0 and infinity
    across = np.arange(history[0].epoch + 1, history[-1].epoch + 3) - 0.5
    shades = colormaps["cividis_r"](np.linspace(0, 1, 256))
    shades[:48] += (1 - shades[:48]) * np.linspace(1, 0, 48)[:, None]  # a few samples should be pale
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    filled = np.flatnonzero((shares >= 0.001).any(axis=1))
    # As vectors, the cells would make a huge SVG.
    mesh = ax.pcolormesh(across, edges, shares, cmap=ListedColormap(shades), vmin=0, rasterized=True)
    bar = ax.figure.colorbar(mesh, ax=ax, aspect=15, pad=0.02, format=lambda share, _: f"{100 * share:.0f} %")
    bar.set_label("share of scores")
    lines = np.array([record.score_quantiles for record in history])
    lines = np.clip(lines, EDGES[1] * 0.5**0.5, EDGES[-1] * 1.5**0.5)
    # A line needs two points: a single epoch is drawn from edge to edge.
    x, lines = (across, np.repeat(lines, 2, axis=0)) if len(lines) == 1 else (across[:-1] + 0.5, lines)
    width = 1.7 if len(history) <= 40 else 1.0
    halo = [withStroke(linewidth=width + 1.8, foreground="white")]
    for label, dash, pair in _LINES:
        drawn = ax.plot(x, lines[:, pair], dash, color="black", lw=width, path_effects=halo)
        drawn[0].set_label(label)
    low, high = (edges[filled[0]], edges[filled[-1] + 1]) if filled.size else (0.1, 1.0)
    ticks = {EDGES[1] * 0.5**0.5: "0"} if low < EDGES[1] else {}
    room = max(1.0, 12 * low / high) ** 0.5  # the axis must span a power of ten to have a label
    low, high = low / room, high * room
    steps = (1, 2, 5) if high < 300 * low else (1,)
    at = [v for k in range(-6, 2) for s in steps if max(low, 4 * EDGES[1]) <= (v := s * 10.0**k) <= high]
    ticks |= {v: f"{v:g}".replace("e-0", "e-") for v in at[:: -(-len(at) // 6) or 1]}
    ax.set(yscale="log", ylim=(low, high), ylabel=f"score ({unit})" if unit else "score")
    ax.set_yticks(list(ticks), list(ticks.values()))
    ax.tick_params(axis="y", which="minor", length=0, labelleft=False)
    _frame(ax, history, f"Scores of the samples trained on{'' if filled.size else ': none'}")


def _frame(
    ax: Axes, history: History, heading: str, patches: Sequence[Any] | None = None, below: str = "epoch"
) -> int:
    """Add the epochs, triangles at re-admissions, heading and legend to a panel.

    Returns:
        The distance of the heading from the panel in points.
    """
    first, last = history[0].epoch + 1, history[-1].epoch + 1
    ax.set(xlim=(first - 0.5, last + 0.5), xlabel=below)
    ax.set_xticks(epoch_ticks(first, last))
    if not below:
        ax.tick_params(axis="x", labelbottom=False)
    back = [history[place].epoch + 1 for place in came_back(history)]
    if back:
        # matplotlib leaves labels that begin with an underscore out of a legend.
        ax.scatter(back, np.ones(len(back)), 36, INK, marker=7, transform=ax.get_xaxis_transform(),
                   clip_on=False, label="_" if patches is None else "re-admission")  # fmt: skip
    handles = [*(patches or ()), *ax.get_legend_handles_labels()[0]]
    rows = _legend_rows([handle.get_label() for handle in handles], 42 if below else 56)
    ax.set_title(heading, loc="left", fontsize="medium", fontweight="bold", pad=(pad := 10 + 20 * rows))
    legend = ax.legend(handles=handles, ncols=-(-len(handles) // rows) or 1, loc="lower left",
                       bbox_to_anchor=(0, 1), borderpad=0, columnspacing=1.1, handlelength=1.4,
                       handletextpad=0.5)  # fmt: skip
    legend.set_in_layout(False)  # it may overlap the colour bar; the heading's pad leaves room for it
    return pad


def _legend_rows(labels: Sequence[str], wide: int) -> int:
    """Return the minimum number of rows of a legend ``wide`` letters wide; a key is six letters wide."""
    for rows in range(1, len(labels)):
        columns = [labels[i : i + rows] for i in range(0, len(labels), rows)]
        if sum(max(map(len, column)) + 6 for column in columns) <= wide:
            return rows
    return max(1, len(labels))
