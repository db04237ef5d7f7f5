"""Resolve the options that are not given. Loads no torch.

There are two steps. :func:`resolve` chooses what follows from the options alone, once, where they enter: from
the command line or Python, in an arm of a comparison, or with a resumed run. :func:`resolve_on_data` chooses
the rest after the data are read. Then an option is None only if that has a meaning: see ``none`` in
:class:`~fallow.options.train_options.Option`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..datasets import names
from .own_classes import is_import_path
from .train_options import (
    ANEW,
    AS_GIVEN,
    NOTED,
    OPTIONS,
    TEXT_MODELS,
    TEXT_TASKS,
    TrainOptions,
    library_of,
    named,
)

_DEFAULTS = vars(TrainOptions())
_KEPT_AS_GIVEN = named(default=AS_GIVEN)
_TOKENS = {"text": (256, 16_000), "language-model": (128, 1024)}
"""Most tokens of a text or window, and the size of the vocabulary, by task."""
_RATES_OF_ADAMW = {"autoencoder": 2e-3, "text": 2e-3, "language-model": 6e-3}
_RATE_OF_LIBRARY, _RATE_OF_PRETRAINED = 1e-3, 2e-4
"""For networks of images with AdamW."""
_MOST_WORKERS = 8
_LARGEST_CACHE = "4GiB"
_MANY = 10_000
"""Least number of images that are trained in large batches."""
_FEW = 2_000
"""Images below which batches of 64 would be too few steps to fine-tune in."""


@dataclass
class ResolvedOptions(TrainOptions):
    """Options after :func:`resolve`.

    Replacing one leaves the options that were chosen by it as they are. To choose these again, resolve the
    result of :func:`as_given`.

    Args:
        chosen: the options that were not given, except those that a run keeps as if they were.
    """

    # No defaults: every one of these is chosen, so its type has no None.
    epochs: int = 0
    weight_decay: float = 0.0
    test_share: float = 0.0
    readmit_every: int = 0
    full_tail: float = 0.0
    chosen: frozenset[str] = frozenset()

    @property
    def noted(self) -> list[str]:
        """The names of options that were not given but whose values a run keeps, sorted."""
        return sorted(name for name in self.chosen if OPTIONS[name].default != ANEW)


@dataclass(frozen=True)
class DataFacts:
    """Facts about the data and the network that defaults depend on.

    Args:
        samples: the number of training samples, before any are added.
        classes: the number of classes that occur among the labels; None without labels.
        name: the name of the image data set.
        channels: those of the images; grey ones have 1.
        side: the side of images that were scaled to squares of one size; else None.
        pretrained: whether the network comes from Hugging Face.
        longest: the most tokens that the network takes; None for no limit.
        trains_itself: whether the network is the user's own LightningModule.
        batch_size: the batch size of the user's own data module; None for data that fallow reads.
        in_files: whether images are decoded while they train.
    """

    samples: int
    classes: int | None
    name: str = ""
    channels: int = 0
    side: int | None = None
    pretrained: bool = False
    longest: int | None = None
    trains_itself: bool = False
    batch_size: int | None = None
    in_files: bool = False


def resolve(options: TrainOptions) -> ResolvedOptions:
    """Return the options with the choices that follow from them alone; resolved ones stay as they are."""
    if isinstance(options, ResolvedOptions):
        return options
    resolved = ResolvedOptions(**{field.name: getattr(options, field.name) for field in fields(TrainOptions)})
    return _choose(resolved, _BY_OPTIONS, lambda choice: choice(resolved))


def resolve_on_data(options: ResolvedOptions, facts: DataFacts) -> ResolvedOptions:
    """Return the options with the choices that depend on the data too."""
    resolved = replace(options)
    return _choose(resolved, _BY_DATA, lambda choice: choice(resolved, facts))


def _choose(
    resolved: ResolvedOptions, choices: Mapping[str, Callable[..., Any]], value_of: Callable[[Any], Any]
) -> ResolvedOptions:
    """Choose each open option in turn; a choice may depend on those before it."""
    for name, choice in choices.items():
        if is_open(resolved, name) and (value := value_of(choice)) is not None:
            setattr(resolved, name, value)
            resolved.chosen |= {name} - _KEPT_AS_GIVEN
    return resolved


def is_open(options: TrainOptions, name: str) -> bool:
    """Return whether an option is still to be chosen: it is None, or ``auto`` as its field's default."""
    value = getattr(options, name)
    return value is None or (value == "auto" and OPTIONS[name].default in (AS_GIVEN, NOTED))


def as_given(options: TrainOptions) -> TrainOptions:
    """Return the options as given; choices that a run keeps as if given (``AS_GIVEN``) stay."""
    if not isinstance(options, ResolvedOptions):
        return options
    values = {field.name: getattr(options, field.name) for field in fields(TrainOptions)}
    return TrainOptions(**{**values, **{name: _DEFAULTS[name] for name in options.chosen}})


def usual(options: TrainOptions, name: str) -> Any:
    """Return the default of an option that does not depend on the data."""
    return _BY_OPTIONS[name](options) if name in _BY_OPTIONS else _DEFAULTS[name]


def is_table(name: str) -> bool:
    """Return whether texts of this name come from a table with named columns."""
    return not name.lower().endswith(".txt")


def rate_follows_batch(options: TrainOptions) -> bool:
    """Return whether the default learning rate grows with the batch.

    It does for SGD (Goyal et al., 2017). Networks that use AdamW have one rate for every batch size.
    """
    return options.task not in _RATES_OF_ADAMW and not with_adamw(options)


def with_adamw(options: TrainOptions) -> bool:
    """Return whether a classifier of images is trained by AdamW: a library's network, or a pretrained one."""
    return library_of(options.model) is not None or options.pretrained is not None


def high_side(options: ResolvedOptions) -> float | str | None:
    """Return the bound above which samples are outliers; None for no bound."""
    return None if options.high == "none" else options.high


def _task(options: TrainOptions) -> str:
    name = options.data
    if name.lower().endswith(".txt"):
        return "language-model"
    if name in names.KNOWN:
        return "image"
    if options.label is not None:
        return "text"
    if options.text is not None:
        return "language-model"
    table = name.startswith("hf:") or Path(name).suffix.lower() in names.TABLES
    return "text" if table or _holds_tables(name) else "image"


def _holds_tables(name: str) -> bool:
    """Return whether a folder has a table named train."""
    try:
        return any(Path(name, f"train{suffix}").is_file() for suffix in names.TABLES)
    except (OSError, ValueError):  # a name that is too long, or holds a null character
        return False


def _policy(options: TrainOptions) -> str:
    of_draws = (name for name, known in OPTIONS.items() if known.policies == ("soft",))
    # A percentile under a density says nothing of an error.
    if options.by_density or any(getattr(options, name) is not None for name in of_draws):
        return "soft"
    return "error-mass" if options.fraction is None else "fraction"


def _epochs(options: TrainOptions) -> int:
    if options.data == "digits":
        return 30
    return 10 if options.task in TEXT_TASKS else 20


def _weight_decay(options: TrainOptions) -> float:
    if with_adamw(options):
        return 0.05
    return {"text": 0.05, "language-model": 0.1}.get(options.task, 5e-4)


def _test_share(options: TrainOptions) -> float:
    return names.SHARE_OF_TEXT if options.data.lower().endswith(".txt") else names.TEST_SHARE


def _column(name: str, *tasks: str) -> Callable[[TrainOptions], str | None]:
    """Return the choice of a column: the one called ``name`` if a table is read for one of the tasks."""

    def choice(options: TrainOptions) -> str | None:
        read = options.task in tasks and is_table(options.data) and not is_import_path(options.data)
        return name if read else None

    return choice


def _with_policies(name: str, choice: Callable[[TrainOptions], Any]) -> Callable[[TrainOptions], Any]:
    """Return a choice that leaves an option open unless the policy uses it."""
    return lambda options: choice(options) if options.policy in OPTIONS[name].policies else None


def _high(options: TrainOptions) -> str:
    # A language model has no labels, so nothing tells a wrong sample from a rare one.
    found = options.policy in ("error-mass", "soft", "fraction")
    return "auto" if found and options.task != "language-model" else "none"


def _visits(options: TrainOptions) -> int:
    return 1 if options.policy == "threshold" and options.high != "auto" else 3


def _fraction(options: TrainOptions) -> float | None:
    if options.policy not in ("soft", "fraction", "random", "ucb"):
        return None  # the policy then uses the share of its paper
    return 0.25 if options.task == "language-model" else 0.5


def _full_tail(options: TrainOptions) -> float:
    # The paper's rule ends with full epochs; a given fraction is meant for every epoch.
    if options.policy == "infobatch":
        return 0.125 if options.fraction is None else 0.0
    return 0.1 if options.policy == "threshold" else 0.0


_BY_OPTIONS: Mapping[str, Callable[[TrainOptions], Any]] = {
    "task": _task,
    "model": lambda options: {**TEXT_MODELS, "autoencoder": "small-conv"}.get(options.task),
    "policy": _policy,
    "epochs": _epochs,
    "weight_decay": _weight_decay,
    "test_share": _test_share,
    "text": _column("text", *TEXT_TASKS),
    "label": _column("label", "text"),
    "quantiles": _with_policies("quantiles", lambda options: False),
    "error": _with_policies("error", lambda options: 0.15),
    "low": _with_policies("low", lambda options: 0.3 if options.quantiles else 0.1),
    "high": _with_policies("high", _high),
    "visits": _with_policies("visits", _visits),
    "fraction": _fraction,
    "exponent": _with_policies("exponent", lambda options: 0.5),
    "readmit_every": lambda options: 5 if options.policy == "threshold" else 0,
    "full_tail": _full_tail,
    "kept_steps": lambda options: options.policy in ("error-mass", "fraction"),
}
"""Choices that follow from the other options, in this order."""


def _batch_size(options: TrainOptions, facts: DataFacts) -> int:
    if facts.batch_size is not None:
        return facts.batch_size
    if options.task == "language-model":
        return 32 if facts.pretrained else 16
    if options.task == "text":
        return 16 if facts.pretrained else 64
    if options.pretrained is not None and facts.samples < _FEW:
        return 16
    return 256 if facts.samples >= _MANY else 64


def _learning_rate(options: TrainOptions, facts: DataFacts) -> float | None:
    assert options.batch_size is not None
    if facts.trains_itself:
        return None
    if facts.pretrained:
        return 5e-5
    if with_adamw(options):
        return _RATE_OF_LIBRARY if options.pretrained is None else _RATE_OF_PRETRAINED
    if rate_follows_batch(options):
        return 0.3 * options.batch_size / 256
    return _RATES_OF_ADAMW[options.task]


def _augment(options: TrainOptions, facts: DataFacts) -> str | None:
    if options.task in TEXT_TASKS or facts.trains_itself:
        return None
    return "none" if facts.name in names.KNOWN else "crop"


def _max_tokens(options: TrainOptions, facts: DataFacts) -> int | None:
    # A batch size is only known here if the user's own data module makes the batches.
    if options.task not in TEXT_TASKS or facts.batch_size is not None:
        return None
    most = _TOKENS[options.task][0]
    return min(most, facts.longest or most)


def _tokenizer(options: TrainOptions, facts: DataFacts) -> str | None:
    learned = options.task in TEXT_TASKS and facts.batch_size is None and not facts.pretrained
    return "bpe" if learned else None


def _vocabulary(options: TrainOptions, facts: DataFacts) -> int | None:
    return _TOKENS[options.task][1] if options.tokenizer == "bpe" else None


def _workers(options: TrainOptions, facts: DataFacts) -> int | None:
    if facts.batch_size is not None:
        return None
    return min(os.cpu_count() or 1, _MOST_WORKERS) if facts.in_files else 0


def _min_kept_per_class(options: TrainOptions, facts: DataFacts) -> int:
    assert options.batch_size is not None
    # An even share of a batch, see docs/decisions/007-a-fair-share-for-each-class.md.
    return 0 if facts.classes is None else max(1, options.batch_size // facts.classes)


_BY_DATA: Mapping[str, Callable[[TrainOptions, DataFacts], Any]] = {
    "model": lambda options, facts: "small-conv" if facts.channels == 1 else "small-resnet",
    "batch_size": _batch_size,
    "learning_rate": _learning_rate,
    "augment": _augment,
    "image_size": lambda options, facts: facts.side,
    "max_tokens": _max_tokens,
    "tokenizer": _tokenizer,
    "vocabulary": _vocabulary,
    "workers": _workers,
    "cache": lambda options, facts: _LARGEST_CACHE if facts.in_files else None,
    "min_kept": lambda options, facts: options.batch_size,
    "min_kept_per_class": _min_kept_per_class,
}
"""Choices that depend on the data, in this order."""
