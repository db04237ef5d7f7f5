"""What is wrong with a command line, said in its own words: the rule, the value found, the next step."""

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
    """Return the error for words that the parser refused.

    Args:
        message: the parser's own.
        command: which ``fallow`` command they were for; None where the words name none.
        options: of that command, as ``--low``; without a command, the commands.
        places: what stands for each argument without a name, as ``{"run": "RUN"}``.

    >>> print(usage_error("unrecognized arguments: --lw 0.1", "train", ["--low", "--high"], {}))
    An option must be one of `fallow train`. Found --lw. Did you mean --low? See `fallow train --help`.
    >>> print(usage_error("the following arguments are required: report.run", "report", [], {"run": "RUN"}))
    `fallow report` needs RUN. Found none. See `fallow report --help`.
    """
    called = "fallow" if command is None else f"fallow {command}"
    look = f"See `{called} --help`."
    if found := re.search(r"arguments are required: (.+)", message):
        names = [name.rpartition(".")[2] for name in found[1].split(", ")]
        lacking = [places.get(name, f"--{name}") for name in names]
        return invalid(f"`{called}` needs {' and '.join(lacking)}.", "none", look)
    if found := re.search(r"unrecognized arguments: (.+)", message, re.DOTALL):
        return _unrecognized(found[1], called, sorted(options), look)
    if found := re.search(r"does not accept option '([^']+)'", message):
        return _unrecognized(f"--{found[1]}", called, sorted(options), look)
    if found := re.search(r"invalid choice: '([^']*)'", message):
        return unknown_name("command", found[1], options)
    if found := re.match(r"argument (--\w+).*: expected one argument", message):
        return invalid(f"{found[1]} needs a value.", "none", look)
    if found := re.match(r'Parser key "([^"]+)":\s*(.*)', message, re.DOTALL):
        name = found[1].rpartition(".")[2]
        return _of_an_option(places.get(name, f"--{name}"), found[2], look)
    return InvalidValue(f"{' '.join(message.split()).removesuffix('.')}. {look}")


def short(name: str) -> str:
    """Return the name of a file, or its beginning and its end if it is long.

    >>> short("a/b.csv"), short("x" * 5000)
    ('a/b.csv', 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx, a name of 5,000 characters')
    """
    return name if len(name) <= 240 else f"{name[:30]}...{name[-30:]}, a name of {len(name):,} characters"


def unexpected(error: BaseException) -> str:
    """Return an error that nobody foresaw in one line: what it says, and the line of the user's code.

    >>> unexpected(KeyError("x"))
    "KeyError: 'x'. Add --debug for the whole trace."
    """
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes) and error.strerror:
        named = short(os.fsdecode(error.filename))
        return f"{named} must be there, and open to this process. Found: {error.strerror.lower()}."
    said = " ".join(str(error).split())[:300].removesuffix(".")
    found = place_of(error)
    place = f" ({found})" if found else ""
    kind = type(error).__name__
    return f"{f'{kind}: {said}' if said else kind}{place}. Add --debug for the whole trace."


def place_of(error: BaseException) -> str:
    """Return the last line of the user's own code on the way to an error; nothing if there is none."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if not _is_installed(frame.filename)
    ]
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""


def _is_installed(file: str) -> bool:
    """Return whether code belongs to fallow, to an installed package or to Python."""
    path = Path(file)
    libraries = {"site-packages", "dist-packages", f"python{sys.version_info.major}.{sys.version_info.minor}"}
    return (
        path.is_relative_to(Path(__file__).parent.parent)
        or bool(libraries & set(path.parts))
        or file[:1] == "<"
    )


def _unrecognized(words: str, called: str, options: list[str], look: str) -> InvalidValue:
    named = [word for word in words.split() if word.startswith("--")]
    if not named:
        return invalid(f"`{called}` takes no more words.", words, f"An option begins with --. {look}")
    name = named[0].partition("=")[0]
    guess = re.search(r"Did you mean '([^']+)'", str(unknown_name("option", name, options)))
    step = f"Did you mean {guess[1]}? {look}" if guess else look
    return invalid(f"An option must be one of `{called}`.", name, step)


def _of_an_option(name: str, words: str, look: str) -> InvalidValue:
    wanted = re.findall(r"<class '(\w+)'>", words.partition("Given value")[0])
    kinds = [kind for kind in dict.fromkeys(wanted) if kind != "NoneType"]
    value = re.search(r"(?:Given value|Got value): (.*)", words, re.DOTALL)
    if not kinds or value is None:
        return InvalidValue(f"{name}: {' '.join(words.split()).removesuffix('.')}. {look}")
    rule = f"{name} must be {' or '.join(_KINDS.get(kind, kind) for kind in kinds)}."
    return invalid(rule, value[1].strip(), look)
