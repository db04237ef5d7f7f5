"""A training that was stopped after any step and goes on is the training that never was."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

import fallow
from fallow.arrays.generators import generator_states, put_back
from fallow.core.state import opened
from fallow.files.state_file import dump, parse

N, BATCH, EPOCHS = 32, 8, 3
LABELS = torch.arange(N) % 4
LOADERS = {
    "no worker": {},
    "one worker": {"num_workers": 1},
    "persistent workers": {"num_workers": 2, "persistent_workers": True},
    "workers anew each epoch": {"num_workers": 2, "prefetch_factor": 1},
}
RULES = {
    "threshold": (fallow.Threshold(low=0.9, high=2.2, visits=2), {"readmit_every": 2}),
    "weighted": (fallow.policies.BelowMean(0.6), {"full_tail": 0.3}),
    "audited": (fallow.Threshold(low="auto", visits=1), {"readmit_every": 2}),
    "visits": (fallow.Threshold(low=0.5, high=1.6, visits=2), {}),
    "drawn": (fallow.Fraction(0.5, exponent=0.5, high="auto"), {}),
}


class Augmented(Dataset):
    """Draws from every global generator, as datasets do."""

    def __init__(self):
        self.rows = torch.randn(N, 6, generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return N

    def __getitem__(self, index):
        noise = torch.rand(6) + float(np.random.rand()) + random.random()  # noqa: NPY002
        return self.rows[index] + 0.3 * noise, LABELS[index]


def network():
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.4), nn.Linear(16, 4))


class Training:
    """One's own loop, with everything that it needs to go on."""

    def __init__(self, rule, **loader):
        policy, schedule = RULES[rule]
        self.model = network()
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.2, momentum=0.9)
        self.subsampler = fallow.Subsampler(
            N, policy, fallow.Schedule(epochs=EPOCHS, **schedule), seed=3, labels=LABELS
        )
        self.loader = self.subsampler.loader(Augmented(), BATCH, **loader)
        self.seen = []

    def state(self):
        return dump(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "subsampler": opened(self.subsampler.state_dict()),
                "generators": generator_states(),
            }
        )

    def load(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.subsampler.load_state_dict(state["subsampler"])
        put_back(state["generators"])

    def steps(self):
        """Train; pause after each step and each epoch."""
        sub = self.subsampler
        while sub.epoch < EPOCHS:
            for index, (x, y) in self.loader:
                logits = self.model(x)
                losses = fallow.kl_divergence(logits, y)
                loss = sub.record(index, losses, predicted=logits.argmax(1))
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.seen.append((sub.epoch, index.tolist()))
                yield
            sub.step()
            yield

    def outcome(self):
        sub = self.subsampler
        weights = torch.cat([p.detach().flatten() for p in self.model.parameters()])
        used = [(record.used_bits.tolist(), record.notes) for record in sub.history]
        return weights.tolist(), repr(sub.scores.tolist()), sub.reason.tolist(), used


def whole(rule, **loader):
    """Return batches and outcome of a training without a stop, and its state after each step."""
    plain = Training(rule, **loader)
    for _ in plain.steps():
        pass
    saved = Training(rule, **loader)
    states = [(saved.state(), len(saved.seen)) for _ in saved.steps()]
    assert (saved.seen, saved.outcome()) == (plain.seen, plain.outcome())
    return plain.seen, plain.outcome(), states


def rest(rule, state, **loader):
    """Return batches and outcome of a training that goes on from a state."""
    torch.manual_seed(77)
    training = Training(rule, **loader)
    training.load(parse(state, "state") if isinstance(state, bytes) else state)
    for _ in training.steps():
        pass
    return training.seen, training.outcome()


@pytest.fixture(autouse=True)
def _generators():
    before = generator_states()
    yield
    put_back(before)


QUICK = [("threshold", "persistent workers"), ("drawn", "no worker")]
PAIRS = [
    pytest.param(rule, loader, marks=[] if (rule, loader) in QUICK else [pytest.mark.slow])
    for rule in RULES
    for loader in LOADERS
]


@pytest.mark.parametrize(("rule", "loader"), PAIRS)
def test_it_goes_on_from_every_step(rule, loader):
    seen, outcome, states = whole(rule, **LOADERS[loader])
    assert len(states) > 10
    for state, at in states:
        found = rest(rule, state, **LOADERS[loader])
        assert found == (seen[at:], outcome)


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing():
    """What a dataset draws is a function of seed, epoch and batch."""
    found = {name: whole("threshold", **loader)[:2] for name, loader in LOADERS.items()}
    assert len({repr(result) for result in found.values()}) == 1
    state, at = whole("threshold")[2][4]
    seen, outcome = found["no worker"]
    for loader in LOADERS.values():
        assert rest("threshold", state, **loader) == (seen[at:], outcome)


def test_a_second_stop_in_the_same_epoch_and_a_third():
    seen, outcome, states = whole("drawn")
    training = Training("drawn")
    training.load(parse(states[6][0], "state"))
    for _ in range(2):
        steps = training.steps()
        next(steps)
        again = training.state()
        training = Training("drawn")
        training.load(parse(again, "state"))
    for _ in training.steps():
        pass
    assert training.outcome() == outcome
    assert training.seen == seen[-len(training.seen) :]


FIELDS = [
    ("model",),
    ("optimizer", "state"),
    ("generators", "torch"),
    ("subsampler", "epoch"),
    ("subsampler", "history"),
    ("subsampler", "table", "scores"),
    ("subsampler", "table", "scored_in"),
    ("subsampler", "table", "reason"),
    ("subsampler", "table", "seen"),
    ("subsampler", "table", "recorded"),
    ("subsampler", "table", "columns"),
    ("subsampler", "table", "notes"),
    ("subsampler", "plan", "kept"),
    ("subsampler", "plan", "weights"),
]


@pytest.mark.slow
@pytest.mark.parametrize("field", FIELDS, ids=".".join)
def test_without_any_field_of_the_state_it_would_not(field):
    """The tests above can fail: with one field of another training, some stop goes on differently."""
    differs = 0
    for rule in RULES:
        fresh = parse(Training(rule).state(), "fresh")
        fresh["subsampler"]["table"]["notes"] = {"low": 1.5}
        seen, outcome, states = whole(rule)
        for state, at in states[:-1]:
            told = parse(state, "state")
            inside, other = told, fresh
            for name in field[:-1]:
                inside, other = inside[name], other[name]
            inside[field[-1]] = other[field[-1]]
            try:
                differs += rest(rule, told) != (seen[at:], outcome)
            except Exception:  # a state that does not fit itself
                differs += 1
        if differs:
            return
    assert differs > 0
