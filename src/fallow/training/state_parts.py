"""What the parts of a run's saved state may hold, checked before anything of it is taken over.

Lightning takes what it finds: without the state of an optimizer it trains on without its momentum, and says
nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from msgspec import Meta, Struct
from numpy.typing import NDArray
from torch import Tensor, nn

from ..arrays.generators import generator_states, put_back
from ..core.history import Aggregates
from ..core.state_checks import check_state
from ..errors import FallowError, damaged
from ..files.checked_json import Count, Epochs, Real, Seconds, check_kind, finite
from ..files.state_file import parse
from ..options.train_options import OUR_MODELS
from ..runs.schema import SummaryRow
from ..tasks.base import OURS, OurTask
from .jobs import Job

SUBSAMPLING, WRITER, KEEPER, STOPWATCH = "SubsamplingCallback", "EpochWriter", "Keeper", "Stopwatch"
_WHOLE = ("epoch", "global_step", "state_dict", "loops", "callbacks", "optimizer_states", "lr_schedulers")
_SETTINGS = ("momentum", "weight_decay", "nesterov", "betas", "eps")
"""Of an optimizer; its learning rate may be a tensor."""
_STEP = "Go on from an older state: remove this one and its .json, or put back a copy."


class _KeeperPart(Struct, forbid_unknown_fields=True):
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


def check_parts(state: Any, path: Path, about: dict[str, Any], job: Job) -> None:
    """Raise if a state holds what no training of this job leaves.

    Args:
        state: as Lightning saved it, with our parts in ``callbacks``.
        path: of its file, for the error.
        about: what its manifest says.
        job: what is to be trained on.

    Raises:
        DamagedData: naming what is wrong.
    """
    rule = f"{path} must be a state of this training."
    lacking = [name for name in _WHOLE if name not in state] if isinstance(state, dict) else list(_WHOLE)
    if lacking:
        raise damaged(rule, f"no {lacking[0]}", _STEP)
    callbacks = state["callbacks"]
    for name in (SUBSAMPLING, WRITER, KEEPER, STOPWATCH):
        if not isinstance(callbacks, dict) or not isinstance(callbacks.get(name), dict):
            raise damaged(rule, f"no part {name}", _STEP)
    try:
        _check_subsampling(callbacks[SUBSAMPLING], job, path)
    except FallowError as error:
        raise damaged(rule, str(error), _STEP) from None
    saved = callbacks[SUBSAMPLING]["subsampler"]
    epoch, step = saved["epoch"], state["global_step"]
    for name, kind in ((KEEPER, _KeeperPart), (STOPWATCH, _StopwatchPart)):
        check_kind(kind, finite(callbacks[name]), f"{name} in {path}", _STEP)
    _check_writer(callbacks[WRITER], epoch, path)
    keeper = callbacks[KEEPER]
    _check_generators(keeper["generators"], path)
    _check_loops(state["loops"], path)
    same = {
        "the epochs that it recorded": (len(keeper["record_seconds"]), epoch),
        "steps": (keeper["steps"], step),
        "epoch": (about.get("epoch", epoch), epoch),
        "recorded": (about.get("recorded", saved["table"]["recorded"]), saved["table"]["recorded"]),
        "steps in its manifest": (about.get("steps", step), step),
    }
    for name, (found, wanted) in same.items():
        if type(found) is not type(wanted) or found != wanted:
            raise damaged(f"{path} must say the same of {name} everywhere.", f"{found} and {wanted}", _STEP)
    _check_ours(state, job, path)


def check_optimizers(trainer: Trainer, state: dict[str, Any], place: str, *, whole: bool) -> None:
    """Raise if a state has not what the optimizers and the schedules of a training remember.

    Args:
        trainer: with its optimizers made, and none of the state taken over.
        state: as Lightning saved it.
        place: of the state, for the error.
        whole: whether each weight must have a part of its own: in a network that uses all of them.

    Raises:
        DamagedData: naming what is lacking.
    """
    saved, schedules = state["optimizer_states"], state["lr_schedulers"]
    for name, found, wanted in (
        ("optimizer_states", saved, len(trainer.strategy.optimizers)),
        ("lr_schedulers", schedules, len(trainer.lr_scheduler_configs)),
    ):
        right = isinstance(found, list) and len(found) == wanted
        if not right or not all(isinstance(part, dict) for part in found):
            raise damaged(f"{place} must hold {name}: {wanted}.", _told(found), _STEP)
    for config, part in zip(trainer.lr_scheduler_configs, schedules, strict=True):
        if lacking := sorted(config.scheduler.state_dict().keys() - part.keys()):
            raise damaged(
                f"{place} must hold what a learning rate's schedule keeps.", f"no {lacking[0]}", _STEP
            )
    plugin = trainer.precision_plugin
    if plugin.state_dict() and type(plugin).__qualname__ not in state:
        raise damaged(f"{place} must hold the scale of the gradients.", "none", _STEP)
    for optimizer, part in zip(trainer.strategy.optimizers, saved, strict=True):
        if not hasattr(optimizer, "param_groups"):
            continue
        groups = part.get("param_groups")
        sizes = [len(group["params"]) for group in optimizer.param_groups]
        found = [len(g["params"]) for g in groups] if _are_groups(groups) else None
        if found != sizes or not isinstance(part.get("state"), dict):
            raise damaged(f"{place} must hold an optimizer of {sum(sizes)} weights.", _told(groups), _STEP)
        for ours, theirs in zip(optimizer.param_groups, groups, strict=True):
            wrong = [
                name for name in _SETTINGS if name in ours and type(theirs.get(name)) is not type(ours[name])
            ]
            if wrong:
                found = repr(theirs.get(wrong[0]))[:80]
                raise damaged(f"{place} must hold `{wrong[0]}` of its optimizer.", found, _STEP)
        if not state["global_step"] or not _remembers(optimizer):
            continue
        ids = [name for group in groups for name in group["params"]]
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        if not part["state"]:
            raise damaged(f"{place} must hold what its optimizer remembers of each weight.", "nothing", _STEP)
        for name, weight in zip(ids, weights, strict=True):
            _check_weight(part["state"].get(name), weight, place, whole=whole)


def uses_all_weights(job: Job, model: str) -> bool:
    """Return whether each weight of the network gets a gradient in each step."""
    return isinstance(job.module, OurTask) and model in OUR_MODELS


def _check_subsampling(part: dict[str, Any], job: Job, path: Path) -> None:
    saved = part.get("subsampler")
    if not isinstance(saved, dict) or saved.get("history") != []:
        rule = "A run's state must hold a subsampler without its history, which lies in the epochs' files."
        raise damaged(rule, _told(saved.get("history") if isinstance(saved, dict) else saved))
    wanted = {"subsampler"} | ({"watch"} if job.watch is not None else set())
    if part.keys() != wanted:
        raise damaged(f"{SUBSAMPLING} must hold {' and '.join(sorted(wanted))}.", ", ".join(map(str, part)))
    check_state(saved, job.subsampler.policy, without_history=True)
    if saved["part"] is not None:
        raise damaged(f"{path} must hold the whole subsampler.", "the part of one rank")


def _check_writer(part: dict[str, Any], epoch: int, path: Path) -> None:
    name = f"{WRITER} in {path}"
    check_kind(_WriterPart, finite(part), name, _STEP)
    rows = finite(part["epochs"])
    for kind in (list[_Row], list[SummaryRow], list[Aggregates]):
        check_kind(kind, rows, f"`epochs` of {name}", _STEP)
    if [row["epoch"] for row in rows] != list(range(epoch)) or len(part["pending"]) > epoch:
        found = f"{len(rows)} rows, {len(part['pending'])} files"
        raise damaged(f"{name} must hold a row for each of {epoch} epochs, in their order.", found, _STEP)
    for data in part["pending"]:
        if not _is_bytes(data):
            raise damaged(f"`pending` of {name} must hold files, as bytes.", _told(data), _STEP)


def _check_generators(states: list[Any], path: Path) -> None:
    """Put each state of the generators in place once, to see that it is one."""
    theirs = generator_states()
    for data in states:
        try:
            found = parse(data.tobytes() if _is_bytes(data) else b"", "the generators")
            put_back(found)
        except Exception as error:  # each kind of generator has errors of its own
            what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise damaged(f"{path} must hold states of generators.", what, _STEP) from None
        finally:
            put_back(theirs)


def _check_loops(loops: Any, path: Path) -> None:
    """Raise where Lightning's counts of batches and steps are none."""
    try:
        fit = loops["fit_loop"]
        stepped = fit["epoch_loop.state_dict"]["_batches_that_stepped"]
        total = fit["epoch_loop.batch_progress"]["total"]
    except (LookupError, TypeError):
        raise damaged(f"{path} must hold `loops`, Lightning's counts.", "others", _STEP) from None
    check_kind(_Counts, total, f"`loops` in {path}", _STEP)
    check_kind(Count, stepped, f"`loops` in {path}", _STEP)


def _check_ours(state: dict[str, Any], job: Job, path: Path) -> None:
    """Raise where the weights, or what our tasks keep beside them, are not there."""
    weights = state["state_dict"]
    if not isinstance(weights, dict) or (not weights and any(True for _ in job.module.parameters())):
        raise damaged(f"{path} must hold `state_dict`, the weights.", _told(weights), _STEP)
    if not isinstance(job.module, OurTask):
        return
    ours = state.get(OURS)
    done = ours.get("done") if isinstance(ours, dict) else None
    check_kind(tuple[Epochs, Count], done, f"`{OURS}.done` in {path}", _STEP)
    assert isinstance(ours, dict)
    counts = ours.get("class_accuracy")
    if counts is not None:
        _check_counts(counts, path)


def _check_counts(counts: Any, path: Path) -> None:
    """Raise where right and all predictions of each class are no counts."""
    kind = isinstance(counts, Tensor) and counts.dtype == torch.int64 and counts.dim() == 2
    if not kind or counts.shape[0] != 2 or bool((counts < 0).any()) or bool((counts[0] > counts[1]).any()):
        rule = f"`{OURS}.class_accuracy` in {path} must count right and all predictions of each class."
        raise damaged(rule, _told(counts), _STEP)


def _are_groups(groups: Any) -> bool:
    return isinstance(groups, list) and all(
        isinstance(group, dict) and isinstance(group.get("params"), list) for group in groups
    )


def _remembers(optimizer: Any) -> bool:
    """Return whether an optimizer of torch keeps something of each weight: of others nobody knows."""
    if isinstance(optimizer, torch.optim.SGD):
        return all(group["momentum"] for group in optimizer.param_groups)
    return isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW | torch.optim.NAdam)


def _check_weight(found: Any, weight: nn.Parameter, place: str, *, whole: bool) -> None:
    """Raise where what is remembered of a weight is lacking, or is not of its shape."""
    if found is None:
        if whole and weight.requires_grad:
            rule = f"{place} must hold what its optimizer remembers of each weight."
            raise damaged(rule, f"nothing of one of shape {tuple(weight.shape)}", _STEP)
        return
    parts = found.values() if isinstance(found, dict) else [found]
    wrong = [p for p in parts if not isinstance(p, Tensor) or (p.dim() and p.shape != weight.shape)]
    if not isinstance(found, dict) or not found or any(p is not None for p in wrong):
        rule = f"{place} must hold what its optimizer remembers of a weight of shape {tuple(weight.shape)}."
        raise damaged(rule, _told(wrong[0] if wrong else found), _STEP)


def _is_bytes(data: Any) -> bool:
    array: NDArray[Any] | None = data if isinstance(data, np.ndarray) else None
    return array is not None and array.dtype == np.uint8 and array.ndim == 1


def _told(found: Any) -> str:
    """Return in a few words what was found."""
    if isinstance(found, Tensor | np.ndarray):
        return f"{found.dtype} {tuple(found.shape)}"
    if isinstance(found, list | dict | tuple):
        return f"{type(found).__name__} of {len(found)}"
    return repr(found)[:80]
