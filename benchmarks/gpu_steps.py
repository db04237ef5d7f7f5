"""Steps of a ResNet-18 for `gpu.py`: what `record` adds, what waits for the device, how thin batches pay."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import fallow
from fallow.models.batch_norm import BatchNorm
from fallow.policies import BelowMean

WAITED = "called a synchronizing CUDA operation"
"""What torch says of an operation that waits for the device."""
CLASSES = 10


@dataclass(frozen=True)
class Wall:
    """Epochs at several savings: the side of the pictures, the batch, the steps of a full epoch."""

    side: int
    batch: int
    steps: int
    saved: tuple[float, ...]


@dataclass(frozen=True)
class StepSizes:
    """How much is measured.

    Attributes:
        width: channels after the first convolution.
        sides: of the pictures, in pixels.
        batches: the batch sizes at which `record` is timed.
        pairs: blocks with and without fallow.
        block_seconds: how long a block takes, about.
        walls: the epochs that are timed.
        recorded: samples recorded by the check for waiting; more than a page of 65,536.
        samples: the length of the training set in which `record` is timed.
    """

    width: int
    sides: tuple[int, ...]
    batches: tuple[int, ...]
    pairs: int
    block_seconds: float
    walls: tuple[Wall, ...]
    recorded: int
    samples: int


WHOLE = StepSizes(
    width=64,
    sides=(224, 32),
    batches=(128, 256, 512, 1024),
    pairs=12,
    block_seconds=0.15,
    walls=(
        Wall(32, 128, 60, (0.25, 0.5, 0.75, 0.9)),
        Wall(32, 512, 60, (0.25, 0.5, 0.75, 0.9)),
        Wall(224, 128, 12, (0.25, 0.5, 0.75)),
        Wall(224, 512, 12, (0.25, 0.5, 0.75)),
    ),
    recorded=200_000,
    samples=1_281_167,
)
SMALL = StepSizes(
    width=4,
    sides=(16,),
    batches=(32, 128),
    pairs=3,
    block_seconds=0.02,
    walls=(Wall(16, 32, 4, (0.5,)),),
    recorded=70_000,
    samples=4096,
)


class Block(nn.Module):
    """Two 3×3 convolutions around which their input is carried."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            BatchNorm(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            BatchNorm(outputs),
        )
        self.carry: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.carry = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), BatchNorm(outputs))

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.carry(features) + self.inner(features))


def resnet18(side: int, width: int = 64, classes: int = CLASSES) -> nn.Sequential:
    """Return a ResNet-18; below 64 pixels a side, it begins with a 3×3 convolution and without a pool.

    References:
        Deep Residual Learning for Image Recognition (He et al., 2016)
    """
    large = side >= 64
    stem: list[nn.Module] = [
        nn.Conv2d(3, width, *((7, 2, 3) if large else (3, 1, 1)), bias=False),
        BatchNorm(width),
        nn.ReLU(inplace=True),
    ]
    if large:
        stem.append(nn.MaxPool2d(3, 2, 1))
    inputs, blocks = width, []
    for stage in range(4):
        outputs = width << stage
        blocks += [Block(inputs, outputs, 2 if stage else 1), Block(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


class Positions(Dataset[Any]):
    """A dataset whose sample is its position: the pictures are on the device already.

    Args:
        n: the number of samples.
        device: where `collate` puts the positions of a batch.
    """

    def __init__(self, n: int, device: torch.device) -> None:
        self.n, self.device = n, device

    def __len__(self) -> int:
        return self.n

    def __getitems__(self, indices: list[int]) -> list[int]:
        return indices

    def collate(self, indices: list[int]) -> Tensor:
        """Return int64 positions on the device, without waiting for it."""
        return torch.tensor(indices).to(self.device, non_blocking=True)


class Trained:
    """A network in training, and pictures of noise on its device.

    Args:
        sizes: its width.
        device: where it trains.
        side: of the pictures.
        held: the number of different pictures.
    """

    def __init__(self, sizes: StepSizes, device: torch.device, side: int, held: int) -> None:
        torch.manual_seed(0)
        self.device = device
        network = resnet18(side, sizes.width).to(device, memory_format=torch.channels_last)
        self.network = network.train()
        self.optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True)
        # Channels last in memory, so that a batch of rows is so too.
        self.pictures = torch.randn(held, side, side, 3, device=device, dtype=torch.bfloat16)
        self.labels = torch.randint(0, CLASSES, (held,), device=device)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and labels of some rows, wrapped around the pictures held."""
        rows = rows % len(self.labels)
        with torch.autocast(self.device.type, torch.bfloat16):
            logits = self.network(self.pictures[rows].permute(0, 3, 1, 2))
        return logits, self.labels[rows]

    def descend(self, loss: Tensor) -> None:
        """Make an optimizer step."""
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def plain(self, rows: Tensor) -> None:
        """Make a training step without fallow."""
        logits, labels = self.forward(rows)
        self.descend(F.cross_entropy(logits.float(), labels))

    def recorded(self, subsampler: fallow.Subsampler, index: Tensor, rows: Tensor) -> None:
        """Make a training step with fallow, as its default policy needs it."""
        logits, labels = self.forward(rows)
        losses = fallow.kl_divergence(logits, labels)
        self.descend(subsampler.record(index, losses, predicted=logits.argmax(1)))


def wait(device: torch.device) -> None:
    """Wait until the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# What record adds


def overhead(sizes: StepSizes, device: torch.device, side: int, batch: int) -> dict[str, Any]:
    """Time steps with and without fallow in turns; the batches are the same and at hand."""
    trained = Trained(sizes, device, side, 2 * batch)
    subsampler = fallow.Subsampler(sizes.samples, fallow.RandomFraction(0.5), fallow.Schedule(epochs=2))
    data = Positions(sizes.samples, device)
    batches = iter(subsampler.loader(data, batch, collate_fn=data.collate))

    def block(with_fallow: bool, ready: Sequence[Any]) -> tuple[float, float]:
        wait(device)
        began = perf_counter()
        for index, rows in ready:
            if with_fallow:
                trained.recorded(subsampler, index, rows)
            else:
                trained.plain(rows)
        queued = perf_counter()
        wait(device)
        return perf_counter() - began, queued - began

    for with_fallow in (False, True):
        block(with_fallow, _some(batches, 3))
    steps = max(2, round(sizes.block_seconds / (block(False, _some(batches, 3))[0] / 3)))
    # An epoch must hold all blocks.
    steps = max(1, min(steps, (sizes.samples // batch - 10) // (2 * sizes.pairs)))
    before, times, host = subsampler.record_seconds, {False: [], True: []}, {False: [], True: []}
    for pair in range(sizes.pairs):
        # Each first in turn: a clock that drifts favours neither.
        for with_fallow in (pair % 2 == 0, pair % 2 == 1):
            whole, queued = block(with_fallow, _some(batches, steps))
            times[with_fallow].append(whole / steps)
            host[with_fallow].append(queued / steps)
    ratios = [mine / plain for mine, plain in zip(times[True], times[False], strict=True)]
    return {
        "plain_ms": 1e3 * median(times[False]),
        "fallow_ms": 1e3 * median(times[True]),
        "ratio": median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "record_us": 1e6 * (subsampler.record_seconds - before) / (steps * sizes.pairs),
        "plain_queued_ms": 1e3 * median(host[False]),
        "steps": steps * sizes.pairs,
    }


def _some(batches: Iterator[Any], count: int) -> list[Any]:
    return [next(batches) for _ in range(count)]


# Who waits for the device


@contextmanager
def noticing(mode: str, device: torch.device) -> Iterator[None]:
    """Let torch "warn" or make an "error" of each operation that waits for the device."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode(mode)
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def waits(device: torch.device, work: Callable[[], object]) -> int | None:
    """Return how often some work waits for the device; None without one that could be waited for."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with noticing("warn", device):
            work()
    return sum(WAITED in str(one.message) for one in caught) if device.type == "cuda" else None


def refused(device: torch.device, work: Callable[[], object]) -> str | None:
    """Return torch's error if some work waits for the device, or None if it does not."""
    try:
        with noticing("error", device):
            work()
    except RuntimeError as error:
        if WAITED not in str(error):
            raise
        return str(error).splitlines()[0]
    return None


def synchronisations(sizes: StepSizes, device: torch.device) -> dict[str, Any]:
    """Record under a mode in which waiting is an error, in each form of the call; count waits elsewhere."""
    batch = sizes.batches[-1]
    n = -(-sizes.recorded // batch) * batch
    calls = {
        form: refused(device, lambda form=form: _record_all(form, n, batch, device))
        for form in ("losses", "predicted", "backward", "weights")
    }
    one = torch.ones(1, device=device)
    found: dict[str, Any] = {
        "device": device.type == "cuda",
        "noticed": refused(device, one.item) is not None,
        "calls": n // batch,
        "record": calls,
    }
    side = sizes.sides[-1]
    trained = Trained(sizes, device, side, batch)
    subsampler = fallow.Subsampler(4 * batch, fallow.RandomFraction(0.5), fallow.Schedule(epochs=3))
    data = Positions(4 * batch, device)
    loader = subsampler.loader(data, batch, collate_fn=data.collate)
    (index, rows), *rest = loader
    trained.plain(rows)  # what is made once is made here
    found["step_plain"] = waits(device, lambda: trained.plain(rows))
    found["step_fallow"] = waits(device, lambda: trained.recorded(subsampler, index, rows))
    for index, rows in rest:
        trained.recorded(subsampler, index, rows)
    found["epoch_end"] = waits(device, subsampler.step)
    return found


def _record_all(form: str, n: int, batch: int, device: torch.device) -> None:
    """Record an epoch in one form of the call; with weights, the epoch after the first decision."""
    policy = BelowMean(0.5) if form == "weights" else fallow.RandomFraction(0.5)
    subsampler = fallow.Subsampler(n, policy, fallow.Schedule(epochs=3))
    values = torch.linspace(0, 1, batch, device=device, requires_grad=True)
    data = Positions(n, torch.device("cpu"))
    loader = subsampler.loader(data, batch, collate_fn=data.collate)
    if form == "weights":
        # On the host, since the end of an epoch has to wait for the device.
        for index, _ in loader:
            subsampler.record(index, values.new_zeros(len(index), device="cpu") + index.remainder(7))
        subsampler.step()
    for index, _ in loader:
        losses = values[: len(index)] * 1.0
        options: dict[str, Any] = {}
        if form == "predicted":
            options["predicted"] = torch.zeros(len(index), dtype=torch.int64, device=device)
        if form == "backward":
            options["backward"] = losses.detach() > 0.5
        subsampler.record(index, losses, **options).backward()


# What thinner batches cost


def wall(sizes: StepSizes, device: torch.device, at: Wall, mode: str, saved: float) -> dict[str, float]:
    """Time epochs: "plain" without fallow, with steps "kept" (thinner batches), or "dropped"."""
    n = at.steps * at.batch
    trained = Trained(sizes, device, at.side, min(n, 2048))
    data = Positions(n, device)
    subsampler = fallow.Subsampler(n, fallow.RandomFraction(saved), fallow.Schedule(epochs=4))
    if mode == "plain":
        loader: Any = DataLoader(
            data, at.batch, shuffle=True, collate_fn=data.collate, generator=torch.Generator().manual_seed(0)
        )
    else:
        loader = subsampler.loader(data, at.batch, kept_steps=mode == "kept", collate_fn=data.collate)
    seconds, steps, used = [], 0, 0
    # The first epoch is full, and the second meets its batch sizes for the first time.
    for epoch in range(4):
        wait(device)
        began, steps, used = perf_counter(), 0, 0
        for batch in loader:
            rows = batch if mode == "plain" else batch[1]
            steps, used = steps + 1, used + len(rows)
            if mode == "plain":
                trained.plain(rows)
            else:
                trained.recorded(subsampler, batch[0], rows)
        if mode != "plain":
            subsampler.step()
        wait(device)
        if epoch >= 2:
            seconds.append(perf_counter() - began)
    return {"epoch_s": min(seconds), "slower_s": max(seconds), "steps": steps, "saved": 1 - used / n}


def new_shapes(sizes: StepSizes, device: torch.device, benchmark: bool) -> dict[str, float]:
    """Time the first step at a new batch size, which kept steps bring about, against a later one."""
    side, batch = sizes.sides[-1], sizes.batches[-1] // 2
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = benchmark
    try:
        trained = Trained(sizes, device, side, batch)

        def step(count: int) -> float:
            rows = torch.arange(count, device=device)
            wait(device)
            began = perf_counter()
            trained.plain(rows)
            wait(device)
            return perf_counter() - began

        later = [step(batch) for _ in range(8)][3:]
        first = [step(count) for count in np.linspace(batch - 1, batch // 2, 5).astype(int).tolist()]
    finally:
        torch.backends.cudnn.benchmark = before
    return {"later_ms": 1e3 * median(later), "first_ms": 1e3 * median(first)}
