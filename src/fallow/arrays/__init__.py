"""Arithmetic on whole arrays of samples: keyed randomness, selection, bits, checksums, ranks."""
