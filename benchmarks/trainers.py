"""Time of a step in each trainer, bare and with fallow.

    python benchmarks/trainers.py [TRAINER ...] [--repeats 5] [--steps 40]

One process, one thread, processor time. Each repeat trains on random 28x28 images of batch size 256
twice: as the trainer does, and with a subsampler whose policy is ``Watch``, so that all samples train and
the work is the same. The network is one linear layer, whose step is short: so what fallow adds, a few
hundred microseconds, is not lost in the scatter of the step. It is the median over repeats of the
difference of two medians, those of the times between two forward passes. It is printed beside the bare
step of fallow's smallest convolutional network in the same trainer, and as a share of it. Planning at the
end of an epoch is not in it: see policies.py.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from statistics import median
from time import thread_time
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from fallow import Schedule, Subsampler, Watch
from fallow.models import image_model

BATCH, EPOCHS = 256, 2
Bench = Callable[[TensorDataset, Subsampler | None], list[float]]


class Timed(nn.Module):
    """The network; it notes when each forward pass of the training begins."""

    small = True

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        linear = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        self.network = linear if self.small else image_model("small-conv", 1, 28, 10)
        self.began: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        self.began.append(thread_time())
        return self.network(x)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def plain(data: TensorDataset, sub: Subsampler | None, *, accelerate: bool = False) -> list[float]:
    model, back = Timed(), Tensor.backward
    optimizer = sgd(model)
    bare = DataLoader(data, BATCH, shuffle=True)
    loader = bare if sub is None else sub.loader(data, BATCH)
    if accelerate:
        from accelerate import Accelerator

        accelerator = Accelerator(cpu=True)
        loader, optimizer = accelerator.prepare(loader, optimizer)
        back = accelerator.backward
    for _ in range(EPOCHS):
        for batch in loader:
            index, (x, y) = (None, batch) if sub is None else batch
            losses = F.cross_entropy(model(x), y, reduction="none")
            back(losses.mean() if sub is None else sub.record(index, losses))
            optimizer.step()
            optimizer.zero_grad()
        if sub is not None:
            sub.step()
    return model.began


def torchdata(data: TensorDataset, sub: Subsampler | None) -> list[float]:
    from torchdata.stateful_dataloader import StatefulDataLoader

    if sub is None:
        loader: Any = StatefulDataLoader(data, BATCH, shuffle=True)
        model = Timed()
        optimizer = sgd(model)
        for _ in range(EPOCHS):
            for x, y in loader:
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
                optimizer.zero_grad()
        return model.began
    sub.loader = partial(sub.loader, stateful=True)  # type: ignore[method-assign]
    return plain(data, sub)


def lightning(data: TensorDataset, sub: Subsampler | None) -> list[float]:
    from lightning.pytorch import LightningModule, Trainer

    from fallow.integrations.lightning import SubsamplingCallback

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.timed = Timed()

        def training_step(self, batch: Any) -> Any:
            losses = F.cross_entropy(self.timed(batch[0]), batch[1], reduction="none")
            return losses.mean() if sub is None else {"loss": losses.mean(), "per_sample_loss": losses}

        def configure_optimizers(self) -> Any:
            return sgd(self)

    module = Module()
    callbacks = [] if sub is None else [SubsamplingCallback(sub)]
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, max_epochs=EPOCHS, callbacks=callbacks,
    )  # fmt: skip
    trainer.fit(module, DataLoader(data, BATCH, shuffle=True) if sub is None else sub.loader(data, BATCH))
    return module.timed.began


class Rows(Dataset[Any]):
    """The samples as Hugging Face's Trainer takes them."""

    def __init__(self, data: TensorDataset) -> None:
        self.x, self.y = data.tensors

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": self.x[index], "labels": self.y[index]}


def huggingface(data: TensorDataset, sub: Subsampler | None) -> list[float]:
    from transformers import Trainer, TrainingArguments

    from fallow.integrations.huggingface import SubsamplingMixin

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.timed = Timed()

        def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
            logits = self.timed(x)
            return {"loss": F.cross_entropy(logits, labels), "logits": logits}

    class Subsampling(SubsamplingMixin, Trainer):
        pass

    model = Model()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, num_train_epochs=EPOCHS, per_device_train_batch_size=BATCH, report_to=[],
            use_cpu=True, save_strategy="no", disable_tqdm=True, logging_strategy="no",
        )  # fmt: skip
        kind: Any = Trainer if sub is None else partial(Subsampling, subsampler=sub)
        kind(model, arguments, train_dataset=Rows(data)).train()
    return model.timed.began


def keras(data: TensorDataset, sub: Subsampler | None) -> list[float]:
    import keras

    from fallow.integrations.keras import SubsamplingMixin

    class Model(SubsamplingMixin, keras.Model):
        pass

    began: list[float] = []

    class Clock(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            began.append(thread_time())

    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((1, 28, 28))
    x = keras.layers.Reshape((28, 28, 1))(x)
    for width in () if Timed.small else (16, 32):
        x = keras.layers.Conv2D(width, 3, strides=2, activation="relu")(x)
    outputs = keras.layers.Dense(10)(keras.layers.Flatten()(x))
    model = (keras.Model if sub is None else Model)(inputs, outputs)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    more = {"epochs": EPOCHS, "callbacks": [Clock()], "verbose": 0}
    if sub is None:
        model.fit(DataLoader(data, BATCH, shuffle=True), shuffle=False, **more)
    else:
        model.fit(sub.loader(data, BATCH), subsampler=sub, **more)
    return began


TRAINERS: dict[str, Bench] = {
    "plain": plain,
    "torchdata": torchdata,
    "accelerate": partial(plain, accelerate=True),
    "lightning": lightning,
    "huggingface": huggingface,
    "keras": keras,
}


def step_seconds(began: list[float]) -> float:
    """Return the median time between two steps, without the first ones, in which caches warm up."""
    return median(later - sooner for sooner, later in pairwise(began[3:]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trainers", nargs="*", default=list(TRAINERS), help=", ".join(TRAINERS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40, help="an epoch")
    options = parser.parse_args()
    torch.set_num_threads(1)
    n = BATCH * options.steps
    made = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.rand(n, 1, 28, 28, generator=made), torch.arange(n) % 10)
    for name in options.trainers:
        Timed.small = False
        step = step_seconds(TRAINERS[name](data, None))
        Timed.small = True
        added = []
        for repeat in range(options.repeats):
            sub = Subsampler(n, Watch(), Schedule(EPOCHS), labels=data.tensors[1])
            sub.announce = False
            times = {}
            # In turns, so that a machine that slows down slows both.
            for subsampler in (None, sub) if repeat % 2 else (sub, None):
                times[subsampler is None] = step_seconds(TRAINERS[name](data, subsampler))
            added.append(times[False] - times[True])
        print(
            json.dumps(
                {
                    "trainer": name,
                    "bare_step_ms": round(step * 1e3, 1),
                    "added_us": round(median(added) * 1e6),
                    "added_us_range": [round(min(added) * 1e6), round(max(added) * 1e6)],
                    "overhead": round(median(added) / step, 4),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
