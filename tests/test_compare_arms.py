"""Arms: names, shares solved from savings, own arms, and everything wrong found before a run."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.comparison import arms
from fallow.comparison.arms import (
    fewer_epochs,
    finders,
    known_arms,
    make_arms,
    takes_share,
    thin_batch,
    waiting,
)
from fallow.comparison.options import (
    NOT_SHARED,
    OF_AN_ARM,
    CompareOptions,
    read_arms,
    read_saved,
    read_seeds,
)
from fallow.comparison.running import compare, make_course
from fallow.errors import FallowError
from fallow.options.factories import make_policy, make_schedule
from fallow.options.resolve import DataFacts, resolve, resolve_on_data
from fallow.options.train_options import POLICIES, TrainOptions
from fallow.runs.schema import FullTraining

BASE = TrainOptions(data="digits", epochs=20)


def arm(name, saved=0.5, base=BASE):
    return make_arms({name: None}, (saved,), base)[0]


SHARES = [name for name in known_arms() if "epochs" not in name and takes_share(name, BASE)]


@pytest.mark.parametrize("name", SHARES)
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
    for base in (BASE, TrainOptions(data="a.txt", epochs=8)):
        assert arm("default", base=base).options.policy == resolve(base).policy
    mine = make_arms({"mine": {"exponent": 1.0}}, (), resolve(TrainOptions(data="a.txt")))
    assert mine[0].options.policy == "soft", "an option that only this policy has"
    assert arm("full").options.policy == "full"
    assert arm("full").saved is None


def test_every_policy_that_takes_a_share_is_an_arm():
    policies = {arm(name).options.policy for name in known_arms()}
    assert policies == set(POLICIES)


@pytest.fixture
def finding(monkeypatch):
    """The default takes its share from the data."""
    monkeypatch.setitem(arms._NAMED, "default", {"policy": "error-mass"})


def test_an_arm_that_finds_its_share_is_one_arm_without_a_saving(finding):
    names = dict.fromkeys(["full", "default", "error-mass", "random", "soft@0.3"])
    made = make_arms(names, (0.3, 0.5), BASE)
    labels = ["full", "default", "error-mass", "random-0.3", "random-0.5", "soft-0.3"]
    assert [each.label for each in made] == labels
    assert all(each.options.fraction is None for each in made[:3])
    assert [each.name for each in finders(made)] == ["default"]
    assert [each.name for each in finders(made[2:])] == ["error-mass"]
    early = make_arms(names, None, BASE)
    assert [each.label for each in early] == ["full", "default", "error-mass", "soft-0.3"]
    assert waiting(names, BASE) == ["random"]
    with pytest.raises(FallowError, match=r"default finds its share itself. Found default@0.5"):
        make_arms({"default@0.5": None}, (0.3,), BASE)


def test_an_own_arm_finds_a_saving_unless_it_trains_on_everything():
    own = {
        "full": None,
        "mine": {"policy": "threshold", "low": 0.05},
        "long": {"policy": "full", "epochs": 40},
    }
    assert [each.name for each in finders(make_arms(own, None, BASE))] == ["mine"]


def test_whatever_leaves_samples_out_keeps_its_steps_unless_it_says_otherwise():
    whole = {"full", "fewer-epochs", "fewer-epochs-thin", "selective-backprop"}
    for name in known_arms():
        kept = arm(name).options.kept_steps
        assert name in whole or kept == (name != "random-dropped"), name
    random, dropped = arm("random").options, arm("random-dropped").options
    assert (random.policy, random.fraction) == (dropped.policy, dropped.fraction)
    own = {"mine": {"policy": "soft"}, "dropped": {"policy": "soft", "kept_steps": False}}
    assert [each.options.kept_steps for each in make_arms(own, (), BASE)] == [True, False]


@given(st.integers(50, 100_000), st.integers(1, 512), st.integers(2, 60), st.floats(0.05, 0.9))
def test_a_thinned_control_makes_the_steps_of_full_training(samples, batch_size, epochs, saved):
    fewer = fewer_epochs(epochs, saved)
    thin = thin_batch(samples, batch_size, epochs, fewer)
    full = epochs * -(-samples // batch_size)
    steps = fewer * -(-samples // thin)
    assert 1 <= thin <= batch_size
    if fewer == epochs:
        assert thin == batch_size
    each = full / fewer
    # An epoch of k batches of one size has at most k steps, and misses them by k / (samples / k).
    assert steps <= min(full + fewer / 2 + 1e-9, max(full, fewer * samples))
    assert steps >= full - fewer * (0.5 + (each + 1) ** 2 / samples + 1) or each > samples


def test_a_thinned_control_scales_its_learning_rate_as_the_task_does():
    full = FullTraining(25_600, 256, 0.3)

    def thinned(**changes):
        base = TrainOptions(epochs=20, **{"data": "digits", **changes})
        (made,) = make_arms({"fewer-epochs-thin": None}, (0.5,), base, full)
        assert (made.options.epochs, made.options.batch_size) == (10, 128)
        return resolve_on_data(made.options, DataFacts(25_600, 10)).learning_rate

    assert thinned() == pytest.approx(0.15)
    assert thinned(learning_rate=0.2) == 0.2, "given"
    assert thinned(data="a.csv") == thinned(data="a.csv", batch_size=256) == 2e-3, "by AdamW"


def test_at_a_saving_that_was_found_an_arm_saves_as_much_as_it_can():
    names = dict.fromkeys(["threshold", "random", "fewer-epochs"])
    made = make_arms(names, (0.8,), BASE, most=True)
    assert [each.label for each in made] == ["threshold-0.69", "random-0.8", "fewer-epochs-0.8"]
    with pytest.raises(FallowError, match=r"threshold saves less than 0\.7"):
        make_arms(names, (0.8,), BASE)


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
    made = make_arms({"full": None, "mine": {"policy": "threshold", "low": 0.05}}, (0.3, 0.5), BASE)
    assert [a.label for a in made] == ["full", "mine"]
    assert (made[1].options.low, made[1].saved) == (0.05, None)


def test_an_arm_at_one_saving():
    made = make_arms({"soft": None, "threshold@0.3": None, "soft@0.7": None}, (0.3, 0.7), BASE)
    assert [a.label for a in made] == ["soft-0.3", "soft-0.7", "threshold-0.3"]


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
    ({"mine": {"kept_steps": "no"}}, (0.5,), "The arm mine: `kept_steps` must be true or false or None"),
    ({"mine": {"layers": ["a", 6]}}, (0.5,), "`layers` must be a list of texts"),
    ({"mine": {"weight_decay": "0"}}, (0.5,), "`weight_decay` must be a number or None. Found '0'"),
    ({"mine": {"model_args": [1]}}, (0.5,), "`model_args` must be a mapping"),
    ({"mine": {"model": 3}}, (0.5,), "`model` must be a text. Found 3"),
    ({"mine": {"warmup": True}}, (0.5,), "`warmup` must be a whole number. Found True"),
    ({"full@0.5": None}, (0.5,), "Full training saves nothing. Found full@0.5"),
    ({"soft": None}, (1.0,), r"in \(0, 1\)"),
    ({"random-0.18": {"policy": "soft"}}, (0.5,), "a name of its own"),
    ({"m" * 61: {"policy": "soft"}}, (0.5,), "at most 60 letters"),
]


@pytest.mark.parametrize(("names", "saved", "message"), WRONG)
def test_wrong_arms(names, saved, message):
    with pytest.raises(FallowError, match=message):
        make_arms(names, read_saved(saved), BASE)


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
    runs = make_course(options, TrainOptions(data="digits")).first().runs()
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
