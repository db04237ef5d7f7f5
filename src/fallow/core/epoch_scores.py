"""The scores of an epoch, from the recorded batches to the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arrays.distributed import Ranks, gather_rows
from ..arrays.no_score import NO_SCORE
from ..arrays.row_packing import Rows, pack, unpack
from ..policies.base import Reason
from .batch_checks import count_distinct
from .class_ids import ClassIds
from .table import MEASURED, PREDICTED, TRAINED, UNSEEN, Index, Table

PAGE = 1 << 16


class Pages:
    """A buffer of recorded pairs: indices on the host, values on their device.

    Values stay on their device until they are read, so recording never waits for the device.

    Args:
        n: the number of samples; below 2^31, indices take 4 bytes.
        dtype: the type of the values.
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
        """Add one batch: one copy on the device of the values, without waiting for it."""
        count = index.size
        # A page lies on one device, and the network may move to another one during the training.
        if self._at + count > self._index.size or self._values.device != values.device:
            self._begin_page(max(PAGE, count), values.device)
        page = slice(self._at, self._at + count)
        self._index[page] = index
        if self._host is not None and values.dtype == self._dtype:
            self._host[page] = values.numpy()  # numpy's assignment has less overhead than copy_()
        else:
            self._values[page].copy_(values)
        self._at += count

    def _begin_page(self, size: int, device: torch.device) -> None:
        if self._at:
            self._full.append((self._index[: self._at], self._values[: self._at]))
        self._index = np.empty(size, self._index_dtype)
        self._values = torch.empty(size, dtype=self._dtype, device=device)
        self._host = self._values.numpy() if device.type == "cpu" else None
        self._at = 0

    @property
    def can_flush(self) -> bool:
        """Whether full pages are on the CPU, so that draining them waits for nothing."""
        return bool(self._full) and self._full[-1][1].device.type == "cpu"

    def drain(self) -> list[tuple[NDArray[np.int64], NDArray[Any]]]:
        """Remove and return everything: indices and values, by one copy per device."""
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
        # The last page can be filled again: concatenating has copied what was in it.
        self._full, self._at = [], 0
        return drained


class EpochScores:
    """The table, and the scores of the epoch under way that are not in it yet.

    Args:
        n: the number of samples.
        class_ids: the numbers of the predicted classes.
        ranks: those that record the epoch together.

    Attributes:
        ranks: the argument.
        table: the table of all samples.
        epoch: the number of the epoch under way.
        recorded: the number of samples that this rank recorded since the epoch began or was resumed.
        waiting: the number of samples seen whose gradients wait for an optimizer step.
        loaded: how many of ``recorded`` came with a local state.
        resumed: a mask of the samples seen before the epoch was resumed, the same on all ranks; or None.
        shared_repeats: the number of repeated scores that all ranks have.
        measured: whether removed samples were measured in this epoch.
        seconds: the time spent recording in this epoch.
    """

    def __init__(self, n: int, class_ids: ClassIds | None = None, ranks: Ranks | None = None) -> None:
        self.table = Table(n)
        self.ranks = ranks or Ranks()
        self.class_ids = class_ids or ClassIds()
        self.epoch = 0
        self.resumed: NDArray[np.bool_] | None = None
        self.shared_repeats = 0
        self.begin(0)

    def begin(self, epoch: int) -> None:
        """Begin ``epoch``, with nothing recorded."""
        n = len(self.table)
        # Class ids of any size; they are numbered when they reach the table.
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
        """Resume an epoch whose table was loaded, the same on every rank."""
        self.resumed = self.table.seen != UNSEEN
        self.shared_repeats = self.table.repeated()[0].size

    @property
    def untouched(self) -> bool:
        """Whether nothing is recorded yet, so that the epoch's samples may still change."""
        return not self.recorded and not self._waiting and self.resumed is None and not self.measured

    @property
    def waiting(self) -> int:
        """The number of samples whose gradients wait for an optimizer step."""
        return sum(count_distinct(rows) for rows, *_ in self._waiting)

    def record(
        self,
        rows: Index,
        scores: Tensor,
        predicted: Tensor | None,
        backward: Tensor | None = None,
        distinct: int | None = None,
        *,
        accumulating: bool = False,
    ) -> None:
        """Record the scores of a batch, without waiting for their device.

        ``distinct`` is the number of different samples, if it is known. Samples with False in ``backward``
        count as measured only. While gradients accumulate, batches are held back until one arrives whose
        gradients end in an optimizer step.
        """
        if accumulating:
            # A loader's indices are not checked before they are written, and these are written later.
            if (rows >= len(self.table)).any():
                raise IndexError(rows)
            # Copies, since the caller may reuse its tensors before the optimizer step.
            predicted = None if predicted is None else predicted.detach().clone()
            backward = None if backward is None else backward.detach().clone()
            self._waiting.append((rows, scores.detach().clone(), predicted, backward))
            return
        self.commit()
        self._store(rows, scores, predicted, backward, distinct)

    def commit(self) -> None:
        """Record the batches that were held back, after the optimizer step of their gradients."""
        waiting, self._waiting = self._waiting, []
        for batch in waiting:
            self._store(*batch)

    def _store(
        self,
        rows: Index,
        scores: Tensor,
        predicted: Tensor | None,
        backward: Tensor | None,
        distinct: int | None = None,
    ) -> None:
        # Before anything is stored: an index from another dataset raises IndexError here.
        seen = self.table.seen[rows]
        self._scores.append(rows, scores.detach())
        if predicted is not None:
            self._predicted.append(rows, predicted.detach())
        if backward is not None:
            self._backward.append(rows, backward.to(torch.uint8))
        if distinct is None or seen.any():
            distinct = count_distinct(rows[seen == UNSEEN])
        self.recorded += distinct
        self.table.seen[rows] = TRAINED
        if self._scores.can_flush:
            self.flush()

    def predict(self, rows: Index, classes: NDArray[np.integer]) -> None:
        """Store predicted class ids in the table."""
        self.table.column(PREDICTED, np.int32)[rows] = self.class_ids.encode(classes) + 1

    def measure(self, scored: Pages, predicted: Pages) -> None:
        """Store scores and predicted classes that were measured without training."""
        self.flush()
        for rows, scores in scored.drain():
            self.table.write(rows, scores, self.epoch, MEASURED)
        for rows, classes in predicted.drain():
            self.predict(rows, classes)
        self.measured = True

    def flush(self) -> None:
        """Write all recorded values to the table; this is the only copy from the device."""
        for rows, scores in self._scores.drain():
            self.table.write(rows, scores, self.epoch, TRAINED)
        # After the scores, because writing those marks every row as trained on.
        for rows, trained in self._backward.drain():
            self.table.seen[rows[trained == 0]] = MEASURED
        # Last, because writing a score clears an older prediction of its sample.
        for rows, classes in self._predicted.drain():
            self.predict(rows, classes)

    def recorded_here(self) -> NDArray[np.bool_] | None:
        """Return a mask of this rank's samples recorded since the epoch began or was resumed, or None."""
        if not self.recorded and not self._waiting:
            return None
        self.flush()
        table = self.table
        # Kept and only measured: in a batch, but not trained on, by a step rule.
        in_steps = (table.seen == MEASURED) & (table.reason == Reason.KEPT)
        done: NDArray[np.bool_] = (table.seen == TRAINED) | in_steps
        for rows, *_ in self._waiting:
            done[rows] = True
        return done if self.resumed is None else np.logical_and(done, ~self.resumed)

    def merge(self) -> None:
        """Gather the scores of all ranks. The call is collective; a second one sends only new scores."""
        self.flush()  # batches that wait for an optimizer step are not sent
        if self.ranks.size == 1:
            return
        n = len(self.table)
        packed = pack(*self._rows(), n)
        for other, (part,) in enumerate(gather_rows(packed, group=self.ranks.group)):
            if other != self.ranks.rank:
                self._add_rank(unpack(part, n))
        self._sent = self.table.seen != UNSEEN
        self.shared_repeats = self.table.repeated()[0].size

    def average_repeats(self) -> None:
        """Average the scores of samples that were recorded more than once."""
        self.table.average_repeats()
        self.shared_repeats = 0

    def _rows(self) -> tuple[Rows, int]:
        """Return the rows that other ranks do not have yet, and how many of them are first scores."""
        table = self.table
        unsent = table.seen != UNSEEN
        for known in (self.resumed, self._sent):
            if known is not None:
                unsent &= ~known
        index = np.flatnonzero(unsent)
        # Rows without a score are sent too: other ranks must know that they were seen.
        unscored = table.scored_in[index] != self.epoch + 1
        scores = np.where(unscored, np.float32(NO_SCORE), table.scores[index])
        # All ranks have the earlier repeats since the last merge.
        again, scores_again = (part[self.shared_repeats :] for part in table.repeated())
        classes = table.columns.get(PREDICTED, np.zeros(0, np.int32))
        distinct, index = index.size, np.concatenate([index, again])
        rows = Rows(
            index,
            np.concatenate([scores, scores_again]),
            table.seen[index],
            classes[index] if classes.size else np.zeros(index.size, np.int32),
        )
        return rows, distinct

    def _add_rank(self, rows: Rows) -> None:
        for kind in (TRAINED, MEASURED):
            of_kind = rows.kinds == kind
            self.table.write(rows.index[of_kind], rows.scores[of_kind], self.epoch, kind)
        known = rows.classes > 0
        # A missing column tells policies that no prediction was ever recorded.
        if known.any() or PREDICTED in self.table.columns:
            self.table.column(PREDICTED, np.int32)[rows.index[known]] = rows.classes[known]

    def grow(self, count: int) -> None:
        """Add ``count`` samples at the end, in an untouched epoch."""
        self.table.grow(count)
        # Pages choose the type of their indices by the number of samples.
        self.begin(self.epoch)

    def join(self, count: int) -> None:
        """Add ``count`` samples at the end, whatever is recorded in the epoch."""
        self.flush()
        self.table.grow(count)
        n = len(self.table)
        # Empty after the flush, and of the type that the number of samples asks for.
        self._scores, self._predicted = Pages(n), Pages(n, torch.int64)
        self._backward = Pages(n, torch.uint8)
        more = np.zeros(count, np.bool_)
        self.resumed = None if self.resumed is None else np.concatenate([self.resumed, more])
        self._sent = None if self._sent is None else np.concatenate([self._sent, more])

    def renumber(self, class_ids: ClassIds) -> None:
        """Renumber the predicted classes."""
        if PREDICTED in self.table.columns and (class_ids.renumbered or self.class_ids.renumbered):
            column = self.table.columns[PREDICTED]
            known = column > 0
            column[known] = class_ids.encode(self.class_ids.decode(column[known] - 1)) + 1
        self.class_ids = class_ids

    def rearrange(self, origin: Index) -> None:
        """Reorder the samples in an untouched epoch; see :meth:`Table.rearrange`."""
        self.table.rearrange(origin)
        self.begin(self.epoch)
