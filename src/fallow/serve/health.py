"""The state of a run's files and of the server: checksums, generation, versions, who can reach it."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import FallowError
from ..files.checked_json import check_kind, finite, parse_json
from ..report import facts
from ..runs.heartbeat import last_write, usual_epoch
from ..runs.run_files import RunFiles
from ..runs.schema import Environment
from ..runs.verify import verify
from . import answers
from .call import Call
from .overview import tried
from .served_run import ServedRun, stamp_of

_LARGEST = 1 << 22
_SESSIONS, _SETTINGS, _PROBLEMS = 5, 200, 200


def health(call: Call) -> answers.Health:
    """Return the state of the server, and of a run if one is named or served alone."""
    about, run = call.about, None
    if call.ask.run is not None or call.catalog.single is not None:
        run = _of_run(call)
    return answers.Health(
        server=answers.ServerFacts(
            version=about.version,
            python=about.python,
            address=about.address,
            secure=about.secure,
            fingerprint=about.fingerprint,
            writable=call.tokens.write is not None,
            started=about.started,
            scopes=sorted(call.scopes),
        ),
        run=run,
    )


def files_stamp(call: Call) -> str:
    """Return what changes when any file of a run does, if all are to be compared; else an empty text."""
    if call.ask.verify != "1" or (call.ask.run is None and call.catalog.single is None):
        return ""
    _, top = call.catalog.path(call.ask.run)
    lines = [f"{name} {stamp_of(Path(folder, name))}" for folder, _, names in os.walk(top) for name in names]
    return hashlib.blake2b("\n".join(lines).encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()


def _of_run(call: Call) -> answers.RunHealth:
    run_id, path = call.catalog.path(call.ask.run)
    run = call.run()
    found = run.search.found
    data = tried(run, lambda: run.data)
    if run.epochs:
        tried(run, lambda: run.history)
    tried(run, lambda: run.summary)
    tried(run, lambda: run.gaps)
    _ = run.shown_rows
    checked = _verified(run) if call.ask.verify == "1" else None
    written = last_write(path)
    settings = tried(run, lambda: facts.settings(run.source)) if run.epochs else None
    return answers.RunHealth(
        row=call.catalog.row(run_id, path),
        last_write=datetime.fromtimestamp(written, UTC).isoformat(timespec="seconds") if written else None,
        usual_epoch_seconds=usual_epoch(path),
        generation=None if found is None else found.number,
        samples=None if data is None else data.n,
        held_out=None if data is None or data.held_out is None else data.held_out.size,
        fingerprint=None if data is None or data.content is None else _fingerprint(data.content),
        sessions=_sessions(run),
        settings=[
            answers.Setting(name=run.places.hidden(name), value=run.places.hidden(value))
            for name, value in (settings or _options(run))[:_SETTINGS]
        ],
        problems=[
            answers.Problem(file=run.places.hidden(name), problem=run.places.hidden(sentence))
            for name, sentence in list(run.damage.items())[:_PROBLEMS]
        ],
        verified=checked,
    )


def _options(run: ServedRun) -> list[tuple[str, str]]:
    return [
        (f"--{name}", str(value)) for name, value in run.options.items() if value not in (None, "", [], {})
    ]


def _fingerprint(content: Any) -> str:
    """Return a short checksum of all samples, in their order."""
    return hashlib.blake2b(content.tobytes(), digest_size=8).hexdigest()


def _sessions(run: ServedRun) -> list[dict[str, Any]]:
    """Return machine and versions of the last sessions; nothing if they cannot be read."""
    with suppress(FallowError, OSError):
        path = run.directory.environment_path
        plain = finite(parse_json(run.directory.read(path, _LARGEST), "environment.json"))
        sessions = check_kind(Environment, plain, "environment.json").sessions
        hidden: list[dict[str, Any]] = run.places.hidden_in(sessions[-_SESSIONS:])
        return hidden
    return []


def _verified(run: ServedRun) -> answers.Verified:
    """Return the result of comparing every file with its checksum, as ``fallow verify`` does."""
    result = verify(RunFiles(run.directory.path))
    return answers.Verified(
        checked=len(result.checked),
        sound=not result.damaged,
        complete=result.complete,
        damaged=[
            answers.Problem(file=run.places.hidden(name), problem=run.places.hidden(sentence))
            for name, sentence in list(result.damaged.items())[:_PROBLEMS]
        ],
        remarks=[run.places.hidden(one) for one in result.remarks[:_PROBLEMS]],
    )
