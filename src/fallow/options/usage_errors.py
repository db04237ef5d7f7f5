"""Errors of the command line as the rule, the value found and the next step."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from ..errors import InvalidValue, invalid, unknown_name

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "dict": "a mapping in YAML or JSON, as '{name: value}'",
    "list": "a list, as '[1, 2]'",
    "str": "text",
}


def usage_error(
    message: str, command: str | None, options: Iterable[str], places: dict[str, str]
) -> InvalidValue:
    """Return the error for arguments that the parser refused.

    Args:
        message: the parser's message.
        command: the ``fallow`` command; None if the arguments name none.
        options: the options of the command, such as ``--low``; without a command, the commands.
        places: the names of positional arguments in messages, such as ``{"run": "RUN"}``.

    >>> print(usage_error("unrecognized arguments: --lw 0.1", "train", ["--low", "--high"], {}))
    An option must be one of `fallow train`. Found --lw. Did you mean --low? See `fallow train --help`.
    >>> print(usage_error("the following arguments are required: report.run", "report", [], {"run": "RUN"}))
    `fallow report` needs RUN. Found none. See `fallow report --help`.
    """
    called = "fallow" if command is None else f"fallow {command}"
    hint = f"See `{called} --help`."
    # The patterns are messages of argparse and jsonargparse.
    if match := re.search(r"arguments are required: (.+)", message):
        names = [name.rpartition(".")[2] for name in match[1].split(", ")]
        missing = [places.get(name, f"--{name}") for name in names]
        return invalid(f"`{called}` needs {' and '.join(missing)}.", "none", hint)
    if match := re.search(r"unrecognized arguments: (.+)", message, re.DOTALL):
        return _unrecognized(match[1], called, sorted(options), hint)
    if match := re.search(r"does not accept option '([^']+)'", message):
        return _unrecognized(f"--{match[1]}", called, sorted(options), hint)
    if match := re.search(r"invalid choice: '([^']*)'", message):
        return unknown_name("command", match[1], options)
    if match := re.match(r"argument (--\w+).*: expected one argument", message):
        return invalid(f"{match[1]} needs a value.", "none", hint)
    if match := re.match(r'Parser key "([^"]+)":\s*(.*)', message, re.DOTALL):
        name = match[1].rpartition(".")[2]
        return _wrong_value(places.get(name, f"--{name}"), match[2], hint)
    return InvalidValue(f"{' '.join(message.split()).removesuffix('.')}. {hint}")


def short(name: str) -> str:
    """Return the name of a file, or its beginning and its end if it is long.

    >>> short("a/b.csv"), short("x" * 5000)
    ('a/b.csv', 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx, a name of 5,000 characters')
    """
    return name if len(name) <= 240 else f"{name[:30]}...{name[-30:]}, a name of {len(name):,} characters"


def unexpected(error: BaseException) -> str:
    """Return an unexpected error as one line, with the line of the user's code if there is one.

    >>> unexpected(KeyError("x"))
    "KeyError: 'x'. Add --debug for the whole trace."
    """
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes) and error.strerror:
        name = short(os.fsdecode(error.filename))
        return f"{name} must exist and be accessible. Found: {error.strerror.lower()}."
    message = " ".join(str(error).split())[:300].removesuffix(".")
    place = place_of(error)
    kind = type(error).__name__
    line = f"{kind}: {message}" if message else kind
    return f"{line}{f' ({place})' if place else ''}. Add --debug for the whole trace."


def place_of(error: BaseException) -> str:
    """Return the last line of the user's own code in a traceback; empty if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_installed(frame.filename)]
    return f"{Path(own[-1].filename).name}, line {own[-1].lineno}" if own else ""


def _is_installed(file: str) -> bool:
    """Return whether code belongs to fallow, to an installed package or to Python."""
    path = Path(file)
    libraries = {"site-packages", "dist-packages", f"python{sys.version_info.major}.{sys.version_info.minor}"}
    return (
        path.is_relative_to(Path(__file__).parent.parent)
        or bool(libraries & set(path.parts))
        or file[:1] == "<"  # <string>, <frozen importlib._bootstrap>
    )


def _unrecognized(arguments: str, called: str, options: list[str], hint: str) -> InvalidValue:
    named = [argument for argument in arguments.split() if argument.startswith("--")]
    if not named:
        step = f"An option begins with --. {hint}"
        return invalid(f"`{called}` takes no more arguments.", arguments, step)
    name = named[0].partition("=")[0]
    # Of that error only the suggestion is needed.
    guess = re.search(r"Did you mean '([^']+)'", str(unknown_name("option", name, options)))
    step = f"Did you mean {guess[1]}? {hint}" if guess else hint
    return invalid(f"An option must be one of `{called}`.", name, step)


def _wrong_value(name: str, message: str, hint: str) -> InvalidValue:
    types = re.findall(r"<class '(\w+)'>", message.partition("Given value")[0])
    kinds = [kind for kind in dict.fromkeys(types) if kind != "NoneType"]
    value = re.search(r"(?:Given value|Got value): (.*)", message, re.DOTALL)
    if not kinds or value is None:
        return InvalidValue(f"{name}: {' '.join(message.split()).removesuffix('.')}. {hint}")
    rule = f"{name} must be {' or '.join(_KINDS.get(kind, kind) for kind in kinds)}."
    return invalid(rule, value[1].strip(), hint)
