"""From the options of the command line to the objects of the library."""

from dataclasses import dataclass, replace

import pytest

from fallow.errors import InvalidValue
from fallow.options.checks import check
from fallow.options.factories import make_policy, make_schedule, make_score, make_step_rule
from fallow.options.resolve import resolve
from fallow.options.train_options import POLICIES, TrainOptions
from fallow.policies import (
    IES,
    UCB,
    BelowMean,
    ErrorMass,
    Fraction,
    Kakurenbo,
    OrderDP,
    Policy,
    RandomFraction,
    RePB,
    SeTa,
    Threshold,
    Watch,
    policy_names,
)
from fallow.scores import KLDivergence, RelativeToBatch, TotalVariation
from fallow.step_rules import SelectiveBackprop

HARD = Fraction(0.3, high="auto", visits=3)
DEFAULT = Fraction(0.5, exponent=0.5, high="auto")
MADE = {
    "threshold": (Threshold(0.1), None),
    "soft": (DEFAULT, replace(DEFAULT, fraction=0.3)),
    "fraction": (replace(HARD, fraction=0.5), HARD),
    "below-mean": (BelowMean(0.5), BelowMean(budget=0.3)),
    "infobatch": (BelowMean(0.5), BelowMean(budget=0.3)),
    "seta": (SeTa(), SeTa(budget=0.3)),
    "kakurenbo": (Kakurenbo(), Kakurenbo(0.3, steps=())),
    "ucb": (UCB(0.5), UCB(0.3)),
    "repb": (RePB(), RePB(budget=0.3)),
    "order-dp": (OrderDP(), OrderDP(pool=0.925, budget=0.3)),
    "ies": (IES(), IES(budget=0.3)),
    "selective-backprop": (RandomFraction(0), RandomFraction(0)),
    "random": (RandomFraction(0.5), RandomFraction(0.3)),
    "full": (RandomFraction(0), None),
    "error-mass": (ErrorMass(0.15), None),
    "watch": (Watch(0.15), None),
}


@pytest.mark.parametrize("name", POLICIES)
def test_every_name_makes_its_rule_as_published_or_with_a_share_of_all_samples(name):
    own, shared = MADE[name]
    assert policy_of(name) == own
    if shared is None:
        with pytest.raises(InvalidValue, match=f"--fraction does nothing under --policy {name}"):
            policy_of(name, fraction=0.3)
    else:
        assert policy_of(name, fraction=0.3) == shared


@pytest.mark.parametrize("name", [name for name, (_, shared) in MADE.items() if shared])
def test_a_fraction_of_everything_raises(name):
    options = resolve(TrainOptions("digits", policy=name, fraction=1.0))
    with pytest.raises(InvalidValue, match=r"must be in \[0, 1\)"):
        make_policy(options), make_step_rule(options)


def test_only_selective_backprop_has_a_step_rule():
    assert make_step_rule(resolve(TrainOptions("digits"))) is None
    options = resolve(TrainOptions("digits", policy="selective-backprop"))
    assert make_step_rule(options) == SelectiveBackprop()
    options.fraction = 0.25
    assert make_step_rule(options) == SelectiveBackprop(keep=0.75)


def test_only_repb_measures_against_the_batch():
    assert make_score(resolve(TrainOptions("digits"))) == KLDivergence()
    options = resolve(TrainOptions("digits", policy="repb", score="tv"))
    assert make_score(options) == RelativeToBatch(TotalVariation())


def test_infobatch_ends_on_full_epochs_unless_a_share_is_asked_for():
    tails = [
        make_schedule(resolve(TrainOptions("digits", policy=name, **more))).full_tail
        for name, more in (
            ("infobatch", {}),
            ("infobatch", {"fraction": 0.3}),
            ("infobatch", {"full_tail": 0.5}),
            ("below-mean", {}),
            ("threshold", {}),
        )
    ]
    assert tails == [0.125, 0.0, 0.5, 0.0, 0.1]


def test_a_policy_that_is_exported_needs_no_other_line(monkeypatch):
    from fallow import policies
    from fallow.comparison.arms import make_arms

    @dataclass(frozen=True)
    class Even(Policy):
        name = "even"
        budget: float = 0.5

        def decide(self, standing):
            raise NotImplementedError

    with pytest.raises(InvalidValue, match=r"Unknown policy\. Found 'even'"):
        policy_of("even")
    monkeypatch.setattr(policies, "Even", Even, raising=False)
    monkeypatch.setattr(policies, "__all__", [*policies.__all__, "Even"])
    assert policy_of("even") == Even()
    assert policy_of("even", fraction=0.3) == Even(0.3)
    with pytest.raises(InvalidValue, match="--low goes with --policy threshold"):
        policy_of("even", low=0.1)
    (arm,) = make_arms({"even": None}, (0.4,), TrainOptions("digits", epochs=5))
    assert (arm.options.policy, arm.options.fraction) == ("even", pytest.approx(0.5))


def test_the_policies_that_come_with_fallow_are_named_in_help():
    assert set(policy_names()) <= set(POLICIES)


def test_a_policy_without_a_share_says_so():
    with pytest.raises(InvalidValue, match=r"The policy threshold takes no share\. Found 0\.3"):
        Threshold.with_share(0.3)


def test_what_chance_leaves_out_is_called_not_drawn():
    drawn = {name for name in POLICIES if policy_of(name).draws}
    assert drawn == {"soft", "below-mean", "infobatch", "seta", "repb", "random"}


# The high side, the low side, and when outliers are measured


def policy_of(name, **options):
    return make_policy(check(TrainOptions("digits", policy=name, **options)))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("soft", {}, replace(DEFAULT, visits=3)),
        ("soft", {"high": "none"}, Fraction(0.5, exponent=0.5)),
        ("soft", {"high": "none", "exponent": 2.0}, Fraction(0.5, exponent=2.0)),
        ("soft", {"high": 3.0, "visits": 2}, replace(DEFAULT, high=3.0, visits=2)),
        ("fraction", {"high": "none"}, Fraction(0.5)),
        ("fraction", {"high": "auto"}, Fraction(0.5, high="auto", visits=3)),
        ("threshold", {}, Threshold(0.1)),
        ("threshold", {"high": 3.0}, Threshold(0.1, 3.0, visits=1)),
        ("threshold", {"high": "auto"}, Threshold(0.1, "auto", visits=3)),
        ("threshold", {"high": "auto", "visits": 1}, Threshold(0.1, "auto", visits=1)),
        ("threshold", {"low": "auto", "high": "none"}, Threshold("auto")),
        ("threshold", {"quantiles": True, "high": 0.9}, Threshold(0.3, 0.9, quantiles=True)),
    ],
)
def test_a_side_is_a_number_or_finds_itself_or_is_none(name, options, expected):
    assert policy_of(name, **options) == expected


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("soft", {"high": "outo"}, "--high must be a number or auto or none. Found outo"),
        ("threshold", {"low": "none"}, "--low must be a number or auto. Found none"),
        ("soft", {"low": "auto"}, "--low goes with --policy threshold. Found --policy soft"),
        ("random", {"high": "auto"}, "--high goes with --policy error-mass or soft or fraction or threshold"),
        (
            "infobatch",
            {"visits": 2},
            "--visits goes with --policy error-mass or soft or fraction or threshold",
        ),
        ("threshold", {"low": "auto", "quantiles": True}, "`low` must be a share with quantiles=True"),
    ],
)
def test_sides_that_cannot_be_meant_raise(name, options, text):
    with pytest.raises(InvalidValue, match=text):
        policy_of(name, **options)


def test_the_default_never_lets_an_outlier_wait_for_ever():
    """There is an epoch in which outliers are measured, whatever the policy with a high side."""
    for name in ("soft", "fraction", "threshold"):
        schedule = make_schedule(resolve(TrainOptions("digits", policy=name, high="auto", epochs=20)))
        assert any(schedule.measures(epoch) for epoch in range(20))


@pytest.mark.parametrize("policy", ["soft", "fraction", "threshold"])
def test_no_visits_are_refused_and_not_taken_for_none_given(policy):
    options = resolve(TrainOptions("digits", policy=policy, high="auto", visits=0))
    with pytest.raises(InvalidValue, match="`visits` must be at least 1"):
        make_policy(options)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"high": "none", "visits": 2}, "--visits is for outliers"),
        ({"policy": "threshold", "low": "auto", "readmit_every": 0}, "--low auto audits the samples"),
    ],
)
def test_options_that_would_do_nothing_are_refused(given, message):
    with pytest.raises(InvalidValue, match=message):
        check(TrainOptions("digits", **given))
    check(TrainOptions("digits", policy="threshold", low="auto"))
