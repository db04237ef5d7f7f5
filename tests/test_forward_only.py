"""Measuring leaves no trace in the network or in any random number generator."""

import pytest
import torch
from torch import nn

from fallow.arrays.forward_only import forward_only


class Codebook(nn.Module):
    """A module that puts a new tensor in the place of its buffer, and one that may be absent."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("late", None)

    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        self.late = x[0].clone()
        return x - self.mean


def network():
    shared = nn.BatchNorm1d(3)
    parts = [nn.Linear(3, 3), shared, nn.Dropout(0.5), shared]
    return nn.Sequential(*parts, Codebook()).train()


def snapshot(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def call_whole(model, x):
    return model(x)


def call_forward(model, x):
    return model.forward(x)


def call_parts(model, x):
    for part in model:
        x = part(x)
    return x


@pytest.mark.parametrize("call", [call_whole, call_forward, call_parts])
def test_running_statistics_are_put_back(call):
    model, x = network(), torch.randn(6, 3, generator=torch.Generator().manual_seed(0)) + 5
    before, places = snapshot(model), {id(b) for b in model.buffers()}
    with forward_only():
        call(model, x)
        assert model[1].num_batches_tracked == 2
        assert model[-1].late is not None
    after = snapshot(model)
    assert after.keys() == before.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {id(b) for b in model.buffers()} == places
    assert model[-1].late is None
    model(x)
    assert not torch.equal(model[1].running_mean, before["1.running_mean"])


def test_they_are_put_back_after_an_error_too():
    model = nn.BatchNorm1d(3)
    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), forward_only():
        model(torch.randn(6, 3)) / (1 / 0)
    assert model.num_batches_tracked == 0
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    model(torch.ones(2, 3))
    assert model.num_batches_tracked == 1


def test_the_mode_of_the_network_is_kept():
    model = network()
    model[2].eval()
    modes = [part.training for part in model.modules()]
    with forward_only():
        assert [part.training for part in model.modules()] == modes
        x = torch.ones(4, 3)
        assert torch.equal(model[2](x), x)
        assert not torch.equal(nn.Dropout(0.5)(torch.ones(400)), torch.ones(400))
    assert [part.training for part in model.modules()] == modes


def test_no_gradient_and_no_random_number_is_used_up():
    linear = nn.Linear(3, 3)
    state = torch.get_rng_state()
    with forward_only():
        first = torch.rand(5)
        assert not linear(torch.ones(1, 3)).requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(torch.rand(5), first)
    torch.set_rng_state(state)


def test_it_may_be_nested():
    model = nn.BatchNorm1d(3)
    with forward_only():
        model(torch.ones(2, 3))
        with forward_only():
            model(torch.ones(2, 3))
        assert model.num_batches_tracked == 1
    assert model.num_batches_tracked == 0
