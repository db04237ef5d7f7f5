"""The command line. ``--help`` and the reading commands load no torch.

Exit codes: 0 done, 1 a finding (``train``: it diverged; ``compare``: a run failed or diverged), 2 wrong use,
3 damaged data, 130 stopped, 143 stopped by SIGTERM. An error is one line; ``--debug`` shows the traceback.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from argparse import SUPPRESS, ArgumentError, RawDescriptionHelpFormatter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from signal import SIG_DFL, SIGINT, SIGTERM, getsignal, signal
from types import FrameType
from typing import Any, get_type_hints

from ..comparison.options import NOT_SHARED, CompareOptions
from ..errors import DamagedData, FallowError, NotWritten, invalid, missing_extra
from ..import_path import SETTINGS, run_around, working_folder
from ..options.checks import check
from ..options.train_options import OPTIONS, TrainOptions
from ..options.usage_errors import short, unexpected, usage_error
from ..terminal.streams import (
    complain,
    open_streams,
    say_json,
    say_script,
    spelled_streams,
    spelled_warnings,
    stdout_errors,
    stdout_to_stderr,
)
from ..version import __version__
from . import completion
from .demo import ABOUT_DEMO, add_arguments, run_demo
from .push_command import options_first
from .reading_commands import COMMANDS
from .runs_commands import ABOUT_SIDE_BY_SIDE, add_runs, show_side_by_side
from .serve_command import ABOUT_SERVE, run_server
from .serve_command import add_arguments as add_serve_arguments
from .words import (
    HELP_ALL,
    check_bounds,
    joined,
    names_runs,
    refuse_of_an_arm,
    spelled,
    without_stored_configs,
)

DONE, FINDING, WRONG_USE, DAMAGED = 0, 1, 2, 3

_ABOUT = """Train on what still surprises the network.

  fallow demo                                         a first look, without a download
  fallow train --data digits                          a first run on the same images
  fallow train --data digits --policy threshold --low 0.1
  fallow train --data FOLDER                          one sub-folder of images a class
  fallow train --data FILE.csv --label stars          texts with a class each, in columns text and stars
  fallow train --data FILE.txt                        a language model
  fallow train --config run.yaml --seed 1             options from a file, one of them changed
  fallow train --resume RUN                           resume a run exactly where it was stopped
  fallow compare --data digits                        does it pay? against plain controls
  fallow compare RUN RUN                              runs that are there already, side by side
  fallow list                                         the runs in a folder, and what they reached
  fallow serve FOLDER                                 the same in a browser, also while they train
  fallow push RUN LINK                                to the server of another machine, as it trains
  fallow report RUN                                   one HTML page of a run, with its odd samples
  fallow suspects RUN                                 labels that look wrong; correct them with --labels
  fallow gaps RUN                                     what the training data lack
  fallow collect RUN --pool POOL --count 100          what to collect next; train on it with --add

Words are completed on TAB in new shells after
  fallow --print_shtab=bash > ~/.local/share/bash-completion/completions/fallow        (mkdir -p it first)
  fallow --print_shtab=zsh > "${fpath[1]}/_fallow"                                     (for zsh)

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
  fallow compare RUN RUN ...                              runs that are there, side by side; trains nothing
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


_ARGUMENTS = {"run": "RUN", "runs": "RUN", "sample": "ID", "folder": "RUN|FOLDER", "link": "LINK"}
"""What help calls the arguments that are no options."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    open_streams()
    given = list(sys.argv[1:] if argv is None else argv)
    # Removed here, since it goes with any command and no parser knows it.
    debug, given = "--debug" in given, [word for word in given if word != "--debug"]
    words = spelled(given or ["--help"])
    reads = words[0] in COMMANDS or names_runs(words)
    try:
        # First of all, before any package that would read them is imported.
        _refuse_settings()
        refuse_of_an_arm(words)
        if words[0].partition("=")[0] == completion.OPTION:
            return _print_completion(words)
        parsed = _parsed(words)
        command = str(parsed["command"])
        with spelled_warnings():
            if reads:
                return _read(command, parsed[command])
            if command == "serve":
                return _serve(parsed[command])
            with _stopped_by_sigterm():
                return {"train": _train, "compare": _compare, "demo": _demo}[command](parsed[command])
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
        reading = not expected and reads
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
        code = COMMANDS[command].run(parsed) if command in COMMANDS else show_side_by_side(parsed)
        with stdout_errors():
            # Now, since an error when Python exits would come too late for a message.
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # such as `| head`; Python would raise again when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        reason = f"{short(str(error.filename or command))}: {error.strerror or error}"
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
    from ..files.checked_json import finite
    from ..options.own_errors import exit_error
    from ..tasks.launched import launched_rank

    try:
        if not options.json:
            return FINDING if train(options).get("diverged") else DONE
        summary: dict[str, Any] = {}
        try:
            with stdout_to_stderr():
                summary = train(options)
        except KeyboardInterrupt as stop:
            summary = getattr(stop, "summary", {})
            raise
        finally:
            if summary and not launched_rank():
                say_json(json.dumps(finite(summary), indent=2))
        return FINDING if summary.get("diverged") else DONE
    except SystemExit as error:  # raised by the user's own code
        raise exit_error("The code of a training", error) from error


def _print_completion(words: Sequence[str]) -> int:
    _, equals, shell = words[0].partition("=")
    shell = shell if equals else " ".join(words[1:])
    say_script(completion.script(*_parser(everything=True), shell))
    return DONE


def _serve(parsed: Any) -> int:
    """Run the server, and turn errors of the system into errors of fallow."""
    try:
        return run_server(parsed)
    except OSError as error:
        reason = f"{short(str(error.filename or 'the address'))}: {error.strerror or error}"
        raise invalid("The folder must be readable, and the address free.", reason) from None


def _demo(parsed: Any) -> int:
    return run_demo(parsed.out)


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


def _parsed(words: Sequence[str]) -> Any:
    """Return the command and its options.

    Options of ``train`` that the words do not set come from the run that is resumed, or from a ``--config``
    inside a run. Stored options never reach the parser, which imports what a ``class_path`` in a mapping
    names.

    Raises:
        InvalidValue: if a word is unknown, or an option must be named again and is not.
    """
    if words[0] == "push":
        words = options_first(words)
    given, stored = without_stored_configs(words)
    check_bounds(given)
    given = joined(given)
    os.environ.pop("JSONARGPARSE_DEBUG", None)  # with it the parser raises errors of another type
    everything = HELP_ALL in given
    parser, commands = _parser(everything=everything, side_by_side=names_runs(given))
    given = ["--help" if word == HELP_ALL else word for word in given]
    try:
        with spelled_streams():  # help shows the options of the run that is resumed
            # Without defaults, only the options that the user has given are set, and replace stored ones.
            parsed = parser.parse_args(given, defaults=words[:1] != ["train"])
    except ArgumentError as error:
        command = words[0] if words[0] in commands else None
        known = commands if command is None else re.findall(r"--\w+", commands[command].format_help())
        raise usage_error(str(error), command, known, _ARGUMENTS) from None
    if parsed["command"] == "train":
        from ..options.resume_options import with_stored

        given = parsed["train"].as_dict()
        given.pop("config", None)
        return {"command": "train", "train": with_stored(given, stored)}
    if stored:
        step = "Copy it to another place, after you have read it."
        raise invalid("--config must not lie in a run.", stored[0], step)
    return parsed


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


def _parser(*, everything: bool = False, side_by_side: bool = False) -> tuple[Any, dict[str, Any]]:
    """Return the parser, and that of each command.

    Args:
        everything: whether help shows every option.
        side_by_side: whether ``compare`` reads runs, in place of training a comparison.
    """
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
    if side_by_side:
        compare = new(description=ABOUT_SIDE_BY_SIDE)
        add_runs(compare)
        compare.add_argument("--json", action="store_true", help="Print JSON.")
    commands.add_subcommand("compare", compare, help="Does it pay on your data? Arms, seeds, plain controls.")
    demo = new(description=ABOUT_DEMO)
    add_arguments(demo)
    commands.add_subcommand("demo", demo, help="A first look in under two minutes, without a download.")
    serve = new(description=ABOUT_SERVE)
    add_serve_arguments(serve)
    commands.add_subcommand("serve", serve, help="Runs in a browser, also while they train.")
    parsers = {"train": train, "compare": compare, "demo": demo, "serve": serve}
    for name, command in COMMANDS.items():
        reader = parsers[name] = new(description=command.about)
        if command.of_a_run:
            reader.add_argument("run", metavar="RUN", help="The folder of the run.")
        command.add(reader)
        reader.add_argument("--json", action="store_true", help="Print JSON.")
        commands.add_subcommand(name, reader, help=command.about.partition(".")[0] + ".")
    return parser, parsers
