"""Runs are sent to a server while they train, by a process that only reads their files."""
