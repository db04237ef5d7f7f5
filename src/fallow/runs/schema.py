"""The classes of what the JSON files of a run may hold: types, ranges and lengths.

A run may come from anywhere, and its checksums prove only that whoever wrote a file wrote the checksum too.
So the JSON in a manifest, in the header of an array file, in a summary and in stored options is checked
against the classes here before a number in it sizes an array or names a file.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from ..core.history import Aggregates
from ..files.checked_json import MAX_EPOCHS, Count, Epoch, Epochs, Name, Real, Seconds

PREDICTED = "subsampler/table/columns/predicted"
"""The end of the name by which a state's file holds the classes last predicted, plus 1."""
_DATA = r"\Adata(-[0-9]{1,6})?\.safetensors\Z"


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
    """What a manifest says of the training: how far it is, its options, those not given, its scores' unit."""

    data: Annotated[str, Meta(pattern=_DATA)] = "data.safetensors"
    epoch: Epochs = 0
    epochs: Epochs | None = None
    recorded: Count = 0
    planned: Count = 0
    steps: Count = 0
    seconds: Seconds = 0.0
    options: dict[str, Any] = {}
    defaults: Annotated[list[Name], Meta(max_length=1 << 10)] = []
    score_unit: Name | None = None


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
