"""Listen, say where, and stop on a signal: the process of ``fallow serve``."""

from __future__ import annotations

import errno
import io
import ipaddress
import os
import platform
import signal
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import segno
import uvicorn

from ..errors import FallowError, invalid
from ..terminal.streams import complain, say, say_script
from ..version import __version__
from .application import Application
from .call import About
from .catalog import Catalog
from .certificate import Certificate, self_signed
from .guard import LARGEST_HEADERS, Guard, Site
from .hosts import Hosts
from .images import Images
from .protocol import Connection
from .receiving import Receiver
from .tokens import CODE_SECONDS, Tokens

_HOST_RULE = "--host must be an address of this machine, or a name that leads to one."
_HOST_STEP = "127.0.0.1 is reached from this machine alone, 0.0.0.0 from all networks that it is in."
_KEEP_ALIVE = 30
_BACKLOG = 256
_NICE = 10
"""How much later than others the process has its turn: about a tenth of a processor that others want too."""


@dataclass(frozen=True)
class Listening:
    """How to listen.

    Attributes:
        host, port: the address; port 0 takes any that is free.
        uds: the path of a local socket instead, or None.
        root_path: a path before every URL, as ``/prefix``, or empty.
        cert, key: files of a certificate and its key, or None.
        self_signed: whether to make a certificate.
        write: whether there is a token for writing.
        qr: whether to draw a link that works once.
        data: the folder of images that the runs were trained on, or None.
        receive: whether other machines may push runs.
        receive_most: the most bytes of all runs that they push, in GiB.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    uds: str | None = None
    root_path: str = ""
    cert: str | None = None
    key: str | None = None
    self_signed: bool = False
    write: bool = False
    qr: bool = False
    data: str | None = None
    receive: bool = False
    receive_most: float = 20.0

    @property
    def secure(self) -> bool:
        """Whether it speaks TLS."""
        return self.cert is not None or self.self_signed


def serve(folder: Path, options: Listening) -> None:
    """Serve a run, or a folder of runs, until a signal ends it.

    Prints the link with the token, alone on a line, once it listens.

    Raises:
        InvalidValue: if the folder does not exist, or the options do not fit together.
        OSError: if it cannot listen there.
    """
    _check(options)
    _give_way()
    catalog = Catalog(folder, None if options.data is None else Images(Path(options.data)))
    with _receiving(folder, options) as receiver, _listening(options) as listener:
        certificate = _certificate(options, receiver)
        port = 0 if options.uds is not None else listener.getsockname()[1]
        site = Site(_hosts(options), options.root_path, options.secure, port)
        tokens = Tokens(write=options.write, push=None if receiver is None else receiver.token)
        about = About(
            version=__version__,
            python=platform.python_version(),
            address="a local socket" if options.uds is not None else f"{_shown(options.host)}:{port}",
            secure=options.secure,
            fingerprint=None if certificate is None else certificate.fingerprint,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        application = Application(catalog, about, tokens, site, receiver)
        config = uvicorn.Config(
            Guard(application, site, tokens),
            http=Connection,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=2,
            h11_max_incomplete_event_size=LARGEST_HEADERS,
            ssl_context_factory=None if certificate is None else lambda *_: certificate.context,
        )
        server = _Server(config, lambda: _say_link(options, port, tokens, certificate, receiver))
        try:
            server.run(sockets=[listener])
        finally:
            application.close()


@contextmanager
def _receiving(folder: Path, options: Listening) -> Iterator[Receiver | None]:
    """Yield what takes the runs of other machines, or None."""
    if not options.receive:
        yield None
        return
    receiver = Receiver(folder, int(options.receive_most * (1 << 30)))
    try:
        yield receiver
    finally:
        receiver.close()


def _give_way() -> None:
    """Let whatever else wants the processor have it first: a training on this machine above all."""
    with suppress(AttributeError, OSError):  # another system, or one that does not allow it
        os.nice(_NICE)


class _Server(uvicorn.Server):
    """A server that says when it listens, and ends with success on a signal."""

    def __init__(self, config: uvicorn.Config, started: object) -> None:
        super().__init__(config)
        self._say_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        if callable(self._say_started):
            self._say_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End the server on SIGINT and SIGTERM; the process ends with exit code 0 then."""
        before = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ask the server to end."""
        self.force_exit = self.should_exit
        self.should_exit = True


def _check(options: Listening) -> None:
    """Raise InvalidValue if the options do not fit together."""
    if (options.cert is None) != (options.key is None):
        raise invalid(
            "--cert and --key must stand together.", "one of them", "Name both files, or --self_signed."
        )
    if options.cert is not None and options.self_signed:
        raise invalid(
            "A certificate must be named or made.", "--cert and --self_signed", "Leave one of them out."
        )
    if not 0 <= options.port < 1 << 16:
        raise invalid("--port must be in [0, 65535].", options.port, "0 takes any that is free.")
    path = options.root_path
    if path and (not path.startswith("/") or path.endswith("/") or not _is_plain(path)):
        rule = "--root_path must begin with / and not end with it, of letters, digits, and any of - . _ ~ /."
        raise invalid(rule, repr(path), "As in --root_path /fallow.")
    if not 0 < options.receive_most < 1 << 20:
        raise invalid("--receive_most must be above 0, in GiB.", options.receive_most, "The default is 20.")
    if not options.receive and options.receive_most != Listening.receive_most:
        raise invalid(
            "--receive_most goes with --receive.", f"--receive_most {options.receive_most:g}", "Add it."
        )
    if options.uds is not None:
        if options.host != Listening.host or options.receive:
            found = "--receive" if options.receive else f"--host {options.host}"
            step = (
                "Leave one of them out: fallow push needs an address."
                if options.receive
                else "Leave one out."
            )
            raise invalid("A server listens at --uds or at an address.", f"--uds and {found}", step)
        return
    if not _is_loopback(options.host) and not options.secure:
        step = "Add --self_signed, or --cert FILE --key FILE; or leave --host out and use ssh -L."
        raise invalid("A server that other machines reach must speak TLS.", f"--host {options.host}", step)


def _is_plain(path: str) -> bool:
    parts = path.strip("/").split("/")
    letters = all(letter.isascii() and (letter.isalnum() or letter in "-._~/") for letter in path)
    return letters and all(part not in ("", ".", "..") for part in parts)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _hosts(options: Listening) -> Hosts:
    """Return the names that a request may call the server by."""
    names = {"localhost"}
    addresses = {ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")}
    if options.uds is None and not _is_loopback(options.host):
        # The names of this machine lead here. An address that a request came to is checked by itself.
        names |= {name.lower() for name in (socket.gethostname(), socket.getfqdn()) if name}
        try:
            address = ipaddress.ip_address(options.host)
            addresses |= set() if address.is_unspecified else {address}
        except ValueError:
            names.add(options.host.lower())
    return Hosts(frozenset(names), frozenset(addresses))


def _resolved(options: Listening) -> tuple[Any, ...]:
    """Return the address of --host as ``getaddrinfo`` does.

    Raises:
        InvalidValue: if there is none.
    """
    try:
        kind, passive = socket.SOCK_STREAM, socket.AI_PASSIVE
        return socket.getaddrinfo(options.host, options.port, type=kind, flags=passive)[0]
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no name of a machine"
        raise invalid(_HOST_RULE, f"--host {options.host!r}: {reason}", _HOST_STEP) from None


def _not_bound(error: OSError, options: Listening) -> FallowError:
    """Return why a server cannot listen at an address."""
    place = f"{_shown(options.host)}:{options.port}"
    if error.errno == errno.EADDRINUSE:
        step = "Name another --port; 0 takes any that is free."
        return invalid(f"{place} must be free.", "another program that listens there", step)
    if error.errno in (errno.EACCES, errno.EPERM):
        step = "Name a --port from 1024 on; 0 takes any that is free."
        return invalid("--port must be one that you may listen at.", f"{place}: {error.strerror}", step)
    return invalid(_HOST_RULE, f"--host {options.host}: {error.strerror}", _HOST_STEP)


@contextmanager
def _listening(options: Listening) -> Iterator[socket.socket]:
    """Yield a socket that is bound, and remove its file at the end."""
    if options.uds is not None:
        with _local(Path(options.uds)) as listener:
            yield listener
        return
    family, kind, protocol, _, address = _resolved(options)
    with socket.socket(family, kind, protocol) as listener:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise _not_bound(error, options) from None
        listener.listen(_BACKLOG)
        yield listener


@contextmanager
def _local(path: Path) -> Iterator[socket.socket]:
    """Yield a local socket that this user alone can reach."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise invalid(
                "--uds must name a new file.", f"{path}, which is none of a server", "Name another."
            )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:  # of a server that was killed
                path.unlink()
            else:
                raise invalid(
                    "--uds must name a new file.", f"{path}, where a server listens", "Name another."
                )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        # Nobody else may connect, not even between bind and chmod.
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        except OSError as error:
            raise invalid("--uds must name a new file.", f"{path}: {error.strerror or error}") from None
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _certificate(options: Listening, receiver: Receiver | None) -> Certificate | None:
    if options.self_signed:
        names = [options.host] if not ipaddress_or_none(options.host, unspecified=True) else []
        # The link for pushing names the certificate, and outlives the server.
        folder = None if receiver is None else receiver.own
        return self_signed([*names, "localhost", socket.gethostname()], folder)
    if options.cert is None:
        return None
    return Certificate.read(Path(options.cert), Path(str(options.key)))


def ipaddress_or_none(
    host: str, *, unspecified: bool
) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an address, only one that stands for all if ``unspecified``; None for another one or a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return address if not unspecified or address.is_unspecified else None


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _say_link(
    options: Listening, port: int, tokens: Tokens, certificate: Certificate | None, receiver: Receiver | None
) -> None:
    """Print the link alone on its line, and beside it what a person must know."""
    scheme = "https" if options.secure else "http"
    host = socket.gethostname() if ipaddress_or_none(options.host, unspecified=True) else options.host
    place = "localhost" if options.uds is not None else f"{_shown(host)}:{port}"
    base = f"{scheme}://{place}{options.root_path}/"
    say(f"{base}#{tokens.read}")
    sys.stdout.flush()
    if options.qr:
        _draw_code(base, tokens)
        if hasattr(
            signal, "SIGTTIN"
        ):  # in the background a terminal stops who reads it, unless this is ignored
            signal.signal(signal.SIGTTIN, signal.SIG_IGN)
        threading.Thread(target=_draw_on_enter, args=(base, tokens), daemon=True).start()
    if options.uds is not None:
        complain(f"Listens on {options.uds}, for this user alone.")
    if certificate is not None:
        complain(f"SHA-256 of the certificate: {certificate.fingerprint}")
    if tokens.write is not None:
        complain("With this link you can also tick what you have collected:")
        complain(f"{base}#{tokens.write}")
    if receiver is not None:
        pin = (
            f".{certificate.fingerprint.replace(':', '').lower()}"
            if options.self_signed and certificate
            else ""
        )
        complain("Other machines push runs by fallow push RUN LINK, with this link, which stays the same:")
        complain(f"{base}#{receiver.token}{pin}")
    complain("Ctrl-C ends the server; trainings are not touched.")


def _draw_code(base: str, tokens: Tokens) -> None:
    """Draw a link with a new code, which somebody who sees it later cannot use any more."""
    link = f"{base}#{tokens.new_code()}"
    segno.make(link, error="l", micro=False).terminal(drawn := io.StringIO(), compact=True)
    say_script(drawn.getvalue())
    sys.stdout.flush()
    complain(f"{link} works once, within {CODE_SECONDS:.0f} s. Enter draws a new one.")


def _draw_on_enter(base: str, tokens: Tokens) -> None:
    """Draw a new code whenever a line is typed."""
    with suppress(OSError):
        # Not through sys.stdin, whose lock this thread would hold when the process ends.
        while os.read(0, 1 << 12):
            _draw_code(base, tokens)
