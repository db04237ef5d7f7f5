"""The folder of a run: each of its files, read back without torch, exported and verified."""
