"""Certificates: one from files, or one made on the spot that lives as long as the server."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import ssl
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shlex import quote
from typing import Any

from ..errors import FallowError, invalid, missing_extra

_DAYS = 30
_LARGEST = 1 << 20
"""Characters of a certificate or key that are read."""
_CERT, _KEY = "cert.pem", "key.pem"


@dataclass(frozen=True)
class Certificate:
    """A certificate with its key.

    Attributes:
        context: for connections of TLS 1.2 or newer.
        fingerprint: the SHA-256 of the certificate, in pairs of hexadecimal digits as browsers show it.
    """

    context: ssl.SSLContext
    fingerprint: str

    @staticmethod
    def read(cert: Path, key: Path) -> Certificate:
        """Read a certificate and its key, in PEM.

        Raises:
            InvalidValue: if one of them cannot be read or used, or they do not belong together.
        """
        text = _pem("--cert", cert, "a certificate", "CERTIFICATE")
        if "ENCRYPTED" in _pem("--key", key, "a private key", "PRIVATE KEY"):
            step = f"Take it away: openssl pkey -in {quote(str(key))} -out FILE, which nobody else may read."
            raise invalid("--key must have no password.", f"{key}, which has one", step)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            # An empty password, since a question for one would wait for ever.
            context.load_cert_chain(cert, key, password="")
        except (OSError, ValueError) as error:
            raise _refused(error, cert, key, text) from None
        return Certificate(context, _fingerprint(text))


def _pem(option: str, path: Path, what: str, mark: str) -> str:
    """Return the text of a file in PEM.

    Raises:
        InvalidValue: if it cannot be read, or holds something else.
    """
    rule = f"{option} must be {what}, in PEM."
    try:
        with path.open(encoding="latin-1") as file:
            text = file.read(_LARGEST)
    except OSError as error:
        raise invalid(rule, f"{path}: {error.strerror}", "Name a file that you can read.") from None
    if not re.search(rf"-----BEGIN ([A-Z]+ )*{mark}-----", text):
        other = re.search(r"-----BEGIN ([A-Z ]{1,40})-----", text)
        found = f"{path}, which holds {other[0] if other else 'no PEM'}"
        raise invalid(rule, found, f"Name a file with a line -----BEGIN {mark}-----.")
    return text


def _refused(error: OSError | ValueError, cert: Path, key: Path, text: str) -> FallowError:
    """Return why a certificate and a key cannot be used, though both are in PEM."""
    reason = getattr(error, "reason", None) or ""
    if "MISMATCH" in reason:
        step = "Name the key that the certificate was made with."
        return invalid("--key must be that of --cert.", f"{key}, the key of another certificate", step)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (OSError, ValueError):
        option, path = "--cert", cert
    else:
        option, path = "--key", key
    if reason:  # it is whole, and OpenSSL has another word against it
        found = f"{cert} and {key}: {reason.replace('_', ' ').lower()}"
        return invalid("--cert and --key must be of a kind that OpenSSL takes.", found, "Make new ones.")
    return invalid(
        f"{option} must be whole.", f"{path}, which is cut off or changed", "Put back a copy of it."
    )


def _fingerprint(pem: str) -> str:
    end = "-----END CERTIFICATE-----"
    first = pem[pem.index("-----BEGIN CERTIFICATE-----") : pem.index(end) + len(end)]
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest().upper()
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def self_signed(names: Sequence[str], folder: Path | None = None) -> Certificate:
    """Make a certificate that nobody has signed; a person compares its fingerprint.

    Args:
        names: host names and addresses that it is for.
        folder: keeps it, so that it is the same when the server starts again within half of its life; this
            user alone can enter the folder. None: it lives as long as the server.

    Raises:
        ModuleNotFoundError: if cryptography is missing.
        OSError: if it cannot be kept.
    """
    if folder is not None:
        with suppress(OSError, ValueError):
            cert = folder / _CERT
            if time.time() - os.lstat(cert).st_mtime < _DAYS * 86400 / 2:
                return Certificate.read(cert, folder / _KEY)
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID
    except ModuleNotFoundError:
        raise missing_extra("--self_signed", "cryptography", "serve") from None
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fallow serve")])
    now = datetime.now(UTC)
    alternatives = [_alternative(x509, name) for name in dict.fromkeys(names)]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    public = made.public_bytes(serialization.Encoding.PEM)
    # ssl reads files alone. The folder is this user's, and gone before the server listens.
    with tempfile.TemporaryDirectory() as passing:
        kept = Path(passing) if folder is None else folder
        for name, data in ((_KEY, private), (_CERT, public)):
            (kept / name).unlink(missing_ok=True)
            descriptor = os.open(kept / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
        return Certificate.read(kept / _CERT, kept / _KEY)


def _alternative(x509: Any, name: str) -> Any:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name.encode("idna").decode())
