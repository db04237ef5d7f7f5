"""A run that was stopped, put back: its state, its past epochs, and whether its data are what they were."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from ..core.history import Aggregates, EpochRecord
from ..core.numbering import Numbering
from ..core.state import ACCEPTABLE
from ..errors import DamagedData, FallowError, damaged, invalid
from ..options.resume_options import ADDED
from ..options.train_options import TrainOptions
from ..runs.checkpoints import Checkpoint, check_file
from ..runs.data_changes import Changes
from ..runs.data_file import DataFile
from ..runs.directory import RunDirectory
from ..runs.thumbnails_file import ThumbnailsFile
from ..runs.training_state import TrainingState
from ..tasks.console import Console
from .jobs import Job, noun_of
from .resume_checks import check_fits


@dataclass(frozen=True)
class Restored:
    """What a training goes on from.

    Attributes:
        state: as Lightning loads it; None where the run has none yet and begins.
        checkpoint: which.
    """

    state: TrainingState | None = None
    checkpoint: Checkpoint | None = None


@contextmanager
def taking_over(path: Path) -> Iterator[None]:
    """Name the state in whatever goes wrong while it is taken over: it may hold anything.

    Raises:
        DamagedData: if the block raises an error of Python's or torch's.
    """
    try:
        yield
    except (FallowError, OSError):
        raise
    except Exception as error:  # each part of a state has kinds of its own
        what = " ".join(f"{type(error).__name__}: {error}".split())
        step = "Go on from an older state: remove this one and its .json, or put back a copy."
        raise damaged(f"{path} must be a state of this training.", f"{what:.300}", step) from error


def newest(run: RunDirectory, console: Console) -> Checkpoint | None:
    """Return the newest sound state, and say what is damaged; None where the run has none yet.

    Raises:
        DamagedData: where no state of finished epochs is sound.
    """
    search = run.checkpoints.newest()
    for said in search.damage:
        console.line(f"Not used: {said}")
    if search.found is None:
        if run.epochs():
            step = "Put back a copy of the folder, or begin the run anew in another one."
            raise damaged(f"{run.path} must hold a sound state.", "none", step)
        console.line("No epoch was finished: the run begins anew.")
        return None
    if search.damage:
        console.line(f"Going on from state {search.found.number}; what came after it is trained again.")
    run.data_name = search.found.about.data
    return search.found


def data_of(run: RunDirectory, checkpoint: Checkpoint | None) -> DataFile | None:
    """Return what the samples of a state are; None where there is no state, or that file is not sound."""
    if checkpoint is None:
        return None
    name = run.data_path.name
    try:
        if name in checkpoint.files:
            check_file(run.path, name, checkpoint.files[name])
    except DamagedData:
        return None
    return DataFile.read(run.data_path)


def restore(
    run: RunDirectory,
    job: Job,
    options: TrainOptions,
    console: Console,
    checkpoint: Checkpoint | None,
    before: DataFile | None,
    *,
    writes: bool = True,
) -> Restored:
    """Load a state into the subsampler, and say how the data have changed since.

    Args:
        run: the folder.
        job: built from the run's options.
        options: of this session; ``accept`` says what may differ.
        console: where to say it.
        checkpoint: the newest sound state, or None.
        before: what its samples were, or None.
        writes: whether this process is the one that writes.

    Raises:
        DamagedData: where no state is sound, or a past epoch's file is not and that is not accepted.
        InvalidValue: where data, policy or seed are not those of the run, and that is not accepted.
    """
    if checkpoint is None:
        return Restored()
    changes = None if before is None else Changes.of(before, job.data)
    checkpoint = _for_other_data(run, checkpoint, options, changes, console)
    wrong = run.checkpoints.unsound(checkpoint)
    _check_data(run, job, options, wrong, changes)
    done = checkpoint.about.epoch
    if changes:
        _say(run, job, options, checkpoint, changes, console)
    path = run.checkpoints.state_path(checkpoint.number)
    data = run.read(path)
    state = TrainingState.parse(data, path)
    file = _numbered(run, job.data, before, changes, done)
    with taking_over(path):
        check_fits(state, path, checkpoint.about, job)
        return _restored(
            run, job, options, console, checkpoint, (data, state), (wrong, changes, file), writes=writes
        )


def _say(
    run: RunDirectory,
    job: Job,
    options: TrainOptions,
    checkpoint: Checkpoint,
    changes: Changes,
    console: Console,
) -> None:
    """Say how the data have changed.

    Raises:
        InvalidValue: where the run has finished, so that nothing is left to train on them.
    """
    planned, about = job.subsampler.schedule.epochs, checkpoint.about
    if planned <= about.epoch == about.epochs:
        step = "Begin a run on the new data, or train longer too: --epochs N --accept epochs,data."
        rule = f"{run.path} must have epochs left to train on other data."
        raise invalid(rule, f"none: all {planned} are done", step)
    for said in (f"The data have changed: {changes.describe(noun_of(options))}.", *job.remarks):
        console.passage(said)


def _restored(
    run: RunDirectory,
    job: Job,
    options: TrainOptions,
    console: Console,
    checkpoint: Checkpoint,
    saved_state: tuple[bytes, TrainingState],
    found: tuple[dict[str, str], Changes | None, DataFile],
    *,
    writes: bool,
) -> Restored:
    data, state = saved_state
    wrong, changes, file = found
    done, origin = checkpoint.about.epoch, changes.moved if changes else None
    _forget_foreign_checkpoints(state.callbacks, console)
    run.lost = _lost_epochs(run, checkpoint, wrong, options)
    if writes:
        for lost in filter(Path.exists, map(run.epoch_path, run.lost)):
            run.disk.rename(lost, lost.with_suffix(".damaged"))
    run.lost |= _without_a_file(run, checkpoint, state)
    state.put_history(_history(run, state))
    job.subsampler.load_state_dict(state.subsampler, accept=_accepted(options), origin=origin)
    if changes and (changed := np.union1d(changes.relabelled, changes.remade)).size:
        job.subsampler.renew(changed)
    state.subsampler = job.subsampler.state_dict()
    if origin is not None and job.monitor is not None and state.density is not None:
        job.monitor.load_state_dict(state.density)
        job.monitor.renumber(origin)
        state.density = job.monitor.state_dict(local=True)
    run.digests.update(checkpoint.files)
    run.checkpoints.trust(checkpoint)
    if writes and run.data_path.name in wrong and run.data_path.exists():
        run.disk.rename(run.data_path, run.data_path.with_suffix(".damaged"))
    renamed = changes is not None and changes.renamed and done < job.subsampler.schedule.epochs
    if changes is None or changes or renamed:
        run.data_name = f"data-{run.checkpoints.next_number():03d}.safetensors"
        if writes:
            run.put(run.data_path, file.dump())
            if origin is not None:
                _renumber_shown(run, origin)
    if writes and wrong:
        checkpoint = _without_what_is_damaged(run, checkpoint, data, state)
    return Restored(state, checkpoint)


def _forget_foreign_checkpoints(callbacks: dict[str, Any], console: Console) -> None:
    """Leave out what Lightning's ModelCheckpoint saved if it names files outside of its folder.

    It removes the files that it names when better ones come.
    """
    for name in [name for name in callbacks if name.startswith("ModelCheckpoint")]:
        part = callbacks[name]
        best = part.get("best_k_models") or {}
        named = [
            *best,
            part.get("last_model_path"),
            part.get("best_model_path"),
            part.get("kth_best_model_path"),
        ]
        folder = os.path.abspath(str(part.get("dirpath")))
        inside = (os.path.dirname(os.path.abspath(str(path))) == folder for path in named if path)
        if not all(inside):
            del callbacks[name]
            console.line("Lightning's checkpoints begin anew: the state names files outside of their folder.")


def _without_what_is_damaged(
    run: RunDirectory, checkpoint: Checkpoint, data: bytes, state: TrainingState
) -> Checkpoint:
    """Write the state anew, so that nothing builds on the damaged files any more."""
    run.checkpoints.distrust()
    about = structs.replace(checkpoint.about, data=run.data_name)
    return run.checkpoints.write(data, about, run.needed(state.written))


def _for_other_data(
    run: RunDirectory,
    checkpoint: Checkpoint,
    options: TrainOptions,
    changes: Changes | None,
    console: Console,
) -> Checkpoint:
    """Return the state to go on from: one from between two epochs, where other data are accepted."""
    if not {"data", ADDED} & set(options.accepted) or not checkpoint.about.recorded:
        return checkpoint
    if changes is not None and not changes:
        return checkpoint
    between = run.checkpoints.newest(between=True).found
    # One that has another list of samples is not what the changes were told of.
    if between is None or between.about.data != checkpoint.about.data:
        return checkpoint
    console.line(f"Other data join between two epochs: going on from state {between.number}.")
    return between


def _numbered(
    run: RunDirectory, data: DataFile, before: DataFile | None, changes: Changes | None, epoch: int
) -> DataFile:
    """Return what the samples are, with where they stood in past epochs; the run reads these by it."""
    numbering = Numbering.none() if before is None else before.numbering
    if changes is not None and changes.origin is not None and (changes.gone or numbering.since.size):
        origin = changes.origin
        if changes.gone:
            numbering = numbering.after(origin, epoch)
        elif changes.new:  # the same places, and further ones
            more = np.full((numbering.since.size, changes.new), -1, np.int64)
            numbering = Numbering(np.concatenate([numbering.origin, more], axis=1), numbering.since)
    run.numbering = numbering
    if not numbering.since.size:
        return data
    return replace(data, origin=numbering.origin, since=numbering.since)


def _renumber_shown(run: RunDirectory, origin: NDArray[np.int64]) -> None:
    """Let the pictures that a report shows be those of the samples as they stand now."""
    if not run.thumbnails_path.exists():
        return
    with suppress(DamagedData):
        shown = ThumbnailsFile.read(run.thumbnails_path)
        now = np.full(int(shown.index.max(initial=-1)) + 1, -1, np.int64)
        known = np.flatnonzero((origin >= 0) & (origin < now.size))
        now[origin[known]] = known
        run.put(run.thumbnails_path, shown.renumbered(now[shown.index]).dump())


def _accepted(options: TrainOptions) -> set[str]:
    """Return what may differ in the subsampler, by what may differ in the options."""
    accept = set(ACCEPTABLE) & set(options.accepted)
    if set(options.accepted) - {"data", "history", ADDED}:
        accept |= {"policy", "schedule", "seed", "min_kept", "min_kept_per_class"}
    if {"data", ADDED} & set(options.accepted):
        accept |= {"n", "labels", "min_kept", "min_kept_per_class"}
    return accept


def _check_data(
    run: RunDirectory, job: Job, options: TrainOptions, wrong: dict[str, str], changes: Changes | None
) -> None:
    """Raise where the data differ and that is not accepted, or cannot be.

    Raises:
        InvalidValue: where it is not accepted, or cannot be: other classes, or a held-out sample to train on.
        DamagedData: where nobody can tell.
    """
    if run.tokenizer_path.name in wrong:
        raise DamagedData(
            f"{wrong[run.tokenizer_path.name]} Put back a copy of it: other tokens are other data."
        )
    name = run.data_path.name
    if name in wrong or changes is None:
        if name != "data.safetensors":  # another order of the samples than that of the data as they are read
            raise DamagedData(f"{wrong[name]} Put back a copy of it: the order of the samples is in it.")
        if "data" not in options.accepted:
            step = "Put back a copy of it; where you know that the data are the same, add --accept data."
            raise DamagedData(f"{wrong[name]} {step}")
        return
    if not changes:
        return
    said = changes.describe(noun_of(options))
    if any(change.kind == "classes" for change in changes.by_position):
        raise invalid(f"The classes must be those of {run.path}.", f"a change: {said}", "Begin another run.")
    if changes.leaked:
        raise invalid(
            f"No sample that {run.path} measured its accuracy on may be trained on.",
            f"{changes.leaked:,} of them among the training samples; {said}",
            "Move them back to where they were held out, or begin another run.",
        )
    grew = ADDED in options.accepted and changes.only_added and not job.unlisted
    if "data" not in options.accepted and not grew:
        raise invalid(
            f"The data must be those that {run.path} was begun with.",
            f"a change: {said}",
            "Put them back, or add --accept data: samples are known by their content, wherever they stand.",
        )


def _lost_epochs(
    run: RunDirectory, checkpoint: Checkpoint, wrong: dict[str, str], options: TrainOptions
) -> set[int]:
    """Return the past epochs whose files are damaged; raise where that is not accepted."""
    lost = set()
    for epoch in range(checkpoint.about.epoch):
        path = run.epoch_path(epoch)
        said = wrong.get(path.relative_to(run.path).as_posix())
        if said is None:
            continue
        if "history" not in options.accepted:
            step = "Put back a copy of it, or go on without knowing what that epoch used: --accept history."
            raise DamagedData(f"{said} {step}")
        lost.add(epoch)
    return lost


def _without_a_file(run: RunDirectory, checkpoint: Checkpoint, state: TrainingState) -> set[int]:
    """Return the past epochs that the state does not build on, as they were lost before."""
    names = {epoch: run.epoch_path(epoch).relative_to(run.path).as_posix() for epoch in range(state.written)}
    return {epoch for epoch, name in names.items() if name not in checkpoint.files}


def _history(run: RunDirectory, state: TrainingState) -> list[EpochRecord]:
    """Return the past epochs: from their files, or without their bits from the rows of a summary."""
    history = []
    for epoch, seconds in enumerate(state.record_seconds):
        if epoch in run.lost:
            record = _from_row(run, state.rows[epoch])
        elif epoch >= state.written:
            record = run.parse_epoch(state.pending[epoch - state.written].tobytes(), epoch).record
        else:
            record = run.read_epoch(epoch).record
        history.append(replace(record, record_seconds=seconds))
    return history


def _from_row(run: RunDirectory, row: dict[str, Any]) -> EpochRecord:
    """Return a past epoch whose file is lost: its numbers are known, but not which samples it used."""
    aggregates = {name: row[name] for name in Aggregates.__struct_fields__}
    if row["mean_score"] is None:
        aggregates["mean_score"] = np.nan
    aggregates["score_quantiles"] = [np.nan if q is None else q for q in row["score_quantiles"]]
    places = run.numbering.places(row["epoch"], row["n"])
    there = row["n"] if places is None else int(places.size)
    no_bits = np.zeros(-(-there // 8), np.uint8)
    return EpochRecord.restore(no_bits, {**aggregates, "record_seconds": 0.0, "gone": row["n"] - there})
