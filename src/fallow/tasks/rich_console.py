"""Rich's console, through which tables, cards and bars go."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from ..spelling import one_line, spelled


class RichConsole(Console):
    """A console on which text stays text: no emoji by name, no highlights, and no controls but its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, emoji=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the parts of what is shown; controls in a text are spelled."""
        for part in super().render(renderable, options):
            yield part if part.control else Segment(spelled(part.text), part.style)


def cell(text: str, style: str = "") -> Text:
    """Return a text for a table or a card: on one line until it is folded, without markup."""
    return Text(one_line(text), style)
