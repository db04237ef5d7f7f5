"""Who may ask: tokens for reading and for writing, codes that work once, and the sessions of browsers."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256

READ, WRITE = "read", "write"
_SESSIONS = 256
"""The most sessions at a time; the one that was used longest ago ends first."""
_LASTS = 12 * 3600.0
"""A session ends so many seconds after its last use."""
CODE_SECONDS = 60.0
"""How long a code may be exchanged for a session."""
_TRIES, _WITHIN = 10, 1.0
"""Wrong tokens that an address may try, in so many seconds."""
_ADDRESSES = 4096
_LONGEST = 256

Scopes = frozenset[str]


class Tokens:
    """The tokens of a server; new ones each time that it starts.

    Args:
        write: whether there is a token for writing.
        push: the token that may push runs and do nothing else, or None.
        clock: returns seconds that only grow.

    Attributes:
        read: a token with 256 random bits.
        write: one that may also write, or None.
    """

    def __init__(
        self, *, write: bool = False, push: str | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.read = secrets.token_urlsafe(32)
        self.write = secrets.token_urlsafe(32) if write else None
        self._push = push
        self._clock = clock
        self._sessions: OrderedDict[bytes, tuple[float, Scopes]] = OrderedDict()
        self._code: tuple[float, bytes] | None = None
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = threading.Lock()

    def scopes(self, token: str) -> Scopes:
        """Return what a token allows; nothing if it is none of ours."""
        given = token.encode("utf-8", "replace") if len(token) <= _LONGEST else b""
        found: Scopes = frozenset()
        # Every token is compared, so that the time tells nothing.
        for known, scopes in ((self.read, frozenset({READ})), (self.write or "", frozenset({READ, WRITE}))):
            if hmac.compare_digest(given, known.encode()) and known:
                found = scopes
        return found

    def may_push(self, token: str) -> bool:
        """Return whether a token is the one for pushing runs."""
        given = token.encode("utf-8", "replace") if len(token) <= _LONGEST else b""
        return hmac.compare_digest(given, (self._push or "").encode()) and self._push is not None

    def begin(self, scopes: Scopes) -> str:
        """Begin a session and return its name, which a cookie keeps; it is no token."""
        name = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[_hashed(name)] = self._clock(), scopes
            while len(self._sessions) > _SESSIONS:
                self._sessions.popitem(last=False)
        return name

    def new_code(self) -> str:
        """Return a code that may be exchanged once, within 60 s, for a session that reads.

        It takes the place of the one before. With 128 random bits it is short enough for a small drawing.
        """
        code = secrets.token_urlsafe(16)
        with self._lock:
            self._code = self._clock() + CODE_SECONDS, _hashed(code)
        return code

    def redeem(self, code: str) -> Scopes:
        """Return what a code allows, which is gone then; nothing if it is used, too old or none of ours."""
        given = _hashed(code) if len(code) <= _LONGEST else b""
        with self._lock:
            if self._code is None:
                return frozenset()
            until, known = self._code
            if not hmac.compare_digest(given, known):
                return frozenset()
            self._code = None
            return frozenset({READ}) if self._clock() < until else frozenset()

    def of_session(self, name: str) -> Scopes:
        """Return what a session allows; nothing if there is none of that name, or it has ended."""
        if len(name) > _LONGEST:
            return frozenset()
        key, now = _hashed(name), self._clock()
        with self._lock:
            used, scopes = self._sessions.pop(key, (0.0, frozenset[str]()))
            if not scopes or now - used > _LASTS:
                return frozenset()
            self._sessions[key] = now, scopes
            return scopes

    def end(self, name: str) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(_hashed(name), None)

    def is_held_up(self, address: str) -> bool:
        """Return whether an address has lately tried too many wrong tokens."""
        with self._lock:
            return len(self._recent(address)) >= _TRIES

    def note_wrong(self, address: str) -> None:
        """Note that an address has tried a wrong token."""
        with self._lock:
            self._wrong[address] = [*self._recent(address)[-_TRIES:], self._clock()]
            self._wrong.move_to_end(address)
            while len(self._wrong) > _ADDRESSES:
                self._wrong.popitem(last=False)

    def _recent(self, address: str) -> list[float]:
        since = self._clock() - _WITHIN
        return [when for when in self._wrong.get(address, ()) if when > since]


def _hashed(name: str) -> bytes:
    # A lookup of the name itself could tell by its time how much of it is right.
    return sha256(name.encode("utf-8", "replace")).digest()
