"""The scores of an epoch: as they are recorded, batch by batch, and on their way into the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arrays.distributed import gather_rows, rank_and_size
from ..arrays.no_score import NO_SCORE
from ..policies.base import Reason
from .class_ids import ClassIds
from .table import MEASURED, PREDICTED, TRAINED, UNSEEN, Index, Table

PAGE = 1 << 16


class Pages:
    """Pairs of index and value as they were recorded: indices on the host, values on their device.

    A value stays on its device until it is read, so recording never waits for the device.

    Args:
        n: how many samples; indices need 4 bytes below 2^31.
        dtype: of the values.
    """

    def __init__(self, n: int, dtype: torch.dtype = torch.float32) -> None:
        self._index_dtype = np.int32 if n < 2**31 else np.int64
        self._dtype = dtype
        self._full: list[tuple[NDArray[np.integer], Tensor]] = []
        self._index: NDArray[np.integer] = np.empty(0, self._index_dtype)
        self._values = torch.empty(0, dtype=dtype)
        self._host: NDArray[Any] | None = None
        self._at = 0

    def append(self, index: NDArray[np.int64], values: Tensor) -> None:
        """Take down one batch: one copy on the device of the values, and no waiting for it."""
        count = index.size
        if self._at + count > self._index.size or self._values.device != values.device:
            self._turn(max(PAGE, count), values.device)
        page = slice(self._at, self._at + count)
        self._index[page] = index
        if self._host is not None and values.dtype == self._dtype:
            self._host[page] = values.numpy()
        else:
            self._values[page].copy_(values)
        self._at += count

    def _turn(self, size: int, device: torch.device) -> None:
        """Put the page under way aside and begin a new one."""
        if self._at:
            self._full.append((self._index[: self._at], self._values[: self._at]))
        self._index = np.empty(size, self._index_dtype)
        self._values = torch.empty(size, dtype=self._dtype, device=device)
        self._host = self._values.numpy() if device.type == "cpu" else None
        self._at = 0

    @property
    def ripe(self) -> bool:
        """Whether full pages lie on the CPU, where handing them on waits for nothing."""
        return bool(self._full) and self._full[-1][1].device.type == "cpu"

    def drain(self) -> list[tuple[NDArray[np.int64], NDArray[Any]]]:
        """Hand on and forget everything: indices and values, one copy for each device."""
        pages = [*self._full, (self._index[: self._at], self._values[: self._at])]
        by_device: dict[torch.device, list[tuple[NDArray[np.integer], Tensor]]] = {}
        for index, values in pages:
            if index.size:
                by_device.setdefault(values.device, []).append((index, values))
        drained = [
            (
                np.concatenate([index for index, _ in group]).astype(np.int64),
                torch.cat([values for _, values in group]).cpu().numpy(),
            )
            for group in by_device.values()
        ]
        self._full, self._at = [], 0
        return drained


class EpochScores:
    """The table, and the scores of the epoch under way that are not in it yet.

    Args:
        n: how many samples.
        class_ids: the numbers of the classes that are predicted.

    Attributes:
        table: what is remembered of every sample.
        epoch: the epoch under way.
        recorded: how many samples this rank trained on since the epoch began or was resumed.
        waiting: how many more it has seen whose gradients wait for an optimizer step.
        loaded: how many of these came with a state of this rank alone.
        resumed: the samples that all ranks know to be seen, since the epoch was resumed; or None.
        shared_repeats: how many of the repeated scores all ranks know.
        measured: whether removed samples were measured in this epoch.
        seconds: time spent recording in this epoch.
    """

    def __init__(self, n: int, class_ids: ClassIds | None = None) -> None:
        self.table = Table(n)
        self.class_ids = class_ids or ClassIds()
        self.epoch = 0
        self.resumed: NDArray[np.bool_] | None = None
        self.shared_repeats = 0
        self.begin(0)

    def begin(self, epoch: int) -> None:
        """Open ``epoch``: nothing is recorded in it yet."""
        n = len(self.table)
        self._scores, self._predicted = Pages(n), Pages(n, torch.int64)
        self._backward = Pages(n, torch.uint8)
        self._waiting: list[tuple[Index, Tensor, Tensor | None, Tensor | None]] = []
        self.table.begin_epoch()
        self.epoch = epoch
        self.recorded = self.loaded = 0
        self.seconds = 0.0
        self.resumed, self.shared_repeats = None, 0
        self.measured = False
        self._sent: NDArray[np.bool_] | None = None

    def resume(self) -> None:
        """Go on in an epoch whose table was loaded, the same on every rank."""
        self.resumed = self.table.seen != UNSEEN
        self.shared_repeats = self.table.repeated()[0].size

    @property
    def unbegun(self) -> bool:
        """Whether the epoch's samples may still be changed."""
        return not self.recorded and not self._waiting and self.resumed is None and not self.measured

    @property
    def waiting(self) -> int:
        """How many samples wait for the optimizer step that their gradients are part of."""
        return sum(rows.size for rows, *_ in self._waiting)

    def record(
        self,
        rows: Index,
        scores: Tensor,
        predicted: Tensor | None,
        backward: Tensor | None = None,
        *,
        accumulating: bool = False,
    ) -> None:
        """Take down the scores of samples that are trained on; no waiting for their device.

        Where ``backward`` is False, a sample is only measured. While gradients accumulate, a batch is put
        aside until one comes whose gradients end in an optimizer step.
        """
        if accumulating:
            if (
                rows >= len(self.table)
            ).any():  # a loader's indices are not looked at before they are written
                raise IndexError(rows)
            guess, rule = (None if part is None else part.detach().clone() for part in (predicted, backward))
            self._waiting.append((rows, scores.detach().clone(), guess, rule))
            return
        self.commit()
        self._take_down(rows, scores, predicted, backward)

    def commit(self) -> None:
        """Take down the batches that were put aside: their gradients have had their step."""
        waiting, self._waiting = self._waiting, []
        for batch in waiting:
            self._take_down(*batch)

    def _take_down(
        self, rows: Index, scores: Tensor, predicted: Tensor | None, backward: Tensor | None
    ) -> None:
        seen = self.table.seen[rows]
        self._scores.append(rows, scores.detach())
        if predicted is not None:
            self._predicted.append(rows, predicted.detach())
        if backward is not None:
            self._backward.append(rows, backward.to(torch.uint8))
        self.recorded += rows.size - int(np.count_nonzero(seen))
        self.table.seen[rows] = TRAINED
        if self._scores.ripe:
            self.flush()

    def predict(self, rows: Index, classes: NDArray[np.integer]) -> None:
        """Take down predicted classes, by their ids."""
        self.table.column(PREDICTED, np.int32)[rows] = self.class_ids.encode(classes) + 1

    def measure(self, scored: Pages, predicted: Pages) -> None:
        """Take down scores that were measured without training, and predicted classes."""
        self.flush()
        for rows, scores in scored.drain():
            self.table.write(rows, scores, self.epoch, MEASURED)
        for rows, classes in predicted.drain():
            self.predict(rows, classes)
        self.measured = True

    def flush(self) -> None:
        """Write everything to the table: the only copy from the device."""
        for rows, scores in self._scores.drain():
            self.table.write(rows, scores, self.epoch, TRAINED)
        for rows, trained in self._backward.drain():
            self.table.seen[rows[trained == 0]] = MEASURED
        for rows, classes in self._predicted.drain():
            self.predict(rows, classes)

    def recorded_here(self) -> NDArray[np.bool_] | None:
        """Return which samples this rank recorded since the epoch began or was resumed, or None."""
        if not self.recorded and not self._waiting:
            return None
        self.flush()
        table = self.table
        in_steps = (table.seen == MEASURED) & (table.reason == Reason.KEPT)
        done: NDArray[np.bool_] = (table.seen == TRAINED) | in_steps
        for rows, *_ in self._waiting:
            done[rows] = True
        return done if self.resumed is None else np.logical_and(done, ~self.resumed)

    def merge(self) -> None:
        """Gather what every rank recorded; collective, and a second call sends only what is new."""
        self.flush()  # what waits for its step is not sent
        rank, size = rank_and_size()
        if size == 1:
            return
        for other, part in enumerate(gather_rows(*self._rows())):
            if other != rank:
                self._take(*part)
        self._sent = self.table.seen != UNSEEN
        self.shared_repeats = self.table.repeated()[0].size

    def settle(self) -> None:
        """Average the scores of samples that came more than once."""
        self.table.settle()
        self.shared_repeats = 0

    def _rows(self) -> tuple[NDArray[Any], ...]:
        """Return this rank's news: index, score, how it was seen, and the class predicted."""
        table = self.table
        news = table.seen != UNSEEN
        for known in (self.resumed, self._sent):
            if known is not None:
                news &= ~known
        index = np.flatnonzero(news)
        unscored = table.scored_in[index] != self.epoch + 1
        scores = np.where(unscored, np.float32(NO_SCORE), table.scores[index])
        again, scores_again = (part[self.shared_repeats :] for part in table.repeated())
        classes = table.columns.get(PREDICTED, np.zeros(0, np.int32))
        index = np.concatenate([index, again])
        return (
            index,
            np.concatenate([scores, scores_again]),
            table.seen[index],
            classes[index] if classes.size else np.zeros(index.size, np.int32),
        )

    def _take(
        self,
        index: NDArray[Any],
        scores: NDArray[Any],
        kinds: NDArray[Any],
        classes: NDArray[Any],
    ) -> None:
        """Take over another rank's news."""
        for kind in (TRAINED, MEASURED):
            of_kind = kinds == kind
            self.table.write(index[of_kind], scores[of_kind], self.epoch, kind)
        known = classes > 0
        if known.any() or PREDICTED in self.table.columns:
            self.table.column(PREDICTED, np.int32)[index[known]] = classes[known]

    def grow(self, count: int) -> None:
        """Add ``count`` samples at the end, in an epoch that has not begun."""
        self.table.grow(count)
        self.begin(self.epoch)

    def renumber(self, class_ids: ClassIds) -> None:
        """Give the classes that were predicted other numbers."""
        if PREDICTED in self.table.columns and (class_ids.renumbered or self.class_ids.renumbered):
            column = self.table.columns[PREDICTED]
            there = column > 0
            column[there] = class_ids.encode(self.class_ids.decode(column[there] - 1)) + 1
        self.class_ids = class_ids

    def rearrange(self, origin: Index) -> None:
        """Give samples other places, in an epoch that has not begun; see :meth:`Table.rearrange`."""
        self.table.rearrange(origin)
        self.begin(self.epoch)
