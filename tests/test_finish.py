"""A training that ends early: its last epochs, its progress, and its state."""

import itertools
from copy import deepcopy

import pytest
import torch

from fallow import Fraction, InvalidType, InvalidValue, Schedule, Subsampler, WrongState
from fallow.core.state import opened


def make(epochs=12, n=60):
    sub = Subsampler(n, Fraction(0.5), Schedule(epochs=epochs), seed=3)
    return sub, sub.loader(range(n), 7)


def epoch_of(sub, loader, seen=None):
    for index, _ in loader:
        sub.record(index, torch.linspace(0, 1, sub.n)[index])
        if seen is not None:
            seen.append(sub.progress)
    sub.step()


def test_the_named_epochs_are_the_last_and_progress_runs_evenly_to_1():
    sub, loader = make()
    for _ in range(4):
        epoch_of(sub, loader)
    before = sub.progress
    sub.finish(3)
    assert (sub.epochs, sub.progress) == (7, before)
    seen, ends = [sub.progress], []
    for _ in range(3):
        epoch_of(sub, loader, seen)
        ends.append(sub.progress)
    assert all(a < b for a, b in itertools.pairwise(seen))
    assert ends == pytest.approx([1 / 3 + 2 / 9, 1 / 3 + 4 / 9, 1.0])
    assert (sub.epoch, sub.progress, len(sub.history)) == (7, 1.0, 7)
    with pytest.raises(WrongState, match="All 7 epochs are done"):
        iter(loader)
    with pytest.raises(WrongState, match="All 7 epochs are done"):
        sub.finish()


def test_a_full_tail_is_that_of_the_shorter_training():
    sub = Subsampler(60, Fraction(0.5), Schedule(epochs=20, full_tail=0.25, readmit_at=(2, 18)), seed=3)
    loader = sub.loader(range(60), 7)
    for _ in range(4):
        epoch_of(sub, loader)
    sub.finish(4)
    while sub.epoch < sub.epochs:
        epoch_of(sub, loader)
    assert [record.kept for record in sub.history] == [60, 30, 60, 30, 30, 30, 60, 60]


def test_it_never_makes_a_training_longer():
    sub, loader = make(epochs=3)
    epoch_of(sub, loader)
    sub.finish(9)
    assert sub.epochs == 3
    assert sub.progress == pytest.approx(1 / 3)


@pytest.mark.parametrize("stop", [0, 2])
def test_a_resumed_training_ends_as_early(stop):
    sub, loader = make()
    for _ in range(4):
        epoch_of(sub, loader)
    sub.finish(2)
    for index, _ in itertools.islice(loader, stop):
        sub.record(index, torch.ones(len(index)))
    again, rest = make()
    again.load_state_dict(sub.state_dict())
    assert (again.epochs, again.progress) == (6, sub.progress)
    for _ in range(2):
        epoch_of(again, rest)
    assert again.progress == 1.0


def test_a_longer_schedule_takes_the_end_back():
    sub, loader = make()
    epoch_of(sub, loader)
    sub.finish(1)
    longer = Subsampler(60, Fraction(0.5), Schedule(epochs=20), seed=3)
    longer.load_state_dict(sub.state_dict(), accept=("schedule",))
    assert longer.epochs == 20
    assert longer.progress == pytest.approx(1 / 20)


def test_wrong_use_and_wrong_states_raise():
    sub, loader = make()
    with pytest.raises(InvalidValue, match="`epochs` must be at least 1"):
        sub.finish(0)
    with pytest.raises(InvalidType, match="`epochs`"):
        sub.finish(1.5)
    index, _ = next(iter(loader))
    sub.record(index, torch.ones(len(index)))
    with pytest.raises(WrongState, match=r"Call finish\(\) right after step\(\)"):
        sub.finish()
    sub, loader = make()
    epoch_of(sub, loader)
    sub.finish(2)
    state = opened(sub.state_dict())
    for name, value in (("start", 5), ("end", 0), ("progress", 2.0), ("progress", float("nan"))):
        broken = deepcopy(state)
        broken["ending"][name] = value
        other, _ = make()
        with pytest.raises(InvalidValue, match=f"ending.{name}"):
            other.load_state_dict(broken)
        assert other.epochs == 12
