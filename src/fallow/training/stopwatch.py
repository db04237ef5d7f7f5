"""Where the time of an epoch goes: waiting for data, evaluating, and the rest."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from ..runs.training_state import STOPWATCH


class Stopwatch(Callback):
    """Measures each epoch on the host's clock.

    Attributes:
        waiting: seconds of this epoch between the end of a batch and the start of the next.
        evaluating: seconds of this epoch spent on the test or validation samples.
    """

    def __init__(self) -> None:
        self.waiting = self.evaluating = 0.0
        self._began = self._ended = self._evaluated = time.perf_counter()
        self._before = (0.0, 0.0, 0.0)

    @property
    def state_key(self) -> str:
        """The name of this part in a saved state: it stays, whatever the class is called."""
        return STOPWATCH

    @property
    def seconds(self) -> float:
        """How long the epoch under way has taken."""
        return time.perf_counter() - self._began

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew, or with what the epoch had taken when it was stopped."""
        before, self.waiting, self.evaluating = self._before
        self._before = (0.0, 0.0, 0.0)
        self._ended = time.perf_counter()
        self._began = self._ended - before

    def state_dict(self) -> dict[str, Any]:
        """Return what the epoch under way has taken so far."""
        return {"epoch": (self.seconds, self.waiting, self.evaluating)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count on from there when the epoch goes on."""
        self._before = state_dict["epoch"]

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note how long the batch was waited for."""
        self.waiting += time.perf_counter() - self._ended

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note when waiting for the next begins."""
        self._ended = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note when evaluating begins."""
        self._evaluated = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note how long evaluating took."""
        self.evaluating += time.perf_counter() - self._evaluated
