"""The chart of a comparison: test accuracy against the share of samples saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .style import plain_style, write_chart

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 250


def frontier_chart(results: dict[str, Any]) -> Figure:
    """Draw accuracy against saving."""
    with plain_style("The frontier chart"):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.5, 6.5), layout="constrained")
        ax = figure.subplots()
        for name in dict.fromkeys(row["arm"] for row in results["arms"]):
            rows = [row for row in results["arms"] if row["arm"] == name]
            ax.errorbar(
                [100 * row["saved_fraction"] for row in rows],
                [100 * row["accuracy"]["mean"] for row in rows],
                [100 * (row["accuracy"]["sd"] or 0) for row in rows],
                marker="o",
                label=name,
            )
        ax.legend()
    return figure


def save_frontier(results: dict[str, Any], folder: Path) -> list[Path]:
    """Write :func:`frontier_chart` to ``frontier.png`` and ``frontier.svg`` in ``folder``."""
    return write_chart(frontier_chart(results), folder, "frontier", DPI)
