"""Draws by a key, which leave no trace in anybody's generators."""

import random

import numpy as np
import torch

from fallow.arrays.drawing import drawing_by
from fallow.arrays.generators import generator_states, put_back


def draws():
    return (
        torch.rand(2).tolist(),
        np.random.rand(2).tolist(),  # noqa: NPY002
        random.random(),
        np.random.normal(size=2).tolist(),  # noqa: NPY002
    )


def test_a_key_gives_the_same_draws_and_another_key_others():
    found = []
    for key in (5, 5, 6, 2**64 - 1):
        with drawing_by(key):
            found.append(draws())
    assert found[0] == found[1]
    for other in found[2:]:
        for a, b in zip(found[0], other, strict=True):
            assert a != b


def test_what_is_drawn_outside_is_as_if_nothing_had_been_drawn_inside():
    states = generator_states()
    want = [draws() for _ in range(3)]
    put_back(states)
    found = [draws()]
    with drawing_by(9):
        draws()
        np.random.seed(3)  # noqa: NPY002
        torch.manual_seed(3)
        random.seed(3)
    found.append(draws())
    try:
        with drawing_by(9):
            raise RuntimeError
    except RuntimeError:
        found.append(draws())
    put_back(states)
    assert found == want
