"""The style of all charts, and their files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import missing_extra
from ...files.disk import DISK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#1A1A1A"
_FONTS = "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Microsoft YaHei", "PingFang SC", "Noto Sans Devanagari"
"""Fonts for letters that DejaVu Sans lacks, if they are installed."""
# The salt makes the ids in an SVG the same each time.
_STYLE: dict[Any, Any] = {"font.size": 13, "legend.frameon": False, "svg.hashsalt": "fallow"}


@contextmanager
def plain_style(what: str) -> Iterator[None]:
    """Draw with the defaults of matplotlib and fallow, and restore the user's settings afterwards.

    Args:
        what: the chart, for the error if matplotlib is missing.
    """
    try:
        from matplotlib import font_manager, style
    except ModuleNotFoundError:
        raise missing_extra(what, "matplotlib") from None
    installed = {font.name for font in font_manager.fontManager.ttflist}
    families = {"font.family": ["DejaVu Sans", *(name for name in _FONTS if name in installed)]}
    with style.context(["default", {**_STYLE, **families}]), warnings.catch_warnings():
        # Letters that no installed font has are drawn as boxes.
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from font", UserWarning)
        yield


def one_line(text: str, limit: int) -> str:
    """Return a name on one line, cut to ``limit``, with invisible characters escaped."""
    line = " ".join(text[: 4 * limit].split())
    line = "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in line)
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def write_chart(figure: Figure, folder: Path, name: str, dpi: int) -> list[Path]:
    """Write ``name.png`` and ``name.svg``, each whole or not at all; equal figures give equal bytes."""
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    with plain_style("A chart"):
        # The layout measures every text, which is most of the work: do it once, not for each file.
        figure.set_dpi(dpi)
        if (engine := figure.get_layout_engine()) is not None:
            engine.execute(figure)
            figure.set_layout_engine(None)
    # Version and date are left out of the files, so that equal figures give equal bytes.
    for path, date in zip(paths, ("Software", "Date"), strict=True):
        drawn = BytesIO()
        with plain_style("A chart"):
            figure.savefig(drawn, format=path.suffix[1:], dpi=dpi, metadata={date: None})
        DISK.make_folder(folder)
        DISK.put(path, drawn.getvalue())
    return paths
