"""Stored options that the user has to name again, because they could load code or write elsewhere.

A run may come from anybody, so nothing is imported because its stored options say so: a class is imported
only if the user names it in this session, and it is the one that the run was started with. Loads no torch.
"""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Mapping
from typing import Any

from ..errors import InvalidValue, invalid
from .own_classes import is_import_path
from .train_options import ONCE, OUR_MODELS, TrainOptions

PLAIN_TRAINER = {
    "accumulate_grad_batches", "barebones", "benchmark", "check_val_every_n_epoch", "detect_anomaly",
    "deterministic", "enable_model_summary", "enable_progress_bar", "fast_dev_run", "gradient_clip_algorithm",
    "gradient_clip_val", "inference_mode", "limit_predict_batches", "limit_test_batches",
    "limit_train_batches", "limit_val_batches", "log_every_n_steps", "max_epochs", "max_steps", "max_time",
    "min_epochs", "min_steps", "num_sanity_val_steps", "overfit_batches", "reload_dataloaders_every_n_epochs",
    "sync_batchnorm", "val_check_interval",
}  # fmt: skip
"""Arguments of Lightning's Trainer that, as plain values, neither load code nor write files."""
PROCESSES_A_CORE = 4
"""Most processes per core that a run starts without ``--devices`` being named again."""
_DEFAULTS = {"data": "", "model": "auto", "density": "gaussian-mixture"}
_NOUNS = {"data": "data", "model": "network", "density": "density"}
_LONGEST = 120


def usable(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stored options that can be taken over; the others have to be named again."""
    options = {name: value for name, value in stored.items() if name not in ONCE}
    for name in _own(stored):
        options.pop(name)
    if _has_loading_arguments(stored):
        options.pop("model_args")
    if _crowds(stored):
        options.pop("devices")
    if _number(stored.get("workers")) > _room():
        options["workers"] = _room()  # the number of workers does not change the training
    if _risky(stored):
        options["trainer"] = {key: value for key, value in _trainer(stored).items() if _is_plain(key, value)}
    return options


def check_named(stored: Mapping[str, Any], given: TrainOptions, where: str, *, trains: bool = True) -> None:
    """Raise if the user has not named the options again that are not taken from a run.

    Args:
        stored: all options of the run.
        given: those of this session: the user's, and what :func:`usable` returns.
        where: what the options were stored in, for the error.
        trains: whether a Trainer is made.

    Raises:
        InvalidValue: if an option is missing, or names another class than the run was started with.
    """
    missing: list[tuple[str, str]] = []
    own = _own(stored)
    for name in own:
        value = getattr(given, name)
        if value == _DEFAULTS[name]:
            missing.append((name, shown(stored[name])))
        elif value != stored[name] and name not in given.accepted:
            raise other_name(name, stored[name], value)
    rules = [_classes(own, where)] if missing else []
    if _has_loading_arguments(stored) and not given.model_args:
        missing.append(("model_args", _quoted(stored["model_args"])))
        rules.append(f"The model of {where} is loaded with arguments, which may run code of its repository.")
    if trains and _crowds(stored) and given.devices == "auto":
        rule = f"{where} was trained by more processes than this machine has room for."
        devices = shown(stored["devices"])
        raise invalid(rule, f"devices {devices}", f"Add --devices {devices} if that is what you want.")
    risky = _risky(stored) if trains and "trainer" not in given.accepted else []
    given_trainer = _trainer({"trainer": given.trainer})
    if any(given_trainer.get(key) != _trainer(stored)[key] for key in risky):
        missing.append(("trainer", _quoted(stored["trainer"])))
        keys = ", ".join(map(shown, risky[:5]))
        rules.append(f"The Trainer of {where} has arguments that may load code or write elsewhere: {keys}.")
    if missing:
        found = " and ".join(f"no --{name}" for name, _ in missing)
        arguments = " ".join(f"--{name} {value}" for name, value in missing)
        step = f"Add {arguments}: nothing is imported because a run's files say so."
        raise invalid(" ".join(rules), f"{found} on the command line", step)


def repeated_options(stored: Mapping[str, Any]) -> str:
    """Return the arguments that ``--resume RUN`` needs, each after a space; empty if it needs none.

    >>> repeated_options({"data": "digits", "model": "own:Net", "trainer": {"max_time": "00:01:00:00"}})
    ' --model own:Net'
    """
    arguments = [(name, shown(stored[name])) for name in _own(stored)]
    if _has_loading_arguments(stored):
        arguments.append(("model_args", _quoted(stored["model_args"])))
    if _risky(stored):
        arguments.append(("trainer", _quoted(stored["trainer"])))
    if _crowds(stored):
        arguments.append(("devices", shown(stored["devices"])))
    return "".join(f" --{name} {value}" for name, value in arguments)


def other_name(name: str, stored: Any, given: Any) -> InvalidValue:
    """Return the error for another class or model than the run was started with."""
    rule = f"--{name} must be what the run was started with: {shown(stored)}."
    return invalid(rule, shown(given), "Start a new run.")


def shown(value: Any) -> str:
    r"""Return an untrusted value as one line, shortened, with control characters and non-ASCII escaped.

    >>> shown("own:Net"), shown("a" * 200)[-5:]
    ('own:Net', 'aa...')
    >>> print(shown("own\x1b[2J:N\u0435t"))
    own\x1b[2J:N\u0435t
    """
    text = ascii(value)[1:-1] if isinstance(value, str) else ascii(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _own(stored: Mapping[str, Any]) -> list[str]:
    return [name for name in _DEFAULTS if is_import_path(str(stored.get(name, "")))]


def _classes(own: list[str], where: str) -> str:
    nouns = [_NOUNS[name] for name in own]
    if len(own) > 1:
        listed = f"{', '.join(nouns[:-1])} and {nouns[-1]}".capitalize()
        return f"{listed} of {where} are classes of your own."
    return f"The {'data set' if own == ['data'] else nouns[0]} of {where} is a class of your own."


def _has_loading_arguments(stored: Mapping[str, Any]) -> bool:
    """Return whether a Hugging Face model is loaded with arguments; ``trust_remote_code`` runs any code."""
    model = str(stored.get("model", "auto"))
    # A class of the user's own is named again in any case.
    return model not in OUR_MODELS and not is_import_path(model) and bool(stored.get("model_args"))


def _crowds(stored: Mapping[str, Any]) -> bool:
    """Return whether more processes would be started than this machine has room for."""
    return _number(stored.get("devices")) > _room()


def _room() -> int:
    # Small machines count as four cores, so that runs of ordinary size resume without a word.
    return PROCESSES_A_CORE * max(4, os.cpu_count() or 1)


def _number(value: Any) -> float:
    """Return a count as a number; -1 if it is not a count."""
    text = str(value)
    if not text.isdecimal():
        return -1
    return int(text) if len(text) < 10 else math.inf  # Python refuses to parse thousands of digits


def _trainer(stored: Mapping[str, Any]) -> Mapping[str, Any]:
    trainer = stored.get("trainer")
    return trainer if isinstance(trainer, Mapping) else {}


def _risky(stored: Mapping[str, Any]) -> list[str]:
    return [key for key, value in _trainer(stored).items() if not _is_plain(key, value)]


def _is_plain(key: Any, value: Any) -> bool:
    return key in PLAIN_TRAINER and (value is None or isinstance(value, bool | int | float | str))


def _quoted(value: Any) -> str:
    """Return a mapping quoted for the command line, or a hint if it is too long."""
    try:
        text = shlex.quote(json.dumps(value))
    except (TypeError, ValueError, RecursionError):  # stored options may hold anything, at any depth
        text = ""
    return text if 0 < len(text) <= 2 * _LONGEST else "with its value in config.yaml"
