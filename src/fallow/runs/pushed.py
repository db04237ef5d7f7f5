"""What a run on another machine leaves here when it is pushed: which files, and ``pushed.json``.

A pushed run is one to look at. Its network, and the state that a training is resumed from, stay where it
trains. In their place is a small state with what is read of one: what each epoch reached, and the predicted
classes.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from ..errors import DamagedData
from ..files.checked_json import decode
from ..files.regular_file import read_regular

NAME = "pushed.json"
"""Marks the folder of a pushed run. The time of this file is that of the last word from the other machine."""
QUIET = 90.0
"""A run that was said to be training is no longer taken for one after so many seconds without a word."""
_FIXED = re.compile(r"history/epoch-[0-9]{5}\.safetensors|data(-[0-9]{1,6})?\.safetensors")
_OTHERS = re.compile(
    r"config\.yaml|environment\.json|tokenizer\.json|summary\.json|SHA256SUMS|gaps\.safetensors"
    r"|history/shown\.safetensors|state/[0-9]{6,9}\.(json|safetensors)|(added|labels|picks)-[0-9]{3}\.csv"
)
_MOST = 1 << 10

State = Literal["running", "stalled", "crashed", "stopped", "finished", "diverged", "damaged"]


class Mark(Struct, frozen=True):
    """``pushed.json``.

    Attributes:
        id: of the run, made where it trains: another run of the same name has another.
        state: what it was doing there, by the last word.
    """

    id: Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
    state: State


@dataclass(frozen=True)
class Told:
    """What was last said of a pushed run.

    Attributes:
        id, state: see :class:`Mark`.
        at: when, in seconds since the epoch, by the clock of this machine.
    """

    id: str
    state: State
    at: float

    def is_training(self, now: float) -> bool:
        """Return whether it trains, as far as is known ``now``, in seconds since the epoch."""
        return self.state in ("running", "stalled") and now - self.at <= QUIET


def may_hold(name: str) -> bool:
    """Return whether a pushed run may hold a file, named by its path within the run.

    >>> may_hold("history/epoch-00003.safetensors"), may_hold("model.safetensors"), may_hold("../lock")
    (True, False, False)
    """
    return bool(_FIXED.fullmatch(name) or _OTHERS.fullmatch(name))


def is_fixed(name: str) -> bool:
    """Return whether a file never changes once it is written: a past epoch, or the samples' description."""
    return bool(_FIXED.fullmatch(name))


def read_told(run: Path) -> Told | None:
    """Return what was last said of a run; None if it was not pushed, or its mark cannot be read."""
    path = run / NAME
    try:
        mark = decode(Mark, read_regular(path, run, _MOST), NAME)
        return Told(mark.id, mark.state, os.lstat(path).st_mtime)
    except (DamagedData, OSError):
        return None
