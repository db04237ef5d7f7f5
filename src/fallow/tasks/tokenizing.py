"""The tokenizers and networks for texts, as the options name them."""

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
"""Most bytes of a tokenizer that a run stores."""
TOKENS_A_TEST_BATCH = 1 << 15


def tokenizer_of(
    options: ResolvedOptions, texts: Sequence[str], kept: Path | None, inner: Any, pad: int
) -> Tokenizer:
    """Return the tokenizer of a training.

    Args:
        options: resolved on the data.
        texts: to learn a new tokenizer from.
        kept: the file of the resumed run's tokenizer, or None.
        inner: a pretrained model's tokenizer, or None.
        pad: its padding id.
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


def make_network(kind: Callable[..., Network], *values: Any, arguments: dict[str, Any]) -> Network:
    """Return a built-in network with the arguments in the options.

    Raises:
        InvalidValue: if it does not take one of them.
    """
    # The first parameters are filled in from the data.
    known = list(inspect.signature(kind).parameters)[len(values) :]
    for name in arguments:
        if name not in known:
            raise unknown_name("argument in --model_args", name, known)
    return kind(*values, **arguments)


def is_pretrained(options: ResolvedOptions) -> bool:
    """Return whether the model comes from Hugging Face.

    Raises:
        InvalidValue: if it is a built-in model for another task, or its name is misspelt.
    """
    built_in = TEXT_MODELS[options.task]
    if options.model == built_in:
        return False
    # A misspelt built-in name would be searched for on Hugging Face.
    if options.model in OUR_MODELS or get_close_matches(options.model, [built_in], n=1, cutoff=0.8):
        raise unknown_name(f"model for --task {options.task}", options.model, [built_in])
    return True


def longest_of(options: ResolvedOptions, pretrained: Any) -> int | None:
    """Return the most tokens that a pretrained model takes; None for no limit.

    Raises:
        InvalidValue: if ``max_tokens`` is more.
    """
    if pretrained is None:
        return None
    # An optional package, which only pretrained models need.
    from ..integrations.transformers import longest

    limit = longest(pretrained.model)
    if options.max_tokens and limit and options.max_tokens > limit:
        raise invalid(f"--max_tokens must be at most {limit} with {options.model}.", options.max_tokens)
    return limit
