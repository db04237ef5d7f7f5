"""Documents as windows, and how a language model learns from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule
from numpy.typing import NDArray
from torch import nn

from .._checks import invalid
from ..data_file import DataFile, readable
from ..datasets import Corpus
from ..datasets.tokens import WindowDataset
from ..models import SmallGPT
from ..shown_file import EXCERPT
from ..step_rules import TokenThreshold
from ..subsampler import Subsampler
from .console import Console
from .language_model import LanguageModelTask
from .material import Material
from .options import TrainOptions
from .parts import chosen_samples
from .tokenizing import (
    SMALL,
    TOKENS_A_TEST_BATCH,
    is_pretrained,
    longest_of,
    made,
    recipe_of,
    tokenizer_of,
    usual_of,
)

VOCABULARY = 1024
"""How many tokens are learned if the options name no number."""


def language_material(
    options: TrainOptions, corpus: Corpus, own: Any, kept: Path | None, console: Console
) -> Material:
    """Return documents as windows that a language model is trained on; see :func:`text_material`."""
    if isinstance(own, LightningModule):
        step = "Name an nn.Module from token ids (B, T) to logits (B, T, V), or bring your own data module."
        raise invalid("Our windows go with our own training.", options.model, step)
    pretrained, inner, pad = None, None, 0
    if own is None and is_pretrained(options, SMALL[1]):
        from ..integrations.transformers import load_language_model

        pretrained, inner, pad = load_language_model(options.model, options.model_args)
    length = longest_of(options, 128, pretrained)
    tokenizer = tokenizer_of(options, [one.text for one in corpus.train], kept, VOCABULARY, inner, pad)
    parts = [
        WindowDataset(tokenizer.encode([one.text for one in part]), length)
        for part in (corpus.train, corpus.test)
    ]
    chosen = np.flatnonzero(chosen_samples(len(parts[0]), options.samples))
    train, test = parts[0].take(chosen), parts[1]
    read, held_out = (f"{len(part):,} windows ({part.sizes.sum():,} tokens)" for part in (train, test))
    console.line(f"{read} and {held_out} held out; a vocabulary of {len(tokenizer):,} tokens")
    characters = sum(len(one.text) for one in corpus.test)

    def module(subsampler: Subsampler, batch_size: int) -> LanguageModelTask:
        network: nn.Module | None = own or pretrained
        if network is None:
            network = made(SmallGPT, len(tokenizer), length, arguments=options.model_args)
        rule = None
        if options.token_low is not None or options.token_high is not None:
            rule = TokenThreshold(options.token_low, options.token_high)
        ratio = float(test.sizes.sum()) / max(1, characters)
        return LanguageModelTask(
            network, ratio, subsampler, recipe_of(options, 5e-5 if pretrained else 6e-3), rule
        )

    def texts(index: NDArray[np.int64]) -> dict[str, Any]:
        return {"texts": tuple(tokenizer.decode(train.ids(row).tolist())[:EXCERPT] for row in index.tolist())}

    content, theirs = train.checksums(), test.checksums()
    return Material(
        train,
        test,
        WindowDataset.collate,
        None,
        DataFile(len(train), None, content, None, readable(_names(corpus, train)), np.sort(theirs)),
        texts,
        32 if pretrained else 16,
        max(1, TOKENS_A_TEST_BATCH // length),
        module,
        tokenizer.dump(),
        usual=usual_of(options, length, VOCABULARY, pretrained=pretrained is not None),
        facts={"kind": "windows", "vocabulary": len(tokenizer), "max_tokens": length},
    )


def _names(corpus: Corpus, windows: WindowDataset) -> tuple[str, ...]:
    """Return where each window stands: ``hamlet, tokens 1-128``."""
    titles = [one.title for one in corpus.train]
    first = windows.starts - windows.encoded.edges[:-1][windows.document] + 1
    places = zip(windows.document.tolist(), first.tolist(), windows.sizes.tolist(), strict=True)
    return tuple(f"{titles[place]}, tokens {start}-{start + size - 1}" for place, start, size in places)
