"""What a state holds of policy and schedule: a name, and what differs from the defaults."""

from dataclasses import dataclass, field, fields, make_dataclass

import numpy as np
import pytest
import torch

import fallow
from fallow import Fraction, Policy, Schedule, Subsampler, Threshold
from fallow.core.described import as_code, describe, same
from fallow.core.state import opened
from fallow.errors import InvalidValue
from fallow.policies import Kakurenbo
from fallow.policies.persistence import Persistence

POLICIES = [getattr(fallow, name) for name in fallow.__all__ if isinstance(getattr(fallow, name), type)]
POLICIES = [kind for kind in POLICIES if issubclass(kind, Policy) and kind is not Policy]
NEEDED = {"Threshold": {"low": 0.125}}
CHANGED = [
    Threshold(low=0.5, high="auto", visits=3),
    Fraction(0.25, exponent=0.5, high="auto"),
    Kakurenbo(0.25, steps=(0.5, 0.75)),
    Schedule(9, readmit_every=3, readmit_at=(4, 7), full_tail=0.125),
]


def made(kind):
    needed = {"fraction": 0.25} if "fraction" in {f.name for f in fields(kind)} else {}
    return kind(**NEEDED.get(kind.__name__, needed))


@pytest.mark.parametrize("settings", [*map(made, POLICIES), *CHANGED], ids=repr)
class TestOurs:
    def test_it_is_the_same_as_itself_and_as_its_repr_of_before(self, settings):
        assert same(describe(settings), settings)
        assert same(repr(settings), settings)

    def test_it_names_only_what_differs_from_the_defaults(self, settings):
        described = describe(settings)
        assert described.pop("name") == type(settings).__name__
        defaults = {f.name: f.default for f in fields(settings)}
        for name, value in described.items():
            assert defaults[name] != value

    def test_it_is_shown_as_code_that_makes_it(self, settings):
        assert eval(as_code(describe(settings)), {type(settings).__name__: type(settings)}) == settings

    def test_a_field_that_is_added_later_changes_nothing_by_default(self, settings):
        kind = type(settings)
        later = make_dataclass(
            kind.__name__, [("later", float, field(default=0.5))], bases=(kind,), frozen=True
        )
        later.__qualname__ = kind.__qualname__
        values = {f.name: getattr(settings, f.name) for f in fields(kind)}
        for before in (repr(settings), describe(settings)):
            assert same(before, later(**values))
            assert not same(before, later(**values, later=0.75))


@pytest.mark.parametrize("settings", CHANGED, ids=repr)
def test_another_value_or_kind_is_not_the_same(settings):
    for before in (describe(settings), repr(settings)):
        assert not same(before, Fraction(0.75))
        assert not same(before, Schedule(4))


@pytest.mark.parametrize(
    "text",
    ["", "Fraction", "Fraction(", "Fraction(0.5)", "Fraction(fraction=0.5, gone=1)", "Fraction(fraction=x())",
     "__import__('os').system('true')", "(" * 5000, "Fraction(fraction=0.5)" * 900, None, 7, [], {},
     {"name": "Fraction"}, {"name": "Fraction", "fraction": "0.5"}],
    ids=lambda text: f"{text!r:.30}",
)  # fmt: skip
def test_what_describes_nothing_is_not_the_same(text):
    assert not same(text, Fraction(0.5))


class Silent(Policy):
    name = "silent"

    def decide(self, inputs):
        return np.zeros(len(inputs), np.uint8)


@dataclass(frozen=True)
class Holds(Silent):
    name = "holds"
    inner: object = None


def test_a_policy_of_ones_own():
    assert describe(Silent()) == {"name": "Silent"}
    assert same(describe(Silent()), Silent())
    assert describe(Holds(Persistence(1.0, 2))) == repr(Holds(Persistence(1.0, 2)))
    assert same(describe(Holds({1: 2})), Holds({1: 2}))
    assert not same(describe(Holds({1: 2})), Holds({1: 3}))


def test_states_that_keep_the_repr_are_loaded_and_others_refused():
    def subsampler(policy=CHANGED[1], schedule=CHANGED[3]):
        return Subsampler(8, policy, schedule, labels=torch.arange(8) % 2)

    saved = opened(subsampler().state_dict())
    saved["settings"] |= {"policy": repr(CHANGED[1]), "schedule": repr(CHANGED[3])}
    subsampler().load_state_dict(saved)
    with pytest.raises(InvalidValue, match=r"same `policy`: Fraction\(.*Found Fraction\(fraction=0.25, "):
        subsampler(Fraction(0.5)).load_state_dict(saved)
    now = opened(subsampler().state_dict())
    with pytest.raises(InvalidValue, match=r"Found Schedule\(epochs=9, readmit_every=3, readmit_at=\[4, 7\]"):
        subsampler(schedule=Schedule(9)).load_state_dict(now)
    subsampler(schedule=Schedule(9)).load_state_dict(now, accept=["schedule"])


def test_the_parts_of_a_saved_state_keep_their_names():
    from fallow.integrations.lightning import SubsamplingCallback
    from fallow.training.checkpointing import Checkpointer
    from fallow.training.epoch_writer import EpochWriter
    from fallow.training.stopwatch import Stopwatch

    assert [vars(kind)["state_key"].fget(None) for kind in (Checkpointer, EpochWriter, Stopwatch)] == [
        "Keeper", "EpochWriter", "Stopwatch",
    ]  # fmt: skip
    mine = type("Mine", (SubsamplingCallback,), {})
    sub = Subsampler(4, Fraction(0.5), Schedule(2))
    assert SubsamplingCallback(sub).state_key == "SubsamplingCallback"
    assert mine(sub).state_key == "Mine"
