"""Which tokens of a sequence are trained on: those between two thresholds."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow import NO_SCORE
from fallow.errors import InvalidType, InvalidValue
from fallow.step_rules import StepRule, TokenThreshold

bounds = st.none() | st.floats(0, 10)


@settings(max_examples=100, deadline=None)
@given(low=bounds, high=bounds, scores=st.lists(st.floats(0, 12), max_size=20))
def test_a_token_is_learned_or_kept_or_an_outlier(low, high, scores):
    if low is not None and high is not None and low >= high:
        with pytest.raises(InvalidValue, match=r"`low` must be below `high`\. Found low="):
            TokenThreshold(low, high)
        return
    rule, values = TokenThreshold(low, high), torch.tensor(scores, dtype=torch.float64)
    learned = [low is not None and score < low for score in scores]
    outliers = [high is not None and score > high for score in scores]
    assert rule.learned(values).tolist() == learned
    assert rule.outliers(values).tolist() == outliers
    kept = [not (one or other) for one, other in zip(learned, outliers, strict=True)]
    assert rule(values).tolist() == kept


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_shape_and_type_of_scores(dtype):
    scores = torch.linspace(0, 6, 24, dtype=dtype).view(2, 3, 4).requires_grad_()
    before = scores.detach().clone()
    kept = TokenThreshold(low=1.0, high=4.0)(scores)
    assert kept.shape == scores.shape
    assert kept.dtype == torch.bool
    assert torch.equal(kept, (before >= 1) & (before <= 4))
    assert torch.equal(scores, before)
    assert 0 < kept.sum() < 24


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_score_at_a_threshold_is_trained_on(dtype):
    scores = torch.tensor([0.1, 5.3], dtype=dtype)
    assert TokenThreshold(low=0.1, high=5.3)(scores).all()
    assert TokenThreshold(low=0.11, high=5.2)(scores).tolist() == [False, False]


def test_without_thresholds_all_tokens_are_trained_on():
    scores = torch.tensor([0.0, 1e30, math.inf, -math.inf, math.nan, NO_SCORE])
    assert TokenThreshold()(scores).all()


def test_what_is_not_a_number_is_trained_on_so_that_the_loss_shows_it():
    rule = TokenThreshold(low=0.5, high=2.0)
    assert rule(torch.tensor([math.nan, math.inf, NO_SCORE])).tolist() == [True, False, False]
    assert rule.learned(torch.tensor([math.nan, NO_SCORE])).tolist() == [False, True]
    assert rule.outliers(torch.tensor([math.nan, math.inf])).tolist() == [False, True]


def test_it_acts_from_its_start():
    progress = (0.0, 0.49, 0.5, 0.9, 1.0)
    assert [TokenThreshold(low=0.1, start=0.5).acts(p) for p in progress] == [False, False, True, True, True]
    assert all(TokenThreshold(low=0.1).acts(p) for p in progress)


def test_it_is_a_value():
    rule = TokenThreshold(low=1, high=8)
    assert rule == TokenThreshold(1.0, 8.0, 0.0)
    assert hash(rule) == hash(TokenThreshold(1.0, 8.0))
    assert eval(repr(rule)) == rule
    assert TokenThreshold.name == "token-threshold"
    assert not isinstance(rule, StepRule)  # that one chooses rows of a batch
    with pytest.raises(AttributeError):
        rule.low = 2.0


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"low": -0.1}, InvalidValue, r"`low` must be a number of at least 0\. Found -0\.1"),
        ({"low": math.inf}, InvalidValue, r"`low` must be a number.*Found inf"),
        ({"high": math.nan}, InvalidValue, r"`high` must be a number.*Found nan"),
        ({"high": "8"}, InvalidType, r"`high` must be a number.*Found '8'"),
        ({"low": True}, InvalidType, r"`low` must be a number.*Found True"),
        ({"low": 2.0, "high": 2}, InvalidValue, r"`low` must be below `high`\. Found low=2\.0, high=2\.0"),
        ({"low": 3, "high": 2}, InvalidValue, r"`low` must be below `high`\. Found low=3\.0, high=2\.0"),
        ({"start": 1.0}, InvalidValue, r"`start` must be in \[0, 1\)\. Found 1\.0"),
        ({"start": -0.1}, InvalidValue, r"`start` must be in \[0, 1\)"),
        ({"start": "0"}, InvalidType, r"`start` must be in"),
    ],
)
def test_wrong_options_raise(options, error, text):
    with pytest.raises(error, match=text):
        TokenThreshold(**options)
