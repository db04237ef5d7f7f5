"""A page of the samples to collect, for the person who fills in their labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from ..runs.picks_file import Pick
from . import text
from .page import LARGEST, inline_hash, own, template
from .pictures import picture
from .samples import file_names

_STYLE = (
    ".many { grid-template-columns: repeat(auto-fill, minmax(6rem, 1fr)); } .many .names { height: 1.3em; }"
)


def render_picks(
    picks: Sequence[Pick],
    predicted: Sequence[str | None],
    pictures: NDArray[np.uint8] | None,
    path: PurePath,
    largest: int = LARGEST,
) -> str:
    """Return the page of a list of picks.

    Args:
        picks: the picks, sorted by region.
        predicted: the predicted class of each, or None.
        pictures: uint8 ``(K, h, w, C)``, the picture of each; or None.
        path: of the list.
        largest: the maximum size in bytes; a larger page is written without pictures.
    """
    groups: dict[str, list[int]] = {}
    for place, pick in enumerate(picks):
        groups.setdefault(pick.region or pick.reason.partition(":")[0], []).append(place)

    def shown(place: int, *, drawn: bool) -> dict[str, object]:
        pick = picks[place]
        rows = pictures[place] if drawn and pictures is not None else None
        return {
            "index": f"{pick.index:,}",
            "label": text.name(pick.label),
            "predicted": text.name(predicted[place] or "") or None,
            **file_names(pick.file, pick.pool),
            "picture": None if rows is None else picture(rows),
        }

    style = own("report.css") + _STYLE
    for drawn in (True, False):
        page = str(
            template("picks.html.j2").render(
                title=text.name(path.name),
                sentence=f"{text.plural(len(picks), 'sample')} chosen. Gaps are numbered by this pool.",
                pool=text.path(picks[0].pool) if picks else "",
                list=text.name(path.name),
                groups=[
                    {
                        "name": text.name(name),
                        "sentence": _sentence(picks[places[0]].reason),
                        "picks": [shown(place, drawn=drawn) for place in places],
                    }
                    for name, places in groups.items()
                ],
                style=style,
                style_hash=inline_hash(style),
            )
        )
        if len(page.encode()) <= largest:
            break
    return page


def _sentence(reason: str) -> str:
    """Return the part of a reason that holds for all samples of its region."""
    common = reason.split("; the network")[0].partition(": ")[2]
    return common[:1].upper() + common[1:] + "."
