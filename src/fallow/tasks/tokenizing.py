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
from ..options.resolve import is_table
from ..options.train_options import TrainOptions
from .base import Recipe

Network = TypeVar("Network")
SMALL = ("small-transformer", "small-gpt")
"""Our networks for texts; every other name is one of Hugging Face."""
_LARGEST = 1 << 28
"""Bytes of a tokenizer that a run keeps, at most."""
TOKENS_A_TEST_BATCH = 1 << 15
_OF_IMAGES = ("small-conv", "small-resnet", "resnet")


def tokenizer_of(
    options: TrainOptions, texts: Sequence[str], kept: Path | None, vocabulary: int, inner: Any, pad: int
) -> Tokenizer:
    """Return what texts are cut by.

    Args:
        options: resolved ones.
        texts: to learn from, where there is nothing else.
        kept: the tokenizer of the run that goes on, or None.
        vocabulary: how many tokens are learned where the options do not say.
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
    return Tokenizer.train(options.tokenizer or "bpe", texts, options.vocabulary or vocabulary)


def usual_of(
    options: TrainOptions, longest: int, vocabulary: int, *, pretrained: bool
) -> dict[str, int | str]:
    """Return the values of options that depend on the texts; a pretrained model brings its own tokenizer."""
    found: dict[str, int | str] = {"max_tokens": longest}
    if is_table(options.data):
        found |= {"text": "text"} | ({"label": "label"} if options.task == "text" else {})
    if pretrained:
        return found
    found["tokenizer"] = "bpe"
    if options.tokenizer in (None, "bpe"):
        found["vocabulary"] = vocabulary
    return found


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


def is_pretrained(options: TrainOptions, ours: str) -> bool:
    """Return whether the model is one of Hugging Face, and not ours for this task.

    Raises:
        InvalidValue: for one of our own models that is for something else, or misspelt.
    """
    if options.model == ours:
        return False
    if options.model in (*_OF_IMAGES, *SMALL) or get_close_matches(options.model, [ours], n=1, cutoff=0.8):
        raise unknown_name(f"model for --task {options.task}", options.model, [ours])
    return True


def longest_of(options: TrainOptions, usual: int, pretrained: Any) -> int:
    """Return how many tokens a text may have."""
    if pretrained is None:
        return options.max_tokens or usual
    from ..integrations.transformers import longest

    limit = longest(pretrained.model)
    if options.max_tokens and limit and options.max_tokens > limit:
        raise invalid(f"--max_tokens must be at most {limit} with {options.model}.", options.max_tokens)
    return options.max_tokens or min(usual, limit or usual)


def recipe_of(options: TrainOptions, usual: float) -> Recipe:
    """Return how a network is trained, with a learning rate where the options name none."""
    return Recipe(
        learning_rate=options.learning_rate or usual,
        weight_decay=0.0 if options.weight_decay is None else options.weight_decay,
        seed=options.seed,
    )
