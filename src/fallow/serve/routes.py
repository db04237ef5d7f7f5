"""The routes of the API: what each is asked and answers, and who may ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import answers, asks
from .browse import gap_picture, image_stamp, life, picture, samples
from .call import Call
from .catalog import Catalog
from .compare import compare
from .findings import gaps, suspects
from .guard import PUSH
from .health import files_stamp, health
from .overview import classes_of, epochs_of, summary
from .picks import picks, tick
from .receiving import Had, Heard, Push, Tell
from .scores import scores
from .session import session
from .usage import raster, tile

PICTURE = bytes
"""What a route answers that sends a picture."""


@dataclass(frozen=True)
class Route:
    """A route.

    Attributes:
        path: of the URL.
        about: what it is for, in a sentence.
        ask: the class of its parameters, or of its body.
        answer: the class of its answer.
        work: returns the answer.
        method: GET, POST, or PUT for bytes.
        writes: whether the token must allow writing.
        slow: whether it may take seconds: then others are not held up, and 202 says to ask again.
        follows: whether the answer depends on what the run is doing now, besides its files.
        beside: returns what changes with other files that the answer depends on, or None.
    """

    path: str
    about: str
    ask: Any
    answer: Any
    work: Callable[[Call], Any]
    method: str = "GET"
    writes: bool = False
    slow: bool = False
    follows: bool = False
    beside: Callable[[Call], str] | None = None


def tell(call: Call) -> Heard:
    """Note what a run of another machine is doing."""
    assert call.receiver is not None  # the guard lets nobody through without one
    return call.receiver.tell(call.ask)


def push(call: Call) -> Had:
    """Take a piece of a file of a run of another machine."""
    assert call.receiver is not None
    return call.receiver.take(call.ask, call.body)


def runs(call: Call) -> answers.Runs:
    """Return the runs of the folder, the newest first."""
    rows = _rows(call.catalog)
    return answers.Runs(folder=call.catalog.name, runs=rows, links=call.catalog.links)


def _rows(catalog: Catalog) -> list[answers.RunRow]:
    rows = [catalog.row(run, path) for run, path in catalog.paths().items()]
    return sorted(rows, key=lambda row: (-(row.changed_at or 0.0), row.name))


ROUTES = (
    Route(
        "/api/session",
        "What the token allows, and what is served.",
        asks.Nothing,
        answers.Session,
        session,
        follows=True,
    ),
    Route(
        "/api/session", "Exchange a token for a cookie.", asks.Login, answers.Session, session, method="POST"
    ),
    Route("/api/session/end", "End the session.", asks.Nothing, answers.Ended, session, method="POST"),
    Route(
        "/api/runs",
        "The runs of the folder, the newest first.",
        asks.Nothing,
        answers.Runs,
        runs,
        follows=True,
    ),
    Route("/api/summary", "The overview of a run.", asks.OfRun, answers.Summary, summary, follows=True),
    Route("/api/epochs", "The epochs of a run.", asks.OfRun, answers.Epochs, epochs_of),
    Route("/api/classes", "The classes of a run.", asks.OfClasses, answers.Classes, classes_of),
    Route("/api/scores", "The scores of a run over its epochs.", asks.OfScores, answers.Scores, scores),
    Route(
        "/api/usage", "Which samples were used when: shares.", asks.OfUsage, answers.Raster, raster, slow=True
    ),
    Route(
        "/api/usage/tile",
        "Which samples were used when: single ones.",
        asks.OfTile,
        answers.Tile,
        tile,
        slow=True,
    ),
    Route(
        "/api/samples", "Samples by what became of them.", asks.OfSamples, answers.Samples, samples, slow=True
    ),
    Route("/api/sample", "The life of one sample.", asks.OfSample, answers.Life, life),
    Route(
        "/api/picture",
        "The picture of a sample.",
        asks.OfSample,
        PICTURE,
        picture,
        beside=image_stamp,
    ),
    Route("/api/gap_picture", "A picture of the list of gaps.", asks.OfGapPicture, PICTURE, gap_picture),
    Route("/api/suspects", "Labels that look wrong.", asks.OfSuspects, answers.Suspects, suspects, slow=True),
    Route("/api/gaps", "What the training data lack.", asks.OfRun, answers.Gaps, gaps),
    Route("/api/picks", "Lists of samples to collect.", asks.OfRun, answers.Picks, picks),
    Route(
        "/api/tick",
        "Write down what was collected.",
        asks.Tick,
        answers.Ticked,
        tick,
        method="POST",
        writes=True,
    ),
    Route(PUSH, "Say what a run that is pushed is doing.", Tell, Heard, tell, method="POST"),
    Route(PUSH, "Push a piece of a file of a run.", Push, Had, push, method="PUT"),
    Route("/api/compare", "Runs side by side.", asks.OfComparison, answers.Comparison, compare, slow=True),
    Route(
        "/api/health",
        "The state of files and server.",
        asks.OfHealth,
        answers.Health,
        health,
        slow=True,
        follows=True,
        beside=files_stamp,
    ),
)
