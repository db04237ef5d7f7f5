"""Rare events in a table of real measurements: one row in 238 is one of them.

    python benchmarks/rare_events.py --out FOLDER [--arms A,B] [--saved auto] [--seeds 5] [--jobs 2]

Statlog's Shuttle has 58,000 rows of nine sensors in seven states, in Debian's package r-cran-mlbench, which
is read where it is installed and else fetched with apt-get, without being root. An event is one of its four
rarest states: 244 rows. A seed draws half of the rows of each state to train on; the others are for the test,
so that seeds differ in both, and arms are paired by seed. A network of two hidden layers tells events from
the rest.

What counts is the share of the events of the test that are found at thresholds which raise a false alarm on
0.1 and on 0.05 % of the other rows, and the average precision. Beside the arms of ``plain_loop.py``:

==================  ==============================================================================
balanced            as many rows of each class in an epoch as there can be: all events, and the
                    others a random subset; as many steps as full training
oversampled         events and others with equal odds, drawn with replacement; the same
==================  ==============================================================================
"""

from __future__ import annotations

import lzma
import struct
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import data
import plain_loop
from fallow.errors import damaged
from plain_loop import Arm, Batch, Material, Rows

INSTALLED = Path("/usr/lib/R/site-library/mlbench/data/Shuttle.rda")
SHA256 = "f9d3d58df57332c5f7781162081c4a1169daa24afafc3b63fb729fefd81252aa"
"""Of the file after decompression."""
RAREST = (2, 3, 6, 7)
"""Codes of the states that are events, from 1: Fpv.Close, Fpv.Open, Bpv.Close, Bpv.Open."""


# The file


class _Saved:
    """A reader of the few kinds of values that R's saved data frames of numbers hold, in XDR.

    References:
        R Internals, section "Serialization Formats"
    """

    PAIRS, SYMBOL, CHARACTERS, NOTHING, KNOWN = 2, 1, 9, 254, 255
    NUMBERS: ClassVar[dict[int, str]] = {10: ">i4", 13: ">i4", 14: ">f8"}
    LISTS = (16, 19)

    def __init__(self, content: bytes) -> None:
        # The kind, then the version of the format and of two programs.
        self.content, self.at, self.symbols = content, len(b"RDX2\nX\n") + 12, list[Any]()

    def integer(self) -> int:
        (value,) = struct.unpack_from(">i", self.content, self.at)
        self.at += 4
        return int(value)

    def read(self) -> Any:
        """Return the next value: an array or list with its attributes, a name, or a list of named values."""
        flags = self.integer()
        kind = flags & 255
        if kind == self.NOTHING:
            return None
        if kind == self.KNOWN:
            return self.symbols[(flags >> 8) - 1]
        if kind == self.SYMBOL:
            self.symbols.append(self.read())
            return self.symbols[-1]
        if kind == self.PAIRS:
            return self.pairs(flags)
        length = self.integer()
        if kind == self.CHARACTERS:
            self.at += length
            return self.content[self.at - length : self.at].decode()
        values: Any
        if kind in self.NUMBERS:
            values = np.frombuffer(self.content, self.NUMBERS[kind], length, self.at)
            self.at += values.nbytes
        elif kind in self.LISTS:
            values = [self.read() for _ in range(length)]
        else:
            raise damaged(
                "A saved data frame must hold numbers and texts.", f"kind {kind}", "Fetch it again."
            )
        return values, self.read() if flags & 512 else None

    def pairs(self, flags: int) -> dict[str, Any]:
        """Return named values until the end of their list."""
        found = {}
        while flags & 255 == self.PAIRS:
            name = self.read()
            found[name] = self.read()
            flags = self.integer()
        return found


def table(content: bytes) -> np.ndarray:
    """Return the columns of a data frame of numbers, ``(N, columns)``, from a decompressed .rda file."""
    (frame,) = _Saved(content).read().values()
    return np.stack([values for values, _ in frame[0]], 1).astype(np.float64)


def shuttle(folder: Path = data.FOLDER) -> tuple[np.ndarray, np.ndarray]:
    """Return the sensors ``(58_000, 9)``, and the states, from 1, ``(58_000,)``; fetched once.

    Raises:
        InvalidValue: if the package cannot be fetched.
        DamagedData: if the file is not the known one.
    """
    path = INSTALLED if INSTALLED.exists() else folder / "Shuttle.rda"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as work:
            data.run(["apt-get", "download", "r-cran-mlbench"], Path(work))
            package = next(Path(work).glob("*.deb"), None)
            data.run(["dpkg", "-x", "no package" if package is None else package.name, "."], Path(work))
            (Path(work) / INSTALLED.relative_to("/")).replace(path)
    columns = table(data.checked(lzma.decompress(path.read_bytes()), path.name, SHA256))
    return columns[:, :9], columns[:, 9].astype(np.int64)


def halves(states: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of two halves, in both of which each state has its share, to within one row."""
    order = rng.permutation(len(states))
    by_state = order[np.argsort(states[order], kind="stable")]
    return by_state[::2], by_state[1::2]


# The training


def oversampled(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``count`` rows, drawn with replacement so that each class is as likely."""
    odds = 1 / np.bincount(labels)[labels]
    return rng.choice(len(labels), count, p=odds / odds.sum())


def balanced(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``count`` different rows: of each class as many as of the others, or all that it has.

    >>> int(sum(balanced(np.array([0, 0, 0, 0, 1]), 3, np.random.default_rng(0)) == 4))
    1
    """
    order = rng.permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    sizes = np.bincount(labels)
    # The place of a row among those of its class: rows of low places are taken first.
    place = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rng.permutation(by_class[np.argsort(place, kind="stable")[:count]])


def recall_at(scores: np.ndarray, events: np.ndarray, alarms: float) -> float:
    """Return the share of events that score above all but the share ``alarms`` of the other rows.

    >>> recall_at(np.array([5.0, 1.0, 4.0, 3.0, 2.0]), np.array([True, True, False, False, False]), 0.34)
    0.5
    """
    others = np.sort(scores[~events])[::-1]
    return float((scores[events] > others[int(alarms * len(others))]).mean())


@dataclass(frozen=True)
class Shuttle(plain_loop.Work):
    """Events among the rows of Shuttle."""

    epochs: int = 40
    batch_size: int = 128
    learning_rate: float = 2e-3
    measures: ClassVar[Mapping[str, tuple[str, str]]] = {
        "recall_at_0.001": ("recall at 0.1 % alarms", ".3f"),
        "recall_at_0.0005": ("recall at 0.05 %", ".3f"),
        "average_precision": ("average precision", ".3f"),
    }
    own_arms: ClassVar[Mapping[str, Arm]] = {
        "balanced": Arm(draw=balanced),
        "oversampled": Arm(draw=oversampled),
    }

    def material(self, seed: int) -> Material:
        sensors, states = shuttle()
        train, test = halves(states, np.random.default_rng(seed))
        # Nine in ten values lie within some dozens, a few at thousands: a logarithm of the size tames them.
        middle = np.median(sensors[train], 0)
        tamed = np.arcsinh((sensors - middle) / np.maximum(1, np.abs(sensors[train] - middle).mean(0)))
        inputs = torch.from_numpy(tamed.astype(np.float32))
        events = np.isin(states, RAREST)
        labels = torch.from_numpy(events.astype(np.int64))
        model = nn.Sequential(nn.Linear(9, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))

        def losses(batch: Batch) -> tuple[Tensor, Tensor]:
            logits = model(batch[0])
            return cross_entropy(logits, batch[1], reduction="none"), logits.detach().argmax(1)

        def measure() -> dict[str, float]:
            logits = model(inputs[test]).double().numpy()
            scores = logits[:, 1] - logits[:, 0]
            found = {
                f"recall_at_{share:g}": recall_at(scores, events[test], share) for share in (0.001, 0.0005)
            }
            return {**found, "average_precision": float(average_precision_score(events[test], scores))}

        return Material(
            Rows(inputs[train], labels[train]), model, losses, measure, events[train].astype(np.int64)
        )


WORKS = {"shuttle": Shuttle()}

if __name__ == "__main__":
    plain_loop.main(__doc__, WORKS)
