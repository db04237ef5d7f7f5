"""A run that was stopped, put back: its state, its past epochs, and whether its data are what they were."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .._checks import DamagedData, FallowError, damaged, invalid
from ..data_file import DataFile
from ..generations import Generation
from ..run_directory import RunDirectory
from ..state import ACCEPTABLE
from ..state_file import parse
from .console import Console
from .jobs import Job
from .options import TrainOptions
from .stored import ADDED


@dataclass(frozen=True)
class Restored:
    """What a training goes on from.

    Attributes:
        state: as Lightning loads it; None where the run has none yet and begins.
        generation: which.
    """

    state: dict[str, Any] | None = None
    generation: Generation | None = None


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


def restore(
    run: RunDirectory, job: Job, options: TrainOptions, console: Console, *, writes: bool = True
) -> Restored:
    """Load the newest sound state into the subsampler, and say what was damaged.

    Args:
        run: the folder.
        job: built from the run's options.
        options: of this session; ``accept`` says what may differ.
        console: where to say it.
        writes: whether this process is the one that writes.

    Raises:
        DamagedData: where no state is sound, or a past epoch's file is not and that is not accepted.
        InvalidValue: where data, policy or seed are not those of the run, and that is not accepted.
    """
    generation = _generation(run, options, job, console)
    if generation is None:
        return Restored()
    path = run.generations.state_path(generation.number)
    data = run.read(path)
    state = parse(data, str(path))
    with taking_over(path):
        return _restored(run, job, options, console, generation, (data, state), writes=writes)


def _restored(
    run: RunDirectory,
    job: Job,
    options: TrainOptions,
    console: Console,
    generation: Generation,
    saved_state: tuple[bytes, dict[str, Any]],
    *,
    writes: bool,
) -> Restored:
    data, state = saved_state
    wrong = run.generations.unsound(generation)
    changed, other = _check_data(run, job, options, wrong)
    if other and run.data_path.name not in wrong and generation.about["epoch"] == generation.about["epochs"]:
        step = "Begin a run on the new data, or train longer too: --epochs N --accept epochs,data."
        planned = job.subsampler.schedule.epochs
        if planned <= generation.about["epoch"]:
            raise invalid(f"{run.path} has finished: nothing is left to train on other data.", planned, step)
    callbacks = state["callbacks"]
    _forget_foreign_checkpoints(callbacks, console)
    run.lost = _lost_epochs(run, generation, wrong, options)
    if writes:
        for lost in filter(Path.exists, map(run.epoch_path, run.lost)):
            run.disk.rename(lost, lost.with_suffix(".damaged"))
    run.lost |= _without_a_file(run, generation, callbacks)
    watch = next(name for name, part in callbacks.items() if "subsampler" in part)
    saved = callbacks[watch]["subsampler"]
    saved["history"] = _history(run, callbacks)
    job.subsampler.load_state_dict(saved, accept=_accepted(options))
    if changed.size:
        job.subsampler.renew(changed)
    callbacks[watch]["subsampler"] = job.subsampler.state_dict()
    run.digests.update(generation.files)
    run.generations.trust(generation)
    if writes and run.data_path.name in wrong and run.data_path.exists():
        run.disk.rename(run.data_path, run.data_path.with_suffix(".damaged"))
    if other:
        run.data_name = f"data-{run.generations.next_number():03d}.safetensors"
        if writes:
            run.put(run.data_path, job.data.dump())
    if writes and wrong:
        generation = _without_what_is_damaged(run, generation, data, callbacks)
    return Restored(state, generation)


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
    run: RunDirectory, generation: Generation, state: bytes, callbacks: dict[str, Any]
) -> Generation:
    """Write the state anew, so that nothing builds on the damaged files any more."""
    written = len(callbacks["Keeper"]["record_seconds"]) - len(callbacks["EpochWriter"]["pending"])
    run.generations.distrust()
    return run.generations.write(state, {**generation.about, "data": run.data_name}, run.needed(written))


def _generation(run: RunDirectory, options: TrainOptions, job: Job, console: Console) -> Generation | None:
    """Return the generation to go on from, or None for a run that was stopped before its first epoch."""
    search = run.generations.newest()
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
    generation = search.found
    run.data_name = str(generation.about.get("data", run.data_name))
    if {"data", ADDED} & set(options.accepted) and generation.about.get("recorded"):
        sound = run.data_path.name not in run.generations.unsound(generation)
        if not sound or DataFile.read(run.data_path).changes(job.data):
            between = run.generations.newest(between=True).found
            if between is not None:
                console.line(f"Other data join between two epochs: going on from state {between.number}.")
                return between
    return generation


def _accepted(options: TrainOptions) -> set[str]:
    """Return what may differ in the subsampler, by what may differ in the options."""
    accept = set(ACCEPTABLE) & set(options.accepted)
    if set(options.accepted) - {"data", "history", ADDED}:
        accept |= {"policy", "schedule", "seed", "min_kept", "min_kept_per_class"}
    if {"data", ADDED} & set(options.accepted):
        accept |= {"n", "labels", "min_kept", "min_kept_per_class"}
    return accept


def _check_data(
    run: RunDirectory, job: Job, options: TrainOptions, wrong: dict[str, str]
) -> tuple[NDArray[np.int64], bool]:
    """Return the samples that are not what they were, and whether anything is not, the test samples included.

    Raises:
        InvalidValue: where it is not accepted, or cannot be: other classes, or a test sample to train on.
        DamagedData: where nobody can tell.
    """
    none = np.zeros(0, np.int64)
    if run.tokenizer_path.name in wrong:
        raise DamagedData(
            f"{wrong[run.tokenizer_path.name]} Put back a copy of it: other tokens are other data."
        )
    name = run.data_path.name
    if name in wrong:
        if "data" not in options.accepted:
            step = "Put back a copy of it; where you know that the data are the same, add --accept data."
            raise DamagedData(f"{wrong[name]} {step}")
        return none, True
    before = DataFile.read(run.data_path)
    found = before.changes(job.data)
    if before.classes and job.data.classes and before.classes != job.data.classes:
        words = next(said for said in found if said.startswith("classes"))
        raise invalid(f"The classes must be those of {run.path}.", words, "Begin another run.")
    if leaked := before.leaked(job.data):
        raise invalid(
            f"No sample that {run.path} measured its accuracy on may be trained on.",
            f"{leaked:,} of them among the training samples; {'; '.join(found)}",
            "Keep test images in a folder test/ of their own, or begin another run.",
        )
    grew = ADDED in options.accepted and before.begins(job.data)
    if found and "data" not in options.accepted and not grew:
        raise invalid(
            f"The data must be those that {run.path} was begun with.",
            "; ".join(found),
            "Put them back, or add --accept data: a sample that is not where it was counts as new.",
        )
    return (before.changed(job.data) if found else none), bool(found)


def _lost_epochs(
    run: RunDirectory, generation: Generation, wrong: dict[str, str], options: TrainOptions
) -> set[int]:
    """Return the past epochs whose files are damaged; raise where that is not accepted."""
    lost = set()
    for epoch in range(int(generation.about["epoch"])):
        path = run.epoch_path(epoch)
        said = wrong.get(path.relative_to(run.path).as_posix())
        if said is None:
            continue
        if "history" not in options.accepted:
            step = "Put back a copy of it, or go on without knowing what that epoch used: --accept history."
            raise DamagedData(f"{said} {step}")
        lost.add(epoch)
    return lost


def _without_a_file(run: RunDirectory, generation: Generation, callbacks: dict[str, Any]) -> set[int]:
    """Return the past epochs that the state does not build on, as they were lost before."""
    written = len(callbacks["Keeper"]["record_seconds"]) - len(callbacks["EpochWriter"]["pending"])
    names = {epoch: run.epoch_path(epoch).relative_to(run.path).as_posix() for epoch in range(written)}
    return {epoch for epoch, name in names.items() if name not in generation.files}


def _history(run: RunDirectory, callbacks: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the past epochs as a subsampler's state holds them, from their files and the rows."""
    seconds = callbacks["Keeper"]["record_seconds"]
    rows, pending = callbacks["EpochWriter"]["epochs"], callbacks["EpochWriter"]["pending"]
    history = []
    for epoch, taken in enumerate(seconds):
        if epoch in run.lost:
            history.append(_from_row(rows[epoch], taken))
            continue
        if epoch >= len(seconds) - len(pending):
            data = pending[epoch - len(seconds) + len(pending)]
            file = run.parse_epoch(data.tobytes(), epoch)
        else:
            file = run.read_epoch(epoch)
        entry = {**file.record.aggregates(), "record_seconds": taken}
        history.append({"used_bits": torch.from_numpy(file.record.used_bits), **entry})
    return history


def _from_row(row: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Return a past epoch whose file is lost: its numbers are known, but not which samples it used."""
    names: tuple[str, ...] = (
        "n",
        "backward",
        "forward_only",
        "kept",
        "learned",
        "outliers",
        "not_drawn",
        "by_hand",
    )
    names += ("readmitted", "bad", "mean_score", "score_quantiles", "score_histogram", "notes", "epoch")
    bits = torch.zeros(-(-row["n"] // 8), dtype=torch.uint8)
    return {"used_bits": bits, "record_seconds": seconds, **{name: row[name] for name in names}}
