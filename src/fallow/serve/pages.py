"""The pages: files of this package that a browser loads once, named and allowed by their checksums.

``site/index.html`` is answered for ``/``, every other file for ``/static/NAME``. They hold nothing of a run,
so that they need no token.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

from ..report.page import inline_hash

SITE = Path(__file__).parent / "site"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
}
_INLINE = re.compile(r"<(script|style)(?![^>]*\bsrc=)[^>]*>(.*?)</\1>", re.DOTALL)
_POLICY = (
    "default-src 'none'; script-src 'self'{scripts}; style-src 'self'{styles}; img-src 'self' blob: data:; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)


@dataclass(frozen=True)
class Page:
    """A file that is answered.

    Attributes:
        data: its bytes.
        kind: its media type.
        tag: its ETag.
        policy: the Content-Security-Policy of a page; None for its parts.
    """

    data: bytes
    kind: str
    tag: str
    policy: str | None = None


def read_pages(folder: Path = SITE) -> dict[str, Page]:
    """Return the files of a site by the path of their URL, read once.

    Args:
        folder: of the files; folders in it are not looked into.
    """
    pages = {}
    for path in sorted(folder.iterdir()):
        kind = _TYPES.get(path.suffix)
        if kind is None or not path.is_file():
            continue
        # A browser normalises line ends before it hashes an inline part.
        data = path.read_bytes().replace(b"\r\n", b"\n") if kind.endswith("utf-8") else path.read_bytes()
        tag = f'"{b64encode(hashlib.sha256(data).digest()[:12]).decode()}"'
        policy = _policy(data.decode()) if path.suffix == ".html" else None
        url = "/" if path.name == "index.html" else f"/static/{path.name}"
        pages[url] = Page(data, kind, tag, policy)
    return pages


def _policy(text: str) -> str:
    """Return the policy of a page, which allows its own inline parts by their hashes."""
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for kind, part in _INLINE.findall(text):
        hashes[kind].append(f" '{inline_hash(part)}'")
    return _POLICY.format(scripts="".join(hashes["script"]), styles="".join(hashes["style"]))
