"""The rich console that prints tables, cards and progress bars."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from ..spelling import one_line, spelled
from .streams import complain, redirect_to_null


class RichConsole(Console):
    """A console that shows text literally: no emoji names, no highlights, control characters escaped."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, emoji=False, **options)
        if self.is_jupyter:
            # Plain lines form one output there; rich's own way is one for each line. A kernel says of its
            # streams that they were a terminal.
            options = {"width": self.width, **options, "force_jupyter": False, "force_terminal": False}
            super().__init__(highlight=False, emoji=False, **options)

    @property
    def file(self) -> IO[str]:
        """The output stream; a failed write does not end a training."""
        return _FaultTolerant(super().file)  # type: ignore[return-value]

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments to print, with control characters in texts escaped."""
        for part in super().render(renderable, options):
            # Control segments are rich's own, such as moves of the cursor.
            yield part if part.control else Segment(spelled(part.text), part.style)


class _FaultTolerant:
    """A stream that warns once and discards its output if it cannot be written, as on a full disk."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._try(lambda: self._stream.write(text)) or len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, action: Callable[[], int | None]) -> int | None:
        try:
            return action()
        except BrokenPipeError:
            raise
        except OSError as error:
            redirect_to_null(self._stream)  # type: ignore[arg-type]
            complain(f"fallow: output cannot be written ({error.strerror}); continuing without it.")
            return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def cell(text: str, style: str = "") -> Text:
    """Return a text for a table or a card: escaped, on one line, without markup."""
    return Text(one_line(text), style)
