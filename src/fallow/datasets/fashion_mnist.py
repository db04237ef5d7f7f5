"""Fashion-MNIST: 60,000 + 10,000 pieces of clothing, 28×28 and grey.

Source: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking
Machine Learning Algorithms", arXiv:1708.07747, 2017. It is read from the Debian package
`dataset-fashion-mnist`, installed or fetched.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from pathlib import Path

import numpy as np

from ..errors import damaged
from .cache import cache_folder, not_had, run_program, working_folder
from .idx import parse_idx
from .images import ImageData, from_arrays

NAME = "fashion-mnist"
PACKAGE = "dataset-fashion-mnist"
INSTALLED = Path("/usr/share/datasets/fashion-mnist")
GET_IT = f"Run `apt-get install {PACKAGE}`."

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""Of each file's content after decompression: packagers compress anew, the content is the same."""


def load_fashion_mnist(cache: str | os.PathLike[str] | None = None) -> ImageData:
    """Return Fashion-MNIST, ``(N, 1, 28, 28)`` uint8, from where it lies or freshly fetched.

    Args:
        cache: the folder for fetched data; the user's cache folder by default.

    Raises:
        InvalidValue: A file is damaged, or the data can neither be found nor fetched.
    """
    folder = find_files(cache)
    if folder is None:
        folder = fetch(cache)
    parts = []
    for part in ("train", "t10k"):
        images = read_file(folder, f"{part}-images-idx3-ubyte")
        labels = read_file(folder, f"{part}-labels-idx1-ubyte")
        parts.append((images[:, None].copy(), labels))
    return from_arrays(NAME, parts[0], parts[1], CLASSES)


def find_files(cache: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the folder that holds all four files, installed or fetched, or None."""
    for folder in (INSTALLED, cache_folder(cache) / NAME):
        if all(_path(folder, name) is not None for name in SHA256):
            return folder
    return None


def read_file(folder: Path, name: str) -> np.ndarray:
    """Return the array in the idx file ``name`` or ``name.gz`` of ``folder``.

    Raises:
        InvalidValue: The file is missing, or its content is not the published one.
    """
    path = _path(folder, name)
    if path is None:
        raise not_had(NAME, f"no {name}.gz in {folder}", GET_IT)
    step = f"Remove it and run again, or run `apt-get install --reinstall {PACKAGE}`."
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(f"{path} must be readable and whole.", error, step) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256[name]:
        rule = f"The content of {path} must have the SHA-256 {SHA256[name]}."
        raise damaged(rule, digest, step)
    return parse_idx(content, 3 if "images" in name else 1, str(path))


def fetch(cache: str | os.PathLike[str] | None = None) -> Path:
    """Fetch the package, check its files and put them into the cache, without being root.

    Returns:
        The folder that holds them.

    Raises:
        InvalidValue: A program is missing or fails, or a file is damaged.
    """
    home = cache_folder(cache)
    with working_folder(home) as work:
        # The file that apt-get fetches into a folder of root is not readable to its own user
        # `_apt`, which it says on stderr and gets over.
        run_program(["apt-get", "download", PACKAGE], work, NAME, GET_IT)
        packages = sorted(work.glob("*.deb"))
        if not packages:
            raise not_had(NAME, "no .deb after `apt-get download`", GET_IT)
        run_program(["dpkg", "-x", packages[0].name, "content"], work, NAME, GET_IT)
        source = work / "content" / INSTALLED.relative_to("/")
        for name in SHA256:
            read_file(source, name)
        target = home / NAME
        target.mkdir(exist_ok=True)
        for path in sorted(source.iterdir()):
            # One file at a time: whole ones only, also where another process does the same.
            path.replace(target / path.name)
    return target


def _path(folder: Path, name: str) -> Path | None:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    return None
