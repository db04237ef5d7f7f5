"""Where modules are imported from: never from a run, which may come from anybody.

This is the first module of the package that runs, before any other import: a file named ``typing.py`` in the
working folder must not be taken for Python's own. So it needs only what Python itself has loaded by then, and
acts when it is imported.

``python -m`` puts the working folder first on the import path, and so does an empty entry in PYTHONPATH. What
Python loads before our first line (``sitecustomize``, or another ``fallow``) is out of our reach.
"""

import os
import sys

_STATE, _EPOCH = ("state", ".json"), ("history", ".safetensors")
_BESIDE = (
    "data.safetensors", "environment.json", "model.safetensors", "samples.csv", "summary.json", "SHA256SUMS",
    "history", "state", "lock",
)  # fmt: skip
"""Two of them make a run of a folder with a ``config.yaml``."""
SETTINGS = ("matplotlibrc", os.path.join("wandb", "settings"))
"""Files in the working folder that packages take for settings of their own: some can run code."""


def run_around(path: str | os.PathLike[str]) -> str | None:
    """Return the run, or the comparison, that a path is or lies in; None if there is none.

    A link is looked at where it stands and where it leads.
    """
    try:
        given = os.path.abspath(os.fspath(path))
        places = {given, os.path.realpath(given)}
    except (OSError, ValueError):
        return None
    for place in sorted(places):
        while True:
            if _is_run(place):
                return place
            above = os.path.dirname(place)
            if above == place:
                break
            place = above
    return None


def _is_run(folder: str) -> bool:
    if _has(folder, "config.yaml") and sum(_has(folder, name) for name in _BESIDE) >= 2:
        return True
    if _has(folder, "compare.json") and _has(folder, "runs"):
        return True
    return _holds(folder, *_STATE) or _holds(folder, *_EPOCH)


def _has(folder: str, name: str) -> bool:
    return os.path.lexists(os.path.join(folder, name))


def _holds(folder: str, below: str, suffix: str) -> bool:
    """Return whether a folder has files that are numbered as those of a run: ``state/000012.json``."""
    try:
        names = os.listdir(os.path.join(folder, below))
    except (OSError, ValueError):
        return False
    stems = (name.removesuffix(suffix).removeprefix("epoch-") for name in names if name.endswith(suffix))
    return any(len(stem) >= 5 and stem.isdigit() for stem in stems)


def is_inside(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> bool:
    """Return whether a path is a folder or lies in it, links followed or not."""
    inner, outer = os.path.abspath(os.fspath(path)), os.path.abspath(os.fspath(folder))
    pairs = ((inner, outer), (os.path.realpath(inner), os.path.realpath(outer)))
    return any(one == two or one.startswith(os.path.join(two, "")) for one, two in pairs)


def working_folder() -> str | None:
    """Return the working folder; None if it is gone."""
    try:
        return os.getcwd()
    except OSError:
        return None


def without_runs(path: list[str]) -> list[str]:
    """Return the entries of an import path that are no run and lie in none.

    Args:
        path: as ``sys.path``; an empty entry is the working folder.
    """
    here = working_folder()
    places = [(entry, entry or here) for entry in path]
    return [entry for entry, place in places if place is not None and run_around(place) is None]


def leave_out_runs() -> None:
    """Take runs off the import path of this process and of those that it starts."""
    sys.path[:] = without_runs(sys.path)
    here = working_folder()
    if here is None or run_around(here) is None:
        return
    os.environ["PYTHONSAFEPATH"] = "1"  # else each Python that we start puts the working folder first
    if entries := os.environ.get("PYTHONPATH"):
        kept = without_runs([entry for entry in entries.split(os.pathsep) if entry])
        os.environ["PYTHONPATH"] = os.pathsep.join(kept)


def of_command() -> None:
    """Set up the import path if this process is one of our commands; others decide theirs."""
    by_name = _module_of_command() == "fallow"
    if not by_name and os.path.splitext(os.path.basename(sys.argv[0] if sys.argv else ""))[0] != "fallow":
        return
    # As for the command `fallow`, whose working folder is not on the path.
    if by_name and not sys.flags.safe_path and sys.path[:1] in ([""], [working_folder()]):
        del sys.path[0]
    leave_out_runs()


def _module_of_command() -> str | None:
    """Return the package that ``python -m`` names; None for another command, or once its module runs."""
    if sys.argv[:1] != ["-m"]:
        return None
    words = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]
    module = words[-1] if words else ""
    if module.startswith("-"):  # -mfallow
        module = module.partition("m")[2]
    return module.partition(".")[0]


of_command()
