"""The saved state of a training: the one file that knows what lies where in it.

It is the tree that Lightning collects, less the history, which lies in the files of the epochs::

    state_dict, loops, global_step, optimizer_states, ...    Lightning's own; ``state_dict``: the weights
    image_task             what our tasks keep beside the weights: done, (epoch, batches); class_accuracy
    callbacks
      SubsamplingCallback  subsampler: Subsampler.state_dict(); watch: of an ActivationDensity, or missing
      EpochWriter          epochs: rows of summary.json; metrics; pending: epoch files not written yet
      Keeper               generators: of each rank; seconds; record_seconds: of each epoch; steps; evaluated
      Stopwatch            epoch: seconds of the epoch under way

The names are those of the first version, whatever the classes that save under them are called now.
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
from ..core.state_checks import check_state
from ..errors import FallowError, damaged
from ..files import state_file
from ..files.checked_json import Count, Epochs, Real, Seconds, check_kind, finite
from ..policies.base import Policy
from .schema import About, SummaryRow

SUBSAMPLING, WRITER, CHECKPOINTER, STOPWATCH = "SubsamplingCallback", "EpochWriter", "Keeper", "Stopwatch"
TASK = "image_task"
USE_OLDER = "Go on from an older state: remove this one and its .json, or put back a copy."
_WHOLE = ("epoch", "global_step", "state_dict", "loops", "callbacks", "optimizer_states", "lr_schedulers")
_REBUILT = (
    "hyper_parameters",
    "hparams_name",
    "hparams_type",
    "datamodule_hyper_parameters",
    "datamodule_hparams_name",
    "datamodule_hparams_type",
)
"""What Lightning saves to build objects again; here they are built from the run's options."""


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


class _Row(Struct):
    """What each finished epoch has, beside its aggregates."""

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
        tree: as Lightning collects it and takes it back.
    """

    def __init__(self, tree: dict[str, Any]) -> None:
        self.tree = tree

    @staticmethod
    def parse(data: bytes, path: Path) -> TrainingState:
        """Return what the bytes of a file hold. It may be anything; see :meth:`check`.

        Raises:
            DamagedData: if they are no state file.
        """
        return TrainingState(state_file.parse(data, str(path)))

    @staticmethod
    def collected(checkpoint: dict[str, Any]) -> TrainingState:
        """Return what Lightning collected, as a run keeps it: without the history."""
        tree = {name: part for name, part in checkpoint.items() if name not in _REBUILT}
        callbacks = dict(tree["callbacks"])
        saved = callbacks[SUBSAMPLING]
        callbacks[SUBSAMPLING] = {**saved, "subsampler": {**saved["subsampler"], "history": []}}
        return TrainingState({**tree, "callbacks": callbacks})

    def dump(self) -> bytes:
        """Return the bytes of the file."""
        return state_file.dump(self.tree)

    @property
    def callbacks(self) -> dict[str, Any]:
        """What each callback saved, by name."""
        found: dict[str, Any] = self.tree["callbacks"]
        return found

    @property
    def weights(self) -> dict[str, Tensor]:
        """The network's parameters and buffers, by name."""
        found: dict[str, Tensor] = self.tree["state_dict"]
        return found

    @property
    def subsampler(self) -> dict[str, Any]:
        """What the subsampler saved."""
        found: dict[str, Any] = self.callbacks[SUBSAMPLING]["subsampler"]
        return found

    @subsampler.setter
    def subsampler(self, saved: dict[str, Any]) -> None:
        self.callbacks[SUBSAMPLING]["subsampler"] = saved

    @property
    def density(self) -> dict[str, Any] | None:
        """What the activation monitor saved, or None."""
        found: dict[str, Any] | None = self.callbacks[SUBSAMPLING].get("watch")
        return found

    @density.setter
    def density(self, saved: dict[str, Any]) -> None:
        self.callbacks[SUBSAMPLING]["watch"] = saved

    @property
    def recorded(self) -> int:
        """How many samples were recorded in the epoch under way."""
        return int(self.subsampler["table"]["recorded"])

    @property
    def record_seconds(self) -> list[float]:
        """The time spent recording in each finished epoch."""
        found: list[float] = self.callbacks[CHECKPOINTER]["record_seconds"]
        return found

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What ``summary.json`` says of each finished epoch."""
        found: list[dict[str, Any]] = self.callbacks[WRITER]["epochs"]
        return found

    @property
    def pending(self) -> list[NDArray[np.uint8]]:
        """The files of the last epochs, as bytes, if they could not be written."""
        found: list[NDArray[np.uint8]] = self.callbacks[WRITER]["pending"]
        return found

    @property
    def written(self) -> int:
        """How many epochs have a file."""
        return len(self.record_seconds) - len(self.pending)

    def put_history(self, records: list[EpochRecord]) -> None:
        """Put the past epochs, read from their files, into the subsampler's part."""
        self.subsampler["history"] = [
            {"used_bits": torch.from_numpy(record.used_bits), **record.aggregates()} for record in records
        ]

    def check(self, path: Path, about: About, policy: Policy, *, density: bool) -> None:
        """Raise if the state holds what no training leaves.

        Lightning takes over what it finds, and says nothing of what is missing.

        Args:
            path: of its file, for the error.
            about: what its manifest says.
            policy: of the run.
            density: whether the run watches activations.

        Raises:
            DamagedData: naming what is wrong.
        """
        rule, tree = f"{path} must be a state of this training.", self.tree
        lacking = [name for name in _WHOLE if name not in tree] if isinstance(tree, dict) else list(_WHOLE)
        if lacking:
            raise damaged(rule, f"no {lacking[0]}", USE_OLDER)
        for name in (SUBSAMPLING, WRITER, CHECKPOINTER, STOPWATCH):
            if not isinstance(self.callbacks, dict) or not isinstance(self.callbacks.get(name), dict):
                raise damaged(rule, f"no part {name}", USE_OLDER)
        try:
            self._check_subsampling(path, policy, density=density)
        except FallowError as error:
            raise damaged(rule, str(error), USE_OLDER) from None
        for name, kind in ((CHECKPOINTER, _CheckpointerPart), (STOPWATCH, _StopwatchPart)):
            check_kind(kind, finite(self.callbacks[name]), f"{name} in {path}", USE_OLDER)
        self._check_writer(path)
        _check_generators(self.callbacks[CHECKPOINTER]["generators"], path)
        _check_loops(tree["loops"], path)
        self._check_agreement(path, about)

    def _check_subsampling(self, path: Path, policy: Policy, *, density: bool) -> None:
        part = self.callbacks[SUBSAMPLING]
        saved = part.get("subsampler")
        if not isinstance(saved, dict) or saved.get("history") != []:
            rule = (
                "A run's state must hold a subsampler without its history, which lies in the epochs' files."
            )
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
        """Raise if the parts, or the manifest, disagree on how far the training is."""
        epoch, step, recorded = self.subsampler["epoch"], self.tree["global_step"], self.recorded
        pairs = {
            "the epochs that it recorded": (len(self.record_seconds), epoch),
            "steps": (self.callbacks[CHECKPOINTER]["steps"], step),
            "epoch": (about.epoch, epoch),
            "recorded": (about.recorded, recorded),
            "steps in its manifest": (about.steps, step),
        }
        for name, (one, other) in pairs.items():
            if type(one) is not type(other) or one != other:
                rule = f"{path} must say the same of {name} everywhere."
                raise damaged(rule, f"{one} and {other}", USE_OLDER)

    def check_task(self, path: Path) -> None:
        """Raise if what our tasks keep beside the weights is missing or wrong.

        Raises:
            DamagedData: naming what is wrong.
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
            rule = f"`{TASK}.class_accuracy` in {path} must count right and all predictions of each class."
            raise damaged(rule, in_short(counts), USE_OLDER)


def _check_generators(states: list[Any], path: Path) -> None:
    """Put each state of the generators in place once, to see that it is one."""
    before = generator_states()
    for data in states:
        try:
            put_back(state_file.parse(data.tobytes() if _is_bytes(data) else b"", "the generators"))
        except Exception as error:  # each type of generator has errors of its own
            what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise damaged(f"{path} must hold states of generators.", what, USE_OLDER) from None
        finally:
            put_back(before)


def _check_loops(loops: Any, path: Path) -> None:
    """Raise if Lightning's counts of batches and steps are missing or wrong."""
    try:
        fit = loops["fit_loop"]
        stepped = fit["epoch_loop.state_dict"]["_batches_that_stepped"]
        total = fit["epoch_loop.batch_progress"]["total"]
    except (LookupError, TypeError):
        rule = f"{path} must hold `loops`, Lightning's counts."
        raise damaged(rule, "others", USE_OLDER) from None
    check_kind(_Counts, total, f"`loops` in {path}", USE_OLDER)
    check_kind(Count, stepped, f"`loops` in {path}", USE_OLDER)


def _is_bytes(data: Any) -> bool:
    array: NDArray[Any] | None = data if isinstance(data, np.ndarray) else None
    return array is not None and array.dtype == np.uint8 and array.ndim == 1


def in_short(value: Any) -> str:
    """Return what a value of a state is, in a few words."""
    if isinstance(value, Tensor | np.ndarray):
        return f"{value.dtype} {tuple(value.shape)}"
    if isinstance(value, list | dict | tuple):
        return f"{type(value).__name__} of {len(value)}"
    return repr(value)[:80]
