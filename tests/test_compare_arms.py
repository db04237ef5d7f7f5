"""Arms: names, shares solved from savings, own arms, and everything wrong found before a run."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.comparison.arms import fewer_epochs, known_arms, make_arms
from fallow.comparison.options import (
    NOT_SHARED,
    OF_AN_ARM,
    CompareOptions,
    read_arms,
    read_saved,
    read_seeds,
)
from fallow.comparison.running import compare, make_plan
from fallow.errors import FallowError
from fallow.options.factories import make_policy, make_schedule
from fallow.options.resolve import resolve
from fallow.options.train_options import POLICIES, TrainOptions

BASE = TrainOptions(data="digits", epochs=20)


def arm(name, saved=0.5, base=BASE):
    return make_arms({name: None}, (saved,), base)[0]


@pytest.mark.parametrize("name", [name for name in known_arms() if name not in ("full", "fewer-epochs")])
@given(saved=st.floats(0.05, 0.45), epochs=st.integers(12, 60), warmup=st.integers(1, 2))
def test_the_share_of_an_epoch_saves_what_the_run_is_to_save(name, saved, epochs, warmup):
    base = TrainOptions(data="digits", epochs=epochs, warmup=warmup)
    options = arm(name, saved, base).options
    share = options.low if options.policy == "threshold" else options.fraction
    schedule = make_schedule(options)
    first = make_policy(options).first_epoch()
    full = [schedule.returns_all(epoch) or epoch < first for epoch in range(epochs)]
    assert np.mean(np.where(full, 0.0, share)) == pytest.approx(saved)


def test_what_the_names_stand_for():
    soft, hard, infobatch = (arm(name).options for name in ("soft", "hard", "infobatch"))
    assert (soft.policy, make_policy(soft).exponent) == ("soft", 0.5)
    assert (hard.policy, make_policy(hard).exponent) == ("fraction", None)
    assert (infobatch.policy, infobatch.full_tail) == ("infobatch", 0.125)
    assert make_policy(soft).high is None
    assert make_policy(hard).high is None
    assert make_policy(arm("default").options).high == "auto"
    threshold = arm("threshold").options
    schedule = make_schedule(threshold)
    assert make_policy(threshold).quantiles
    assert (schedule.readmit_every, schedule.full_tail) == (5, 0.1)
    assert arm("default").options.policy == "fraction"
    (of_texts,) = make_arms({"default": None}, (0.5,), resolve(TrainOptions(data="a.txt", epochs=8)))
    assert of_texts.options.policy == "fraction"
    mine = make_arms({"mine": {"exponent": 1.0}}, (), resolve(TrainOptions(data="a.txt")))
    assert mine[0].options.policy == "soft", "an option that only this policy has"
    assert arm("full").options.policy == "full"
    assert arm("full").saved is None


def test_every_policy_that_takes_a_share_is_an_arm():
    policies = {arm(name).options.policy for name in known_arms()}
    assert policies == set(POLICIES) - {"error-mass"}


@given(st.integers(1, 300), st.floats(0.01, 0.99))
def test_fewer_epochs_train_on_at_least_as_much_as_is_asked(epochs, saved):
    fewer = fewer_epochs(epochs, saved)
    assert 1 <= fewer <= epochs
    assert fewer >= epochs * (1 - saved) - 1e-6
    assert fewer == 1 or fewer - 1 < epochs * (1 - saved)


def test_fewer_epochs_at_savings_that_floats_cannot_hold():
    assert [fewer_epochs(20, s) for s in (0.3, 0.5, 0.7, 0.9)] == [14, 10, 6, 2]
    assert fewer_epochs(10, 0.9) == 1


def test_own_arms():
    arms = make_arms({"full": None, "mine": {"policy": "threshold", "low": 0.05}}, (0.3, 0.5), BASE)
    assert [a.label for a in arms] == ["full", "mine"]
    assert (arms[1].options.low, arms[1].saved) == (0.05, None)


def test_an_arm_at_one_saving():
    arms = make_arms({"soft": None, "threshold@0.3": None}, (0.3, 0.7), BASE)
    assert [a.label for a in arms] == ["soft-0.3", "soft-0.7", "threshold-0.3"]


WRONG = [
    ({"sofd": None}, (0.5,), "Did you mean 'soft'?"),
    ({"threshold": None}, (0.7,), "6 of 20 epochs are full. Found saved 0.7.*threshold@0.6"),
    ({"soft": None}, (0.95,), "soft saves less than 0.95"),
    ({"soft": {"exponent": 1.0}}, (0.5,), "a name of its own"),
    ({"a/b": {"policy": "soft"}}, (0.5,), "letters, digits"),
    ({"mine": {"seed": 3}}, (0.5,), "Unknown option of the arm mine"),
    ({"mine": {"data": "a.npz"}}, (0.5,), "Unknown option of the arm mine"),
    ({"mine": {"policy": "soft", "low": 0.1}}, (0.5,), "The arm mine: --low goes with"),
    ({"mine": {"policy": "threshold", "low": 3.0, "high": 1.0}}, (0.5,), "The arm mine: `low` must be below"),
    ({"mine": {"epochs": "many"}}, (0.5,), "The arm mine: `epochs` must be a whole number or None. .*'many'"),
    ({"mine": {"keep_rare": "no"}}, (0.5,), "The arm mine: `keep_rare` must be true or false"),
    ({"mine": {"layers": ["a", 6]}}, (0.5,), "`layers` must be a list of texts"),
    ({"mine": {"weight_decay": "0"}}, (0.5,), "`weight_decay` must be a number or None. Found '0'"),
    ({"mine": {"model_args": [1]}}, (0.5,), "`model_args` must be a mapping"),
    ({"mine": {"model": 3}}, (0.5,), "`model` must be a text. Found 3"),
    ({"mine": {"warmup": True}}, (0.5,), "`warmup` must be a whole number. Found True"),
    ({"full@0.5": None}, (0.5,), "Full training saves nothing. Found full@0.5"),
    ({"soft": None}, (1.0,), r"in \(0, 1\)"),
    ({"soft": None, "soft@0.5": None}, (0.5,), "soft-0.5 twice"),
]


@pytest.mark.parametrize(("arms", "saved", "message"), WRONG)
def test_wrong_arms(arms, saved, message):
    with pytest.raises(FallowError, match=message):
        make_arms(arms, read_saved(saved), BASE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochz": 3}, "Unknown option. Found 'epochz'. Did you mean 'epochs'?"),
        ({"epochs": 2.5}, "`epochs` must be a whole number or None. Found 2.5"),
        ({"out": 3}, "`out` must be a path. Found 3"),
        ({"epochs": 1, "out": "never-made"}, "One epoch cannot save"),
    ],
)
def test_wrong_options_of_the_call(options, message):
    with pytest.raises(FallowError, match=re.escape(message)):
        compare("digits", **options)


def test_lists_and_mappings_read_alike():
    own = {"policy": "threshold", "low": 0.05}
    assert read_arms("full,mine") == {"full": None, "mine": None}
    for words in (["full", {"mine": own}], {"full": None, "mine": own}):
        assert read_arms(words) == {"full": None, "mine": own}


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (read_arms, ""),
        (read_arms, "soft,soft"),
        (read_arms, [3]),
        (read_arms, {"mine": 0.5}),
        (read_saved, "0.5,half"),
        (read_saved, "1.5"),
        (read_saved, 0.0),
        (read_saved, []),
        (read_seeds, 0),
        (read_seeds, "1,1"),
        (read_seeds, "1,x"),
        (read_seeds, [-1]),
        (read_seeds, 1.5),
    ],
)
def test_wrong_lists(read, value):
    with pytest.raises(FallowError):
        read(value)


def test_runs_are_seed_by_seed_with_full_training_first(tmp_path):
    options = CompareOptions(arms="soft,full", saved="0.5,0.3", seeds="4,2", out=str(tmp_path / "c"))
    runs = make_plan(options, TrainOptions(data="digits")).runs()
    names = ["full-4", "soft-0.3-4", "soft-0.5-4", "full-2", "soft-0.3-2", "soft-0.5-2"]
    assert [run.name for run in runs] == names
    assert {run.options.epochs for run in runs} == {30}
    assert [run.options.seed for run in runs] == [4, 4, 4, 2, 2, 2]
    assert runs[1].path == tmp_path / "c" / "runs" / "soft-0.3-4"


def test_each_option_of_train_is_shared_or_decided_here():
    assert {"policy", "fraction", "low", "seed", "out", "readmit_every"} <= NOT_SHARED
    assert not NOT_SHARED & {"data", "model", "epochs", "batch_size", "learning_rate", "augment", "samples"}
    assert "policy" in OF_AN_ARM
    assert not OF_AN_ARM & {"data", "samples", "validation", "seed", "out"}
