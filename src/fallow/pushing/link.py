"""The link that `fallow serve --receive` prints: where the server is, its token, and its certificate."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import invalid

_SECRET = re.compile(r"([A-Za-z0-9_-]{20,256})(?:\.([0-9a-f]{64}))?")
_PORTS = {"http": 80, "https": 443}
_STEP = "Copy the link that `fallow serve FOLDER --receive` prints."


@dataclass(frozen=True)
class Link:
    """Where runs are pushed to.

    Attributes:
        host, port: of the server.
        secure: whether it speaks TLS.
        prefix: the path before every URL, as ``/prefix``, or empty.
        token: for pushing.
        fingerprint: the SHA-256 of the server's certificate in hexadecimal digits; None if an authority that
            this machine knows must have signed it.
    """

    host: str
    port: int
    secure: bool
    prefix: str
    token: str
    fingerprint: str | None = None

    @property
    def place(self) -> str:
        """The server, without anything secret."""
        return f"{self.host}:{self.port}"


def parse_link(text: str) -> Link:
    """Return a link; what it says is never repeated in an error, since it holds a token.

    Raises:
        InvalidValue: if it is none, or leads over plain HTTP to another machine.
    """
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        raise invalid("The link must be a URL.", "something else", _STEP) from None
    secret = _SECRET.fullmatch(parts.fragment)
    if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None or parts.query:
        raise invalid("The link must begin with https:// or http://, and name a server.", "another", _STEP)
    if secret is None:
        raise invalid("The link must end in # and the token for pushing.", "none", _STEP)
    secure = parts.scheme == "https"
    if not secure and not _is_here(parts.hostname):
        step = "Start the server with --self_signed, or push through ssh -L 8000:localhost:8000 MACHINE."
        raise invalid("A link to another machine must begin with https://.", parts.hostname, step)
    if secret[2] is not None and not secure:
        raise invalid("A link with a fingerprint must begin with https://.", "http://", _STEP)
    port = _PORTS[parts.scheme] if port is None else port
    return Link(parts.hostname, port, secure, parts.path.rstrip("/"), secret[1], secret[2])


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
