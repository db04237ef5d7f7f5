"""The folder that a run leaves behind: written whole or not at all, read without torch, no pickle."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ._checks import DamagedData as DamagedData
from ._checks import invalid
from .history import EpochRecord
from .policies.base import Reason

COLUMNS = ("index", "label", "score", "perplexity", "reason", "times_used")


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; what is written there takes its place, or nothing does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class EpochFile:
    """One epoch as it lies in ``history/``.

    Attributes:
        record: what happened.
        scores: float32 ``(n,)``, the last score of each sample at the end of the epoch.
        reason: uint8 ``(n,)``, why each sample was left out of it.
    """

    record: EpochRecord
    scores: NDArray[np.float32]
    reason: NDArray[np.uint8]


class RunDirectory:
    """The files of one run.

    Args:
        path: the folder.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @staticmethod
    def create(path: str | os.PathLike[str]) -> RunDirectory:
        """Return a new run's folder.

        Raises:
            InvalidValue: where the folder already holds something, or cannot be made.
        """
        run = RunDirectory(path)
        if run.path.is_dir() and any(run.path.iterdir()):
            holds = "a run" if run.summary_path.exists() or run.config_path.exists() else "other files"
            raise invalid("The out directory must be new or empty.", f"{holds} in {path}", "Name another.")
        try:
            (run.path / "history").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise invalid("The out directory must be writable.", f"{path}: {error.strerror}") from None
        return run

    def discard(self) -> None:
        """Take back what a run made that did not finish an epoch; nothing else is touched."""
        if self.epochs():
            return
        self.config_path.unlink(missing_ok=True)
        for folder in (self.path / "history", self.path):
            with suppress(OSError):
                folder.rmdir()

    @property
    def config_path(self) -> Path:
        """``config.yaml``: the options of the run."""
        return self.path / "config.yaml"

    @property
    def summary_path(self) -> Path:
        """``summary.json``: accuracy, samples, seconds."""
        return self.path / "summary.json"

    @property
    def model_path(self) -> Path:
        """``model.safetensors``: the weights."""
        return self.path / "model.safetensors"

    @property
    def samples_path(self) -> Path:
        """``samples.csv``: one line a sample."""
        return self.path / "samples.csv"

    def epoch_path(self, epoch: int) -> Path:
        """``history/epoch-00000.safetensors``: one epoch."""
        return self.path / "history" / f"epoch-{epoch:05d}.safetensors"

    def write_text(self, path: Path, text: str) -> None:
        """Write a text file whole."""
        with replaced(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write ``summary.json``; a value that is not finite becomes null."""
        self.write_text(self.summary_path, json.dumps(_finite(summary), indent=2) + "\n")

    def write_epoch(self, file: EpochFile) -> None:
        """Write one epoch's file; equal runs write equal bytes, so no times are in it."""
        arrays: dict[str, NDArray[Any]] = {
            "score": file.scores,
            "reason": file.reason,
            "used": file.record.used_bits,
        }
        aggregates = {k: v for k, v in file.record.aggregates().items() if k != "record_seconds"}
        header = {"format": "fallow-epoch-1", "aggregates": _finite(aggregates)}
        metadata = {"fallow": json.dumps(header)}  # one key: safetensors writes several in any order
        with replaced(self.epoch_path(file.record.epoch)) as temporary:
            temporary.write_bytes(save(arrays, metadata=metadata))

    def read_epoch(self, epoch: int) -> EpochFile:
        """Read one epoch's file.

        Raises:
            DamagedData: where it is missing, cut short or of another format.
        """
        path = self.epoch_path(epoch)
        try:
            with safe_open(path, framework="numpy") as file:
                header = json.loads((file.metadata() or {}).get("fallow", "{}"))
                if header.get("format") != "fallow-epoch-1":
                    raise DamagedData(f"{path} is not an epoch that this version of fallow wrote.")
                arrays = {name: file.get_tensor(name) for name in ("score", "reason", "used")}
                aggregates = header["aggregates"]
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise DamagedData(f"{path} cannot be read: {error}. Look for another copy of it.") from None
        mean = aggregates["mean_score"]
        aggregates |= {"mean_score": float("nan") if mean is None else mean, "record_seconds": 0.0}
        quantiles = aggregates["score_quantiles"]
        aggregates["score_quantiles"] = [float("nan") if q is None else q for q in quantiles]
        record = EpochRecord.restore(arrays["used"], aggregates)
        return EpochFile(record, arrays["score"], arrays["reason"])

    def epochs(self) -> list[int]:
        """Return which epochs have a file, ascending."""
        found = (self.path / "history").glob("epoch-*.safetensors")
        return sorted(int(path.stem.removeprefix("epoch-")) for path in found)

    def write_samples(
        self,
        labels: Sequence[str] | None,
        scores: NDArray[np.float32],
        reason: NDArray[np.uint8],
        times_used: NDArray[np.integer],
        *,
        nats: bool,
    ) -> None:
        """Write ``samples.csv``: index, label, score, perplexity, reason, times used.

        Args:
            labels: the class of each sample by name, or None.
            scores: ``(N,)``; NaN is left empty.
            reason: ``(N,)``, why each sample was left out at the end.
            times_used: ``(N,)``, in how many epochs it was trained on.
            nats: whether ``exp(score)`` is a perplexity.
        """
        words = [r.words for r in Reason]
        with replaced(self.samples_path) as temporary, temporary.open("w", newline="", encoding="utf-8") as f:
            writer = csv.writer(f, lineterminator="\n")
            writer.writerow(COLUMNS)
            for i, (score, why, used) in enumerate(
                zip(scores.tolist(), reason.tolist(), times_used.tolist(), strict=True)
            ):
                known = score == score
                shown = f"{score:.6g}" if known else ""
                perplexity = f"{np.exp(min(score, 700.0)):.6g}" if known and nats else ""
                label = "" if labels is None else _safe_cell(labels[i])
                writer.writerow((i, label, shown, perplexity, words[why], used))


def _safe_cell(text: str) -> str:
    """Return text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in tuple("=+-@\t\r|") else text


def _finite(value: Any) -> Any:
    """Return ``value`` with every number that JSON cannot hold as None."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
