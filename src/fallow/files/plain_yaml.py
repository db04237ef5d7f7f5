"""Read YAML of unknown origin as plain values, within bounds."""

from __future__ import annotations

from typing import Any

import yaml

from ..errors import damaged
from .checked_json import DEEPEST, check_plain, one_line

LARGEST = 1 << 18
"""Maximum size in bytes; a ``config.yaml`` of fallow has about 2,000."""


class _Loader(yaml.SafeLoader):
    """A loader without aliases, which can expand exponentially, and without dates, which may be invalid."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Return the next node; PyYAML calls this for every value, so depth is counted here."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias (*): write the value out")
        self._depth += 1
        if self._depth > DEEPEST:
            raise yaml.YAMLError(f"lists or mappings nested deeper than {DEEPEST}")
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


# A mapping of its own, since that of SafeLoader serves all users of PyYAML.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:timestamp"]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_yaml(data: bytes, name: str, step: str = "") -> Any:
    """Return the plain values in YAML.

    Raises:
        DamagedData: if it is too large, not YAML in UTF-8, or uses aliases.

    >>> parse_yaml(b"{low: 0.1, began: 2026-02-30}", "config.yaml")
    {'low': 0.1, 'began': '2026-02-30'}
    """
    if len(data) > LARGEST:
        raise damaged(f"{name} must have at most {LARGEST:,} bytes.", f"{len(data):,}", step)
    try:
        # Some editors begin a file with a byte order mark.
        value = _Loader(data.decode("utf-8-sig")).get_single_data()
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise damaged(f"{name} must be readable YAML.", one_line(error), step) from None
    check_plain(value, name, step)
    return value
