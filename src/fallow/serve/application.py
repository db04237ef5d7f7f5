"""The application behind the guard: finds the route, answers 304 if nothing has changed, and never a 500."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ..errors import DamagedData, FallowError
from ..files.checked_json import parse_json
from ..terminal.streams import complain
from . import answers
from .bounded import Bounded
from .call import About, Call
from .catalog import Catalog
from .errors import Refused, unknown, wrong
from .guard import LOGIN, PUSH, Receive, Scope, Send, Site
from .memory import give_back
from .openapi import dumped
from .pages import Page, read_pages
from .places import Places
from .receiving import Receiver
from .routes import PICTURE, ROUTES, Route
from .session import login
from .tokens import Tokens
from .wording import broken

JSON = "application/json"
_PATIENCE = 2.0
"""Seconds that a request waits for slow work before it is told to ask again."""
_QUICK, _SLOW, _QUEUED = 4, 1, 16
"""Threads for quick and for slow work, and the most slow work that waits."""
_KEPT = 2.0
"""Seconds after which memory is given back that work has let go of: what follows at once may use it again."""
_FIELDS = 32


class Application:
    """Answers requests that passed the guard.

    Args:
        catalog: the runs.
        about: the server.
        tokens: who may ask.
        site: where the server is reached.
        receiver: takes runs of other machines, or None.
    """

    def __init__(
        self, catalog: Catalog, about: About, tokens: Tokens, site: Site, receiver: Receiver | None = None
    ) -> None:
        self.receiver = receiver
        self.catalog, self.about, self.tokens, self.site = catalog, about, tokens, site
        self.pages = read_pages()
        self._routes = {(route.method, route.path): route for route in ROUTES}
        self._document = dumped().encode()
        self._answers: Bounded[bytes] = Bounded(1 << 25, len)
        self._quick = ThreadPoolExecutor(_QUICK, "quick")
        self._slow = ThreadPoolExecutor(_SLOW, "slow")
        # One, so that two clients never write into one file; and those who read never wait for it.
        self._receives = ThreadPoolExecutor(1, "receives")
        # A picture may take seconds of the process that decodes it, and nobody else waits for that.
        self._pictures = ThreadPoolExecutor(1, "pictures")
        self._gave_back = 0.0
        self._jobs: dict[str, Future[bytes]] = {}
        self._places = Places([(catalog.folder, catalog.name)])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope)
        try:
            response = await self._answer(request)
        except Refused as refused:
            response = _failed(refused)
        except DamagedData as error:
            response = _failed(Refused(503, "damaged", self._hidden(error)))
        except FallowError as error:
            response = _failed(Refused(404, "none", self._hidden(error)))
        except (OSError, MemoryError) as error:
            reason = error.strerror if isinstance(error, OSError) else "too little memory"
            response = _failed(Refused(503, "gone", f"The files of the run cannot be read now: {reason}."))
        except Exception as error:  # a run may come from anybody: no file of it ends the server
            complain(f"fallow serve: {request.url.path}: {''.join(traceback.format_exception(error))}")
            response = _failed(
                Refused(503, "damaged", "The run could not be read. fallow verify checks its files.")
            )
        if scope["method"] == "HEAD":
            response.body = b""
        await response(scope, receive, send)

    def close(self) -> None:
        """Let go of the threads; what they work on is left alone."""
        for pool in (self._quick, self._slow, self._pictures, self._receives):
            pool.shutdown(wait=False, cancel_futures=True)
        if self.catalog.images is not None:
            self.catalog.images.close()

    def _hidden(self, error: FallowError) -> str:
        return self._places.hidden(str(error))

    async def _answer(self, request: Request) -> Response:
        path = request.scope["path"]
        method = "GET" if request.method == "HEAD" else request.method
        if path in self.pages and method == "GET":
            return _page(self.pages[path], request)
        if path == "/api/openapi.json" and method == "GET":
            return Response(self._document, media_type=JSON)
        route = self._routes.get((method, path))
        if route is None:
            others = sorted({one.method for one in ROUTES if one.path == path})
            if others:
                raise Refused(
                    405, "method", f"{path} must be asked by {others[0]}.", {"allow": ", ".join(others)}
                )
            raise unknown("The page")
        ask = _asked(route, request)
        client = request.scope.get("client")
        call = Call(
            self.catalog,
            self.about,
            self.tokens,
            ask,
            request.scope["scopes"],
            request.scope["session"],
            client[0] if client else "",
            request.scope["body"] if method == "PUT" else b"",
            self.receiver,
        )
        if path == PUSH and method != "GET":
            return Response(await self._in(self._receives, partial(_encoded, route, call)), media_type=JSON)
        if path.startswith(LOGIN) and method == "POST":
            return await self._session(path, call)
        if method == "POST":
            return Response(await self._in(self._quick, partial(_encoded, route, call)), media_type=JSON)
        return await self._read(route, call, request)

    async def _session(self, path: str, call: Call) -> Response:
        if path != LOGIN:
            if call.session is not None:
                self.tokens.end(call.session)
            gone = {"set-cookie": self.site.set_cookie("")}
            return Response(msgspec.json.encode(answers.Ended()), media_type=JSON, headers=gone)
        scopes = login(call)
        work = partial(_encoded, self._routes["POST", LOGIN], replace(call, scopes=scopes))
        body = await self._in(self._quick, work)
        if call.session is not None:
            self.tokens.end(call.session)
        cookie = {"set-cookie": self.site.set_cookie(self.tokens.begin(scopes))}
        return Response(body, media_type=JSON, headers=cookie)

    async def _read(self, route: Route, call: Call, request: Request) -> Response:
        """Answer from memory where nothing has changed, or let the work be done."""
        tag = await self._in(self._quick, partial(self._tag, route, call))
        kind = "image/png" if route.answer is PICTURE else JSON
        headers = {"etag": f'"{tag}"', "cache-control": "private, no-cache"}
        if _matches(request.headers.get("if-none-match"), tag):
            return Response(status_code=304, headers=headers)
        body = self._answers.get(tag)
        if body is None:
            body = await self._work(route, call, tag)
            if body is None:
                waiting = {"retry-after": "1"}
                return Response(msgspec.json.encode(answers.Pending()), 202, waiting, JSON)
            self._answers.put(tag, body)
        return Response(body, media_type=kind, headers=headers)

    def _tag(self, route: Route, call: Call) -> str:
        """Return what changes when the answer may change: from the stamps of files, without reading them."""
        parts: list[Any] = [self.about.version, self.about.started, route.path, sorted(call.scopes)]
        parts.append(msgspec.json.encode(call.ask).decode())
        catalog, asked = self.catalog, getattr(call.ask, "run", None)
        if route.path == "/api/runs":
            parts += [
                msgspec.json.encode(catalog.row(*each)).decode() for each in sorted(catalog.paths().items())
            ]
            parts += catalog.links
        elif asked is not None or catalog.single is not None:
            for one in asked if isinstance(asked, list) else [asked]:
                run, path = catalog.path(one)
                parts += [run, catalog.stamp(run, path)]
                if route.follows:
                    parts.append(msgspec.json.encode(catalog.row(run, path)).decode())
            if route.beside is not None:
                parts.append(route.beside(call))
        return hashlib.blake2b(repr(parts).encode("utf-8", "replace"), digest_size=12).hexdigest()

    async def _work(self, route: Route, call: Call, tag: str) -> bytes | None:
        """Return the body of an answer; None if slow work goes on."""
        work = partial(_encoded, route, call)
        if not route.slow:
            pool = self._pictures if route.answer is PICTURE else self._quick
            body: bytes = await self._in(pool, work)
            return body
        job = self._jobs.get(tag)
        if job is None:
            if len(self._jobs) >= _QUEUED:
                raise Refused(
                    429, "limit", "Much is being calculated. Ask again in a moment.", {"retry-after": "2"}
                )
            job = self._jobs[tag] = self._slow.submit(self._with_room, work)
            job.add_done_callback(partial(self._done, tag))
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(job)), _PATIENCE)
        except TimeoutError:
            return None

    def _done(self, tag: str, job: Future[bytes]) -> None:
        if not job.cancelled() and job.exception() is None:
            self._answers.put(tag, job.result())
        # The next request asks again: what was damaged may have been put back.
        self._jobs.pop(tag, None)

    def _with_room(self, work: Callable[[], bytes]) -> bytes:
        """Return what slow work returns, and give back memory now and then."""
        try:
            return work()
        finally:
            if time.monotonic() - self._gave_back > _KEPT:
                give_back()
                self._gave_back = time.monotonic()

    async def _in(self, pool: ThreadPoolExecutor, work: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(pool, work)


def _asked(route: Route, request: Request) -> Any:
    """Return the parameters of a request as the class of its route.

    Raises:
        Refused: if one is unknown, stands twice, or has a wrong value.
    """
    if route.method == "POST":
        if request.scope["query_string"]:
            raise wrong("What is written must stand in the body, and nothing in the URL.")
        try:
            plain: Any = parse_json(request.scope["body"] or b"{}", "The body")
        except DamagedData as error:
            raise wrong(str(error)) from None
    else:
        plain = _parameters(route, request.scope["query_string"])
    try:
        return msgspec.convert(plain, route.ask, strict=route.method == "POST")
    except (msgspec.ValidationError, UnicodeEncodeError, RecursionError) as error:
        raise wrong(broken(route.ask, plain, error)) from None


def _parameters(route: Route, query: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(query),
            errors="strict",
            max_num_fields=_FIELDS,
        )
    except ValueError:  # also what is not UTF-8
        raise wrong("The parameters of a URL must be NAME=VALUE, with & between.") from None
    several = {
        field.name
        for field in msgspec.structs.fields(route.ask)
        if getattr(field.type, "__origin__", None) is list or "list" in str(field.type)
    }
    plain: dict[str, Any] = {}
    for name, value in pairs:
        if name in several:
            plain.setdefault(name, []).append(value)
        elif name in plain:
            raise wrong(f"A parameter must stand once. Found {name[:40]!r} twice.")
        else:
            plain[name] = value
    return plain


def _encoded(route: Route, call: Call) -> bytes:
    """Return the body of an answer."""
    found = route.work(call)
    if isinstance(found, bytes):
        return found
    try:
        return msgspec.json.encode(found)
    except UnicodeEncodeError:  # half a letter in a name or a text, which the standard library escapes
        return json.dumps(msgspec.to_builtins(found)).encode()


def _failed(refused: Refused) -> Response:
    body = msgspec.json.encode(answers.Failure(error=refused.message, code=refused.code))
    return Response(body, refused.status, refused.headers, JSON)


def _page(page: Page, request: Request) -> Response:
    headers = {"etag": page.tag, "cache-control": "no-cache"}
    if page.policy is not None:
        headers["content-security-policy"] = page.policy
    if _matches(request.headers.get("if-none-match"), page.tag.strip('"')):
        return Response(status_code=304, headers=headers)
    return Response(page.data, media_type=page.kind, headers=headers)


def _matches(header: str | None, tag: str) -> bool:
    """Return whether ``If-None-Match`` names a tag."""
    if header is None:
        return False
    return any(one.strip().removeprefix("W/") == f'"{tag}"' for one in header.split(","))
