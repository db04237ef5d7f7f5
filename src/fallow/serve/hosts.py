"""The names that a server may be called by, and the pages that may ask it: exact names, no patterns."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

_HOST = re.compile(
    r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?))(?::([0-9]{1,5}))?"
)
_DOTTED = re.compile(r"(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){3}")
_ORIGIN = re.compile(r"(https?)://([^/?#@\s]{1,300})")
_PORTS = {"http": "80", "https": "443"}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Hosts:
    """The hosts that a request may name.

    Args:
        names: host names in lower case; ``localhost`` for a server that only this machine reaches.
        addresses: the addresses that it listens on.

    A request that reached the server at an address may name that address too. A page elsewhere whose name was
    made to lead here (DNS rebinding) names itself, and is refused.
    """

    names: frozenset[str]
    addresses: frozenset[Address] = field(default_factory=frozenset)

    def allow(self, host: str, local: str | None = None) -> bool:
        """Return whether a ``Host`` header may be answered.

        Args:
            host: the header.
            local: the address of this machine that the request came to; None if it came by a local socket.
        """
        found = parsed(host)
        if found is None:
            return False
        name, _ = found
        if isinstance(name, str):
            return name in self.names
        return name in self.addresses or (local is not None and name == _address(local))


def parsed(host: str) -> tuple[str | Address, str | None] | None:
    """Return the name or address and the port in a ``Host`` header; None if it is neither.

    >>> parsed("LocalHost:8000"), parsed("[::1]:80")[0].is_loopback, parsed("0x7f.1"), parsed("localhost.")
    (('localhost', '8000'), True, None, None)
    """
    match = _HOST.fullmatch(host)
    if match is None or (match[3] is not None and not 0 < int(match[3]) < 1 << 16):
        return None
    if match[1] is not None:
        address = _address(match[1])
        return None if address is None or address.version != 6 else (address, match[3])
    name = match[2].lower()
    if _DOTTED.fullmatch(name):
        address = _address(name)
        return None if address is None else (address, match[3])
    # Other spellings of addresses, as 127.1 and 0x7f000001, end in a part that begins with a digit.
    if name.rpartition(".")[2][0].isdigit() or ".." in name:
        return None
    return name, match[3]


def same_origin(origin: str, host: str) -> bool:
    """Return whether an ``Origin`` header is that of a page of this server, as ``Host`` names it.

    Either scheme will do: a proxy in front may speak HTTPS where this server speaks HTTP.
    """
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return False
    one, other = parsed(match[2]), parsed(host)
    if one is None or other is None or one[0] != other[0]:
        return False
    usual = _PORTS[match[1]]
    return (one[1] or usual) == (other[1] or usual)


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
