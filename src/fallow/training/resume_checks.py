"""Checks that a saved state fits the network and the optimizers that load it.

Lightning does not check: if the state of an optimizer is missing, it trains on without its momentum.
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
"""Settings of an optimizer whose saved type must be the same. A learning rate may also be a tensor."""


def check_fits(state: TrainingState, path: Path, about: About, job: Job) -> None:
    """Raise if a training of this job cannot have saved this state.

    Args:
        state: the state.
        path: of its file, for the error.
        about: from its manifest.
        job: the training to resume.

    Raises:
        DamagedData: if the state does not fit.
    """
    state.check(path, about, job.subsampler.policy, density=job.monitor is not None)
    weights = state.weights
    if not isinstance(weights, dict) or (not weights and any(True for _ in job.module.parameters())):
        rule = f"{path} must hold `state_dict`, the weights."
        raise damaged(rule, in_short(weights), USE_OLDER)
    if isinstance(job.module, TaskModule):
        state.check_task(path)


def check_optimizers(trainer: Trainer, state: dict[str, Any], place: str, *, whole: bool) -> None:
    """Raise if a state lacks entries of the optimizers or the learning-rate schedules of a training.

    Args:
        trainer: has its optimizers, and has not loaded the state.
        state: as Lightning saved it.
        place: the name of the state, for the error.
        whole: whether each weight must have an entry, as in a network that uses all of them in each step.

    Raises:
        DamagedData: if an entry is missing or invalid.
    """
    saved, schedules = state["optimizer_states"], state["lr_schedulers"]
    for name, parts, count in (
        ("optimizer_states", saved, len(trainer.strategy.optimizers)),
        ("lr_schedulers", schedules, len(trainer.lr_scheduler_configs)),
    ):
        right = isinstance(parts, list) and len(parts) == count
        if not right or not all(isinstance(part, dict) for part in parts):
            raise damaged(f"{place} must hold {name}: {count}.", in_short(parts), USE_OLDER)
    for config, part in zip(trainer.lr_scheduler_configs, schedules, strict=True):
        if missing := sorted(config.scheduler.state_dict().keys() - part.keys()):
            rule = f"{place} must hold the state of the learning-rate schedule."
            raise damaged(rule, f"no {missing[0]}", USE_OLDER)
    plugin = trainer.precision_plugin
    # Lightning saves the scale under the name of the plugin's class.
    if plugin.state_dict() and type(plugin).__qualname__ not in state:
        raise damaged(f"{place} must hold the scale of the gradients.", "none", USE_OLDER)
    for optimizer, part in zip(trainer.strategy.optimizers, saved, strict=True):
        if hasattr(optimizer, "param_groups"):
            _check_optimizer(optimizer, part, place)
            # Before its first step an optimizer has no state of its weights.
            if state["global_step"] and _has_state(optimizer):
                _check_weights(optimizer, part, place, whole=whole)


def _check_optimizer(optimizer: Any, part: dict[str, Any], place: str) -> None:
    """Raise if the saved groups or settings differ from those of the optimizer."""
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


def _check_weights(optimizer: Any, part: dict[str, Any], place: str, *, whole: bool) -> None:
    """Raise if the optimizer's state of the weights, such as their momentum, is missing or invalid."""
    if not part["state"]:
        raise damaged(f"{place} must hold the optimizer's state of each weight.", "nothing", USE_OLDER)
    names = [name for group in part["param_groups"] for name in group["params"]]
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for name, weight in zip(names, weights, strict=True):
        _check_weight(part["state"].get(name), weight, place, whole=whole)


def uses_all_weights(job: Job, model: str) -> bool:
    """Return whether each weight of the network surely gets a gradient in each step."""
    return isinstance(job.module, TaskModule) and model in OUR_MODELS


def _are_groups(groups: Any) -> bool:
    return isinstance(groups, list) and all(
        isinstance(group, dict) and isinstance(group.get("params"), list) for group in groups
    )


def _has_state(optimizer: Any) -> bool:
    """Return whether the optimizer surely keeps a state of each weight."""
    if isinstance(optimizer, torch.optim.SGD):
        return all(group["momentum"] for group in optimizer.param_groups)
    return isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW | torch.optim.NAdam)


def _check_weight(saved: Any, weight: nn.Parameter, place: str, *, whole: bool) -> None:
    shape = tuple(weight.shape)
    if saved is None:
        if whole and weight.requires_grad:
            rule = f"{place} must hold the optimizer's state of each weight."
            raise damaged(rule, f"nothing for one of shape {shape}", USE_OLDER)
        return
    parts = saved.values() if isinstance(saved, dict) else [saved]
    wrong = [p for p in parts if not isinstance(p, Tensor) or (p.dim() and p.shape != shape)]
    # Some optimizers save None for an entry that they do not use.
    if not isinstance(saved, dict) or not saved or any(p is not None for p in wrong):
        rule = f"{place} must hold the optimizer's state of a weight of shape {shape}."
        raise damaged(rule, in_short(wrong[0] if wrong else saved), USE_OLDER)
