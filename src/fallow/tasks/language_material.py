"""The data and module of a language model: documents cut into windows."""

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
from .parts import chosen_documents, chosen_samples, split_as_before
from .tokenizing import TOKENS_A_TEST_BATCH, is_pretrained, longest_of, make_network, tokenizer_of


def language_material(
    options: ResolvedOptions,
    corpus: Corpus,
    own: Any,
    kept: Path | None,
    console: Console,
    before: DataFile | None = None,
) -> Material:
    """Return the material of a language model; see :func:`text_material`."""
    if isinstance(own, LightningModule):
        step = "Name an nn.Module from token ids (B, T) to logits (B, T, V), or bring your own data module."
        raise invalid("A LightningModule cannot train on fallow's windows.", options.model, step)
    pretrained, inner, pad = None, None, 0
    if own is None and is_pretrained(options):
        # An optional package, which only pretrained models need.
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
    tokenizer = tokenizer_of(options, [document.text for document in corpus.train], kept, inner, pad)
    # Only now, as documents are recognised by their tokens.
    if before is not None:
        corpus = _as_before(options, corpus, before, tokenizer, length)
    train, test = (
        WindowDataset(tokenizer.encode([document.text for document in part]), length)
        for part in (corpus.train, corpus.test)
    )
    content = train.checksums()
    known = None if before is None else Samples(content).known_to(before)
    chosen = np.flatnonzero(chosen_samples(content, options.samples, known))
    train = train.take(chosen)
    file = _data_file(corpus, train, content[chosen], test.checksums())
    if (order := as_before(file, before)) is not None:
        train, file = train.take(order), file.take(order)
    read, held_out = map(_described, (train, test))
    console.line(f"{read} and {held_out} held out; a vocabulary of {len(tokenizer):,} tokens")
    ratio = float(test.sizes.sum()) / max(1, sum(len(document.text) for document in corpus.test))

    def module(subsampler: Subsampler) -> LanguageModelTask:
        network: nn.Module | None = own or pretrained
        if network is None:
            network = make_network(SmallGPT, len(tokenizer), length, arguments=options.model_args)
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


def _described(part: WindowDataset) -> str:
    windows, tokens = len(part), int(part.sizes.sum())
    return f"{windows:,} window{'s'[: windows != 1]} ({tokens:,} token{'s'[: tokens != 1]})"


def _token_rule(options: ResolvedOptions) -> TokenThreshold | None:
    if options.token_low is None and options.token_high is None:
        return None
    return TokenThreshold(options.token_low, options.token_high)


def _as_before(
    options: ResolvedOptions, corpus: Corpus, before: DataFile, tokenizer: Tokenizer, length: int
) -> Corpus:
    """Return the documents split as in the resumed run, which knows them by their windows."""

    def known(documents: tuple[Document, ...]) -> NDArray[np.int8] | None:
        if before.content is None:
            return None
        windows = WindowDataset(tokenizer.encode([document.text for document in documents]), length)
        return document_sides(windows, before, len(documents))

    validates = options.validation is not None
    if corpus.test_share is not None and (side := known(corpus.train + corpus.test)) is not None:
        corpus = split_as_before(corpus, side, validates=validates)
    side = known(corpus.train) if validates and len(corpus.train) > 1 else None
    return chosen_documents(corpus, options.validation, side, before.cut)


def document_sides(windows: WindowDataset, before: DataFile, count: int) -> NDArray[np.int8]:
    """Return on which side of a run each of ``count`` documents was, by its windows; see :func:`sides`.

    All windows of a held-out document are held out, but perhaps only some of a training document are trained
    on (``--samples``). Documents may share windows, so that most windows of a held-out one must be held out
    alone. Documents whose windows are all on both sides, such as copies, are matched one to one.
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
    side = np.where(2 * only_held > size, 1, np.where(only_trained > 0, -1, np.sign(sign)))
    return side.astype(np.int8)


def _data_file(
    corpus: Corpus, train: WindowDataset, content: NDArray[np.uint64], held_out: NDArray[np.uint64]
) -> DataFile:
    names = readable(_names(corpus, train))
    return DataFile(len(train), None, content, None, names, cut=corpus.cut, **held_out_arrays(held_out))


def _names(corpus: Corpus, windows: WindowDataset) -> tuple[str, ...]:
    """Return the name of each window: ``hamlet, tokens 1-128``."""
    titles = [document.title for document in corpus.train]
    first = windows.starts - windows.encoded.edges[:-1][windows.document] + 1
    ranges = zip(windows.document.tolist(), first.tolist(), windows.sizes.tolist(), strict=True)
    return tuple(f"{titles[i]}, tokens {start}-{start + size - 1}" for i, start, size in ranges)
