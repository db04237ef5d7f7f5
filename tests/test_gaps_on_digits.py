"""Gaps of a trained network: it cries no wolf where nothing is hidden, and buys what is hidden, not junk."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from fallow import ActivationDensity, kl_divergence
from fallow.gaps import Survey, Surveyor, choose, find_regions

IMAGES = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 16
FINE = torch.tensor(load_digits().target)
COARSE = (FINE >= 5).long()
BUDGET, OFFERED = 30, 500


def trained(rows, seed):
    """A network that tells small digits from large ones."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)
        )
        optimizer = torch.optim.Adam(net.parameters(), 3e-3)
        for _ in range(40):
            for part in rows[torch.randperm(len(rows))].split(64):
                loss = kl_divergence(net(IMAGES[part]), COARSE[part]).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return net.eval()


def batches(images, labels=None):
    for start in range(0, len(images), 300):
        part = slice(start, start + 300)
        yield images[part], None if labels is None else labels[part]


def split(seed, hidden=None):
    """Training rows without the hidden digit, and 500 and the other rows with it."""
    order = torch.randperm(len(IMAGES), generator=torch.Generator().manual_seed(seed))
    known, offered, test = order[:900], order[900 : 900 + OFFERED], order[900 + OFFERED :]
    return known if hidden is None else known[FINE[known] != hidden], offered, test


def surveyed(net, known):
    """What looks at samples, and the training samples as they look."""
    surveyor = Surveyor(ActivationDensity(net), net).learn(batches(IMAGES[known], COARSE[known]))
    return surveyor, surveyor.survey(batches(IMAGES[known], COARSE[known]), training=True)


def false_alarms(seeds):
    found = []
    for seed in seeds:
        known, offered, test = split(seed)
        surveyor, training = surveyed(trained(known, seed), known)
        fresh = surveyor.survey(batches(IMAGES[torch.cat([offered, test])]))
        both = Survey.joined([training, fresh])
        mixed = both[np.random.default_rng(seed).permutation(len(both))]
        found += [find_regions(training, fresh), find_regions(mixed[:900], mixed[900:])]
    return sum(len(one.missing) for one in found)


@pytest.mark.slow
def test_where_nothing_is_hidden_nothing_is_missing():
    assert false_alarms(range(2)) == 0


@pytest.mark.slow
def test_where_nothing_is_hidden_nothing_is_missing_in_twenty_runs():
    assert false_alarms(range(2, 22)) <= 1


def bought(hidden, seed):
    """Accuracy on the hidden digit with what was chosen and with random candidates, and the share of junk."""
    known, offered, test = split(seed, hidden)
    draw = torch.Generator().manual_seed(seed + 50)
    source = IMAGES[offered[:75]]
    mixed = source.flatten(1)[:, torch.randperm(64, generator=draw)].view(source.shape)
    pool = torch.cat([IMAGES[offered], mixed, torch.rand(source.shape, generator=draw)])
    surveyor, training = surveyed(trained(known, seed), known)
    chosen = [one.row for one in choose(training, surveyor.survey(batches(pool)), BUDGET).choices]
    random = torch.randperm(len(pool), generator=draw)[:BUDGET].tolist()
    accuracy, there = [], test[FINE[test] == hidden]
    for rows in (chosen, random):
        after = trained(torch.cat([known, offered[[row for row in rows if row < OFFERED]]]), seed + 7)
        accuracy.append(float((after(IMAGES[there]).argmax(1) == COARSE[there]).float().mean()))
    return *accuracy, np.mean(np.array(chosen) >= OFFERED), len(chosen)


@pytest.mark.slow
def test_junk_is_not_bought():
    found = [bought(hidden, 0) for hidden in (3, 7)]
    assert [count for *_, count in found] == [BUDGET] * 2
    assert np.mean([junk for _, _, junk, _ in found]) <= 0.1
    assert np.mean([ours - random for ours, random, _, _ in found]) > 0.2


@pytest.mark.slow
def test_what_is_bought_of_a_pool_with_junk_teaches_the_hidden_digit():
    found = np.array([bought(hidden, seed) for seed in range(2) for hidden in range(10)])
    ours, random, junk, _ = found.mean(0)
    assert junk <= 0.1
    assert ours > random + 0.15
