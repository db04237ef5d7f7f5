"""The number that says "no score", for tensors and arrays alike; loads no torch."""

NO_SCORE = -(2.0**-126)
"""The value of a sample without a valid target: the smallest normal float32, negative.

Loss and score are one tensor, so "no score" has to be a number in it. This one moves no mean, has
no gradient, is not flushed to zero as a denormal number may be, and is negative where no divergence
can be. See :func:`fallow.scores.is_no_score`.
"""

NO_SCORE_FLOOR = -1e-30
"""Any value between this and 0 is read as no score, so that a weight does not hide it."""
