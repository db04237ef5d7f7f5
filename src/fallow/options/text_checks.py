"""Checks of the options for texts. Loads no torch."""

from __future__ import annotations

from ..datasets.names import TOKENIZERS
from ..errors import invalid, unknown_name
from .train_options import TEXT_TASKS, TrainOptions

_LONGEST = 1 << 16


def check_texts(options: TrainOptions) -> None:
    """Raise if an option for texts is invalid; ``options`` as :func:`as_given` returns them.

    Raises:
        InvalidValue: naming the option.
    """
    if options.task not in TEXT_TASKS:
        return
    if options.max_tokens is not None and options.max_tokens > _LONGEST:
        raise invalid(f"--max_tokens must be at most {_LONGEST:,}.", f"{options.max_tokens:,}")
    for name in ("text", "label"):
        if (column := getattr(options, name)) is not None and not column.strip(" ,"):
            raise invalid(f"--{name} must name a column.", repr(column), "Name it as the table does.")
    if options.tokenizer is not None and options.tokenizer not in TOKENIZERS:
        raise unknown_name("tokenizer", options.tokenizer, TOKENIZERS)
    if options.tokenizer == "byte" and options.vocabulary is not None:
        step = "Leave it out: there are 256 bytes."
        raise invalid("--vocabulary goes with --tokenizer bpe.", options.vocabulary, step)
    if options.task == "language-model":
        _check_language_model(options)


def _check_language_model(options: TrainOptions) -> None:
    if options.label is not None:
        raise invalid("A language model has no labels.", f"--label {options.label}", "Leave it out.")
    if options.score not in ("kl", "density"):
        step = "Use kl (nats, the mean over the tokens) or density."
        raise invalid("A language model is scored by kl or density.", options.score, step)
    if options.policy == "selective-backprop":
        step = "Use --token_low, which leaves learned tokens without a gradient."
        raise invalid("--policy selective-backprop is for classifiers.", options.policy, step)
    if options.high == "auto":
        step = "Give a number of nats, or leave it out."
        raise invalid("--high auto finds wrong labels, and a language model has no labels.", "auto", step)
    low, high = options.token_low, options.token_high
    for name, value in (("token_low", low), ("token_high", high)):
        if value is not None and not 0 <= value < float("inf"):
            raise invalid(f"--{name} must be at least 0, in nats.", value)
    if low is not None and high is not None and low >= high:
        raise invalid("--token_low must be below --token_high.", f"{low} and {high}")
