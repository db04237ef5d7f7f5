"""Write a report: one file of at most 5 MB that loads nothing and runs only its own script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import invalid
from ..runs.directory import check_output
from ..runs.highlights import Highlights
from ..runs.run_files import RunFiles
from . import classes, epochs, facts, gaps, samples, text, usage
from .page import LARGEST, inline_hash, own, template
from .source import Source

MARKS = 1_120_000
"""Maximum size of the marks of single samples in deflated bytes: 1.5 MB on the page."""


def write_report(run: RunFiles, out: Path | None = None) -> Path:
    """Write the report of a run; the same run gives the same bytes.

    Args:
        run: a run with at least one finished epoch.
        out: the file; ``RUN/report.html`` by default.

    Returns:
        The path of the file.

    Raises:
        InvalidValue: if no epoch is finished.
        DamagedData: if a file of the run is damaged.
        ModuleNotFoundError: if jinja2 is missing.
        OSError: if the file cannot be written.
    """
    path = run.directory.path / "report.html" if out is None else Path(out)
    if out is not None:
        check_output(path, r"report[^/]*\.html")
    run.directory.disk.put(path, render(run).encode())
    return path


def render(run: RunFiles, largest: int = LARGEST) -> str:
    """Return the page as text of at most ``largest`` bytes.

    Raises:
        InvalidValue: if it does not fit even without optional parts; and as :func:`write_report`.
    """
    source = Source.read(run)
    shown, rows = samples.chosen(source), usage.rows(source)
    tally = usage.Tally(rows, len(source.drawn))
    single, scores, fates = _drawn_epochs(source, shown, rows, tally)
    gap_section = gaps.section(source)
    sizes = [(MARKS, True, 2), (MARKS // 8, True, 0), (MARKS // 8, False, 0)]
    if gap_section is not None and gap_section["pictured"]:  # drop pictures of thin regions, then of gaps
        sizes[1:1] = [(MARKS, True, 1), (MARKS, True, 0)]
    size = 0
    for marks, pictures, gap_pictures in sizes:
        page = _page(source, {
            "chart": usage.chart(source, rows, single, tally, marks),
            "gaps": gap_section,
            "gap_pictures": gap_pictures,
            "groups": samples.groups(source, shown, scores, fates, pictures=pictures),
            "life": {"scores": text.packed(scores), "fates": text.packed(fates)},
        })  # fmt: skip
        size = len(page.encode())
        if size <= largest:
            return page
    raise invalid(f"A report must have at most {largest:,} bytes.", f"{size:,}")


def _drawn_epochs(
    source: Source, shown: Highlights, rows: usage.Rows, tally: usage.Tally
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
    """Read the drawn epochs and add them to the tally.

    Returns:
        The fates of single rows ``(M, E)``, and scores and fates of the shown samples ``(K, E)``.
    """
    size, index, single = len(source.drawn), shown.index, rows.single
    marks = np.empty((size, single.size), np.uint8)
    scores, fates = np.empty((size, index.size), np.float32), np.empty((size, index.size), np.uint8)
    for place, record in enumerate(source.drawn):
        file = source.run.epoch(record.epoch)
        tally.add(place, file)
        marks[place] = usage.fates(file, single)
        fates[place] = usage.fates(file, index)
        scores[place] = samples.scores_of(file, index)
    return marks.T, np.ascontiguousarray(scores.T), np.ascontiguousarray(fates.T)


def _page(source: Source, parts: dict[str, Any]) -> str:
    style, script = (own(name) for name in ("report.css", "report.js"))
    chart = parts["chart"]
    cards = [card for group in parts["groups"] for card in (*group["first"], *group["rest"])]
    keys = ("index", "given", "predicted", "score", "times", "whole")
    rows = {card["row"]: [card[key] for key in keys] for card in cards}
    return str(
        template("report.html.j2").render(
            **parts,
            heading=facts.heading(source),
            saved=facts.saved(source),
            tokens=facts.tokens(source),
            settings=facts.settings(source),
            reasons=epochs.reasons(source),
            accuracy=epochs.accuracy(source),
            scores=epochs.scores(source),
            numbers=epochs.table(source),
            classes=classes.tables(source),
            unit=source.unit,
            columns=len(source.drawn),
            step=chart["about"]["step"],
            facts=text.as_json({**chart["about"], "samples": [rows[row] for row in sorted(rows)],
                                "unit": source.unit, "total": len(source.history)}),
            style=style,
            script=script,
            style_hash=inline_hash(style),
            script_hash=inline_hash(script),
        )
    )  # fmt: skip
