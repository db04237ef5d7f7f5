"""The usage chart of a run: which samples were used in which epoch, what was left out and why, the scores.

Up to 60 samples are drawn as in the publication, a mark for each epoch that used the sample. More are an
image whose rows are blocks of samples, so that its size does not grow with their number.

References:
    Subsampling Training Data During Artificial Neural Network Training (US 2020/0302273 A1)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .._checks import invalid
from ..bitset import unpack
from ..history import EDGES, EpochRecord, fitted
from ..policies.base import Reason
from .style import INK, plain_style, write_chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History: TypeAlias = Sequence[EpochRecord]

FEW, FEW_CELLS, ROWS, DPI = 60, 6_000, 512, 150
GROUPED, NAMED = 64, 20  # so many classes are put together (more would only flicker), so many are named
_USED, _CUT, _ENDS, _STEPS = "#0072B2", "#D55E00", 14, 100
_ABSENT: dict[str, Any] = {"facecolor": "#EDEDED", "edgecolor": "#A8A8A8", "hatch": "///", "linewidth": 0}
_FIELDS = "kept", "learned", "outliers", "not_drawn", "by_hand"  # of a record, one for each Reason
_COLOURS = _USED, "#F0E442", "#D55E00", "#56B4E9", "#CC79A7"  # of Okabe and Ito
_HATCHES = "", "", "xx", "..", "\\\\"
_LINES = ("median", "-", [2]), ("25, 75 %", "--", [1, 3]), ("5, 95 %", ":", [0, 4])


def usage_chart(
    history: History, *, labels: NDArray[Any] | None = None, title: str = "", unit: str = "nats"
) -> Figure:
    """Draw which samples were used in each epoch, what was left out and why, and how the scores spread.

    Args:
        history: consecutive epochs of a run, at least one.
        labels: classes ``(N,)`` by which many samples are put together; few stand in index order.
        title: of the figure, which is 12 x 6.5 inches and belongs to no pyplot.
        unit: of the scores.

    Raises:
        InvalidValue: where there is no epoch, or not one label a sample.
        ModuleNotFoundError: without matplotlib.
    """
    if not history:
        raise invalid("A usage chart needs at least one finished epoch.", 0, "Train for an epoch first.")
    n, epochs = history[-1].n, len(history)
    if labels is not None and np.shape(labels) != (n,):
        raise invalid(f"`labels` must be one label a sample, ({n},).", f"shape {np.shape(labels)}")
    used = sum(record.backward for record in history) / sum(record.n for record in history)
    facts = f"{n:,} sample{'s'[: n - 1]}, {epochs:,} epoch{'s'[: epochs - 1]}: {100 * used:.1f} % used"
    with plain_style("The usage chart"):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(12, 6.5), layout="constrained")
        grid = figure.add_gridspec(1, 2, width_ratios=(1.12, 1))
        left, right = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
        if n <= FEW and n * epochs <= FEW_CELLS:
            _marks(left.subplots(), history, facts)
        else:
            _image(left.subplots(), history, facts, labels)
        above, below = right.subplots(2)
        _reasons(above, history)
        _scores(below, history, unit)
        figure.suptitle(title, fontsize=16, parse_math=False, wrap=True)
    return figure


def save_usage(
    history: History, folder: Path, *, labels: NDArray[Any] | None = None, title: str = "", unit: str = "nats"
) -> list[Path]:
    """Write :func:`usage_chart` to ``usage.png`` and ``usage.svg`` in ``folder``, each whole or not at all.

    The folder is made if need be. The same history gives the same bytes. Returns the two paths.
    """
    figure = usage_chart(history, labels=labels, title=title, unit=unit)
    return write_chart(figure, folder, "usage", DPI)


def block_shares(
    history: History, order: NDArray[np.integer] | None = None, rows: int = ROWS
) -> NDArray[np.float64]:
    """Return which share of each block of samples each epoch used; one epoch is unpacked at a time.

    A share is exactly 0 or 1 only where none or all of the block's samples that were there were used.

    Args:
        history: E epochs; the last has N samples, earlier ones may have fewer.
        order: ``(N,)``, the samples from the first row to the last; index order by default.
        rows: how many blocks, nearly equal in size; one a sample where N is smaller.

    Returns:
        ``(min(rows, N), E)``; NaN where no sample of the block was there yet.
    """
    n = history[-1].n
    starts = np.arange(min(rows, n)) * n // min(rows, n)
    shares = np.full((starts.size, len(history)), np.nan)
    order = np.arange(n) if order is None else order
    for epoch, record in enumerate(history):
        used = np.add.reduceat(_used(record, n)[order], starts, dtype=np.int64)
        there = np.add.reduceat(order < record.n, starts, dtype=np.int64)
        np.divide(used, there, out=shares[:, epoch], where=there > 0)
    return shares


def usage_order(history: History, classes: NDArray[np.integer] | None = None) -> NDArray[Any]:
    """Return the samples by class, then by times used, the most used first: integers ``(N,)``.

    Among equals, those used in the same epochs stand together, by index.
    """
    n = history[-1].n
    order, times = np.arange(n, dtype=np.int32 if n < 2**31 else np.int64), np.zeros(n, np.int16)
    for record in reversed(history):  # a radix sort, a bit at a time
        used = _used(record, n)
        times -= used
        now = used[order]
        order = np.concatenate([order[now], order[~now]])
    for key in (times, classes):
        order = order if key is None else order[np.argsort(key[order], kind="stable")]
    return order


def _used(record: EpochRecord, n: int) -> NDArray[np.bool_]:
    """Return which of the first ``n`` samples the epoch used; those that came later were not."""
    used: NDArray[np.bool_] = fitted(unpack(record.used_bits, record.n), n, False)
    return used


def _marks(ax: Axes, history: History, heading: str) -> None:
    """Draw a row a sample, a column an epoch, and a mark where the sample was used."""
    from matplotlib.patches import Patch

    n, first = history[-1].n, history[0].epoch
    shares = block_shares(history)
    side = min(20.0, 0.62 * 72 * min(5.0 / len(history), 4.6 / n))
    looks = (1, _USED, "s", side**2, "_"), (0, "#767676", ".", min(40, side**2 / 2), "left out")
    for share, colour, marker, size, label in looks:
        sample, epoch = np.nonzero(shares == share)
        if sample.size:
            ax.scatter(epoch + first, sample, size, colour, marker=marker, label=label, lw=0, zorder=3)
    ax.set_ylim(n - 0.5, -0.5)
    if history[0].n < n:
        late = np.array([[r.epoch, n - r.n] for r in history if r.n < n])
        ax.bar(late[:, 0], late[:, 1], 1, n - late[:, 1] - 0.5, label="not there yet", zorder=2, **_ABSENT)
    ax.set_yticks(range(n), ["" if n > 24 and i % 5 else str(i) for i in range(n)])
    ax.set_ylabel("sample")
    ax.grid(color="#DDDDDD", linewidth=0.7)
    _frame(ax, history, heading, [Patch(fc=_USED, label="used")])


def _image(ax: Axes, history: History, heading: str, labels: NDArray[Any] | None) -> None:
    """Draw a row a block of samples, a column an epoch, and the share used as a shade."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    n, across = history[-1].n, (history[0].epoch - 0.5, history[-1].epoch + 0.5)
    names, classes = np.unique(np.zeros(n) if labels is None else labels, return_inverse=True)
    grouped = labels is not None and len(names) <= GROUPED
    shares = block_shares(history, usage_order(history, classes if grouped else None))
    shades = colormaps["cividis"](np.linspace(0.97, 0.5, _STEPS))
    colours = ListedColormap(["white"] * _ENDS + list(shades) + [_USED] * _ENDS)
    codes = np.clip(_ENDS + np.floor(shares * _STEPS), _ENDS, _ENDS + _STEPS - 1)
    codes[shares == 0], codes[shares == 1] = 0, colours.N - 1
    image = ax.imshow(np.ma.masked_invalid(codes), colours, aspect="auto", interpolation="nearest",
                      vmin=-0.5, vmax=colours.N - 0.5, extent=(*across, n, 0))  # fmt: skip
    patches = [Patch(label="not there yet", **_ABSENT)] if history[0].n < n else []
    ax.patch.set(**_ABSENT)
    if len(shares) == n:
        patches = [Patch(fc=_USED, label="used"), Patch(fc="white", ec=INK, label="left out"), *patches]
    else:
        at = [_ENDS / 2, *(_ENDS + _STEPS * q for q in (0.25, 0.5, 0.75)), _ENDS * 1.5 + _STEPS]
        bar = ax.figure.colorbar(image, ax=ax, location="bottom", aspect=40, fraction=0.05)
        bar.set_ticks([code - 0.5 for code in at], labels=["none", "25 %", "50 %", "75 %", "all"])
        bar.set_label(f"used, of the {n / len(shares):,.0f} samples in a row")
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ax.set_ylabel("samples, most used at the top")
    if grouped:
        _name_classes(ax, names, np.bincount(classes))
    _frame(ax, history, heading, patches)


def _name_classes(ax: Axes, names: NDArray[Any], sizes: NDArray[np.int64]) -> None:
    """Cut between the classes and name them, where there is room."""
    ends, ticks = np.cumsum(sizes), dict[float, str]()
    for middle, name in zip(ends - sizes / 2, names, strict=True):
        if len(names) <= NAMED and (not ticks or middle - max(ticks) >= 0.05 * ends[-1]):
            ticks[middle] = str(name)[:14].replace("$", r"\$")
    ax.hlines(ends[:-1] if len(names) <= NAMED else [], *ax.get_xlim(), color=_CUT, linewidth=1.2)
    ax.set_yticks(list(ticks), list(ticks.values()))
    ax.set_ylabel("samples by class, most used at the top")


def _reasons(ax: Axes, history: History) -> None:
    """Draw how many samples each epoch kept, and how many it left out for each reason."""
    from matplotlib.ticker import MaxNLocator

    edges = np.arange(history[0].epoch, history[-1].epoch + 2) - 0.5
    below = np.zeros(len(history))
    for reason, field, colour, hatch in zip(Reason, _FIELDS, _COLOURS, _HATCHES, strict=True):
        above = below + [getattr(record, field) for record in history]
        if (above > below).any():
            ax.stairs(above, edges, baseline=below, fill=True, label=reason.words,
                      facecolor=colour, edgecolor="white", hatch=hatch, linewidth=0)  # fmt: skip
        below = above
    measured = np.array([record.forward_only for record in history])
    if (there := np.flatnonzero(measured)).size:
        ax.scatter(edges[there] + 0.5, measured[there], 50, INK, edgecolors="white", clip_on=False,
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
    edges = np.array([EDGES[1] / 2, *EDGES[1:], EDGES[-1] * 1.5])  # a log axis has no room for 0 and infinity
    across = np.arange(history[0].epoch, history[-1].epoch + 2) - 0.5
    shades = colormaps["cividis_r"](np.linspace(0, 1, 256))
    shades[:48] += (1 - shades[:48]) * np.linspace(1, 0, 48)[:, None]  # a handful of samples is not to shout
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    filled = np.flatnonzero((shares >= 0.001).any(axis=1))
    mesh = ax.pcolormesh(across, edges, shares, cmap=ListedColormap(shades), vmin=0, rasterized=True)
    bar = ax.figure.colorbar(mesh, ax=ax, aspect=15, pad=0.02, format=lambda share, _: f"{100 * share:.0f} %")
    bar.set_label("share of scores")
    lines = np.array([record.score_quantiles for record in history])
    lines = np.clip(lines, EDGES[1] * 0.5**0.5, EDGES[-1] * 1.5**0.5)
    x, lines = (across, np.repeat(lines, 2, axis=0)) if len(lines) == 1 else (across[:-1] + 0.5, lines)
    width = 1.7 if len(history) <= 40 else 1.0
    halo = [withStroke(linewidth=width + 1.8, foreground="white")]
    for label, dash, pair in _LINES:
        drawn = ax.plot(x, lines[:, pair], dash, color="black", lw=width, path_effects=halo)
        drawn[0].set_label(label)
    low, high = (edges[filled[0]], edges[filled[-1] + 1]) if filled.size else (0.1, 1.0)
    ticks = {EDGES[1] * 0.5**0.5: "0"} if low < EDGES[1] else {}
    room = max(1.0, 12 * low / high) ** 0.5  # so that one power of ten at least is seen
    low, high = low / room, high * room
    steps = (1, 2, 5) if high < 300 * low else (1,)
    at = [v for k in range(-6, 2) for s in steps if max(low, 4 * EDGES[1]) <= (v := s * 10.0**k) <= high]
    ticks |= {v: f"{v:g}".replace("e-0", "e-") for v in at[:: -(-len(at) // 6) or 1]}
    ax.set(yscale="log", ylim=(low, high), ylabel=f"score ({unit})" if unit else "score")
    ax.set_yticks(list(ticks), list(ticks.values()))
    ax.tick_params(axis="y", which="minor", length=0, labelleft=False)
    _frame(ax, history, f"Scores of the samples trained on{'' if filled.size else ': none'}")


def _frame(ax: Axes, history: History, heading: str, patches: Sequence[Any] | None = None) -> None:
    """Give a panel its epochs, a triangle where samples came back, and above it heading and legend."""
    first, last = history[0].epoch, history[-1].epoch
    step = next(s * 10**k for k in range(9) for s in (1, 2, 5) if s * 10**k * 10 > last - first)
    ax.set(xlim=(first - 0.5, last + 0.5), xlabel="epoch")
    ax.set_xticks(range(-(-first // step) * step, last + 1, step))
    back = [b.epoch for a, b in pairwise(history) if b.readmitted and b.kept - a.kept >= max(1, b.n / 100)]
    if back:
        ax.scatter(back, np.ones(len(back)), 36, INK, marker=7, transform=ax.get_xaxis_transform(),
                   clip_on=False, label="_" if patches is None else "re-admission")  # fmt: skip
    handles = [*(patches or ()), *ax.get_legend_handles_labels()[0]]
    rows = max(1, -(-len(handles) // 3))
    ax.set_title(heading, loc="left", fontsize="medium", fontweight="bold", pad=10 + 20 * rows)
    legend = ax.legend(handles=handles, ncols=-(-len(handles) // rows) or 1, loc="lower left",
                       bbox_to_anchor=(0, 1), borderpad=0, columnspacing=1.1, handlelength=1.4,
                       handletextpad=0.5)  # fmt: skip
    legend.set_in_layout(False)  # it may reach over the colour bar; the heading's pad leaves it room
