"""The words of the command line before the parser sees them: bounds, spelling, files of options."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from ..comparison.options import NOT_SHARED, OF_AN_ARM, CompareOptions
from ..errors import DamagedData, InvalidValue, invalid
from ..import_path import run_around
from ..options.train_options import OPTIONS, POLICIES, TrainOptions
from .reading_commands import COMMANDS

HELP_ALL = "--help_all"
_LONGEST, _MOST_BRACKETS = 1 << 16, 1 << 10
"""Limits of a word of the command line, in characters and brackets."""


def without_stored_configs(words: Sequence[str]) -> tuple[list[str], list[str]]:
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


def joined(words: Sequence[str]) -> list[str]:
    """Return the words with all values of ``--accept`` in one list, and those of ``--add``.

    >>> joined(["train", "--accept", "a", "--epochs", "9", "--accept=b"])
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


def check_bounds(words: Sequence[str]) -> None:
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


def refuse_of_an_arm(words: Sequence[str]) -> None:
    """Raise if ``compare`` is given an option that each arm or the comparison sets."""
    if words[:1] != ["compare"]:
        return
    if names_runs(words):
        options = [
            word for word in words if word.startswith("--") and word not in ("--json", "--help", HELP_ALL)
        ]
        if options:
            rule = "compare must be given runs, or the options of a new comparison."
            raise invalid(rule, f"{options[0]} beside {words[1]}", "Leave one of them out.")
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


def spelled(words: Sequence[str]) -> list[str]:
    """Return the words with ``_`` for ``-`` in names of options, and ``=true`` after a bare switch."""
    if words[0] in COMMANDS or names_runs(words):
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


def names_runs(words: Sequence[str]) -> bool:
    """Return whether ``compare`` is given runs, and none of the options of a new comparison.

    >>> names_runs(["compare", "a", "b", "--json"]), names_runs(["compare", "--data", "digits"])
    (True, False)
    """
    given = [word for word in words[1:] if word != "--json"]
    return words[:1] == ["compare"] and bool(given) and not given[0].startswith("-")
