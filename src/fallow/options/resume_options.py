"""The options that a run stores, and the ones that may differ when it is resumed. Loads no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from ..datasets.names import KNOWN, REMOVED
from ..errors import damaged, invalid, unknown_name
from ..files import plain_yaml
from ..files.regular_file import read_regular
from ..runs.checkpoints import Search
from ..runs.directory import RunDirectory
from ..runs.picks_file import MOST_BYTES
from ..runs.schema import RECORDED, About
from .naming import check_named, shown, usable
from .resolve import ResolvedOptions, as_given
from .train_options import ANEW, FIXED, FREE, LEFT, NOTED_OPTIONS, ONCE, OPTIONS, TrainOptions, lists, named

Options = TypeVar("Options", bound=TrainOptions)
ADDED = "added"
"""Name that accepts samples after those that the run was started with; ``--add`` implies it."""
_MORE = {"data", "policy", "schedule", "seed", "history", ADDED}
"""Other names that may be accepted: they stand for differences beside the options."""


def stored_options(path: str) -> dict[str, Any]:
    """Return the options of the run in a folder that may be taken over; see :func:`usable`.

    Raises:
        InvalidValue: if there is no run.
        DamagedData: if they cannot be read.
    """
    return usable(whole_options(path))


def with_stored(given: Mapping[str, Any], configs: Sequence[str] = ()) -> TrainOptions:
    """Return the options of ``fallow train``: those given, and for the others those that runs have stored.

    Args:
        given: the options that the user has named; ``resume`` among them names a run.
        configs: files named ``config.yaml`` in runs, whose options count too.

    Raises:
        InvalidValue: if there is no such run, or an option of it must be named again and is not.
        DamagedData: if stored options cannot be read.
    """
    run = given.get("resume")
    if run is None and not configs:
        return TrainOptions(**given)
    whole: dict[str, Any] = {} if run is None else whole_options(run)
    if given.get("policy") not in (None, whole.get("policy")):
        # Options of the policy that the user replaces.
        whole = {name: value for name, value in whole.items() if OPTIONS[name].fits(given["policy"])}
    for path in configs:
        whole |= config_options(path)
    options = TrainOptions(**{**usable(whole), **given})
    check_named(whole, options, str(run or configs[-1]))
    return options


def whole_options(path: str) -> dict[str, Any]:
    """Return all options of the run in a folder, from its newest intact state or from ``config.yaml``.

    They may name anything: a class among them must not be imported unless the user names it again.

    Raises:
        InvalidValue: if there is no run.
        DamagedData: if neither can be read.
    """
    run = RunDirectory(path)
    run.check()
    return read_options(run, run.checkpoints.newest())


def config_options(path: str) -> dict[str, Any]:
    """Return the options in the ``config.yaml`` of a run, except its folder.

    Raises:
        DamagedData: if it cannot be read, or holds something else.
    """
    stored = _without_removed(_read_config(Path(path)), path)
    known = {field.name for field in fields(TrainOptions)}
    if not isinstance(stored, Mapping) or set(stored) - known:
        found = type(stored).__name__
        if isinstance(stored, Mapping):
            found = sorted(map(str, set(stored) - known))[0]
        raise damaged(f"{path} must hold options of fallow train.", shown(found), "Write your own file.")
    own = _own_lists(RunDirectory(Path(path).parent), stored)
    return {name: value for name, value in stored.items() if name not in {*ONCE, "out"}} | own


def read_options(run: RunDirectory, search: Search) -> dict[str, Any]:
    """Return the options in an intact state, or in ``config.yaml`` if the run has no state yet."""
    known = {field.name for field in fields(TrainOptions)}
    state = search.found
    stored = _read_config(run.config_path) if state is None else given_in(state.about)
    known_steps = "kept_steps" in (stored if state is None else state.about.options)
    stored = _without_removed(stored, str(run.path))
    if isinstance(stored, Mapping) and RECORDED in stored:
        step = "Call your program again, with fallow.Recorder(..., resume=True)."
        rule = "fallow train resumes what it has trained itself."
        raise invalid(rule, f"{run.path}, of a training loop of your own", step)
    if not isinstance(stored, Mapping) or not stored.get("data"):
        step = "Start the run again, in another folder."
        raise damaged(f"{run.path} must hold the options of a run.", type(stored).__name__, step)
    newer = sorted(set(stored) - known)
    if newer:
        raise damaged(f"{run.path} was written by another version of fallow.", newer[0], "Use that version.")
    # Older runs dropped steps, and stored paths that contain `..`.
    steps = {} if known_steps else {"kept_steps": False}
    paths = {name: located(stored[name]) for name in ("data", "model") if ".." in str(stored.get(name))}
    return {**stored, **steps, **paths, **_own_lists(run, stored)}


def _without_removed(stored: Any, where: str) -> Any:
    """Return stored options without those that fallow no longer has.

    Raises:
        DamagedData: if one of them differs from its default.
    """
    if not isinstance(stored, Mapping):
        return stored
    for name, default in LEFT.items():
        if name in stored and stored[name] != default:
            step = "Use the version that wrote it."
            raise damaged(f"{where} uses --{name}, which was removed.", shown(stored[name]), step)
    return {name: value for name, value in stored.items() if name not in LEFT}


def given_in(about: About) -> dict[str, Any]:
    """Return the options in a manifest without those that its ``defaults`` name.

    A default may depend on other options, as the learning rate does on the batch size, so it is chosen again.
    An older run has no ``defaults``, and stores no default among its options.
    """
    # Removed data sets are read from files today, whose names do not tell how they were augmented.
    kept = {"augment"} if about.options.get("data") in REMOVED else set[str]()
    chosen = (NOTED_OPTIONS & set(about.defaults)) - kept
    return {name: value for name, value in about.options.items() if name not in chosen}


def _own_lists(run: RunDirectory, stored: Mapping[str, Any]) -> dict[str, str]:
    """Return the options that name lists, with full paths for those in the run, stored by name alone."""
    own = _absolute(run.path)
    return {
        option: ",".join(str(own / name) if run.is_list(name) else name for name in lists(str(text)))
        for option in ("add", "labels")
        if (text := stored.get(option))
    }


def with_own_lists(run: RunDirectory, options: Options) -> Options:
    """Copy the lists of ``--add`` and ``--labels`` into the run and return options that name the copies.

    Raises:
        OSError: if one cannot be read or written.
    """
    own: dict[str, str] = {}
    for option, written in (("add", "added"), ("labels", "labels")):
        names = []
        for name in lists(getattr(options, option)):
            path = Path(name)
            # A list that lies in the run already is not copied again.
            if path.parent != _absolute(run.path) or not run.is_list(path.name):
                data, path = read_regular(path, limit=MOST_BYTES), run.next_csv(written)
                run.put(path, data)
            names.append(path.name)
        own[option] = ",".join(names)
    return replace(options, add=own["add"], labels=own["labels"])


def _read_config(path: Path) -> Any:
    step = "Restore a copy of it, or start the run again in another folder."
    try:
        data = read_regular(path, path.parent, plain_yaml.LARGEST)
    except OSError as error:
        raise damaged(f"{path} must be readable.", error.strerror, step) from None
    return plain_yaml.parse_yaml(data, str(path), step)


def located(data: str) -> str:
    """Return data that name a path with the absolute path: a run may be resumed from any folder."""
    path = data.removeprefix("hf:")
    if data in KNOWN or not path or not Path(path).exists():
        return data
    return data.removesuffix(path) + str(_absolute(Path(path)))


def _absolute(path: Path) -> Path:
    """Return the absolute path without ``..``; symbolic links stay."""
    whole = path.absolute()
    short = Path(os.path.normpath(whole))
    # After a symbolic link `..` is the parent of its target, so that normpath may be wrong.
    return short if short.exists() and short.samefile(whole) else whole


def plain(options: TrainOptions) -> dict[str, Any]:
    """Return the options that a run stores: those set, except for one session or to be chosen again."""
    anew = options.chosen & named(default=ANEW) if isinstance(options, ResolvedOptions) else frozenset()
    left_out = {*ONCE, *anew, "chosen"}
    return {n: value for n, value in asdict(options).items() if value is not None and n not in left_out}


def resumed_options(stored: Mapping[str, Any], given: Options) -> Options:
    """Return the options of a resumed run: those given, if their changes are accepted.

    Args:
        stored: the options that the run was started with.
        given: the stored options with the changes of this session.

    Raises:
        InvalidValue: if an option changes the training and is not named in ``accept``.
    """
    given = _with_more(stored, given)
    known = {field.name for field in fields(TrainOptions)}
    may_be_accepted = (known | _MORE) - named(resume=FREE) - named(resume=FIXED)
    for name in given.accepted:
        if name not in may_be_accepted:
            raise unknown_name("name in --accept", name, may_be_accepted)
    before = plain(TrainOptions(**stored))
    now = plain(as_given(given))
    for name in sorted(before.keys() | now.keys()):
        if OPTIONS[name].resume == FREE or before.get(name) == now.get(name):
            continue
        if now.get(name) is None and not OPTIONS[name].fits(given.policy):
            continue  # an option of the policy that is replaced
        rule = f"--{name} must be what the run was started with: {_shown(before, name)}."
        if OPTIONS[name].resume == FIXED:
            raise invalid(rule, _shown(now, name), "Start a new run.")
        if name not in given.accepted:
            step = f"Leave it out, or resume anyway with --accept {name}."
            raise invalid(rule, _shown(now, name), step)
    if given.out not in (None, stored.get("out")):
        raise invalid("A run is resumed in its own folder.", f"--out {given.out}", "Leave --out out.")
    return replace(given, out=given.resume)


def _with_more(stored: Mapping[str, Any], given: Options) -> Options:
    """Return the options with the lists of ``--add`` after the run's; new lists accept more samples."""
    before = str(stored.get("add") or "")
    add = ",".join(lists(f"{before},{given.add}"))
    if add == before:
        return replace(given, add=add)
    # Epochs too, because a finished run needs more of them to train on the new samples.
    accept = ",".join(dict.fromkeys([*given.accepted, "add", ADDED, "epochs"]))
    return replace(given, add=add, accept=accept)


def longer(run: RunDirectory, options: ResolvedOptions) -> ResolvedOptions:
    """Return options with half as many epochs more if the run has finished and samples are added.

    Raises:
        InvalidValue: if ``epochs`` was given and is no more than the epochs done.
    """
    state = run.checkpoints.newest().found
    if "add" not in options.accepted or state is None:
        return options
    done = state.about.epoch
    if done < options.epochs:
        return options
    if as_given(options).epochs != given_in(state.about).get("epochs"):
        rule = f"--epochs must be more than the {done} that {run.path} has done."
        step = "Give a larger number, or leave it out for half as many epochs more."
        raise invalid(rule, options.epochs, step)
    more = options.epochs + -(-options.epochs // 2)  # rounded up
    return replace(options, epochs=more, chosen=options.chosen - {"epochs"})


def _shown(options: Mapping[str, Any], name: str) -> Any:
    value = options.get(name)
    return "not set" if value is None else shown(value)
