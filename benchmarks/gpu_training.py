"""Trainings for `gpu.py`: a plain loop over the subsampler, with data that stay on the device."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import fallow
from fallow.datasets import ImageDataset, load_images
from fallow.errors import invalid
from fallow.models import ResNet9
from gpu_steps import Positions, wait

ARMS = ("default", "full", "fewer", "fewer-thin", "random")
"""In the order in which they train: the default says how much it saved, the controls save as much."""


@dataclass(frozen=True)
class TrainingSizes:
    """How a network is trained.

    Attributes:
        width: channels after the first convolution.
        epochs: of full training.
        batch: the nominal batch size.
        rate: the highest learning rate.
        flip: whether pictures are mirrored.
    """

    width: int
    epochs: int
    batch: int
    rate: float
    flip: bool


WHOLE = TrainingSizes(width=64, epochs=16, batch=512, rate=0.4, flip=True)
SMALL = TrainingSizes(width=8, epochs=6, batch=64, rate=0.2, flip=False)


class OnDevice:
    """Pictures on the device, which are shifted and mirrored there.

    Args:
        part: the pictures ``(N, C, H, W)`` uint8 and their labels.
        device: where they stay.
        mean, deviation: ``(C,)`` of the training pictures; those of ``part`` if not given.
    """

    def __init__(
        self,
        part: ImageDataset,
        device: torch.device,
        mean: Tensor | None = None,
        deviation: Tensor | None = None,
    ) -> None:
        if part.images.dtype != torch.uint8 or part.images.shape[2] != part.images.shape[3]:
            found = f"{tuple(part.images.shape[1:])} in {part.images.dtype}"
            raise invalid("Pictures must be square, in uint8.", found, "Try --data cifar10.")
        pictures, self.labels = part.images.to(device), part.labels.to(device)
        self.side = pictures.shape[-1]
        self.pad = max(1, self.side // 8)
        if mean is None or deviation is None:
            values = pictures.float() / 255
            mean, deviation = values.mean((0, 2, 3)), values.std((0, 2, 3))
        self.mean, self.deviation = mean, deviation
        # Reflected at the edges. torch's own padding does not take bytes.
        last = self.side - 1
        around = last - (last - torch.arange(-self.pad, self.side + self.pad, device=device).abs()).abs()
        # Channels last in memory, so that a batch of crops is so too.
        self.padded = pictures[:, :, around][..., around].permute(0, 2, 3, 1).contiguous()

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: Tensor, generator: torch.Generator | None = None, *, flip: bool = False) -> Tensor:
        """Return normalised pictures ``(B, C, H, W)``: shifted if there is a generator, else as they are."""
        count, device = rows.shape[0], rows.device
        span = torch.arange(self.side, device=device)
        if generator is None:
            y = x = (span + self.pad).expand(count, -1)
        else:
            shifts = torch.randint(0, 2 * self.pad + 1, (2, count, 1), device=device, generator=generator)
            y, x = shifts[0] + span, shifts[1] + span
            if flip:
                mirrored = torch.rand(count, 1, device=device, generator=generator) < 0.5
                x = torch.where(mirrored, x.flip(1), x)
        crops = self.padded[rows[:, None, None], y[:, :, None], x[:, None, :]]
        values = crops.float() / 255
        return ((values - self.mean) / self.deviation).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Material:
    """The two parts of a data set on the device."""

    train: OnDevice
    test: OnDevice
    labels: Tensor
    classes: int


def material(data: str, device: torch.device) -> Material:
    """Read a data set and put it on the device."""
    found = load_images(data)
    train = OnDevice(found.train, device)
    test = OnDevice(found.test, device, train.mean, train.deviation)
    return Material(train, test, found.train.labels, len(found.classes))


@dataclass(frozen=True)
class Setting:
    """What an arm sets.

    Attributes:
        policy: chooses the samples.
        epochs: how many are planned.
        batch: the batch size.
        kept_steps: as for the loader.
        part: the share of full training's samples after which the training ends, inside an epoch if need be;
            None to end with the last epoch.
    """

    policy: fallow.Policy
    epochs: int
    batch: int
    kept_steps: bool | None = None
    part: float | None = None


def setting(sizes: TrainingSizes, arm: str, saved: float | None) -> Setting:
    """Return what an arm sets, the controls so that they save as much as the default did."""
    nothing_out = fallow.RandomFraction(0.0)
    whole = sizes.epochs
    if arm == "default":
        return Setting(fallow.ErrorMass(), whole, sizes.batch)
    if arm == "full":
        return Setting(nothing_out, whole, sizes.batch)
    assert saved is not None
    if arm == "random":
        # All samples train in the first epoch, so the others have to save more.
        share = min(0.95, saved * whole / (whole - 1))
        return Setting(fallow.RandomFraction(share), whole, sizes.batch, kept_steps=True)
    part = 1 - saved
    # Thinned, there are as many steps as in full training.
    batch = sizes.batch if arm == "fewer" else max(1, round(sizes.batch * part))
    return Setting(nothing_out, math.ceil(whole * part), batch, part=part)


def train(
    data: Material, sizes: TrainingSizes, device: torch.device, arm: str, seed: int, saved: float | None
) -> dict[str, Any]:
    """Train a network and return what it cost and how right it ends on the test part."""
    chosen = setting(sizes, arm, saved)
    torch.manual_seed(seed)
    network = ResNet9(data.train.padded.shape[-1], data.train.side, data.classes, sizes.width)
    network = network.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=sizes.rate, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    subsampler = fallow.Subsampler(
        len(data.train), chosen.policy, fallow.Schedule(chosen.epochs), seed=seed, labels=data.labels
    )
    positions = Positions(len(data.train), device)
    loader = subsampler.loader(
        positions, chosen.batch, kept_steps=chosen.kept_steps, collate_fn=positions.collate
    )
    generator = torch.Generator(device).manual_seed(seed)
    # A thinner batch counts as one whose other samples have no gradient.
    thinned = chosen.batch / sizes.batch

    def outputs(rows: Tensor, *, augment: bool) -> Tensor:
        pictures = data.train.batch(rows, generator if augment else None, flip=sizes.flip)
        with torch.autocast(device.type, torch.bfloat16):
            return network(pictures)

    def measure(index: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        logits = outputs(rows, augment=False)
        return fallow.kl_divergence(logits, data.train.labels[rows]), logits.argmax(1)

    wait(device)
    began, cpu_began = time.perf_counter(), time.process_time()
    whole = sizes.epochs * len(data.train)
    budget = None if chosen.part is None else round(chosen.part * whole)
    steps = backward = forward_only = 0
    for _ in range(chosen.epochs):
        network.train()
        for index, rows in loader:
            if budget is not None and backward >= budget:
                break
            progress = subsampler.progress if budget is None else backward / budget
            optimizer.param_groups[0]["lr"] = sizes.rate * rate_at(progress)
            logits = outputs(rows, augment=True)
            losses = fallow.kl_divergence(logits, data.train.labels[rows])
            loss = subsampler.record(index, losses, predicted=logits.argmax(1))
            (loss * thinned).backward()
            optimizer.step()
            optimizer.zero_grad()
            steps, backward = steps + 1, backward + len(index)
        else:
            network.eval()  # a batch of outliers alone must not be normalised by itself
            forward_only += subsampler.remeasure(positions, measure, 2048, collate_fn=positions.collate)
            subsampler.step()
    wait(device)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    notes = [dict(epoch.notes) for epoch in subsampler.history] if arm == "default" else []
    return {
        "accuracy": accuracy(network, data.test),
        "saved": 1 - backward / whole,
        "forward_only": forward_only,
        "steps": steps,
        "epochs": chosen.epochs,
        "batch": chosen.batch,
        "wall_s": seconds,
        "cpu_s": cpu_seconds,
        "record_s": subsampler.record_seconds,
        "notes": notes,
    }


def rate_at(progress: float) -> float:
    """Return the share of the highest rate: up in the first fifth, then down to 0.

    >>> rate_at(0.1), rate_at(0.2), rate_at(1.0)
    (0.5, 1.0, 0.0)
    """
    return min(progress / 0.2, (1 - progress) / 0.8)


@torch.no_grad()
def accuracy(network: torch.nn.Module, data: OnDevice) -> float:
    """Return the share of the test part that is classified right."""
    network.eval()
    device = data.labels.device
    right = torch.zeros((), dtype=torch.int64, device=device)
    for rows in torch.arange(len(data), device=device).split(2000):
        with torch.autocast(device.type, torch.bfloat16):
            logits = network(data.batch(rows))
        right += (logits.argmax(1) == data.labels[rows]).sum()
    return int(right) / len(data)


def warm_up(data: Material, sizes: TrainingSizes, device: torch.device) -> None:
    """Train a network for a moment, so that libraries are loaded before anything is timed."""
    network = ResNet9(data.train.padded.shape[-1], data.train.side, data.classes, sizes.width)
    network = network.to(device, memory_format=torch.channels_last)
    generator = torch.Generator(device).manual_seed(0)
    rows = torch.arange(sizes.batch, device=device) % len(data.train)
    for _ in range(10):
        pictures = data.train.batch(rows, generator, flip=sizes.flip)
        with torch.autocast(device.type, torch.bfloat16):
            logits = network(pictures)
        fallow.kl_divergence(logits, data.train.labels[rows]).mean().backward()
    wait(device)
