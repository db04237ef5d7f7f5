"""Surveys by the network of a trained run: of its own samples, and of a pool."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from ..activations import ActivationDensity
from ..arrays.keyed import mix, uniform
from ..datasets import ImageData
from ..datasets.images import UNREADABLE, Images
from ..datasets.pool_part import Pool, PoolPart
from ..errors import DamagedData, damaged, invalid
from ..files.state_file import parse
from ..gaps import LIMIT, Survey, Surveyor
from ..gaps.regions import THIN
from ..options.checks import check
from ..options.naming import check_named, other_name, shown, usable
from ..options.own_classes import is_import_path
from ..options.resolve import ResolvedOptions
from ..options.resume_options import whole_options
from ..options.train_options import TEXT_TASKS, TrainOptions
from ..runs.data_changes import Changes
from ..runs.run_files import RunFiles
from ..runs.schema import RECORDED
from ..runs.training_state import TrainingState
from ..tasks.base import TaskModule
from ..tasks.console import Console
from ..tasks.image_base import ImageModule
from ..tasks.image_material import in_order_of
from ..training.jobs import build, read_data
from ..training.trainer import seeded
from .pool_survey import PoolSurvey, SurveyedPart

EVEN = 20_000
"""The least size of the even sample of a pool, and of the sample of its thin ones."""
_BATCH = 512
_EVEN, _THIN = 0xE7E4, 0x7414


@dataclass(frozen=True, eq=False)
class SurveyedRun:
    """A run, and the survey of its training samples.

    Attributes:
        run: the run.
        options: the options that it was trained with.
        data: the data that it was trained on.
        surveyor: surveys other samples.
        training: the survey of the training samples, each without itself.
        prepare: turns images into inputs of the network.
    """

    run: RunFiles
    options: ResolvedOptions
    data: ImageData
    surveyor: Surveyor
    training: Survey
    prepare: Callable[[Tensor], Tensor]

    @staticmethod
    def of(path: str | os.PathLike[str], console: Console, model: str | None = None) -> SurveyedRun:
        """Load a run: its data, its weights and its density, if it has one.

        Args:
            path: of the run.
            console: shows the progress.
            model: the network, if it is a class of the user's own; a stored class is never imported.

        Raises:
            InvalidValue: if the run is not trained, or its data have changed.
            DamagedData: if a file is damaged.
        """
        run = RunFiles(path)
        if RECORDED in run.options:
            step = "Use fallow.gaps.Surveyor, find_regions and choose in your program."
            found = f"{run.directory.path}, of a training loop of your own"
            raise invalid("Gaps are found for networks that fallow has trained.", found, step)
        model_path = run.directory.model_path
        if not model_path.exists():
            step = f"Train it to its end: fallow train --resume {quote(str(run.directory.path))}"
            raise invalid(f"{run.directory.path} must hold a trained network.", "no model.safetensors", step)
        weights = run.read_file(model_path)  # before the data are read, which takes longer
        _check_weights(run)
        if run.summary is not None and run.summary.diverged:
            diverged = f"{run.directory.path}, whose training diverged"
            raise invalid("Gaps need a sound network.", diverged, "Train again, with a lower learning rate.")
        kept = whole_options(str(path))
        stored = _with_known_density(kept, console)
        if is_import_path(str(stored["data"])):
            step = "For data of your own use fallow.gaps.Surveyor, find_regions and choose in Python."
            raise invalid("Gaps are found in images that fallow reads itself.", shown(stored["data"]), step)
        if model is not None and model != stored.get("model", "auto"):
            raise other_name("model", stored.get("model", "auto"), model)
        named = {} if model is None else {"model": model}
        options = TrainOptions(**{**usable(stored), **named, "resume": str(run.directory.path)})
        check_named(stored, options, str(run.directory.path), trains=False)
        resolved = check(options)
        if resolved.task in TEXT_TASKS:
            step = "Use fallow.gaps.Surveyor, find_regions and choose in Python."
            raise invalid("Gaps are found in images.", f"{options.data}, which is text", step)
        with seeded(resolved.seed):
            data = read_data(resolved, console, run.data)
            assert isinstance(data, ImageData)
            data = in_order_of(data, run.data)
            # The saved state is that of the user's class, which is not used here.
            density = run.directory.density_path if stored is kept else None
            return _surveyed(run, resolved, data, weights, console, density)

    def held_out(self) -> Survey:
        """Return the survey of the samples that the run's accuracy is measured on."""
        return self.surveyor.survey(_batches(self.data.test, self.prepare))


@dataclass(frozen=True, eq=False)
class SurveyedPool:
    """An even sample of a pool, and one of its thin samples.

    Attributes:
        survey: of both.
        index: int64, the position of each in the pool.
        checksums: uint64, of their pixels.
        even: bool, which belong to the even sample.
        files: by index; None if the pool has no files.
        seen: the number of samples of the pool that could be read.
        unreadable: the number of samples that could not.
    """

    survey: Survey
    index: NDArray[np.int64]
    checksums: NDArray[np.uint64]
    even: NDArray[np.bool_]
    files: dict[int, str] | None
    seen: int
    unreadable: int

    @staticmethod
    def of(
        run: SurveyedRun,
        pool: Pool,
        console: Console,
        *,
        wanted: int = 0,
        engine: Callable[[PoolSurvey], Generator[SurveyedPart]] = PoolSurvey.parts,
    ) -> SurveyedPool:
        """Read a pool once and survey it.

        Args:
            run: the run whose network is used.
            pool: the pool.
            console: shows the progress.
            wanted: the even sample has at least twice as many samples, the thin one ten times as many.
            engine: yields the surveyed parts of the pool in order; by default they are surveyed here.

        Raises:
            InvalidValue: if no sample can be read.
        """
        key = run.options.seed
        even = _Reservoir(mix(key, _EVEN), max(EVEN, 2 * wanted))
        thin = _Reservoir(mix(key, _THIN), max(EVEN, 10 * wanted))
        seen = count = 0
        unread: dict[str, str] = {}
        for note in pool.notes:
            console.line(note)
        parts = engine(PoolSurvey(pool, run.surveyor, run.prepare))
        with console.reading(pool.name) as progress, closing(parts):
            for part, survey, sums in parts:
                count += len(part.unreadable)
                unread = unread or dict(part.unreadable)
                if survey is None:
                    continue
                even.add(part, survey, sums, np.arange(len(part)))
                thin_rows = np.flatnonzero((survey.percentile > THIN) & (survey.novelty <= LIMIT))
                thin.add(part, survey, sums, thin_rows)
                seen += len(part)
                if progress is not None:
                    progress(seen, pool.total or seen)
        if count:
            name, reason = next(iter(unread.items()))
            console.line(f"Left out {count:,} that cannot be read, the first {name} ({reason}).")
        if not seen:
            rule = f"{pool.name} must hold a sample that can be read."
            raise invalid(rule, f"none of {pool.total or 0:,}", "Check its files, or name another pool.")
        # A sample may be in both reservoirs.
        both = _Kept.joined([even.kept, thin.kept])
        index, first = np.unique(both.index, return_index=True)
        files = {int(i): both.files[j] for i, j in zip(index, first, strict=True) if both.files[j]}
        return SurveyedPool(
            both.survey[first],
            index,
            both.checksums[first],
            np.isin(index, even.kept.index),
            files or None,
            seen,
            max(0, (pool.total or seen) - seen),
        )


@dataclass(frozen=True, eq=False)
class _Kept:
    """Samples of a reservoir; those with the smallest draws stay."""

    survey: Survey
    index: NDArray[np.int64]
    checksums: NDArray[np.uint64]
    files: list[str]
    draw: NDArray[np.float32]

    @staticmethod
    def joined(parts: list[_Kept]) -> _Kept:
        return _Kept(
            Survey.joined(part.survey for part in parts),
            np.concatenate([part.index for part in parts]),
            np.concatenate([part.checksums for part in parts]),
            [file for part in parts for file in part.files],
            np.concatenate([part.draw for part in parts]),
        )

    def take(self, rows: NDArray[np.int64]) -> _Kept:
        files = [self.files[row] for row in rows]
        return _Kept(self.survey[rows], self.index[rows], self.checksums[rows], files, self.draw[rows])


class _Reservoir:
    """A uniform sample of a stream, of at most ``most`` samples; a function of key and indices."""

    def __init__(self, key: int, most: int) -> None:
        self._key, self._most = key, most
        self._parts: list[_Kept] = []
        self._size = 0

    def add(self, part: PoolPart, survey: Survey, sums: NDArray[np.uint64], rows: NDArray[np.int64]) -> None:
        first, last = int(part.index[0]), int(part.index[-1]) + 1
        draws = uniform(self._key, first, last)[part.index[rows] - first]
        files = [part.files[row] if part.files else "" for row in rows]
        self._parts.append(_Kept(survey[rows], part.index[rows], sums[rows], files, draws))
        self._size += rows.size
        # Cut at twice the size only, so that each sample is copied a few times and not for each part.
        if self._size > 2 * self._most:
            self._parts = [self.kept]
            self._size = self._parts[0].index.size

    @property
    def kept(self) -> _Kept:
        """The ``most`` samples with the smallest draws."""
        every = _Kept.joined(self._parts)
        if every.index.size <= self._most:
            return every
        # Sorted, so that samples stay in the order of the pool.
        return every.take(np.sort(np.argpartition(every.draw, self._most)[: self._most]))


def _surveyed(
    run: RunFiles,
    options: ResolvedOptions,
    data: ImageData,
    weights: bytes,
    console: Console,
    density_path: Path | None,
) -> SurveyedRun:
    job = build(options, console, data, run.data)
    if changes := Changes.of(run.data, job.data):
        rule = f"The data must be those that {run.directory.path} was trained on."
        raise invalid(rule, changes.describe("image"), "Put them back: the density is learned from them.")
    module = job.module
    network = module.network if isinstance(module, TaskModule) else module
    path = run.directory.model_path
    try:
        network.load_state_dict(load(weights))
    except (SafetensorError, RuntimeError) as error:
        message = " ".join(str(error).split())[:200]
        raise damaged(f"{path} must hold the weights of this network.", message, "Train again.") from None
    gpu = torch.cuda.is_available() and options.accelerator != "cpu"
    device = torch.device("cuda" if gpu else "cpu")
    module.to(device)
    # A run that was trained by its losses has no density: one is fitted here.
    monitor = job.monitor or ActivationDensity(network, seed=options.seed)
    if job.monitor is not None and density_path is not None and density_path.exists():
        try:
            monitor.load_state_dict(parse(run.read_file(density_path), str(density_path)))
        except DamagedData:
            raise
        except Exception as error:  # a state of another version
            raise damaged(f"{density_path} must be readable.", error, "Remove it.") from None

    def prepare(images: Tensor) -> Tensor:
        images = images.to(device)
        if isinstance(module, ImageModule):
            return module.prepare(images)
        return images.float() / (255 if images.dtype == torch.uint8 else 1)

    if isinstance(module, ImageModule):
        _restore_normalisation(module, run)
    surveyor = Surveyor(monitor, network, classes=options.task == "image")
    with console.reading("the training set") as progress:
        total = 2 * len(data.train)  # one pass to fit, one to score
        surveyor.learn(_batches(data.train, prepare), _shown(progress, 0, total))
        second = _shown(progress, len(data.train), total)
        training = surveyor.survey(_batches(data.train, prepare), training=True, progress=second)
    return SurveyedRun(run, options, data, surveyor, training, prepare)


def _with_known_density(stored: dict[str, Any], console: Console) -> dict[str, Any]:
    """Return stored options with the default density in place of a class of the user's own."""
    if not is_import_path(str(stored.get("density", ""))):
        return stored
    default = TrainOptions()
    console.line(
        f"The density of this run, {shown(stored['density'])}, is a class of your own: "
        f"{default.density} is used to find gaps."
    )
    return {**stored, "density": default.density, "density_args": default.density_args}


def _restore_normalisation(module: ImageModule, run: RunFiles) -> None:
    """Normalise by the mean and deviation of the run's first session, whatever was added since."""
    state = run.search.found
    if state is None:
        return
    path = run.directory.checkpoints.state_path(state.number)
    weights = TrainingState.parse(run.directory.read(path), path).weights
    # Not strict, as the other weights come from model.safetensors.
    module.load_state_dict({name: weights[name] for name in ("mean", "std")}, strict=False)


def _check_weights(run: RunFiles) -> None:
    """Raise if the run was resumed after its weights were written."""
    path, done = run.directory.path, run.epochs_done
    written = None if run.summary is None else len(run.summary.epochs)
    if None not in (done, written) and done != written:
        step = f"Wait for its end, or resume it: fallow train --resume {quote(str(path))}"
        rule = f"The weights in {path} must be those of its last epoch."
        raise invalid(rule, f"those after {written} epochs, and {done} are done", step)


def _batches(part: Images, prepare: Callable[[Tensor], Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(part), _BATCH):
        images, labels = part.__getitems__(torch.arange(start, min(start + _BATCH, len(part))))
        readable = labels != UNREADABLE
        yield prepare(images[readable]), labels[readable]


def _shown(progress: Any, before: int, total: int) -> Callable[[int], None] | None:
    return None if progress is None else lambda done: progress(before + done, total)
