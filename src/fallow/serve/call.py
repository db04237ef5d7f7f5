"""One request as the routes see it: what is asked, of which server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .catalog import Catalog
from .receiving import Receiver
from .served_run import ServedRun
from .tokens import Scopes, Tokens


@dataclass(frozen=True)
class About:
    """The server itself, as a person may know it.

    Attributes:
        version, python: what runs.
        address: where it listens.
        secure: whether it speaks TLS.
        fingerprint: of its certificate, or None.
        started: when, in ISO 8601.
    """

    version: str
    python: str
    address: str
    secure: bool
    fingerprint: str | None
    started: str


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
        catalog: the runs.
        about: the server.
        tokens: who may ask.
        ask: the parameters, of the class that the route names.
        scopes: what the token allows.
        session: the name of the session, or None.
        client: the address that the request came from.
        body: the bytes that were sent, if they are no parameters.
        receiver: takes runs of other machines, or None.
    """

    catalog: Catalog
    about: About
    tokens: Tokens
    ask: Any
    scopes: Scopes = frozenset()
    session: str | None = None
    client: str = ""
    body: bytes = b""
    receiver: Receiver | None = None

    def run(self) -> ServedRun:
        """Return the run that is asked for."""
        return self.catalog.open(self.ask.run)
