"""Fifty seeds on 1, 2 and 4 ranks with the same global batch: the same decisions, and the same network."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from fallow import ErrorMass, Fraction, Schedule, Subsampler, Threshold
from fallow.arrays.distributed import rank_and_size
from ranks import in_ranks

SEEDS = 50
GLOBAL, EPOCHS = 24, 6
POLICIES = (ErrorMass(), Threshold(low="auto", high="auto"), Fraction(0.4, exponent=0.5))


def scripted(seed):
    """Train by scores that a seed has drawn, some of which fall, with wrong labels; return all decisions."""
    draw = torch.Generator().manual_seed(seed)
    n = 300 + 7 * seed  # the last batches are of many sizes
    labels = torch.arange(n) % 4
    ease = torch.randn(n, generator=draw).mul(2).sub(1.5).exp()
    ease[: n // 12] = 60
    policy = POLICIES[seed % len(POLICIES)]
    sub = Subsampler(n, policy, Schedule(EPOCHS, readmit_every=3), seed=seed, labels=labels)
    loader = sub.loader(range(n), GLOBAL // rank_and_size()[1])
    masks = []
    while sub.epoch < EPOCHS:
        scores = ease * 0.6**sub.epoch * torch.rand(n, generator=draw).add(0.5)
        for index, _ in loader:
            sub.record(index, scores[index], predicted=(labels[index] + (scores[index] > 3)) % 4)
        sub.remeasure(range(n), lambda index, _: scores[index])  # noqa: B023 - called before the next epoch
        sub.step()
        masks.append(sub.reason)
    return [*masks, *(record.used for record in sub.history), sub.scores]


def real(seed):
    """Train a network in float64; return what each epoch used, and the weights."""
    draw = torch.Generator().manual_seed(seed)
    n, size = 301, rank_and_size()[1]
    labels = torch.arange(n) % 4
    points = torch.randn(n, 3, generator=draw, dtype=torch.float64)
    data = TensorDataset(points + 3 * nn.functional.one_hot(labels, 4)[:, :3], labels)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 4)).double()
    optimizer = torch.optim.SGD(net.parameters(), 0.2, momentum=0.8)
    sub = Subsampler(n, ErrorMass(), Schedule(EPOCHS), seed=seed, labels=labels)
    loader = sub.loader(data, GLOBAL // size)
    while sub.epoch < EPOCHS:
        for index, (x, y) in loader:
            logits = net(x)
            loss = sub.record(index, cross_entropy(logits, y, reduction="none"), predicted=logits.argmax(1))
            optimizer.zero_grad()
            loss.backward()
            for weight in net.parameters() if size > 1 else ():
                dist.all_reduce(weight.grad)
                weight.grad /= size
            optimizer.step()
        sub.step()
    weights = torch.cat([weight.detach().flatten() for weight in net.parameters()])
    return [record.used for record in sub.history], weights


def all_seeds():
    return {"scripted": [scripted(seed) for seed in range(SEEDS)], "real": [real(seed) for seed in range(5)]}


def work(rank, size, folder):
    torch.save(all_seeds(), f"{folder}/{rank}.pt")


@pytest.fixture(scope="module")
def one():
    return all_seeds()


@pytest.fixture(scope="module", params=[2, 4], ids=lambda size: f"{size} ranks")
def ranks(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("equal")
    in_ranks(work, request.param, str(folder))
    return [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


@pytest.mark.slow
def test_scripted_scores_give_the_same_masks_to_the_bit(one, ranks):
    assert len(one["scripted"]) == SEEDS
    for rank in ranks:
        for seed, (found, expected) in enumerate(zip(rank["scripted"], one["scripted"], strict=True)):
            assert all(map(torch.equal, found, expected)), seed


@pytest.mark.slow
def test_something_is_left_out_under_every_policy(one):
    for first in range(len(POLICIES)):
        used = [found[EPOCHS : 2 * EPOCHS] for found in one["scripted"][first :: len(POLICIES)]]
        assert sum(any(not mask.all() for mask in masks) for masks in used) > len(used) / 2
    assert all(any(not mask.all() for mask in used) for used, _ in one["real"])


@pytest.mark.slow
def test_a_network_in_float64_has_the_same_decisions_and_weights(one, ranks):
    for rank in ranks:
        for (used, weights), (expected, trained) in zip(rank["real"], one["real"], strict=True):
            assert all(map(torch.equal, used, expected))
            assert torch.allclose(weights, trained, rtol=0, atol=1e-10)
