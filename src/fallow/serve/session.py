"""A token for a session: what a page does once with the token in its link."""

from __future__ import annotations

from dataclasses import replace

from . import answers
from .asks import OfRun
from .call import Call
from .guard import held_up, no_token
from .overview import summary
from .tokens import Scopes


def session(call: Call) -> answers.Session:
    """Return what the token or session of a request allows."""
    return answers.Session(
        scopes=sorted(call.scopes),
        single=call.catalog.single,
        folder=call.catalog.name,
        version=call.about.version,
        summary=_opening(call),
    )


def _opening(call: Call) -> answers.Summary | None:
    """Return the overview of the only run; None if there are several, or it cannot be read now."""
    if call.catalog.single is None:
        return None
    try:
        return summary(replace(call, ask=OfRun()))
    except Exception:  # whoever asks for the overview itself is told; a session begins without
        return None


def login(call: Call) -> Scopes:
    """Return what the token, or the code, in a request allows.

    Raises:
        Refused: if it is none of this server, or too many were tried.
    """
    if call.tokens.is_held_up(call.client):
        raise held_up()
    scopes = call.tokens.scopes(call.ask.token) or call.tokens.redeem(call.ask.token)
    if not scopes:
        call.tokens.note_wrong(call.client)
        raise no_token()
    return scopes
