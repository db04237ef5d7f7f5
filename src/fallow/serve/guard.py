"""What every request passes before anything else looks at it: host, origin, limits, token.

Pure ASGI around the whole application, so that no route, method or kind of connection goes by it. What it
does not know is refused.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any

from .errors import Refused
from .hosts import Hosts, same_origin
from .tokens import WRITE, Scopes, Tokens

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LONGEST_URL, LARGEST_HEADERS, MOST_HEADERS, LARGEST_BODY = 1 << 13, 1 << 16, 64, 1 << 16
"""Limits of a request: bytes of its URL, bytes and number of its headers, bytes of its body."""
LARGEST_PIECE = 1 << 20
"""The largest piece of a file that is pushed, in bytes."""
BODY_SECONDS, ANSWER_SECONDS = 10.0, 60.0
"""How long a body may take to come, and an answer to be taken."""
LOGIN, API, PUSH = "/api/session", "/api/", "/api/push"
READING, WRITING, PUSHING = ("GET", "HEAD"), ("POST",), ("PUT", "POST")
_OWN_SITE = (None, "same-origin", "none")
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Headers of every answer that does not set them itself."""


@dataclass(frozen=True)
class Site:
    """Where a server is reached.

    Attributes:
        hosts: the names that it may be called by.
        prefix: the path before every URL, as ``/prefix``, or empty.
        secure: whether it speaks TLS itself.
        port: part of the name of its cookie, since browsers share cookies between ports; 0 without one.
    """

    hosts: Hosts
    prefix: str = ""
    secure: bool = False
    port: int = 0

    @property
    def cookie(self) -> str:
        """The name of the cookie."""
        # __Host- binds a cookie to this host, but only for the whole of it.
        lead = "__Host-" if self.secure and not self.prefix else ""
        return f"{lead}fallow-{self.port}"

    def set_cookie(self, value: str) -> str:
        """Return the header that sets the cookie, or removes it if ``value`` is empty."""
        parts = [f"{self.cookie}={value}", f"Path={self.prefix or '/'}", "HttpOnly", "SameSite=Strict"]
        return "; ".join(parts + ["Secure"] * self.secure + ["Max-Age=0"] * (not value))


class Guard:
    """The application behind all rules.

    Args:
        app: what answers; its scope has ``scopes`` (what the token allows), ``body`` (the whole body), and
            ``session`` (the name of the session, or None).
        site: where the server is reached.
        tokens: who may ask.
    """

    def __init__(self, app: App, site: Site, tokens: Tokens) -> None:
        self.app, self.site, self.tokens = app, site, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            raise RuntimeError(f"The server answers HTTP alone. Found {scope['type']}.")
        try:
            passed = await self._passed(scope, receive)
        except Refused as refused:
            await _refuse(refused, scope, _Dressed(send))
            return
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self.app(passed, receive, _Dressed(send))
        except TimeoutError:
            # The client takes no more of its answer: the connection is given up.
            raise ConnectionError("An answer was not taken in time.") from None

    async def _passed(self, scope: Scope, receive: Receive) -> Scope:
        """Return the scope that the application sees.

        Raises:
            Refused: if a rule is broken.
        """
        headers = _headers(scope)
        host = self._host(headers, scope)
        method, path = scope["method"], self._path(scope)
        pushes = path == PUSH and method in PUSHING
        if method not in READING + WRITING and not pushes:
            raise Refused(405, "method", "A request must be GET, HEAD or POST.", {"allow": "GET, HEAD, POST"})
        self._check_site(headers, host, method, path)
        passed = {
            **scope,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "scopes": frozenset(),
            "session": None,
        }
        if pushes:
            self._check_push(headers, passed)
        elif path.startswith(API):
            by_cookie = self._authorise(headers, passed)
            if method in WRITING:
                self._check_write(headers, passed, by_cookie=by_cookie)
        elif method in WRITING:
            raise Refused(405, "method", "Pages are read only.", {"allow": "GET, HEAD"})
        passed["body"] = await _body(
            headers, receive, method, LARGEST_PIECE if method == "PUT" else LARGEST_BODY
        )
        return passed

    def _host(self, headers: dict[bytes, list[bytes]], scope: Scope) -> str:
        found = headers.get(b"host", [])
        local = scope.get("server")
        host = found[0].decode("latin-1") if len(found) == 1 else ""
        if not self.site.hosts.allow(host, local[0] if local and local[1] is not None else None):
            rule = f"The Host of a request must be a name of this server. Found {host[:80]!r}."
            raise Refused(400, "wrong", f"{rule} Use the one in the link that fallow serve printed.")
        return host

    def _path(self, scope: Scope) -> str:
        raw = scope.get("raw_path") or scope["path"].encode()
        if len(raw) + len(scope["query_string"]) > LONGEST_URL:
            raise Refused(414, "limit", f"A URL must have at most {LONGEST_URL:,} bytes.")
        path = str(raw.decode("latin-1"))
        prefix = self.site.prefix
        # A proxy may have taken the prefix away, or not.
        if prefix and (path == prefix or path.startswith(f"{prefix}/")):
            path = path[len(prefix) :] or "/"
        return path

    def _check_site(self, headers: dict[bytes, list[bytes]], host: str, method: str, path: str) -> None:
        """Raise if a page of another site asks; a link that somebody follows to a page is fine."""
        origin, site = _single(headers, b"origin"), _single(headers, b"sec-fetch-site")
        follows = (
            method == "GET" and not path.startswith(API) and _single(headers, b"sec-fetch-mode") == "navigate"
            and _single(headers, b"sec-fetch-dest") == "document"
        )  # fmt: skip
        if origin is not None and not same_origin(origin, host):
            raise Refused(403, "forbidden", "A request must come from a page of this server.")
        if site not in _OWN_SITE and not follows:
            raise Refused(403, "forbidden", "A request must come from a page of this server.")

    def _authorise(self, headers: dict[bytes, list[bytes]], passed: Scope) -> bool:
        """Put into the scope what the token allows; return whether it was a cookie's.

        Raises:
            Refused: if there is none of ours.
        """
        client = passed.get("client")
        address = client[0] if client else ""
        bearer, session = _single(headers, b"authorization"), self._session(headers)
        scopes: Scopes = frozenset()
        if bearer is not None:
            if self.tokens.is_held_up(address):
                raise held_up()
            word, _, token = bearer.partition(" ")
            scopes = self.tokens.scopes(token) if word.lower() == "bearer" else frozenset()
            if not scopes:
                self.tokens.note_wrong(address)
        elif session is not None:
            scopes = self.tokens.of_session(session)
            passed["session"] = session
        passed["scopes"] = scopes
        # Only to exchange a token for a session needs none yet.
        if not scopes and not (passed["path"] == LOGIN and passed["method"] == "POST" and bearer is None):
            raise no_token()
        return bearer is None

    def _session(self, headers: dict[bytes, list[bytes]]) -> str | None:
        values = []
        for header in headers.get(b"cookie", []):
            try:
                cookies = SimpleCookie(header.decode("latin-1"))
            except CookieError:
                continue
            values += [cookies[self.site.cookie].value] if self.site.cookie in cookies else []
            # A parser of cookies keeps the last of two; another one may have looked at the first.
            if header.count(f"{self.site.cookie}=".encode()) > 1:
                raise Refused(400, "wrong", "A request must have one cookie of this server.")
        if len(values) > 1:
            raise Refused(400, "wrong", "A request must have one cookie of this server.")
        return values[0] if values else None

    def _check_write(self, headers: dict[bytes, list[bytes]], passed: Scope, *, by_cookie: bool) -> None:
        # A browser sends cookies by itself, so that a page elsewhere must not be able to make it write.
        if by_cookie and (
            _single(headers, b"origin") is None or _single(headers, b"sec-fetch-site") not in _OWN_SITE
        ):
            raise Refused(403, "forbidden", "A browser must name its page when it writes.")
        kind = (_single(headers, b"content-type") or "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(415, "limit", "What is written must be application/json.")
        if not passed["path"].startswith(LOGIN) and WRITE not in passed["scopes"]:
            step = "Start the server with --write, and open its second link."
            raise Refused(403, "forbidden", f"To write needs a token for writing. {step}")

    def _check_push(self, headers: dict[bytes, list[bytes]], passed: Scope) -> None:
        """Raise if the request has not the token for pushing in its header; nothing else will do."""
        client = passed.get("client")
        address = client[0] if client else ""
        word, _, token = (_single(headers, b"authorization") or "").partition(" ")
        if word.lower() != "bearer":
            raise no_token()
        if self.tokens.is_held_up(address):
            raise held_up()
        if not self.tokens.may_push(token):
            if self.tokens.scopes(token):
                rule = "To push needs the token for pushing. This one is for reading."
                step = "Start the server with --receive, and push to the link that it prints for it."
                raise Refused(403, "forbidden", f"{rule} {step}")
            self.tokens.note_wrong(address)
            raise no_token()
        wanted = "application/octet-stream" if passed["method"] == "PUT" else "application/json"
        kind = (_single(headers, b"content-type") or "").partition(";")[0].strip().lower()
        if kind != wanted:
            raise Refused(415, "limit", f"What is pushed must be {wanted}.")


def no_token() -> Refused:
    """Return the answer for a request without a token of this server."""
    sentence = (
        "A request must have a token of this server. Open the link that fallow serve printed when it started."
    )
    return Refused(401, "token", sentence, {"www-authenticate": 'Bearer realm="fallow"'})


def held_up() -> Refused:
    """Return the answer for an address that tries many tokens."""
    return Refused(429, "limit", "There were too many wrong tokens. Wait a second.", {"retry-after": "1"})


async def _refuse(refused: Refused, scope: Scope, send: Send) -> None:
    body = json.dumps({"error": refused.message, "code": refused.code}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **refused.headers}
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    # The rest of a body that was not read could pose as another request.
    pairs += [(b"connection", b"close")] if refused.status in (400, 408, 413, 414, 431) else []
    await send({"type": "http.response.start", "status": refused.status, "headers": pairs})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


class _Dressed:
    """A channel for an answer that adds the headers of every answer."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {name.lower() for name, _ in message["headers"]}
            more = [(k.encode(), v.encode()) for k, v in _HEADERS.items() if k.encode() not in own]
            message = {**message, "headers": [*message["headers"], *more]}
        await self._send(message)


def _headers(scope: Scope) -> dict[bytes, list[bytes]]:
    """Return the values of each header.

    Raises:
        Refused: if they are too many or too long.
    """
    found: dict[bytes, list[bytes]] = {}
    if len(scope["headers"]) > MOST_HEADERS:
        raise Refused(431, "limit", f"A request must have at most {MOST_HEADERS} headers.")
    if sum(len(name) + len(value) for name, value in scope["headers"]) > LARGEST_HEADERS:
        raise Refused(431, "limit", f"The headers of a request must have at most {LARGEST_HEADERS:,} bytes.")
    for name, value in scope["headers"]:
        found.setdefault(name.lower(), []).append(value)
    return found


def _single(headers: dict[bytes, list[bytes]], name: bytes) -> str | None:
    """Return the value of a header that may stand once; None without it.

    Raises:
        Refused: if it stands twice.
    """
    values = headers.get(name, [])
    if len(values) > 1:
        raise Refused(400, "wrong", f"A request must have one header {name.decode()}.")
    return values[0].decode("latin-1") if values else None


async def _body(headers: dict[bytes, list[bytes]], receive: Receive, method: str, most: int) -> bytes:
    """Return the whole body, of at most ``most`` bytes.

    Raises:
        Refused: if it is too large, comes too slowly, or nobody asked for one.
    """
    length = _single(headers, b"content-length") or "0"
    if not length.isdigit() or len(length) > 12 or int(length) > most:
        raise Refused(413, "limit", f"A body must have at most {most:,} bytes.")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Refused(400, "wrong", "The connection was closed.")
                body += message.get("body", b"")
                if len(body) > most or (body and method in READING):
                    raise Refused(413, "limit", f"A body must have at most {most:,} bytes, and none to read.")
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        raise Refused(408, "limit", f"A body must come within {BODY_SECONDS:.0f} s.") from None
