"""What texts are cut by, and how their networks are trained, as the options say."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from ..datasets.tokenizing import Tokenizer
from ..errors import invalid, unknown_name
from ..files.regular_file import read_regular
from ..options.resolve import ResolvedOptions
from ..options.train_options import OUR_MODELS, TEXT_MODELS

Network = TypeVar("Network")
_LARGEST = 1 << 28
"""Bytes of a tokenizer that a run keeps, at most."""
TOKENS_A_TEST_BATCH = 1 << 15


def tokenizer_of(
    options: ResolvedOptions, texts: Sequence[str], kept: Path | None, inner: Any, pad: int
) -> Tokenizer:
    """Return what texts are cut by.

    Args:
        options: with all that was chosen.
        texts: to learn from, if there is nothing else.
        kept: the tokenizer of the run that goes on, or None.
        inner: a pretrained model's tokenizer, or None.
        pad: its filling.
    """
    if inner is not None:
        if options.tokenizer is not None or options.vocabulary is not None:
            step = "Leave --tokenizer and --vocabulary out."
            raise invalid("A pretrained model brings its own tokenizer.", options.model, step)
        return Tokenizer(inner, pad)
    if kept is not None:
        return Tokenizer.parse(read_regular(kept, kept.parent, _LARGEST), str(kept))
    assert options.tokenizer is not None
    return Tokenizer.train(options.tokenizer, texts, options.vocabulary or 0)


def made(kind: Callable[..., Network], *values: Any, arguments: dict[str, Any]) -> Network:
    """Return a network of ours, made with the arguments that the options give.

    Raises:
        InvalidValue: for one that there is not.
    """
    known = list(inspect.signature(kind).parameters)[len(values) :]
    for name in arguments:
        if name not in known:
            raise unknown_name("argument in --model_args", name, known)
    return kind(*values, **arguments)


def is_pretrained(options: ResolvedOptions) -> bool:
    """Return whether the model is one of Hugging Face, and not ours for this task.

    Raises:
        InvalidValue: for one of our own models that is for something else, or misspelt.
    """
    ours = TEXT_MODELS[options.task]
    if options.model == ours:
        return False
    if options.model in OUR_MODELS or get_close_matches(options.model, [ours], n=1, cutoff=0.8):
        raise unknown_name(f"model for --task {options.task}", options.model, [ours])
    return True


def longest_of(options: ResolvedOptions, pretrained: Any) -> int | None:
    """Return how many tokens a pretrained model takes at most; None if nothing limits them.

    Raises:
        InvalidValue: if the options name more.
    """
    if pretrained is None:
        return None
    from ..integrations.transformers import longest

    limit = longest(pretrained.model)
    if options.max_tokens and limit and options.max_tokens > limit:
        raise invalid(f"--max_tokens must be at most {limit} with {options.model}.", options.max_tokens)
    return limit
