"""The settings that a run was trained with, whether they were given or are defaults."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import torch
import yaml
from lightning.pytorch import LightningModule, Trainer
from torch.nn.parameter import is_lazy

from ..options.own_classes import is_import_path
from ..options.resolve import ResolvedOptions
from ..options.resume_options import plain
from ..options.train_options import TrainOptions
from ..policies import Policy
from ..tasks.base import TaskModule
from .jobs import Job

_HEAD = """\
# The options of a run. To train by them again: fallow train --config config.yaml --out ANOTHER
# What else was set, for people to read:
"""
_BY_DEFAULT = "# Not given, and chosen for these data and this model:\n"
_ELSEWHERE = frozenset({"by_default", "data", "task", "model", "text", "label"})
"""Settings that stand among the options of ``config.yaml``, beside those of the options' own names."""


def evaluated_on(options: TrainOptions, job: Job) -> str:
    """Return what the reported accuracy is measured on: ``test`` or ``validation`` samples."""
    return "test" if job.datamodule is None and options.validation is None else "validation"


def settings_of(options: ResolvedOptions, job: Job, trainer: Trainer) -> dict[str, Any]:
    """Return everything that a training was set to, as it stands in ``summary.json`` under ``settings``.

    Args:
        options: with all that was chosen.
        job: what is trained.
        trainer: by which.

    Returns:
        Plain values by name; None if nobody knows, as the test samples of a data module before they are
        loaded. ``by_default`` names the options that were not given.
    """
    subsampler, own = job.subsampler, is_import_path(options.data)
    return {
        "data": options.data,
        "task": None if own else options.task,
        "model": options.model,
        "parameters": _parameters(job.module),
        "samples": subsampler.n,
        f"{evaluated_on(options, job)}_samples": None if job.test is None else len(job.test.dataset),
        "classes": _classes(job),
        **job.facts,
        "epochs": subsampler.schedule.epochs,
        "batch_size": options.batch_size,
        **_training(options, job.module, trainer),
        "policy": {"name": options.policy, **_values(subsampler.policy)},
        "step_rule": None if (rule := getattr(job.module, "step_rule", None)) is None else repr(rule),
        "schedule": {name: value for name, value in asdict(subsampler.schedule).items() if name != "epochs"},
        **_score(options, job),
        "min_kept": subsampler.min_kept,
        "min_kept_per_class": subsampler.min_kept_per_class,
        "seed": options.seed,
        "precision": options.precision,
        "workers": job.train.num_workers,
        **_device(trainer),
        "by_default": options.noted,
    }


def _values(policy: Policy) -> dict[str, Any]:
    """Return the parameters of a policy, but not those that no option of the command line sets."""
    return {field.name: getattr(policy, field.name) for field in fields(policy) if field.name != "remove"}  # type: ignore[arg-type]


def _score(options: TrainOptions, job: Job) -> dict[str, Any]:
    """Return what is recorded; the losses of the user's own module may be anything."""
    if options.by_density:
        return {"score": f"density, {options.density}", "score_unit": "percentile"}
    score = job.subsampler.score
    return {"score": None if score is None else options.score, "score_unit": score and score.unit}


def _classes(job: Job) -> int | None:
    if job.classes is not None:
        return len(job.classes)
    labels = job.subsampler.labels
    return None if labels is None else int(np.unique(labels.numpy()).size)


def _parameters(module: LightningModule) -> int | None:
    """Return how many numbers are trained; None if the network makes some of them in its first pass."""
    found = [weight for weight in module.parameters() if weight.requires_grad]
    return None if any(map(is_lazy, found)) else sum(weight.numel() for weight in found)


def _training(options: TrainOptions, module: LightningModule, trainer: Trainer) -> dict[str, Any]:
    """Return how the weights are changed; of the user's own module once it has made its optimiser."""
    made: torch.optim.Optimizer | None
    learned: dict[str, Any] = {}
    if isinstance(module, TaskModule):
        made = module.configure_optimizers()
        learned = {"rising_share": module.recipe.rising_share, "augment": module.recipe.augment}
    else:
        made = next(iter(trainer.optimizers), None)
    if made is None:
        return {"learning_rate": None, "weight_decay": None, "optimizer": None}
    kept = {name: made.defaults[name] for name in ("momentum", "betas") if made.defaults.get(name)}
    return {
        "learning_rate": made.defaults.get("lr"),
        "weight_decay": options.weight_decay if learned else made.defaults.get("weight_decay"),
        "optimizer": type(made).__name__,
        **{name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()},
        **learned,
    }


def _device(trainer: Trainer) -> dict[str, Any]:
    """Return on what is trained: the kind of device, its name, how many, and the threads of a processor."""
    device = trainer.strategy.root_device
    found: dict[str, Any] = {"device": device.type, "devices": trainer.world_size}
    if device.type == "cuda":
        found["device_name"] = torch.cuda.get_device_name(device)
    if device.type == "cpu":
        found["threads"] = torch.get_num_threads()
    return found


def config_text(options: ResolvedOptions, settings: Mapping[str, Any]) -> str:
    """Return ``config.yaml``: options that ``--config`` reads back; what is no option stands in comments.

    Args:
        options: with all that was chosen.
        settings: of :func:`settings_of`.
    """
    every, by_default = plain(options), settings["by_default"]
    given = {name: value for name, value in every.items() if name not in by_default}
    rest = {name: value for name, value in every.items() if name in by_default}
    known = (every.keys() | _ELSEWHERE) - {"devices"}
    facts = {name: value for name, value in settings.items() if name not in known}
    facts |= {name: settings[name] for name in ("policy", "score")}
    facts = {name: value for name, value in facts.items() if value is not None}
    said = "".join(f"#   {name}: {_on_a_line(value)}\n" for name, value in facts.items())
    return _HEAD + said + _yaml(given) + (_BY_DEFAULT + _yaml(rest) if rest else "")


def _yaml(values: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(dict(values), sort_keys=False)
    return text


def _on_a_line(value: Any) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, width=math.inf, default_flow_style=True)
    return text.removesuffix("...\n").strip()


def opening(settings: Mapping[str, Any], place: str) -> list[tuple[str, str]]:
    """Return the first lines of a training: what is trained on what, how, on which device, and where it goes.

    Args:
        settings: of :func:`settings_of`.
        place: the run's folder.
    """
    rows = [
        ("Data", _data(settings)),
        ("Model", _joined([settings["model"], _count(settings["parameters"], "parameter")])),
        ("Training", _steps(settings)),
        ("Policy", _rule(settings["policy"], settings["step_rule"])),
        ("Schedule", _times(settings)),
        ("Score", _measured(settings)),
        ("Device", _on(settings)),
        ("Run", place),
    ]
    return [(name, value) for name, value in rows if value]


def shared(settings: Mapping[str, Any]) -> list[str]:
    """Return what all runs of a comparison share, as sentences: data, network and steps, device."""
    steps = _steps({**settings, "seed": None})
    return [f"{_data(settings)}.", f"{settings['model']}: {steps}; {_on(settings)}."]


def _data(settings: Mapping[str, Any]) -> str:
    part = "validation" if "validation_samples" in settings else "test"
    kind = settings.get("kind", "samples")
    said = _count(settings["samples"], kind.removesuffix("s"))
    if size := settings.get("image_size"):
        said += f" of {size[0]} × {size[1]} pixels"
    elif kind == "windows":
        said += f" of {settings['max_tokens']:,} tokens"
    parts = [said]
    if settings["classes"]:
        parts.append(_count(settings["classes"], "class", "classes"))
    if (held := settings[f"{part}_samples"]) is not None:
        parts.append(_count(held, f"{part} {kind.removesuffix('s')}"))
    if kind == "texts":
        parts.append(f"at most {settings['max_tokens']:,} tokens each")
    if vocabulary := settings.get("vocabulary"):
        parts.append(f"a vocabulary of {vocabulary:,}")
    return f"{settings['data']}: {_joined(parts)}"


def _steps(settings: Mapping[str, Any]) -> str:
    parts = [_count(settings["epochs"], "epoch"), f"batch size {settings['batch_size']:,}"]
    if (rate := settings["learning_rate"]) is not None:
        parts.append(f"learning rate {rate:g} by {settings['optimizer']}")
    if (decay := settings["weight_decay"]) is not None:
        parts.append(f"weight decay {decay:g}")
    if settings.get("augment", "none") != "none":
        parts.append(f"augment {settings['augment']}")
    return _joined([*parts, "" if settings["seed"] is None else f"seed {settings['seed']}"])


def _rule(policy: Mapping[str, Any], step_rule: str | None) -> str:
    if policy["name"] == "selective-backprop":
        return f"leaves out backward passes only, by {step_rule}"
    if policy["name"] == "full":
        return _joined(["full: no sample is left out", step_rule or ""])
    values = _listed({name: value for name, value in policy.items() if name != "name"})
    return f"{policy['name']}: {values}" if values else str(policy["name"])


def _times(settings: Mapping[str, Any]) -> str:
    """Return when samples are left out and come back; nothing where none is left out."""
    if settings["policy"]["name"] in ("full", "selective-backprop"):
        return ""
    found, few = settings["schedule"], settings["schedule"]["warmup"]
    parts = ["the first epoch is full" if few == 1 else f"the first {few} epochs are full"]
    if every := found["readmit_every"]:
        parts.append(f"all come back in every {_place(every)}epoch")
    if found["full_tail"]:
        parts.append(f"the last {found['full_tail']:.0%} of the epochs are full")
    if settings["policy"].get("high") is not None:
        words = {"remeasure": "by measurement", "readmit": "with the others", "never": "never"}
        parts.append(f"outliers come back {words[found['outliers']]}")
    return _joined(parts)


def _place(number: int) -> str:
    """Return a number of a row of them, with a blank; nothing for each of them.

    >>> _place(1), _place(2), _place(11), _place(23)
    ('', '2nd ', '11th ', '23rd ')
    """
    end = "th" if number // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return "" if number == 1 else f"{number}{end} "


def _measured(settings: Mapping[str, Any]) -> str:
    if settings["score"] is None:
        return "the losses that your own module returns"
    return f"{settings['score']}{', in nats' if settings['score_unit'] == 'nats' else ''}"


def _listed(values: Mapping[str, Any]) -> str:
    """Return values by name; what is off or not set is left out.

    >>> _listed({"fraction": 0.5, "high": "auto", "weighted": False, "doubt": 0.0, "steps": ()})
    'fraction 0.5, high auto'
    """
    return _joined(
        f"{name}" if value is True else f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
        if value not in (None, False, (), [], 0)
    )


def _on(settings: Mapping[str, Any]) -> str:
    name = settings.get("device_name")
    parts = [settings["device"] + (f" ({name})" if name else "")]
    if settings["devices"] > 1:
        parts[0] = f"{settings['devices']} × {parts[0]}"
    if threads := settings.get("threads"):
        parts.append(_count(threads, "thread"))
    parts.append(f"precision {settings['precision']}")
    if settings["workers"]:
        parts.append(_count(settings["workers"], "worker"))
    return _joined(parts)


def _count(value: int | None, one: str, many: str = "") -> str:
    return "" if value is None else f"{value:,} {one if value == 1 else many or one + 's'}"


def _joined(parts: Iterable[str]) -> str:
    return ", ".join(filter(None, parts))
