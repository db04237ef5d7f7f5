"""The time of an epoch, and the parts of it spent waiting for data and evaluating."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from ..runs.training_state import STOPWATCH


class Stopwatch(Callback):
    """Measures each epoch by the clock of the host.

    Attributes:
        waiting: seconds of this epoch between the end of a batch and the start of the next.
        evaluating: seconds of this epoch spent on the test or validation samples.
    """

    def __init__(self) -> None:
        self.waiting = self.evaluating = 0.0
        self._epoch_start = self._batch_end = self._evaluation_start = time.perf_counter()
        self._earlier = (0.0, 0.0, 0.0)

    @property
    def state_key(self) -> str:
        """The key of this callback in a saved state; it stays the same if the class is renamed."""
        return STOPWATCH

    @property
    def seconds(self) -> float:
        """Seconds of the current epoch so far."""
        return time.perf_counter() - self._epoch_start

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from 0, or from the seconds that the epoch had taken when it was stopped."""
        # Only the epoch that is resumed has earlier seconds; those after it start from 0.
        seconds, self.waiting, self.evaluating = self._earlier
        self._earlier = (0.0, 0.0, 0.0)
        self._batch_end = time.perf_counter()
        self._epoch_start = self._batch_end - seconds

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds of the current epoch so far."""
        return {"epoch": (self.seconds, self.waiting, self.evaluating)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the seconds of the epoch that is resumed."""
        self._earlier = state_dict["epoch"]

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Add the time since the last batch to ``waiting``."""
        self.waiting += time.perf_counter() - self._batch_end

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the time."""
        self._batch_end = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the time."""
        self._evaluation_start = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the time of the evaluation to ``evaluating``."""
        self.evaluating += time.perf_counter() - self._evaluation_start
