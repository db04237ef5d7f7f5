"""Rows drawn by name: the same wherever they lie."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from fallow.densities.row_draws import draw_rows, random_keys


def test_lots_look_like_draws():
    found = random_keys(torch.arange(100_000), 1).double() / 2.0**63
    assert abs(found.mean()) < 0.01
    assert abs(found.var() - 1 / 3) < 0.01
    assert len(found.unique()) > 99_990
    neighbours = torch.stack([found[:-1], found[1:]])
    assert abs(torch.corrcoef(neighbours)[0, 1]) < 0.01
    parity = random_keys(torch.arange(100_000), 1) & 1
    assert abs(parity.double().mean() - 0.5) < 0.01


def test_another_seed_draws_others():
    assert (random_keys(torch.arange(1000), 1) != random_keys(torch.arange(1000), 2)).all()


@given(st.lists(st.integers(-(2**62), 2**62), unique=True, max_size=60), st.integers(1, 40), st.randoms())
def test_the_same_rows_in_any_order(names, most, random):
    index = torch.tensor(names, dtype=torch.int64)
    rows = index.double()[:, None]
    order = list(range(len(names)))
    random.shuffle(order)
    one = draw_rows((rows,), index, most, 5)
    two = draw_rows((rows[order],), index[order], most, 5)
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    assert len(one[1]) == min(most, len(names))
    assert one[1].tolist() == sorted(one[1].tolist())
