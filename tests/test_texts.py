"""Texts with labels: parts of them, their checksums, and what several annotators say of one."""

from collections import Counter
from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.datasets import Texts, soft_labels
from fallow.errors import InvalidValue

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
"""Halves of surrogate pairs too, as `json.loads` makes them."""
CLASSES, MISSING = 4, -1
RATINGS = st.integers(1, 5).flatmap(
    lambda columns: st.lists(
        st.lists(st.integers(-1, CLASSES - 1), min_size=columns, max_size=columns).filter(
            lambda row: max(row) >= 0
        ),
        min_size=1,
        max_size=12,
    )
)


def texts(n=4, **changes):
    parts = {
        "texts": tuple(f"text {i}" for i in range(n)),
        "labels": np.arange(n) % 2,
        "soft": np.eye(n, 2, dtype=np.float32),
        "names": tuple(f"file:{i}" for i in range(n)),
    }
    return Texts(**{**parts, **changes})


class TestTexts:
    @pytest.mark.parametrize("part", ["texts", "labels", "soft", "names"])
    def test_parts_of_another_length(self, part):
        with pytest.raises(InvalidValue, match=r"must have the same length. Found 3 and 4\."):
            texts(**{part: getattr(texts(3), part)})

    @given(st.lists(st.integers(0, 3), max_size=9))
    def test_take_gives_those_rows_in_that_order(self, rows):
        whole = texts()
        part = whole.take(np.array(rows, np.int64))
        assert len(part) == len(rows)
        assert part.texts == tuple(f"text {row}" for row in rows)
        assert part.names == tuple(f"file:{row}" for row in rows)
        assert part.labels.tolist() == [row % 2 for row in rows]
        assert np.array_equal(part.soft, whole.soft[rows])

    def test_take_leaves_out_what_is_not_there(self):
        part = texts(soft=None, names=None).take(np.array([2]))
        assert (part.texts, part.soft, part.names) == (("text 2",), None, None)

    def test_none_at_all(self):
        none = texts(0)
        assert len(none) == len(none.take(np.zeros(0, np.int64))) == 0
        assert none.checksums().shape == (0,)


class TestChecksums:
    @given(st.lists(ANY_TEXT, max_size=8, unique=True), st.data())
    def test_they_follow_the_text_and_tell_texts_apart(self, words, data):
        found = Texts(tuple(words), np.zeros(len(words), np.int64)).checksums()
        assert (found.dtype, found.shape) == (np.uint64, (len(words),))
        assert len(set(found.tolist())) == len(words)
        order = np.array(data.draw(st.permutations(range(len(words)))), np.int64)
        moved = Texts(tuple(words), np.ones(len(words), np.int64)).take(order)
        assert moved.checksums().tolist() == found[order].tolist()

    @pytest.mark.parametrize(("text", "content"), [("é😀", "é😀".encode()), ("\ud800", b"\xed\xa0\x80")])
    def test_of_a_text_alone_it_is_blake2b_of_its_utf_8(self, text, content):
        digest = blake2b(content, digest_size=8).digest()
        found = Texts((text,), np.zeros(1, np.int64)).checksums()
        assert found.tolist() == [int.from_bytes(digest, "little")]

    def test_what_annotators_say_is_part_of_it(self):
        soft = np.array([[0.5, 0.5], [0.5, 0.5], [1, 0]], np.float32)
        first, again, other = Texts(("same",) * 3, np.zeros(3, np.int64), soft).checksums().tolist()
        assert first == again != other
        assert Texts(("same",), np.zeros(1, np.int64)).checksums()[0] not in (first, other)


class TestSoftLabels:
    @given(RATINGS)
    def test_the_share_of_raters_that_name_a_class(self, rows):
        found = soft_labels(np.array(rows), CLASSES)
        assert (found.dtype, found.shape) == (np.float32, (len(rows), CLASSES))
        for row, shares in zip(rows, found.tolist(), strict=True):
            said = Counter(rating for rating in row if rating != MISSING)
            assert shares == pytest.approx([said[c] / said.total() for c in range(CLASSES)])

    @pytest.mark.parametrize(
        ("kind", "missing"), [(np.int8, -1), (np.int64, 7), (np.uint8, 255), (np.uint8, -1)]
    )
    def test_kinds_of_numbers_and_another_id_for_a_rating_that_was_not_given(self, kind, missing):
        last = 1 if missing == -1 else missing
        ratings = np.array([[1, 0, last], [1, 1, 1]], kind)
        expected = [1 / 3, 2 / 3] if last == 1 else [0.5, 0.5]
        assert soft_labels(ratings, 2, missing=missing).tolist() == [pytest.approx(expected), [0, 1]]

    def test_no_sample(self):
        assert soft_labels(np.zeros((0, 3), np.int64), 2).shape == (0, 2)

    @pytest.mark.parametrize(
        ("ratings", "message"),
        [
            ([0, 1], r"whole numbers \(N, R\). Found int64 \(2,\)"),
            ([[0.0, 1.0]], r"whole numbers \(N, R\). Found float64 \(1, 2\)"),
            ([[True, False]], "whole numbers.*Found bool"),
            ([["0", "1"]], "whole numbers.*Found <U1"),
            ([[0, 1], [2, 0]], r"in \[0, 2\). Found 2 of sample 1\."),
            ([[0, 1], [0, -2]], r"in \[0, 2\). Found -2 of sample 1\."),
            ([[0, 1], [-1, -1]], r"Every sample must have a rating. Found none of sample 1. Leave it out."),
            (np.zeros((2, 0), int), "must have a rating. Found none of sample 0"),
        ],
    )
    def test_rules(self, ratings, message):
        with pytest.raises(InvalidValue, match=message):
            soft_labels(np.asarray(ratings), 2)
