"""Connections of a bounded number that may be slow only while they are answered."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 128
"""The most connections. A further one takes the place of the one that has waited longest."""
HEAD_SECONDS = 5.0
"""How long the head of a request may take to come."""

_waiting: OrderedDict[Connection, None] = OrderedDict()
"""Connections that are not answered now, the one that waits longest first."""


class Connection(H11Protocol):
    """A connection that is closed if its request does not come in time, or others need its place."""

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        _waiting[self] = None
        self._expect()
        while len(self.connections) > MOST and _waiting:
            longest, _ = _waiting.popitem(last=False)
            longest.transport.abort()
            self.connections.discard(longest)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._arrived()
        _waiting.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        if self._head is None and not self._is_answering():
            self._expect()
        try:
            super().data_received(data)
        except h11.LocalProtocolError:
            # It broke the protocol while an answer was under way.
            self.transport.abort()
        if self._is_answering():
            self._arrived()
            _waiting.pop(self, None)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        _waiting[self] = None
        super().on_response_complete()
        if self._is_answering():
            _waiting.pop(self, None)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, as the guard answers."""
        with suppress(h11.LocalProtocolError):
            body = b'{"error":"A request must be HTTP/1.1.","code":"wrong"}'
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"x-content-type-options", b"nosniff"),
                (b"connection", b"close"),
            ]
            events: list[Any] = [
                h11.Response(status_code=400, headers=headers),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ]
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect(self) -> None:
        self._head = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _arrived(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None
