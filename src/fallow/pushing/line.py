"""Requests over a line that may break: tried again, in smaller pieces, until the server has all of a file."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import IO, Any
from urllib.parse import urlencode

from msgspec import Struct

from ..errors import DamagedData, NotWritten, invalid
from ..files.checked_json import decode
from .link import Link

_SECONDS = 75.0
"""How long an answer may take; the server gives up before."""
_AT_FIRST, _LATER = 6, 200
"""Tries without an answer before the server is given up: before its first one, and after."""
_SHORTEST, _LONGEST = 0.1, 5.0
"""The wait before the second try, which doubles each time, and the longest, in seconds."""
_LARGEST_PIECE, _SMALLEST_PIECE = 1 << 20, 1 << 12
"""Sizes of pieces, in bytes. A line that breaks gets smaller ones."""
_UNASKED = 1 << 14
"""Files of fewer bytes are sent without asking first whether the server has them."""
_MOST = 1 << 16
_MOST_LOST = 10
"""How often the server may have less of a file than before."""
_SAID = 4
"""The try after which it is said that there is no answer."""
_LATER_ON = (408, 425, 429, 500, 502, 503, 504)
"""Statuses of a server that may answer otherwise soon."""


class Refusal(Exception):
    """The server refuses a run or a file.

    Attributes:
        code: a word for programs.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class _Answer(Struct):
    """The parts of any answer."""

    error: str = ""
    code: str = ""
    run: str = ""
    have: int = 0
    whole: bool = False


class Line:
    """The way to a server.

    Args:
        link: the server.
        say: takes a sentence when something happens.
        progress: takes the number of files and of bytes that were sent, after each piece; or None.

    Attributes:
        say: as given.
        breaks: how often it broke.
        sent: bytes of files that the server took.
    """

    def __init__(
        self, link: Link, say: Callable[[str], None], progress: Callable[[int, int], None] | None = None
    ) -> None:
        self.link, self.breaks, self.sent, self.say = link, 0, 0, say
        self._progress = progress
        self._files = 0
        self._connection: HTTPConnection | None = None
        self._piece = _LARGEST_PIECE
        self._tries = 0
        self._met = False

    def tell(self, run: str, id_: str, state: str) -> str:
        """Say what a run is doing, and return what it is called there.

        Raises:
            Refusal: if the server refuses the run.
            NotWritten: if the server is not reached.
            InvalidValue: if it is not the one that the link names, or the link has another token.
        """
        body = json.dumps({"run": run, "id": id_, "state": state}).encode()
        while True:
            answer = self._try("POST", "", body, "application/json")
            if answer is not None:
                return answer.run

    def upload(
        self, run: str, id_: str, name: str, file: IO[bytes], size: int, sha256: str, *, asks: bool = False
    ) -> None:
        """Send a file, or the part of it that the server does not have; ``asks``: also of a small one.

        Raises:
            Refusal, NotWritten, InvalidValue: as :meth:`tell`.
        """
        about = {"run": run, "id": id_, "file": name, "size": size, "sha256": sha256}
        have, asks, lost = 0, asks or size > _UNASKED, 0
        while True:
            file.seek(have)
            piece = b"" if asks else file.read(self._piece)
            query = urlencode({**about, "offset": have})
            answer = self._try("PUT", f"?{query}", piece, "application/octet-stream")
            if answer is None:
                continue
            taken = answer.whole or answer.have == have + len(piece)
            self.sent += len(piece) if taken else 0
            self._files += answer.whole
            if self._progress is not None:
                self._progress(self._files, self.sent)
            if answer.whole:
                return
            # It may have lost what it had, but not for ever.
            lost += not asks and answer.have <= have
            if lost > _MOST_LOST:
                sentence = f"{self.link.place} loses what it is sent of {name}. Look at the disk there."
                raise Refusal(sentence, "other")
            have, asks = min(max(answer.have, 0), size - 1), False

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _try(self, method: str, query: str, body: bytes, kind: str) -> _Answer | None:
        """Return the answer to a request; None if there is none, after a wait."""
        headers = {"Authorization": f"Bearer {self.link.token}", "Content-Type": kind}
        try:
            connection = self._open()
            connection.request(method, f"{self.link.prefix}/api/push{query}", body, headers)
            response = connection.getresponse()
            answer = _read(response)
        except ssl.SSLCertVerificationError as error:
            self.close()
            # The links for browsers have no fingerprint.
            step = "Copy the link for pushing that the server prints, or set SSL_CERT_FILE for your own."
            raise invalid(
                f"{self.link.place} must have a known certificate.", error.verify_message, step
            ) from None
        except (OSError, HTTPException, DamagedData) as error:
            if not self._met and not isinstance(error, ConnectionRefusedError | socket.gaierror):
                self._check_scheme()
            self._break()
            self._wait(getattr(error, "strerror", None) or str(error) or type(error).__name__)
            return None
        if response.will_close:
            self.close()
        if response.status in _LATER_ON:
            self._wait(answer.error or f"status {response.status}")
            return None
        self._check(response.status, answer)
        if self._tries >= _SAID:
            self.say(f"{self.link.place} answers again.")
        self._met, self._tries = True, 0
        self._piece = min(2 * self._piece, _LARGEST_PIECE)
        return answer

    def _check(self, status: int, answer: _Answer) -> None:
        if status == 200:
            return
        if status in (401, 403):
            # The server says so of a token that may read.
            found = "one for a browser" if answer.code == "forbidden" else "one that it does not know"
            step = "Copy the link for pushing that `fallow serve FOLDER --receive` prints."
            raise invalid(f"The link must have the token of {self.link.place} for pushing.", found, step)
        # A file that changed on its way is sent again; nothing else that is wrong can become right.
        raise Refusal(answer.error or f"{self.link.place} answers with status {status}.", answer.code)

    def _open(self) -> HTTPConnection:
        """Return the connection, a new one if there is none.

        Raises:
            InvalidValue: if the server has another certificate than the link says; it has been sent nothing.
        """
        if self._connection is not None:
            return self._connection
        link = self.link
        if not link.secure:
            plain = HTTPConnection(link.host, link.port, timeout=_SECONDS)
            plain.connect()
            plain.auto_open = 0
            self._connection = plain
            return plain
        pinned = link.fingerprint is not None
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if pinned:
            # No authority has signed it. Its fingerprint is compared before anything is sent.
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = HTTPSConnection(link.host, link.port, timeout=_SECONDS, context=context)
        connection.connect()
        connection.auto_open = 0  # it would connect again without a look at the certificate
        if pinned:
            found = hashlib.sha256(connection.sock.getpeercert(binary_form=True) or b"").hexdigest()
            if not hmac.compare_digest(found, str(link.fingerprint)):
                connection.close()
                rule = f"{link.place} must have the certificate that the link names."
                step = "Copy the link that the server prints now. If it is this one, another machine answers."
                raise invalid(rule, f"{found[:16]}...", step)
        self._connection = connection
        return connection

    def _check_scheme(self) -> None:
        """Raise InvalidValue if the server speaks, but not as the link says; it is sent no token."""
        link = self.link
        wanted, other = ("https://", "http://") if link.secure else ("http://", "https://")
        if _speaks(link, tls=not link.secure):
            step = f"Copy the link that the server prints now: it begins with {other}."
            raise invalid(f"{link.place} must speak as the link says, by {wanted}.", f"{other} there", step)

    def _break(self) -> None:
        self.close()
        self.breaks += 1
        self._piece = max(self._piece // 2, _SMALLEST_PIECE)

    def _wait(self, why: str) -> None:
        """Wait before the next try.

        Raises:
            NotWritten: if there were too many.
        """
        self._tries += 1
        if self._tries >= (_LATER if self._met else _AT_FIRST):
            step = (
                "The same command goes on where this one was."
                if self._met
                else "Look whether `fallow serve FOLDER --receive` runs there and prints this link."
            )
            raise NotWritten(f"{self.link.place} must answer, and does not: {why}. {step}")
        if self._tries == _SAID:
            self.say(f"{self.link.place} does not answer ({why}). Trying again.")
        time.sleep(min(_SHORTEST * 2.0 ** (self._tries - 1), _LONGEST))


def _speaks(link: Link, *, tls: bool) -> bool:
    """Return whether a server speaks TLS, or HTTP without it."""
    with (
        suppress(OSError, ValueError),
        socket.create_connection((link.host, link.port), _LONGEST) as connection,
    ):
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.wrap_socket(connection, server_hostname=link.host).close()
            return True
        connection.sendall(f"HEAD / HTTP/1.1\r\nHost: {link.place}\r\nConnection: close\r\n\r\n".encode())
        # Many servers of HTTPS tell a client without TLS by status 400 that it came the wrong way.
        found = connection.recv(12)
        return found.startswith(b"HTTP/") and not found.endswith(b" 400")
    return False


def _read(response: HTTPResponse) -> _Answer:
    """Return what an answer says; one of a proxy may say nothing."""
    data = response.read(_MOST)
    kind: Any = response.headers.get_content_type()
    if kind != "application/json" and response.status != 200:
        return _Answer()
    return decode(_Answer, data, "The answer")
