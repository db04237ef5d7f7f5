"""What every page is made with: its own files, a template, and hashes for what stands inline."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import missing_extra

LARGEST = 5_000_000
"""Bytes that a page may have."""
_HERE = Path(__file__).parent


@cache
def own(name: str) -> str:
    """Return the text of a file of this room."""
    return (_HERE / name).read_text(encoding="utf-8").replace("\r\n", "\n")


def inline_hash(part: str) -> str:
    """Return what a page's policy names a style or a script by."""
    return "sha256-" + b64encode(hashlib.sha256(part.encode()).digest()).decode()


def template(name: str) -> Any:
    """Return a template, everything in it escaped.

    Raises:
        ModuleNotFoundError: without jinja2.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ModuleNotFoundError:
        raise missing_extra("A report", "jinja2") from None
    room = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return room.from_string(own(name))
