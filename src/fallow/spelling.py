r"""Escape invisible characters and terminal controls in text of unknown origin.

The name of a class or a file may contain anything. Control characters move the cursor, change colours or
rename the window; direction marks reverse a line; a line break starts a line that looks like fallow's own
output. All of them are shown as ``\u001b``.
"""

from __future__ import annotations

import re

_UNSEEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 and C1 controls except tab and line feed
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction marks
    "\u2028\u2029"  # line and paragraph separators
    "\u200b\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # zero width
    "\ud800-\udfff"  # lone surrogates
)
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_IN_TEXT = re.compile(f"[{_UNSEEN}]")
_IN_A_LINE = re.compile(f"[\t\n{_UNSEEN}]")


def kebab_case(name: str) -> str:
    """Return the name of a class as the command line spells it.

    >>> kebab_case("KLDivergence"), kebab_case("TotalVariation")
    ('kl-divergence', 'total-variation')
    """
    return _WORDS.sub("-", name).lower()


def spelled(text: str) -> str:
    r"""Escape a text of several lines; tabs and line feeds stay.

    >>> spelled("a\u202eb\x1b[2J\n")
    'a\\u202eb\\u001b[2J\n'
    """
    return _IN_TEXT.sub(_code, text)


def one_line(text: str) -> str:
    r"""Escape a text and keep it on one line.

    >>> one_line("a\nb")
    'a\\u000ab'
    """
    return _IN_A_LINE.sub(_code, text)


def _code(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> plural(1, "file"), plural(1200, "file")
    ('1 file', '1,200 files')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
