"""Why a prompt is left out."""

from __future__ import annotations

from enum import IntEnum


class PromptReason(IntEnum):
    """Why a prompt is left out of an epoch; 0 if it is drawn."""

    KEPT = 0
    SOLVED = 1
    HOPELESS = 2

    @property
    def text(self) -> str:
        """The reason as displayed."""
        return self.name.lower()
