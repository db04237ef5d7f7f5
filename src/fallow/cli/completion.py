"""``fallow --print_shtab=bash``: a script by which a shell completes words on TAB; it starts no Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import missing_extra, unknown_name
from ..options.train_options import AUGMENTS, DENSITIES, LOGGERS, OUR_MODELS, POLICIES, TASKS

OPTION = "--print_shtab"
SHELLS = ("bash", "zsh")
_FOLDERS = ("run", "runs", "folder", "resume", "out")
_FILES = ("config", "data", "add", "reference", "pool")
_VALUES: Mapping[str, tuple[str, ...]] = {
    "accelerator": ("auto", "cpu", "gpu"),
    "augment": AUGMENTS,
    "density": DENSITIES,
    "engine": ("local", "ray"),
    "format": ("parquet", "csv", "json"),
    "logger": LOGGERS,
    "model": OUR_MODELS,
    "on_storage_error": ("warn", "stop"),
    "outliers": ("remeasure", "readmit", "never"),
    "policy": POLICIES,
    "precision": ("32-true", "bf16-mixed", "16-mixed"),
    "stop": ("none", "auto"),
    "strategy": ("auto", "ddp"),
    "task": TASKS,
    "tokenizer": ("bpe", "byte"),
}
"""Values that are offered; others may be valid too."""


def script(parser: Any, commands: Mapping[str, Any], shell: str) -> str:
    """Return the script for a shell.

    Args:
        parser: of the command line; it must not parse anything afterwards.
        commands: the parser of each command.
        shell: bash or zsh.

    Raises:
        InvalidValue: if the shell is another one.
        ModuleNotFoundError: if shtab is not installed.
    """
    if shell not in SHELLS:
        raise unknown_name("shell", shell, SHELLS)
    try:
        import shtab
    except ModuleNotFoundError:
        raise missing_extra("Shell completion", "shtab") from None
    # For runs side by side it has another parser, which the words decide.
    commands["compare"].add_argument("runs", nargs="*", help="Runs to put side by side.")
    for command in commands.values():
        for action in command._actions:
            if action.dest in _FOLDERS:
                action.complete = shtab.DIRECTORY
            elif action.dest in _FILES:
                action.complete = shtab.FILE
            elif action.dest in _VALUES:
                action.choices = _VALUES[action.dest]
    text: str = shtab.complete(parser, shell)
    return text
