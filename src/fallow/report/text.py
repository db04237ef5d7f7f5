"""Numbers, names and data as text for the page; hostile names cannot become markup."""

from __future__ import annotations

import json
import math
import re
import unicodedata
import zlib
from base64 import b64encode
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runs.sample_names import relative
from ..spelling import spelled

NAME = 60
"""Maximum length of a name in characters."""
_BREAKS = re.compile(r"\s+")
# "</script>" would end the script; the last two are line ends in older JavaScript.
_IN_JSON = {ord(c): f"\\u{ord(c):04x}" for c in "<>&'\u2028\u2029"}


def name(text: str, limit: int = NAME) -> str:
    r"""Return a name on one line, cut to ``limit``; invisible and bidirectional characters are escaped.

    >>> name("a\u202eb\n c")
    'a\\u202eb c'
    """
    return _BREAKS.sub(" ", passage(text, limit)).strip()


def path(text: str, limit: int = 2 * NAME, folder: str | None = None) -> str:
    r"""Return the path of a file on one line, relative to a folder; a long path keeps its end.

    It is cut between folders, unless too little would remain.

    >>> path("/data/photos/cats/1.png", folder="/data/photos"), path("/data/photos/cats/1.png", 14)
    ('cats/1.png', '…/cats/1.png')
    """
    shown = relative(text, folder) if folder else text
    if len(shown) > limit:
        end = shown[len(shown) - limit + 1 :]
        cut = max(end.find("/"), 0)
        shown = "…" + (end[cut:] if cut < limit // 2 else end)
    shown = name(shown, 8 * limit)
    if any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in shown):
        shown = shown.replace("/", "/\u200e")  # else names in Arabic or Hebrew reverse the order of folders
    return shown


def passage(text: str, limit: int) -> str:
    """Return a text of several lines, cut to ``limit``; invisible characters are escaped."""
    return spelled(text if len(text) <= limit else text[: limit - 1] + "…")


def count(value: float) -> str:
    """Return a whole number with thousands separators: ``1,281,167``."""
    return f"{round(value):,}"


def plural(value: int, one: str, many: str = "") -> str:
    """Return a count with its noun: ``1 sample``, ``2 samples``."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def share(value: float | None, digits: int = 1) -> str:
    """Return a share as ``45.0%``, or a dash for none."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f}%"


def score(value: float | None) -> str:
    """Return a score with three digits, or a dash for none."""
    if value is None or not math.isfinite(value):
        return "–"
    value += 0.0  # -0.0 becomes 0.0
    if value and abs(value) < 0.01:
        return f"{value:.2g}".replace("e-0", "e-")
    if abs(value) < 1:
        return f"{value:.3f}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def seconds(value: float) -> str:
    """Return a time as ``2.4 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    if value < 100:
        return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def percent(value: float) -> str:
    """Return a coordinate as ``12.34%``."""
    return f"{100 * value:.2f}".rstrip("0").rstrip(".") + "%"


def number(value: float) -> str:
    """Return a coordinate with up to two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def as_json(value: Any) -> str:
    """Return JSON without characters that an HTML parser could read as markup."""
    # Browsers refuse NaN in JSON.
    return json.dumps(value, separators=(",", ":"), allow_nan=False).translate(_IN_JSON)


def packed(rows: NDArray[Any], level: int = 6) -> str:
    """Return the deflated bytes of an array as base64."""
    return b64encode(zlib.compress(np.ascontiguousarray(rows).tobytes(), level)).decode()
