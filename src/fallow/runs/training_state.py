"""The saved state of a training: the only module that knows its layout.

It is the tree that Lightning collects, without the history, which is stored in the epoch files::

    state_dict, loops, global_step, optimizer_states, ...    Lightning's entries; ``state_dict``: the weights
    image_task             entries of the tasks: done, (epoch, batches); class_accuracy
    callbacks
      SubsamplingCallback  subsampler: Subsampler.state_dict(); watch: of an ActivationDensity, or missing
      EpochWriter          epochs: rows of summary.json; metrics; pending: epoch files not written yet
      Keeper               generators: of each rank; seconds; record_seconds: of each epoch; steps; evaluated
      Stopwatch            epoch: seconds of the current epoch
      NothingLeft          reason: why the training may end; missing if there is something left to learn

The keys are those of the first version, so that old runs can be resumed; some classes have new names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from msgspec import Meta, Struct
from numpy.typing import NDArray
from torch import Tensor

from ..arrays.generators import generator_states, put_back
from ..core.history import Aggregates, EpochRecord
from ..core.state import opened, pack_history
from ..core.state_checks import check_state
from ..errors import FallowError, damaged
from ..files import state_file
from ..files.checked_json import Count, Epochs, Real, Seconds, check_kind, finite
from ..policies.base import Policy
from .schema import About, SummaryRow

SUBSAMPLING, WRITER, CHECKPOINTER, STOPWATCH = "SubsamplingCallback", "EpochWriter", "Keeper", "Stopwatch"
NOTHING_LEFT = "NothingLeft"
TASK = "image_task"
USE_OLDER = "Resume from an older state: remove this one and its .json, or put back a copy."
_WHOLE = ("epoch", "global_step", "state_dict", "loops", "callbacks", "optimizer_states", "lr_schedulers")
_REBUILT = (
    "hyper_parameters",
    "hparams_name",
    "hparams_type",
    "datamodule_hyper_parameters",
    "datamodule_hparams_name",
    "datamodule_hparams_type",
)
"""Lightning's hyper-parameter entries; they are not saved, as objects are rebuilt from the options."""


class _CheckpointerPart(Struct, forbid_unknown_fields=True):
    generators: Annotated[list[Any], Meta(min_length=1)]
    seconds: tuple[Seconds, Seconds]
    record_seconds: list[Seconds]
    steps: Count
    evaluated: Count | None


class _WriterPart(Struct, forbid_unknown_fields=True):
    epochs: list[dict[str, Any]]
    metrics: dict[str, float | None]
    pending: list[Any]


class _StopwatchPart(Struct, forbid_unknown_fields=True):
    epoch: tuple[Seconds, Seconds, Seconds]


class _NothingLeftPart(Struct, forbid_unknown_fields=True):
    reason: Annotated[str, Meta(max_length=1000)]


class _Row(Struct):
    """Fields of each finished epoch besides its aggregates."""

    samples_backward: Count
    samples_forward_only: Count
    samples_full: Count
    saved_fraction: Real
    seconds: Seconds
    waiting_seconds: Seconds
    evaluating_seconds: Seconds
    record_seconds: Seconds


class _Counts(Struct):
    ready: Count
    started: Count
    processed: Count
    completed: Count


class TrainingState:
    """The state of a training.

    Args:
        tree: the nested dictionary that Lightning saves and loads.
    """

    def __init__(self, tree: dict[str, Any]) -> None:
        self.tree = tree

    @staticmethod
    def parse(data: bytes, path: Path) -> TrainingState:
        """Return the unchecked content of a file's bytes; see :meth:`check`.

        Raises:
            DamagedData: if they are not a state file.
        """
        return TrainingState(state_file.parse(data, str(path)))

    @staticmethod
    def collected(checkpoint: dict[str, Any]) -> TrainingState:
        """Return the state of a Lightning checkpoint, without the history."""
        tree = {name: part for name, part in checkpoint.items() if name not in _REBUILT}
        callbacks = dict(tree["callbacks"])
        saved = callbacks[SUBSAMPLING]  # copied below, as the original belongs to Lightning
        callbacks[SUBSAMPLING] = {**saved, "subsampler": {**opened(saved["subsampler"]), "history": []}}
        return TrainingState({**tree, "callbacks": callbacks})

    def dump(self) -> bytes:
        """Return the bytes of the file."""
        return state_file.dump(self.tree)

    @property
    def callbacks(self) -> dict[str, Any]:
        """The state of each callback, by name."""
        states: dict[str, Any] = self.tree["callbacks"]
        return states

    @property
    def weights(self) -> dict[str, Tensor]:
        """The network's parameters and buffers, by name."""
        weights: dict[str, Tensor] = self.tree["state_dict"]
        return weights

    @property
    def subsampler(self) -> dict[str, Any]:
        """The state of the subsampler."""
        state: dict[str, Any] = self.callbacks[SUBSAMPLING]["subsampler"]
        return state

    @subsampler.setter
    def subsampler(self, saved: dict[str, Any]) -> None:
        self.callbacks[SUBSAMPLING]["subsampler"] = saved

    @property
    def density(self) -> dict[str, Any] | None:
        """The state of the activation monitor, or None."""
        state: dict[str, Any] | None = self.callbacks[SUBSAMPLING].get("watch")
        return state

    @density.setter
    def density(self, saved: dict[str, Any]) -> None:
        self.callbacks[SUBSAMPLING]["watch"] = saved

    @property
    def recorded(self) -> int:
        """The number of samples recorded in the current epoch."""
        return int(self.subsampler["table"]["recorded"])

    @property
    def record_seconds(self) -> list[float]:
        """The time spent recording in each finished epoch."""
        seconds: list[float] = self.callbacks[CHECKPOINTER]["record_seconds"]
        return seconds

    @property
    def nothing_left(self) -> str:
        """Why the training may end; empty if there is something left to learn, or not known."""
        reason: str = self.callbacks.get(NOTHING_LEFT, {}).get("reason", "")
        return reason

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of ``summary.json``, one per finished epoch."""
        rows: list[dict[str, Any]] = self.callbacks[WRITER]["epochs"]
        return rows

    @property
    def pending(self) -> list[NDArray[np.uint8]]:
        """The files of the last epochs, as bytes, that could not be written."""
        files: list[NDArray[np.uint8]] = self.callbacks[WRITER]["pending"]
        return files

    @property
    def written(self) -> int:
        """The number of epochs that have a file."""
        return len(self.record_seconds) - len(self.pending)

    def put_history(self, records: list[EpochRecord]) -> None:
        """Put the past epochs, read from their files, into the subsampler's state."""
        self.subsampler["history"] = pack_history(records)

    def check(self, path: Path, about: About, policy: Policy, *, density: bool) -> None:
        """Raise if the state is incomplete or invalid. Lightning itself loads a partial one silently.

        Args:
            path: of its file, for the error.
            about: the description in its manifest.
            policy: of the run.
            density: whether the run monitors activations.

        Raises:
            DamagedData: with the problem.
        """
        rule, tree = f"{path} must be a state of this training.", self.tree
        missing = [name for name in _WHOLE if not isinstance(tree, dict) or name not in tree]
        if missing:
            raise damaged(rule, f"no {missing[0]}", USE_OLDER)
        for name in (SUBSAMPLING, WRITER, CHECKPOINTER, STOPWATCH):
            if not isinstance(self.callbacks, dict) or not isinstance(self.callbacks.get(name), dict):
                raise damaged(rule, f"no part {name}", USE_OLDER)
        try:
            self._check_subsampling(path, policy, density=density)
        except FallowError as error:
            raise damaged(rule, str(error), USE_OLDER) from None
        for name, kind in ((CHECKPOINTER, _CheckpointerPart), (STOPWATCH, _StopwatchPart)):
            check_kind(kind, finite(self.callbacks[name]), f"{name} in {path}", USE_OLDER)
        if (part := self.callbacks.get(NOTHING_LEFT)) is not None:
            check_kind(_NothingLeftPart, part, f"{NOTHING_LEFT} in {path}", USE_OLDER)
        self._check_writer(path)
        _check_generators(self.callbacks[CHECKPOINTER]["generators"], path)
        _check_loops(tree["loops"], path)
        self._check_agreement(path, about)

    def _check_subsampling(self, path: Path, policy: Policy, *, density: bool) -> None:
        part = self.callbacks[SUBSAMPLING]
        saved = part.get("subsampler")
        if not isinstance(saved, dict) or saved.get("history") != []:
            rule = "A run's state must hold a subsampler without history, which is in the epoch files."
            raise damaged(rule, in_short(saved.get("history") if isinstance(saved, dict) else saved))
        wanted = {"subsampler"} | ({"watch"} if density else set())
        if part.keys() != wanted:
            names = ", ".join(map(str, part))
            raise damaged(f"{SUBSAMPLING} must hold {' and '.join(sorted(wanted))}.", names)
        check_state(saved, policy, without_history=True)
        if saved["part"] is not None:
            raise damaged(f"{path} must hold the whole subsampler.", "the part of one rank")

    def _check_writer(self, path: Path) -> None:
        name, part, epoch = f"{WRITER} in {path}", self.callbacks[WRITER], self.subsampler["epoch"]
        check_kind(_WriterPart, finite(part), name, USE_OLDER)
        rows = finite(self.rows)
        # Three classes, because each describes only the fields that its own reader needs.
        for kind in (list[_Row], list[SummaryRow], list[Aggregates]):
            check_kind(kind, rows, f"`epochs` of {name}", USE_OLDER)
        if [row["epoch"] for row in rows] != list(range(epoch)) or len(self.pending) > epoch:
            rule = f"{name} must hold a row for each of {epoch} epochs, in their order."
            raise damaged(rule, f"{len(rows)} rows, {len(self.pending)} files", USE_OLDER)
        for data in self.pending:
            if not _is_bytes(data):
                rule = f"`pending` of {name} must hold files, as bytes."
                raise damaged(rule, in_short(data), USE_OLDER)

    def _check_agreement(self, path: Path, about: About) -> None:
        """Raise if the callbacks or the manifest disagree on the progress of the training."""
        epoch, step, recorded = self.subsampler["epoch"], self.tree["global_step"], self.recorded
        pairs = {
            "epochs recorded": (len(self.record_seconds), epoch),
            "steps": (self.callbacks[CHECKPOINTER]["steps"], step),
            "epoch": (about.epoch, epoch),
            "recorded": (about.recorded, recorded),
            "steps in its manifest": (about.steps, step),
        }
        for name, (first, second) in pairs.items():
            # 1, 1.0 and True are equal, but only one of them is what fallow writes.
            if type(first) is not type(second) or first != second:
                rule = f"{path} must have one value of {name}."
                raise damaged(rule, f"{first} and {second}", USE_OLDER)

    def check_task(self, path: Path) -> None:
        """Raise if the entries of the tasks are missing or wrong.

        Raises:
            DamagedData: with the problem.
        """
        part = self.tree.get(TASK)
        done = part.get("done") if isinstance(part, dict) else None
        check_kind(tuple[Epochs, Count], done, f"`{TASK}.done` in {path}", USE_OLDER)
        assert isinstance(part, dict)
        counts = part.get("class_accuracy")
        if counts is None:
            return
        is_table = isinstance(counts, Tensor) and counts.dtype == torch.int64 and counts.dim() == 2
        if (
            not is_table
            or counts.shape[0] != 2
            or bool((counts < 0).any())
            or bool((counts[0] > counts[1]).any())
        ):
            rule = f"`{TASK}.class_accuracy` in {path} must count the right and all predictions per class."
            raise damaged(rule, in_short(counts), USE_OLDER)


def _check_generators(states: list[Any], path: Path) -> None:
    """Raise if a state of the generators cannot be loaded."""
    # There is no other way to validate one than to load it, so the present states are saved and restored.
    before = generator_states()
    for data in states:
        try:
            put_back(state_file.parse(data.tobytes() if _is_bytes(data) else b"", "the generators"))
        except Exception as error:  # each type of generator has errors of its own
            message = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise damaged(f"{path} must hold valid states of generators.", message, USE_OLDER) from None
        finally:
            put_back(before)


def _check_loops(loops: Any, path: Path) -> None:
    """Raise if Lightning's counts of batches and steps are missing or wrong."""
    try:
        fit = loops["fit_loop"]
        stepped = fit["epoch_loop.state_dict"]["_batches_that_stepped"]
        total = fit["epoch_loop.batch_progress"]["total"]
    except (LookupError, TypeError):
        raise damaged(f"{path} must hold Lightning's counts in `loops`.", "others", USE_OLDER) from None
    check_kind(_Counts, total, f"`loops` in {path}", USE_OLDER)
    check_kind(Count, stepped, f"`loops` in {path}", USE_OLDER)


def _is_bytes(data: Any) -> bool:
    array: NDArray[Any] | None = data if isinstance(data, np.ndarray) else None
    return array is not None and array.dtype == np.uint8 and array.ndim == 1


def in_short(value: Any) -> str:
    """Return a short description of a value in a state."""
    if isinstance(value, Tensor | np.ndarray):
        return f"{value.dtype} {tuple(value.shape)}"
    if isinstance(value, list | dict | tuple):
        return f"{type(value).__name__} of {len(value)}"
    return repr(value)[:80]
