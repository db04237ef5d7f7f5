"""What is known of draws without replacement."""

from itertools import permutations

import numpy as np


def inclusion(odds, keep):
    """Return how likely each row is among ``keep`` drawn one by one without replacement (exact)."""
    share = np.zeros(len(odds))
    for drawn in permutations(range(len(odds)), keep):
        left, chance = sum(odds), 1.0
        for i in drawn:
            chance *= odds[i] / left
            left -= odds[i]
        share[list(drawn)] += chance
    return share
