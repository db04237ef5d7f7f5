"""The draw of what is held out: by content, stable, with copies together and every class trained on."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fallow.datasets.held_out import (
    FREE,
    HELD,
    TRAINED,
    held_out_by_class,
    held_out_of_all,
    keyed,
    smallest_of,
)

shares = st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.9])
contents = st.lists(st.integers(0, 2**64 - 1), min_size=4, max_size=60, unique=True)


def numbers(values):
    return np.array(values, np.uint64)


def labels_of(content, classes=3):
    return (content % np.uint64(classes)).astype(np.int64)


def by_content(content, out):
    return set(content[out].tolist())


@given(contents, shares, st.randoms())
def test_a_folder_gives_each_class_its_share_whatever_the_order(values, share, random):
    content = numbers(values)
    labels = labels_of(content)
    out = held_out_by_class(keyed(content, 1), labels, share)
    for label in np.unique(labels):
        n = int((labels == label).sum())
        assert out[labels == label].sum() == min(max(round(share * n), 1), n - 1)
    order = np.array(random.sample(range(len(values)), len(values)))
    moved = held_out_by_class(keyed(content[order], 1), labels[order], share)
    assert by_content(content[order], moved) == by_content(content, out)


@given(contents, shares, st.integers(0, 2**64 - 1), st.booleans())
def test_one_sample_more_or_less_moves_at_most_one_other(values, share, new, classes):
    assume(new not in values)
    few, more = numbers(values), numbers([*values, new])

    def held(content):
        keys, labels = keyed(content, 1), labels_of(content)
        if classes:
            return by_content(content, held_out_by_class(keys, labels, share))
        return by_content(content, held_out_of_all(keys, None, round(share * len(content))))

    assert len((held(few) ^ held(more)) - {new}) <= 1


@given(contents, st.integers(0, 59), shares)
def test_another_label_moves_at_most_two_others(values, at, share):
    content = numbers(values)
    at %= len(values)
    before = labels_of(content)
    after = before.copy()
    after[at] = (after[at] + 1) % 3
    keys = keyed(content, 1)
    one, other = (by_content(content, held_out_by_class(keys, labels, share)) for labels in (before, after))
    assert len((one ^ other) - {values[at]}) <= 2
    count = round(share * len(values))
    one, other = (by_content(content, held_out_of_all(keys, labels, count)) for labels in (before, after))
    assert len((one ^ other) - {values[at]}) <= 2


@given(contents, shares)
def test_of_a_table_those_with_the_smallest_keys_go_but_each_class_keeps_one(values, share):
    content, count = numbers(values), round(share * len(values))
    keys, labels = keyed(content, 1), labels_of(content, 5)
    out = held_out_of_all(keys, labels, count)
    kept = {max(np.flatnonzero(labels == label), key=lambda row: keys[row]) for label in set(labels.tolist())}
    open_ = sorted(set(range(len(values))) - kept, key=lambda row: keys[row])
    assert set(np.flatnonzero(out).tolist()) == set(open_[:count])


def test_fifteen_hundred_classes_of_one_row_all_train():
    keys = keyed(np.arange(1500, dtype=np.uint64), 1)
    assert not held_out_of_all(keys, np.arange(1500), 300).any()
    labels = np.concatenate([np.arange(1500), np.arange(500)])
    keys = keyed(np.arange(2000, dtype=np.uint64), 1)
    out = held_out_of_all(keys, labels, 400)
    assert out.sum() == 400
    assert len(np.unique(labels[~out])) == 1500


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), min_size=6, max_size=50),
    st.sampled_from([0.1, 0.2, 0.4]),
)
def test_copies_of_a_class_stand_on_one_side(rows, share):
    content, labels = (np.array(column) for column in zip(*rows, strict=True))
    keys = keyed(content.astype(np.uint64), 1)
    out = held_out_by_class(keys, labels, share)
    for label in set(labels.tolist()):
        mine = labels == label
        groups = set(content[mine].tolist())
        if len(groups) == 1:
            continue  # there is nothing else: each part gets some of it
        assert out[mine].any()
        assert not out[mine].all()
        for group in groups:
            assert len(set(out[mine & (content == group)].tolist())) == 1
    out = held_out_of_all(keys, labels, round(share * len(rows)))
    assert set(labels[~out].tolist()) == set(labels.tolist())
    last = {max(keys[labels == label]) for label in set(labels.tolist())}
    if set(keys.tolist()) != last:  # else only copies of what is trained on are left
        assert not by_content(content, out) & by_content(content, ~out)


def test_a_class_of_copies_alone_gets_both_parts():
    keys = keyed(np.zeros(10, np.uint64), 1)
    assert held_out_by_class(keys, np.zeros(10, np.int64), 0.2).sum() == 2
    assert held_out_of_all(keys, np.zeros(10, np.int64), 3).sum() == 3


def test_many_copies_do_not_take_the_share_of_all():
    content = np.array([7] * 90 + list(range(100, 110)), np.uint64)
    for words in range(20):
        out = held_out_of_all(keyed(content, words), None, 8)
        assert 1 <= out.sum() <= 9
        assert not out[:90].any()


@given(contents, shares, st.data())
def test_sides_stay_and_only_new_samples_are_drawn(values, share, data):
    content = numbers(values)
    labels, keys = labels_of(content), keyed(content, 1)
    drawn = data.draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=len(values), max_size=len(values)))
    sides = np.array(drawn, np.int8)
    for out in (
        held_out_by_class(keys, labels, share, sides),
        held_out_of_all(keys, labels, round(share * len(values)), sides),
    ):
        assert out[sides == HELD].all()
        assert not out[sides == TRAINED].any()
        for label in np.unique(labels):
            mine = labels == label
            if (sides[mine] != HELD).any():
                assert not out[mine].all()
    free = held_out_by_class(keys, labels, share, np.full(len(values), FREE))
    assert np.array_equal(free, held_out_by_class(keys, labels, share))
    again = held_out_by_class(keys, labels, share, np.where(free, HELD, TRAINED))
    assert np.array_equal(again, free)


def test_new_samples_fill_up_what_is_missing_of_the_share():
    content = np.arange(200, dtype=np.uint64)
    sides = np.zeros(200, np.int8)
    sides[:80], sides[80:100] = TRAINED, HELD
    out = held_out_by_class(keyed(content, 1), np.zeros(200, np.int64), 0.2, sides)
    assert out.sum() == 40
    assert out[80:100].all()


def test_draws_of_other_keys_do_not_depend_on_each_other():
    content = np.arange(10_000, dtype=np.uint64)
    one, other = (smallest_of(keyed(content, word), 2000) for word in (1, 2))
    assert 300 < (one & other).sum() < 500
    assert np.array_equal(one, smallest_of(keyed(content, 1), 2000))
    blocks = one.reshape(10, -1).sum(1)
    assert blocks.min() > 150


def test_a_subset_grows_with_its_number_and_keeps_what_comes_first():
    keys = keyed(np.arange(100, dtype=np.uint64), 1)
    assert (smallest_of(keys, 30) <= smallest_of(keys, 60)).all()
    first = np.zeros(100, np.bool_)
    first[[3, 97]] = True
    assert (smallest_of(keys, 5, first) >= first).all()
    assert smallest_of(keys, 1, first).sum() == 1


@given(st.integers(1, 4))
@pytest.mark.parametrize("n", [100_000])
def test_a_million_copies_take_no_loop_over_samples(n, words):
    content = np.random.default_rng(words).integers(0, n // 2, n).astype(np.uint64)
    labels = (content % np.uint64(10)).astype(np.int64)
    out = held_out_of_all(keyed(content, words), labels, n // 5)
    assert abs(out.sum() - n // 5) < 10
    assert not by_content(content, out) & by_content(content, ~out)
