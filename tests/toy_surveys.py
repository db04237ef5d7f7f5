"""Surveys made by hand, for several test files: dense samples, and thin ones that lie together or alone."""

import numpy as np

from fallow.gaps import Survey

DIM = 16


def survey(places, thin, *, labels=None, predicted=None, novelty=None):
    """Samples at some places; ``thin`` are above all the others in surprise and percentile."""
    places, thin = np.asarray(places, np.float32), np.asarray(thin, bool)
    n = len(places)
    spread = np.linspace(0, 1, n) if n else np.zeros(0)
    percentile = np.where(thin, 0.91 + 0.08 * spread, 0.89 * spread).astype(np.float32)
    none = np.full(n, -1, np.int64)
    return Survey(
        places,
        20.0 * percentile.astype(np.float64),
        percentile,
        np.full(n, 0.5, np.float32) if novelty is None else np.asarray(novelty, np.float32),
        none if labels is None else np.asarray(labels, np.int64),
        none if predicted is None else np.asarray(predicted, np.int64),
    )


def centre(number, far=9.0):
    """Return a place far out, another one for each number."""
    way = np.random.default_rng((number, 77)).normal(size=DIM)
    return far * way / np.linalg.norm(way)


def cluster(number, count, draw, spread=1.0):
    """Return samples around a centre."""
    return centre(number) + spread * draw.normal(size=(count, DIM))


def background(count, draw, share=0.1, kinds=12):
    """Return places and which are thin: a dense middle, and so large a share in thin groups around it."""
    few = round(share * count)
    kind = draw.integers(kinds, size=few)
    around = np.stack([centre(100 + k) for k in kind]) if few else np.zeros((0, DIM))
    places = np.concatenate([draw.normal(size=(count - few, DIM)), around + draw.normal(size=(few, DIM))])
    return places, np.arange(count) >= count - few


def world(count, seed, extra=(), *, share=0.1, **options):
    """Return the survey of ``count`` samples of the background, and more thin ones at the end."""
    draw = np.random.default_rng((seed, count, len(extra)))
    places, thin = background(count, draw, share)
    more = np.asarray(extra, float).reshape(-1, DIM)
    every = np.concatenate([places, more])
    return survey(every, np.r_[thin, np.ones(len(more), bool)], **options)
