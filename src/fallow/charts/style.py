"""How every chart is drawn and written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._checks import missing_extra
from ..storage import DISK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#1A1A1A"
_STYLE: dict[Any, Any] = {"font.size": 13, "legend.frameon": False, "svg.hashsalt": "fallow"}


@contextmanager
def plain_style(what: str) -> Iterator[None]:
    """Draw with matplotlib's own defaults and ours, whatever the user has set; put theirs back.

    Args:
        what: is drawn, for the error where matplotlib is missing.
    """
    try:
        from matplotlib import style
    except ModuleNotFoundError:
        raise missing_extra(what, "matplotlib") from None
    with style.context(["default", _STYLE]):
        yield


def write_chart(figure: Figure, folder: Path, name: str, dpi: int) -> list[Path]:
    """Write ``name.png`` and ``name.svg``, each whole or not at all; equal figures give equal bytes."""
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    for path, date in zip(paths, ("Software", "Date"), strict=True):
        drawn = BytesIO()
        with plain_style("A chart"):
            figure.savefig(drawn, format=path.suffix[1:], dpi=dpi, metadata={date: None})
        DISK.make_folder(folder)
        DISK.put(path, drawn.getvalue())
    return paths
