"""Texts, and how a network learns their classes or the next token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from numpy.typing import NDArray
from torch import Tensor, nn

from .._checks import damaged, invalid, unknown_name
from ..data_file import DataFile, readable, row_checksums, sorted_by_content
from ..datasets import (
    Corpus,
    Document,
    TextData,
    Texts,
    load_documents,
    load_newsgroups,
    load_reuters,
    load_shakespeare,
    load_text_table,
)
from ..datasets.tokenizing import Encoded, Tokenizer
from ..datasets.tokens import TokenDataset, WindowDataset
from ..models import SmallGPT, SmallTransformer
from ..shown_file import EXCERPT
from ..step_rules import TokenThreshold
from ..subsampler import Subsampler
from .building import make_step_rule
from .console import Console
from .language_model import LanguageModelTask
from .material import Material
from .options import KNOWN_CORPORA, KNOWN_IMAGES, KNOWN_TEXTS, TrainOptions, lists
from .ours import Recipe
from .parts import chosen_documents, chosen_parts, chosen_samples, cut_at_line
from .text import TextTask

SMALL = ("small-transformer", "small-gpt")
_TOKENS_A_TEST_BATCH = 1 << 15


def read_texts(options: TrainOptions) -> TextData | Corpus:
    """Read the texts that the options name; of a language model the documents."""
    name, share = options.data, 0.2 if options.test_share is None else options.test_share
    if name in KNOWN_IMAGES or Path(name).suffix.lower() == ".npz":
        raise invalid(
            f"--task {options.task} needs texts.", f"--data {name}", "Name texts, or another --task."
        )
    column = options.text or "text"
    if options.task == "text":
        return chosen_parts(_classified(options, column, share), options.samples, options.validation)
    if name in KNOWN_CORPORA:
        corpus = load_shakespeare()
    elif name in KNOWN_TEXTS:
        corpus = _documents(_known(name))
    elif name.lower().endswith(".txt"):
        train, test = cut_at_line(_text_file(Path(name)), share)
        corpus = Corpus(Path(name).name, (train,), (test,))
    else:
        corpus = load_documents(name, column, test_share=share)
    return chosen_documents(corpus, options.validation)


def _classified(options: TrainOptions, column: str, share: float) -> TextData:
    if options.data in KNOWN_TEXTS:
        if options.text is not None or options.label is not None:
            raise invalid("--text and --label name columns of a table.", options.data, "Leave them out.")
        return _known(options.data)
    if options.data in KNOWN_CORPORA or options.data.lower().endswith(".txt"):
        step = "Name a table, or --task language-model."
        raise invalid("--task text needs texts with a class each.", options.data, step)
    return load_text_table(options.data, column, lists(options.label or "label"), test_share=share)


def _known(name: str) -> TextData:
    return load_newsgroups() if name == "20newsgroups" else load_reuters()


def _documents(data: TextData) -> Corpus:
    parts = [
        tuple(Document(f"{data.name} {row}", text) for row, text in enumerate(part.texts) if text)
        for part in (data.train, data.test)
    ]
    return Corpus(data.name, parts[0], parts[1])


def _text_file(path: Path) -> Document:
    if not path.is_file():
        raise invalid(f"The data {path} must exist.", "no such file", "Check the path.")
    try:
        return Document(path.name, path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise damaged(
            f"{path} must be UTF-8.", f"a byte that is not, at {error.start}", "Save it as UTF-8."
        ) from None
    except OSError as error:
        raise damaged(f"{path} must be readable.", error.strerror, "Check its rights.") from None


def _tokenizer(
    options: TrainOptions, texts: list[str], kept: Path | None, vocabulary: int, inner: Any, pad: int
) -> Tokenizer:
    """Return the pretrained model's tokenizer, the run's own, or one learned from texts."""
    if inner is not None:
        if options.tokenizer is not None or options.vocabulary is not None:
            step = "Leave --tokenizer and --vocabulary out."
            raise invalid("A pretrained model brings its own tokenizer.", options.model, step)
        return Tokenizer(inner, pad)
    if kept is not None:
        return Tokenizer.parse(kept.read_bytes(), str(kept))
    return Tokenizer.train(options.tokenizer or "bpe", texts, options.vocabulary or vocabulary)


def text_material(
    options: TrainOptions, data: TextData, own: Any, kept: Path | None, console: Console
) -> Material:
    """Return texts with classes as a training takes them.

    Args:
        options: resolved ones.
        data: the texts.
        own: the user's network or LightningModule, or None.
        kept: the tokenizer of the run that goes on, or None.
        console: where to say how many texts are cut.
    """
    pretrained, inner, pad = None, None, 0
    if own is None and options.model not in SMALL:
        from ..integrations.transformers import load_classifier

        _check_model(options, SMALL[:1])
        pretrained, inner, pad = load_classifier(options.model, data.classes, options.model_args)
    longest = _longest(options, 256, pretrained)
    tokenizer = _tokenizer(options, list(data.train.texts), kept, 16_000, inner, pad)
    encoded = [tokenizer.encode(part.texts, longest) for part in (data.train, data.test)]
    if encoded[0].cut:
        console.line(
            f"{encoded[0].cut / len(data.train):.0%} of the texts have more than {longest} tokens and are "
            "cut (--max_tokens)."
        )
    train, test = (
        TokenDataset(tokens, _targets(part), tokenizer.pad)
        for tokens, part in zip(encoded, (data.train, data.test), strict=True)
    )

    def module(subsampler: Subsampler, batch_size: int) -> TextTask:
        network = own or pretrained
        if network is None:
            if options.model != SMALL[0]:
                raise unknown_name("model for classes of texts", options.model, SMALL[:1])
            rarity = _rarity(encoded[0], len(tokenizer))
            network = SmallTransformer(
                len(tokenizer), len(data.classes), longest, tokenizer.pad, rarity, **options.model_args
            )
        recipe = _recipe(options, 5e-5 if pretrained else 2e-3)
        score = None if options.by_density else subsampler.score
        rule, apart = make_step_rule(options), own is None and not options.by_density
        return TextTask(network, tokenizer.pad, subsampler, recipe, score, rule, by_length=apart)

    texts = data.train.texts
    return Material(
        train,
        test,
        TokenDataset.collate,
        torch.from_numpy(data.train.labels),
        _data_file(data),
        lambda index: {"texts": tuple(texts[i][:EXCERPT] for i in index.tolist())},
        64 if pretrained is None else 16,
        max(1, _TOKENS_A_TEST_BATCH // longest),
        module,
        tokenizer.dump(),
    )


def _check_model(options: TrainOptions, ours: tuple[str, ...]) -> None:
    """Raise for one of our own models that is for something else."""
    if options.model in ("small-conv", "small-resnet", "resnet", *SMALL):
        raise unknown_name(f"model for --task {options.task}", options.model, ours)


def _targets(part: Texts) -> Tensor:
    return torch.from_numpy(part.labels if part.soft is None else part.soft)


def _longest(options: TrainOptions, usual: int, pretrained: Any) -> int:
    """Return how many tokens a text may have."""
    if pretrained is None:
        return options.max_tokens or usual
    from ..integrations.transformers import longest

    limit = longest(pretrained.model)
    if options.max_tokens and limit and options.max_tokens > limit:
        raise invalid(f"--max_tokens must be at most {limit} with {options.model}.", options.max_tokens)
    return options.max_tokens or min(usual, limit or usual)


def _rarity(encoded: Encoded, tokens: int) -> Tensor:
    """Return how rare each token is: log((1 + N) / (1 + texts that hold it)), float32 ``(V,)``."""
    texts = np.repeat(np.arange(len(encoded.edges) - 1), np.diff(encoded.edges))
    pairs = np.unique(texts * np.int64(tokens) + encoded.ids)
    held = np.bincount(pairs % tokens, minlength=tokens)
    return torch.from_numpy(np.log((len(encoded.edges)) / (1.0 + held)).astype(np.float32))


def _recipe(options: TrainOptions, usual: float) -> Recipe:
    return Recipe(
        learning_rate=options.learning_rate or usual,
        weight_decay=0.0 if options.weight_decay is None else options.weight_decay,
        rising_share=options.rising_share,
        seed=options.seed,
    )


def _data_file(data: TextData) -> DataFile:
    train, test = data.train, data.test
    held_out = sorted_by_content(test.checksums(), test.labels.astype(np.int32))
    labels, classes = train.labels.astype(np.int32), readable(data.classes)
    return DataFile(len(train), labels, train.checksums(), classes, readable(train.names), *held_out)


def language_material(
    options: TrainOptions, corpus: Corpus, own: Any, kept: Path | None, console: Console
) -> Material:
    """Return documents as windows that a language model is trained on; see :func:`text_material`."""
    if isinstance(own, LightningModule):
        step = "Name an nn.Module from token ids (B, T) to logits (B, T, V), or bring your own data module."
        raise invalid("Our windows go with our own training.", options.model, step)
    pretrained, inner, pad = None, None, 0
    if own is None and options.model not in SMALL:
        from ..integrations.transformers import load_language_model

        _check_model(options, SMALL[1:])
        pretrained, inner, pad = load_language_model(options.model, options.model_args)
    length = _longest(options, 128, pretrained)
    tokenizer = _tokenizer(options, [one.text for one in corpus.train], kept, 1024, inner, pad)
    parts = [
        WindowDataset(tokenizer.encode([one.text for one in part]), length)
        for part in (corpus.train, corpus.test)
    ]
    chosen = np.flatnonzero(chosen_samples(len(parts[0]), options.samples))
    train, test = parts[0].take(chosen), parts[1]
    characters = sum(len(one.text) for one in corpus.test)

    def module(subsampler: Subsampler, batch_size: int) -> LanguageModelTask:
        network: nn.Module | None = own or pretrained
        if network is None:
            if options.model != SMALL[1]:
                raise unknown_name("language model", options.model, SMALL[1:])
            network = SmallGPT(len(tokenizer), length, **options.model_args)
        rule = None
        if options.token_low is not None or options.token_high is not None:
            rule = TokenThreshold(options.token_low, options.token_high)
        ratio = float(test.sizes.sum()) / max(1, characters)
        return LanguageModelTask(
            network, ratio, subsampler, _recipe(options, 5e-5 if pretrained else 3e-3), rule
        )

    def texts(index: NDArray[np.int64]) -> dict[str, Any]:
        return {"texts": tuple(tokenizer.decode(train.ids(row).tolist())[:EXCERPT] for row in index.tolist())}

    titles = [one.title for one in corpus.train]
    names = tuple(
        f"{titles[place]}, tokens {start}-{start + size - 1}"
        for place, start, size in zip(
            train.document.tolist(),
            (train.starts - train.encoded.edges[:-1][train.document] + 1).tolist(),
            train.sizes.tolist(),
            strict=True,
        )
    )
    content, held_out = (row_checksums(part.__getitems__(range(len(part))).numpy()) for part in (train, test))
    return Material(
        train,
        test,
        WindowDataset.collate,
        None,
        DataFile(len(train), None, content, None, readable(names), np.sort(held_out)),
        texts,
        32,
        max(1, _TOKENS_A_TEST_BATCH // length),
        module,
        tokenizer.dump(),
    )
