"""What the API is asked, as classes: the parameters of each route, with bounds. Others are refused."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from .wording import FORM

RunId = Annotated[
    str,
    Meta(
        pattern=r"\A[0-9a-f]{16}\Z",
        description="A run, by its id; may be left out for one run.",
        extra_json_schema={FORM: "the id of a run, 16 of the digits 0-9 and a-f, as /api/runs has it"},
    ),
]
Index = Annotated[int, Meta(ge=0, lt=1 << 53, description="The position of a sample in the training set.")]
Label = Annotated[int, Meta(ge=0, lt=1 << 31, description="A class, by its number.")]
Place = Annotated[int, Meta(ge=0, le=1 << 53, description="A place in the order.")]
Real = Annotated[float, Meta(ge=-1e300, le=1e300)]
Order = Literal["class", "index", "times", "first_left_out", "score"]
Switch = Literal["0", "1"]
Cursor = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z0-9_.:+-]{1,80}\Z",
        description="`next` of the page before.",
        extra_json_schema={FORM: "`next` of the page before"},
    ),
]
PickListId = Annotated[
    str,
    Meta(
        pattern=r"\Apicks-[0-9]{1,6}\Z",
        extra_json_schema={FORM: "the id of a list of picks, as in picks-000"},
    ),
]


class Ask(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The parameters of a route."""


class Nothing(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """No parameters."""


class OfRun(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A run."""

    run: RunId | None = None


class OfClasses(OfRun, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The classes of a run."""

    order: Literal["share", "samples", "kept", "score", "name"] = "share"
    limit: Annotated[int, Meta(ge=1, le=2000)] = 2000


class OfScores(OfRun, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The scores of a run, or those of one class at the end of the last epoch."""

    label: Label | None = field(name="class", default=None)


class OfUsage(OfRun, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of the usage chart: the places ``first`` to ``last`` - 1 of an order."""

    order: Order = "class"
    first: Place = 0
    last: Place | None = None
    rows: Annotated[int, Meta(ge=1, le=1024)] = 512


class OfTile(OfRun, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Single samples of the usage chart, with ``fates=1`` also why each was left out."""

    order: Order = "class"
    first: Place = 0
    count: Annotated[int, Meta(ge=1, le=1024)] = 256
    fates: Switch = "0"


class OfSamples(OfRun, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Samples by what became of them; all that is named must hold.

    ``never``: no epoch used it; ``returned``: it was left out and used again; ``suspects``: its label looks
    wrong; ``wrong``: another class than its own was predicted.
    """

    reason: Literal["kept", "learned", "outlier", "not_drawn", "by_hand"] | None = None
    label: Label | None = field(name="class", default=None)
    predicted: Label | None = None
    epoch: Annotated[int, Meta(ge=0, lt=1 << 16)] | None = None
    never: Switch = "0"
    returned: Switch = "0"
    suspects: Switch = "0"
    wrong: Switch = "0"
    score_from: Real | None = None
    score_to: Real | None = None
    order: Literal["score", "-score", "times", "-times", "index", "-index"] = "-score"
    limit: Annotated[int, Meta(ge=1, le=500)] = 60
    after: Cursor | None = None


class OfSample(OfRun, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One sample."""

    sample: Index


class OfGapPicture(OfRun, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One picture of the list of gaps."""

    picture: Annotated[int, Meta(ge=0, lt=1 << 20)]


class OfSuspects(OfRun, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The surest suspects."""

    count: Annotated[int, Meta(ge=1, le=500)] = 60


class OfComparison(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Two to eight runs."""

    run: Annotated[list[RunId], Meta(min_length=2, max_length=8)]


class OfHealth(OfRun, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A run; ``verify=1`` compares every file with its checksum, which may take long."""

    verify: Switch = "0"


class Login(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A token, or a code that works once, to exchange for a cookie."""

    token: Annotated[str, Meta(min_length=1, max_length=256)]


class Tick(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was collected: so many of a pick, named by its list and place, or of a gap, named by its name."""

    run: RunId | None = None
    list: PickListId | None = None
    place: Annotated[int, Meta(ge=0, lt=1 << 32)] | None = None
    gap: Annotated[str, Meta(min_length=1, max_length=80)] | None = None
    found: Annotated[int, Meta(ge=0, le=1_000_000)]
    note: Annotated[str, Meta(max_length=500)] = ""
