"""What a request is answered if it fails: a status, a code for programs, a sentence for people."""

from __future__ import annotations


class Refused(Exception):
    """A request that is not answered.

    Attributes:
        status: of HTTP.
        code: a word for programs.
        message: a sentence for people: the rule, the value found, the next step.
        headers: of the answer, besides the usual ones.
    """

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers = headers or {}


def unknown(what: str, found: str = "") -> Refused:
    """Return the answer for something that is not there."""
    return Refused(404, "unknown", f"{what} must exist.{f' Found {found:.60}.' if found else ''}")


def nothing(sentence: str) -> Refused:
    """Return the answer for a part that this run does not have."""
    return Refused(404, "none", sentence)


def wrong(sentence: str) -> Refused:
    """Return the answer for a request with a wrong word or value."""
    return Refused(400, "wrong", sentence)
