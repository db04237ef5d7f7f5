"""``fallow push``: the runs of this machine, on the server of another."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import invalid
from ..spelling import plural
from ..terminal.streams import complain, say, say_json, say_progress
from .runs_commands import add_run_or_folder

if TYPE_CHECKING:
    from ..pushing.push import PushedRun

DONE, FINDING, DAMAGED = 0, 1, 3
LINK = "FALLOW_PUSH"
"""The environment variable that holds the link."""
ABOUT_PUSH = (
    "A run, or all runs of a folder, to the server of another machine. Each epoch is sent once it is saved,\n"
    "until the training has ended: beside it, in a process of its own that only reads, so that it is never\n"
    "held up. On the server: fallow serve FOLDER --receive, which prints the LINK.\n\n"
    f"  export {LINK}='https://HOST:8000/#TOKEN'       the link; others on a machine can see arguments\n"
    "  fallow push runs/digits                            until it has ended\n"
    "  fallow push runs --follow                          also runs that begin later, until Ctrl-C\n\n"
    "What is sent is there to look at; the network, and the state to resume from, stay here. If the line\n"
    "breaks, it goes on where it was, and so does the same command later. Runs of one name are kept apart.\n"
    "Exit code: 0 all is there, 1 a run is not, 2 wrong use, 3 a file is damaged here."
)


def add_push(parser: Any) -> None:
    """Add the arguments of ``fallow push``."""
    add_run_or_folder(parser)
    parser.add_argument(
        "link",
        metavar="LINK",
        nargs="?",
        help=f"The link that the server prints. Default: that of the environment variable {LINK}.",
    )
    parser.add_argument(
        "--follow", action="store_true", help="Go on until Ctrl-C, also with runs that begin later."
    )
    parser.add_argument(
        "--name", metavar="NAME", help="What the server calls the run. Default: the name of its folder."
    )


def options_first(words: Sequence[str]) -> list[str]:
    """Return the words of the command with options first: argparse wants the arguments together.

    >>> options_first(["push", "runs", "--follow", "LINK"])
    ['push', '--follow', 'runs', 'LINK']
    """
    options, others, values = list[str](), list[str](), iter(words[1:])
    for word in values:
        (options if word.startswith("-") else others).append(word)
        if word == "--name":
            options += [value for value in [next(values, None)] if value is not None]
    return [words[0], *options, *others]


def run_push(parsed: Any) -> int:
    """Push, print what became of each run, and return the exit code."""
    from ..pushing.line import Line
    from ..pushing.link import parse_link
    from ..pushing.push import push

    text = parsed.link or os.environ.get(LINK)
    if not text:
        step = f"fallow push RUN LINK, or export {LINK}=LINK."
        raise invalid("The link of a server must be named.", "none", step)
    line = Line(parse_link(text), complain, _progress if sys.stderr.isatty() else None)
    try:
        runs = push(Path(parsed.folder), line, follow=parsed.follow, name=parsed.name)
    finally:
        line.close()
    if parsed.json:
        told = {"runs": [run.to_dict() for run in runs], "bytes": line.sent, "breaks": line.breaks}
        say_json(json.dumps(told, indent=2))
    else:
        _say_runs(runs)
        broke = f" The line broke {plural(line.breaks, 'time')}." if line.breaks else ""
        files = plural(sum(run.files for run in runs), "file")
        say(f"{plural(len(runs), 'run')}, {files}; {line.sent / 1e6:,.1f} MB were sent now.{broke}")
    if any(run.damaged for run in runs):
        return DAMAGED
    return FINDING if any(run.refused for run in runs) else DONE


def _say_runs(runs: list[PushedRun]) -> None:
    for run in runs:
        if run.refused:
            say(f"Not pushed: {run.path}: {run.refused}")
        elif not run.files:
            say(f"Nothing to push yet: {run.path}")
        else:
            say(f"{run.path}: {run.state}; {plural(run.files, 'file')} on the server, as {run.name}")
        for name, fault in sorted(run.damaged.items())[:20]:
            say(f"Damaged: {run.path}: {name}: {fault}")


def _progress(files: int, sent: int) -> None:
    say_progress(f"{plural(files, 'file')} pushed, {sent / 1e6:,.1f} MB ", last=False)
