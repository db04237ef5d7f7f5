"""What a run has stored and the user has to name again: whatever could load code or write elsewhere.

A run may come from anybody. So nothing is imported because its stored options say so: a class of one's own is
taken from the words of this session, if they are those that the run was begun with. Loads no torch.
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
"""Arguments of Lightning's Trainer that neither load code nor write: a run may store them, if plain."""
PROCESSES_A_CORE = 4
"""A run that was trained with more processes than so many a core starts them only if they are named again."""
_UNSAID = {"data": "", "model": "auto", "density": "gaussian-mixture"}
_NOUNS = {"data": "data", "model": "network", "density": "density"}
_LONGEST = 120


def usable(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a run that may be taken from it; the others have to be named again."""
    found = {name: value for name, value in stored.items() if name not in ONCE}
    for name in _own(stored):
        found.pop(name)
    if _has_loading_arguments(stored):
        found.pop("model_args")
    if _crowds(stored):
        found.pop("devices")
    if _number(stored.get("workers")) > _room():
        found["workers"] = _room()  # however many there are, they change nothing in what is trained
    if _risky(stored):
        found["trainer"] = {key: value for key, value in _trainer(stored).items() if _is_plain(key, value)}
    return found


def check_named(stored: Mapping[str, Any], given: TrainOptions, where: str, *, trains: bool = True) -> None:
    """Raise if the user has not named again what is not taken from a run.

    Args:
        stored: all options of the run.
        given: those of this session: the user's own words, and what :func:`usable` gives.
        where: what the options were stored in, for the error.
        trains: whether a Trainer is made.

    Raises:
        InvalidValue: saying what to add, or that the run was begun with another class.
    """
    lacking: list[tuple[str, str]] = []
    own = _own(stored)
    for name in own:
        found = getattr(given, name)
        if found == _UNSAID[name]:
            lacking.append((name, shown(stored[name])))
        elif found != stored[name] and name not in given.accepted:
            raise other_name(name, stored[name], found)
    said = [_classes(own, where)] if lacking else []
    if _has_loading_arguments(stored) and not given.model_args:
        lacking.append(("model_args", _word(stored["model_args"])))
        said.append(f"The model of {where} is loaded with arguments, which may run code of its repository.")
    if trains and _crowds(stored) and given.devices == "auto":
        rule = f"{where} was trained by more processes than this machine has room for."
        devices = shown(stored["devices"])
        raise invalid(rule, f"devices {devices}", f"Add --devices {devices} if that is what you want.")
    risky = _risky(stored) if trains and "trainer" not in given.accepted else []
    said_again = _trainer({"trainer": given.trainer})
    if any(said_again.get(key) != _trainer(stored)[key] for key in risky):
        lacking.append(("trainer", _word(stored["trainer"])))
        keys = ", ".join(map(shown, risky[:5]))
        said.append(f"The Trainer of {where} has arguments that may load code or write elsewhere: {keys}.")
    if lacking:
        found = " and ".join(f"no --{name}" for name, _ in lacking)
        words = " ".join(f"--{name} {word}" for name, word in lacking)
        step = f"Add {words}: nothing is imported from what a run has stored."
        raise invalid(" ".join(said), f"{found} on the command line", step)


def words_again(stored: Mapping[str, Any]) -> str:
    """Return what to add to ``--resume RUN``, with a space before it; nothing if a run needs no other word.

    >>> words_again({"data": "digits", "model": "own:Net", "trainer": {"max_time": "00:01:00:00"}})
    ' --model own:Net'
    """
    words = [(name, shown(stored[name])) for name in _own(stored)]
    if _has_loading_arguments(stored):
        words.append(("model_args", _word(stored["model_args"])))
    if _risky(stored):
        words.append(("trainer", _word(stored["trainer"])))
    if _crowds(stored):
        words.append(("devices", shown(stored["devices"])))
    return "".join(f" --{name} {word}" for name, word in words)


def other_name(name: str, stored: Any, found: Any) -> InvalidValue:
    """Return the error for a class, or a network, that is not the one a run was begun with."""
    rule = f"--{name} must be what the run was begun with: {shown(stored)}."
    return invalid(rule, shown(found), "Begin another run.")


def shown(value: Any) -> str:
    r"""Return a value that somebody else may have written as a line that harms no terminal, shortened.

    >>> shown("own:Net"), shown("a" * 200)[-5:]
    ('own:Net', 'aa...')
    >>> print(shown("own\x1b[2J:N\u0435t"))
    own\x1b[2J:N\u0435t
    """
    text = ascii(value)[1:-1] if isinstance(value, str) else ascii(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _own(stored: Mapping[str, Any]) -> list[str]:
    """Return which of data, network and density are classes of the user's own."""
    return [name for name in _UNSAID if is_import_path(str(stored.get(name, "")))]


def _classes(own: list[str], where: str) -> str:
    nouns = [_NOUNS[name] for name in own]
    if len(own) > 1:
        said = f"{', '.join(nouns[:-1])} and {nouns[-1]}"
        return f"{said[0].upper()}{said[1:]} of {where} are classes of your own."
    return f"The {'data set' if own == ['data'] else nouns[0]} of {where} is a class of your own."


def _has_loading_arguments(stored: Mapping[str, Any]) -> bool:
    """Return whether a model of Hugging Face is loaded with arguments; they can do anything."""
    model = str(stored.get("model", "auto"))
    return model not in OUR_MODELS and not is_import_path(model) and bool(stored.get("model_args"))


def _crowds(stored: Mapping[str, Any]) -> bool:
    """Return whether more processes would be started than this machine has room for."""
    return _number(stored.get("devices")) > _room()


def _room() -> int:
    return PROCESSES_A_CORE * max(4, os.cpu_count() or 1)


def _number(value: Any) -> float:
    """Return an option that counts something, as a number; -1 if it is no count."""
    text = str(value)
    if not text.isdecimal():
        return -1
    return int(text) if len(text) < 10 else math.inf


def _trainer(stored: Mapping[str, Any]) -> Mapping[str, Any]:
    found = stored.get("trainer")
    return found if isinstance(found, Mapping) else {}


def _risky(stored: Mapping[str, Any]) -> list[str]:
    return [key for key, value in _trainer(stored).items() if not _is_plain(key, value)]


def _is_plain(key: Any, value: Any) -> bool:
    return key in PLAIN_TRAINER and (value is None or isinstance(value, bool | int | float | str))


def _word(value: Any) -> str:
    """Return a mapping as a word of the command line, or where to find it."""
    try:
        text = shlex.quote(json.dumps(value))
    except (TypeError, ValueError, RecursionError):
        text = ""
    return text if 0 < len(text) <= 2 * _LONGEST else "with what config.yaml has for it"
