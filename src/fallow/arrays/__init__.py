"""Arithmetic on arrays of samples: keyed randomness, selection, bitsets, checksums, collectives."""
