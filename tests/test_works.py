"""The data of the benchmark works: what is drawn, how much of it, and the same each time."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.datasets import load_images
from fallow.datasets.images import from_arrays
from fallow.errors import InvalidValue

with pytest.MonkeyPatch.context() as patch:  # as a script finds what lies beside it
    patch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    works = importlib.import_module("works")


def rng(seed=0):
    return np.random.default_rng(seed)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 300), share=st.floats(0, 1), classes=st.integers(2, 12))
def test_an_exact_share_gets_another_class(n, share, classes):
    labels = rng(n).integers(0, classes, n)
    noisy = works.flipped(labels, share, classes, rng())
    assert (noisy != labels).sum() == round(share * n)
    assert ((noisy >= 0) & (noisy < classes)).all()


def test_the_other_class_is_drawn_evenly():
    labels = np.full(9000, 3)
    counts = np.bincount(works.flipped(labels, 1.0, 10, rng()), minlength=10)
    assert counts[3] == 0
    others = np.delete(counts, 3)
    assert ((others - 1000) ** 2 / 1000).sum() < 26.1  # chi square, 8 degrees of freedom, p = 0.001


@settings(max_examples=30, deadline=None)
@given(counts=st.lists(st.integers(20, 400), min_size=2, max_size=12), ratio=st.floats(1, 100))
def test_a_long_tail(counts, ratio):
    labels = rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    sizes = works.tail_sizes(np.array(counts), ratio)
    assert (sizes <= counts).all()
    assert (np.abs(sizes - sizes[0] * ratio ** (-np.arange(len(counts)) / (len(counts) - 1))) <= 1).all()
    rows = works.tail_rows(labels, ratio, rng())
    assert len(set(rows)) == len(rows)
    assert np.array_equal(np.bincount(labels[rows], minlength=len(counts)), sizes)


def test_the_sizes_of_fashion_mnist():
    sizes = works.tail_sizes(np.full(10, 6000), 100)
    assert sizes.tolist() == [6000, 3597, 2156, 1293, 775, 465, 278, 167, 100, 60]


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 300), share=st.floats(0, 1), most=st.integers(1, 10))
def test_repeated_rows(n, share, most):
    count = int(share * n)
    rows = works.repeated_rows(n, count, most, rng())
    assert len(rows) == count
    assert ((rows >= 0) & (rows < n)).all()
    assert np.bincount(rows, minlength=n).max() <= most


def test_each_number_of_repetitions_is_as_frequent():
    times = np.bincount(works.repeated_rows(60_000, 20_000, 10, rng()))
    counts = np.bincount(times[times > 0], minlength=11)[1:]
    assert counts.sum() == pytest.approx(20_000 / 5.5, rel=0.05)
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 27.9  # 9 degrees of freedom, p = 0.001


@pytest.fixture
def sources(monkeypatch):
    """Small data in the place of each set: the image says which row it is; cifar10n has wrong labels."""

    def load(name):
        n, m = 70_000, 3
        images = np.arange(n, dtype=np.uint32).view(np.uint8).reshape(n, 1, 2, 2)
        labels = np.arange(n) % 10
        labels = (labels + (np.arange(n) % 7 == 0)) % 10 if name == "cifar10n" else labels
        return from_arrays(name, (images, labels), (images[:m] + 1, labels[:m]), "abcdefghij")

    monkeypatch.setattr(works, "located", str)
    monkeypatch.setattr(works, "load_images", load)
    return load


@pytest.mark.parametrize(
    ("name", "count", "wrong"),
    [
        ("fashion-noise20", 20_000, 0.2),
        ("fashion-noise40", 20_000, 0.4),
        ("fashion-longtail", sum(round(7000 * 100 ** (-c / 9)) for c in range(10)), 0),
        ("fashion-duplicates", 20_000, 0),
        ("cifar-10k", 10_000, 0),
        ("cifar10n-10k", 10_000, 1 / 7),
    ],
)
def test_a_file_is_one_that_fallow_reads(sources, tmp_path, name, count, wrong):
    path = works.build(name, tmp_path / "works")
    assert [each.name for each in path.parent.iterdir()] == [f"{name}.npz"]
    data = load_images(path)
    assert len(data.train) == count
    with np.load(path) as found:
        kept = dict(found)
    images = np.ascontiguousarray(data.train.images.numpy()).reshape(count, 4).view(np.uint32)[:, 0]
    assert np.array_equal(images, kept["source"])
    assert np.array_equal(kept["y_true"], kept["source"] % 10)
    assert (data.train.labels.numpy() != kept["y_true"]).mean() == pytest.approx(
        wrong, abs=0.015 * bool(wrong)
    )
    assert np.array_equal(data.test.images.numpy(), sources(name).test.images.numpy())
    with np.load(works.build(name, tmp_path / "works")) as again:
        assert all(np.array_equal(again[each], kept[each]) for each in again.files)


def test_works_that_are_compared_have_the_same_samples(sources, tmp_path):
    for first, second in (("fashion-noise20", "fashion-noise40"), ("cifar-10k", "cifar10n-10k")):
        with np.load(works.build(first, tmp_path)) as one, np.load(works.build(second, tmp_path)) as two:
            assert np.array_equal(one["source"], two["source"])
            assert not np.array_equal(one["y_train"], two["y_train"])


def test_what_is_drawn_stays_the_same(sources, tmp_path):
    """A draw that moves, with numpy too, makes other works under the same names."""
    with np.load(works.build("fashion-noise20", tmp_path)) as found:
        assert found["source"][:5].tolist() == [52394, 32277, 13936, 13006, 24026]
        assert found["y_train"][:12].tolist() == [4, 7, 6, 2, 6, 6, 3, 1, 6, 9, 9, 0]


def test_unknown_work(tmp_path):
    with pytest.raises(InvalidValue, match=r"Unknown work. Found 'fashion-noise'.*fashion-noise20"):
        works.build("fashion-noise", tmp_path)
