"""A flow: closer to a ring than one Gaussian, and the same from the same seed."""

import torch

from fallow.densities import Flow, Gaussian


def ring(n, seed):
    draw = torch.Generator().manual_seed(seed)
    angle = 2 * torch.pi * torch.rand(n, generator=draw)
    radius = 4 + 0.3 * torch.randn(n, generator=draw)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


def test_it_learns_what_no_gaussian_can():
    x, fresh = ring(2000, 0), ring(1000, 1)
    flow = Flow(epochs=15, hidden=32).fit(x)
    assert flow.log_prob(fresh).mean() > Gaussian().fit(x).log_prob(fresh).mean() + 0.5
    assert flow.log_prob(torch.zeros(1, 2)) < flow.log_prob(fresh).median() - 1


def test_the_same_seed_gives_the_same_flow_and_no_generator_is_touched():
    before = torch.random.get_rng_state()
    one, two = (Flow(epochs=1, hidden=8, transforms=1, seed=4).fit(ring(300, 0)) for _ in range(2))
    assert torch.equal(one.log_prob(ring(9, 2)), two.log_prob(ring(9, 2)))
    assert torch.equal(torch.random.get_rng_state(), before)
