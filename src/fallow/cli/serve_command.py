"""``fallow serve``: the options, and their way to the server."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..errors import missing_extra
from .runs_commands import add_run_or_folder

DONE = 0
ABOUT_SERVE = (
    "A run, or all runs of a folder, in a browser: also while they train, which it never touches. Prints a\n"
    "link with a token; who has the link may read.\n\n"
    "  fallow serve runs/digits                            on this machine alone\n"
    "  fallow serve runs --port 0                          any free port\n"
    "  ssh -L 8000:localhost:8000 MACHINE                  from another machine, through a tunnel\n"
    "  fallow serve runs --host 0.0.0.0 --self_signed --qr    for phones in the same network\n"
    "  fallow serve runs --write                           a second link, to tick what you collected\n"
    "  fallow serve runs --receive                         a link that other machines push their runs to\n\n"
    "Programs send Authorization: Bearer TOKEN; /api/openapi.json describes what they may ask."
)


def add_arguments(parser: Any) -> None:
    """Add the arguments of ``fallow serve``."""
    add_run_or_folder(parser)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="The address to listen on. Another than this machine's own needs --self_signed, or --cert and "
        "--key. Default 127.0.0.1.",
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="The port; 0 takes any that is free. Default 8000."
    )
    parser.add_argument(
        "--uds", metavar="PATH", help="Listen on a local socket that this user alone can reach."
    )
    parser.add_argument(
        "--root_path", metavar="/PREFIX", default="", help="A path before every URL, behind a proxy."
    )
    parser.add_argument("--cert", metavar="FILE", help="A certificate, in PEM.")
    parser.add_argument("--key", metavar="FILE", help="Its key, in PEM.")
    parser.add_argument(
        "--self_signed", action="store_true", help="Make a certificate, and print its fingerprint to compare."
    )
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        help="The folder of images that the runs were trained on: small pictures of all its samples, "
        "and not only of those that a run keeps. On Linux alone.",
    )
    parser.add_argument(
        "--write", action="store_true", help="A second link, which may also tick what you have collected."
    )
    parser.add_argument(
        "--receive",
        action="store_true",
        help="A link for fallow push, by which other machines add their runs to the folder; it can do "
        "nothing else, and stays the same when the server starts again.",
    )
    parser.add_argument(
        "--receive_most",
        metavar="GIB",
        type=float,
        default=20.0,
        help="The most that pushed runs may take, in GiB. Default 20.",
    )
    parser.add_argument(
        "--qr", action="store_true", help="Draw a link for a phone that works once, within a minute."
    )


def run_server(parsed: Any) -> int:
    """Serve until a signal ends it, and return the exit code."""
    try:
        from ..serve.listening import Listening, serve
    except ModuleNotFoundError as error:
        raise missing_extra("`fallow serve`", str(error.name), "serve") from None
    given = {field.name: getattr(parsed, field.name) for field in fields(Listening)}
    serve(Path(parsed.folder), Listening(**given))
    sys.stdout.flush()
    return DONE
