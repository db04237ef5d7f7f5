"""``fallow gaps`` and ``fallow collect``: a trained run surveys data and names what is missing."""
