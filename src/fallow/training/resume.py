"""Resumes a stopped run: loads its state and its past epochs, and checks its data."""

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
    """The state that a training resumes from; both None if it starts from the beginning."""

    state: TrainingState | None = None
    checkpoint: Checkpoint | None = None


@contextmanager
def taking_over(path: Path) -> Iterator[None]:
    """Turn an error of Python or torch in the block, which loads a state, into one that names the state.

    Raises:
        DamagedData: if the block raises any other error than a FallowError or an OSError.
    """
    try:
        yield
    except (FallowError, OSError):
        raise
    except Exception as error:  # a damaged state may make torch raise errors of any type
        message = " ".join(f"{type(error).__name__}: {error}".split())
        step = "Resume from an older state: remove this one and its .json, or put back a copy."
        raise damaged(f"{path} must be a state of this training.", f"{message:.300}", step) from error


def newest(run: RunDirectory, console: Console) -> Checkpoint | None:
    """Return the newest sound state, and print what is damaged; None if the run has no state yet.

    Raises:
        DamagedData: if the run has finished epochs, but no sound state.
    """
    search = run.checkpoints.newest()
    for damage in search.damage:
        console.warn(f"Not used: {damage}")
    if search.found is None:
        if run.epochs():
            step = "Put back a copy of the folder, or start a new run in another one."
            raise damaged(f"{run.path} must hold a sound state.", "none", step)
        console.line("No epoch was finished: the run starts again.")
        return None
    if search.damage:
        console.warn(f"Resuming from state {search.found.number}; later steps are trained again.")
    # Each state belongs to the description of the data that it was saved with.
    run.data_name = search.found.about.data
    return search.found


def data_of(run: RunDirectory, checkpoint: Checkpoint | None) -> DataFile | None:
    """Return the samples of a state; None if there is no state, or if their file is damaged."""
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
    """Load a state into the subsampler, and print how the data have changed since.

    Args:
        run: the run directory.
        job: built from the run's options.
        options: of this session; ``accept`` names what may differ.
        console: prints the changes.
        checkpoint: the newest sound state, or None.
        before: the samples of that state, or None.
        writes: whether this process writes to the run.

    Raises:
        DamagedData: if the state is damaged, or if the file of a past epoch is and that is not accepted.
        InvalidValue: if data, policy or seed differ from the run and that is not accepted.
    """
    if checkpoint is None:
        return Restored()
    changes = None if before is None else Changes.of(before, job.data)
    checkpoint = _for_other_data(run, checkpoint, options, changes, console)
    wrong = run.checkpoints.unsound(checkpoint)
    _check_data(run, job, options, wrong, changes)
    if changes:
        _print_changes(run, job, options, checkpoint, changes, console)
    path = run.checkpoints.state_path(checkpoint.number)
    data = run.read(path)
    state = TrainingState.parse(data, path)
    file = _numbered(run, job.data, before, changes, checkpoint.about.epoch)
    with taking_over(path):
        check_fits(state, path, checkpoint.about, job)
        return _restored(
            run, job, options, console, checkpoint, (data, state), (wrong, changes, file), writes=writes
        )


def _print_changes(
    run: RunDirectory,
    job: Job,
    options: TrainOptions,
    checkpoint: Checkpoint,
    changes: Changes,
    console: Console,
) -> None:
    """Print how the data have changed.

    Raises:
        InvalidValue: if the run has no epochs left to train on the new data.
    """
    planned, about = job.subsampler.epochs, checkpoint.about
    if planned <= about.epoch == about.epochs:
        step = "Start a run on the new data, or train longer too: --epochs N --accept epochs,data."
        rule = f"{run.path} must have epochs left to train on other data."
        raise invalid(rule, f"none: all {planned} are done", step)
    console.passage(f"The data have changed: {changes.describe(noun_of(options))}.")
    for remark in job.remarks:
        console.passage(remark)


def _restored(
    run: RunDirectory,
    job: Job,
    options: TrainOptions,
    console: Console,
    checkpoint: Checkpoint,
    saved_state: tuple[bytes, TrainingState],
    checked_data: tuple[dict[str, str], Changes | None, DataFile],
    *,
    writes: bool,
) -> Restored:
    data, state = saved_state
    wrong, changes, file = checked_data
    origin = changes.moved if changes else None
    _remove_foreign_paths(state.callbacks, console)
    run.lost = _lost_epochs(run, checkpoint, wrong, options)
    lost = [path for path in map(run.epoch_path, run.lost) if path.exists()]
    run.lost |= _lost_before(run, checkpoint, state)
    state.put_history(_history(run, state))
    job.subsampler.load_state_dict(state.subsampler, accept=_accepted(options), origin=origin)
    _check_unfinished(run, job, options)
    if writes:
        # Renamed and not removed, as a part of it may still be recovered.
        for path in lost:
            run.disk.rename(path, path.with_suffix(".damaged"))
    if changes and (changed := np.union1d(changes.relabelled, changes.remade)).size:
        job.subsampler.renew(changed)
    # Lightning loads the callbacks again from this tree, so it needs the present samples.
    state.subsampler = job.subsampler.state_dict()
    if origin is not None and job.monitor is not None and state.density is not None:
        job.monitor.load_state_dict(state.density)
        job.monitor.renumber(origin)
        state.density = job.monitor.state_dict(local=True)
    run.digests.update(checkpoint.files)
    run.checkpoints.trust(checkpoint)
    if writes and run.data_path.name in wrong and run.data_path.exists():
        run.disk.rename(run.data_path, run.data_path.with_suffix(".damaged"))
    unfinished = checkpoint.about.epoch < job.subsampler.epochs
    if changes is None or changes or (changes.renamed and unfinished):
        # A new name: older checkpoints still need the file that they were saved with.
        run.data_name = f"data-{run.checkpoints.next_number():03d}.safetensors"
        if writes:
            run.put(run.data_path, file.dump())
            if origin is not None:
                _renumber_thumbnails(run, origin)
    if writes and wrong:  # a new checkpoint does not depend on the damaged files
        run.checkpoints.distrust()
        about = structs.replace(checkpoint.about, data=run.data_name)
        checkpoint = run.checkpoints.write(data, about, run.needed(state.written))
    return Restored(state, checkpoint)


def _check_unfinished(run: RunDirectory, job: Job, options: TrainOptions) -> None:
    """Raise if other options are accepted for a training that is over: no epoch was trained with them.

    Raises:
        InvalidValue: if so.
    """
    other = sorted(set(options.accepted) - {"data", "history", ADDED})
    done = job.subsampler.epoch
    if other and done >= job.subsampler.epochs:
        rule = f"{run.path} must have epochs left to train with other options."
        step = f"Leave out --accept, or train longer too: --epochs {done + 1} or more, --accept epochs."
        raise invalid(rule, f"none: {done} are done, with --accept {','.join(other)}", step)


def _remove_foreign_paths(callbacks: dict[str, Any], console: Console) -> None:
    """Remove the state of Lightning's ModelCheckpoint if it names files outside of its folder."""
    for name in [name for name in callbacks if name.startswith("ModelCheckpoint")]:
        part = callbacks[name]
        paths = [
            *(part.get("best_k_models") or {}),
            part.get("last_model_path"),
            part.get("best_model_path"),
            part.get("kth_best_model_path"),
        ]
        folder = os.path.abspath(str(part.get("dirpath")))
        inside = (os.path.dirname(os.path.abspath(str(path))) == folder for path in paths if path)
        # ModelCheckpoint deletes these files when it saves better ones; a crafted state could name any file.
        if not all(inside):
            del callbacks[name]
            console.warn(
                "Lightning's checkpoints start again: the state names files outside of their folder."
            )


def _for_other_data(
    run: RunDirectory,
    checkpoint: Checkpoint,
    options: TrainOptions,
    changes: Changes | None,
    console: Console,
) -> Checkpoint:
    """Return the checkpoint to resume from: one between two epochs if changed data are accepted."""
    if not {"data", ADDED} & set(options.accepted) or not checkpoint.about.recorded:
        return checkpoint
    if changes is not None and not changes:
        return checkpoint
    between = run.checkpoints.newest(between=True).found
    # The changes were computed for the samples of this checkpoint; the other may have other samples.
    if between is None or between.about.data != checkpoint.about.data:
        return checkpoint
    console.line(f"The data can change between two epochs only: resuming from state {between.number}.")
    return between


def _numbered(
    run: RunDirectory, data: DataFile, before: DataFile | None, changes: Changes | None, epoch: int
) -> DataFile:
    """Return the samples with their positions in past epochs, by which the run reads these epochs."""
    numbering = Numbering.none() if before is None else before.numbering
    if changes is not None and changes.origin is not None and (changes.gone or numbering.since.size):
        origin = changes.origin
        if changes.gone:
            numbering = numbering.after(origin, epoch)
        elif changes.new:  # the positions stay the same, and new samples follow
            added = np.full((numbering.since.size, changes.new), -1, np.int64)
            numbering = Numbering(np.concatenate([numbering.origin, added], axis=1), numbering.since)
    run.numbering = numbering
    if not numbering.since.size:
        return data
    return replace(data, origin=numbering.origin, since=numbering.since)


def _renumber_thumbnails(run: RunDirectory, origin: NDArray[np.int64]) -> None:
    """Write the pictures for the report with the new indices of their samples."""
    if not run.thumbnails_path.exists():
        return
    with suppress(DamagedData):
        thumbnails = ThumbnailsFile.read(run.thumbnails_path)
        new_index = np.full(int(thumbnails.index.max(initial=-1)) + 1, -1, np.int64)
        known = np.flatnonzero((origin >= 0) & (origin < new_index.size))
        new_index[origin[known]] = known
        run.put(run.thumbnails_path, thumbnails.renumbered(new_index[thumbnails.index]).dump())


def _accepted(options: TrainOptions) -> set[str]:
    """Return which parts of the subsampler's state may differ, given ``--accept``."""
    accept = set(ACCEPTABLE) & set(options.accepted)
    if set(options.accepted) - {"data", "history", ADDED}:
        accept |= {"policy", "schedule", "seed", "min_kept", "min_kept_per_class"}
    if {"data", ADDED} & set(options.accepted):
        accept |= {"n", "labels", "min_kept", "min_kept_per_class"}
    return accept


def _check_data(
    run: RunDirectory, job: Job, options: TrainOptions, wrong: dict[str, str], changes: Changes | None
) -> None:
    """Check that the data are those of the run, or that their changes are accepted.

    Raises:
        InvalidValue: if a change is not accepted or never is: other classes, or training on held-out samples.
        DamagedData: if the file that describes the data is damaged.
    """
    if run.tokenizer_path.name in wrong:
        step = "Put back a copy of it: other tokens are other data."
        raise DamagedData(f"{wrong[run.tokenizer_path.name]} {step}")
    name = run.data_path.name
    if name in wrong or changes is None:
        # A later file holds an order of samples that reading the data again does not give.
        if name != "data.safetensors":
            raise DamagedData(f"{wrong[name]} Put back a copy of it: it holds the order of the samples.")
        if "data" not in options.accepted:
            step = "Put back a copy of it. If you know that the data are the same, add --accept data."
            raise DamagedData(f"{wrong[name]} {step}")
        return
    if not changes:
        return
    description = changes.describe(noun_of(options))
    if any(change.kind == "classes" for change in changes.by_position):
        rule = f"The classes must be those of {run.path}."
        raise invalid(rule, f"a change: {description}", "Start another run.")
    if changes.leaked:
        raise invalid(
            f"No sample that {run.path} measured its accuracy on may be trained on.",
            f"{changes.leaked:,} of them among the training samples; {description}",
            "Move them back to the held-out samples, or start another run.",
        )
    grew = ADDED in options.accepted and changes.only_added and not job.unlisted
    if "data" not in options.accepted and not grew:
        raise invalid(
            f"The data must be those that {run.path} was started with.",
            f"a change: {description}",
            "Put them back, or add --accept data: samples are matched by content, at any position.",
        )


def _lost_epochs(
    run: RunDirectory, checkpoint: Checkpoint, wrong: dict[str, str], options: TrainOptions
) -> set[int]:
    """Return the past epochs whose files are damaged; raise if that is not accepted."""
    lost = set()
    for epoch in range(checkpoint.about.epoch):
        damage = wrong.get(run.epoch_path(epoch).relative_to(run.path).as_posix())
        if damage is None:
            continue
        if "history" not in options.accepted:
            step = "Put back a copy of it, or resume without the list of samples it used: --accept history."
            raise DamagedData(f"{damage} {step}")
        lost.add(epoch)
    return lost


def _lost_before(run: RunDirectory, checkpoint: Checkpoint, state: TrainingState) -> set[int]:
    """Return the past epochs whose files were lost before this checkpoint."""
    names = {epoch: run.epoch_path(epoch).relative_to(run.path).as_posix() for epoch in range(state.written)}
    return {epoch for epoch, name in names.items() if name not in checkpoint.files}


def _history(run: RunDirectory, state: TrainingState) -> list[EpochRecord]:
    """Return the past epochs, from their files or, if these are lost, from the rows of the summary."""
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
    """Return a past epoch whose file is lost: its aggregates without the samples that it used."""
    aggregates = {name: row[name] for name in Aggregates.__struct_fields__}
    # JSON has no NaN: the summary holds null.
    if row["mean_score"] is None:
        aggregates["mean_score"] = np.nan
    aggregates["score_quantiles"] = [np.nan if q is None else q for q in row["score_quantiles"]]
    positions = run.numbering.places(row["epoch"], row["n"])
    present = row["n"] if positions is None else int(positions.size)
    no_bits = np.zeros(-(-present // 8), np.uint8)
    return EpochRecord.restore(no_bits, {**aggregates, "record_seconds": 0.0, "gone": row["n"] - present})
