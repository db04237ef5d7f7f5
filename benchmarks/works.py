"""The data of the benchmark works, each a FILE.npz for ``fallow train`` and ``fallow compare``.

    python benchmarks/works.py NAME [NAME ...] --out FOLDER      (all: every one)

- ``fashion-noise20``, ``fashion-noise40``: 20,000 samples of Fashion-MNIST, the same in both; 20 or 40 %
  of them have another class, drawn evenly from the nine others. ``fashion-noise0``: with their true labels.
  ``fashion-noise20-removed``, ``fashion-noise40-removed``: without the wrong ones, which is what a rule that
  leaves out exactly those would train on.
- ``fashion-longtail``: of Fashion-MNIST all samples of class 0, and of each next class fewer by the same
  factor, down to 1/100.
- ``fashion-duplicates``: 20,000 rows of Fashion-MNIST, each distinct sample 1 to 10 times.
- ``cifar-10k``, ``cifar10n-10k``: 10,000 samples of CIFAR-10, the same in both, with the true labels and with
  labels given by people (not for commercial use).

The test parts are those of the data sets, untouched. Beside what ``fallow`` reads, a file holds ``y_true``,
the true class of each training sample, and ``source``, its row in the training part it was taken from,
``(N,)`` each. What is drawn is drawn from fixed seeds, so that a file holds the same arrays each time.

Long tails as in "Class-Balanced Loss Based on Effective Number of Samples" (Cui et al., 2019).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from data import located
from fallow.datasets import ImageData, load_images
from fallow.datasets.images import ImageDataset
from fallow.errors import unknown_name

Rows = tuple[np.ndarray, np.ndarray]
"""Rows of the training part, and the labels they are trained on; ``(M,)`` int64 each."""


def flipped(labels: np.ndarray, share: float, classes: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``labels`` with round(share * N) of them moved to one of the other classes, drawn evenly."""
    wrong = rng.permutation(len(labels))[: round(share * len(labels))]
    noisy = labels.copy()
    noisy[wrong] = (labels[wrong] + rng.integers(1, classes, wrong.size)) % classes
    return noisy


def tail_sizes(counts: np.ndarray, ratio: float) -> np.ndarray:
    """Return class sizes that fall exponentially, from the largest that the classes allow to 1/ratio of it.

    Class c of C gets :math:`m r^{-c / (C - 1)}` samples, where no class gets more than it has.

    >>> tail_sizes(np.array([100, 90, 50]), 100.0)
    array([100,  10,   1])
    """
    shares = ratio ** (-np.arange(len(counts)) / (len(counts) - 1))
    return np.round((counts / shares).min() * shares).astype(np.int64)


def tail_rows(labels: np.ndarray, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """Return rows that are drawn so that the classes have the sizes of ``tail_sizes``, in random order."""
    sizes = tail_sizes(np.bincount(labels), ratio)
    order = rng.permutation(len(labels))
    # Stable, so that the order within a class stays the drawn one.
    by_class = order[np.argsort(labels[order], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(np.bincount(labels))[:-1]])
    chosen = [by_class[start : start + size] for start, size in zip(starts, sizes, strict=True)]
    return rng.permutation(np.concatenate(chosen))


def repeated_rows(n: int, count: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``count`` of ``n`` rows, each that is among them 1 to ``most`` times, in random order."""
    times = rng.integers(1, most + 1, n)
    rows = np.repeat(rng.permutation(n), times)[:count]
    return rng.permutation(rows)


def _noise(share: float, *, removed: bool = False) -> Callable[[ImageData], Rows]:
    def draw(data: ImageData) -> Rows:
        labels = data.train.labels.numpy()
        rows = np.random.default_rng(1).permutation(len(labels))[:20_000]
        noisy = flipped(labels[rows], share, len(data.classes), np.random.default_rng(2))
        right = (noisy == labels[rows]) | (not removed)
        return rows[right], noisy[right]

    return draw


def _longtail(data: ImageData) -> Rows:
    labels = data.train.labels.numpy()
    rows = tail_rows(labels, 100.0, np.random.default_rng(3))
    return rows, labels[rows]


def _duplicates(data: ImageData) -> Rows:
    labels = data.train.labels.numpy()
    rows = repeated_rows(len(labels), 20_000, 10, np.random.default_rng(4))
    return rows, labels[rows]


def _ten_thousand(data: ImageData) -> Rows:
    labels = data.train.labels.numpy()
    rows = np.random.default_rng(5).permutation(len(labels))[:10_000]
    return rows, labels[rows]


WORKS: dict[str, tuple[str, Callable[[ImageData], Rows], str]] = {
    "fashion-noise0": ("fashion-mnist", _noise(0.0), "fashion-mnist"),
    "fashion-noise20": ("fashion-mnist", _noise(0.2), "fashion-mnist"),
    "fashion-noise40": ("fashion-mnist", _noise(0.4), "fashion-mnist"),
    "fashion-noise20-removed": ("fashion-mnist", _noise(0.2, removed=True), "fashion-mnist"),
    "fashion-noise40-removed": ("fashion-mnist", _noise(0.4, removed=True), "fashion-mnist"),
    "fashion-longtail": ("fashion-mnist", _longtail, "fashion-mnist"),
    "fashion-duplicates": ("fashion-mnist", _duplicates, "fashion-mnist"),
    "cifar-10k": ("cifar10", _ten_thousand, "cifar10"),
    "cifar10n-10k": ("cifar10n", _ten_thousand, "cifar10"),
}
"""Of each work the data it is drawn from, how, and the data that has the true labels."""


def arrays(data: ImageData, rows: np.ndarray, labels: np.ndarray, true: np.ndarray) -> dict[str, np.ndarray]:
    """Return the arrays of a file.

    Args:
        data: what the rows are taken from.
        rows: ``(M,)``.
        labels: what they are trained on, ``(M,)``.
        true: the true labels of all training samples of ``data``, ``(N,)``.
    """
    return {
        "x_train": data.train.images.numpy()[rows],
        "y_train": labels,
        "x_test": data.test.images.numpy(),
        "y_test": data.test.labels.numpy(),
        "y_true": true[rows],
        "source": rows,
    }


def build(name: str, folder: str | Path) -> Path:
    """Write ``NAME.npz`` of a work into ``folder`` and return its path; one that is there is replaced.

    Raises:
        InvalidValue: The name is unknown, or its data cannot be had; the text says how it can.
    """
    if name not in WORKS:
        raise unknown_name("work", name, WORKS)
    source, draw, truth = WORKS[name]
    data = load_images(located(source))
    true = data if truth == source else load_images(located(truth))
    found = arrays(data, *draw(data), true.train.labels.numpy())
    path = Path(folder) / f"{name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as work:
        np.savez(Path(work) / path.name, **found)
        (Path(work) / path.name).replace(path)
    return path


def unused(path: Path) -> tuple[ImageData, ImageDataset]:
    """Return the data of a work, and the samples of its source that are not among them, with true labels.

    There are several times as many as in the test part, so that networks are told apart better.
    """
    with np.load(path) as arrays:
        rows = arrays["source"]
    _, _, truth = WORKS[path.stem]
    whole = load_images(located(truth)).train
    return load_images(str(path)), whole.take(np.setdiff1d(np.arange(len(whole)), rows))


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the data of benchmark works as FILE.npz.")
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"all, or any of: {', '.join(WORKS)}")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    for name in WORKS if options.names == ["all"] else options.names:
        path = build(name, options.out)
        print(f"{path}  {path.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
