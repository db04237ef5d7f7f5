"""Plain output of the command line; tables and bars go through :mod:`fallow.terminal.rich_console`.

Foreign names are escaped before they reach a terminal, see :mod:`fallow.spelling`. Nothing else in fallow
calls ``print``, so no output can skip this.
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

_OWN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")


def open_streams() -> None:
    """Make sure that standard output and error exist; characters outside their encoding become ``?``."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell, as with `>&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open until the end
        if isinstance(stream := getattr(sys, name), TextIOWrapper):
            stream.reconfigure(errors="replace")


@contextmanager
def stdout_errors() -> Iterator[None]:
    """Turn errors of writing to standard output into a clear one.

    Raises:
        NotWritten: if standard output cannot be written, as on a full disk.
        BrokenPipeError: if its reader has gone.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        redirect_to_null(sys.stdout)
        raise NotWritten(f"Standard output cannot be written: {error.strerror or error}.") from None


def redirect_to_null(stream: TextIO) -> None:
    """Discard the output of a stream that cannot be written."""
    # Python flushes the buffer when it exits, which would fail once more.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def say(text: str = "") -> None:
    """Print one line; line breaks in it are escaped."""
    with stdout_errors():
        print(one_line(text))


def complain(text: str) -> None:
    """Print a text to standard error, with lines after the first indented: none can pose as a message."""
    print("\n    ".join(spelled(text).replace("\t", " ").split("\n")), file=sys.stderr)


def say_script(text: str) -> None:
    """Print a script that fallow itself has made: nothing in it comes from elsewhere."""
    with stdout_errors():
        print(text)


def say_json(text: str) -> None:
    """Print JSON."""
    with stdout_errors():
        print(text.replace("\x7f", "\\u007f"))  # the only control character that json.dumps does not escape


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send to standard error what anything inside the block writes to standard output, in any language."""
    with redirect_stdout(sys.stderr):
        try:
            sys.__stdout__.flush()  # type: ignore[union-attr]
            kept = os.dup(1)
        except (AttributeError, OSError, ValueError):  # it is closed: nothing can be written to it
            yield
            return
        try:
            # By descriptor, since libraries in C and processes that are started have no sys.stdout.
            os.dup2(2, 1)
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def say_progress(text: str, *, last: bool) -> None:
    """Print progress to standard error, over the previous line."""
    print(f"\r{one_line(text)}", end="\n" if last else "", file=sys.stderr, flush=True)


@contextmanager
def spelled_streams() -> Iterator[None]:
    """Escape what others print inside the block: a parser's help may show values from a stored run."""
    with redirect_stdout(_Escaped(sys.stdout)), redirect_stderr(_Escaped(sys.stderr)):  # type: ignore[type-var]
        yield


@contextmanager
def spelled_warnings() -> Iterator[None]:
    """Escape the texts of warnings that are printed inside the block; ours have no line of source."""
    before = warnings.formatwarning

    def formatted(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        text = one_line(str(message))
        if filename.startswith(_OWN):
            return f"fallow: warning: {text}\n"
        return before(text, category, filename, lineno, line)

    warnings.formatwarning = formatted
    try:
        yield
    finally:
        warnings.formatwarning = before


class _Escaped:
    """A stream that escapes the text written to it, and forwards everything else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(spelled(text.replace(" \b[", "[")))  # jsonargparse erases a space by a backspace
        return len(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)
