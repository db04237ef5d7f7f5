"""VADER's movie reviews and tweets: texts that 15 and more people have rated each.

Read from the PyPI package `vaderSentiment`, whose source archive holds the ratings of its paper: whole
numbers from -4 (extremely negative) to 4 (extremely positive). Here a rating is one of three classes, by its
sign.

Source: C. J. Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social
Media Text", ICWSM, 2014.
"""

from __future__ import annotations

import json
import os

import numpy as np
from numpy.typing import NDArray

from ..errors import damaged, unknown_name
from .sdist import SourceArchive, members

ARCHIVE = SourceArchive(
    requirement="vaderSentiment==3.3.2",
    file="vaderSentiment-3.3.2.tar.gz",
    sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
)
_INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
_NAMES = {"movies": "movieReviewSnippets", "tweets": "tweets"}
CLASSES = ("negative", "neutral", "positive")


def load_vader(
    part: str = "movies", cache: str | os.PathLike[str] | None = None
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return texts and what each of their raters said.

    Args:
        part: ``"movies"``, 10,605 sentences of reviews, or ``"tweets"``, 4,200.
        cache: the folder for fetched data; the user's cache folder by default.

    Returns:
        texts: N of them.
        ratings: class ids int64 ``(N, R)``, 0 negative, 1 neutral, 2 positive; -1 after a text's last rater.

    Raises:
        InvalidValue: for another part; where the archive is damaged, or can neither be found nor fetched.
    """
    if part not in _NAMES:
        raise unknown_name("part of VADER", part, _NAMES)
    content = ARCHIVE.read("vader", cache)
    inner = members(content, ARCHIVE.file, {"inner": _INNER})["inner"]
    places = {
        key: f"hutto_ICWSM_2014/{_NAMES[part]}_{end}.txt"
        for key, end in (("texts", "GroundTruth"), ("ratings", "anonDataRatings"))
    }
    found = members(inner, ARCHIVE.file, places)
    # Not splitlines(), which would cut at other signs too.
    rows = {key: text.decode("utf-8").replace("\r\n", "\n").split("\n") for key, text in found.items()}
    texts = {row.split("\t")[0]: row.split("\t")[2] for row in rows["texts"] if row.strip()}
    said = {row.split("\t")[0]: json.loads(row.split("\t")[3]) for row in rows["ratings"] if row.strip()}
    if list(texts) != list(said):
        raise damaged(f"{ARCHIVE.file} must rate every text.", f"{len(texts)} texts, {len(said)} rated")
    ratings = np.full((len(texts), max(map(len, said.values()))), -1, np.int64)
    for row, values in enumerate(said.values()):
        ratings[row, : len(values)] = np.sign(values) + 1
    return tuple(texts.values()), ratings
