"""Names of files as the API shows them: nothing that it answers says where on this machine anything lies."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..report.text import passage
from ..runs.sample_names import relative

# Absolute paths inside sentences; also of Windows, and those with a tilde. A single slash is no path.
_PATH = re.compile(
    r"(?<![\w.~/\\:-])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\'\"<>|:;,()\[\]]+[/\\])+([^\s/\\'\"<>|:;,()\[\]]*)"
)
_URL_FILE = re.compile(r"file://+", re.IGNORECASE)


def named(file: str | None, folder: str | None, limit: int = 400) -> str | None:
    """Return the name of a sample's file: relative to the folder of the data, or its last part.

    >>> named("/pictures/ash/1.png", "/pictures"), named("/else/2.png", "/pictures"), named("d.csv:7", None)
    ('ash/1.png', '2.png', 'd.csv:7')
    """
    if not file:
        return None
    shown = relative(file, folder) if folder else file
    return passage(last_part(shown) if _is_absolute(shown) else shown, limit)


def last_part(path: str) -> str:
    r"""Return the last part of an absolute path; other names stay.

    >>> last_part("/data/photos/"), last_part("C:\\data\\x.npz"), last_part("hf:mnist")
    ('photos', 'x.npz', 'hf:mnist')
    """
    if not _is_absolute(path):
        return path
    return re.split(r"[/\\]+", path.rstrip("/\\"))[-1] or "data"


def _is_absolute(path: str) -> bool:
    return path.startswith(("/", "\\", "~")) or re.match(r"[A-Za-z]:[/\\]", path) is not None


class Places:
    """The places that must not be told: known folders, and whatever looks like an absolute path.

    Args:
        folders: folders of this machine with the name that stands for each; the deepest first.
    """

    def __init__(self, folders: Iterable[tuple[Path, str]]) -> None:
        known = dict[str, str]()
        for folder, name in folders:
            for path in (os.path.abspath(folder), os.path.realpath(folder), os.fspath(folder)):
                if len(path) > 1:
                    known.setdefault(path, name)
        self._known = sorted(known.items(), key=lambda pair: -len(pair[0]))

    def hidden(self, text: str) -> str:
        """Return a sentence without places: paths are relative to a known folder, or only their last part."""
        text = _URL_FILE.sub("/", text)
        for path, name in self._known:
            text = text.replace(path + os.sep, "").replace(path, name)
        return _PATH.sub(lambda match: match[1] or "…", text)

    def hidden_in(self, value: Any) -> Any:
        """Return plain values with every text in them hidden."""
        if isinstance(value, str):
            return self.hidden(value)
        if isinstance(value, dict):
            return {self.hidden(str(key)): self.hidden_in(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.hidden_in(part) for part in value]
        return value
