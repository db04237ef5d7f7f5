"""What is pushed of a run: its files as they are, and a few that are made here."""

from __future__ import annotations

import hashlib
import io
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from msgspec import structs
from safetensors import SafetensorError, safe_open

from ..errors import DamagedData, FallowError
from ..files.array_file import KEY, dump_headed
from ..files.checked_json import check_kind, finite, parse_json
from ..files.disk import Digest
from ..files.regular_file import opened, read_regular
from ..runs.checkpoints import Checkpoint, manifest_of
from ..runs.directory import RunDirectory
from ..runs.pushed import may_hold
from ..runs.schema import PREDICTED, REACHED, Environment, SummaryRow

FORMAT = "fallow-pushed-1"
"""The format of the state of a pushed run, which no training resumes from."""
FIRST = ("config.yaml", "environment.json")
"""What a run has from its beginning."""
_FIELDS = set(SummaryRow.__struct_fields__)
_LARGEST = 1 << 22


def newest(run: RunDirectory) -> Checkpoint | None:
    """Return the newest generation whose manifest is sound; None if there is none yet. States are not read.

    Raises:
        DamagedData: if all manifests are damaged.
    """
    damage: DamagedData | None = None
    for number in reversed(run.checkpoints.numbers()[-4:]):
        try:
            return run.checkpoints.manifest(number)
        except FileNotFoundError:
            continue
        except DamagedData as error:
            damage = damage or error
    if damage is not None:
        raise damage
    return None


def id_of(run: RunDirectory) -> str:
    """Return the id of a run: of this machine, this folder and its first session; the same each time."""
    began: Any = None
    with suppress(FallowError, OSError):
        data = read_regular(run.environment_path, run.path, _LARGEST)
        plain = finite(parse_json(data, "environment.json"))
        began = check_kind(Environment, plain, "environment.json").sessions[0].get("began")
    place = os.path.realpath(run.path)
    facts = repr((socket.gethostname(), place, os.stat(place).st_ino, str(began)))
    return hashlib.blake2b(facts.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def later_names(run: RunDirectory) -> Iterator[str]:
    """Yield the names of files that no manifest lists and that may be pushed, in order."""
    for name in ("history/shown.safetensors", "summary.json", "gaps.safetensors"):
        if os.path.lexists(run.path / name):
            yield name
    with suppress(OSError):
        yield from sorted(name for name in os.listdir(run.path) if name.endswith(".csv") and may_hold(name))


@dataclass(frozen=True)
class Source:
    """A file to push, open: its bytes stay the same, whatever the training writes meanwhile.

    Attributes:
        file: at any place.
        digest: of all of it.
    """

    file: IO[bytes]
    digest: Digest


@contextmanager
def source(run: RunDirectory, name: str) -> Iterator[Source]:
    """Yield a file of a run.

    Raises:
        DamagedData: if it is a link, or not a regular file.
        OSError: if it cannot be read.
    """
    # A run replaces its files and never changes them, so that an open one is as it was.
    with opened(run.path / name, run.path) as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        yield Source(file, Digest(file.tell(), sha256))


@contextmanager
def made(data: bytes) -> Iterator[Source]:
    """Yield a file that is made here."""
    yield Source(io.BytesIO(data), Digest.of(data))


def small_state(run: RunDirectory, number: int) -> bytes:
    """Return the part of a state that readers look at: what each epoch reached, and the predicted classes.

    Raises:
        FileNotFoundError: if a training has replaced the state.
    """
    path = run.checkpoints.state_path(number)
    rows: list[dict[str, Any]] = []
    arrays: dict[str, Any] = {}
    with opened(path, run.path):
        pass  # it is a regular file of this run
    # It loads one array alone: the weights beside it may be large. A state that is damaged says nothing.
    with suppress(SafetensorError, DamagedData, LookupError, TypeError, AttributeError, ValueError):
        with safe_open(path, framework="numpy") as state:
            names = [name for name in state.keys() if name.endswith(PREDICTED)]  # noqa: SIM118
            arrays = {PREDICTED: np.ascontiguousarray(state.get_tensor(names[0]))} if names else {}
            tree: Any = parse_json(state.metadata()[KEY].encode(), path.name)["tree"]
        for name in REACHED:
            tree = tree[name]
        rows = [{k: v for k, v in row.items() if k in _FIELDS and not isinstance(v, dict)} for row in tree]
    told: Any = rows
    for name in reversed(REACHED):
        told = {name: told}
    return dump_headed(arrays, finite({"format": FORMAT, "tree": told}))


def manifest(found: Checkpoint, state: str, digests: dict[str, Digest]) -> bytes:
    """Return the manifest of a pushed run: that of the run, with its small state and what came.

    Args:
        found: the generation of the run.
        state: the name of the small state.
        digests: of what came, by name.
    """
    about = structs.asdict(found.about)
    others = about.pop("others")
    named = [state, *(name for name in found.files if not name.startswith("state/"))]
    return manifest_of(
        found.number, about | others, {name: digests[name] for name in named if name in digests}
    )


def sums(run: RunDirectory, digests: dict[str, Digest]) -> bytes | None:
    """Return the lines of ``SHA256SUMS`` about files that came; None without it, or if files changed since.

    Raises:
        DamagedData: if it is invalid.
    """
    lines = {name: digits for name, digits in run.sums().items() if name in digests}
    if not lines or any(digests[name].sha256 != digits for name, digits in lines.items()):
        return None
    return "".join(f"{digits}  {name}\n" for name, digits in lines.items()).encode()
