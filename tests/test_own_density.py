"""Any object with fit(x) and log_prob(x) is a density: what it may lack, and what it must not do."""

import threading

import pytest
import torch
from torch import nn

from fallow import ActivationDensity
from fallow.densities import Halves
from fallow.densities.own import OwnDensity
from fallow.errors import InvalidType, InvalidValue
from fallow.files.state_file import dump, parse


def rows(n=200, d=3, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + 2


class Bell:
    """Draws from torch's generator, as the weights of a network do."""

    def fit(self, x):
        assert torch.is_grad_enabled()
        assert x.dtype == torch.float32
        self.noise = 0.1 * torch.randn(1).item()
        self.normal = torch.distributions.Normal(x.mean(0), x.std(0))
        x.zero_()  # the rows are a copy

    def log_prob(self, x):
        return self.normal.log_prob(x).sum(1) + self.noise


class Kept(nn.Module):
    """Says itself what its state is; only exact if all of it is in there."""

    def __init__(self, forgets=False):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.forgets, self.scale = forgets, 1.0

    def fit(self, x):
        self.mean = x.mean(0)
        if self.forgets:
            self.scale = float(x.std())

    def log_prob(self, x):
        return -((x - self.mean) / self.scale).square().sum(1)


class Lazy(Kept):
    def fit(self, x):
        self.layer = nn.Linear(3, 1)
        super().fit(x)


def test_it_is_fitted_as_it_was_given_each_time_and_draws_apart():
    given, before = Bell(), torch.get_rng_state()
    own = OwnDensity(given, seed=3)
    first = own.fit(rows()).log_prob(rows(20))
    own.fit(rows(seed=1))
    order = torch.randperm(200, generator=torch.Generator().manual_seed(7))
    again = own.fit(rows()[order], index=order).log_prob(rows(20))
    assert torch.equal(first, again), "whatever was fitted before, in whatever order"
    assert not torch.equal(first, OwnDensity(given, seed=4).fit(rows()).log_prob(rows(20)))
    assert not vars(given), "the object is left alone"
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("make", [Bell, Kept], ids=["fitted again", "says its state"])
def test_a_state_gives_the_same_density(make):
    own = Halves(make(), seed=1).fit(rows())
    state = parse(dump(own.state_dict()), "a state")
    assert ("rows" in state["first"]) is (make is Bell)
    again = Halves(make(), seed=1)
    again.load_state_dict(state)
    saved_again = again.state_dict()
    third = Halves(make(), seed=1)
    third.load_state_dict(saved_again)
    for loaded in (again, third):
        assert torch.equal(loaded.log_prob(rows(30)), own.log_prob(rows(30)))
        assert (loaded.dim, loaded.count) == (3, 200)


@pytest.mark.parametrize("make", [Lazy, lambda: Kept(forgets=True)], ids=["lazy", "forgets"])
def test_a_state_that_is_not_whole_is_found_at_the_first_fit(make):
    with pytest.raises(InvalidValue, match=r"load_state_dict\(state\) must restore what state_dict"):
        OwnDensity(make()).fit(rows())


def test_a_state_of_an_object_that_had_one_needs_one():
    state = OwnDensity(Kept()).fit(rows()).state_dict()
    with pytest.raises(InvalidValue, match=r"Bell must have load_state_dict\(state\)"):
        OwnDensity(Bell()).load_state_dict(state)


class Told:
    def __init__(self, found):
        self.found = found

    def fit(self, x):
        pass

    def log_prob(self, x):
        return self.found(x)


ANSWERS = [
    (lambda x: x, InvalidValue, r"must return one number a row, \(64,\)\. Found \(64, 3\)"),
    (lambda x: x.sum(), InvalidValue, r"must return one number a row"),
    (lambda x: x[:, 0].numpy(), InvalidType, "must return a tensor. Found ndarray"),
    (lambda x: x[:, 0] * float("nan"), InvalidValue, "must be finite for finite rows. Found nan for row 0"),
    (lambda x: x[:, 0].log() - torch.inf, InvalidValue, "must be finite for finite rows. Found -inf"),
]


@pytest.mark.parametrize(("found", "error", "words"), ANSWERS, ids=[words[-20:] for *_, words in ANSWERS])
def test_answers_that_are_no_densities(found, error, words):
    with pytest.raises(error, match=words):
        OwnDensity(Told(found)).fit(rows())


class Locked(Bell):
    def __init__(self):
        self.lock = threading.Lock()


class WithLabels(Bell):
    def fit(self, x, labels):
        pass


OBJECTS = [
    (Bell, InvalidType, r"Found the class Bell\. Pass Bell\(\)\."),
    (object(), InvalidType, r"must be an object with fit\(x\) and log_prob\(x\)\. Found object without fit"),
    (WithLabels(), InvalidType, r"Found WithLabels\.fit: missing a required argument: 'labels'"),
    (Locked(), InvalidValue, "Locked must be copyable"),
]


@pytest.mark.parametrize(("density", "error", "words"), OBJECTS, ids=[words[-20:] for *_, words in OBJECTS])
def test_objects_that_are_none(density, error, words):
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    for use in (Halves, lambda density: ActivationDensity(network, density=density)):
        with pytest.raises(error, match=words):
            use(density)


def test_rows_of_other_weights_are_refused():
    with pytest.raises(InvalidValue, match="Bell takes rows of weight 1 only"):
        OwnDensity(Bell()).fit(rows(), weights=torch.arange(200) + 1)


class Far(Bell):
    """Sound where it was fitted, NaN in half of the other places."""

    def log_prob(self, x):
        return super().log_prob(x).masked_fill((x.sum(1) > 0) & (len(x) > 64), torch.nan)


def test_a_density_that_fails_on_the_panel_stops_the_training():
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    watch = ActivationDensity(network, density=Far(), panel=300)
    for start in range(0, 2000, 100):
        network(rows(2000)[start : start + 100])
        watch.see(torch.arange(start, start + 100))
    with pytest.raises(InvalidValue, match="must be finite for finite rows"):
        watch.refresh()


@pytest.mark.usefixtures("_seed")  # a network whose hidden units are dead has few percentiles
def test_scores_of_an_own_density_are_percentiles_and_go_on_exactly():
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = rows(1500)

    def run(watch, low, high):
        found = []
        for _ in range(low, high):
            for start in range(0, 1500, 100):
                network(x[start : start + 100])
                found.append(watch.scores(torch.arange(start, start + 100)))
        return torch.cat(found)

    make = lambda: ActivationDensity(network, density=Bell(), panel=300)  # noqa: E731
    whole = run(make(), 0, 4)
    first = make()
    begun = run(first, 0, 2)
    again = make()
    again.load_state_dict(parse(dump(first.state_dict()), "a state"))
    assert again.ready
    rest = run(again, 2, 4)
    assert torch.equal(torch.cat([begun, rest]), whole)
    assert ((rest >= 0) & (rest <= 1)).all()
    assert rest.mean().item() == pytest.approx(0.5, abs=0.1)
