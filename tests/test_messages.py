"""Paths in messages."""

import os

from fallow.datasets.messages import shown


def test_a_path_is_shown_in_one_line_of_bounded_length():
    assert shown("a" * 300) == "..." + "a" * 200
    assert shown(os.fsdecode(b"\x1b[31m\xe9")) == "\\x1b[31m\\udce9"
    assert shown("caf\u00e9") == "caf\u00e9"
