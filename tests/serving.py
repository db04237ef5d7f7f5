"""A real server in a process of its own, and raw requests to it."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

LINK = re.compile(r"(https?://[^#\s]+/)#([A-Za-z0-9_-]{43})\n")
PUSH_LINK = re.compile(r"https?://[^#\s]+/#([A-Za-z0-9_-]{43})(?:\.[0-9a-f]{64})?\n")
SECONDS = 60


@dataclass
class Server:
    """A server that listens.

    Attributes:
        process: its process.
        base: the URL before the token.
        token: of the first link, which may read.
        writing: of the second link, or None.
        folder: what is served.
        pushing: the link for pushing, or None.
    """

    process: subprocess.Popen
    base: str
    token: str
    writing: str | None
    folder: Path
    pushing: str | None = None

    @property
    def port(self):
        return urlsplit(self.base).port

    @property
    def host(self):
        return urlsplit(self.base).netloc

    def client(self, token=""):
        headers = {"Authorization": f"Bearer {token or self.token}"} if token is not None else {}
        # Certificates that are never looked at take long to load.
        return httpx.Client(
            base_url=self.base, headers=headers, timeout=SECONDS, trust_env=False, verify=False
        )

    def get(self, path, **headers):
        with self.client() as client:
            return client.get(path, headers=headers)

    def done(self, path):
        """Return what is answered once it is no longer being calculated."""
        with self.client() as client:
            while (found := client.get(path)).status_code == 202:
                pass
        return found

    def told(self, path):
        found = self.done(path)
        assert found.status_code == 200, found.text
        return found.json()

    def raw(self, data, more=()):
        """Send bytes as they are; return status, headers and body of the first answer, 0 if there is none."""
        with socket.create_connection(("127.0.0.1", self.port), SECONDS) as connection:
            for part in (data, *more):
                connection.sendall(part)
            found = b""
            with contextlib.suppress(ConnectionError):
                while part := connection.recv(1 << 16):
                    found += part
                    head, end, body = found.partition(b"\r\n\r\n")
                    length = re.search(rb"(?im)^content-length: (\d+)", head)
                    if end and (b" 304 " in head[:20] or (length and len(body) >= int(length[1]))):
                        break
        if not found:
            return 0, b"", b""
        head, _, body = found.partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), head.lower(), body

    def request(self, method="GET", path="/api/runs", headers=(), token="", host=None):
        """Send a request with exactly these headers besides Host and the token."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host or self.host}"]
        lines += [f"Authorization: Bearer {token or self.token}"] if token is not None else []
        lines += [*headers, "Connection: close"]
        return self.raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")


@contextlib.contextmanager
def serving(folder, *words, environment=None):
    """Serve a folder until the block ends, and check that it ends well."""
    command = [sys.executable, "-m", "fallow", "serve", str(folder), "--port", "0", *words]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            line = process.stdout.readline()
            link = LINK.fullmatch(line)
            assert link, (line, process.stderr.read() if process.poll() is not None else "")
            writing = None
            if "--write" in words:
                while (second := LINK.search(process.stderr.readline())) is None:
                    pass
                writing = second[2]
            pushing = None
            if "--receive" in words:
                while (third := PUSH_LINK.search(process.stderr.readline())) is None:
                    pass
                pushing = third[0].strip()
            yield Server(process, link[1], link[2], writing, Path(folder), pushing)
            process.send_signal(signal.SIGTERM)
            out, said = process.communicate(timeout=SECONDS)
            assert (process.returncode, out) == (0, ""), said
            # No request of a test may have met what the server did not foresee, nor left a token behind.
            assert "Traceback" not in said
            assert link[2] not in said
            assert pushing is None or pushing.partition("#")[2] not in said
        finally:
            process.kill()


def without_places(server, body):
    """Check that a body names no place of this machine."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    for place in {
        str(server.folder),
        os.path.realpath(server.folder),
        str(server.folder.parent),
        os.getcwd(),
        sys.prefix,
    }:
        assert place not in text, text[:500]
        assert json.dumps(place)[1:-1] not in text
