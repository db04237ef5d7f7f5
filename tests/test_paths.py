"""Paths in two arrays: those of a list."""

import os
import pickle
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fallow.datasets.paths import Paths

NAMES = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9))


@given(NAMES, st.data())
def test_they_are_those_of_a_list(names, data):
    paths = Paths.of(names)
    assert paths.names() == names
    assert list(paths) == [Path(name) for name in names]
    assert len(paths) == len(names)
    rows = data.draw(st.lists(st.integers(0, len(names) - 1)) if names else st.just([]))
    taken = paths.take(np.array(rows, np.int64))
    assert taken.names() == [names[row] for row in rows]
    assert taken.take(range(len(rows))).names() == taken.names()
    cut = data.draw(st.integers(0, len(names)))
    assert paths[:cut].names() == names[:cut]
    assert (
        Paths.joined([paths[cut:], taken, paths[:cut]]).names() == names[cut:] + taken.names() + names[:cut]
    )
    for row in rows:
        assert paths[row - len(names)] == paths[row] == Path(names[row])


def test_names_that_are_not_utf8_and_pickles():
    names = ["a\udce9.png", "ü/é.jpg"]
    paths = Paths.of(names)
    assert pickle.loads(pickle.dumps(paths)).names() == names
    assert os.fsencode(paths[0]) == b"a\xe9.png"
    assert Paths.joined([]).names() == []


def test_they_take_little_more_than_their_names():
    paths = Paths.of(f"folder/class/{number:07d}.jpg" for number in range(10_000))
    assert len(pickle.dumps(paths)) < 10_000 * (25 + 8) + 1000
