"""The rank of this process, as torchrun or Lightning sets it. Loads no torch."""

from __future__ import annotations

import os

from ..errors import invalid

RANKS = ("RANK", "LOCAL_RANK")  # Lightning sets only LOCAL_RANK for the processes that it starts


def launched_rank() -> int:
    """Return the rank: 0 in the one process that writes and prints, and above 0 in the others.

    Raises:
        InvalidValue: if an environment variable is not a rank.
    """
    # On a second machine LOCAL_RANK is 0 although another process writes.
    return max(_number(name) for name in RANKS)


def check_launched(size: int) -> None:
    """Raise if this process has a rank above 0 but trains alone, as nobody would then write the run.

    Args:
        size: the number of processes that train together.

    Raises:
        InvalidValue: naming the environment variables.
    """
    if size == 1 and launched_rank():
        ranks = " ".join(f"{name}={os.environ[name]}" for name in RANKS if name in os.environ)
        step = "Unset them, or start all processes by torchrun, with --devices for as many."
        raise invalid("A process with a rank must train with others.", f"{ranks} and one process", step)


def _number(name: str) -> int:
    value = os.environ.get(name) or "0"
    if not (value.isdecimal() and len(value) < 10):
        raise invalid(f"The environment variable {name} must be a rank.", repr(value), "Unset it.")
    return int(value)
