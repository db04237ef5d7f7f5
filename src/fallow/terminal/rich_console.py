"""Rich's console, through which tables, cards and bars go."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from ..spelling import one_line, spelled
from .streams import complain, give_up


class RichConsole(Console):
    """A console on which text stays text: no emoji by name, no highlights, and no controls but its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, emoji=False, **options)

    @property
    def file(self) -> IO[str]:
        """Where to print: what cannot be printed there ends no training."""
        return _Steady(super().file)  # type: ignore[return-value]

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the parts of what is shown; controls in a text are spelled."""
        for part in super().render(renderable, options):
            yield part if part.control else Segment(spelled(part.text), part.style)


class _Steady:
    """A stream that is left alone for good, and said so once, if it cannot be written, as on a full disk."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._tried(lambda: self._stream.write(text)) or len(text)

    def flush(self) -> None:
        self._tried(self._stream.flush)

    def _tried(self, action: Callable[[], int | None]) -> int | None:
        try:
            return action()
        except BrokenPipeError:
            raise
        except OSError as error:
            give_up(self._stream)  # type: ignore[arg-type]
            complain(f"fallow: output cannot be written ({error.strerror}); going on without it.")
            return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def cell(text: str, style: str = "") -> Text:
    """Return a text for a table or a card: on one line until it is folded, without markup."""
    return Text(one_line(text), style)
