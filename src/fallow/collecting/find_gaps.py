"""``fallow gaps``: where a trained run lacks data."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..arrays.thumbnails import thumbnails
from ..datasets.pool_part import Pool
from ..datasets.pools import open_pool
from ..errors import DamagedData
from ..gaps import LIMIT, Regions, Survey, find_regions
from ..gaps.cards import CardMaker
from ..runs.gaps_file import dump_gaps
from ..runs.run import Run
from ..runs.schema import EarlierGaps
from ..tasks.console import Console
from .survey_run import SurveyedPool, SurveyedRun

_LISTED, _REMEMBERED = 50, 20
"""Samples of a list that are named, and calls that are remembered."""


def find_gaps(
    run: str | os.PathLike[str],
    reference: str | os.PathLike[str] | None = None,
    *,
    model: str | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Find what a run's training set lacks, and keep it in the run for its report.

    Args:
        run: the folder of a trained run.
        reference: a pool (:func:`~fallow.datasets.pools.open_pool`) of what the training set ought to cover;
            by default the samples that the run's accuracy is measured on.
        model: the network as ``package.module:Class``, if it is a class of your own; it must be the one that
            the run was begun with.
        console: where to show how far it is; nowhere by default.

    Returns:
        ``gaps`` and ``thin`` (lists of cards), ``alone`` and ``strange`` (lists of samples), and the numbers
        behind them: all that ``fallow gaps --json`` prints.

    Raises:
        InvalidValue: where there is no trained run or no such pool, or the run's data are not what they were.
        DamagedData: where files are not sound.
    """
    console = console or Console.nowhere()
    found = SurveyedRun.of(run, console, model)
    data, pool, files, unreadable = found.data, None, None, 0
    if reference is None:
        survey, index, seen = found.held_out(), np.arange(len(data.test)), len(data.test)
    else:
        pool = open_pool(reference, data.train, data.classes)
        surveyed = SurveyedPool.of(found, pool, console)
        survey, index = surveyed.survey[surveyed.even], surveyed.index[surveyed.even]
        files, seen, unreadable = surveyed.files, surveyed.seen, surveyed.unreadable
    regions = find_regions(found.training, survey, seed=found.options.seed)
    scores, both = _scores(found.run), (data.files, files)
    maker = CardMaker(found.training, survey, data.classes, index, both, scores, held_out=pool is None)
    about = {
        "run": str(found.run.directory.path),
        "epochs": found.run.epochs_done,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "reference": None if pool is None else pool.name,
        "training_samples": len(data.train),
        "reference_samples": seen,
        "reference_looked_at": len(survey),
        "reference_judged": int((survey.novelty <= LIMIT).sum()),
        "reference_unreadable": unreadable,
    }
    told = about | _told(maker, regions)
    earlier = _earlier(found.run)
    told["before"] = _before(told, earlier, survey, index)
    told["earlier"] = [*map(msgspec.to_builtins, earlier), _remembered(told)]
    try:
        _keep(found, pool, told)
    except OSError as error:
        said = error.strerror or error
        console.line(f"{found.run.directory.gaps_path} cannot be written ({said}): no report will show this.")
    return told


def _told(maker: CardMaker, regions: Regions) -> dict[str, Any]:
    """Return what is told of regions and outliers."""
    missing, thin = maker.cards(regions)
    return {
        "usual": regions.usual,
        "gaps": missing,
        "thin": thin,
        "alone": _samples(maker, *regions.alone),
        "strange": _samples(maker, *regions.novel),
        "alone_count": [part.size for part in regions.alone],
        "strange_count": [part.size for part in regions.novel],
    }


def _samples(
    maker: CardMaker, training: NDArray[np.int64], reference: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """Return the strangest, then the most surprising, ones of a list."""
    every = [maker.sample(int(row), "training") for row in _first(maker.training, training)]
    return every + [maker.sample(int(row), "reference") for row in _first(maker.reference, reference)]


def _first(survey: Survey, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    order = np.lexsort((-survey.surprise[rows], -np.round(survey.novelty[rows])))
    return rows[order][:_LISTED]


def _scores(run: Run) -> list[NDArray[np.float32]]:
    """Return the scores of each epoch whose file is sound."""
    found = []
    for epoch in run.epochs:
        try:
            found.append(run.epoch(epoch).scores)
        except DamagedData:
            continue
    return found


def _earlier(run: Run) -> list[EarlierGaps]:
    """Return what was found before, the last times."""
    try:
        return [] if run.gaps is None else run.gaps.gaps.earlier[-_REMEMBERED:]
    except DamagedData:
        return []


def _remembered(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a later call compares with."""
    gaps = []
    for card in told["gaps"]:
        theirs = [one for one in card["examples"] if one["of"] == "reference"]
        gaps.append(
            {
                **{name: card[name] for name in ("name", "class", "size", "lacking")},
                "examples": [one["index"] for one in theirs],
                "percentile": float(np.median([one["percentile"] for one in theirs])) if theirs else None,
            }
        )
    names = ("made", "epochs", "reference", "reference_samples", "training_samples")
    return {**{name: told[name] for name in names}, "gaps": gaps}


def _before(
    told: Mapping[str, Any], earlier: list[EarlierGaps], survey: Survey, index: NDArray[np.int64]
) -> dict[str, Any] | None:
    """Return how the gaps stand now that the same reference showed with other training samples."""
    for one in reversed(earlier):
        same = (one.reference, one.reference_samples) == (told["reference"], told["reference_samples"])
        if not same or not one.gaps or one.training_samples == told["training_samples"]:
            continue
        gaps = []
        for gap in one.gaps:
            at = np.flatnonzero(np.isin(index, gap.examples))
            now = float(np.median(survey.percentile[at])) if at.size else None
            gaps.append({**msgspec.to_builtins(gap), "now": now})
        return {**msgspec.to_builtins(one), "gaps": gaps}
    return None


def _keep(found: SurveyedRun, pool: Pool | None, told: dict[str, Any]) -> None:
    """Write the gaps into the run, with a picture of each sample that they show."""
    shown: dict[tuple[str, int], int] = {}
    cards = [*told["gaps"], *told["thin"]]
    for one in [sample for card in cards for sample in (*card["examples"], *card["prototypes"])]:
        one["picture"] = shown.setdefault((one["of"], one["index"]), len(shown))
    pictures = _pictures(found, pool, list(shown))
    directory = found.run.directory
    directory.disk.put(directory.gaps_path, dump_gaps(told, pictures))


def _pictures(
    found: SurveyedRun, pool: Pool | None, shown: list[tuple[str, int]]
) -> NDArray[np.uint8] | None:
    """Return small pictures of some samples, ``(K, h, w, C)``."""
    if not shown:
        return None
    made: dict[tuple[str, int], NDArray[np.uint8]] = {}
    own = np.array([index for of, index in shown if of == "training"], np.int64)
    for index, picture in zip(own.tolist(), found.data.train.pictures(own), strict=True):
        made["training", index] = picture
    theirs = np.unique(np.array([index for of, index in shown if of == "reference"], np.int64))
    if pool is None:
        for index, picture in zip(theirs.tolist(), found.data.test.pictures(theirs), strict=True):
            made["reference", index] = picture
    elif theirs.size:
        for part in pool.parts(theirs):
            for index, picture in zip(part.index.tolist(), thumbnails(part.images.numpy()), strict=True):
                made["reference", index] = picture
    blank = np.zeros_like(next(iter(made.values())))
    return np.stack([made.get(key, blank) for key in shown])
