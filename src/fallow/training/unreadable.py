"""Leave out images that cannot be read when they are needed, and name them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from ..arrays.distributed import gather_rows
from ..core.subsampler import Subsampler
from ..datasets.file_images import FileImages
from ..datasets.messages import plural, shown
from ..errors import damaged
from .jobs import Job

_NAMED = 5
_MOST = 0.5
"""Share of unreadable images above which something else is wrong."""


class UnreadableImages(Callback):
    """Takes the images that cannot be read out of the training, when an epoch has ended.

    An image counts if it cannot be read a second time either: a network disk may have been away for a moment.

    Args:
        subsampler: of the training.
        train, test: its images.
        say: prints a sentence.
    """

    def __init__(
        self, subsampler: Subsampler, train: FileImages, test: FileImages, say: Callable[[str], None]
    ) -> None:
        self.subsampler, self.train, self.test, self.say = subsampler, train, test, say
        self._said: set[int] = set()

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
        """Leave out the images that could not be read, on all ranks alike; the epoch of the plan is over."""
        sub = self.subsampler
        # Each rank has tried its own part.
        parts = gather_rows(_unreadable(self.train), group=sub.under_way.scores.ranks.group)
        rows = np.unique(np.concatenate([part for (part,) in parts]))
        rows = rows[sub.kept.numpy()[rows]]
        if not rows.size:
            return
        named = _named(self.train, rows)
        if rows.size > _MOST * sub.n:
            raise damaged(
                "Most images must be readable.",
                f"{rows.size:,} of {sub.n:,} that are not: {named}",
                "Check the folder, and whether its disk is still there.",
            )
        self.say(f"Left out {plural(rows.size, 'image')} that cannot be read: {named}.")
        if sub.epoch < sub.epochs:
            sub.remove(torch.from_numpy(rows))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Name the held-out images that cannot be read, each once."""
        rows = np.setdiff1d(_unreadable(self.test), list(self._said))
        if rows.size:
            self._said.update(rows.tolist())
            count = plural(rows.size, "held-out image")
            self.say(f"Left {count} out that cannot be read: {_named(self.test, rows)}.")


def _unreadable(images: FileImages) -> NDArray[np.int64]:
    """Return the images that could not be read, and still cannot be."""
    images.unreadable(images.failed())
    return images.failed()


def _named(images: FileImages, rows: NDArray[np.int64]) -> str:
    reasons = images.unreadable(rows[:_NAMED])
    names = [f"{shown(name)} ({reason})" for name, reason in reasons.items()]
    if rows.size > len(names):
        names.append(f"and {rows.size - len(names):,} more")
    return ", ".join(names)
