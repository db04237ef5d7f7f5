"""A fixed part of the training set: by name, in any order, on any number of ranks, the latest rows."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from fallow.activations.panel import Panel


def row_of(index, when=0):
    """A row that tells its sample and when it was seen, exactly in float16."""
    index = torch.as_tensor(index)
    return torch.stack([index % 1024, index // 1024, torch.full_like(index, when)], 1).half()


def sample_of(rows):
    return (rows[:, 0] + 1024 * rows[:, 1]).long()


@given(st.integers(1, 300), st.integers(1, 80), st.integers(1, 40), st.randoms())
def test_the_same_samples_in_any_order_and_in_any_batches(n, size, batch, random):
    order = list(range(n))
    found = []
    for _ in range(2):
        random.shuffle(order)
        panel = Panel(size, seed=1)
        for start in range(0, n, batch):
            part = np.array(order[start : start + batch])
            panel.add(part, [row_of(part)])
        panel.settle()
        found.append(panel)
    assert np.array_equal(found[0].index, found[1].index)
    assert len(found[0]) == min(n, size)
    assert torch.equal(sample_of(found[0].rows[0]), torch.from_numpy(found[0].index))


def test_it_holds_the_latest_row_of_each():
    panel = Panel(50)
    for when in range(4):
        part = np.arange(when * 5, 30)
        panel.add(part, [row_of(part, when)])
        if when == 1:
            panel.settle()
    panel.settle()
    assert panel.index.tolist() == list(range(30))
    assert panel.rows[0][:, 2].tolist() == [min(i // 5, 3) for i in range(30)]


def test_members_stay_members():
    panel, members = Panel(100), []
    for _ in range(3):
        for start in range(0, 5000, 100):
            part = np.arange(start, start + 100)
            panel.add(part, [row_of(part)])
        panel.settle()
        members.append(panel.index.tolist())
    assert members[0] == members[1] == members[2]
    assert set(np.arange(5000)[panel.members(np.arange(5000))]) == set(members[0])
    assert 3500 < panel.population() < 7000


def test_no_more_is_held_than_a_few_panels():
    panel = Panel(64)
    for start in range(0, 100_000, 50):
        part = np.arange(start, start + 50)
        panel.add(part, [row_of(part)])
        assert panel._waiting <= 4 * 64 + 50
    panel.settle()
    assert len(panel) == 64


def test_rows_that_are_not_finite_are_not_looked_at():
    panel = Panel(20)
    rows = torch.ones(4, 2)
    rows[1, 0], rows[2, 1] = float("nan"), float("inf")
    panel.add(np.arange(4), [rows])
    panel.settle()
    index, layers = panel.finite()
    assert index.tolist() == [0, 3]
    assert layers[0].shape == (2, 2)


def test_an_empty_panel_is_one():
    panel = Panel(20)
    panel.settle()
    assert len(panel) == 0
    assert panel.population() == 0
    assert len(panel.finite()[0]) == 0


def test_a_state_is_all_there_is():
    panel, again = Panel(30), Panel(30)
    for start in range(0, 200, 20):
        panel.add(np.arange(start, start + 20), [row_of(range(start, start + 20))])
    again.load_state_dict(panel.state_dict())
    for one in (panel, again):
        one.add(np.arange(100, 260), [row_of(range(100, 260), 7)])
        one.settle()
    assert np.array_equal(panel.index, again.index)
    assert torch.equal(panel.rows[0], again.rows[0])
