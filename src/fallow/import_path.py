"""Keep runs off the import path: a run may come from anybody, so no module is imported from it.

This module runs before any other import of the package, because a file ``typing.py`` in the working folder
would otherwise replace Python's own. It therefore uses only modules that Python has loaded at start-up, and
acts on import.

``python -m`` puts the working folder first on the import path, and so does an empty entry in PYTHONPATH.
Python loads ``sitecustomize``, or another ``fallow``, before this code runs; that cannot be prevented here.
"""

import os
import sys

_STATE, _EPOCH = ("state", ".json"), ("history", ".safetensors")
_BESIDE = (
    "data.safetensors", "environment.json", "model.safetensors", "samples.csv", "summary.json", "SHA256SUMS",
    "history", "state", "lock",
)  # fmt: skip
"""A folder with a ``config.yaml`` and two of these is a run."""
SETTINGS = ("matplotlibrc", os.path.join("wandb", "settings"))
"""Files that packages read as their settings from the working folder; some can run code."""


def run_around(path: str | os.PathLike[str]) -> str | None:
    """Return the run or comparison that contains a path, or is it; None if there is none.

    Both a link's own location and its target are checked.
    """
    try:
        given = os.path.abspath(os.fspath(path))
        starts = {given, os.path.realpath(given)}
    except (OSError, ValueError):
        return None
    for folder in sorted(starts):
        while True:
            if _is_run(folder):
                return folder
            parent = os.path.dirname(folder)
            if parent == folder:
                break
            folder = parent
    return None


def _is_run(folder: str) -> bool:
    if _has(folder, "config.yaml") and sum(_has(folder, name) for name in _BESIDE) >= 2:
        return True
    if _has(folder, "compare.json") and _has(folder, "runs"):
        return True
    return _has_numbered_files(folder, *_STATE) or _has_numbered_files(folder, *_EPOCH)


def _has(folder: str, name: str) -> bool:
    return os.path.lexists(os.path.join(folder, name))


def _has_numbered_files(folder: str, subfolder: str, suffix: str) -> bool:
    """Return whether a subfolder has files numbered like those of a run: ``state/000012.json``."""
    try:
        names = os.listdir(os.path.join(folder, subfolder))
    except (OSError, ValueError):
        return False
    stems = (name.removesuffix(suffix).removeprefix("epoch-") for name in names if name.endswith(suffix))
    return any(len(stem) >= 5 and stem.isdigit() for stem in stems)


def is_inside(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> bool:
    """Return whether a path is a folder or lies in it, before or after links are resolved."""
    inner, outer = os.path.abspath(os.fspath(path)), os.path.abspath(os.fspath(folder))
    pairs = ((inner, outer), (os.path.realpath(inner), os.path.realpath(outer)))
    return any(low == high or low.startswith(os.path.join(high, "")) for low, high in pairs)


def working_folder() -> str | None:
    """Return the working folder; None if it has been deleted."""
    try:
        return os.getcwd()
    except OSError:
        return None


def without_runs(path: list[str]) -> list[str]:
    """Return the entries of an import path that are not inside a run.

    Args:
        path: as ``sys.path``; an empty entry is the working folder.
    """
    current = working_folder()
    folders = [(entry, entry or current) for entry in path]
    return [entry for entry, folder in folders if folder is not None and run_around(folder) is None]


def leave_out_runs() -> None:
    """Remove runs from the import path of this process and of its child processes."""
    sys.path[:] = without_runs(sys.path)
    current = working_folder()
    if current is None or run_around(current) is None:
        return
    os.environ["PYTHONSAFEPATH"] = "1"  # otherwise every child Python puts the working folder first
    if entries := os.environ.get("PYTHONPATH"):
        kept = without_runs([entry for entry in entries.split(os.pathsep) if entry])
        os.environ["PYTHONPATH"] = os.pathsep.join(kept)


def protect_commands() -> None:
    """Clean the import path if this process is a fallow command; leave it alone in a user's own program."""
    as_module = _module_of_command() == "fallow"
    if not as_module and os.path.splitext(os.path.basename(sys.argv[0] if sys.argv else ""))[0] != "fallow":
        return
    # The script `fallow` starts without the working folder on the path; `python -m fallow` should, too.
    if as_module and not sys.flags.safe_path and sys.path[:1] in ([""], [working_folder()]):
        del sys.path[0]
    leave_out_runs()


def _module_of_command() -> str | None:
    """Return the package that ``python -m`` names; None for other commands, or once its module runs."""
    if sys.argv[:1] != ["-m"]:
        return None
    # While `python -m` imports the package, argv[0] is "-m": the module name is only in orig_argv.
    interpreter_args = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]
    module = interpreter_args[-1] if interpreter_args else ""
    if module.startswith("-"):  # -mfallow
        module = module.partition("m")[2]
    return module.partition(".")[0]


protect_commands()
