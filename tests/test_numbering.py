"""Past epochs in the present numbering: against a list of names that is edited for real."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.core.history import describe, times_used
from fallow.core.numbering import Numbering, in_present_order
from fallow.core.table import TRAINED, Table
from fallow.runs.epoch_file import EpochFile


def epoch_of(n, used, epoch):
    table = Table(n)
    table.write(np.flatnonzero(used), np.flatnonzero(used).astype(np.float32), epoch, TRAINED)
    record = describe(table, epoch, 0, 0.0)
    return EpochFile(record, np.arange(n, dtype=np.float32), (np.arange(n) % 5).astype(np.uint8))


@st.composite
def lives(draw):
    """Samples by name, the epochs that they have seen, and every change of the data in between."""
    names, fresh = list(range(draw(st.integers(2, 9)))), 100
    numbering, files, told = Numbering.none(), [], []
    for epoch in range(draw(st.integers(2, 7))):
        if epoch and draw(st.booleans()):
            kept = [name for name in names if draw(st.integers(0, 4))] or names[:1]
            more = draw(st.integers(0, 3))
            now = kept + list(range(fresh, fresh + more))
            fresh += more
            origin = np.array([names.index(name) if name in names else -1 for name in now])
            if len(kept) < len(names):
                numbering = numbering.after(origin, epoch)
            elif numbering.since.size and more:
                old = np.full((numbering.since.size, more), -1)
                numbering = Numbering(np.concatenate([numbering.origin, old], axis=1), numbering.since)
            names = now
        used = np.array(draw(st.lists(st.booleans(), min_size=len(names), max_size=len(names))))
        files.append(epoch_of(len(names), used, epoch))
        told.append({name: (place, bool(used[place])) for place, name in enumerate(names)})
    return names, numbering, files, told


@given(lives())
def test_every_sample_keeps_its_past(life):
    names, numbering, files, told = life
    shown = [file.renumbered(numbering) for file in files]
    for file, past, raw in zip(shown, told, files, strict=True):
        record = file.record
        known = [name for name in names if name in past]
        assert known == names[: record.remaining]  # they come first
        assert (record.n, record.backward, record.gone) == (
            raw.record.n,
            raw.record.backward,
            record.n - len(known),
        )
        assert len(file.scores) == len(file.reason) == record.used.numel() == record.remaining
        for place, name in enumerate(known):
            before, used = past[name]
            assert file.scores[place] == before
            assert file.reason[place] == before % 5
            assert bool(record.used[place]) == used
    want = [sum(past.get(name, (0, False))[1] for past in told) for name in names]
    assert times_used([file.record for file in shown]).tolist() == want


def test_where_nothing_has_changed_nothing_is_copied():
    file = epoch_of(5, np.ones(5, np.bool_), 3)
    assert file.renumbered(Numbering.none()) is file
    moved = Numbering(np.array([[0, 2, -1]]), np.array([3]))
    assert file.renumbered(moved) is file  # epochs from 3 on have the samples as they are
    assert moved.places(2, 3).tolist() == [0, 2]
    assert moved.places(2, 2).tolist() == [0]
    assert in_present_order(np.arange(4), None).tolist() == [0, 1, 2, 3]


def test_an_epoch_whose_samples_are_partly_gone_is_not_written():
    file = epoch_of(9, np.ones(9, np.bool_), 0).renumbered(Numbering(np.array([[1, 8, -1]]), np.array([1])))
    assert file.record.remaining == 2
    with pytest.raises(ValueError, match="must"):
        EpochFile.parse(file.dump(), "an epoch", 0)
