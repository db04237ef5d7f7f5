"""The two usage figures of US 2020/0302273 A1: ten samples, eight epochs, removed for good or re-admitted."""

import numpy as np
import torch

import fallow

LOW = 0.1
LEARNED_AFTER = np.array([0, 0, 1, 1, 2, 3, 4, 6, 8, 8])
"""The epoch whose training brings each sample's score under ``low``; 8 is never."""

REMOVED_FOR_GOOD = np.array(
    [
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 1, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 0, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 0, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1],
    ],
    bool,
)
READMITTED_EVERY_SECOND_EPOCH = np.array(
    [
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 0, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1],
    ],
    bool,
)


def train(schedule, score):
    """Return which samples each epoch used, as its history tells: bool ``(8, 10)``."""
    subsampler = fallow.Subsampler(10, fallow.Threshold(low=LOW), schedule, seed=4)
    loader = subsampler.loader(list(range(10)), batch_size=3)
    for epoch in range(8):
        given = []
        for index, batch in loader:
            assert torch.equal(index, batch)
            given += index.tolist()
            subsampler.record(index, torch.tensor([score(epoch, i) for i in index.tolist()]))
        subsampler.step()
        assert sorted(given) == subsampler.history[epoch].used.nonzero()[:, 0].tolist()
    return np.stack([record.used.numpy() for record in subsampler.history])


def falling(epoch, sample):
    """Return a score that falls under ``low`` in the epoch of ``LEARNED_AFTER`` and stays there."""
    return 0.05 if epoch >= LEARNED_AFTER[sample] else 1.0


def test_samples_removed_for_good():
    used = train(fallow.Schedule(epochs=8, readmit_every=None), falling)
    assert np.array_equal(used, REMOVED_FOR_GOOD)


def test_samples_given_back_before_every_second_epoch():
    used = train(fallow.Schedule(epochs=8, readmit_every=2), falling)
    assert np.array_equal(used, READMITTED_EVERY_SECOND_EPOCH)


def test_a_forgotten_sample_trains_again_once_it_is_given_back():
    def forgetful(epoch, sample):
        return 1.0 if sample == 0 and epoch >= 2 else falling(epoch, sample)

    for_good = train(fallow.Schedule(epochs=8), forgetful)
    assert for_good[:, 0].tolist() == [True] + [False] * 7
    returned = train(fallow.Schedule(epochs=8, readmit_every=2), forgetful)
    assert returned[:, 0].tolist() == [True, False, True, True, True, True, True, True]
    assert np.array_equal(returned[:, 1:], READMITTED_EVERY_SECOND_EPOCH[:, 1:])
