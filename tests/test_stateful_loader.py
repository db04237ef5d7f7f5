"""torchdata's StatefulDataLoader: one state, from every step."""

import sys

import pytest
import torch
from torchdata.stateful_dataloader import StatefulDataLoader

from fallow import ErrorMass, Fraction, Schedule, Subsampler

N, EPOCHS = 60, 4
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")


def made(policy, workers):
    sub = Subsampler(N, policy, Schedule(EPOCHS), seed=3)
    options = {"persistent_workers": True} if workers else {}
    return sub, sub.loader(torch.arange(N), 8, stateful=True, num_workers=workers, **options)


def train(sub, loader, states=None):
    seen = []
    while sub.epoch < EPOCHS:
        for index, batch in loader:
            assert torch.equal(index, batch)
            sub.record(index, (index / N + sub.epoch / 9) % 1)
            seen.append((sub.epoch, index.tolist()))
            if states is not None:
                states.append(loader.state_dict())
        sub.step()
    return seen


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("policy", [Fraction(0.5), ErrorMass()], ids=["dropped steps", "kept steps"])
def test_a_run_goes_on_from_every_step(policy, workers):
    states = []
    sub, loader = made(policy, workers)
    assert isinstance(loader, StatefulDataLoader)
    whole = train(sub, loader, states)
    assert len(states) == len(whole) > 15
    for done, state in enumerate(states, 1):
        if workers and done % 5:
            continue
        again, rest = made(policy, workers)
        rest.load_state_dict(state)
        assert train(again, rest) == whole[done:]
        assert torch.equal(again.scores, sub.scores)


def test_both_states_loaded_are_one():
    states = []
    sub, loader = made(Fraction(0.5), 0)
    whole = train(sub, loader, states)
    again, rest = made(Fraction(0.5), 0)
    again.load_state_dict(states[10])
    rest.load_state_dict(states[10])
    assert train(again, rest) == whole[11:]


def test_without_torchdata_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchdata.stateful_dataloader", None)
    with pytest.raises(ModuleNotFoundError, match=r"A stateful loader needs torchdata.*fallow\[trainers\]"):
        made(Fraction(0.5), 0)
