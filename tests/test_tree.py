"""The tree of groups: sums, members, cuts and the best choice of nodes, each against brute force."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.gaps.tree import Tree


def places(n, seed, dim=2):
    return np.random.default_rng(seed).normal(size=(n, dim))


examples = settings(max_examples=60, deadline=None)
trees = st.builds(lambda n, seed: Tree.of(places(n, seed)), st.integers(2, 9), st.integers(0, 10_000))


def descended(tree, node):
    """The rows of a node, by the definition."""
    if node < tree.rows:
        return {node}
    first, second = tree.parts[node - tree.rows].tolist()
    return descended(tree, first) | descended(tree, second)


@examples
@given(trees)
def test_members_are_the_rows_below_a_node(tree):
    for node in range(2 * tree.rows - 1):
        assert tree.members(node).tolist() == sorted(descended(tree, node))
    assert tree.members(2 * tree.rows - 2).tolist() == list(range(tree.rows))


@examples
@given(trees, st.integers(0, 99))
def test_sums_are_those_over_the_members(tree, seed):
    values = np.random.default_rng(seed).normal(size=(tree.rows, 3))
    sums = tree.sums(values)
    assert sums.shape == (2 * tree.rows - 1, 3)
    for node, found in enumerate(sums):
        np.testing.assert_allclose(found, values[tree.members(node)].sum(0), atol=1e-12)


def apart(tree, nodes):
    return all(not descended(tree, a) & descended(tree, b) for a, b in combinations(nodes, 2))


@examples
@given(
    st.integers(2, 5),
    st.integers(0, 999),
    st.lists(st.sampled_from([0.0, 0.0, 1.0, 2.0, 3.5]), min_size=9, max_size=9),
)
def test_the_best_nodes_have_the_largest_sum_of_all_that_lie_apart(n, seed, gains):
    tree = Tree.of(places(n, seed))
    gains = np.array(gains[: 2 * n - 1])
    every = [
        some for count in range(n + 1) for some in combinations(range(2 * n - 1), count) if apart(tree, some)
    ]
    best = tree.best(gains)
    assert apart(tree, best)
    assert (gains[best] > 0).all()
    assert gains[best].sum() == pytest.approx(max(sum(gains[list(some)]) for some in every))


def test_of_equal_gains_the_larger_node_is_the_best():
    tree = Tree.of(np.array([[0.0], [1.0], [10.0], [11.5]]))
    gains = np.zeros(7)
    gains[[0, 1]], gains[4] = 1.0, 2.0  # node 4 joins the rows 0 and 1
    assert tree.members(4).tolist() == [0, 1]
    assert tree.best(gains) == [4]
    assert gains.tolist() == [1, 1, 0, 0, 2, 0, 0]
    assert tree.best(np.zeros(7)) == []


@examples
@given(trees, st.integers(0, 12))
def test_groups_are_nodes_and_no_more_than_asked_for(tree, count):
    groups = tree.groups(count)
    nodes = {tuple(sorted(descended(tree, node))) for node in range(2 * tree.rows - 1)}
    found = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    assert groups.shape == (tree.rows,)
    assert groups.min() == 0
    assert len(found) == min(max(1, count), tree.rows)
    assert {tuple(rows.tolist()) for rows in found} <= nodes


def test_equal_rows_are_no_trouble():
    tree = Tree.of(np.zeros((6, 2)))
    assert tree.members(10).tolist() == [0, 1, 2, 3, 4, 5]
    assert tree.groups(3).shape == (6,)
