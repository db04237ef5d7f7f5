"""All that the command line prints, but for tables and bars, which are :mod:`fallow.terminal.rich_console`'s.

A name that somebody else gave never reaches a terminal as it is: see :mod:`fallow.spelling`. Nothing else in
fallow calls ``print``, so that nobody can forget it.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import TextIOWrapper
from typing import TextIO

from ..errors import NotWritten
from ..spelling import one_line, spelled


def open_streams() -> None:
    """Make sure that standard output and error exist; letters that their encoding lacks are printed as ?."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as by `>&-`: nobody reads it
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for good
        if isinstance(stream := getattr(sys, name), TextIOWrapper):
            stream.reconfigure(errors="replace")


@contextmanager
def writing() -> Iterator[None]:
    """Say of a standard output that cannot be written what it is.

    Raises:
        NotWritten: if it cannot, as on a full disk.
        BrokenPipeError: if nobody reads it any more.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        give_up(sys.stdout)
        raise NotWritten(f"Standard output cannot be written: {error.strerror or error}.") from None


def give_up(stream: TextIO) -> None:
    """Let a stream that cannot be written lead nowhere: what is in its buffer would fail again at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def say(text: str = "") -> None:
    """Print one line; a line break in it is spelled."""
    with writing():
        print(one_line(text))


def complain(text: str) -> None:
    """Print a text to standard error; lines after the first are indented, so that none looks like ours."""
    print("\n    ".join(spelled(text).replace("\t", " ").split("\n")), file=sys.stderr)


def say_json(text: str) -> None:
    """Print JSON, of which ``json.dumps`` leaves one character that a terminal may obey: DEL."""
    with writing():
        print(text.replace("\x7f", "\\u007f"))


def say_progress(text: str, *, last: bool) -> None:
    """Print how far work is, to standard error, over what was printed before."""
    print(f"\r{one_line(text)}", end="\n" if last else "", file=sys.stderr, flush=True)


@contextmanager
def spelled_streams() -> Iterator[None]:
    """Spell what others print meanwhile, such as a parser its help: it may show values from a stored run."""
    with redirect_stdout(_Spelled(sys.stdout)), redirect_stderr(_Spelled(sys.stderr)):  # type: ignore[type-var]
        yield


@contextmanager
def spelled_warnings() -> Iterator[None]:
    """Spell the texts of warnings that are printed meanwhile."""
    before = warnings.formatwarning

    def formatted(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        return before(one_line(str(message)), category, filename, lineno, line)

    warnings.formatwarning = formatted
    try:
        yield
    finally:
        warnings.formatwarning = before


class _Spelled:
    """A stream that spells what is written to it; whatever else is asked of it, the stream behind it does."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(spelled(text.replace(" \b[", "[")))  # jsonargparse's way to print no space there
        return len(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)
