"""Tables as data frames of pandas, Polars or Arrow, whichever is installed."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from ..errors import invalid_type, missing_extra, unknown_name

LIBRARIES = {"pandas": "pandas", "polars": "polars", "arrow": "pyarrow"}
"""The package of each kind of frame, in the order in which they are looked for."""


def chosen(frames: str | None) -> str:
    """Return the kind of frames to make.

    Args:
        frames: ``"pandas"``, ``"polars"`` or ``"arrow"``. None for the first of them that the program has
            imported, or else the first that is installed.

    Raises:
        InvalidValue: if it is another word.
        ModuleNotFoundError: if its package is not installed, or none of the three is.
    """
    if frames is None:
        imported = [kind for kind, package in LIBRARIES.items() if package in sys.modules]
        # pyarrow counts last: pandas and the readers of Parquet import it by themselves.
        installed = [kind for kind, package in LIBRARIES.items() if _is_installed(package)]
        kinds = [kind for kind in imported if kind != "arrow"] + installed
        if not kinds:
            raise missing_extra("A data frame", "pandas", "frames")
        return kinds[0]
    if not isinstance(frames, str):
        raise invalid_type("`frames` must be a name.", repr(frames), f"Known: {', '.join(LIBRARIES)}.")
    if frames not in LIBRARIES:
        raise unknown_name("kind of frame", frames, LIBRARIES)
    if not _is_installed(LIBRARIES[frames]):
        raise missing_extra(f"A frame of {frames}", LIBRARIES[frames], "frames")
    return frames


def _is_installed(package: str) -> bool:
    return package in sys.modules or find_spec(package) is not None


def frame(columns: Mapping[str, Sequence[Any] | Any], kind: str) -> Any:
    """Return a table as a data frame.

    Args:
        columns: lists or arrays of one length, by name; None in a list is a missing value.
        kind: from :func:`chosen`.
    """
    if kind == "arrow":
        import pyarrow

        return pyarrow.table(dict(columns))
    if kind == "polars":
        import polars

        return polars.DataFrame(dict(columns), strict=False)
    import pandas

    return pandas.DataFrame(dict(columns))
