"""``fallow train``: a run begun, or gone on with, and left behind."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from ..errors import NotWritten
from ..options.checks import check
from ..options.naming import check_named
from ..options.own_classes import is_import_path
from ..options.resolve import ResolvedOptions
from ..options.resume_options import located, longer, resumed_options, whole_options, with_own_lists
from ..options.train_options import OUR_MODELS, TrainOptions, lists
from ..runs.directory import RunDirectory
from ..tasks.console import Console
from ..tasks.launched import launched_rank
from .environment import environment_json
from .jobs import Data, build
from .resume import data_of, newest, restore
from .session import Session
from .settings import config_text
from .trainer import seeded


def train(options: TrainOptions, console: Console | None = None, data: Data | None = None) -> dict[str, Any]:
    """Train as the options say, and return the summary that lies in the run directory.

    Args:
        options: what to train, on what and how. Of a run that goes on, :func:`stored_options` gives what may
            be taken from it; classes of your own are named again here.
        console: where to print; standard output by default.
        data: what these options name as :func:`read_data` gives them, where they are at hand.

    Raises:
        InvalidValue: for options or data that cannot be meant; before anything is trained.
        DamagedData: for a run to go on with that has no sound state.
        WrongState: where another process writes in the run directory.
        NotWritten: where the run could not be written.
        Stopped: where Ctrl-C or SIGTERM ended it.
    """
    stored = None if options.resume is None else whole_options(options.resume)
    if stored is not None:
        check_named(stored, options, str(options.resume))
    resolved = check(options)
    add = ",".join(map(located, lists(resolved.add)))
    own = resolved.model in OUR_MODELS or is_import_path(resolved.model)
    model = resolved.model if own else located(resolved.model)
    resolved = replace(resolved, data=located(resolved.data), model=model, add=add)
    if stored is not None:
        resolved = resumed_options(stored, resolved)
    console = console or Console.here()
    with seeded(resolved.seed):
        if resolved.resume is not None:
            return _go_on(resolved, console, data)
        if (
            resolved.out is not None and not launched_rank()
        ):  # the first process makes it, maybe before another looks
            RunDirectory(resolved.out).check_new()
        job = build(resolved, console, data)
        with _open_run(resolved) as run:
            try:
                session = Session(_own_lists(run, job.options), job, run, console)
                _describe(run, session)
                for said in job.remarks:
                    console.passage(said)
                return session.train()
            except BaseException:
                if not launched_rank():
                    run.discard()
                raise


def _go_on(options: ResolvedOptions, console: Console, data: Data | None) -> dict[str, Any]:
    """Go on with a run that was stopped."""
    assert options.resume is not None
    with RunDirectory(options.resume) if launched_rank() else RunDirectory.reopen(options.resume) as run:
        if (more := longer(run, options)) != options:
            console.line(
                f"The run had finished: it trains on to epoch {more.epochs} (--epochs says otherwise)."
            )
            options = more
        checkpoint = newest(run, console)
        before = data_of(run, checkpoint)
        job = build(options, console, data, before)
        try:
            restored = restore(run, job, options, console, checkpoint, before, writes=not launched_rank())
        except OSError as error:
            what = f"{error.filename or run.path} cannot be read or written: {error.strerror or error}."
            raise NotWritten(f"{what} Nothing was trained; mend it and repeat the command.") from None
        session = Session(_own_lists(run, job.options), job, run, console, restored)
        if not session.finished:
            _describe(run, session, samples=restored.state is None)
        return session.train()


def _own_lists(run: RunDirectory, options: ResolvedOptions) -> ResolvedOptions:
    """Keep the lists of what was added in the run."""
    if launched_rank() or not options.add:
        return options
    try:
        return with_own_lists(run, options)
    except OSError as error:
        raise NotWritten(f"{run.path} cannot be written: {error.strerror or error}. Make room.") from None


def _describe(run: RunDirectory, session: Session, *, samples: bool = True) -> None:
    """Write what the run is: the options, the machine, and what its samples are."""
    job, settings = session.job, session.settings
    if launched_rank():
        return
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
    """Make the run directory, on the first process only."""
    name = options.data.replace(":", ".").strip("/").split("/")[-1]
    default = f"runs/{name}-{options.policy}-{time.strftime('%Y%m%d-%H%M%S')}"
    out = options.out or default
    return RunDirectory(out) if launched_rank() else RunDirectory.create(out)
