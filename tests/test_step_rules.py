"""Which rows of a batch are trained on."""

from inspect import isabstract

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

import fallow.step_rules as step_rules
from drawing import inclusion
from fallow import NO_SCORE, Schedule, Subsampler, Threshold
from fallow.errors import InvalidType, InvalidValue
from fallow.step_rules import SelectiveBackprop, StepRule, chosen_rows

EXAMPLES = {SelectiveBackprop: [SelectiveBackprop(), SelectiveBackprop(0.1), SelectiveBackprop(1.0)]}
FAMILY = [
    member
    for member in vars(step_rules).values()
    if isinstance(member, type) and issubclass(member, StepRule) and not isabstract(member)
]
EVERY = [rule for member in FAMILY for rule in EXAMPLES[member]]
every_rule = pytest.mark.parametrize("rule", EVERY, ids=repr)


# What every step rule promises


@every_rule
@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 70), key=st.integers(0, 2**64 - 1), bad=st.integers(0, 70), seed=st.integers(0, 9))
def test_exactly_so_many_rows_are_chosen_whatever_the_scores(rule, size, key, bad, seed):
    scores = torch.from_numpy(np.random.default_rng(seed).exponential(size=size))
    scores[:bad] = [float("nan"), float("inf"), NO_SCORE, 0.0][seed % 4]
    before = scores.clone()
    chosen = rule.choose(scores, key)
    assert chosen.shape == (size,)
    assert chosen.dtype == torch.bool
    assert 1 <= int(chosen.sum()) == rule.count(size) <= size
    assert torch.equal(scores.nan_to_num(-1.0), before.nan_to_num(-1.0))
    assert torch.equal(chosen_rows(chosen, rule.count(size)), chosen.nonzero()[:, 0])


@every_rule
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_choice_is_a_pure_function_of_scores_and_key(rule, dtype):
    scores = torch.linspace(0.01, 2, 64).to(dtype).requires_grad_()
    with torch.random.fork_rng():
        first = rule.choose(scores, 7)
        torch.manual_seed(3)
        state = torch.random.get_rng_state()
        assert torch.equal(rule.choose(scores, 7), first)
        assert torch.equal(torch.random.get_rng_state(), state)
    assert not first.requires_grad
    assert type(rule)(**vars(rule)) == rule


@every_rule
def test_rules_act_all_along_unless_told_otherwise(rule):
    assert all(rule.acts(progress) for progress in (0.0, 0.3, 0.999))


# Selective backprop


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.7])
def test_rows_are_drawn_with_odds_by_the_percentile_of_their_loss(keep):
    losses = torch.tensor([3.0, 0.1, 0.5, 8.0, 1.0, 0.2])
    percentile = (losses.argsort().argsort().numpy() + 0.5) / 6
    rule = SelectiveBackprop(keep)
    expected = inclusion(percentile ** (1 / keep - 1), rule.count(6))
    keys = 1500
    found = sum(rule.choose(losses, key).numpy().astype(int) for key in range(keys))
    for count, chance in zip(found, expected, strict=True):
        assert binomtest(int(count), keys, chance).pvalue > 1e-5


def test_only_the_rank_of_a_loss_counts():
    losses = torch.rand(50)
    for key in range(5):
        assert torch.equal(
            SelectiveBackprop().choose(losses, key), SelectiveBackprop().choose(losses.exp() * 9, key)
        )


@pytest.mark.parametrize("nothing", [float("nan"), float("inf"), -float("inf"), NO_SCORE])
def test_rows_without_a_finite_score_rank_lowest(nothing):
    scores = torch.arange(40.0) - 20
    lowest = scores.clone()
    scores[30], lowest[30] = nothing, -1e9
    for key in range(9):
        assert torch.equal(SelectiveBackprop().choose(scores, key), SelectiveBackprop().choose(lowest, key))


def test_it_acts_from_start_to_end():
    rule = SelectiveBackprop(start=0.5, end=0.9)
    assert [rule.acts(p) for p in (0.0, 0.49, 0.5, 0.89, 0.9, 1.0)] == [
        False,
        False,
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"keep": 0}, InvalidValue, "`keep` must be above 0"),
        ({"keep": 1.1}, InvalidValue, "`keep` must be in"),
        ({"keep": "1"}, InvalidType, "`keep`"),
        ({"start": 1.0}, InvalidValue, "`start` must be in"),
        ({"start": 0.5, "end": 0.5}, InvalidValue, "`end` must be above `start`"),
    ],
)
def test_wrong_options_raise(options, error, text):
    with pytest.raises(error, match=text):
        SelectiveBackprop(**options)


def test_rows_that_are_not_chosen_are_measured_only():
    sub = Subsampler(32, Threshold(low=0.1), Schedule(epochs=2))
    rule = SelectiveBackprop(0.25)
    for index, _ in sub.loader(range(32), 8):
        losses = index.float() + 1
        chosen = rule.choose(losses, int(index[0]))
        mean = sub.record(index, losses, backward=chosen)
        assert mean == pytest.approx(losses[chosen].mean())
    sub.step()
    assert (sub.history[0].backward, sub.history[0].forward_only) == (8, 24)
    assert not sub.scores.isnan().any()
