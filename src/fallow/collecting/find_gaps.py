"""``fallow gaps``: find the regions in which a trained run lacks data."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
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
from ..runs.run_files import RunFiles
from ..runs.schema import EarlierGaps
from ..tasks.console import Console
from .survey_run import SurveyedPool, SurveyedRun

_LISTED, _REMEMBERED = 50, 20
"""The number of samples that a list names, and of calls that are remembered."""


def find_gaps(
    run: str | os.PathLike[str],
    reference: str | os.PathLike[str] | None = None,
    *,
    model: str | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Find what a run's training set lacks, and write it into the run for its report.

    Args:
        run: the folder of a trained run.
        reference: a pool (:func:`~fallow.datasets.pools.open_pool`) of what the training set ought to cover;
            by default the samples that the run's accuracy is measured on.
        model: the network as ``package.module:Class``, if it is a class of your own; it must be the one that
            the run was started with.
        console: shows the progress; nothing is shown by default.

    Returns:
        What ``fallow gaps --json`` prints: ``gaps`` and ``thin`` (lists of cards), ``alone`` and ``strange``
        (lists of samples), and the numbers behind them.

    Raises:
        InvalidValue: if the run is not trained, its data have changed, or the pool is invalid.
        DamagedData: if a file is damaged.
    """
    console = console or Console.nowhere()
    surveyed_run = SurveyedRun.of(run, console, model)
    data = surveyed_run.data
    pool, files, unreadable = None, None, 0
    if reference is None:
        survey = surveyed_run.held_out()
        index = np.arange(len(data.test))
        seen = len(data.test)
    else:
        pool = open_pool(reference, data.train, data.classes)
        surveyed = SurveyedPool.of(surveyed_run, pool, console)
        survey, index = surveyed.survey[surveyed.even], surveyed.index[surveyed.even]
        files, seen, unreadable = surveyed.files, surveyed.seen, surveyed.unreadable
    training = surveyed_run.training
    regions = find_regions(training, survey, seed=surveyed_run.options.seed)
    scores = _scores(surveyed_run.run)
    maker = CardMaker(
        training, survey, data.classes, index, (data.files, files), scores, held_out=pool is None
    )
    about = {
        "run": str(surveyed_run.run.directory.path),
        "epochs": surveyed_run.run.epochs_done,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "reference": None if pool is None else pool.name,
        "training_samples": len(data.train),
        "reference_samples": seen,
        "reference_looked_at": len(survey),
        "reference_judged": int((survey.novelty <= LIMIT).sum()),
        "reference_unreadable": unreadable,
    }
    result = about | _cards(maker, regions)
    earlier = _earlier(surveyed_run.run)
    result["before"] = _before(result, earlier, survey, index)
    result["earlier"] = [*map(msgspec.to_builtins, earlier), _remembered(result)]
    try:
        _write(surveyed_run, pool, result)
    except OSError as error:
        path = surveyed_run.run.directory.gaps_path
        console.line(f"{path} cannot be written ({error.strerror or error}): no report will show this.")
    return result


def _cards(maker: CardMaker, regions: Regions) -> dict[str, Any]:
    """Return the cards of regions, and the outliers."""
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
    """Return samples of both sets, each in the order of novelty, then surprise."""
    samples = [maker.sample(int(row), "training") for row in _first(maker.training, training)]
    return samples + [maker.sample(int(row), "reference") for row in _first(maker.reference, reference)]


def _first(survey: Survey, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    # Novelty is rounded, so that samples of about the same are sorted by surprise.
    order = np.lexsort((-survey.surprise[rows], -np.round(survey.novelty[rows])))
    return rows[order][:_LISTED]


def _scores(run: RunFiles) -> list[NDArray[np.float32]]:
    """Return the scores of each epoch whose file is sound."""
    scores = []
    for epoch in run.epochs:
        with suppress(DamagedData):  # one epoch less in the trend of a card
            scores.append(run.epoch(epoch).scores)
    return scores


def _earlier(run: RunFiles) -> list[EarlierGaps]:
    """Return the results of the last calls."""
    try:
        return [] if run.gaps is None else run.gaps.gaps.earlier[-_REMEMBERED:]
    except DamagedData:
        return []


def _remembered(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that a later call compares with."""
    gaps = []
    for card in result["gaps"]:
        examples = [sample for sample in card["examples"] if sample["of"] == "reference"]
        percentiles = [sample["percentile"] for sample in examples]
        gaps.append(
            {
                **{name: card[name] for name in ("name", "class", "size", "lacking")},
                "examples": [sample["index"] for sample in examples],
                "percentile": float(np.median(percentiles)) if percentiles else None,
            }
        )
    names = ("made", "epochs", "reference", "reference_samples", "training_samples")
    return {**{name: result[name] for name in names}, "gaps": gaps}


def _before(
    result: Mapping[str, Any], earlier: list[EarlierGaps], survey: Survey, index: NDArray[np.int64]
) -> dict[str, Any] | None:
    """Return the last gaps of this reference with other training samples, and their percentiles now."""
    for call in reversed(earlier):
        same = (call.reference, call.reference_samples) == (result["reference"], result["reference_samples"])
        # With the same training samples no gap can have been filled.
        if not same or not call.gaps or call.training_samples == result["training_samples"]:
            continue
        gaps = []
        for gap in call.gaps:
            rows = np.flatnonzero(np.isin(index, gap.examples))
            now = float(np.median(survey.percentile[rows])) if rows.size else None
            gaps.append({**msgspec.to_builtins(gap), "now": now})
        return {**msgspec.to_builtins(call), "gaps": gaps}
    return None


def _write(run: SurveyedRun, pool: Pool | None, result: dict[str, Any]) -> None:
    """Write the gaps into the run, with a picture of each sample that they show."""
    shown: dict[tuple[str, int], int] = {}
    cards = [*result["gaps"], *result["thin"]]
    for sample in [sample for card in cards for sample in (*card["examples"], *card["prototypes"])]:
        sample["picture"] = shown.setdefault((sample["of"], sample["index"]), len(shown))
    pictures = _pictures(run, pool, list(shown))
    directory = run.run.directory
    directory.disk.put(directory.gaps_path, dump_gaps(result, pictures))


def _pictures(run: SurveyedRun, pool: Pool | None, shown: list[tuple[str, int]]) -> NDArray[np.uint8] | None:
    """Return small pictures of some samples, ``(K, h, w, C)``."""
    if not shown:
        return None
    pictures: dict[tuple[str, int], NDArray[np.uint8]] = {}
    training = np.array([index for of, index in shown if of == "training"], np.int64)
    for index, picture in zip(training.tolist(), run.data.train.pictures(training), strict=True):
        pictures["training", index] = picture
    reference = np.unique(np.array([index for of, index in shown if of == "reference"], np.int64))
    if pool is None:
        for index, picture in zip(reference.tolist(), run.data.test.pictures(reference), strict=True):
            pictures["reference", index] = picture
    elif reference.size:
        for part in pool.parts(reference):
            for index, picture in zip(part.index.tolist(), thumbnails(part.images.numpy()), strict=True):
                pictures["reference", index] = picture
    # A file of the pool may have become unreadable since the survey.
    blank = np.zeros_like(next(iter(pictures.values())))
    return np.stack([pictures.get(key, blank) for key in shown])
