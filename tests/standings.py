"""What policies are shown, for several test files."""

import numpy as np

from fallow.arrays.keyed import mix, uniform
from fallow.policies import ErrorMass, PolicyInput, Reason, RePB

EPOCHS = 40


def inputs(scores, *, seed=0, epoch=1, fresh=None, reason=None, columns=None, **more):
    """Return what a policy is shown: all samples scored in the epoch that ended, unless told otherwise."""
    scores = np.asarray(scores, np.float32)
    n = scores.size
    columns = {} if columns is None else columns
    key = mix(seed, epoch)
    given = {"epochs": EPOCHS, "labels": np.zeros(n, np.int32), "predicted": np.zeros(n, np.int32), **more}
    return PolicyInput(
        scores=scores,
        fresh=np.ones(n, np.bool_) if fresh is None else np.asarray(fresh, np.bool_),
        reason=np.zeros(n, np.uint8) if reason is None else np.asarray(reason, np.uint8),
        epoch=epoch,
        uniform=lambda start, stop: uniform(key, start, stop),
        column=lambda name, dtype: columns.setdefault(name, np.zeros(n, dtype)),
        **given,
    )


def distinct(n, seed=0):
    return np.random.default_rng(seed).permutation(np.linspace(0.01, 4.0, n)).astype(np.float32)


def noisy(n=2000, wrong=0.2, *, classes=10, seed=0, epoch=0):
    """A set of which a share has wrong labels, half learned: what a policy sees of it, and the truth.

    The network gives a right label a probability around 0.9 and a wrong one 0.002, and predicts the right
    class of nearly all; scores differ from epoch to epoch.
    """
    rng, still = np.random.default_rng([seed, epoch]), np.random.default_rng(seed)
    truth = still.integers(0, classes, n)
    bad = still.random(n) < wrong
    labels = np.where(bad, (truth + still.integers(1, classes, n)) % classes, truth)
    ease = still.exponential(0.35, n)
    right = ease * rng.lognormal(0, 0.3, n)
    denied = still.normal(6, 0.8, n) + rng.normal(0, 0.7, n)
    scores = np.where(bad, np.maximum(denied, 0.01), right)
    predicted = np.where(rng.random(n) < 0.97, truth, (truth + 1) % classes)
    shown = {"labels": labels.astype(np.int32), "predicted": predicted.astype(np.int32)}
    return {"scores": scores.astype(np.float32), **shown}, bad


def suited(policy, scores):
    """Return scores that the policy acts on: RePB's lie about 0, ErrorMass's may be close to it."""
    if isinstance(policy, ErrorMass):
        return np.where(scores < 1, scores / np.float32(20), scores)
    return scores - np.float32(2) if isinstance(policy, RePB) else scores


def removed(policy, scores, **more):
    return policy.decide(inputs(scores, **more)) != Reason.KEPT
