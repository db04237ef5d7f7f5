"""``fallow collect``: choose the candidates of a pool that would fill what a run lacks."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays.thumbnails import thumbnails
from ..datasets.pool_part import Pool
from ..datasets.pools import open_pool
from ..errors import NotWritten, check_integer, invalid, unknown_name
from ..files.disk import DISK
from ..gaps import Choice, Plan, choose
from ..report.picks import render_picks
from ..runs.directory import RunDirectory, check_output
from ..runs.picks_file import Pick, dump_picks
from ..tasks.console import Console
from . import on_ray
from .pool_survey import PoolSurvey, SurveyedPart
from .survey_run import SurveyedPool, SurveyedRun

_ENGINES: dict[str, Callable[[PoolSurvey], Generator[SurveyedPart]]] = {
    "local": PoolSurvey.parts,
    "ray": on_ray.parts,
}

_REASONS = {
    "thin": "thin: few training samples lie near it",
    "random": "random: drawn from all other candidates, whatever the density says",
}


@dataclass(frozen=True, eq=False)
class Collected:
    """The result of :func:`collect`.

    Attributes:
        picks: those for missing regions first, then thin ones, then random ones.
        path: of the list.
        seen: the number of samples of the pool that could be read.
        looked_at: the number of them that were kept to choose from.
        junk: the number of those kept whose inputs are unlike the training inputs.
        alike: the number of those kept that are near-duplicates of training samples.
        gaps: the number of missing regions.
        budget: the number of picks asked for.
        held_out: the number of candidates that the run is measured on.
        unreadable: the number of samples that could not be read.
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
        """The number of picks of each kind: a gap's name, ``thin`` or ``random``."""
        return Counter(pick.region or pick.reason.split(":")[0] for pick in self.picks)

    def to_list(self) -> list[dict[str, Any]]:
        """Return the picks as plain values, for JSON."""
        return [asdict(pick) for pick in self.picks]


def collect(
    run: str | os.PathLike[str],
    pool: str | os.PathLike[str],
    count: int,
    *,
    out: str | os.PathLike[str] | None = None,
    model: str | None = None,
    engine: str = "local",
    console: Console | None = None,
) -> Collected:
    """Choose samples of a pool that would fill what a run's training set lacks, and write the list.

    Args:
        run: the folder of a trained run.
        pool: the candidates; see :func:`~fallow.datasets.pools.open_pool`.
        count: the number of samples to choose.
        out: the path of the list; by default ``RUN/picks-000.csv`` or the next number. A page with the
            pictures is written beside it, as ``picks-000.html``.
        model: the network as ``package.module:Class``, if it is a class of your own; it must be the one that
            the run was started with.
        engine: ``local`` to survey the pool in this process; ``ray`` to survey its parts in workers of Ray
            Data, which gives the same list. A running cluster of Ray is used, else one is started here.
        console: shows the progress; nothing is shown by default.

    Raises:
        InvalidValue: if the run is not trained, the pool or the list is invalid, or no candidate qualifies.
        DamagedData: if a file is damaged.
        NotWritten: if the list cannot be written.
        WrongState: if a worker of Ray fails.
        ModuleNotFoundError: if Ray is missing.
    """
    count = check_integer("count", count, 1)
    if engine not in _ENGINES:
        raise unknown_name("engine", str(engine), _ENGINES)
    if engine == "ray":
        on_ray.check(os.fspath(pool))
    console = console or Console.nowhere()
    directory = RunDirectory(run)
    directory.check()
    path = directory.next_csv("picks") if out is None else Path(out)
    # Before anything is read, since a survey may take long.
    _check_new(path)
    surveyed_run = SurveyedRun.of(run, console, model)
    data = surveyed_run.data
    candidates = open_pool(pool, data.train, data.classes)
    surveyed = SurveyedPool.of(surveyed_run, candidates, console, wanted=count, engine=_ENGINES[engine])
    held_out = surveyed_run.run.data.held_out
    leaked = np.zeros(len(surveyed.index), bool)
    # Training on samples that accuracy is measured on would inflate it.
    if held_out is not None:
        leaked = np.isin(surveyed.checksums, held_out)
    rows = np.flatnonzero(~leaked)
    if not rows.size:
        raise invalid("The pool must hold a candidate.", "only samples that the run is measured on")
    seed = surveyed_run.options.seed
    plan = choose(surveyed_run.training, surveyed.survey[rows], count, even=surveyed.even[rows], seed=seed)
    maker = _PickMaker(plan, data.classes, surveyed, rows, candidates.name)
    picks = [maker.pick(choice) for choice in plan.choices]
    page = render_picks(picks, maker.predicted(), _pictures(candidates, picks), path)
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
    """Raise InvalidValue if the list, or the page beside it, cannot be a new file."""
    page = path.with_suffix(".html")
    if page == path or not path.name:
        raise invalid("The list must be a table.", path, "Name another --out, as picks.csv.")
    for file, name in ((path, "The list"), (page, "The page with the pictures, beside the list,")):
        # A link to nowhere is in the way too.
        if os.path.lexists(file):
            step = "Name another --out: a file that may have been edited is never overwritten."
            raise invalid(f"{name} must be a new file.", file, step)
    check_output(path, r"picks[^/]*\.csv")
    if not path.parent.is_dir():
        raise invalid("The folder of the list must exist.", f"no {path.parent}", "Create it first.")


def _pictures(pool: Pool, picks: list[Pick]) -> NDArray[np.uint8]:
    """Return a small picture of each pick."""
    index = np.array([pick.index for pick in picks], np.int64)
    pictures: dict[int, NDArray[np.uint8]] = {}
    for part in pool.parts(np.unique(index)):
        pictures.update(zip(part.index.tolist(), thumbnails(part.images.numpy()), strict=True))
    return np.stack([pictures[row] for row in index.tolist()])


@dataclass(frozen=True, eq=False)
class _PickMaker:
    """Makes picks of choices, with reasons in words."""

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
            choice.score if math.isfinite(choice.score) else 0.0,  # JSON has no infinity
            "" if choice.region is None else f"gap {choice.region + 1}",
            reason,
            self.name,
            (self.pool.files or {}).get(index, ""),
            f"{int(self.pool.checksums[row]):016x}",
        )

    def predicted(self) -> list[str | None]:
        """Return the predicted class of each choice, or None if the network has no classes."""
        labels = [int(self.pool.survey.predicted[self.rows[choice.row]]) for choice in self.plan.choices]
        return [self._class(label) if label >= 0 else None for label in labels]

    def _class(self, label: int) -> str:
        return self.classes[label] if label < len(self.classes) else str(label)

    def _missing(self, number: int) -> str:
        region = self.plan.regions.missing[number]
        return (
            f"missing: {region.factor:.1f} times as large a share of the pool as of the training set lies in "
            f"gap {number + 1}, which has {region.training.size} thin training "
            f"sample{'s'[: region.training.size != 1]}"
        )
