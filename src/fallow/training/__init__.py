"""Build a run from its options, train it with Lightning, checkpoint and resume it, and write its results."""
