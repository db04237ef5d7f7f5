"""``fallow.train``: the options of the command line as keyword arguments."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from ..errors import unknown_name
from ..options.resume_options import with_stored
from ..options.train_options import OPTIONS, TrainOptions
from ..results.run import Run
from .train import train as train_run

_Options = ParamSpec("_Options")
_Result = TypeVar("_Result")


def _with_options(
    like: Callable[_Options, object],
) -> Callable[[Callable[..., _Result]], Callable[_Options, _Result]]:
    """Give a function the signature of the options and their descriptions, for editors, types and help."""

    def decorate(function: Callable[..., _Result]) -> Callable[_Options, _Result]:
        returned = inspect.signature(function).return_annotation
        function.__signature__ = inspect.signature(like).replace(return_annotation=returned)  # type: ignore[attr-defined]
        described = (TrainOptions.__doc__ or "").partition("Args:\n")[2].rstrip()
        function.__doc__ = (function.__doc__ or "").replace("        OPTIONS", described)
        return function

    return decorate


@_with_options(TrainOptions)
def train(data: str | os.PathLike[str] = "", **options: Any) -> Run:  # noqa: D417
    """Train a network on what still surprises it, as ``fallow train`` does, and return the run.

    The options are those of the command line, which ``fallow train --help_all`` lists too.

    >>> # run = fallow.train("digits", epochs=10)
    >>> # run.plot.usage()

    Args:
        OPTIONS

    Returns:
        The run; see :class:`fallow.Run`.

    Raises:
        InvalidType: if the value of an option has another type.
        InvalidValue: if options or data are invalid; raised before training.
        DamagedData: if the run to resume has no sound state.
        WrongState: if another process writes to the run directory.
        NotWritten: if the run could not be written.
        KeyboardInterrupt: if Ctrl-C or SIGTERM ended the training; ``resume=`` goes on from there.
        ModuleNotFoundError: if an extra is missing, which is named.
    """
    given: dict[str, Any] = {"data": data, **options} if data != "" else dict(options)
    for name in given:
        if name not in OPTIONS:
            raise unknown_name("option", name, OPTIONS)
    plain = {name: os.fspath(v) if isinstance(v, os.PathLike) else v for name, v in given.items()}
    return Run(train_run(with_stored(plain))["run"])
