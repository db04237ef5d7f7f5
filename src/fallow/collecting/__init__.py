"""``fallow gaps`` and ``fallow collect``: a trained run looks at data, and says what is missing."""
