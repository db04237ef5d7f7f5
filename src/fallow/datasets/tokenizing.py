"""Token ids of texts and texts of token ids, by the `tokenizers` library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import damaged, invalid, missing_extra, unknown_name
from .names import TOKENIZERS

PAD, START = "<|pad|>", "<|start|>"
LARGEST = 1_000_000
"""Maximum size of a vocabulary: the library reserves memory for all of it at once."""
_BYTES = 256
_BATCH = 4096
_LONGEST = 512
"""Maximum length of a piece of a word that is learned at once, in bytes."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """Token ids of N texts, one after the other.

    Attributes:
        ids: int32 ``(M,)``.
        edges: int64 ``(N + 1,)``: text i has ``ids[edges[i]:edges[i + 1]]``.
        cut: the number of texts that were longer than allowed.
    """

    ids: NDArray[np.int32]
    edges: NDArray[np.int64]
    cut: int


class Tokenizer:
    """A ``tokenizers.Tokenizer`` and the id of its padding token."""

    def __init__(self, inner: Any, pad: int) -> None:
        self.inner, self.pad = inner, pad

    @staticmethod
    def train(kind: str, texts: Iterable[str], vocabulary: int) -> Tokenizer:
        """Return a tokenizer learned from texts; every byte has a token, so that no text has unknown parts.

        A word of more than 512 bytes is cut into pieces of that length: the time to learn a word grows with
        the square of its length, and DNA, base64 or minified code have words as long as the text.

        Args:
            kind: ``"bpe"``, byte pair encoding (Sennrich, Haddow and Birch, 2016) over bytes; or ``"byte"``,
                one token per byte, which learns nothing.
            texts: the texts to learn from.
            vocabulary: maximum number of tokens, at least 258: all bytes, a start and a padding token.

        Raises:
            InvalidValue: if the kind is unknown, or the vocabulary is too small or too large.
            ModuleNotFoundError: if the library is missing.
        """
        if kind not in TOKENIZERS:
            raise unknown_name("tokenizer", kind, TOKENIZERS)
        special = [PAD, START]
        if kind == "bpe" and vocabulary < _BYTES + len(special):
            rule = f"A vocabulary must have room for all bytes: {_BYTES + len(special)}."
            raise invalid(rule, vocabulary, "Name a larger --vocabulary, or --tokenizer byte.")
        if vocabulary > LARGEST:
            rule = f"A vocabulary must be at most {LARGEST:,}."
            raise invalid(rule, f"{vocabulary:,}", "Name a smaller one.")
        library = _library()
        letters = sorted(library.pre_tokenizers.ByteLevel.alphabet())
        ids = {name: number for number, name in enumerate([*special, *letters])}
        inner = library.Tokenizer(library.models.BPE(vocab=ids, merges=[]))
        inner.pre_tokenizer = _words(library)
        inner.decoder = library.decoders.ByteLevel()
        if kind == "bpe":
            trainer = library.trainers.BpeTrainer(
                vocab_size=vocabulary,
                special_tokens=special,
                show_progress=False,
                initial_alphabet=letters,
            )
            inner.train_from_iterator(map(_encodable, texts), trainer)
        else:
            inner.add_special_tokens(special)
        inner.encode_special_tokens = True  # a text that contains `<|pad|>` stays text
        return Tokenizer(inner, int(inner.token_to_id(PAD)))

    @staticmethod
    def parse(data: bytes, name: str) -> Tokenizer:
        """Return the tokenizer that :meth:`dump` has written; other bytes are damaged data."""
        step = "Put back a copy of it."
        try:
            inner = _library().Tokenizer.from_buffer(data)
        except Exception as error:  # the library raises a plain Exception
            raise damaged(f"{name} must be a tokenizer.", str(error)[:200], step) from None
        pad = inner.token_to_id(PAD)
        if pad is None:
            raise damaged(f"{name} must have the token {PAD}.", "none", step)
        inner.encode_special_tokens = True
        return Tokenizer(inner, int(pad))

    def dump(self) -> bytes:
        """Return the tokenizer as JSON."""
        return str(self.inner.to_str(pretty=False)).encode()

    def __len__(self) -> int:
        """Return one more than the largest id."""
        return int(max(self.inner.get_vocab(with_added_tokens=True).values())) + 1

    @property
    def start(self) -> int | None:
        """The id of the token before each text, or None if there is none."""
        token = self.inner.token_to_id(START)
        return None if token is None else int(token)

    def encode(self, texts: Sequence[str], longest: int | None = None) -> Encoded:
        """Return at most the first ``longest`` tokens of each text, after the start token if there is one."""
        start = self.start
        parts = []
        cut = 0
        if start is None and longest is not None:
            # Truncated by the library, which keeps the end token of a pretrained tokenizer.
            self.inner.enable_truncation(longest)
        for first in range(0, len(texts), _BATCH):
            batch = [_encodable(text) for text in texts[first : first + _BATCH]]
            for encoding in self.inner.encode_batch_fast(batch):
                ids = encoding.ids if start is None else [start, *encoding.ids]
                cut += bool(encoding.overflowing) or (longest is not None and len(ids) > longest)
                parts.append(np.asarray(ids[:longest], np.int32))
        self.inner.no_truncation()
        edges = np.zeros(len(parts) + 1, np.int64)
        np.cumsum([part.size for part in parts], out=edges[1:])
        return Encoded(np.concatenate([*parts, np.zeros(0, np.int32)]), edges, cut)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, without special tokens."""
        return str(self.inner.decode(list(ids), skip_special_tokens=True))


def _words(library: Any) -> Any:
    """Return a pre-tokenizer that splits a text into words, and long words into pieces, without loss."""
    words = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    # The first one maps line feeds to other characters, so that `.` matches any of them.
    pieces = library.pre_tokenizers.Split(library.Regex(f".{{1,{_LONGEST}}}"), "isolated")
    return library.pre_tokenizers.Sequence([words, pieces])


def _encodable(text: str) -> str:
    """Return a text with a question mark for each half of a surrogate pair, which UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode() if not text.isascii() else text


def _library() -> Any:
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ModuleNotFoundError:
        raise missing_extra("Training on text", "tokenizers") from None
    return tokenizers
