"""Certificates: one from files, or one made on the spot that lives as long as the server."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import ssl
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ..errors import missing_extra

_DAYS = 30
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
            OSError, ValueError, ssl.SSLError: if they cannot be read, or do not belong together.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # An empty password, since a question for one would wait for ever.
        context.load_cert_chain(cert, key, password="")
        return Certificate(context, _fingerprint(cert.read_text()))


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
