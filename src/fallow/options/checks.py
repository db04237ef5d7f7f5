"""Checks that options fit together, before anything is read. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import invalid, unknown_name
from .data_checks import check_data_options
from .kinds import check_kinds
from .own_classes import is_import_path, nearly_import_path
from .resolve import ResolvedOptions, as_given, high_side, resolve
from .score_names import score_names
from .sizes import bytes_of
from .text_checks import check_texts
from .train_options import (
    AUGMENTS,
    DENSITIES,
    DENSITY,
    IMAGE_MODELS,
    IMAGE_TASKS,
    LIBRARIES,
    LOGGERS,
    OPTIONS,
    POLICIES,
    TASKS,
    TEXT_TASKS,
    TrainOptions,
    library_of,
)


def check(options: TrainOptions) -> ResolvedOptions:
    """Return the resolved options; nothing is read.

    Raises:
        InvalidType: if the value of an option does not have the type of its annotation.
        InvalidValue: if a name is unknown, or options contradict each other.
    """
    check_kinds(as_given(options))
    resolved = resolve(options)
    # Resolved values contradict nothing, and a message must only name what the user wrote.
    options = as_given(resolved)
    if not options.data:
        step = "Name the data, as in --data digits, or resume a run with --resume RUN."
        raise invalid("--data must say what to train on.", "none", step)
    if options.accept and options.resume is None:
        raise invalid("--accept goes with --resume.", f"--accept {options.accept}", "Leave it out.")
    for name, known in (
        ("task", TASKS),
        ("policy", _policies(options)),
        ("augment", AUGMENTS),
        ("on_storage_error", ("warn", "stop")),
        ("stop", ("none", "auto")),
    ):
        value = getattr(options, name)
        if value not in known:
            raise unknown_name(name, value, known)
    if options.logger not in LOGGERS:
        raise unknown_name("logger", options.logger, LOGGERS)
    if options.score not in (DENSITY, *score_names()):
        raise unknown_name("score", options.score, [DENSITY, *score_names()])
    _check_model(options)
    _check_use(options)
    _check_sides(options, resolved)
    _check_density(options)
    check_texts(options)
    check_data_options(options)
    _check_bounds(options)
    for name, known in (("low", ("auto",)), ("high", ("auto", "none"))):
        value = getattr(options, name)
        if isinstance(value, str) and value not in known:
            raise invalid(f"--{name} must be a number or {' or '.join(known)}.", value)
    return resolved


def _check_model(options: TrainOptions) -> None:
    """Raise if an image model is unknown; a text model may be any name on Hugging Face."""
    if error := nearly_import_path(options.model):
        raise error
    own, library = is_import_path(options.model), library_of(options.model)
    if library is not None and options.task != "image":
        step = "Leave --model out, or classify images: --task image."
        raise invalid(f"Networks of {library} classify images.", f"--task {options.task}", step)
    known = ("auto", *IMAGE_MODELS)
    if options.task == "image" and not own and library is None and options.model not in known:
        raise unknown_name("model", options.model, [*IMAGE_MODELS, *(f"{name}:NAME" for name in LIBRARIES)])
    if own and (options.pretrained is not None or options.freeze):
        option = "pretrained" if options.pretrained is not None else "freeze"
        step = "Load or freeze weights in your own class, or leave it out."
        raise invalid(f"--{option} goes with networks that fallow makes.", options.model, step)
    if options.pretrained == "true" and library is None:
        step = "Name a library's network, as timm:resnet18, or a file of weights."
        raise invalid("--pretrained true fetches weights of a library.", f"--model {options.model}", step)
    if options.pretrained in ("", "false"):
        step = "Leave it out for random weights."
        raise invalid(
            "--pretrained must be true or a file of weights.", f"--pretrained {options.pretrained}", step
        )
    if options.model_args and not own and library is None and options.task == "image":
        step = "Leave --model_args out, or name such a network."
        rule = "--model_args goes with your own model, or a library's."
        raise invalid(rule, f"--model {options.model}", step)


def _policies(options: TrainOptions) -> Iterable[str]:
    """Return the names of all policies; importing them takes long, so only if it is not a built-in one."""
    if options.policy in POLICIES:
        return POLICIES
    from ..policies import policy_names

    return dict.fromkeys((*POLICIES, *policy_names()))


_LISTED = 4
"""The most policies that an error names."""
_USED_WITH: dict[tuple[str, ...], str] = {TEXT_TASKS: "texts", IMAGE_TASKS: "images"}


def _check_use(options: TrainOptions) -> None:
    """Raise if an option is given that the task or the policy does not use."""
    for name, known in OPTIONS.items():
        value = getattr(options, name)
        if options.task not in known.tasks and _is_given(value):
            users = _USED_WITH.get(known.tasks, f"--task {' or '.join(known.tasks)}")
            found = f"--{name} {value} with --task {options.task}"
            raise invalid(f"--{name} goes with {users}.", found, "Leave it out.")
        if value is not None and not known.fits(options.policy):
            policies = known.policies or [policy for policy in POLICIES if policy not in known.without]
            step = f"Leave --{name} out, or choose another policy"
            if len(policies) > _LISTED:
                rule = f"--{name} does nothing under --policy {options.policy}."
                raise invalid(rule, f"--{name} {value}", f"{step}, such as --policy {policies[0]}.")
            rule = f"--{name} goes with --policy {' or '.join(policies)}."
            raise invalid(rule, f"--policy {options.policy}", f"{step}.")


def _is_given(value: Any) -> bool:
    """Return whether an option differs from an empty default; 0 does."""
    return value is not None and value is not False and value not in ("", "auto", "none", {}, [])


def _check_bounds(options: TrainOptions) -> None:
    """Raise if a number is out of range."""
    if options.cache is not None:
        bytes_of("cache", options.cache)
    for name, low in (
        ("epochs", 1),
        ("freeze", 0),
        ("batch_size", 1),
        ("workers", 0),
        ("image_size", 1),
        ("samples", 1),
        ("save_steps", 1),
        ("max_tokens", 2),
        ("vocabulary", 2),
    ):
        value = getattr(options, name)
        if value is not None and value < low:
            raise invalid(f"--{name} must be at least {low}.", value)
    for name, high in (("batch_size", 1 << 24), ("learning_rate", 1e30), ("weight_decay", 1e30)):
        if (value := getattr(options, name)) is not None and value > high:
            raise invalid(f"--{name} must be at most {high:,}.", f"{value:,}")
    if not 0 <= options.seed < 2**63:
        raise invalid("--seed must be at least 0 and below 2^63.", options.seed)
    # Written with `not`, these two refuse NaN as well.
    if options.weight_decay is not None and not options.weight_decay >= 0:
        raise invalid("--weight_decay must be at least 0.", options.weight_decay)
    if options.learning_rate is not None and not options.learning_rate > 0:
        raise invalid("--learning_rate must be above 0.", options.learning_rate)
    for name in ("validation", "test_share"):
        if (share := getattr(options, name)) is not None and not 0 < share < 1:
            raise invalid(f"--{name} must be in (0, 1).", share, "Name a share, as 0.2.")


_LEFT = ("class-gaussian", "nearest", "flow")
"""Densities that earlier versions had."""


def _check_density(options: TrainOptions) -> None:
    """Raise if options of the density do not fit the score or the policy."""
    if options.task == "autoencoder" and options.score not in (DENSITY, "kl"):
        step = "Leave it out: samples are scored by density."
        raise invalid("An autoencoder has no labels to score by.", f"--score {options.score}", step)
    if not options.by_density:
        for name in ("density_args", "layers"):
            if value := getattr(options, name):
                raise invalid(f"--{name} goes with --score density.", value, "Leave it out.")
        # A resumed run of an earlier version may have stored a density that it did not use.
        if options.density != DENSITIES[0] and options.resume is None:
            step = "Leave it out, or name --score density."
            raise invalid("--density goes with --score density.", f"--density {options.density}", step)
        return
    if error := nearly_import_path(options.density):
        raise error
    if options.density in _LEFT:
        step = "Name your own class as package.module:Class: see examples/flow_density.py."
        raise invalid("--density must be one that fallow has.", f"{options.density}, which was removed", step)
    if options.density not in DENSITIES and not is_import_path(options.density):
        raise unknown_name("density", options.density, DENSITIES)
    if options.policy in ("error-mass", "watch"):
        step = "Leave --policy out, or name fraction."
        raise invalid("A percentile under a density is no error.", f"--policy {options.policy}", step)
    if options.policy in ("repb", "selective-backprop", "infobatch", "below-mean"):
        step = "Use soft, threshold or fraction."
        raise invalid("--score density goes with rules that read one score a sample.", options.policy, step)


def _check_sides(options: TrainOptions, resolved: ResolvedOptions) -> None:
    """Raise if --visits has no high bound, or --low auto nothing to audit."""
    if high_side(resolved) is None and options.visits is not None:
        step = "Set --high to a number or auto, or leave it out."
        raise invalid("--visits is for outliers, which need --high.", f"--visits {options.visits}", step)
    if options.policy == "threshold" and options.low == "auto" and options.readmit_every == 0:
        rule = "--low auto audits the samples that come back, so some must be re-admitted."
        raise invalid(rule, "--readmit_every 0", "Leave it out.")
