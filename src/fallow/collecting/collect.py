"""``fallow collect``: which candidates of a pool would fill what a run lacks."""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays.thumbnails import thumbnails
from ..datasets.pool_part import Pool
from ..datasets.pools import open_pool
from ..errors import NotWritten, check_integer, invalid
from ..files.disk import DISK
from ..gaps import Choice, Plan, choose
from ..report.picks import render_picks
from ..runs.directory import RunDirectory, check_output
from ..runs.picks_file import Pick, dump_picks
from ..tasks.console import Console
from .survey_run import SurveyedPool, SurveyedRun

_REASONS = {
    "thin": "thin: few training samples lie near it",
    "random": "random: drawn from all other candidates, whatever the density says",
}


@dataclass(frozen=True, eq=False)
class Collected:
    """What to collect.

    Attributes:
        picks: those for what is missing first, then thin ones, then random ones.
        path: of the list.
        seen: how many samples of the pool could be read.
        looked_at: how many of them were kept to choose from.
        junk: how many of those kept are made unlike the training samples, and ``alike`` nearly like one.
        gaps: how many regions the training set lacks.
        budget: how many were asked for.
        held_out: how many are samples that the run is measured on.
        unreadable: how many could not be read.
    """

    picks: list[Pick]
    path: Path
    seen: int
    looked_at: int
    junk: int
    alike: int
    gaps: int
    budget: int
    held_out: int = 0
    unreadable: int = 0

    @property
    def counts(self) -> Counter[str]:
        """How many picks there are of each kind: a gap's name, ``thin`` or ``random``."""
        return Counter(pick.region or pick.reason.split(":")[0] for pick in self.picks)

    def to_list(self) -> list[dict[str, Any]]:
        """Return the picks as JSON takes them."""
        return [asdict(pick) for pick in self.picks]


def collect(
    run: str | os.PathLike[str],
    pool: str | os.PathLike[str],
    count: int,
    *,
    out: str | os.PathLike[str] | None = None,
    model: str | None = None,
    console: Console | None = None,
) -> Collected:
    """Choose samples of a pool that would fill what a run's training set lacks, and write the list.

    Args:
        run: the folder of a trained run.
        pool: the candidates; see :func:`~fallow.datasets.pools.open_pool`.
        count: how many to choose.
        out: the list; ``RUN/picks-000.csv``, or the next number, by default. A page with the pictures is
            written beside it, as ``picks-000.html``.
        model: the network as ``package.module:Class``, if it is a class of your own; it must be the one that
            the run was begun with.
        console: where to show how far it is; nowhere by default.

    Raises:
        InvalidValue: where there is no trained run or no such pool, or no candidate qualifies.
        DamagedData: where files are not sound.
        NotWritten: where the list cannot be written, or is there already.
    """
    count = check_integer("count", count, 1)
    console = console or Console.nowhere()
    path = RunDirectory(run).next_csv("picks") if out is None else Path(out)
    _check_new(path)
    found = SurveyedRun.of(run, console, model)
    opened = open_pool(pool, found.data.train, found.data.classes)
    surveyed = SurveyedPool.of(found, opened, console, wanted=count)
    held_out = found.run.data.held_out
    leaked = np.zeros(len(surveyed.index), bool)
    if held_out is not None:
        leaked = np.isin(surveyed.checksums, held_out)
    rows = np.flatnonzero(~leaked)
    if not rows.size:
        raise invalid("The pool must hold a candidate.", "only samples that the run is measured on")
    plan = choose(
        found.training, surveyed.survey[rows], count, even=surveyed.even[rows], seed=found.options.seed
    )
    words = _Words(plan, found.data.classes, surveyed, rows, opened.name)
    picks = [words.pick(choice) for choice in plan.choices]
    page = render_picks(picks, words.predicted(plan), _pictures(opened, picks), path)
    try:
        DISK.put(path, dump_picks(picks))
        DISK.put(path.with_suffix(".html"), page.encode())
    except OSError as error:
        raise NotWritten(
            f"{path} cannot be written: {error.strerror or error}. Name another --out."
        ) from None
    return Collected(
        picks,
        path,
        surveyed.seen,
        len(rows),
        plan.junk,
        plan.alike,
        len(plan.regions.missing),
        count,
        int(leaked.sum()),
        surveyed.unreadable,
    )


def _check_new(path: Path) -> None:
    """Raise if the list, or the page beside it, cannot be a new file.

    Raises:
        InvalidValue: saying why.
    """
    page = path.with_suffix(".html")
    if page == path or not path.name:
        raise invalid("The list must be a table.", path, "Name another --out, as picks.csv.")
    for file, what in ((path, "The list"), (page, "The page with the pictures, beside the list,")):
        if os.path.lexists(file):
            step = "Name another --out: what somebody may have worked on is never overwritten."
            raise invalid(f"{what} must be a new file.", file, step)
    check_output(path, r"picks[^/]*\.csv")
    if not path.parent.is_dir():
        raise invalid("The folder of the list must be there.", f"no {path.parent}", "Make it first.")


def _pictures(pool: Pool, picks: list[Pick]) -> NDArray[np.uint8]:
    """Return a small picture of each pick."""
    index = np.array([pick.index for pick in picks], np.int64)
    found: dict[int, NDArray[np.uint8]] = {}
    for part in pool.parts(np.unique(index)):
        found.update(zip(part.index.tolist(), thumbnails(part.images.numpy()), strict=True))
    return np.stack([found[row] for row in index.tolist()])


@dataclass(frozen=True, eq=False)
class _Words:
    """Says why a candidate was chosen."""

    plan: Plan
    classes: tuple[str, ...]
    pool: SurveyedPool
    rows: Any
    name: str

    def pick(self, choice: Choice) -> Pick:
        row = int(self.rows[choice.row])
        survey = self.pool.survey
        label, index = int(survey.labels[row]), int(self.pool.index[row])
        reason = self._missing(choice.region) if choice.region is not None else _REASONS[choice.why]
        predicted = int(survey.predicted[row])
        if predicted >= 0:
            reason += f"; the network takes it for {self._class(predicted)}"
        return Pick(
            index,
            self._class(label) if label >= 0 else "",
            choice.score if math.isfinite(choice.score) else 0.0,
            "" if choice.region is None else f"gap {choice.region + 1}",
            reason,
            self.name,
            (self.pool.files or {}).get(index, ""),
            f"{int(self.pool.checksums[row]):016x}",
        )

    def predicted(self, plan: Plan) -> list[str | None]:
        """Return the class that the network takes each choice for, or None."""
        rows = [int(self.pool.survey.predicted[int(self.rows[choice.row])]) for choice in plan.choices]
        return [self._class(label) if label >= 0 else None for label in rows]

    def _class(self, label: int) -> str:
        return self.classes[label] if label < len(self.classes) else str(label)

    def _missing(self, number: int) -> str:
        region = self.plan.regions.missing[number]
        return (
            f"missing: {region.factor:.1f} times as large a share of the pool as of the training set lies in "
            f"gap {number + 1}, which has {region.training.size} thin training "
            f"sample{'s'[: region.training.size != 1]}"
        )
