"""The options of ``fallow train``: their meaning, their defaults, and the checks that they fit together."""
