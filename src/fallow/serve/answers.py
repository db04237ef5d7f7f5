"""What the API answers, as classes.

Shares are in [0, 1], times in seconds; epochs count from 0. What is unknown is null. Arrays of bytes are
base64.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from ..core.history import EpochCounts
from ..runs.listing import RunInBrief
from ..runs.schema import GapCard, GapSample, GapsBefore


class Answer(Struct, kw_only=True, omit_defaults=False):
    """An answer, or a part of one."""


class Failure(Answer, kw_only=True):
    """Why there is no answer: a sentence for people, and a word for programs."""

    error: str
    code: str


class Pending(Answer, kw_only=True):
    """The answer is being calculated: ask again in about a second."""

    pending: bool = True


class Ended(Answer, kw_only=True):
    """The session has ended."""

    ended: bool = True


class RunRow(RunInBrief, frozen=True, kw_only=True):
    """A run: ``state`` is running, stalled, crashed, stopped, finished, diverged or damaged."""

    id: str
    state_text: str
    changed_at: float | None = None


class Runs(Answer, kw_only=True):
    """The runs of a folder, the newest first. ``links`` names links to others, which are not served."""

    folder: str
    runs: list[RunRow]
    links: list[str]


class Figure(Answer, kw_only=True):
    """A saving with its formula: ``key`` is samples, cost, time or recording."""

    key: str
    title: str
    value: str
    number: float
    formula: str


class Alert(Answer, kw_only=True):
    """Something to look at: ``level`` is info, warn or bad; ``screen`` shows more of it."""

    level: str
    text: str
    screen: str | None = None


class Counts(Answer, kw_only=True):
    """The samples of an epoch by what became of them; they sum to all samples."""

    kept: int
    learned: int
    outliers: int
    not_drawn: int
    by_hand: int


class ClassRow(Answer, kw_only=True):
    """A class: ``share`` is that of its possible uses; a ``rare`` one has at most half of its even share."""

    label: int
    name: str
    samples: int
    kept: int
    kept_share: float
    outliers: int
    share: float | None
    score: float | None
    rare: bool


class Best(Answer, kw_only=True):
    """The best epoch."""

    epoch: int
    value: float


class Has(Answer, kw_only=True):
    """Which parts a run has."""

    labels: bool = False
    pictures: bool = False
    texts: bool = False
    gaps: bool = False
    picks: bool = False
    suspects: bool = False


class Summary(Answer, kw_only=True):
    """The overview of a run. Without an epoch that can be read, ``early`` says why and most is null.

    Of ``epochs_done`` finished epochs, ``epochs_read`` can be read: all counts are over these, here and in
    every other answer. ``missing`` has the numbers of the others, at most 400. ``counts`` are of the epoch
    ``last_read``.
    """

    run: RunRow
    title: str
    policy: str
    task: str | None
    samples: int | None
    epochs_done: int
    epochs_read: int
    last_read: int | None
    missing: list[int]
    epochs: int | None
    progress: float | None
    unit: str
    evaluated_on: str
    accuracy: float | None = None
    train_accuracy: float | None = None
    test_loss: float | None = None
    bits_per_character: float | None = None
    best: Best | None = None
    seconds: float | None = None
    record_seconds: float | None = None
    counts: Counts | None = None
    counts_sentence: str = ""
    saved: list[Figure] = []
    alerts: list[Alert] = []
    classes: int = 0
    worst_classes: list[ClassRow] = []
    remarks: list[str] = []
    data_remarks: list[str] = []
    has: Has
    early: str | None = None


class Session(Answer, kw_only=True):
    """What a token allows, and what is served: ``single`` is the one run, or null.

    ``summary`` is its overview, so that a page need not ask for it; null if it cannot be read now.
    """

    scopes: list[str]
    single: str | None
    folder: str
    version: str
    summary: Summary | None


class EpochRow(EpochCounts, frozen=True, kw_only=True):
    """An epoch: how many samples it trained on, measured and left out, its scores and what it reached."""

    mean_score: float | None
    quantiles: list[float | None]
    accuracy: float | None = None
    train_accuracy: float | None = None
    test_loss: float | None = None
    bits_per_character: float | None = None
    seconds: float | None = None
    notes: dict[str, float | None] = field(default_factory=dict)


class DamagedEpoch(Answer, kw_only=True):
    """An epoch whose file cannot be read."""

    epoch: int
    error: str


class Epochs(Answer, kw_only=True):
    """At most 400 of the ``total`` epochs that can be read, evenly spaced; ``missing`` are those that cannot.

    ``readmitted`` are those with a visible re-admission.
    """

    total: int
    epochs: list[EpochRow]
    readmitted: list[int]
    missing: list[int]
    damaged: list[DamagedEpoch]
    evaluated_on: str


class Classes(Answer, kw_only=True):
    """The classes, in the order asked for."""

    total: int
    classes: list[ClassRow]


class Threshold(Answer, kw_only=True):
    """A threshold that the options give as a score."""

    name: str
    value: float


class Scores(Answer, kw_only=True):
    """The scores of the samples trained on, over the epochs.

    ``histogram`` has a row an epoch, of counts between ``edges``, the last one open; ``quantiles`` those at
    ``levels``; ``stale`` the share of the samples whose score is of an earlier epoch.
    """

    unit: str
    edges: list[float]
    epochs: list[int]
    histogram: list[list[int]]
    levels: list[float]
    quantiles: list[list[float | None]]
    mean: list[float | None]
    bad: list[int]
    stale: list[float]
    thresholds: list[Threshold]
    of_class: int | None = None


class ClassStart(Answer, kw_only=True):
    """Where the samples of a class begin in an order."""

    name: str
    place: int


class Raster(Answer, kw_only=True):
    """The usage chart: R rows of samples in an order, by E epochs.

    ``cells`` and ``outliers`` are R x E bytes, row by row: 0 none of the row's samples, 1 to 253 some
    of them, 254 all, 255 none existed. ``never`` has a bit a row, the lowest first: one of its samples was
    never used.
    """

    n: int
    first: int
    last: int
    order: str
    epochs: list[int]
    sizes: list[int]
    edges: list[int]
    classes: list[ClassStart]
    cells: str
    outliers: str | None
    never: str


class Tile(Answer, kw_only=True):
    """The use of single samples.

    ``used`` has ceil(E / 8) bytes a sample, with a bit an epoch, the lowest first.

    ``fates`` has E bytes a sample: 0 not there yet, 1 used, 2 kept and not used, 3 learned, 4 outlier, 5 not
    drawn, 6 by hand.
    """

    n: int
    first: int
    order: str
    epochs: list[int]
    samples: list[int]
    used: str
    fates: str | None = None


class SampleRow(Answer, kw_only=True):
    """A sample at the end of an epoch."""

    index: int
    file: str | None
    label: int | None
    label_name: str | None
    predicted: int | None
    predicted_name: str | None
    score: float | None
    reason: str
    used: bool
    times_used: int
    picture: bool
    text: str | None


class Samples(Answer, kw_only=True):
    """A page of samples: ``next`` is what ``after`` of the following page is, or null."""

    total: int
    next: str | None
    epoch: int
    samples: list[SampleRow]


class LifeEpoch(Answer, kw_only=True):
    """One epoch in the life of a sample."""

    epoch: int
    used: bool
    score: float | None
    reason: str


class TakenFor(Answer, kw_only=True):
    """A class that a sample was taken for in place of its own, and in how many epochs."""

    label: int
    name: str
    epochs: int


class Life(Answer, kw_only=True):
    """All that a run knows of one sample; ``taken_for`` has at most three classes, the commonest first."""

    sample: SampleRow
    taken_for: list[TakenFor]
    epochs: list[LifeEpoch]
    n: int


class SuspectRow(Answer, kw_only=True):
    """A sample whose label looks wrong, and how sure that is."""

    index: int
    file: str | None
    given: str
    suggested: str | None
    confidence: float
    picture: bool
    text: str | None


class Pair(Answer, kw_only=True):
    """Classes that are confused: ``count`` suspects are called given and look like suggested."""

    given: str
    suggested: str
    count: int


class CopyRow(Answer, kw_only=True):
    """One of several equal samples with other labels."""

    index: int
    file: str | None
    given: str


class Suspects(Answer, kw_only=True):
    """The labels that look wrong, by the mean over all passes."""

    found: int
    samples: int
    epochs: int
    suspects: list[SuspectRow]
    pairs: list[Pair]
    copies: list[list[CopyRow]] | None


class Gaps(Answer, kw_only=True):
    """What the training data lack. ``found`` has, by the name of a gap, how many were ticked."""

    sentence: str
    stale: str
    reference: str | None
    gaps: list[GapCard]
    thin: list[GapCard]
    alone: list[GapSample]
    strange: list[GapSample]
    before: GapsBefore | None
    found: dict[str, int]


class PickRow(Answer, kw_only=True):
    """A sample to collect; ``found`` is what was ticked last, or null."""

    place: int
    index: int
    label: str
    score: float
    region: str
    reason: str
    file: str
    checksum: str
    found: int | None


class PickList(Answer, kw_only=True):
    """A list of samples to collect, or why it cannot be read."""

    id: str
    picks: list[PickRow]
    damage: str | None = None


class Picks(Answer, kw_only=True):
    """The lists of a run, the newest first."""

    lists: list[PickList]


class Ticked(Answer, kw_only=True):
    """What was written down: when, and how many there are now."""

    at: str
    found: int


class Curve(Answer, kw_only=True):
    """What a run reached, against the samples that it had trained on: ``points`` are pairs of both."""

    id: str
    metric: str
    points: list[tuple[int, float]]


class RunFacts(Answer, kw_only=True):
    """What a run of a comparison did and reached."""

    id: str
    name: str
    task: str | None
    epochs_done: int
    epochs: int | None
    evaluated_on: str | None
    accuracy: float | None
    test_loss: float | None
    bits_per_character: float | None
    samples_backward: int | None
    samples_forward_only: int | None
    saved_fraction: float | None
    seconds: float | None
    wrong_labels: int | None


class Overlap(Answer, kw_only=True):
    """How alike two sets of samples are, and what chance would give."""

    both: int
    either: int
    share: float | None
    by_chance: float | None


class OverlapPair(Answer, kw_only=True):
    """What two runs left out, or why it cannot be compared."""

    first: str
    second: str
    reason: str | None
    last: Overlap | None
    all: Overlap | None
    epochs: int | None
    outliers: Overlap | None


class Comparison(Answer, kw_only=True):
    """Runs side by side: ``settings`` has, by name, the value of each run where they differ."""

    runs: list[RunFacts]
    settings: dict[str, list[Any]]
    pairs: list[OverlapPair]
    remarks: list[str]
    curves: list[Curve]


class ServerFacts(Answer, kw_only=True):
    """The server: where it listens, and who may ask it."""

    version: str
    python: str
    address: str
    secure: bool
    fingerprint: str | None
    writable: bool
    started: str
    scopes: list[str]


class Setting(Answer, kw_only=True):
    """A setting as text."""

    name: str
    value: str


class Problem(Answer, kw_only=True):
    """What is wrong with a file of the run."""

    file: str
    problem: str


class Verified(Answer, kw_only=True):
    """The result of comparing every file with its checksum."""

    checked: int
    sound: bool
    complete: bool
    damaged: list[Problem]
    remarks: list[str]


class RunHealth(Answer, kw_only=True):
    """The state of a run's files. ``verified`` is null unless it was asked for."""

    row: RunRow
    last_write: str | None
    usual_epoch_seconds: float | None
    generation: int | None
    samples: int | None
    held_out: int | None
    fingerprint: str | None
    sessions: list[dict[str, Any]]
    settings: list[Setting]
    problems: list[Problem]
    verified: Verified | None


class Health(Answer, kw_only=True):
    """The server and a run."""

    server: ServerFacts
    run: RunHealth | None
