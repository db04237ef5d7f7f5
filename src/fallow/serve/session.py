"""A token for a session: what a page does once with the token in its link."""

from __future__ import annotations

from . import answers
from .call import Call
from .guard import held_up, no_token
from .tokens import Scopes


def session(call: Call) -> answers.Session:
    """Return what the token or session of a request allows."""
    return answers.Session(
        scopes=sorted(call.scopes),
        single=call.catalog.single,
        folder=call.catalog.name,
        version=call.about.version,
    )


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
