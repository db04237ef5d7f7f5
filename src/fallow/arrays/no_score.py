"""The number that means *no score*, in tensors and arrays; needs no torch."""

NO_SCORE = -(2.0**-126)
"""The value of a sample without a valid target: the smallest normal float32, negative.

Loss and score are one tensor, so *no score* has to be a number in it. This one changes no mean, is not
flushed to zero as a denormal number may be, and is negative, which no divergence is. See
:func:`fallow.scores.is_no_score`.
"""

NO_SCORE_FLOOR = -1e-30
"""Values between this and 0 are read as *no score*, so that a weighted one is still recognised."""
