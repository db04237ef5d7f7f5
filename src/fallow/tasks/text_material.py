"""The data and module of a training that classifies texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from ..core.subsampler import Subsampler
from ..datasets import TextData, Texts
from ..datasets.tokenizing import Encoded
from ..datasets.tokens import TokenDataset
from ..models import SmallTransformer
from ..options.factories import make_step_rule
from ..options.resolve import DataFacts, ResolvedOptions, resolve_on_data
from ..runs.data_file import DataFile, held_out_arrays, held_out_order, readable
from ..runs.thumbnails_file import EXCERPT
from .base import recipe_of
from .console import Console
from .material import Material, as_before
from .text import TextTask
from .tokenizing import TOKENS_A_TEST_BATCH, is_pretrained, longest_of, make_network, tokenizer_of


def text_material(
    options: ResolvedOptions,
    data: TextData,
    own: Any,
    kept: Path | None,
    console: Console,
    before: DataFile | None = None,
) -> Material:
    """Return the material of a training that classifies texts.

    Args:
        options: of the training.
        data: the texts.
        own: the user's network or LightningModule, or None.
        kept: the file of the resumed run's tokenizer, or None.
        console: prints what was read, and how many texts are cut.
        before: the samples of the resumed run, which keep their indices; None for a new run.
    """
    file = _data_file(data)
    if (order := as_before(file, before)) is not None:
        data, file = data.take(order), file.take(order)
    pretrained, inner, pad = None, None, 0
    if own is None and is_pretrained(options):
        # An optional package, which only pretrained models need.
        from ..integrations.transformers import load_classifier

        pretrained, inner, pad = load_classifier(options.model, data.classes, options.model_args)
    facts = DataFacts(
        samples=len(data.train),
        classes=np.unique(data.train.labels).size,
        pretrained=pretrained is not None,
        longest=longest_of(options, pretrained),
        trains_itself=isinstance(own, LightningModule),
    )
    options = resolve_on_data(options, facts)
    longest = options.max_tokens
    assert longest is not None
    tokenizer = tokenizer_of(options, data.train.texts, kept, inner, pad)
    encoded = [tokenizer.encode(part.texts, longest) for part in (data.train, data.test)]
    for line in _remarks(data, len(tokenizer), encoded[0].cut, longest):
        console.line(line)
    train, test = (
        TokenDataset(tokens, _targets(part), tokenizer.pad)
        for tokens, part in zip(encoded, (data.train, data.test), strict=True)
    )

    def module(subsampler: Subsampler) -> TextTask:
        network = own or pretrained
        if network is None:
            rarity = _rarity(encoded[0], len(tokenizer))
            size = (len(tokenizer), len(data.classes), longest, tokenizer.pad, rarity)
            network = make_network(SmallTransformer, *size, arguments=options.model_args)
        recipe = recipe_of(options)
        score = None if options.by_density else subsampler.score
        rule = make_step_rule(options)
        # The rows of a batch may interact in the user's own network.
        return TextTask(network, tokenizer.pad, subsampler, recipe, score, rule, by_length=own is None)

    texts = data.train.texts
    return Material(
        train,
        test,
        TokenDataset.collate,
        torch.from_numpy(data.train.labels),
        file,
        lambda index: {"texts": tuple(texts[i][:EXCERPT] for i in index.tolist())},
        max(1, TOKENS_A_TEST_BATCH // longest),
        options,
        module,
        tokenizer.dump(),
        held_out_name=_held_out_names(data.test),
        facts={"kind": "texts", "vocabulary": len(tokenizer), "max_tokens": longest},
    )


def _remarks(data: TextData, tokens: int, cut: int, longest: int) -> list[str]:
    """Return a line on what was read, and lines with remarks on it."""
    remarks = [_described(data, tokens), *data.notes]
    if empty := data.train.empty:
        remarks.append(f"{empty:,} of the texts {'is' if empty == 1 else 'are'} empty.")
    if cut:
        share = f"{cut / len(data.train):.0%}"
        remarks.append(f"{share} of the texts have more than {longest} tokens and are cut (--max_tokens).")
    return remarks


def _held_out_names(test: Texts) -> Callable[[int], str]:
    """Return the function from the row of a held-out text in ``data.safetensors`` to its name."""
    order, names = held_out_order(test.checksums(), test.labels.astype(np.int32)), readable(test.names)

    def name(place: int) -> str:
        row = int(order[place])
        return f"test text {row}" if names is None else names[row]

    return name


def _described(data: TextData, tokens: int) -> str:
    sizes = np.bincount(data.train.labels, minlength=len(data.classes))
    classes = f"{len(data.classes):,} classes ({sizes.min():,} to {sizes.max():,} each)"
    held_out = f"{len(data.test):,} held out"
    texts = f"{len(data.train):,} text{'s'[: len(data.train) != 1]}"
    return f"{texts} of {classes} and {held_out}; a vocabulary of {tokens:,} tokens"


def _targets(part: Texts) -> Tensor:
    return torch.from_numpy(part.labels if part.soft is None else part.soft)


def _rarity(encoded: Encoded, tokens: int) -> Tensor:
    """Return the rarity log((1 + N) / (1 + texts with the token)) of each token, float32 ``(V,)``."""
    texts = np.repeat(np.arange(len(encoded.edges) - 1), np.diff(encoded.edges))
    # A token counts once in a text, however often it occurs there.
    pairs = np.unique(texts * np.int64(tokens) + encoded.ids)
    counts = np.bincount(pairs % tokens, minlength=tokens)
    # One edge more than texts is the N + 1 of the formula.
    return torch.from_numpy(np.log(len(encoded.edges) / (1.0 + counts)).astype(np.float32))


def _data_file(data: TextData) -> DataFile:
    train, test = data.train, data.test
    identity, held_out_identity = data.identities()
    return DataFile(
        len(train),
        train.labels.astype(np.int32),
        train.checksums(),
        readable(data.classes),
        readable(train.names),
        identity=identity,
        **held_out_arrays(test.checksums(), test.labels.astype(np.int32), held_out_identity),
    )
