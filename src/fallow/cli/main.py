"""The command line. ``--help`` and the reading commands load no torch.

Exit codes: 0 done, 1 a finding (``train``: it diverged; ``compare``: a run failed or diverged), 2 wrong use,
3 damaged data, 130 stopped, 143 stopped by SIGTERM. An error is one line; ``--debug`` shows the traceback.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from argparse import SUPPRESS, ArgumentError, RawDescriptionHelpFormatter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from signal import SIG_DFL, SIGINT, SIGTERM, getsignal, signal
from types import FrameType
from typing import Any, get_type_hints

from ..comparison.options import NOT_SHARED, OF_AN_ARM, CompareOptions
from ..errors import DamagedData, FallowError, InvalidValue, NotWritten, invalid, missing_extra
from ..import_path import SETTINGS, run_around, working_folder
from ..options.checks import check
from ..options.train_options import OPTIONS, POLICIES, TrainOptions
from ..options.usage_errors import short, unexpected, usage_error
from ..terminal.streams import complain, open_streams, spelled_streams, spelled_warnings, stdout_errors
from ..version import __version__
from .reading_commands import COMMANDS

DONE, FINDING, WRONG_USE, DAMAGED = 0, 1, 2, 3
HELP_ALL = "--help_all"
_LONGEST, _MOST_BRACKETS = 1 << 16, 1 << 10
"""Limits of a word of the command line, in characters and brackets."""

_ABOUT = """Train on what still surprises the network.

  fallow train --data digits                          a first run, without a download
  fallow train --data digits --policy threshold --low 0.1
  fallow train --data FOLDER                          one sub-folder of images a class
  fallow train --data FILE.csv --label stars          texts with a class each, in columns text and stars
  fallow train --data FILE.txt                        a language model
  fallow train --config run.yaml --seed 1             options from a file, one of them changed
  fallow train --resume RUN                           resume a run exactly where it was stopped
  fallow compare --data digits                        does it pay? against plain controls
  fallow report RUN                                   one HTML page of a run, with its odd samples
  fallow suspects RUN                                 labels that look wrong; correct them with --labels
  fallow gaps RUN                                     what the training data lack
  fallow collect RUN --pool POOL --count 100          what to collect next; train on it with --add

An error is one line; --debug, with any command, shows the traceback.
"""
_ABOUT_COMPARE = """Does leaving samples out pay on your data? Trains every arm with the same seeds on the
same data and reads the final epoch: against full training, and against plain controls at the same number
of samples, which are fewer epochs, fewer epochs in thinner batches (as many steps as full training) and a
random subset each epoch. The verdict is against the best of them.

  fallow compare --data digits --seeds 3
  fallow compare --data FOLDER --arms full,fewer-epochs,random,soft,threshold --saved 0.3,0.5
  fallow compare --data FILE.csv --dry_run                how many runs, and how long they take
  fallow compare --data FOLDER --tune --rates             the length and each arm's learning rate chosen first
  fallow compare --config compare.yaml                    with arms of your own, in the file as
                                                          arms: {full: , mine: {policy: soft, exponent: 1}}

Arms: full; fewer-epochs; fewer-epochs-thin; random; random-dropped, in fewer steps; default, as fallow train
does; threshold, with low as a quantile, readmit_every 5 and full_tail 0.1; soft; hard, the lowest-scoring
share; infobatch; and every other --policy of fallow train. All but random-dropped keep their steps: what is
left out thins the batches. An arm that finds its share itself runs first; the others run at the saving that
it found, or at those of --saved. The saving of the whole run decides the share of each epoch; epochs of
warm-up, full tail and re-admission are full. The folder --out gets a run directory for each run,
results.json, frontier.png and frontier.svg. The same command again trains only the missing runs: add arms,
savings or seeds, or resume after Ctrl-C.

Exit code: 0 done, whatever the result; 1 a run failed or diverged (the others are done); 2 wrong use; 3
damaged data; 130 stopped.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    open_streams()
    given = list(sys.argv[1:] if argv is None else argv)
    # Removed here, since it goes with any command and no parser knows it.
    debug, given = "--debug" in given, [word for word in given if word != "--debug"]
    words = _spelled(given or ["--help"])
    try:
        # First of all, before any package that would read them is imported.
        _refuse_settings()
        _refuse_of_an_arm(words)
        parsed = _parsed(words)
        command = str(parsed["command"])
        with spelled_warnings():
            if command in COMMANDS:
                return _read(command, parsed[command])
            with _stopped_by_sigterm():
                return {"train": _train, "compare": _compare}[command](parsed[command])
    except KeyboardInterrupt as stop:
        complain("fallow: stopped.")
        return 128 + int(getattr(stop, "signal", SIGINT))
    except SystemExit:  # raised by the parser after --help
        raise
    except BaseException as error:  # a panic of a library written in Rust is no Exception
        if debug:
            raise
        # The error of a missing extra says which to install, as in fallow[train].
        expected = isinstance(error, FallowError) or "fallow[" in str(error)
        complain(f"fallow: error: {error if expected else unexpected(error)}")
        if isinstance(error, NotWritten):
            return FINDING
        # An unexpected error while a run is read most likely comes from its files.
        reading = not expected and words[0] in COMMANDS
        return DAMAGED if reading or isinstance(error, DamagedData) else WRONG_USE


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt, as Ctrl-C does, so that workers are ended and locks released."""

    def stop(number: int, frame: FrameType | None) -> None:
        stopped = KeyboardInterrupt()
        stopped.signal = number  # type: ignore[attr-defined]
        raise stopped

    # Python allows signal() in the main thread only; the handler of a program around fallow stays.
    if threading.current_thread() is not threading.main_thread() or getsignal(SIGTERM) is not SIG_DFL:
        yield
        return
    signal(SIGTERM, stop)
    try:
        yield
    finally:
        signal(SIGTERM, SIG_DFL)


def _refuse_settings() -> None:
    """Raise if the working folder is a run's and holds settings that other packages would read there."""
    folder = working_folder()
    if folder is None or run_around(folder) is None:
        return
    for path in (os.path.join(folder, name) for name in SETTINGS):
        if os.path.lexists(path):
            step = "Remove it, or run fallow in another folder."
            raise invalid("A run must not hold settings of other packages.", path, step)


def _read(command: str, parsed: Any) -> int:
    """Run a command that reads a run, and turn errors of the system into errors of fallow."""
    try:
        code = COMMANDS[command].run(parsed)
        with stdout_errors():
            # Now, since an error when Python exits would come too late for a message.
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # such as `| head`; Python would raise again when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        reason = f"{short(str(error.filename or parsed['run']))}: {error.strerror or error}"
        raise invalid("The files named must be readable, and --out writable.", reason) from None


def _check_data(options: TrainOptions) -> None:
    """Raise if the data do not exist, before torch and Lightning are loaded."""
    from ..datasets.names import check_exists
    from ..options.own_classes import is_import_path, nearly_import_path

    if error := nearly_import_path(options.data):
        raise error
    if not is_import_path(options.data) and not options.data.startswith("hf:"):
        check_exists(options.data, resumed=options.resume is not None)


def _train(options: TrainOptions) -> int:
    check(options)
    _check_data(options)
    try:
        from ..training.train import train
    except ModuleNotFoundError as error:
        raise missing_extra("`fallow train`", str(error.name)) from None
    from ..options.own_errors import exit_error

    try:
        return FINDING if train(options).get("diverged") else DONE
    except SystemExit as error:  # raised by the user's own code
        raise exit_error("The code of a training", error) from error


def _compare(parsed: Any) -> int:
    from ..comparison.running import run_comparison

    options = _of(TrainOptions, parsed, without=NOT_SHARED)
    if options.data:
        _check_data(options)
    comparison = run_comparison(_of(CompareOptions, parsed), options)
    if comparison is None:
        return DONE
    return FINDING if comparison.failed or comparison.diverged else DONE


def _of(kind: Any, parsed: Any, without: Collection[str] = ()) -> Any:
    """Return the parsed options of one dataclass."""
    names = {field.name for field in fields(kind)} - set(without)
    return kind(**{name: value for name, value in parsed.as_dict().items() if name in names})


def _without_stored_configs(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words without each ``--config`` that lies in a run, and these files."""
    kept: list[str] = []
    stored: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        path = value if equals and _is_config(name) else word if kept and _is_config(kept[-1]) else None
        if path is None or run_around(os.path.expanduser(path)) is None:
            kept.append(word)
            continue
        stored.append(os.path.expanduser(path))
        if path is word:
            kept.pop()
    return kept, stored


_ADDING = ("--accept", "--add")
"""Options that add to a list: all count if they stand more than once."""


def _joined(words: Sequence[str]) -> list[str]:
    """Return the words with all values of ``--accept`` in one list, and those of ``--add``.

    >>> _joined(["train", "--accept", "a", "--epochs", "9", "--accept=b"])
    ['train', '--accept=a,b', '--epochs', '9']
    """
    kept: list[str] = []
    places: dict[str, int] = {}
    for word in words:
        if kept and kept[-1] in _ADDING and not word.startswith("-"):
            word = f"{kept.pop()}={word}"
        name, equals, value = word.partition("=")
        if equals and name in places:
            kept[places[name]] += f",{value}"
            continue
        if equals and name in _ADDING:
            places[name] = len(kept)
        kept.append(word)
    return kept


def _is_config(word: str) -> bool:
    """Return whether a word is ``--config`` or an abbreviation that the parser accepts."""
    return word.startswith("--co") and "--config".startswith(word)


def _configs(words: Sequence[str]) -> list[str]:
    """Return the files of options that are named among the words.

    >>> _configs(["train", "--config", "a", "--config=b", "--conf", "c"])
    ['a', 'b', 'c']
    """
    pairs = zip(words, [*words[1:], ""], strict=True)
    return [
        word.partition("=")[2] if "=" in word else follower
        for word, follower in pairs
        if _is_config(word.partition("=")[0])
    ]


def _check_bounds(words: Sequence[str]) -> None:
    """Raise InvalidValue for words and files that are too long, nested too deep, or multiply by aliases.

    They would crash the parser or take all memory.
    """
    for word in words:
        if len(word) > _LONGEST or word.count("[") + word.count("{") > _MOST_BRACKETS:
            rule = f"A word must have at most {_LONGEST:,} characters and {_MOST_BRACKETS:,} brackets."
            start = f"{word[:40]!r}... of {len(word):,} characters"
            raise invalid(rule, start, "Write it into a file: --config FILE.")
    for name in map(os.path.expanduser, _configs(words)) if words[0] not in COMMANDS else ():
        from ..files.plain_yaml import LARGEST, parse_yaml
        from ..files.regular_file import read_regular

        try:
            parse_yaml(read_regular(Path(name), limit=LARGEST), name, "Fix it, or name another --config.")
        except DamagedData as error:  # a person wrote the file: wrong use (exit code 2), not damage
            raise InvalidValue(str(error)) from None
        except OSError as error:
            raise invalid("--config must name a readable file.", f"{name}: {error.strerror}") from None


def _parsed(words: Sequence[str]) -> Any:
    """Return the command and its options.

    Options of ``train`` that the words do not set come from the run that is resumed, or from a ``--config``
    inside a run. Stored options never reach the parser, which imports what a ``class_path`` in a mapping
    names.

    Raises:
        InvalidValue: if a word is unknown, or an option must be named again and is not.
    """
    given, stored = _without_stored_configs(words)
    _check_bounds(given)
    given = _joined(given)
    os.environ.pop("JSONARGPARSE_DEBUG", None)  # with it the parser raises errors of another type
    everything = HELP_ALL in given
    parser, commands = _parser(everything=everything)
    given = ["--help" if word == HELP_ALL else word for word in given]
    try:
        with spelled_streams():  # help shows the options of the run that is resumed
            # Without defaults, only the options that the user has given are set, and replace stored ones.
            parsed = parser.parse_args(given, defaults=words[:1] != ["train"])
    except ArgumentError as error:
        command = words[0] if words[0] in commands else None
        known = commands if command is None else re.findall(r"--\w+", commands[command].format_help())
        raise usage_error(str(error), command, known, {"run": "RUN", "sample": "ID"}) from None
    if parsed["command"] == "train":
        return {"command": "train", "train": _with_stored(parsed["train"].as_dict(), stored)}
    if stored:
        step = "Copy it to another place, after you have read it."
        raise invalid("--config must not lie in a run.", stored[0], step)
    return parsed


def _with_stored(given: dict[str, Any], configs: list[str]) -> TrainOptions:
    """Return the options of ``fallow train``: those given, and stored ones of a run for the others."""
    given.pop("config", None)
    run = given.get("resume")
    if run is None and not configs:
        return TrainOptions(**given)
    from ..options.naming import check_named, usable
    from ..options.resume_options import config_options, whole_options

    whole: dict[str, Any] = {} if run is None else whole_options(run)
    if given.get("policy") not in (None, whole.get("policy")):
        # Options of the policy that the user replaces.
        whole = {name: value for name, value in whole.items() if OPTIONS[name].fits(given["policy"])}
    for path in configs:
        whole |= config_options(path)
    options = TrainOptions(**{**usable(whole), **given})
    check_named(whole, options, str(run or configs[-1]))
    return options


def _add_train_options(parser: Any, without: Collection[str] = (), *, everything: bool) -> None:
    """Add the options of ``fallow train`` in groups; help shows the common ones, or all."""
    from ..options.train_options import GROUPS, HELP

    kinds = get_type_hints(TrainOptions)
    defaults = TrainOptions()
    for title in GROUPS:
        group = parser.add_argument_group(title)
        for name, known in OPTIONS.items():
            if known.group == title and name not in without:
                text = HELP[name] if known.common or everything else SUPPRESS
                default = getattr(defaults, name)
                group.add_argument(f"--{name}", type=kinds[name], default=default, help=text)


def _parser(*, everything: bool = False) -> tuple[Any, dict[str, Any]]:
    """Return the parser, and that of each command; if ``everything``, help shows every option."""
    try:
        import jsonargparse
    except ModuleNotFoundError:
        raise missing_extra("The command line", "jsonargparse") from None

    # Otherwise the parser prints its own errors and exits.
    named = partial(jsonargparse.ArgumentParser, exit_on_error=False)
    new = partial(named, formatter_class=RawDescriptionHelpFormatter)
    parser = new(prog="fallow", description=_ABOUT, version=__version__)
    commands = parser.add_subcommands(required=True, dest="command", title="commands")
    train = new(
        usage="fallow train --data DATA [--policy POLICY] [--epochs EPOCHS] [--seed SEED] [--out RUN] ...",
        description="Train a network on what still surprises it. --help-all explains every option.",
    )
    train.add_argument("--config", action="config", help="Options from a YAML or JSON file.")
    _add_train_options(train, everything=everything)
    commands.add_subcommand("train", train, help="Train a network on images or texts.")
    compare = new(
        usage="fallow compare --data DATA [--arms ARMS] [--saved SAVED] [--seeds SEEDS] [--out OUT] ...",
        description=_ABOUT_COMPARE,
    )
    compare.add_argument("--config", action="config", help="Options from a YAML or JSON file.")
    compare.add_class_arguments(CompareOptions)
    _add_train_options(compare, without=NOT_SHARED, everything=everything)
    commands.add_subcommand("compare", compare, help="Does it pay on your data? Arms, seeds, plain controls.")
    parsers = {"train": train, "compare": compare}
    for name, command in COMMANDS.items():
        reader = parsers[name] = new(description=command.about)
        reader.add_argument("run", metavar="RUN", help="The folder of the run.")
        command.add(reader)
        reader.add_argument("--json", action="store_true", help="Print JSON.")
        commands.add_subcommand(name, reader, help=command.about.partition(".")[0] + ".")
    return parser, parsers


def _refuse_of_an_arm(words: Sequence[str]) -> None:
    """Raise if ``compare`` is given an option that each arm or the comparison sets."""
    if words[:1] != ["compare"]:
        return
    given = {word[2:].partition("=")[0] for word in words if word.startswith("--")}
    for name in sorted(given & (NOT_SHARED - {field.name for field in fields(CompareOptions)})):
        if name == "policy":
            step = "Name rules in --arms, as full,fewer-epochs,random,soft."
        elif name in OF_AN_ARM:
            rule = next((policy for policy in ("soft", *POLICIES) if OPTIONS[name].fits(policy)), "soft")
            step = (
                f"Set it in an arm of your own: --arms '[full, {{mine: {{policy: {rule}, {name}: ...}}}}]'."
            )
        else:
            step = "Leave it out: the comparison sets it."
        raise invalid("An option of compare must be shared by all arms.", f"--{name}", step)


def _spelled(words: Sequence[str]) -> list[str]:
    """Return the words with ``_`` for ``-`` in names of options, and ``=true`` after a bare switch."""
    if words[0] in COMMANDS:
        return list(words)
    every = (*fields(TrainOptions), *fields(CompareOptions))
    # Annotations are strings because of `from __future__ import annotations`.
    switches = {field.name for field in every if str(field.type).startswith("bool")}
    spelled = []
    for word, follower in zip(words, [*words[1:], "--"], strict=True):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_")
            # Another follower is its value: the parser says that it must be true or false.
            if name in switches and not equals and follower.startswith("-"):
                equals, value = "=", "true"
            spelled.append(f"--{name}{equals}{value}")
        else:
            spelled.append(word)
    return spelled
