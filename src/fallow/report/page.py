"""Parts of every page: files of this room, templates, and hashes of inline parts."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import missing_extra

LARGEST = 5_000_000
"""Maximum size of a page in bytes."""
_HERE = Path(__file__).parent


@cache
def own(name: str) -> str:
    """Return the text of a file of this room."""
    # A browser normalises line ends before it hashes an inline part.
    return (_HERE / name).read_text(encoding="utf-8").replace("\r\n", "\n")


def inline_hash(part: str) -> str:
    """Return the hash by which the Content-Security-Policy of a page allows an inline style or script."""
    return "sha256-" + b64encode(hashlib.sha256(part.encode()).digest()).decode()


def template(name: str) -> Any:
    """Return a template that escapes all values.

    Raises:
        ModuleNotFoundError: if jinja2 is missing.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ModuleNotFoundError:
        raise missing_extra("A report", "jinja2") from None
    # With StrictUndefined a misspelt name is an error and not an empty string.
    jinja = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return jinja.from_string(own(name))
