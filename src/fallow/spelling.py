r"""Text from anywhere, as it is shown: what would be unseen, or what a terminal would obey, is spelled.

A name of a class or a file may hold anything. Control characters move the cursor, colour what follows or
rename the window; marks of direction turn a line around; a line break begins a line that looks like one of
ours. All of them are shown as ``\u001b``.
"""

from __future__ import annotations

import re

_UNSEEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls, C0 and C1, but for tab and line feed
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction
    "\u2028\u2029"  # ends of lines and paragraphs
    "\u200b\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # nothing to see
    "\ud800-\udfff"  # halves of surrogate pairs
)
_IN_TEXT = re.compile(f"[{_UNSEEN}]")
_IN_A_LINE = re.compile(f"[\t\n{_UNSEEN}]")


def spelled(text: str) -> str:
    r"""Return a text of several lines; tabs and line feeds stay.

    >>> spelled("a\u202eb\x1b[2J\n")
    'a\\u202eb\\u001b[2J\n'
    """
    return _IN_TEXT.sub(_code, text)


def one_line(text: str) -> str:
    r"""Return a text on one line.

    >>> one_line("a\nb")
    'a\\u000ab'
    """
    return _IN_A_LINE.sub(_code, text)


def _code(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
