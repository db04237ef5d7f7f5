"""Runs that somebody crafted: an honest one, changed in one place, with every checksum made right again.

A craft is a function of the folder of a run. Those of one kind stand together; :data:`CRAFTS` has all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fallow.files.array_file import dump_headed
from fallow.files.disk import Digest
from fallow.runs.checkpoints import Checkpoints, manifest_of

Craft = Callable[[Path], None]
CRAFTS: dict[str, Craft] = {}
CANARY = "canary"
"""Foreign code writes a file of this name; the place is in the environment variable ``FALLOW_CANARY``."""
CODE = "import os; open(os.environ['FALLOW_CANARY'], 'a').write(__name__)\n"
DEEP = b"[" * 100_000
DIGITS = 10**400
EVIL = "\x1b[31m\r=cmd|' /C calc'!A0\n\u202e\ud800<script>alert(1)</script>"


def make_honest(folder: Path) -> Path:
    """Train two epochs on 64 digits, and return the run, ``folder / "run"``."""
    data, run = (
        ["--data", "digits", "--samples", "64"],
        ["--epochs", "2", "--batch_size", "32", "--out", "run"],
    )
    command = [sys.executable, "-m", "fallow", "train", *data, *run]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder / "run"


def craft(kind: str, name: str) -> Callable[[Craft], Craft]:
    """Register a craft under ``kind: name``."""

    def registered(function: Craft) -> Craft:
        assert f"{kind}: {name}" not in CRAFTS
        CRAFTS[f"{kind}: {name}"] = function
        return function

    return registered


def add(kind: str, name: str, function: Craft) -> None:
    """Register a craft that is made of parts."""
    craft(kind, name)(function)


@dataclass(frozen=True)
class PlainManifest:
    """A manifest whose ``about`` may hold anything."""

    number: int
    about: dict[str, Any]
    files: dict[str, Digest]


def newest(run: Path) -> PlainManifest:
    """Return the newest manifest as it stands, sound or not."""
    checkpoints = Checkpoints(run)
    found = json.loads(checkpoints.manifest_path(checkpoints.numbers()[-1]).read_text())
    files = {name: Digest(one["bytes"], one["sha256"]) for name, one in found["files"].items()}
    return PlainManifest(found["number"], found["about"], files)


def put_manifest(run: Path, manifest: PlainManifest) -> None:
    """Write a manifest with a right checksum, and remove the older generations: they would be used."""
    checkpoints = Checkpoints(run)
    for number in checkpoints.numbers():
        if number != manifest.number:
            checkpoints.manifest_path(number).unlink(missing_ok=True)
            checkpoints.state_path(number).unlink(missing_ok=True)
    data = manifest_of(manifest.number, manifest.about, manifest.files)
    checkpoints.manifest_path(manifest.number).write_bytes(data)


def reseal(run: Path) -> None:
    """Make the checksums right again, in the manifest and in SHA256SUMS, for files that can be read."""
    before = newest(run)
    files = {}
    for name, digest in before.files.items():
        path = run / name
        honest = path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 28
        files[name] = Digest.of(path.read_bytes()) if honest else digest
    put_manifest(run, replace(before, files=files))
    reseal_sums(run)


def reseal_sums(run: Path) -> None:
    """Make the checksums in SHA256SUMS right again."""
    sums = run / "SHA256SUMS"
    if not sums.is_file() or sums.is_symlink():
        return
    lines = []
    for line in sums.read_text().splitlines():
        digits, name = line.split("  ", 1)
        path = run / name
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 28:
            digits = hashlib.sha256(path.read_bytes()).hexdigest()
        lines.append(f"{digits}  {name}\n")
    sums.write_text("".join(lines))


def changed_about(**changes: Any) -> Craft:
    """Return a craft that changes what the manifest says of the training; ``...`` removes a name."""

    def change(run: Path) -> None:
        before = newest(run)
        about = {name: value for name, value in (before.about | changes).items() if value is not ...}
        put_manifest(run, replace(before, about=about))

    return change


def changed_options(**changes: Any) -> Craft:
    """Return a craft that changes the stored options, in the manifest and in ``config.yaml``."""

    def change(run: Path) -> None:
        before = newest(run)
        options = before.about["options"] | changes
        put_manifest(run, replace(before, about=before.about | {"options": options}))
        (run / "config.yaml").write_text(json.dumps(options))
        reseal_sums(run)

    return change


def header_of(data: bytes) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Return the outer header of a safetensors file, ours inside it, and where the arrays begin."""
    length = int.from_bytes(data[:8], "little")
    outer = json.loads(data[8 : 8 + length])
    return outer, json.loads(outer["__metadata__"]["fallow"]), 8 + length


def rewritten(data: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """Return the bytes of an array file with another header of ours; the arrays stay."""
    outer, inner, start = header_of(data)
    found = change(inner)
    outer["__metadata__"]["fallow"] = found if isinstance(found, str) else json.dumps(found)
    head = json.dumps(outer).encode()
    return struct.pack("<Q", len(head)) + head + data[start:]


def arrays_of(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays of a file and our header."""
    from safetensors.numpy import load

    data = path.read_bytes()
    return load(data), header_of(data)[1]


def changed_header(name: str, change: Callable[[dict[str, Any]], Any]) -> Craft:
    """Return a craft that changes our header in a file of the run."""

    def rewrite(run: Path) -> None:
        path = run / name
        path.write_bytes(rewritten(path.read_bytes(), change))
        reseal(run)

    return rewrite


def changed_arrays(name: str, change: Callable[[dict[str, np.ndarray]], Any]) -> Craft:
    """Return a craft that changes the arrays in a file of the run."""

    def rewrite(run: Path) -> None:
        arrays, header = arrays_of(run / name)
        change(arrays)
        (run / name).write_bytes(dump_headed({k: np.ascontiguousarray(v) for k, v in arrays.items()}, header))
        reseal(run)

    return rewrite


def replaced(name: str, data: bytes | str) -> Craft:
    """Return a craft that puts other bytes in place of a file."""

    def put(run: Path) -> None:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_bytes(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data)
        reseal(run)

    return put


def _aggregates(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda header: {**header, "aggregates": {**header["aggregates"], **changes}}


EPOCH = "history/epoch-00001.safetensors"
SHOWN = "history/shown.safetensors"

# 1. What the manifest says of the training.
for _label, _changes in {
    "epoch of 10^10": {"epoch": 10**10},
    "epoch of 400 digits": {"epoch": DIGITS},
    "epoch below 0": {"epoch": -1},
    "epoch as text": {"epoch": "3"},
    "epoch as a list": {"epoch": [1]},
    "epoch as true": {"epoch": True},
    "epoch as nothing": {"epoch": None},
    "epoch with a fraction": {"epoch": 1.5},
    "no epoch": {"epoch": ...},
    "epochs of 10^12": {"epochs": 10**12},
    "epochs as an object": {"epochs": {"a": 1}},
    "recorded below 0": {"recorded": -5},
    "recorded as text": {"recorded": "many"},
    "planned of 400 digits": {"planned": DIGITS},
    "steps as a list": {"steps": []},
    "seconds of 10^308": {"seconds": 1e308},
    "seconds as text": {"seconds": EVIL},
    "seconds not a number": {"seconds": float("nan")},
    "data outside": {"data": "../../outside/foreign.txt"},
    "data from the root": {"data": "/etc/passwd"},
    "data with a control character": {"data": "data\x1b[31m.safetensors"},
    "data as a number": {"data": 7},
    "options as a list": {"options": [1, 2]},
    "options as text": {"options": EVIL},
    "no options": {"options": ...},
    "options without data": {"options": {}},
    "nested 5,000 deep": {"options": {"data": "digits", "model_args": json.loads("[" * 900 + "]" * 900)}},
    "a million keys": {"more": {f"k{i}": i for i in range(200_000)}},
}.items():
    add("manifest", _label, changed_about(**_changes))


@craft("manifest", "files outside of the run")
def _files_outside(run: Path) -> None:
    before = newest(run)
    foreign = {"../outside/foreign.txt": Digest(3, "0" * 64), "/etc/passwd": Digest(3, "0" * 64)}
    put_manifest(run, replace(before, files=before.files | foreign))


@craft("manifest", "files of 10^15 bytes")
def _files_huge(run: Path) -> None:
    before = newest(run)
    put_manifest(
        run, replace(before, files={name: Digest(10**15, d.sha256) for name, d in before.files.items()})
    )


@craft("manifest", "names of files that cannot be")
def _files_odd(run: Path) -> None:
    before = newest(run)
    odd = {name: Digest(1, "0" * 64) for name in ("a\0b", "x" * 300, EVIL, "", ".", "history", "\ud800")}
    put_manifest(run, replace(before, files=before.files | odd))


for _label, _data in {
    "deep nesting": DEEP,
    "cut short": b'{"format": "fallow-generation-1", "num',
    "empty": b"",
    "zeros": bytes(4096),
    "a list": b"[]",
    "another format": b'{"format": "fallow-generation-99", "number": 1, "about": {}, "files": {}}',
    "format as a list": b'{"format": [1], "number": 1}',
    "UTF-16": json.dumps({"format": "fallow-generation-1"}).encode("utf-16"),
    "9 MB": b'{"format": "' + b"x" * 9_000_000 + b'"}',
}.items():

    def _put(run: Path, data: bytes = _data) -> None:
        checkpoints = Checkpoints(run)
        for number in checkpoints.numbers():
            checkpoints.manifest_path(number).write_bytes(data)

    add("manifest", _label, _put)


@craft("manifest", "none at all")
def _no_manifest(run: Path) -> None:
    for path in (run / "state").glob("*.json"):
        path.unlink()


# 2. Stored options.
for _label, _changes in {
    "a class of Python's as the network": {
        "model": "subprocess:Popen",
        "model_args": {"args": "touch $FALLOW_CANARY", "shell": True},
    },
    "a function of Python's as the data": {
        "data": "os:system",
        "data_args": {"command": "touch $FALLOW_CANARY"},
    },
    "a module beside": {"model": "canary_module:Net"},
    "a module beside as data": {"data": "canary_module:Data"},
    "a module of the run": {"model": "run.canary_module:Net"},
    "nested names": {"model": "os.path:os.system"},
    "code of a repository": {
        "task": "text",
        "data": "texts.csv",
        "model": "repository",
        "model_args": {"trust_remote_code": True},
    },
    "epochs as text": {"epochs": "3"},
    "epochs of 10^12": {"epochs": 10**12},
    "epochs of 400 digits": {"epochs": DIGITS},
    "seed of 400 digits": {"seed": DIGITS},
    "batch size of 10^15": {"batch_size": 10**15},
    "workers of 10^6": {"workers": 10**6},
    "devices of 10^6": {"accelerator": "cpu", "devices": "1000000", "strategy": "ddp"},
    "nodes of 10^6, an option that has left": {"accelerator": "cpu", "num_nodes": 10**6, "strategy": "ddp"},
    "image size of 10^9": {"image_size": 10**9},
    "policy as a list": {"policy": ["soft"]},
    "policy unknown": {"policy": EVIL},
    "score unknown": {"score": "brier'"},
    "fraction of 10^300": {"fraction": 1e300},
    "fraction not a number": {"fraction": float("nan")},
    "low as an object": {"low": {"a": 1}},
    "low of 400 digits": {"low": DIGITS},
    "readmit_at of 10^6 numbers, which has left": {"readmit_at": list(range(10**5))},
    "layers that are not there": {"score": "density", "layers": ["x" * 10_000]},
    "an option that is not there": {"evil": 1},
    "an option with a strange name": {EVIL: EVIL},
    "a path of 10,000 characters": {"data": "x/" * 5_000},
    "data with a zero byte": {"data": "a\0b"},
    "data half of a surrogate pair": {"data": "a\ud800b"},
    "data on a device": {"data": "/dev/zero"},
    "data on an endless device as npz": {"data": "/dev/zero.npz"},
    "data is the run": {"data": "."},
    "add of foreign files": {"add": "/etc/passwd,../outside/foreign.txt"},
    "add of an endless device": {"add": "/dev/zero"},
    "a trainer that writes elsewhere": {
        "trainer": {"default_root_dir": "../outside", "logger": True, "enable_checkpointing": True}
    },
    "a trainer with a profiler": {"trainer": {"profiler": "advanced"}},
    "a trainer of strange names": {"trainer": {EVIL: EVIL}},
    "a logger unknown": {"logger": "os:system"},
    "out elsewhere": {"out": "../outside/new"},
    "resume elsewhere": {"resume": "../outside"},
    "strategy unknown": {"strategy": "os.system"},
    "devices of 400 digits": {"devices": "9" * 400},
    "density args": {"score": "density", "density_args": {"components": 10**12}},
    "text options of images": {"text": EVIL, "label": EVIL},
}.items():
    add("options", _label, changed_options(**_changes))

# 3. Files of epochs.
for _label, _change in {
    "epoch of 10^12": _aggregates(epoch=10**12),
    "epoch as text": _aggregates(epoch="1"),
    "n of 10^12": _aggregates(n=10**12),
    "n below 0": _aggregates(n=-1),
    "n of 400 digits": _aggregates(n=DIGITS),
    "n with a fraction": _aggregates(n=64.5),
    "backward too many": _aggregates(backward=10**9),
    "kept below 0": _aggregates(kept=-4),
    "kept as a list": _aggregates(kept=[1]),
    "mean as text": _aggregates(mean_score=EVIL),
    "mean of 400 digits": _aggregates(mean_score=DIGITS),
    "quantiles of 10^6": _aggregates(score_quantiles=[0.5] * 10**6),
    "quantiles as objects": _aggregates(score_quantiles=[{}] * 5),
    "no quantiles": _aggregates(score_quantiles=[]),
    "a histogram of text": _aggregates(score_histogram=["x"] * 55),
    "a histogram of one": _aggregates(score_histogram=[1]),
    "a histogram below 0": _aggregates(score_histogram=[-(10**18)] * 55),
    "notes as a list": _aggregates(notes=[1, 2]),
    "notes of text": _aggregates(notes={"low": EVIL}),
    "notes of 400 digits": _aggregates(notes={"low": DIGITS}),
    "a field more": _aggregates(evil=EVIL),
    "readmitted of 400 digits": _aggregates(readmitted=DIGITS),
    "no aggregates": lambda header: {"format": header["format"]},
    "aggregates as text": lambda header: {**header, "aggregates": EVIL},
    "another format": lambda header: {**header, "format": EVIL},
    "a header of text": lambda header: EVIL,
    "a header nested deep": lambda header: DEEP.decode(),
}.items():
    add("epoch", _label, changed_header(EPOCH, _change))
for _label, _change in {
    "scores as float64": lambda a: a.update(score=a["score"].astype(np.float64)),
    "scores in two columns": lambda a: a.update(score=a["score"].reshape(2, -1)),
    "scores infinite": lambda a: a.update(score=np.full_like(a["score"], np.inf)),
    "one score less": lambda a: a.update(score=a["score"][:-1]),
    "no scores": lambda a: a.pop("score"),
    "reasons of 255": lambda a: a.update(reason=np.full_like(a["reason"], 255)),
    "no bits": lambda a: a.update(used=np.zeros(0, np.uint8)),
    "all bits": lambda a: a.update(used=np.full_like(a["used"], 255)),
    "20,000 arrays": lambda a: a.update({f"x{i}": np.zeros(0, np.uint8) for i in range(20_000)}),
}.items():
    add("epoch", _label, changed_arrays(EPOCH, _change))
for _label, _data in {
    "a header longer than the file": struct.pack("<Q", 1 << 62) + b"{}",
    "a header of 100 MB": struct.pack("<Q", 100_000_000) + b" " * 1000,
    "a header nested deep": struct.pack("<Q", len(DEEP)) + DEEP,
    "empty": b"",
    "seven bytes": b"1234567",
    "zeros": bytes(100_000),
}.items():
    add("epoch", f"{_label}, raw", replaced(EPOCH, _data))


@craft("epoch", "numbered 3 * 10^8")
def _numbered(run: Path) -> None:
    data = (run / EPOCH).read_bytes()
    data = rewritten(data, _aggregates(epoch=300_000_000))
    (run / "history" / "epoch-300000000.safetensors").write_bytes(data)


@craft("epoch", "numbered 65,535")
def _numbered_last(run: Path) -> None:
    data = rewritten((run / EPOCH).read_bytes(), _aggregates(epoch=65_535))
    (run / "history" / "epoch-65535.safetensors").write_bytes(data)


@craft("epoch", "numbered in other digits")
def _numbered_odd(run: Path) -> None:
    shutil.copy(run / EPOCH, run / "history" / "epoch-٠٠٠٠٣.safetensors")


# 4. The data file.
for _label, _change in {
    "labels of 2^31": lambda a: a.update(labels=np.full_like(a["labels"], 2**31 - 1)),
    "labels below -1": lambda a: a.update(labels=np.full_like(a["labels"], -(2**31))),
    "labels as int64": lambda a: a.update(labels=a["labels"].astype(np.int64)),
    "one label less": lambda a: a.update(labels=a["labels"][1:]),
    "n of 2^62": lambda a: a.update(n=np.array([2**62])),
    "n below 0": lambda a: a.update(n=np.array([-1])),
    "n of two": lambda a: a.update(n=np.array([64, 64])),
    "no n": lambda a: a.pop("n"),
    "n alone, of 10^12": lambda a: (a.clear(), a.update(n=np.array([10**12]))),
    "contents as floats": lambda a: a.update(content=a["content"].astype(np.float64)),
    "names that unpack to 1 GB": lambda a: a.update(
        files=np.frombuffer(zlib.compress(bytes(1 << 30), 9), np.uint8)
    ),
    "one name of 1 GB": lambda a: a.update(files=np.frombuffer(zlib.compress(b"x" * (1 << 30), 9), np.uint8)),
    "names that are not packed": lambda a: a.update(files=np.frombuffer(b"a\0b\0c", np.uint8)),
    "too few names": lambda a: a.update(files=np.frombuffer(zlib.compress(b"a\0b"), np.uint8)),
    "names cut short": lambda a: a.update(
        files=np.frombuffer(zlib.compress(b"a\0" * 63 + b"b")[:-6], np.uint8)
    ),
    "strange names": lambda a: a.update(
        files=np.frombuffer(
            zlib.compress(
                b"\0".join([EVIL.encode("utf-8", "surrogatepass").replace(b"\0", b"")] * a["labels"].size)
            ),
            np.uint8,
        )
    ),
    "held-out labels of another length": lambda a: a.update(held_out_labels=np.zeros(3, np.int32)),
    "held out as bytes": lambda a: a.update(held_out=a["held_out"].view(np.uint8)),
}.items():
    add("data", _label, changed_arrays("data.safetensors", _change))
for _label, _change in {
    "classes as a number": lambda header: {**header, "classes": 7},
    "classes of numbers": lambda header: {**header, "classes": [1, 2, 3]},
    "classes nested": lambda header: {**header, "classes": [["a"]] * 10},
    "strange classes": lambda header: {**header, "classes": [EVIL] * 10},
    "classes of 10^6 characters": lambda header: {**header, "classes": ["x" * 10**6] * 10},
    "too few classes": lambda header: {**header, "classes": ["a"]},
    "no classes": lambda header: {"format": header["format"]},
    "another format": lambda header: {**header, "format": 3},
}.items():
    add("data", _label, changed_header("data.safetensors", _change))

# 5. Pictures and texts that are shown, gaps.
for _label, _change in {
    "texts that unpack to 1 GB": lambda a: a.update(
        texts=np.frombuffer(zlib.compress(b"[" + b'"",' * (1 << 28), 9), np.uint8)
    ),
    "texts nested deep": lambda a: a.update(texts=np.frombuffer(zlib.compress(DEEP, 9), np.uint8)),
    "texts of numbers": lambda a: a.update(texts=np.frombuffer(zlib.compress(b"[1,2]"), np.uint8)),
    "index below 0": lambda a: a.update(index=-a["index"] - 1),
    "index of 2^62": lambda a: a.update(index=a["index"] + 2**62),
    "index in two columns": lambda a: a.update(index=a["index"].reshape(-1, 1)),
    "index as one number": lambda a: a.update(index=np.array(3)),
    "predicted of 2^31": lambda a: a.update(predicted=np.full_like(a["predicted"], 2**31 - 1)),
    "no index": lambda a: a.pop("index"),
    "pictures without pixels": lambda a: a.update(pictures=np.zeros((a["index"].size, 0, 8, 3), np.uint8)),
    "pictures of 2 channels": lambda a: a.update(pictures=np.zeros((a["index"].size, 8, 8, 2), np.uint8)),
    "pictures as floats": lambda a: a.update(pictures=np.zeros((a["index"].size, 8, 8, 1))),
}.items():
    add("shown", _label, changed_arrays(SHOWN, _change))
add("shown", "epoch of 10^12", changed_header(SHOWN, lambda header: {**header, "epoch": 10**12}))
add("shown", "epoch as text", changed_header(SHOWN, lambda header: {**header, "epoch": EVIL}))


def _gaps(told: Any, **arrays: np.ndarray) -> Craft:
    def put(run: Path) -> None:
        parts = {"there": np.ones(1, np.uint8), **arrays}
        (run / "gaps.safetensors").write_bytes(dump_headed(parts, {"format": "fallow-gaps-1", "told": told}))

    return put


_CARD = {
    "name": EVIL,
    "size": DIGITS,
    "percentile": "x",
    "examples": [{"of": "training", "index": 10**18, "file": EVIL, "picture": 5}],
}
add("gaps", "cards of strange values", _gaps({"gaps": [_CARD], "thin": [_CARD]}))
add(
    "gaps",
    "strange names alone",
    _gaps({"gaps": [{"name": EVIL, "action": EVIL, "reason": EVIL}], "thin": []}),
)
add("gaps", "lists that are none", _gaps({"gaps": 3, "thin": None}))
add("gaps", "cards that are none", _gaps({"gaps": [1, "x"], "thin": [None]}))
add("gaps", "told as a list", _gaps([1]))
add("gaps", "100,000 cards", _gaps({"gaps": [{"name": "x"}] * 100_000, "thin": []}))
add("gaps", "nested deep", _gaps({"gaps": [{"a": json.loads("[" * 500 + "]" * 500)}], "thin": []}))
add("gaps", "pictures of no size", _gaps({"gaps": [], "thin": []}, pictures=np.zeros((2, 0, 8, 3), np.uint8)))
add(
    "gaps",
    "pictures of 10,000 pixels",
    _gaps({"gaps": [], "thin": []}, pictures=np.zeros((1, 10_000, 8, 3), np.uint8)),
)
add("gaps", "not an array file", lambda run: (run / "gaps.safetensors").write_bytes(b"x" * 1000) and None)

# 6. Text files.
_BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
for _label, _data in {
    "YAML that multiplies": _BOMB,
    "YAML nested deep": "[" * 100_000,
    "YAML with a date that does not exist": "data: digits\nbegan: 2026-02-31\n",
    "YAML that makes objects": "!!python/object/apply:os.system ['touch $FALLOW_CANARY']",
    "a number of 5,000 digits": "seed: " + "9" * 5_000,
    "binary": bytes(range(256)),
    "10 MB": "x: " + "y" * 10_000_000,
    "a list": "- a\n- b\n",
    "empty": "",
}.items():
    add("config", _label, replaced("config.yaml", _data))

    def _alone(run: Path, data: bytes | str = _data) -> None:
        shutil.rmtree(run / "state")
        (run / "SHA256SUMS").unlink(missing_ok=True)
        (run / "config.yaml").write_bytes(data.encode() if isinstance(data, str) else data)

    add("config", f"{_label}, and no state", _alone)
for _label, _data in {
    "numbers of 400 digits": json.dumps({"epochs": [], "accuracy": DIGITS, "seconds": DIGITS}),
    "epochs of text": json.dumps({"epochs": [EVIL] * 3}),
    "epochs as an object": json.dumps({"epochs": {"a": 1}}),
    "rows of wrong kinds": json.dumps({"epochs": [{"epoch": "x", "accuracy": []}] * 3}),
    "remarks of objects": json.dumps({"epochs": [], "remarks": [{}, 3, EVIL]}),
    "strange texts": json.dumps({"epochs": [], "policy": EVIL, "schedule": EVIL, "remarks": [EVIL] * 100}),
    "a list": "[]",
    "nested deep": DEEP,
    "not JSON": "{",
    "Infinity": '{"epochs": [], "accuracy": Infinity, "seconds": NaN}',
    "10 MB": json.dumps({"epochs": [], "x": "y" * 10_000_000}),
    "5,000 digits": '{"epochs": [], "seconds": ' + "9" * 5_000 + "}",
    "binary": bytes(range(256)),
}.items():
    add("summary", _label, replaced("summary.json", _data))
for _label, _data in {
    "paths outside": f"{'0' * 64}  ../outside/foreign.txt\n{'0' * 64}  /etc/passwd\n",
    "a name with a zero byte": f"{'0' * 64}  a\0b\n",
    "a device": f"{'0' * 64}  /dev/zero\n",
    "a strange name": f"{'0' * 64}  {EVIL.replace(chr(10), '').replace(chr(13), '')}\n",
    "cut short": "abc",
    "binary": bytes(range(256)),
    "100 MB": b"0" * 100_000_000,
    "a folder": f"{'0' * 64}  history\n",
}.items():

    def _sums(run: Path, data: bytes | str = _data) -> None:
        (run / "SHA256SUMS").write_bytes(
            data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        )

    add("sums", _label, _sums)
add("environment", "nested deep", replaced("environment.json", DEEP))
add("environment", "sessions as text", replaced("environment.json", json.dumps({"sessions": EVIL})))
add("environment", "20 MB", replaced("environment.json", json.dumps({"sessions": ["x" * 1000] * 20_000})))

# 7. Other things in place of files.
_NAMES = (
    "config.yaml",
    "SHA256SUMS",
    "summary.json",
    "data.safetensors",
    EPOCH,
    SHOWN,
    "gaps.safetensors",
    "model.safetensors",
    "samples.csv",
    "environment.json",
    "lock",
    "usage.png",
    "STATE",
    "MANIFEST",
)


def _place(run: Path, name: str) -> Path:
    number = Checkpoints(run).numbers()[-1]
    checkpoints = Checkpoints(run)
    found = {"STATE": checkpoints.state_path(number), "MANIFEST": checkpoints.manifest_path(number)}
    path = found.get(name, run / name)
    if path.is_file() or path.is_symlink():
        path.unlink()
    return path


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    before = os.open(".", os.O_RDONLY)
    os.chdir(path.parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.fchdir(before)
        os.close(before)


def _link_out(path: Path) -> None:
    path.symlink_to((path.parent / ".." / "outside" / "foreign.txt").absolute())


def _link_endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _link_itself(path: Path) -> None:
    path.symlink_to(path.name)


def _folder(path: Path) -> None:
    path.mkdir()


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 38)


for _name in _NAMES:
    for _label, _make in {
        "a FIFO": _fifo,
        "a socket": _socket,
        "a link out": _link_out,
        "a link to an endless device": _link_endless,
        "a link to itself": _link_itself,
        "a folder": _folder,
        "a sparse file of 256 GB": _sparse,
    }.items():

        def _swap(run: Path, name: str = _name, make: Callable[[Path], None] = _make) -> None:
            make(_place(run, name))

        add("in place of", f"{_name}, {_label}", _swap)


@craft("in place of", "lock, another name of a foreign file")
def _hard_link(run: Path) -> None:
    _place(run, "lock").hardlink_to(run.parent / "outside" / "foreign.txt")


# 8. Folders that lead elsewhere.
for _name in ("history", "state", "logs", "checkpoints", "export"):

    def _elsewhere(run: Path, name: str = _name) -> None:
        path, outside = run / name, run.parent / "outside" / name
        shutil.rmtree(path, ignore_errors=True)
        outside.mkdir(exist_ok=True)
        (outside / ".foreign.1.tmp").write_text("foreign")
        (outside / ".foreign.0123456789abcdef.tmp").write_text("foreign")
        path.symlink_to(outside)

    add("folder", f"{_name} is a link out", _elsewhere)

    def _file(run: Path, name: str = _name) -> None:
        shutil.rmtree(run / name, ignore_errors=True)
        (run / name).write_text("x")

    add("folder", f"{_name} is a file", _file)


@craft("folder", "history leads to itself")
def _cycle(run: Path) -> None:
    (run / "history" / "again").symlink_to(run / "history")


@craft("folder", "logs hold a link out")
def _logs(run: Path) -> None:
    (run / "logs").mkdir(exist_ok=True)
    (run / "logs" / "metrics.csv").symlink_to(run.parent / "outside" / "foreign.txt")


@craft("folder", "checkpoints hold a link out")
def _checkpoints(run: Path) -> None:
    (run / "checkpoints").mkdir(exist_ok=True)
    (run / "checkpoints" / "last.ckpt").symlink_to(run.parent / "outside" / "foreign.txt")


@craft("folder", "modules of the run")
def _modules(run: Path) -> None:
    for name in (
        "canary_module",
        "yaml",
        "json",
        "torch",
        "lightning",
        "numpy",
        "jinja2",
        "rich",
        "sitecustomize",
        "scipy",
    ):
        (run / f"{name}.py").write_text(CODE)
    (run / "fallow").mkdir()
    (run / "fallow" / "__init__.py").write_text(CODE)


# 9. The state itself.
def changed_state(change: Callable[[dict[str, Any]], Any]) -> Craft:
    """Return a craft that changes the tree of the state."""

    def rewrite(run: Path) -> None:
        from fallow.files.state_file import dump, parse

        checkpoints = Checkpoints(run)
        path = checkpoints.state_path(checkpoints.numbers()[-1])
        tree = parse(path.read_bytes(), "state")
        found = change(tree)
        path.write_bytes(dump(tree if found is None else found))
        reseal(run)

    return rewrite


def _part(tree: dict[str, Any]) -> dict[str, Any]:
    return next(part for part in tree["callbacks"].values() if "subsampler" in part)["subsampler"]


def _set(*names: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(tree: dict[str, Any]) -> None:
        at: Any = _part(tree)
        for name in names[:-1]:
            at = at[name]
        at[names[-1]] = value

    return change


for _label, _change in {
    "no callbacks": lambda tree: tree.pop("callbacks") and None,
    "callbacks as a list": lambda tree: tree.update(callbacks=[1]),
    "no writer": lambda tree: tree["callbacks"].pop("EpochWriter") and None,
    "rows of text": lambda tree: tree["callbacks"]["EpochWriter"].update(epochs=[EVIL]),
    "rows of wrong kinds": lambda tree: tree["callbacks"]["EpochWriter"].update(epochs=[{"epoch": "x"}, {}]),
    "pending of other bytes": lambda tree: tree["callbacks"]["EpochWriter"].update(
        pending=[np.zeros(9, np.uint8)]
    ),
    "seconds as text": lambda tree: tree["callbacks"]["Keeper"].update(seconds=EVIL),
    "record_seconds of 10^5": lambda tree: tree["callbacks"]["Keeper"].update(record_seconds=[0.0] * 100_000),
    "generators of text": lambda tree: tree["callbacks"]["Keeper"].update(generators=[EVIL]),
    "steps as text": lambda tree: tree["callbacks"]["Keeper"].update(steps=EVIL),
    "weights of another shape": lambda tree: tree["state_dict"].update(
        {name: value[:1] for name, value in list(tree["state_dict"].items())[:1]}
    ),
    "weights missing": lambda tree: tree["state_dict"].clear(),
    "weights as text": lambda tree: tree.update(state_dict={"a": EVIL}),
    "optimizers of text": lambda tree: tree.update(optimizer_states=[EVIL]),
    "an optimizer of other groups": lambda tree: tree["optimizer_states"][0].update(
        param_groups=[{"params": [7, 8, 9]}]
    ),
    "loops of text": lambda tree: tree.update(loops=EVIL),
    "a version of Lightning from tomorrow": lambda tree: tree.update({"pytorch-lightning_version": "99.0.0"}),
    "a version that is none": lambda tree: tree.update({"pytorch-lightning_version": EVIL}),
    "global_step of 10^30": lambda tree: tree.update(global_step=10**30),
    "global_step as text": lambda tree: tree.update(global_step=EVIL),
    "checkpoints elsewhere": lambda tree: tree["callbacks"].update(
        {
            "ModelCheckpoint{}": {
                "dirpath": "x",
                "best_k_models": {"../outside/foreign.txt": 1.0},
                "last_model_path": "../outside/foreign.txt",
            }
        }
    ),
    "a tree of text": lambda tree: EVIL,
    "a tree of nothing": lambda tree: [],
    "n of 10^12": _set("settings", "n", value=10**12),
    "settings of text": _set("settings", value=EVIL),
    "policy of text": _set("settings", "policy", value=EVIL),
    "epoch of 10^12": _set("epoch", value=10**12),
    "epoch below 0": _set("epoch", value=-1),
    "version 99": _set("version", value=99),
    "a table of text": _set("table", value=EVIL),
    "scores of text": _set("table", "scores", value=EVIL),
    "a column too long": _set("table", "columns", value={"x": np.zeros(5)}),
    "columns of text": _set("table", "columns", value={"x": EVIL}),
    "notes of text": _set("table", "notes", value={"x": EVIL}),
    "bad as text": _set("table", "bad", value=EVIL),
    "recorded of 10^30": _set("table", "recorded", value=10**30),
    "a plan of text": _set("plan", value=EVIL),
    "no kept": _set("plan", "kept", value=None),
    "readmitted as text": _set("plan", "readmitted", value=EVIL),
    "labels of text": _set("labels", value=EVIL),
    "no history": _set("history", value=None),
}.items():
    add("state", _label, changed_state(_change))


def kinds() -> dict[str, int]:
    """Return how many crafts there are of each kind."""
    found: dict[str, int] = {}
    for name in CRAFTS:
        kind = name.partition(":")[0]
        found[kind] = found.get(kind, 0) + 1
    return found


def snapshot(folder: Path) -> dict[str, Any]:
    """Return what lies in a folder: the bytes of files, where links lead, what else there is."""
    found: dict[str, Any] = {}
    for path in _everything(folder):
        mode = path.lstat().st_mode
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = mode
    return found


def _everything(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        yield from (Path(place, name) for name in (*folders, *files))
