"""Tokenizers: every text comes back, whatever it spells, and a damaged file is told as one."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fallow.datasets.tokenizing import PAD, START, Tokenizer
from fallow.errors import DamagedData, InvalidValue

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
SPECIAL = (PAD, START, f"a{PAD}b {START}{START}", "<|pad", "Ġ", " \n\t\r\x00\x85\u2028", "e\u0301", "\ufeff")
TEXTS = (
    "the cat sat on the mat",
    f"the {PAD} of the {START}",
    "ünïcode 日本語 😀",
    "x" * 50,
    "",
    "1234 1234",
)


@pytest.fixture(scope="module", params=["bpe", "byte", "parsed"])
def tokenizer(request):
    if request.param == "byte":
        return Tokenizer.train("byte", TEXTS, 0)
    bpe = Tokenizer.train("bpe", TEXTS * 3, 320)
    return bpe if request.param == "bpe" else Tokenizer.parse(bpe.dump(), "tokenizer.json")


@pytest.fixture(scope="module")
def bpe():
    return Tokenizer.train("bpe", TEXTS * 3, 320)


def changed(tokenizer, change):
    """Return the JSON of a tokenizer after a change."""
    content = json.loads(tokenizer.dump())
    change(content)
    return json.dumps(content).encode()


class TestEncoding:
    @given(ANY_TEXT)
    @example("\ud800")
    @example("a\udc00\ud800b")
    @example(f"{PAD}{START}")
    def test_every_text_comes_back(self, tokenizer, text):
        """Half of a surrogate pair is no text and comes back as a question mark."""
        ids = tokenizer.encode([text]).ids.tolist()
        assert tokenizer.decode(ids) == text.encode("utf-8", "replace").decode("utf-8")
        assert ids[0] == tokenizer.start
        assert tokenizer.pad not in ids
        assert ids.count(tokenizer.start) == 1
        assert 0 <= min(ids) <= max(ids) < len(tokenizer)

    @pytest.mark.parametrize("text", SPECIAL)
    def test_a_text_that_spells_a_special_token_or_a_sign_of_the_library(self, tokenizer, text):
        encoded = tokenizer.encode([text])
        assert {tokenizer.pad, tokenizer.start} & set(encoded.ids[1:].tolist()) == set()
        assert tokenizer.decode(encoded.ids.tolist()) == text

    @given(st.lists(ANY_TEXT, max_size=6), st.none() | st.integers(1, 12))
    def test_many_are_each_alone_and_cut_ones_are_counted(self, tokenizer, texts, longest):
        encoded = tokenizer.encode(texts, longest)
        assert (encoded.ids.dtype, encoded.edges.dtype) == (np.int32, np.int64)
        assert encoded.edges.shape == (len(texts) + 1,)
        assert (encoded.edges[0], encoded.edges[-1]) == (0, len(encoded.ids))
        whole = [tokenizer.encode([text]).ids.tolist() for text in texts]
        starts, stops = encoded.edges[:-1], encoded.edges[1:]
        found = [encoded.ids[a:b].tolist() for a, b in zip(starts, stops, strict=True)]
        assert found == [ids[:longest] for ids in whole]
        assert encoded.cut == sum(longest is not None and len(ids) > longest for ids in whole)

    def test_more_texts_than_go_at_once(self, bpe):
        texts = ["a", "bc"] * 2500
        encoded = bpe.encode(texts)
        few = bpe.encode(texts[:2])
        assert len(encoded.edges) == 5001
        assert np.array_equal(encoded.ids, np.tile(few.ids, 2500))
        assert np.array_equal(np.diff(encoded.edges), np.tile(np.diff(few.edges), 2500))

    def test_what_fills_up_is_no_text(self, bpe):
        assert bpe.decode([bpe.pad, *bpe.encode(["cat"]).ids.tolist(), bpe.pad]) == "cat"

    def test_one_without_a_start_puts_nothing_before_a_text(self):
        library = pytest.importorskip("tokenizers")
        words = library.Tokenizer(library.models.WordLevel({"pad": 0, "a": 1, "b": 2}, "pad"))
        words.pre_tokenizer = library.pre_tokenizers.Whitespace()
        tokenizer = Tokenizer(words, 0)
        assert tokenizer.start is None
        assert len(tokenizer) == 3
        encoded = tokenizer.encode(["b a", "", "a"])
        assert (encoded.ids.tolist(), encoded.edges.tolist()) == ([2, 1, 1], [0, 2, 2, 3])


LONG = ("ab" * 600, "日本語" * 300, "😀" * 200, " " * 2000 + "x", "x" * 511 + "é" * 300)


class TestLongWords:
    """DNA, base64 and minified code are one word: the time to learn it must not grow with its square."""

    @pytest.mark.parametrize("kind", ["bpe", "byte"])
    def test_come_back(self, kind):
        tokenizer = Tokenizer.train(kind, LONG, 400)
        for text in LONG:
            assert tokenizer.decode(tokenizer.encode([text]).ids.tolist()) == text

    def test_no_token_and_no_merge_is_longer_than_a_piece(self):
        tokenizer = Tokenizer.train("bpe", ["a" * 100_000], 300)
        ids = tokenizer.encode(["a" * 100_000]).ids.tolist()
        assert max(len(tokenizer.decode([i])) for i in ids) == 512

    def test_words_of_up_to_512_bytes_are_cut_as_ever(self):
        library = pytest.importorskip("tokenizers")
        texts = [*TEXTS, "a" * 512, "é" * 256, " " + "b" * 511, "if x:\n" + " " * 80 + "return 1\r\n\n"]
        tokenizer = Tokenizer.train("bpe", texts * 3, 400)
        before = json.loads(tokenizer.dump())
        plain = Tokenizer.parse(tokenizer.dump(), "tokenizer.json")
        plain.inner.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        assert json.loads(plain.dump())["pre_tokenizer"] != before["pre_tokenizer"]
        assert plain.encode(texts).ids.tolist() == tokenizer.encode(texts).ids.tolist()


class TestTraining:
    def test_bytes_are_one_token_each(self):
        tokenizer = Tokenizer.train("byte", TEXTS, 0)
        assert len(tokenizer) == 258
        for text in (*TEXTS, *SPECIAL):
            assert len(tokenizer.encode([text]).ids) == 1 + len(text.encode())
        assert [tokenizer.decode([i]) for i in tokenizer.encode(["a b\0~"]).ids.tolist()] == ["", *"a b\0~"]

    def test_bpe_learns_what_is_often(self, bpe):
        assert 258 < len(bpe) <= 320
        assert len(bpe.encode(["the"]).ids) == 2
        assert len(bpe.encode(["qzv"]).ids) == 4

    @pytest.mark.parametrize("size", [258, 259, 270])
    def test_the_vocabulary_is_at_most_as_large_as_said(self, size):
        assert len(Tokenizer.train("bpe", TEXTS * 3, size)) == size

    @pytest.mark.parametrize("texts", [(), ("",), ("a",)])
    def test_nothing_to_learn(self, texts):
        tokenizer = Tokenizer.train("bpe", texts, 1000)
        assert len(tokenizer) == 258
        assert tokenizer.decode(tokenizer.encode(["né"]).ids.tolist()) == "né"

    def test_the_same_texts_in_any_order_give_the_same_tokens(self, bpe):
        assert Tokenizer.train("bpe", TEXTS * 3, 320).dump() == bpe.dump()
        assert Tokenizer.train("bpe", iter(TEXTS[::-1] * 3), 320).dump() == bpe.dump()
        assert Tokenizer.train("bpe", ("another text",) * 3, 320).dump() != bpe.dump()

    def test_half_of_a_surrogate_pair_in_what_it_learns_from(self):
        tokenizer = Tokenizer.train("bpe", ["ab\ud800ab"] * 3, 300)
        assert tokenizer.dump() == Tokenizer.train("bpe", ["ab?ab"] * 3, 300).dump()

    @pytest.mark.parametrize(
        ("kind", "size", "message"),
        [
            ("bpee", 300, "Unknown tokenizer. Found 'bpee'. Did you mean 'bpe'"),
            ("bpe", 257, "room for all bytes: 258. Found 257. Name a larger --vocabulary, or"),
            ("bpe", -1, "258. Found -1"),
        ],
    )
    def test_rules(self, kind, size, message):
        with pytest.raises(InvalidValue, match=message):
            Tokenizer.train(kind, TEXTS, size)

    def test_a_vocabulary_that_no_memory_holds_is_an_error_and_not_an_abort(self):
        code = "from fallow.datasets.tokenizing import Tokenizer; Tokenizer.train('bpe', ['a b'], 10**12)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1), done.stderr[:300]
        assert done.returncode == 0 or "InvalidValue" in done.stderr.splitlines()[-1]


class TestFile:
    def test_written_and_read_it_is_the_same(self, tokenizer):
        content = tokenizer.dump()
        again = Tokenizer.parse(content, "tokenizer.json")
        assert again.dump() == content
        assert (again.pad, again.start, len(again)) == (tokenizer.pad, tokenizer.start, len(tokenizer))
        encoded = [one.encode([*TEXTS, *SPECIAL]).ids.tolist() for one in (tokenizer, again)]
        assert encoded[0] == encoded[1]

    def test_cut_short_anywhere_it_is_damaged(self, bpe):
        content = bpe.dump()
        for end in range(0, len(content), len(content) // 20):
            with pytest.raises(DamagedData, match=r"^tok.json must be.*Found .+ Put back a copy of it\.$"):
                Tokenizer.parse(content[:end], "tok.json")

    @pytest.mark.parametrize(
        "content", [b"{}", b"[]", b"null", b"\xff\xfe{}", b"\0" * 9, b"PAR1", b"[" * 100_000]
    )
    def test_another_thing(self, content):
        with pytest.raises(DamagedData, match=r"^tok.json must be a tokenizer. Found .+ Put back a copy"):
            Tokenizer.parse(content, "tok.json")

    @pytest.mark.parametrize(
        "change",
        [
            lambda content: content.pop("model"),
            lambda content: content.update(version="9.0"),
            lambda content: content["model"]["merges"].append(["zz", "yy"]),
            lambda content: content["model"]["vocab"].clear(),
            lambda content: content["model"]["vocab"].update(h=-5),
        ],
    )
    def test_parts_that_do_not_fit(self, bpe, change):
        with pytest.raises(DamagedData, match=r"tok.json must be a tokenizer"):
            Tokenizer.parse(changed(bpe, change), "tok.json")

    def test_one_that_cannot_fill_up(self, bpe):
        def without_pad(content):
            del content["model"]["vocab"][PAD]
            content["added_tokens"] = [one for one in content["added_tokens"] if one["content"] != PAD]

        with pytest.raises(DamagedData, match=r"tok.json must have the token <\|pad\|>. Found none. Put"):
            Tokenizer.parse(changed(bpe, without_pad), "tok.json")
