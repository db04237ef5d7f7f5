"""Documents as windows, and how a language model learns from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule
from numpy.typing import NDArray
from torch import nn

from ..core.subsampler import Subsampler
from ..datasets import Corpus, Document
from ..datasets.tokenizing import Tokenizer
from ..datasets.tokens import WindowDataset
from ..errors import invalid
from ..models import SmallGPT
from ..options.resolve import DataFacts, ResolvedOptions, resolve_on_data
from ..runs.data_changes import Samples, sides
from ..runs.data_file import DataFile, held_out_arrays, readable
from ..runs.thumbnails_file import EXCERPT
from ..step_rules import TokenThreshold
from .base import recipe_of
from .console import Console
from .language_model import LanguageModelTask
from .material import Material, as_before
from .parts import chosen_documents, chosen_samples, parted_as_before
from .tokenizing import (
    TOKENS_A_TEST_BATCH,
    is_pretrained,
    longest_of,
    made,
    tokenizer_of,
)


def language_material(
    options: ResolvedOptions,
    corpus: Corpus,
    own: Any,
    kept: Path | None,
    console: Console,
    before: DataFile | None = None,
) -> Material:
    """Return documents as windows that a language model is trained on; see :func:`text_material`."""
    if isinstance(own, LightningModule):
        step = "Name an nn.Module from token ids (B, T) to logits (B, T, V), or bring your own data module."
        raise invalid("Our windows go with our own training.", options.model, step)
    pretrained, inner, pad = None, None, 0
    if own is None and is_pretrained(options):
        from ..integrations.transformers import load_language_model

        pretrained, inner, pad = load_language_model(options.model, options.model_args)
    facts = DataFacts(
        samples=len(corpus.train),
        classes=None,
        pretrained=pretrained is not None,
        longest=longest_of(options, pretrained),
    )
    options = resolve_on_data(options, facts)
    length = options.max_tokens
    assert length is not None
    tokenizer = tokenizer_of(options, [one.text for one in corpus.train], kept, inner, pad)
    if before is not None:
        corpus = _as_before(options, corpus, before, tokenizer, length)
    train, test = (
        WindowDataset(tokenizer.encode([one.text for one in part]), length)
        for part in (corpus.train, corpus.test)
    )
    content = train.checksums()
    known = None if before is None else Samples(content).known_to(before)
    chosen = np.flatnonzero(chosen_samples(content, options.samples, known))
    train = train.take(chosen)
    file = _data_file(corpus, train, content[chosen], test.checksums())
    if (order := as_before(file, before)) is not None:
        train, file = train.take(order), file.take(order)
    read, held_out = map(_told, (train, test))
    console.line(f"{read} and {held_out} held out; a vocabulary of {len(tokenizer):,} tokens")
    ratio = float(test.sizes.sum()) / max(1, sum(len(one.text) for one in corpus.test))

    def module(subsampler: Subsampler) -> LanguageModelTask:
        network: nn.Module | None = own or pretrained
        if network is None:
            network = made(SmallGPT, len(tokenizer), length, arguments=options.model_args)
        recipe = recipe_of(options)
        return LanguageModelTask(network, ratio, subsampler, recipe, _token_rule(options))

    def texts(index: NDArray[np.int64]) -> dict[str, Any]:
        return {"texts": tuple(tokenizer.decode(train.ids(row).tolist())[:EXCERPT] for row in index.tolist())}

    return Material(
        train,
        test,
        WindowDataset.collate,
        None,
        file,
        texts,
        max(1, TOKENS_A_TEST_BATCH // length),
        options,
        module,
        tokenizer.dump(),
        tokens=len(tokenizer),
        facts={"kind": "windows", "vocabulary": len(tokenizer), "max_tokens": length},
    )


def _told(part: WindowDataset) -> str:
    windows, tokens = len(part), int(part.sizes.sum())
    return f"{windows:,} window{'s'[: windows != 1]} ({tokens:,} token{'s'[: tokens != 1]})"


def _token_rule(options: ResolvedOptions) -> TokenThreshold | None:
    """Return what leaves tokens without a gradient, if the options ask for it."""
    if options.token_low is None and options.token_high is None:
        return None
    return TokenThreshold(options.token_low, options.token_high)


def _as_before(
    options: ResolvedOptions, corpus: Corpus, before: DataFile, tokenizer: Tokenizer, length: int
) -> Corpus:
    """Return the documents in the parts in which a run that goes on had them, told by their windows."""

    def where(documents: tuple[Document, ...]) -> NDArray[np.int8] | None:
        if before.content is None:
            return None
        windows = WindowDataset(tokenizer.encode([one.text for one in documents]), length)
        return document_sides(windows, before, len(documents))

    validates = options.validation is not None
    if corpus.test_share is not None and (at := where(corpus.train + corpus.test)) is not None:
        corpus = parted_as_before(corpus, at, validates=validates)
    at = where(corpus.train) if validates and len(corpus.train) > 1 else None
    return chosen_documents(corpus, options.validation, at, before.cut)


def document_sides(windows: WindowDataset, before: DataFile, count: int) -> NDArray[np.int8]:
    """Return on which side of a run each of so many documents was, by its windows; see :func:`sides`.

    Every window of a held-out document is held out; of one to train on perhaps only some are trained on
    (``--samples``). Documents may share a window, so that most of them must be held out, and those on both
    sides, as copies of whole documents are, count one to one.
    """
    content = windows.checksums()
    trained, held = (
        np.zeros(content.size, np.bool_) if sums is None else np.isin(content, sums)
        for sums in (before.content, before.held_out)
    )
    both = np.where(trained & held, sides(before, Samples(content)), 0)
    only_held, only_trained, sign, size = (
        np.bincount(windows.document, weights=weights, minlength=count)
        for weights in (held & ~trained, trained & ~held, both, np.ones(content.size))
    )
    told = np.where(2 * only_held > size, 1, np.where(only_trained > 0, -1, np.sign(sign)))
    return told.astype(np.int8)


def _data_file(
    corpus: Corpus, train: WindowDataset, content: NDArray[np.uint64], theirs: NDArray[np.uint64]
) -> DataFile:
    names = readable(_names(corpus, train))
    held_out = held_out_arrays(theirs)
    return DataFile(len(train), None, content, None, names, cut=corpus.cut, **held_out)


def _names(corpus: Corpus, windows: WindowDataset) -> tuple[str, ...]:
    """Return where each window stands: ``hamlet, tokens 1-128``."""
    titles = [one.title for one in corpus.train]
    first = windows.starts - windows.encoded.edges[:-1][windows.document] + 1
    places = zip(windows.document.tolist(), first.tolist(), windows.sizes.tolist(), strict=True)
    return tuple(f"{titles[place]}, tokens {start}-{start + size - 1}" for place, start, size in places)
