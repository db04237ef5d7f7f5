"""What the files of a run may say: kinds, ranges and lengths, checked before anything is built on them.

A run may come from anywhere, and its checksums prove only that whoever wrote a file wrote the checksum too.
So the JSON in a manifest, in the header of an array file, in a summary and in stored options is held against
the classes here before a number in it sizes an array or names a file.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from ._checks import damaged

MAX_EPOCHS = 1 << 16
"""Epochs are numbered below: a table keeps them as 16 bits."""
DEEPEST = 32
"""Objects and lists lie in each other at most so deep."""
_LARGEST_NUMBER = 1 << 63
_DATA = r"\Adata(-[0-9]{1,6})?\.safetensors\Z"

Epoch = Annotated[int, Meta(ge=0, lt=MAX_EPOCHS)]
Epochs = Annotated[int, Meta(ge=0, le=MAX_EPOCHS)]
Count = Annotated[int, Meta(ge=0, lt=1 << 53)]
MOST_SECONDS = 1e12
Seconds = Annotated[float, Meta(ge=0, lt=MOST_SECONDS)]
Real = Annotated[float, Meta(ge=-1e300, le=1e300)]
Name = Annotated[str, Meta(max_length=1 << 13)]

Kind = TypeVar("Kind")


class FileDigest(Struct, frozen=True):
    """Size and checksum of a file, in a manifest."""

    bytes: Count
    sha256: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class Manifest(Struct, frozen=True):
    """``state/000012.json``: a generation of the state."""

    format: str
    number: Annotated[int, Meta(ge=0, lt=1 << 31)]
    about: dict[str, Any]
    files: dict[Name, FileDigest]


class About(Struct, frozen=True):
    """What a manifest says of the training: how far it is, its options, and which were not given."""

    data: Annotated[str, Meta(pattern=_DATA)] = "data.safetensors"
    epoch: Epochs = 0
    epochs: Epochs | None = None
    recorded: Count = 0
    planned: Count = 0
    steps: Count = 0
    seconds: Seconds = 0.0
    options: dict[str, Any] = {}
    defaults: Annotated[list[Name], Meta(max_length=1 << 10)] = []


class Aggregates(Struct, frozen=True):
    """What an epoch's file says beside its arrays; see :class:`fallow.history.EpochRecord`."""

    epoch: Epoch
    n: Count
    backward: Count
    forward_only: Count
    kept: Count
    learned: Count
    outliers: Count
    not_drawn: Count
    by_hand: Count
    readmitted: Count
    bad: Count
    mean_score: Real | None
    score_quantiles: Annotated[list[Real | None], Meta(min_length=5, max_length=5)]
    score_histogram: Annotated[list[Count], Meta(max_length=1 << 10)]
    notes: dict[Name, Real | None] = {}


class EpochHeader(Struct, frozen=True):
    """The header of ``history/epoch-00000.safetensors``."""

    aggregates: Aggregates


class DataHeader(Struct, frozen=True):
    """The header of ``data.safetensors``."""

    classes: list[Name] | None


class ShownHeader(Struct, frozen=True):
    """The header of ``history/shown.safetensors``."""

    epoch: Epoch


class GapsTold(Struct, frozen=True):
    """What ``fallow gaps`` found: lists of cards."""

    gaps: list[dict[str, Any]]
    thin: list[dict[str, Any]]


class GapsHeader(Struct, frozen=True):
    """The header of ``gaps.safetensors``."""

    told: dict[str, Any]


class SummaryRow(Struct, frozen=True):
    """What ``summary.json`` says of an epoch."""

    epoch: Epoch = 0
    accuracy: Real | None = None
    train_accuracy: Real | None = None
    test_loss: Real | None = None
    bits_per_character: Real | None = None
    samples_backward: Count | None = None
    samples_forward_only: Count | None = None
    samples_full: Count | None = None
    seconds: Real | None = None


class Summary(Struct, frozen=True):
    """``summary.json``: what a reader of it relies on; more may stand there."""

    epochs: Annotated[list[SummaryRow], Meta(max_length=MAX_EPOCHS)] = []
    accuracy: Real | None = None
    train_accuracy: Real | None = None
    test_loss: Real | None = None
    perplexity: Real | None = None
    bits_per_character: Real | None = None
    samples_backward: Count | None = None
    samples_forward_only: Count | None = None
    samples_full: Count | None = None
    saved_fraction: Real | None = None
    time_saved_fraction: Real | None = None
    seconds: Real | None = None
    record_seconds: Real | None = None
    evaluated_on: Literal["test", "validation"] = "test"
    diverged: bool = False
    score_unit: Literal["nats", ""] = ""
    remarks: list[str] = []
    data_remarks: list[str] = []
    settings: dict[str, Any] = {}


def parse(kind: type[Kind], data: bytes, name: str, step: str = "") -> Kind:
    """Return what JSON says, as a class of this module.

    Args:
        kind: the class.
        data: the JSON. Whoever read it has bounded its length.
        name: of the file, for errors.
        step: what to do about a damaged one.

    Raises:
        DamagedData: if it is no JSON, is nested too deep, or a value is of another kind or out of range.
    """
    return check(kind, parse_json(data, name, step), name, step)


def parse_json(data: bytes, name: str, step: str = "") -> Any:
    """Return plain values out of JSON; see :func:`parse`.

    Names of files that are not UTF-8 stand in it as lone surrogates, which Python's reader takes.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise damaged(f"{name} must be JSON.", one_line(error), step) from None
    check_plain(found, name, step)
    return found


def check(kind: type[Kind], value: Any, name: str, step: str = "") -> Kind:
    """Return plain values as a class of this module; see :func:`parse`."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, UnicodeEncodeError, RecursionError) as error:
        raise damaged(f"{name} must be as fallow writes it.", one_line(error), step) from None


def check_plain(value: Any, name: str, step: str = "") -> None:
    """Raise for values that nobody would write: nested deeper than 32, or numbers beyond 64 bits.

    Raises:
        DamagedData: naming what was found.
    """
    level, deep = [value], 0
    while level:
        if deep > DEEPEST:
            raise damaged(
                f"{name} must not be nested deeper than {DEEPEST}.", "a deeper list or object", step
            )
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below += one.values()
            elif isinstance(one, list | tuple):
                below += one
            elif isinstance(one, int) and abs(one) >= _LARGEST_NUMBER:
                raise damaged(f"Numbers in {name} must have at most 64 bits.", "a larger one", step)
        level, deep = below, deep + 1


def one_line(error: Exception) -> str:
    """Return what an error says, in one line of at most 300 characters."""
    words = re.sub(r"\s+", " ", str(error)).strip()
    return words[:300] or type(error).__name__
