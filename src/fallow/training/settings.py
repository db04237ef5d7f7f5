"""All settings of a run, given or default, for ``summary.json``, ``config.yaml`` and the console."""

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

from ..core.plan import in_use
from ..core.subsampler import Subsampler
from ..options.own_classes import is_import_path
from ..options.resolve import ResolvedOptions
from ..options.resume_options import plain
from ..options.train_options import TrainOptions
from ..policies import Policy
from ..tasks.base import TaskModule
from .jobs import Job

_HEAD = """\
# The options of a run. To train again with them: fallow train --config config.yaml --out ANOTHER
# Other settings, for information only:
"""
_BY_DEFAULT = "# Not given, and chosen for these data and this model:\n"
_ELSEWHERE = frozenset({"by_default", "data", "task", "model", "text", "label"})
"""Settings that repeat options of ``config.yaml`` under another name, beside those of the same name."""


def evaluated_on(options: TrainOptions, job: Job) -> str:
    """Return which samples the reported accuracy is measured on: ``test`` or ``validation``."""
    return "test" if job.datamodule is None and options.validation is None else "validation"


def settings_of(options: ResolvedOptions, job: Job, trainer: Trainer) -> dict[str, Any]:
    """Return all settings of a training, for the entry ``settings`` of ``summary.json``.

    Args:
        options: the resolved options.
        job: the objects of the training.
        trainer: runs it.

    Returns:
        Plain values by name. A value is None if it is unknown, such as the number of test samples before
        a data module has loaded them. ``by_default`` names the options that were not given.
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
        "schedule": _schedule_in_use(subsampler),
        "kept_steps": subsampler.under_way.kept_steps is not None,
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
    """Return the parameters of a policy that options of the command line set."""
    return {field.name: getattr(policy, field.name) for field in fields(policy) if field.name != "remove"}  # type: ignore[arg-type]


def _score(options: TrainOptions, job: Job) -> dict[str, Any]:
    """Return the score and its unit; None if the user's module returns losses of an unknown kind."""
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
    """Return the number of trained weights; None if a lazy layer has no weights yet."""
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    return None if any(map(is_lazy, weights)) else sum(weight.numel() for weight in weights)


def _training(options: TrainOptions, module: LightningModule, trainer: Trainer) -> dict[str, Any]:
    """Return the settings of the optimizer; a user's module makes it only when training starts."""
    optimizer: torch.optim.Optimizer | None
    recipe: dict[str, Any] = {}
    if isinstance(module, TaskModule):
        # Only its defaults are read; Lightning makes the one that trains.
        optimizer = module.configure_optimizers()
        recipe = {"rising_share": module.recipe.rising_share, "augment": module.recipe.augment}
    else:
        optimizer = next(iter(trainer.optimizers), None)
    if optimizer is None:
        return {"learning_rate": None, "weight_decay": None, "optimizer": None}
    defaults = optimizer.defaults
    values = {name: defaults[name] for name in ("momentum", "betas") if defaults.get(name)}
    return {
        "learning_rate": defaults.get("lr"),
        # adamw() sets it by group, so the optimizer's default is another value.
        "weight_decay": options.weight_decay if recipe else defaults.get("weight_decay"),
        "optimizer": type(optimizer).__name__,
        **{name: list(value) if isinstance(value, tuple) else value for name, value in values.items()},
        **recipe,
    }


def _device(trainer: Trainer) -> dict[str, Any]:
    """Return the type of device, its name, the number of devices, and the threads of a processor."""
    device = trainer.strategy.root_device
    entries: dict[str, Any] = {"device": device.type, "devices": trainer.world_size}
    if device.type == "cuda":
        entries["device_name"] = torch.cuda.get_device_name(device)
    if device.type == "cpu":
        entries["threads"] = torch.get_num_threads()
    return entries


def config_text(options: ResolvedOptions, settings: Mapping[str, Any]) -> str:
    """Return ``config.yaml``: the options, which ``--config`` reads, and other settings as comments.

    Args:
        options: the resolved options.
        settings: from :func:`settings_of`.
    """
    values, by_default = plain(options), settings["by_default"]
    given = {name: value for name, value in values.items() if name not in by_default}
    rest = {name: value for name, value in values.items() if name in by_default}
    # The option may be auto; the setting is the number that was used.
    known = (values.keys() | _ELSEWHERE) - {"devices"}
    facts = {name: value for name, value in settings.items() if name not in known}
    facts |= {name: settings[name] for name in ("policy", "score")}
    comments = "".join(f"#   {name}: {_one_line(v)}\n" for name, v in facts.items() if v is not None)
    return _HEAD + comments + _yaml(given) + (_BY_DEFAULT + _yaml(rest) if rest else "")


def _yaml(values: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(dict(values), sort_keys=False)
    return text


def _one_line(value: Any) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, width=math.inf, default_flow_style=True)
    # YAML ends a single plain value with a document mark.
    return text.removesuffix("...\n").strip()


def opening(settings: Mapping[str, Any], folder: str) -> list[tuple[str, str]]:
    """Return the first lines of a training, as names and values.

    Args:
        settings: from :func:`settings_of`.
        folder: of the run.
    """
    rows = [
        ("Data", _data(settings)),
        ("Model", _joined([settings["model"], _count(settings["parameters"], "parameter")])),
        ("Training", _steps(settings)),
        ("Policy", _policy(settings["policy"], settings["step_rule"])),
        ("Schedule", _schedule(settings)),
        ("Score", _score_line(settings)),
        ("Device", _device_line(settings)),
        ("Run", folder),
    ]
    return [(name, value) for name, value in rows if value]


def shared(settings: Mapping[str, Any]) -> list[str]:
    """Return sentences on what all runs of a comparison share: data, network and steps, device."""
    steps = _steps({**settings, "seed": None})
    return [f"{_data(settings)}.", f"{settings['model']}: {steps}; {_device_line(settings)}."]


def _data(settings: Mapping[str, Any]) -> str:
    part = "validation" if "validation_samples" in settings else "test"
    kind = settings.get("kind", "samples")
    samples = _count(settings["samples"], kind.removesuffix("s"))
    if size := settings.get("image_size"):
        samples += f" of {size[0]} × {size[1]} pixels"
    elif kind == "windows":
        samples += f" of {settings['max_tokens']:,} tokens"
    parts = [samples]
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


def _policy(policy: Mapping[str, Any], step_rule: str | None) -> str:
    if policy["name"] == "selective-backprop":
        return f"leaves out backward passes only, by {step_rule}"
    if policy["name"] == "full":
        return _joined(["full: no sample is left out", step_rule or ""])
    values = _listed({name: value for name, value in policy.items() if name != "name"})
    return f"{policy['name']}: {values}" if values else str(policy["name"])


def _schedule_in_use(subsampler: Subsampler) -> dict[str, Any]:
    """Return the schedule without its epochs."""
    schedule = asdict(in_use(subsampler.schedule, subsampler.policy))
    del schedule["epochs"]
    return schedule


def _schedule(settings: Mapping[str, Any]) -> str:
    """Return when samples are left out and readmitted; "" if none is left out."""
    if settings["policy"]["name"] in ("full", "selective-backprop"):
        return ""
    if settings["policy"]["name"] == "watch":
        return "every epoch is full"
    schedule, warmup = settings["schedule"], settings["schedule"]["warmup"]
    parts = ["the first epoch is full" if warmup == 1 else f"the first {warmup} epochs are full"]
    if every := schedule["readmit_every"]:
        turns = f"one of {every} parts comes back in each epoch"
        parts.append(turns if schedule["stagger"] else f"all come back in every {_ordinal(every)}epoch")
    if schedule["full_tail"]:
        parts.append(f"the last {schedule['full_tail']:.0%} of the epochs are full")
    if settings["policy"].get("high") is not None:
        manner = {"remeasure": "by measurement", "readmit": "with the others", "never": "never"}
        parts.append(f"outliers come back {manner[schedule['outliers']]}")
    if settings["kept_steps"]:
        parts.append("every epoch makes as many steps as full training")
    return _joined(parts)


def _ordinal(number: int) -> str:
    """Return an ordinal and a space; "" for 1.

    >>> _ordinal(1), _ordinal(2), _ordinal(11), _ordinal(23)
    ('', '2nd ', '11th ', '23rd ')
    """
    end = "th" if number // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return "" if number == 1 else f"{number}{end} "


def _score_line(settings: Mapping[str, Any]) -> str:
    if settings["score"] is None:
        return "the losses that your own module returns"
    return f"{settings['score']}{', in nats' if settings['score_unit'] == 'nats' else ''}"


def _listed(values: Mapping[str, Any]) -> str:
    """Return names and values of the settings that are on.

    >>> _listed({"fraction": 0.5, "high": "auto", "weighted": False, "exploration": 0.0, "steps": ()})
    'fraction 0.5, high auto'
    """
    return _joined(
        f"{name}" if value is True else f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
        if value not in (None, False, (), [], 0)
    )


def _device_line(settings: Mapping[str, Any]) -> str:
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
