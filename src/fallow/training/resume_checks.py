"""Whether a saved state fits the network and the optimizers that are to take it over.

Lightning takes over what it finds: without the state of an optimizer it trains on without its momentum, and
says nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from ..errors import damaged
from ..options.train_options import OUR_MODELS
from ..runs.schema import About
from ..runs.training_state import USE_OLDER, TrainingState, in_short
from ..tasks.base import TaskModule
from .jobs import Job

_SETTINGS = ("momentum", "weight_decay", "nesterov", "betas", "eps")
"""Settings of an optimizer that must be of the same type. Its learning rate may be a tensor."""


def check_fits(state: TrainingState, path: Path, about: About, job: Job) -> None:
    """Raise if a state holds what no training of this job leaves.

    Args:
        state: the state.
        path: of its file, for the error.
        about: what its manifest says.
        job: what is to be trained on.

    Raises:
        DamagedData: naming what is wrong.
    """
    state.check(path, about, job.subsampler.policy, density=job.monitor is not None)
    weights = state.weights
    if not isinstance(weights, dict) or (not weights and any(True for _ in job.module.parameters())):
        rule = f"{path} must hold `state_dict`, the weights."
        raise damaged(rule, in_short(weights), USE_OLDER)
    if isinstance(job.module, TaskModule):
        state.check_task(path)


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
            raise damaged(f"{place} must hold {name}: {wanted}.", in_short(found), USE_OLDER)
    for config, part in zip(trainer.lr_scheduler_configs, schedules, strict=True):
        if lacking := sorted(config.scheduler.state_dict().keys() - part.keys()):
            raise damaged(
                f"{place} must hold what a learning rate's schedule keeps.",
                f"no {lacking[0]}",
                USE_OLDER,
            )
    plugin = trainer.precision_plugin
    if plugin.state_dict() and type(plugin).__qualname__ not in state:
        raise damaged(f"{place} must hold the scale of the gradients.", "none", USE_OLDER)
    for optimizer, part in zip(trainer.strategy.optimizers, saved, strict=True):
        if hasattr(optimizer, "param_groups"):
            _check_optimizer(optimizer, part, place)
            if state["global_step"] and _remembers(optimizer):
                _check_memory(optimizer, part, place, whole=whole)


def _check_optimizer(optimizer: Any, part: dict[str, Any], place: str) -> None:
    """Raise if an optimizer's part has other groups or settings than the optimizer."""
    groups: Any = part.get("param_groups")
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    saved_sizes = [len(group["params"]) for group in groups] if _are_groups(groups) else None
    if saved_sizes != sizes or not isinstance(part.get("state"), dict):
        rule = f"{place} must hold an optimizer of {sum(sizes)} weights."
        raise damaged(rule, in_short(groups), USE_OLDER)
    for group, saved in zip(optimizer.param_groups, groups, strict=True):
        for name in _SETTINGS:
            if name in group and type(saved.get(name)) is not type(group[name]):
                rule = f"{place} must hold `{name}` of its optimizer."
                raise damaged(rule, repr(saved.get(name))[:80], USE_OLDER)


def _check_memory(optimizer: Any, part: dict[str, Any], place: str, *, whole: bool) -> None:
    """Raise if what an optimizer remembers of its weights, such as their momentum, is missing."""
    if not part["state"]:
        rule = f"{place} must hold what its optimizer remembers of each weight."
        raise damaged(rule, "nothing", USE_OLDER)
    names = [name for group in part["param_groups"] for name in group["params"]]
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for name, weight in zip(names, weights, strict=True):
        _check_weight(part["state"].get(name), weight, place, whole=whole)


def uses_all_weights(job: Job, model: str) -> bool:
    """Return whether each weight of the network gets a gradient in each step."""
    return isinstance(job.module, TaskModule) and model in OUR_MODELS


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
            raise damaged(rule, f"nothing of one of shape {tuple(weight.shape)}", USE_OLDER)
        return
    parts = found.values() if isinstance(found, dict) else [found]
    wrong = [p for p in parts if not isinstance(p, Tensor) or (p.dim() and p.shape != weight.shape)]
    if not isinstance(found, dict) or not found or any(p is not None for p in wrong):
        rule = f"{place} must hold what its optimizer remembers of a weight of shape {tuple(weight.shape)}."
        raise damaged(rule, in_short(wrong[0] if wrong else found), USE_OLDER)
