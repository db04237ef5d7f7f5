"""The server: pages and an API over the files of runs, which it only reads, behind a token."""
