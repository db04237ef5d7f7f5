"""The classes that the JSON files of a run and of a comparison are decoded into: types, ranges, lengths.

A run may come from a stranger, and its checksums prove only that one author wrote both file and checksum. So
each file is decoded into one of these classes before a number in it sizes an array or names a file. A field
that older versions did not write has a default; a field that is not listed here is ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, convert, field

from ..core.history import Aggregates
from ..files.checked_json import MAX_EPOCHS, Count, Epoch, Epochs, Name, Real, Seconds, Share

PREDICTED = "subsampler/table/columns/predicted"
"""The end of an array's name in the state file: the classes last predicted, plus 1."""
REACHED = ("callbacks", "EpochWriter", "epochs")
"""The way to the rows of ``summary.json`` in the tree of a state file."""
RECORDED = "recorded"
"""The option that marks the run of a training loop of the user's own; most others are unknown then."""
_DATA = r"\Adata(-[0-9]{1,6})?\.safetensors\Z"


class FileDigest(Struct, frozen=True):
    """Size and checksum of a file, in a manifest."""

    bytes: Count
    sha256: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class About(Struct, frozen=True):
    """The description of the training in a manifest: progress, options, defaults, and unit of the scores.

    Attributes:
        data: the file that describes the samples.
        epoch, epochs: the numbers of finished and of planned epochs.
        recorded, planned: the samples of the current epoch that are recorded, and that are planned;
            ``recorded`` is 0 between two epochs.
        others: fields of another version of fallow, which are kept when the manifest is rewritten.
    """

    options: dict[str, Any] = {}
    defaults: Annotated[list[Name], Meta(max_length=1 << 10)] = []
    data: Annotated[str, Meta(pattern=_DATA)] = "data.safetensors"
    epoch: Epochs = 0
    epochs: Epochs | None = None
    recorded: Count = 0
    planned: Count = 0
    steps: Count = 0
    seconds: Seconds = 0.0
    score_unit: Name | None = None
    others: dict[str, Any] = {}


class Manifest(Struct, frozen=True):
    """``state/000012.json``: a generation of the state."""

    format: str
    number: Annotated[int, Meta(ge=0, lt=1 << 31)]
    about: About
    files: dict[Name, FileDigest]


class ShownOptions(Struct, frozen=True):
    """The stored options that reading commands name; :mod:`fallow.options.resume_options` reads all of them.

    None means that an option was not given; the run itself may have used a default.
    """

    data: str | None = None
    task: str | None = None
    model: str | None = None
    policy: str | None = None
    score: str | None = None
    error: Real | None = None
    fraction: Real | None = None
    low: Real | str | None = None
    high: Real | str | None = None
    quantiles: bool | None = None
    readmit_every: Count | None = None


class EpochHeader(Struct, frozen=True):
    """The header of ``history/epoch-00000.safetensors``."""

    aggregates: Aggregates


class DataHeader(Struct, frozen=True):
    """The header of ``data.safetensors``."""

    classes: list[Name] | None


class ShownHeader(Struct, frozen=True):
    """The header of ``history/shown.safetensors``."""

    epoch: Epoch


class GapSample(Struct, frozen=True):
    """A sample in the list of gaps.

    Attributes:
        of: the set that it belongs to.
        index: its position in that set.
        picture: the index of its picture in the file, or None.
    """

    of: Literal["training", "reference"]
    index: Count
    label: str | None = None
    predicted: str | None = None
    percentile: Share | None = None
    file: str | None = None
    picture: Count | None = None


class GapCard(Struct, frozen=True):
    """A thin region, described by :mod:`fallow.gaps.cards`."""

    name: str = ""
    size: Count = 0
    training: Count = 0
    reference: Count = 0
    times: Real | None = None
    at_least: Real | None = None
    stability: Share | None = None
    lacking: Real | None = None
    percentile: Share | None = None
    class_name: str | None = field(name="class", default=None)
    class_share: Share | None = None
    class_is_predicted: bool = False
    wrong: Count = 0
    judged: Count = 0
    error_elsewhere: Share | None = None
    training_wrong: Count = 0
    training_judged: Count = 0
    training_error_elsewhere: Share | None = None
    action: Literal["collect", "relabel", "ignore"] | None = None
    reason: str = ""
    examples: list[GapSample] = []
    prototypes: list[GapSample] = []
    trend: list[Share | None] = []


class EarlierGap(Struct, frozen=True):
    """A gap of an earlier call, with the median percentile of its samples at that time."""

    name: str = ""
    class_name: str | None = field(name="class", default=None)
    size: Count | None = None
    lacking: Real | None = None
    examples: list[Count] = []
    percentile: Share | None = None


class GapNow(EarlierGap, frozen=True):
    """An earlier gap, with the present median percentile of the same samples."""

    now: Share | None = None


class EarlierGaps(Struct, frozen=True):
    """The result of an earlier call of ``fallow gaps``."""

    made: str = ""
    epochs: Epochs | None = None
    reference: str | None = None
    reference_samples: Count = 0
    training_samples: Count = 0
    gaps: list[EarlierGap] = []


class GapsBefore(Struct, frozen=True):
    """The present state of gaps that the same reference showed with other training samples."""

    training_samples: Count = 0
    gaps: list[GapNow] = []


class Gaps(Struct, frozen=True):
    """The output of ``fallow gaps --json``."""

    gaps: list[GapCard]
    thin: list[GapCard]
    run: str = ""
    epochs: Epochs | None = None
    reference: str | None = None
    training_samples: Count | None = None
    reference_samples: Count | None = None
    reference_looked_at: Count | None = None
    reference_judged: Count | None = None
    reference_unreadable: Count = 0
    alone: list[GapSample] = []
    alone_count: tuple[Count, Count] = (0, 0)
    strange: list[GapSample] = []
    strange_count: tuple[Count, Count] = (0, 0)
    before: GapsBefore | None = None
    earlier: list[EarlierGaps] = []


class GapsHeader(Struct, frozen=True):
    """The header of ``gaps.safetensors``."""

    told: dict[str, Any]


class SummaryRow(Struct, frozen=True):
    """An epoch in ``summary.json``."""

    epoch: Epoch = 0
    accuracy: Real | None = None
    train_accuracy: Real | None = None
    test_loss: Real | None = None
    bits_per_character: Real | None = None
    samples_backward: Count | None = None
    samples_forward_only: Count | None = None
    samples_full: Count | None = None
    seconds: Real | None = None


class UsedPolicy(Struct, frozen=True):
    """The parameters of the policy that reading commands name."""

    name: Name | None = None
    fraction: Share | None = None


class UsedSchedule(Struct, frozen=True):
    """The parameters of the schedule that reading commands name."""

    warmup: Count | None = None
    readmit_every: Count | None = None
    stagger: bool = False


class UsedSettings(Struct, frozen=True):
    """The part of ``settings`` that programs read."""

    policy: UsedPolicy = UsedPolicy()
    schedule: UsedSchedule = UsedSchedule()
    by_default: list[str] = []


class Summary(Struct, frozen=True):
    """``summary.json``.

    Attributes:
        settings: all settings, for people; :attr:`used` is the part that programs read.
    """

    epochs: Annotated[Sequence[SummaryRow], Meta(max_length=MAX_EPOCHS)] = []
    accuracy: Real | None = None
    train_accuracy: Real | None = None
    test_loss: Real | None = None
    bits_per_character: Real | None = None
    samples_backward: Count | None = None
    samples_forward_only: Count | None = None
    samples_full: Count | None = None
    saved_fraction: Real | None = None
    time_saved_fraction: Real | None = None
    seconds: Real | None = None
    record_seconds: Real | None = None
    tokens: Count = 0
    tokens_learned: Count | None = None
    tokens_outliers: Count | None = None
    evaluated_on: Literal["test", "validation"] = "test"
    diverged: bool = False
    finished: bool = True
    score_unit: str | None = None
    policy: str | None = None
    schedule: str | None = None
    score: str | None = None
    step_rule: str | None = None
    remarks: list[str] = []
    data_remarks: list[str] = []
    settings: dict[str, Any] = {}

    def __post_init__(self) -> None:
        convert(self.settings, UsedSettings)  # refuse invalid settings when the file is read

    @property
    def used(self) -> UsedSettings:
        """The settings that programs read."""
        return convert(self.settings, UsedSettings)


class FinishedRow(SummaryRow, frozen=True, kw_only=True):
    """An epoch of a finished run in a comparison; every version wrote these fields."""

    accuracy: Real | None
    test_loss: Real | None
    samples_backward: Count
    samples_forward_only: Count
    samples_full: Count


class FinishedSummary(Summary, frozen=True, kw_only=True):
    """``summary.json`` of a finished run in a comparison."""

    epochs: Annotated[Sequence[FinishedRow], Meta(min_length=1, max_length=MAX_EPOCHS)]
    accuracy: Real | None
    test_loss: Real | None
    samples_backward: Count
    samples_forward_only: Count
    samples_evaluated: Count | None = None
    stopped_early: bool = False
    worst_class_accuracy: Real | None = None
    steps: Count | None = None
    cpu_seconds: Real | None = None


class Environment(Struct, frozen=True):
    """``environment.json``: machine and versions of each session, for people."""

    sessions: list[dict[str, Any]]


class FullTraining(Struct, frozen=True):
    """The facts on full training that other arms of a comparison are made from.

    Attributes:
        samples: the number of training samples.
        batch_size: samples a step.
        learning_rate: None if the user's own module sets it.
    """

    samples: Annotated[int, Meta(ge=1, lt=1 << 53)]
    batch_size: Annotated[int, Meta(ge=1, lt=1 << 53)]
    learning_rate: Real | None = None


class Found(Struct, frozen=True):
    """What a comparison found out; it stays, so that a resumed comparison makes the same arms.

    Attributes:
        full: facts on full training; None before the first short training.
        epochs: the length of full training that ``--tune`` chose.
        saved: the saving found by the arms that find their share themselves.
        finders: their names; None in folders of before.
        rates: by the label of an arm, the factor of the learning rate that ``--rates`` chose.
    """

    full: FullTraining | None = None
    epochs: Annotated[int, Meta(ge=1, lt=MAX_EPOCHS)] | None = None
    saved: Share | None = None
    finders: list[str] | None = None
    rates: dict[str, Annotated[float, Meta(gt=0, le=1e6)]] = {}


class CompareSettings(Struct, frozen=True):
    """``compare.json``: the options shared by all runs of a comparison, and what it found out."""

    format: str
    options: dict[str, Any]
    found: Found = Found()
