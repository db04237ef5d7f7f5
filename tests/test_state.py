"""A run that is stopped and goes on is the same run, wherever it stopped."""

import io
import warnings
from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow import ErrorMass, Fraction, RandomFraction, Schedule, Subsampler, Threshold
from fallow.core.state import opened
from fallow.errors import InvalidType, InvalidValue, WrongState
from fallow.policies import BelowMean

N = 61
LABELS = torch.arange(N) % 3
POLICIES = {
    "threshold": Threshold(low=0.4, high=3.0, visits=2),
    "quantiles": Threshold(low=0.3, quantiles=True),
    "hard": Fraction(0.3),
    "soft": Fraction(0.4, exponent=0.5),
    "drawn": Fraction(0.4, exponent=0.5, high=3.0, visits=2),
    "default": ErrorMass(high=3.0, visits=2),
    "audited": Threshold(low="auto", high="auto"),
    "below-mean": BelowMean(0.5),
    "random": RandomFraction(0.4),
}
every_policy = pytest.mark.parametrize("policy", POLICIES)
SCHEDULE = Schedule(epochs=5, readmit_every=2, stagger=True, full_tail=0.2)


def make(named="threshold", **changed):
    given = {"n": N, "policy": POLICIES[named], "schedule": SCHEDULE, "seed": 5, "min_kept": np.int64(4)}
    return Subsampler(**{**given, "labels": LABELS, "min_kept_per_class": 3, **changed})


def losses_of(index, epoch):
    """What the network says of samples: high twice for some, now and then not a number."""
    draw = torch.rand(N, generator=torch.Generator().manual_seed(epoch)) ** 2 * 2.5
    draw[:6] = 4.0 if epoch < 4 else 1.0
    draw[10 + epoch % 3] = float("nan")
    return draw[index]


def measured(index, batch):
    return torch.where(index % 2 == 0, 1.0, 5.0)


def play(sub, log, **options):
    """Train to the end, with a stop after every batch, before and after every step."""
    loader = sub.loader(range(sub.n), 10, **options)
    yield from run(sub, loader, log)


def run(sub, loader, log):
    while sub.epoch < sub.schedule.epochs:
        for index, _ in loader:
            mean = sub.record(index, losses_of(index, sub.epoch), predicted=index % 3)
            if 17 in index:  # seen twice, as by two views of it
                sub.record(torch.tensor([17]), losses_of(torch.tensor([17]), sub.epoch) + 1)
            log.append((sub.epoch, index.tolist(), mean.item()))
            yield
        sub.remeasure(range(sub.n), measured)
        yield
        sub.step()
        yield


def outcome(sub):
    """What a whole run comes to; how long it took is left out."""
    rows = [{**r.aggregates(), "record_seconds": None} for r in sub.history]
    used = [r.used.tolist() for r in sub.history]
    found = sub.scores, sub.reason, sub.last_scored, sub.predicted
    return repr(rows), used, sub.progress, [t.nan_to_num(-1.0).tolist() for t in found]


def saved(sub):
    """The state as a file gives it back."""
    file = io.BytesIO()
    torch.save(opened(sub.state_dict()), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@cache
def uninterrupted(policy="threshold", **options):
    """Log and outcome of a run without a stop, and at each stop the state and how long the log was."""
    quiet, plain = make(policy), []
    for _ in play(quiet, plain, **options):
        pass
    sub, log, stops = make(policy), [], []
    stops.extend((saved(sub), len(log)) for _ in play(sub, log, **options))
    assert repr(log) == repr(plain)
    assert outcome(sub) == outcome(quiet)
    return log, outcome(sub), stops


def go_on(policy, state, **options):
    """Log and outcome of the rest of a run."""
    sub, log = make(policy), []
    sub.load_state_dict(state)
    for _ in play(sub, log, **options):
        pass
    return log, outcome(sub)


@pytest.mark.parametrize(
    "options", [{}, {"shuffle": False}, {"drop_last": True}, {"full_batches": True}], ids=str
)
def test_a_run_goes_on_from_every_stop(options):
    log, whole, stops = uninterrupted(**options)
    assert len({used for _, used in stops}) > 15
    for state, at in stops:
        rest, found = go_on("threshold", state, **options)
        assert repr(rest) == repr(log[at:])
        assert found == whole


@every_policy
def test_a_run_goes_on_under_every_policy(policy):
    log, whole, stops = uninterrupted(policy)
    for state, at in stops[1::3]:
        rest, found = go_on(policy, state)
        assert repr(rest) == repr(log[at:])
        assert found == whole


@given(st.integers(0, 20), st.lists(st.integers(1, 6), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_a_run_may_be_stopped_again_and_again(first, later):
    log, whole, stops = uninterrupted()
    state, at = stops[first]
    found = log[:at]
    for count in later:
        sub = make()
        sub.load_state_dict(state)
        for _, _ in zip(range(count), play(sub, found), strict=False):
            pass
        state = saved(sub)
    rest, end = go_on("threshold", state)
    assert repr(found + rest) == repr(log)
    assert end == whole


def test_a_state_loads_after_the_loader_was_made_and_used():
    log, whole, stops = uninterrupted()
    state, at = stops[8]
    sub, rest = make(), []
    loader = sub.loader(range(N), 10)
    for index, _ in loader:
        sub.record(index, losses_of(index, 0))
    sub.load_state_dict(state)
    for _ in run(sub, loader, rest):
        pass
    assert repr(rest) == repr(log[at:])
    assert outcome(sub) == whole


def test_progress_and_length_after_a_load():
    log, _, stops = uninterrupted()
    for state, at in stops:
        sub = make()
        loader = sub.loader(range(N), 10)
        sub.load_state_dict(state)
        before = sub.progress
        assert sub.epoch / 5 <= before <= (sub.epoch + 1) / 5
        left = sum(epoch == sub.epoch for epoch, *_ in log[at:])
        assert len(loader) == left if sub.epoch < 5 else before == 1.0
        for index, _ in loader if left else ():
            sub.record(index, losses_of(index, sub.epoch))
            assert sub.progress > before
            before = sub.progress
        assert sub.progress == pytest.approx(min(1.0, (sub.epoch + 1) / 5))


def same(a, b):
    """Whether two states hold the same, to the bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and repr(a) == repr(b)


@every_policy
def test_a_loaded_state_is_saved_again_to_the_bit(policy):
    for state, _ in uninterrupted(policy)[2][::2]:
        sub = make(policy)
        sub.load_state_dict(state)
        assert same(saved(sub), state)


def test_a_state_is_a_copy():
    sub, log = make(), []
    for _, _ in zip(range(9), play(sub, log), strict=False):
        pass
    state = opened(sub.state_dict())
    kept = deepcopy(state)
    other = make()
    other.load_state_dict(state)
    for each in (sub, other):
        for _ in play(each, []):
            pass
    assert same(state, kept)


# --- without any one of its fields, the run is another ---


def paths(state, at=()):
    """Every place in a state: ``("table", "scores")``."""
    for name, value in state.items():
        yield (*at, name)
        if isinstance(value, dict):
            yield from paths(value, (*at, name))


def place(state, path):
    for name in path[:-1]:
        state = state[name]
    return state


def middle():
    """A state in the middle of the fourth epoch."""
    _, _, stops = uninterrupted()
    found = [state for state, _ in stops if state["epoch"] == 3 and not state["measured"]]
    return deepcopy(found[-1])


def test_no_field_may_be_missing():
    state = middle()
    # States of versions without kept steps lack the two numbers of the plan.
    optional = {("plan", "full"), ("plan", "learned")}
    missing = [
        p for p in paths(state) if (p[:2] != ("table", "columns") or len(p) == 2) and p not in optional
    ]
    assert len(missing) > 20
    for path in missing:
        broken = deepcopy(state)
        del place(broken, path)[path[-1]]
        sub = make()
        with pytest.raises((KeyError, InvalidType, InvalidValue)):
            sub.load_state_dict(broken)
        assert sub.epoch == 0
        assert sub.last_scored.max() == -1


EMPTY = {
    ("table", "scores"): lambda t: torch.full_like(t, float("nan")),
    ("table", "scored_in"): torch.zeros_like,
    ("table", "reason"): torch.zeros_like,
    ("table", "seen"): torch.zeros_like,
    ("table", "again_index"): lambda t: t[:0],
    ("table", "columns", "predicted"): torch.zeros_like,
    ("table", "columns", "visits_above_high"): torch.zeros_like,
    ("table", "bad"): lambda _: 0,
    ("table", "recorded"): lambda _: 0,
    ("plan", "kept"): lambda t: torch.full_like(t, 255),
    ("plan", "readmitted"): lambda _: 0,
    ("epoch",): lambda e: e - 1,
    ("history",): lambda _: [],
}


@pytest.mark.parametrize("path", EMPTY, ids=".".join)
def test_an_emptied_field_changes_the_rest_of_the_run(path):
    log, whole, stops = uninterrupted()
    epoch = {"visits_above_high": 1, "predicted": 4}.get(path[-1], 3)  # later ones would write it anew
    last = max(i for i, (state, _) in enumerate(stops) if state["epoch"] == epoch and not state["measured"])
    state, at = deepcopy(stops[last][0]), stops[last][1]
    fields = place(state, path)
    emptied = EMPTY[path](fields[path[-1]])
    assert not same(emptied, fields[path[-1]]), "this stop cannot show the field"
    fields[path[-1]] = emptied
    if path[-1] == "again_index":
        fields["again_scores"] = fields["again_scores"][:0]
    try:
        rest, found = go_on("threshold", state)
    except (ValueError, IndexError, WrongState):
        return
    assert (repr(rest), found) != (repr(log[at:]), whole)


def test_without_its_weights_the_losses_are_others():
    log, _, stops = uninterrupted("below-mean")
    state, at = next((deepcopy(s), a) for s, a in stops if s["epoch"] == 2)
    assert state["plan"]["weights"] is not None
    assert repr(go_on("below-mean", state)[0]) == repr(log[at:])
    state["plan"]["weights"] = None
    assert repr(go_on("below-mean", state)[0]) != repr(log[at:])


def test_that_it_was_measured_is_remembered():
    state = deepcopy(next(s for s, _ in uninterrupted()[2] if s["measured"] and 2 in s["table"]["seen"]))
    sub = make()
    sub.load_state_dict(state)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sub.step()
    state["measured"] = False
    sub.load_state_dict(state)
    with pytest.warns(UserWarning, match="due to be measured"):
        sub.step()


def test_the_seconds_go_on():
    state = middle()
    state["seconds"] = 1000.0
    sub = make()
    sub.load_state_dict(state)
    assert sub.record_seconds > 1000.0
    sub.remeasure(range(N), measured)
    sub.step()
    assert sub.history[-1].record_seconds == 1000.0


# --- what is refused ---


@pytest.mark.parametrize(
    ("name", "changed", "ours", "theirs"),
    [
        ("n", {"n": 62, "labels": None, "min_kept_per_class": 0}, "62", "61"),
        ("policy", {"policy": Threshold(low=0.5)}, r"Threshold\(low=0\.5", r"Threshold\(low=0\.4, high=3\.0"),
        ("schedule", {"schedule": Schedule(epochs=9)}, r"Schedule\(epochs=9", r"Schedule\(epochs=5"),
        ("seed", {"seed": 6}, "6", "5"),
        ("min_kept", {"min_kept": 5}, "5", "4"),
        ("min_kept_per_class", {"min_kept_per_class": 0}, "0", "3"),
    ],
)
def test_a_state_of_another_run_is_refused_with_both_values(name, changed, ours, theirs):
    sub = make(**changed)
    with pytest.raises(InvalidValue, match=f"the same `{name}`: .*{ours}.*Found .*{theirs}"):
        sub.load_state_dict(middle())
    assert sub.epoch == 0
    assert sub.kept.all()
    assert sub.history == []


@pytest.mark.parametrize("state", [{}, None, [1], {"version": 1}])
def test_what_is_no_state_is_refused(state):
    with pytest.raises(InvalidType, match=r"must come from Subsampler\.state_dict\(\)"):
        make().load_state_dict(state)


def test_another_version_is_refused():
    state = {**middle(), "version": 1}
    with pytest.raises(InvalidValue, match=r"version 2\. Found 1"):
        make().load_state_dict(state)


def test_after_extend_the_state_is_of_the_larger_set():
    policy = {"policy": Threshold(low=0.4), "schedule": Schedule(epochs=3)}
    plain = {"labels": None, "min_kept_per_class": 0, **policy}
    sub = make(**plain)
    sub.record(torch.arange(N), losses_of(torch.arange(N), 0))
    sub.step()
    sub.extend(3)
    sub.record(torch.tensor([62, 1]), torch.ones(2))
    state = saved(sub)
    with pytest.raises(InvalidValue, match=r"the same `n`: 61\. Found 64"):
        make(**plain).load_state_dict(state)
    other = make(n=64, **plain)
    other.load_state_dict(state)
    assert other.order()[:].tolist() == [i for i in sub.order()[:].tolist() if i not in (62, 1)]
    assert torch.equal(other.kept, sub.kept)
    assert other.history[0].n == 61
