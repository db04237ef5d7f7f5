"""What has happened to the samples of a run: who is who, and how it is said."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fallow.runs.data_changes import Changes, Samples, known_first, sides
from fallow.runs.data_file import DataFile, held_out_arrays


def numbers(values):
    return np.array(values, np.uint64)


def data(content, labels=None, held=(), held_labels=None, identity=None, held_identity=None, **more):
    labels = np.zeros(len(content), np.int32) if labels is None else np.array(labels, np.int32)
    theirs = np.zeros(len(held), np.int32) if held_labels is None else np.array(held_labels, np.int32)
    identities = [None if one is None else numbers(one) for one in (identity, held_identity)]
    arrays = held_out_arrays(numbers(held), theirs, identities[1])
    return DataFile(len(content), labels, numbers(content), identity=identities[0], **arrays, **more)


def told(before, now):
    return Changes.of(before, now).describe("image")


HELD = "held out: 2 images as before"


def test_each_change_is_said_in_plain_words():
    before = data([1, 2, 3, 4], held=[8, 9])
    assert told(before, data([1, 2, 3, 4, 5, 6], held=[8, 9])) == f"2 images are new; {HELD}"
    assert told(before, data([1, 3, 4], held=[8, 9])) == f"1 image is gone; {HELD}"
    assert (
        told(before, data([1, 2, 3, 4], [0, 1, 0, 1], held=[8, 9])) == f"2 images have another label; {HELD}"
    )
    assert told(before, data([1, 2, 3, 5], [1, 0, 0, 0], held=[8, 9])) == (
        f"1 image is new, 1 is gone, 1 has another label; {HELD}"
    )
    assert told(before, data([1, 2, 3, 4], held=[9, 7, 6])) == ("held out: 1 image as before, 1 gone, 2 new")
    assert told(before, data([1, 2, 3, 4], held=[8, 9], held_labels=[0, 1])) == (
        f"{HELD}, 1 with another label"
    )


def test_the_same_samples_elsewhere_are_no_change():
    before = data([1, 2, 3], [0, 1, 2], held=[8, 9], files=("a", "b", "c"))
    now = data([3, 1, 2], [2, 0, 1], held=[9, 8], files=("x", "y", "z"))
    found = Changes.of(before, now)
    assert not found
    assert found.renamed
    assert found.origin.tolist() == [2, 0, 1]
    order = known_first(found.origin)
    assert now.take(order).content.tolist() == [1, 2, 3]
    assert now.take(order).files == ("y", "z", "x")
    assert Changes.of(before, now.take(order)).moved is None


def test_what_is_made_of_the_same_thing_is_the_same_sample():
    before = data([1, 2, 3], identity=[11, 12, 13], held=[8], held_identity=[18])
    now = data([1, 5, 6], identity=[11, 12, 13], held=[7], held_identity=[18])
    found = Changes.of(before, now)
    assert found.origin.tolist() == [0, 1, 2]
    assert found.remade.tolist() == [1, 2]
    assert told(before, now) == "2 images are read differently; held out: 1 image as before"
    without = data([1, 2, 3], held=[8])  # as runs of before have it
    assert not Changes.of(without, data([1, 2, 3], identity=[1, 2, 3], held=[8], held_identity=[4]))


def test_a_held_out_sample_to_train_on_is_found():
    before = data([1, 2], held=[8, 9])
    assert Changes.of(before, data([1, 2, 9], held=[8])).leaked == 1
    assert Changes.of(data([1, 9], held=[8, 9]), data([1, 9, 9], held=[8, 9])).leaked == 0
    remade = data([1, 2, 5], identity=[1, 2, 19], held=[8], held_identity=[18])
    assert Changes.of(data([1, 2], identity=[1, 2], held=[8, 9], held_identity=[18, 19]), remade).leaked == 1


def test_only_more_samples_at_the_end():
    before = data([1, 2], held=[8])
    assert Changes.of(before, data([1, 2, 3], held=[8])).only_added
    for now in (data([1, 3], held=[8]), data([1, 2, 3], held=[7]), data([1, 2, 3], [1, 0, 0], held=[8]),
                data([1, 2], held=[8])):  # fmt: skip
        assert not Changes.of(before, now).only_added


def test_without_checksums_places_and_classes_are_told():
    before = DataFile(3, np.array([0, 1, 1], np.int32), classes=("a", "b"))
    found = Changes.of(before, DataFile(4, np.array([0, 1, 1, 0], np.int32), classes=("a", "c")))
    assert found
    assert found.origin is None
    assert found.describe("sample") == (
        "length: there were 3 samples and are 4; classes: c is new; b is gone"
    )
    assert not Changes.of(before, before)


def test_a_class_that_is_new_moves_no_other_label():
    before = data([1, 2, 3], [0, 1, 2], held=[8], held_labels=[2], classes=("ash", "elm", "oak"))
    now = data([1, 2, 3, 4], [0, 2, 3, 1], held=[8], held_labels=[3], classes=("ash", "beech", "elm", "oak"))
    assert told(before, now) == "1 image is new; held out: 1 image as before; classes: beech is new"
    swapped = data([1, 2, 3], [1, 0, 2], held=[8], held_labels=[2], classes=("elm", "ash", "oak"))
    assert told(before, swapped) == "held out: 1 image as before; classes: they are in another order"
    other = data([1, 2, 3], [1, 1, 2], held=[8], held_labels=[2], classes=("elm", "ash", "oak"))
    assert told(before, other).startswith("1 image has another label; ")


pairs = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), max_size=12)


@given(pairs, pairs, pairs, st.randoms())
def test_sides_against_a_slow_one(trained, held, new, random):
    """One to one, the same label first, those trained on first; then further copies go where theirs are."""
    before = data(
        [a for a, _ in trained], [b for _, b in trained], [a for a, _ in held], [b for _, b in held]
    )
    now = random.sample(trained + held + new, len(trained + held + new))
    left = [(*one, -1) for one in trained] + sorted((*one, 1) for one in held)
    want = [0] * len(now)
    for same in (lambda one, other: one == other[:2], lambda one, other: one[0] == other[0]):
        for place, one in enumerate(now):
            if want[place] == 0:
                other = next((other for other in left if same(one, other)), None)
                if other is not None:
                    left.remove(other)
                    want[place] = other[2]
    for place, (a, _) in enumerate(now):
        if want[place] == 0:
            want[place] = -1 if a in {x for x, _ in trained} else 1 if a in {x for x, _ in held} else 0
    found = sides(
        before, Samples(numbers([a for a, _ in now]), None, np.array([b for _, b in now], np.int64))
    )
    assert found.tolist() == want


@given(st.lists(st.integers(-1, 20), unique_by=lambda x: x if x >= 0 else object(), max_size=20))
def test_known_samples_come_first_in_their_old_order(origin):
    origin = np.array(origin, np.int64)
    order = known_first(origin)
    now = origin if order is None else origin[order]
    known = now[now >= 0]
    assert (now[: known.size] >= 0).all()
    assert (np.diff(known) > 0).all()
    new = np.flatnonzero(origin < 0)
    if order is not None:
        assert order[known.size :].tolist() == new.tolist()
