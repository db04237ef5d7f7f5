"""``fallow train``: start or resume a run and write its results."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..datasets.decoded_images import DecodedImages
from ..errors import NotWritten
from ..options.checks import check
from ..options.naming import check_named
from ..options.own_classes import is_import_path
from ..options.resolve import ResolvedOptions
from ..options.resume_options import located, longer, resumed_options, whole_options, with_own_lists
from ..options.train_options import OUR_MODELS, TrainOptions, lists
from ..runs.directory import RunDirectory
from ..tasks.added_samples import read_picks
from ..tasks.console import Console
from ..tasks.corrected_labels import read_labels
from ..tasks.launched import launched_rank
from .environment import environment_json
from .epoch_writer import remedy
from .jobs import Data, build
from .resume import data_of, newest, restore
from .session import Session
from .settings import config_text
from .trainer import seeded


def train(options: TrainOptions, console: Console | None = None, data: Data | None = None) -> dict[str, Any]:
    """Start or resume a run, and return its summary, with the path of the run under ``run``.

    Args:
        options: what to train, on what data and how. To resume, :func:`stored_options` returns those that may
            be taken from the run; the user's own classes must be named again.
        console: prints the progress; by default on standard output, unless ``options`` have ``quiet`` or
            ``json``.
        data: the data that these options name, as :func:`read_data` returns them; None to read them.

    Raises:
        InvalidValue: if options or data are invalid; raised before training.
        DamagedData: if the run to resume has no sound state.
        WrongState: if another process writes to the run directory.
        NotWritten: if the run could not be written.
        Stopped: if Ctrl-C or SIGTERM ended the training.
    """
    stored = None if options.resume is None else whole_options(options.resume)
    if stored is not None:
        check_named(stored, options, str(options.resume))
    resolved = check(options)
    add, labels = (",".join(map(located, lists(text))) for text in (resolved.add, resolved.labels))
    own = resolved.model in OUR_MODELS or is_import_path(resolved.model)
    model = resolved.model if own else located(resolved.model)
    resolved = replace(resolved, data=located(resolved.data), model=model, add=add, labels=labels)
    if stored is not None:
        resolved = resumed_options(stored, resolved)
    console = console or Console.of(resolved)
    with seeded(resolved.seed):
        if resolved.resume is not None:
            return _resume(resolved, console, data)
        # The first process makes the folder, perhaps before another one checks.
        if resolved.out is not None and not launched_rank():
            RunDirectory(resolved.out).check_new()
        _check_files(resolved)
        job = build(resolved, console, data)
        with _open_run(resolved) as run:
            try:
                session = Session(_copy_lists(run, job.options), job, run, console)
                _write_description(run, session)
                for remark in job.remarks:
                    console.warn(remark)
                return session.train()
            except BaseException:
                if not launched_rank():
                    run.discard()
                raise


def _resume(options: ResolvedOptions, console: Console, data: Data | None) -> dict[str, Any]:
    assert options.resume is not None
    # One process holds the lock; the others only read.
    with RunDirectory(options.resume) if launched_rank() else RunDirectory.reopen(options.resume) as run:
        if (more := longer(run, options)) != options:
            console.line(
                f"The run had finished. It now trains to epoch {more.epochs}; --epochs sets another."
            )
            options = more
        checkpoint = newest(run, console)
        before = data_of(run, checkpoint)
        _check_files(options)
        job = build(options, console, data, before)
        try:
            restored = restore(run, job, options, console, checkpoint, before, writes=not launched_rank())
        except OSError as error:
            message = f"{error.filename or run.path} cannot be read or written: {error.strerror or error}."
            raise NotWritten(
                f"{message} Nothing was trained. {remedy(error)} and repeat the command."
            ) from None
        session = Session(_copy_lists(run, job.options), job, run, console, restored)
        if not session.finished:
            # With a state, restore() has already written the samples if they have changed.
            _write_description(run, session, samples=restored.state is None)
        return session.train()


def _check_files(options: ResolvedOptions) -> None:
    """Raise if what lies beside the data cannot be used, before these are read."""
    for name in lists(options.add):
        read_picks(Path(name))
    for name in lists(options.labels):
        read_labels(Path(name))
    if options.cache_dir is not None:
        DecodedImages.disk_of(Path(options.cache_dir))


def _copy_lists(run: RunDirectory, options: ResolvedOptions) -> ResolvedOptions:
    """Copy the lists of added samples and corrected labels into the run."""
    if launched_rank() or not (options.add or options.labels):
        return options
    try:
        return with_own_lists(run, options)
    except OSError as error:
        message = f"{run.path} cannot be written: {error.strerror or error}."
        raise NotWritten(f"{message} {remedy(error)}.") from None


def _write_description(run: RunDirectory, session: Session, *, samples: bool = True) -> None:
    """Write the options, the machine and, if ``samples``, the data of the run."""
    if launched_rank():
        return
    job, settings = session.job, session.settings
    try:
        run.unseal()
        run.write_text(run.config_path, config_text(session.options, settings))
        run.write_text(run.environment_path, environment_json(run.environment_path, settings))
        if samples:
            run.put(run.data_path, job.data.dump())
        if job.tokenizer is not None and not run.tokenizer_path.exists():
            run.put(run.tokenizer_path, job.tokenizer)
    except OSError as error:
        raise NotWritten(f"{run.path} cannot be written: {error.strerror}. Name another --out.") from None


def _open_run(options: TrainOptions) -> RunDirectory:
    """Return the run directory; the first process creates it."""
    name = options.data.replace(":", ".").strip("/").split("/")[-1]
    out = options.out or f"runs/{name}-{options.policy}-{time.strftime('%Y%m%d-%H%M%S')}"
    return RunDirectory(out) if launched_rank() else RunDirectory.create(out)
