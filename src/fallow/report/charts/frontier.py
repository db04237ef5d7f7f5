"""The chart of a comparison: the result of each arm against the share of samples that it saves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import invalid
from .style import INK, one_line, plain_style, write_chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI, SIDE, SIZE = 250, 6.5, 13.0  # dots per inch and inches of the picture; points of the letters
GAP = 1.35  # between labels, in letter heights
LONGEST = 24  # letters of an arm's name
_FULL = "full"
_STYLES: dict[str, tuple[str, str, str]] = {
    "fewer-epochs": ("#5A5A5A", "s", "--"),
    "fewer-epochs-thin": ("#8E8E8E", "s", "-."),
    "random": ("#5A5A5A", "D", ":"),
    "random-dropped": ("#8E8E8E", "D", "-."),
}
_COLOURS = "#0072B2", "#D55E00", "#117733", "#AA4499", "#332288", "#8A6D00", "#882255"
_MARKERS = "o", "^", "v", "P", "X", "<", ">", "p", "h", "d", "8"
_NAMES = {
    _FULL: "full training",
    "fewer-epochs": "fewer epochs",
    "fewer-epochs-thin": "fewer, thinner batches",
    "random": "random subsets",
    "random-dropped": "random, fewer steps",
}

Points = list[tuple[float, float, float]]
"""The points of an arm: percent saved, result, standard deviation of the result; sorted by saving."""


class _Measure(NamedTuple):
    """The measured result: its field in a row, factor, title, and the finest step of the axis."""

    name: str
    scale: float
    title: str
    step: float


_MEASURES = {
    "accuracy": _Measure("accuracy", 100.0, "accuracy, %", 0.1),
    "bits_per_character": _Measure("bits_per_character", 1.0, "bits a character, less is better", 0.002),
}


def frontier_chart(results: dict[str, Any]) -> Figure:
    """Draw test accuracy, or bits per character, against samples saved.

    Each arm is a line, named at its right end; full training is a band. Bars and band show one standard
    deviation over the seeds to either side. If bars overlap, the shorter ones are in front.

    Args:
        results: the content of ``results.json`` of a comparison.

    Returns:
        A figure of 6.5 x 6.5 inches, not registered with pyplot.

    Raises:
        InvalidValue: if no arm has a result.
        ModuleNotFoundError: if matplotlib is missing.
    """
    measure = _MEASURES[results["measure"]]
    arms = _points(results["arms"], measure)
    if not arms:
        raise invalid(f"A frontier chart needs an arm with {measure.name}.", "none", "Let a run finish.")
    with plain_style("The frontier chart"):
        # Without pyplot, which would keep every figure and choose a backend.
        from matplotlib.figure import Figure

        figure = Figure(figsize=(SIDE, SIDE))
        longest = max(len(_label(name)) for name in arms)
        room = (0.56 * longest + 3.2) * SIZE / (72 * SIDE)
        ax = figure.add_axes((0.125, 0.105, 0.875 - room, 0.74))
        _frame(ax, results, arms, measure)
        styles = _styles([name for name in arms if name != _FULL])
        ends = {name: _draw(ax, name, arms, styles) for name in arms}
        _name(ax, ends, styles)
    return figure


def save_frontier(results: dict[str, Any], folder: Path) -> list[Path]:
    """Write :func:`frontier_chart` to ``frontier.png`` and ``frontier.svg`` in ``folder``."""
    return write_chart(frontier_chart(results), folder, "frontier", DPI)


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return places as near to ``wanted`` as possible, in its order, ``gap`` apart and inside [low, high].

    Neighbours that would overlap move as a group around their mean. If there is no room for all, they stand
    closer, evenly.

    Args:
        wanted: the wanted places, ascending.
        gap: between neighbours.
        low: the minimum of the first.
        high: the maximum of the last.

    >>> spread([0.0, 5.0, 5.0], 2.0, 0.0, 10.0)
    [0.0, 4.0, 6.0]
    """
    count = len(wanted)
    gap = min(gap, (high - low) / max(1, count - 1))
    groups: list[list[float]] = []  # first place and size
    for place in wanted:
        groups.append([place, 1])
        while True:
            group = groups[-1]
            group[0] = min(max(group[0], low), high - gap * (group[1] - 1))
            if len(groups) < 2 or groups[-2][0] + gap * groups[-2][1] <= group[0]:
                break
            first, members = groups.pop(-2)
            middle = (first + gap * (members - 1) / 2) * members + (
                group[0] + gap * (group[1] - 1) / 2
            ) * group[1]
            group[1] += members
            group[0] = middle / group[1] - gap * (group[1] - 1) / 2
    return [first + gap * k for first, members in groups for k in range(int(members))]


def _points(rows: Sequence[dict[str, Any]], measure: _Measure) -> dict[str, Points]:
    """Return the points of each arm that has any, full training first."""
    arms: dict[str, Points] = {}
    for row in sorted(rows, key=lambda row: bool(row["arm"] != _FULL)):
        values = row[measure.name]
        if values["mean"] is not None:
            middle, sd = (measure.scale * (values[name] or 0.0) for name in ("mean", "sd"))
            arms.setdefault(row["arm"], []).append((100 * row["saved_fraction"], middle, sd))
    return {name: sorted(points) for name, points in arms.items()}


def _styles(names: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """Return colour, marker and dash of each arm, all different; the controls are grey."""
    styles = dict(_STYLES)
    for place, name in enumerate(name for name in names if name not in _STYLES):
        dash = ("-", "-.")[place // len(_COLOURS) % 2]
        styles[name] = _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)], dash
    return styles


def _frame(ax: Axes, results: dict[str, Any], arms: dict[str, Points], measure: _Measure) -> None:
    settings = results["settings"]
    every = [point for points in arms.values() for point in points]
    far = max(5.0, max(saved for saved, _, _ in every))
    bottom = min(value - sd for _, value, sd in every)
    top = max(value + sd for _, value, sd in every)
    edge = max(0.05 * (top - bottom), measure.step)
    ax.set(xlim=(min(0.0, min(s for s, _, _ in every)) - 0.04 * far, 1.1 * far))
    ax.set(ylim=(bottom - edge, top + edge))
    ax.set_xlabel("samples saved, % of full training")
    part = "validation" if settings.get("validation") else "test"
    ax.grid(color="#E4E4E4", linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.locator_params(nbins=6)
    x = -0.105 / ax.get_position().width
    ax.set_title(f"{part} {measure.title}", loc="left", x=x, fontsize=SIZE, pad=12)
    fewest, seeds = (end(row["n"] for row in results["arms"]) for end in (min, max))
    title = one_line(str(settings["data"]).rstrip("/").split("/")[-1], 34)
    figure: Any = ax.figure
    # A dollar in a name must not begin a formula.
    figure.text(0.02, 0.957, title, fontsize=SIZE + 2, fontweight="bold", parse_math=False)
    many = f"{seeds}" if fewest == seeds else f"{fewest} to {seeds}"
    average = "one seed" if seeds == 1 else f"mean and standard deviation of {many} seeds"
    epochs = settings["epochs"]
    figure.text(0.02, 0.918, f"{epochs} epoch{'s'[: epochs != 1]}, final epoch; {average}", color="#4A4A4A")


def _draw(
    ax: Axes, name: str, arms: dict[str, Points], styles: dict[str, tuple[str, str, str]]
) -> tuple[float, float]:
    """Draw one arm, and return the end of its line in dots. The line of a control starts at full training."""
    saved, values, sd = (list(part) for part in zip(*arms[name], strict=True))
    if name == _FULL:
        ax.axhline(values[0], color=INK, linewidth=1.6, zorder=2)
        ax.axhspan(values[0] - sd[0], values[0] + sd[0], color="#DADADA", linewidth=0, zorder=0)
        x, y = ax.transAxes.transform((1.0, 0.0))[0], ax.transData.transform((0.0, values[0]))[1]
        return float(x), float(y)
    colour, marker, dash = styles[name]
    if name in _STYLES and _FULL in arms:
        start = [0.0, saved[0]], [arms[_FULL][0][1], values[0]]
        ax.plot(*start, color=colour, linestyle=dash, linewidth=1.0, alpha=0.7, zorder=1)
    longest = max(sd for points in arms.values() for _, _, sd in points)
    for share, value, half in arms[name]:
        if half > 0:
            z = 2.9 - 0.8 * half / longest  # short bars in front of long ones
            ax.errorbar(share, value, half, color=colour, linewidth=1.3, zorder=z)
            ends = value - half, value + half
            ax.scatter([share, share], ends, 50, colour, marker="_", linewidth=1.3, zorder=z)
    ax.plot(
        saved,
        values,
        color=colour,
        marker=marker,
        markersize=7.5,
        markeredgecolor="white",
        markeredgewidth=0.7,
        linestyle=dash,
        linewidth=1.5,
        zorder=3,
    )
    x, y = ax.transData.transform((saved[-1], values[-1]))
    return float(x), float(y)


def _name(ax: Axes, ends: dict[str, tuple[float, float]], styles: dict[str, tuple[str, str, str]]) -> None:
    """Write each arm's name beside the chart, near its end, with a thin line to it."""
    figure: Any = ax.figure
    scale = figure.dpi / 72
    names = sorted(ends, key=lambda name: ends[name][1])
    left, low = ax.transAxes.transform((1.0, 0.0))
    high = ax.transAxes.transform((1.0, 1.0))[1]
    size = min(SIZE, (high - low) / scale / GAP / max(1, len(names) - 1))  # smaller if there are many names
    places = spread([ends[name][1] for name in names], GAP * size * scale, low, high)
    back = figure.transFigure.inverted().transform
    for name, y in zip(names, places, strict=True):
        colour, marker, dash = styles.get(name, (INK, "", "-"))
        corners = [ends[name], (left + 6 * scale, y), (left + 20 * scale, y)]
        across, up = zip(*(back(corner) for corner in corners), strict=True)
        lead = figure.add_artist(_line(across[:2], up[:2], color=colour, linewidth=0.7, alpha=0.55))
        lead.set_in_layout(False)
        key = _line(across[1:], up[1:], color=colour, linewidth=1.6, linestyle=dash, marker=marker)
        key.set(markevery=[1], markersize=7, markeredgecolor="white", markeredgewidth=0.7)
        figure.add_artist(key)
        x, y = back((left + 27 * scale, y))
        figure.text(x, y, _label(name), va="center", fontsize=size, color=INK, parse_math=False)


def _label(name: str) -> str:
    """Return the label of an arm; a long name, such as the path of a user's class, keeps its end."""
    label = _NAMES.get(name, name)
    return one_line(label if len(label) <= LONGEST else f"…{label[1 - LONGEST :]}", 6 * LONGEST)


def _line(x: Sequence[float], y: Sequence[float], **style: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D(x, y, solid_capstyle="butt", **style)
