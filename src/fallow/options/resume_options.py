"""The options that a run was begun with, and what may differ from them when it goes on. Loads no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
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
from ..runs.schema import About
from .naming import shown, usable
from .resolve import ResolvedOptions, as_given
from .train_options import ANEW, FIXED, FREE, LEFT, ON_DATA, ONCE, OPTIONS, TrainOptions, lists, named

Options = TypeVar("Options", bound=TrainOptions)
ADDED = "added"
"""Accepts samples after those that a run was begun with; ``--add`` does."""
_MORE = {"data", "policy", "schedule", "seed", "history", ADDED}
"""What else may be accepted: differences that no option names."""


def stored_options(path: str) -> dict[str, Any]:
    """Return the options of the run in a folder that may be taken from it; see :func:`usable`.

    Raises:
        InvalidValue: where there is no run.
        DamagedData: where they cannot be read.
    """
    return usable(whole_options(path))


def whole_options(path: str) -> dict[str, Any]:
    """Return all options of the run in a folder: those of its newest sound state, or of ``config.yaml``.

    They may name anything: a class among them is imported only once the user has named it again.

    Raises:
        InvalidValue: where there is no run.
        DamagedData: where neither can be read.
    """
    run = RunDirectory(path)
    run.check()
    return read_options(run, run.checkpoints.newest())


def config_options(path: str) -> dict[str, Any]:
    """Return the options in a ``config.yaml`` that lies in a run, but for what says where that is.

    Raises:
        DamagedData: where it cannot be read, or holds something else.
    """
    found = _without_left(_read_config(Path(path)), path)
    known = {field.name for field in fields(TrainOptions)}
    if not isinstance(found, Mapping) or set(found) - known:
        what = sorted(map(str, set(found) - known))[0] if isinstance(found, Mapping) else type(found).__name__
        raise damaged(f"{path} must hold options of fallow train.", shown(what), "Write a file of your own.")
    return {name: value for name, value in found.items() if name not in {*ONCE, "out"}}


def read_options(run: RunDirectory, search: Search) -> dict[str, Any]:
    """Return the options in a sound state, or in ``config.yaml`` where the run has none yet."""
    known = {field.name for field in fields(TrainOptions)}
    state = search.found
    found = _read_config(run.config_path) if state is None else given_of(state.about)
    found = _without_left(found, str(run.path))
    if not isinstance(found, Mapping) or not found.get("data"):
        step = "Begin the run anew, in another folder."
        raise damaged(f"{run.path} must hold the options of a run.", type(found).__name__, step)
    newer = sorted(set(found) - known)
    if newer:
        raise damaged(f"{run.path} was written by another version of fallow.", newer[0], "Use that version.")
    # As a run keeps its paths now; one of before kept .. in them.
    paths = {name: located(found[name]) for name in ("data", "model") if ".." in str(found.get(name))}
    return {**found, **paths, "add": _resolved(run, str(found.get("add") or ""))}


def _without_left(found: Any, where: str) -> Any:
    """Return stored options without those that have left fallow.

    Raises:
        DamagedData: if one of them has another value than its default.
    """
    if not isinstance(found, Mapping):
        return found
    for name, default in LEFT.items():
        if name in found and found[name] != default:
            step = "Use the version that wrote it."
            raise damaged(f"{where} uses --{name}, which has left fallow.", shown(found[name]), step)
    return {name: value for name, value in found.items() if name not in LEFT}


def given_of(about: About) -> dict[str, Any]:
    """Return the options in a manifest without those that the run's ``defaults`` name.

    A default may hang on the other options, as the learning rate on the batch size, so that it is found
    anew; a run of before has no such list, and in its options no default.
    """
    # The data of an older run may be a file by now, whose name does not tell which augmentation they had.
    kept = {"augment"} if about.options.get("data") in REMOVED else set[str]()
    chosen = (ON_DATA & set(about.defaults)) - kept
    return {name: value for name, value in about.options.items() if name not in chosen}


def _resolved(run: RunDirectory, add: str) -> str:
    """Return lists with the place of those that lie in the run, which are stored by their name alone."""
    own = _from_root(run.path)
    return ",".join(str(own / name) if run.is_list(name) else name for name in lists(add))


def with_own_lists(run: RunDirectory, options: Options) -> Options:
    """Copy the lists of ``--add`` into the run, which then needs no other; return options that name these.

    Raises:
        OSError: where one cannot be read or written.
    """
    names = []
    for name in lists(options.add):
        path = Path(name)
        if path.parent != _from_root(run.path) or not run.is_list(path.name):
            data, path = read_regular(path, limit=MOST_BYTES), run.next_csv("added")
            run.put(path, data)
        names.append(path.name)
    return replace(options, add=",".join(names))


def _read_config(path: Path) -> Any:
    step = "Put back a copy of it, or begin the run anew in another folder."
    try:
        data = read_regular(path, path.parent, plain_yaml.LARGEST)
    except OSError as error:
        raise damaged(f"{path} must be readable.", error.strerror, step) from None
    return plain_yaml.parse_yaml(data, str(path), step)


def located(data: str) -> str:
    """Return the data's path from the root, where it is one: a run goes on from any folder."""
    start, place = ("hf:", data[3:]) if data.startswith("hf:") else ("", data)
    known = data in KNOWN or not place or not Path(place).exists()
    return data if known else start + str(_from_root(Path(place)))


def _from_root(path: Path) -> Path:
    """Return a path from the root without ``..``; symbolic links stay."""
    whole = path.absolute()
    short = Path(os.path.normpath(whole))
    # Behind a symbolic link .. leads elsewhere.
    return short if short.exists() and short.samefile(whole) else whole


def plain(options: TrainOptions) -> dict[str, Any]:
    """Return what a run keeps of options: what is set, neither chosen anew nor of one session only."""
    anew = options.chosen & named(default=ANEW) if isinstance(options, ResolvedOptions) else frozenset()
    left_out = {*ONCE, *anew, "chosen"}
    return {n: value for n, value in asdict(options).items() if value is not None and n not in left_out}


def going_on(stored: Mapping[str, Any], given: Options) -> Options:
    """Return the options to go on with: those given, where they are accepted.

    Args:
        stored: what the run was begun with.
        given: the same, but for what was changed.

    Raises:
        InvalidValue: for the first option that changes the training and is not named in ``accept``.
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
        rule = f"--{name} must be what the run was begun with: {_shown(before, name)}."
        if OPTIONS[name].resume == FIXED:
            raise invalid(rule, _shown(now, name), "Begin another run.")
        if name not in given.accepted:
            step = f"Leave it out, or go on all the same with --accept {name}."
            raise invalid(rule, _shown(now, name), step)
    if given.out not in (None, stored.get("out")):
        raise invalid("A run goes on in its own folder.", f"--out {given.out}", "Leave --out out.")
    return replace(given, out=given.resume)


def _with_more(stored: Mapping[str, Any], given: Options) -> Options:
    """Return the options with the lists of ``--add`` after those that the run has already.

    To add samples is to accept that there are more of them, and that training takes longer.
    """
    before = str(stored.get("add") or "")
    add = ",".join(lists(f"{before},{given.add}"))
    if add == before:
        return replace(given, add=add)
    accept = ",".join(dict.fromkeys([*given.accepted, "add", ADDED, "epochs"]))
    return replace(given, add=add, accept=accept)


def longer(run: RunDirectory, options: ResolvedOptions) -> ResolvedOptions:
    """Return the options of a finished run that gets samples: half as many epochs more by default.

    Raises:
        InvalidValue: where ``epochs`` was said, and so many are done.
    """
    state = run.checkpoints.newest().found
    if "add" not in options.accepted or state is None:
        return options
    done = state.about.epoch
    if done < options.epochs:
        return options
    if as_given(options).epochs != given_of(state.about).get("epochs"):
        step = "Name more, or leave it out to train half as long again."
        raise invalid(
            f"--epochs must be more than the {done} that {run.path} has done.", options.epochs, step
        )
    more = options.epochs + -(-options.epochs // 2)
    return replace(options, epochs=more, chosen=options.chosen - {"epochs"})


def _shown(options: Mapping[str, Any], name: str) -> Any:
    value = options.get(name)
    return "not set" if value is None else shown(value)
