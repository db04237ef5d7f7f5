"""The command line. ``--help`` and the reading commands load no torch.

Exit codes: 0 done, 1 a finding, 2 wrong use, 3 damaged data.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from . import __version__
from ._checks import DamagedData, FallowError, missing_extra
from .tasks.options import TrainOptions

DONE, FINDING, WRONG_USE, DAMAGED = 0, 1, 2, 3

_ABOUT = """Train on what still surprises the network.

  fallow train --data digits                          a first run, without a download
  fallow train --data fashion-mnist --policy threshold --low 0.1
  fallow train --data FOLDER                          one sub-folder of images a class
  fallow train --config run.yaml --seed 1             options from a file, one of them changed
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    words = _spelled((sys.argv[1:] if argv is None else argv) or ["--help"])
    try:
        parser = _parser()
        parsed = parser.parse_args(words)
        _train(parsed["train"])
    except KeyboardInterrupt:
        print("fallow: stopped.", file=sys.stderr)
        return 130
    except (FallowError, ModuleNotFoundError) as error:
        if not isinstance(error, FallowError) and "fallow[" not in str(error):
            raise
        print(f"fallow: error: {error}", file=sys.stderr)
        return DAMAGED if isinstance(error, DamagedData) else WRONG_USE
    return DONE


def _train(parsed: Any) -> None:
    values = {name: value for name, value in parsed.as_dict().items() if name != "config"}
    options = TrainOptions(**values)
    options.check()
    try:
        from .tasks.training import train
    except ModuleNotFoundError as error:
        raise missing_extra("`fallow train`", str(error.name)) from None
    train(options)


def _parser() -> Any:
    try:
        from jsonargparse import ArgumentParser
    except ModuleNotFoundError:
        raise missing_extra("The command line", "jsonargparse") from None
    from argparse import RawDescriptionHelpFormatter

    parser = ArgumentParser(
        prog="fallow",
        description=_ABOUT,
        version=__version__,
        formatter_class=RawDescriptionHelpFormatter,
    )
    commands = parser.add_subcommands(required=True, dest="command", title="commands")
    train = ArgumentParser(description="Train a network on what still surprises it.")
    train.add_argument("--config", action="config", help="Options from a YAML or JSON file.")
    train.add_class_arguments(TrainOptions)
    commands.add_subcommand("train", train, help="Train a network on images.")
    return parser


def _spelled(words: Sequence[str]) -> list[str]:
    """Return ``--readmit-every`` as ``--readmit_every``, and a bare ``--stagger`` as ``--stagger=true``."""
    switches = {f.name for f in fields(TrainOptions) if str(f.type).startswith("bool")}
    spelled = []
    for word, follower in zip(words, [*words[1:], "--"], strict=True):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_")
            if name in switches and not equals and follower not in ("true", "false"):
                equals, value = "=", "true"
            spelled.append(f"--{name}{equals}{value}")
        else:
            spelled.append(word)
    return spelled
