"""The options of ``fallow train``: what each means, its default, and whether all fit together."""
