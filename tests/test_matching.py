"""Which sample of one list is which of another."""

from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fallow.arrays.matching import matched, matched_in_turn

few = st.lists(st.integers(0, 5), max_size=30)


def numbers(values):
    return np.array(values, np.uint64)


@given(few, few)
def test_each_place_is_given_once_in_order(before, now):
    places = defaultdict(list)
    for place, value in enumerate(before):
        places[value].append(place)
    want = [places[value].pop(0) if places[value] else -1 for value in now]
    assert matched(numbers(before), numbers(now)).tolist() == want


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=25), st.randoms())
def test_by_the_finer_key_first_then_by_the_coarser(before, random):
    now = random.sample(before, len(before))
    sides = [
        (numbers([10 * a + b for a, b in rows]), numbers([a for a, _ in rows])) for rows in (before, now)
    ]
    found = matched_in_turn(list(sides[0]), list(sides[1]))
    assert [before[place] for place in found] == now
    assert len(set(found.tolist())) == len(now)


def test_what_only_the_coarser_key_knows():
    before, now = ([numbers([11, 12]), numbers([1, 1])], [numbers([13, 12, 14]), numbers([1, 1, 1])])
    assert matched_in_turn(before, now).tolist() == [0, 1, -1]
