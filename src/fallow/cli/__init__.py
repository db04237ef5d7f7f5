"""The command line: parsing, help, exit codes, and the commands that read a run."""
