"""A saved state is refused as a whole, before anything changes, if no training leaves it."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from fallow import Schedule, Subsampler, Threshold, policies
from fallow.core.state import opened
from fallow.core.state_checks import COLUMNS, check_state
from fallow.errors import InvalidType, InvalidValue
from fallow.policies import BelowMean

N = 20
NAN, INF = float("nan"), float("inf")


def make(policy=None):
    policy = policy or Threshold(low=0.3, high=5.0, visits=2)
    return Subsampler(N, policy, Schedule(epochs=4), labels=torch.arange(N) % 3)


def trained(policy=None, *, inside=True):
    """A subsampler after an epoch, or in the middle of the next one, with repeats."""
    sub = make(policy)
    draw = torch.rand(N, generator=torch.Generator().manual_seed(0)) * 2
    sub.record(torch.arange(N), draw, predicted=torch.arange(N) % 3)
    sub.step()
    if inside:
        index = sub.order()[:6]
        sub.record(index, torch.ones(6))
        sub.record(index[:2], torch.full((2,), 3.0))
    return sub


def rows(tensor, value, at=0):
    changed = tensor.clone()
    changed[at] = value
    return changed


def left_out(state):
    return int(state["table"]["reason"].nonzero()[0, 0])


CHANGES = {
    "readmitted of 10^30": (("plan", "readmitted"), 10**30),
    "readmitted of 10^5000": (("plan", "readmitted"), 10**5000),
    "readmitted beyond n": (("plan", "readmitted"), N + 1),
    "readmitted below 0": (("plan", "readmitted"), -1),
    "readmitted as true": (("plan", "readmitted"), True),
    "readmitted with a fraction": (("plan", "readmitted"), 1.0),
    "repeats as floats": (("table", "again_index"), lambda t: t.float()),
    "repeats of no sample": (("table", "again_index"), lambda t: rows(t, N)),
    "repeats below 0": (("table", "again_index"), lambda t: rows(t, -1)),
    "repeats of what did not come": (("table", "again_index"), lambda t, s: rows(t, left_out(s))),
    "fewer repeats than scores": (("table", "again_index"), lambda t: t[:1]),
    "an infinite repeat": (("table", "again_scores"), lambda t: rows(t, INF)),
    "repeats in double precision": (("table", "again_scores"), lambda t: t.double()),
    "weights not a number": (("plan", "weights"), torch.full((N,), NAN)),
    "infinite weights": (("plan", "weights"), torch.full((N,), INF)),
    "negative weights": (("plan", "weights"), -torch.ones(N)),
    "weights in double precision": (("plan", "weights"), torch.ones(N).double()),
    "sparse weights": (("plan", "weights"), torch.ones(N).to_sparse()),
    "recorded below 0": (("table", "recorded"), -1),
    "fewer recorded than seen": (("table", "recorded"), 5),
    "recorded of 10^30": (("table", "recorded"), 10**30),
    "recorded as text": (("table", "recorded"), "8"),
    "bad below 0": (("table", "bad"), -1),
    "bad beyond what is not a score": (("table", "bad"), 1),
    "bad beyond n": (("table", "bad"), N + 1),
    "measured as text": (("measured",), "x"),
    "measured as a number": (("measured",), 1),
    "seconds not a number": (("seconds",), NAN),
    "seconds below 0": (("seconds",), -1.0),
    "seconds as text": (("seconds",), "1"),
    "seconds without end": (("seconds",), INF),
    "epoch as true": (("epoch",), True),
    "epoch as a float": (("epoch",), 1.0),
    "epoch of 10^30": (("epoch",), 10**30),
    "another epoch": (("epoch",), 2),
    "an unknown name": (("extra",), 1),
    "an unknown name in the table": (("table", "extra"), 1),
    "an unknown name in the plan": (("plan", "extra"), 1),
    "an unknown setting": (("settings", "extra"), 1),
    "an unknown column": (("table", "columns", "extra"), torch.zeros(N)),
    "a name that is none": ((7,), 1),
    "a column of another type": (("table", "columns", "visits_above_high"), torch.zeros(N)),
    "a column of another length": (("table", "columns", "visits_above_high"), torch.zeros(3).byte()),
    "a column of two dimensions": (("table", "columns", "predicted"), torch.zeros(N, 2).int()),
    "classes below 0": (("table", "columns", "predicted"), torch.full((N,), -5).int()),
    "columns as a list": (("table", "columns"), []),
    "a note as text": (("table", "notes", "low"), "x"),
    "a note not a number": (("plan", "notes", "low"), NAN),
    "scores in double precision": (("table", "scores"), lambda t: t.double()),
    "an infinite score": (("table", "scores"), lambda t: rows(t, INF)),
    "a score never measured": (("table", "scored_in"), lambda t: rows(t, 0)),
    "a score of a later epoch": (("table", "scored_in"), lambda t: rows(t, 9)),
    "scored and not seen": (("table", "seen"), torch.zeros_like),
    "a reason that is none": (("table", "reason"), lambda t: rows(t, 77)),
    "a plan of a removed sample": (("plan", "kept"), lambda t: rows(torch.full_like(t, 255), 15, -1)),
    "a plan of more samples": (("plan", "kept"), lambda t: t | 128),
    "an empty plan": (("plan", "kept"), torch.zeros_like),
    "labels as floats": (("labels",), lambda t: t.float()),
    "fewer labels": (("labels",), lambda t: t[:5]),
    "n of 10^12": (("settings", "n"), 10**12),
    "n as true": (("settings", "n"), True),
    "a policy as a list": (("settings", "policy"), []),
    "a seed as a float": (("settings", "seed"), 0.0),
    "version true": (("version",), True),
    "classes not in order": (("class_ids",), torch.tensor([3, 1])),
    "a part of one rank of one": (
        ("part",),
        {"rank_and_size": [0, 1], "recorded": 0, "resumed": None, "shared_repeats": 0},
    ),
    "a part as text": (("part",), "x"),
    "history of numbers": (("history",), [1]),
    "history as a tuple": (("history",), lambda h: tuple(h)),
    "too much history": (("history",), lambda h: [*h, h[0]]),
    "no history": (("history",), []),
    "an epoch that readmitted 10^30": (("history", 0, "readmitted"), 10**30),
    "an epoch of other counts": (("history", 0, "kept"), 3),
    "an epoch with an unknown name": (("history", 0, "extra"), 3),
    "an epoch that took no time": (("history", 0, "record_seconds"), NAN),
    "an epoch of fewer bits": (("history", 0, "used_bits"), lambda t: t[:1]),
    "an epoch of another number": (("history", 0, "epoch"), 1),
    "an epoch without a histogram": (("history", 0, "score_histogram"), []),
}  # fmt: skip


def changed(state, path, value):
    state = deepcopy(state)
    place = state
    for name in path[:-1]:
        place = place[name]
    if callable(value):
        now = place[path[-1]]
        value = value(now, state) if value.__code__.co_argcount == 2 else value(now) if path else None
    place[path[-1]] = value
    return state


def changed_by(state, name):
    path, value = CHANGES[name]
    if value is torch.zeros_like:
        value = lambda t: torch.zeros_like(t)  # noqa: E731
    return changed(state, path, value)


@pytest.mark.parametrize("name", CHANGES)
def test_what_no_training_leaves_is_refused_and_nothing_changes(name):
    state = changed_by(opened(trained().state_dict()), name)
    sub = trained(inside=False)
    before = deepcopy(opened(sub.state_dict()))
    with pytest.raises((InvalidType, InvalidValue), match=r"Found .*\. \w"):
        sub.load_state_dict(state)
    after = opened(sub.state_dict())
    assert repr(after) == repr(before)
    sub.load_state_dict(trained().state_dict())
    assert sub.under_way.resumed


def test_a_count_outside_an_epoch_is_refused():
    state = changed(opened(trained(inside=False).state_dict()), ("table", "recorded"), N + 1)
    with pytest.raises(InvalidValue, match=r"recorded` in \[0, 0\]"):
        make().load_state_dict(state)


def test_a_sample_may_come_more_often_than_there_are_samples():
    sub = make()
    for _ in range(30):
        sub.record(torch.tensor([3]), torch.tensor([NAN]))
        sub.record(torch.tensor([4]), torch.tensor([1.0]))
    state = opened(sub.state_dict())
    assert state["table"]["recorded"] == 60
    assert state["table"]["bad"] == 30
    other = make()
    other.load_state_dict(state)
    assert repr(opened(other.state_dict())) == repr(state)


def test_a_sample_removed_by_hand_inside_an_epoch_is_still_planned():
    sub = trained()
    sub.remove(sub.order()[:1])
    other = make()
    other.load_state_dict(sub.state_dict())
    assert torch.equal(other.removed, sub.removed)


def test_another_policy_may_remember_anything():
    class Own(Threshold):
        pass

    sub = trained(Own(low=0.3))
    sub.under_way.scores.table.column("mine", np.float64)[:] = 3
    sub.under_way.scores.table.notes["mine"] = NAN
    make(Own(low=0.3)).load_state_dict(sub.state_dict())


def test_the_columns_of_every_policy_are_known():
    names = {name for name in COLUMNS if name not in ("predicted", "score_before")}
    found = {}
    for policy in (
        Threshold(low=0.1, high=1.0, visits=2), Threshold(low="auto", high="auto"), BelowMean(0.5),
        policies.Fraction(0.5, exponent=0.5, high="auto"),
        policies.ErrorMass(), policies.IES(), policies.RePB(), policies.UCB(0.3), policies.Kakurenbo(0.3),
        policies.SeTa(), policies.Watch(),
    ):  # fmt: skip
        sub = Subsampler(N, policy, Schedule(epochs=3), labels=torch.arange(N) % 3, min_kept=2)
        for epoch in range(2):
            sub.record(
                torch.arange(N),
                torch.linspace(0.0, 3.0, N) - isinstance(policy, policies.RePB) * 1.0,
                predicted=torch.ones(N).long(),
            )
            sub.step() if epoch == 0 else None
        state = opened(sub.state_dict())
        check_state(state, policy)
        found |= {n: c.numpy().dtype for n, c in state["table"]["columns"].items()}
    assert names <= found.keys()
    assert all(found[name] == COLUMNS[name] for name in names)


@pytest.mark.parametrize("wrong", [NAN, INF, -1.0])
def test_a_policy_that_weighs_wrongly_is_named(wrong):
    class Heavy(BelowMean):
        def weights(self, inputs, reason):
            return super().weights(inputs, reason) * wrong

    sub = make(Heavy(0.5))
    sub.record(torch.arange(N), torch.linspace(0, 1, N))
    with pytest.raises(
        InvalidValue, match=r"weights float32 \(20,\), finite and at least 0.*Found .* sample 0"
    ):
        sub.step()


def test_a_column_has_one_type():
    sub = trained()
    with pytest.raises(InvalidValue, match=r"of one type, float32\. Found uint8"):
        sub.under_way.scores.table.column("visits_above_high", np.float32)
