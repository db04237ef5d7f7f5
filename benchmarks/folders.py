"""Images of a large folder: how fast a loader reads them, beside torchvision's ImageFolder.

    python benchmarks/folders.py FOLDER [--make 20000] [--side 224] [--workers 2] [--repeats 3]

With ``--make`` the folder is filled first with generated JPEG files of five classes. Then the loaders read
all of it in turns, several times: that of torchvision, with its usual transforms (resize, to tensor), ours,
and ours with half of the samples left out. Printed are the medians of pictures a second and the ratios. The
memory is that of this process and its workers beyond what they had before, pages that they share counted
once.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from fallow import Schedule, Subsampler, Watch
from fallow.datasets import load_images
from fallow.datasets.images import collate

CLASSES, EACH = 5, 2000


def make(folder: Path, count: int, side: int) -> None:
    """Write JPEG files whose colours and stripes tell their class."""
    for label in range(CLASSES):
        (folder / f"class-{label}").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_make_some, folder, side, count), range(0, count, EACH)))


def _make_some(folder: Path, side: int, count: int, first: int) -> None:
    drawn = np.random.default_rng(first)
    for number in range(first, min(count, first + EACH)):
        label = number % CLASSES
        pixels = drawn.integers(0, 256, (14, 14, 3), dtype=np.uint8)
        pixels[:, :, label % 3] //= 2
        pixels[2 + 2 * label : 4 + 2 * label] = 255
        image = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)
        image.save(folder / f"class-{label}" / f"{number:07d}.jpg", quality=80)


def theirs(folder: Path, side: int, batch: int, workers: int) -> DataLoader[Any]:
    """Return a loader of torchvision's ImageFolder."""
    missing = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        # Compiled operators that do not load beside a CPU build of torch; no reader of images needs them.
        if not hasattr(torch.ops.torchvision, name):
            missing.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import Compose, Resize, ToTensor

    images = ImageFolder(str(folder), Compose([Resize((side, side)), ToTensor()]))
    return DataLoader(images, batch, shuffle=True, num_workers=workers)


def ours(images: Any, batch: int, workers: int, left_out: float = 0.0) -> DataLoader[Any]:
    """Return a loader of a subsampler that has left out a share of the samples."""
    sub = Subsampler(len(images), Watch(), Schedule(2))
    sub.announce = False
    sub.remove(torch.randperm(len(images))[: round(left_out * len(images))])
    return sub.loader(images, batch, collate_fn=collate, num_workers=workers, kept_steps=False)


def seconds(loader: DataLoader[Any]) -> float:
    """Return how long it takes to read everything."""
    began = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - began


def memory() -> float:
    """Return the bytes of memory of this process and its children, those that they share counted once."""
    total = 0
    for process in (os.getpid(), *_children()):
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:  # it has ended
            continue
        total += 1024 * next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total


def _children() -> list[int]:
    return [
        int(child)
        for thread in Path("/proc/self/task").iterdir()
        for child in (thread / "children").read_text().split()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--make", type=int, default=0)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.make:
        make(options.folder, options.make, options.side)
    before, began = memory(), time.perf_counter()
    data = load_images(options.folder, image_size=options.side)
    listed = time.perf_counter() - began
    both = data.joined().train
    loaders = {
        "ImageFolder": theirs(options.folder, options.side, options.batch, options.workers),
        "fallow": ours(both, options.batch, options.workers),
        "half left out": ours(both, options.batch, options.workers, 0.5),
    }
    times: dict[str, list[float]] = {name: [] for name in loaders}
    for _ in range(options.repeats):
        for name, loader in loaders.items():
            times[name].append(seconds(loader))
    rates = {name: len(both) / median(values) for name, values in times.items()}
    print(
        json.dumps(
            {
                "images": len(both),
                "seconds_until_the_first_batch_is_asked_for": round(listed, 2),
                "images_a_second": {name: round(rate) for name, rate in rates.items()},
                "against_image_folder": round(rates["fallow"] / rates["ImageFolder"], 3),
                "half_left_out_against_all": round(rates["half left out"] / rates["fallow"], 3),
                "range": {name: [round(min(v), 2), round(max(v), 2)] for name, v in times.items()},
                "memory_MiB": round((memory() - before) / 2**20),
            }
        )
    )


if __name__ == "__main__":
    main()
