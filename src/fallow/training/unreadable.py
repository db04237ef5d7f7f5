"""Leave out images that cannot be read when they are needed, and name them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from ..core.subsampler import Subsampler
from ..datasets.file_images import FileImages
from ..datasets.messages import plural, shown
from ..errors import damaged
from .jobs import Job

_NAMED = 5
_MOST = 0.5
"""Share of unreadable images above which something else is wrong."""


class UnreadableImages(Callback):
    """Takes the images that could not be read out of the training, when an epoch has ended.

    They are those that were trained on and have no score. So all ranks agree on them.

    Args:
        subsampler: of the training.
        train, test: its images.
        say: prints a sentence.

    Attributes:
        left_out: the number of training and of held-out images that could not be read.
    """

    def __init__(
        self, subsampler: Subsampler, train: FileImages, test: FileImages, say: Callable[[str], None]
    ) -> None:
        self.subsampler, self.train, self.test, self.say = subsampler, train, test, say
        self.left_out = [0, 0]

    @staticmethod
    def of(job: Job, say: Callable[[str], None]) -> list[UnreadableImages]:
        """Return the callback in a list if the images of a training stay in their files, else nothing."""
        loader: Any = job.train
        train = getattr(loader.dataset, "dataset", None)
        test = getattr(job.test, "dataset", None)
        if not isinstance(train, FileImages) or not isinstance(test, FileImages):
            return []
        return [UnreadableImages(job.subsampler, train, test, say)]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave out the images of the epoch that could not be read; they come after the epoch's end."""
        sub = self.subsampler
        if not sub.history or sub.epoch >= sub.epochs:
            return
        rows = (sub.history[-1].used & torch.isnan(sub.scores) & sub.kept).nonzero()[:, 0].numpy()
        if not rows.size:
            return
        found = self.train.unreadable(rows[:_NAMED])
        if rows.size > _MOST * sub.n:
            raise damaged(
                "Most images must be readable.",
                f"{rows.size:,} of {sub.n:,} that are not: {_named(found, rows.size)}",
                "Check the folder, and whether its disk is still there.",
            )
        sub.remove(torch.from_numpy(rows))
        self.left_out[0] += rows.size
        count = plural(rows.size, "image")
        self.say(f"Left out {count} that could not be read: {_named(found, rows.size)}.")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Name the held-out images that could not be read, once."""
        counted = getattr(pl_module, "class_accuracy", None)
        if counted is None or counted.counts is None or self.left_out[1]:
            return
        missing = len(self.test) - int(counted.counts[1].sum())
        if missing > 0:
            self.left_out[1] = missing
            found = self.test.unreadable(np.arange(len(self.test)))
            self.say(
                f"Left {plural(missing, 'held-out image')} out that cannot be read: {_named(found, missing)}."
            )


def _named(found: Mapping[str, str], count: int) -> str:
    names = [f"{shown(name)} ({reason})" for name, reason in list(found.items())[:_NAMED]]
    if count > len(names):
        names.append(f"and {count - len(names):,} more" if names else "they can be read now")
    return ", ".join(names)
