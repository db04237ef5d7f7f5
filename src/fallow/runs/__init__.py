"""The folder of a run: its files are written and read without torch, exported and verified."""
