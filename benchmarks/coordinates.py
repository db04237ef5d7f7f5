"""A network that fits a picture: from the place of a pixel to its colour; the score is its squared error.

    python benchmarks/coordinates.py [WORK ...] --out FOLDER [--arms A,B] [--seeds 5] [--jobs 2]

The pictures are the two that scikit-learn brings, a middle square of each, scaled to 128 x 128 or 192 x 192.
Every pixel is a sample. What counts is how near the network comes to the picture, in dB (PSNR) over all
pixels: there is nothing to generalise to, so that longer training always fits better, and a length is chosen
rather than found. ``--epochs`` shows that; arms and files are those of ``plain_loop.py``.

Fourier features as in "Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional
Domains" (Tancik et al., 2020).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

import plain_loop
from plain_loop import Batch, Material, Rows


def picture(name: str, side: int) -> Tensor:
    """Return the middle square of a picture, scaled: ``(side, side, 3)`` in [0, 1]."""
    whole = np.asarray(load_sample_image(f"{name}.jpg"))
    edge = min(whole.shape[:2])
    top, left = ((length - edge) // 2 for length in whole.shape[:2])
    square = Image.fromarray(whole[top : top + edge, left : left + edge])
    scaled = square.resize((side, side), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(scaled, np.float32) / 255)


def places(side: int) -> Tensor:
    """Return the middles of the pixels of a square, row by row: ``(side * side, 2)`` in (-1, 1)."""
    along = (torch.arange(side) + 0.5) / side * 2 - 1
    return torch.cartesian_prod(along, along)


class FourierNetwork(nn.Module):
    """Random waves of a place, then three hidden layers.

    Args:
        waves: how many.
        frequency: the standard deviation of their frequencies, in waves a unit.
        hidden: width of the hidden layers.
    """

    def __init__(self, waves: int = 64, frequency: float = 5.0, hidden: int = 256) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2 * math.pi * frequency * torch.randn(2, waves))
        widths = [2 * waves, hidden, hidden, hidden]
        layers = [(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(widths)]
        self.network = nn.Sequential(*(part for pair in layers for part in pair), nn.Linear(hidden, 3))

    def forward(self, places: Tensor) -> Tensor:
        angles = places @ self.frequencies
        return self.network(torch.cat([angles.sin(), angles.cos()], 1))


@dataclass(frozen=True)
class Picture(plain_loop.Work):
    """One picture.

    Attributes:
        name: of scikit-learn's sample image.
        side: of the square, in pixels.
    """

    epochs: int = 40
    batch_size: int = 512
    learning_rate: float = 2e-3
    name: str = "china"
    side: int = 128
    measures: ClassVar[Mapping[str, tuple[str, str]]] = {"psnr": ("dB", ".2f")}

    def material(self, seed: int) -> Material:
        colours = picture(self.name, self.side).reshape(-1, 3)
        rows, model = Rows(places(self.side), colours), FourierNetwork()

        def losses(batch: Batch) -> tuple[Tensor, None]:
            at, colour = batch
            return (model(at) - colour).square().mean(1), None

        def measure() -> dict[str, float]:
            squares = [losses(rows.part(start, start + 4096))[0] for start in range(0, len(rows), 4096)]
            return {"psnr": -10 * math.log10(torch.cat(squares).double().mean().item())}

        return Material(rows, model, losses, measure)


WORKS = {
    f"{name}-{side}": Picture(name=name, side=side) for name in ("china", "flower") for side in (128, 192)
}

if __name__ == "__main__":
    plain_loop.main(__doc__, WORKS)
