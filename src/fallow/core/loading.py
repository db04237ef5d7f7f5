"""The loader over the kept samples, whose batches carry the indices of their samples.

The index travels *in* the batch, through collate functions, workers and prefetching. A list of indices beside
the loader could be a batch ahead.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    Sampler,
    default_collate,
)

from ..arrays.distributed import Ranks, rank_and_size, ranks_apart
from ..arrays.drawing import drawing_by
from ..arrays.keyed import mix
from ..errors import InvalidValue, check_integer, invalid, invalid_type, missing_extra, wrong_state
from .epoch import Epoch
from .host_index import HostIndex
from .kept_steps import KeptSteps, too_few
from .order import BLOCK, Order

# Mixed into keys, so that these draws are independent of those of orders and policies.
FETCH = 0xFE7C


class KeyedBatch(list[int]):
    """The indices of one batch, with the key of the random draws made while fetching it.

    Attributes:
        key: 64 bits, a function of seed, epoch and batch.
    """

    key: int

    @staticmethod
    def of(index: NDArray[np.int64], key: int) -> KeyedBatch:
        """Return a batch with its key."""
        batch = KeyedBatch(index.tolist())
        batch.key = key
        return batch


class IndexedDataset(Dataset[Any]):
    """A dataset that returns batches with their indices, and whose random draws depend on the batch's key.

    Args:
        dataset: any map-style dataset; its ``__getitems__`` is used if it has one.
    """

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Sequence[int], Any]:
        """Return ``(indices, samples)``, for :class:`IndexedCollate`."""
        # The batches of fixed_batches() are plain lists without a key.
        key = getattr(indices, "key", None)
        samples: list[Any] = []
        with nullcontext() if key is None else drawing_by(key):
            batched = getattr(self.dataset, "__getitems__", None)
            try:
                if batched is not None:
                    # A plain list, as torch passes: the user's method need not know KeyedBatch.
                    return indices, batched(list(indices))
                for index in indices:
                    samples.append(self.dataset[index])  # noqa: PERF401 - on failure the length tells which one
                return indices, samples
            except IndexError as error:
                at = max(indices) if batched is not None else indices[len(samples)]
                raise _out_of_range(self.dataset, at, error) from error


class IndexedCollate:
    """A collate function that puts the indices in front of the batch: ``(index, batch)``."""

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self.collate = collate

    def __call__(self, fetched: Any) -> tuple[HostIndex, Any]:
        """Return ``(index, batch)`` from the result of :class:`IndexedDataset`."""
        indices, samples = fetched
        # On the host, whatever torch.set_default_device() says.
        index = torch.from_numpy(np.array(indices, np.int64)).as_subclass(HostIndex)
        return index, self.collate(samples)


class Batches(Sampler[list[int]]):
    """This rank's batches of an epoch.

    Attributes:
        ranks: those that divide the epoch among them.
    """

    ranks: Ranks
    _dataset: Any = None
    _told = False

    def guard_length(self, dataset: Dataset[Any]) -> None:
        """Check the length of ``dataset`` at the beginning of each epoch from now on."""
        self._dataset = dataset

    def planned(self) -> tuple[int, int]:
        """Return how many samples this rank, and all ranks together, still get in this epoch."""
        raise NotImplementedError

    def _warn_apart(self) -> None:
        """Warn once if this process is one of several ranks that have not met."""
        if not self._told and (size := ranks_apart()):
            self._told = True
            warnings.warn(
                f"WORLD_SIZE is {size}, and there is no process group: each of the {size} processes trains "
                "on every sample. Call torch.distributed.init_process_group() before the first epoch.",
                stacklevel=3,
            )


class EpochBatches(Batches):
    """This rank's batches of the epoch under way.

    A global batch has ``batch_size`` times the number of ranks samples, of which rank r takes the r-th part.
    The last one is split so that sizes differ by at most one. It joins the one before if it is too small for
    all ranks, or, with ``full_batches``, smaller than a quarter of a global batch. With ``drop_last`` it is
    left out, unless it is the only one. With ``kept_steps`` all global batches are thinned alike instead, see
    :class:`~fallow.core.kept_steps.KeptSteps`. Iterating has no side effects.
    """

    def __init__(
        self,
        epoch: Epoch,
        batch_size: int,
        *,
        shuffle: bool = True,
        drop_last: bool = False,
        full_batches: bool = False,
        kept_steps: KeptSteps | None = None,
    ) -> None:
        self.epoch, self.batch_size = epoch, batch_size
        self.shuffle, self.drop_last, self.full_batches = shuffle, drop_last, full_batches
        self.kept_steps = kept_steps
        self.ranks = epoch.scores.ranks
        self._n = epoch.order().kept.n
        self._made: tuple[tuple[int, ...], NDArray[np.int64], NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return self._cuts()[0].size - 1

    def planned(self) -> tuple[int, int]:
        """Return how many samples this rank, and all ranks together, still get in this epoch."""
        cuts, ends = self._cuts()
        return int(ends[-1]), int(cuts[-1])

    def rows(self, first: int, stop: int) -> int:
        """Return how many samples all ranks get together in the batches ``[first, stop)`` that are left."""
        cuts, _ = self._cuts()
        return int(cuts[min(stop, cuts.size - 1)] - cuts[min(first, cuts.size - 1)])

    def share(self, recorded: int, rows: float) -> float:
        """Return this rank's share of the batch of all ranks after ``recorded`` samples, times their number.

        It is 1 if all ranks get as many of it, or if ``rows`` are not a batch of this loader.
        """
        if self.ranks.size == 1:
            return 1.0
        cuts, ends = self._cuts()
        at = int(np.searchsorted(ends, recorded))
        if at + 1 >= ends.size or ends[at] != recorded or ends[at + 1] - recorded != rows:
            return 1.0
        return rows * self.ranks.size / float(cuts[at + 1] - cuts[at])

    def reached(self, recorded: int) -> int:
        """Return how many samples all ranks have recorded when this one has recorded ``recorded``.

        Ranks get different numbers of samples from a batch, but the same number of batches: so the result is
        the same on all of them after a batch.
        """
        cuts, ends = self._cuts()
        return int(cuts[np.searchsorted(ends[1:], recorded, side="right")])

    def _cuts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where global batches begin in the order, and how many samples this rank has had by then.

        Both end with the number after the last batch. They are made once an epoch.
        """
        plan, ranks = self.epoch.plan, (self.ranks.rank, self.ranks.size)
        key = (
            self.epoch.number,
            len(self.epoch.order()),
            len(plan.kept),
            plan.full,
            self.epoch.resumed,
            *ranks,
        )
        if self._made is None or self._made[0] != key:
            cuts = self._make_cuts()
            ends = np.cumsum(shares(np.diff(cuts), *ranks)[1])
            self._made = key, cuts, np.concatenate([np.zeros(1, np.int64), ends])
        return self._made[1:]

    def _make_cuts(self) -> NDArray[np.int64]:
        total = len(self.epoch.order())
        if self.kept_steps is not None:
            return self._thinned(total, self.kept_steps)
        # The rest of a resumed epoch may be the batch that drop_last leaves out, although it is the only one.
        if self.drop_last and total < self.batch_size * self.ranks.size and self.epoch.resumed:
            return np.zeros(1, np.int64)
        whole, last = split_batches(
            total, self.batch_size, self.ranks.size, drop_last=self.drop_last, full_batches=self.full_batches
        )
        cuts = np.arange(whole + 1, dtype=np.int64) * self.batch_size * self.ranks.size
        return np.append(cuts, cuts[-1] + last) if last else cuts

    def _thinned(self, total: int, steps: KeptSteps) -> NDArray[np.int64]:
        kept = len(self.epoch.plan.kept)
        if not total:
            return np.zeros(1, np.int64)
        if kept < self.ranks.size:
            raise too_few(kept, self.ranks.size)
        return steps.cuts(kept, self.epoch.plan.full, kept - total)

    def __iter__(self) -> Iterator[list[int]]:
        # Not a generator, so that these errors are raised by iter() and not by the first batch.
        n = self.epoch.order().kept.n
        if n != self._n:
            raise wrong_state(
                f"The training set has grown from {self._n:,} to {n:,} samples.",
                "Make a new loader, with the longer dataset.",
            )
        if self._dataset is not None:
            check_length(self._dataset, self._n)
        self._warn_apart()
        self.epoch.check_open(self.planned()[0])
        return self._batches(self.epoch.order(shuffle=self.shuffle), self.epoch.scores.recorded_here())

    def _batches(self, order: Order, used: NDArray[np.bool_] | None) -> Iterator[list[int]]:
        for observer in self.epoch.observers:
            observer.epoch_begins()
        cuts, _ = self._cuts()
        offsets, counts = shares(np.diff(cuts), self.ranks.rank, self.ranks.size)
        for part in read_batches(order, cuts[:-1] + offsets, counts, self.batch_size):
            left = part if used is None else part[~used[part]]
            if not left.size:
                continue
            self.epoch.expect(left)
            # By a sample: the number of a batch is another one after a resume.
            yield KeyedBatch.of(left, self.epoch.key(FETCH, int(left[0])))
        self.epoch.expect(None)


def read_batches(
    order: Order, starts: NDArray[np.int64], counts: NDArray[np.int64], batch_size: int
) -> Iterator[NDArray[np.int64]]:
    """Yield the samples of each batch: ``counts`` positions of the order from ``starts`` on."""
    # Positions are evaluated for many batches at once: one call per batch would dominate the cost.
    ahead = max(1, BLOCK // batch_size)
    for first in range(0, starts.size, ahead):
        some = slice(first, first + ahead)
        ends = np.cumsum(counts[some])
        # Each batch is a range of positions; `ends` says where it lies among those of this block.
        shift = np.repeat(starts[some] - ends + counts[some], counts[some])
        yield from np.split(order.at(np.arange(shift.size) + shift), ends[:-1])


def split_batches(
    total: int, batch_size: int, ranks: int, *, drop_last: bool = False, full_batches: bool = False
) -> tuple[int, int]:
    """Return the number of whole global batches in ``total`` samples, and the size of the last one, or 0.

    A global batch has ``batch_size`` samples on each of ``ranks``.

    Raises:
        WrongState: if there are fewer samples than ranks.
    """
    width = batch_size * ranks
    whole, rest = divmod(total, width)
    if drop_last and whole:
        return whole, 0
    # Batch norm over a few hard samples can ruin a network, see docs/decisions/006-whole-batches.md.
    if full_batches and whole and 0 < rest < width // 4:
        return whole - 1, rest + width
    if 0 < rest < ranks:
        if not whole:
            raise too_few(rest, ranks)
        return whole - 1, rest + width
    return whole, rest


def count_batches(
    total: int, batch_size: int, ranks: int, *, drop_last: bool = False, full_batches: bool = False
) -> int:
    """Return the number of batches per rank in ``total`` samples."""
    whole, last = split_batches(total, batch_size, ranks, drop_last=drop_last, full_batches=full_batches)
    return whole + bool(last)


def shares(totals: NDArray[np.int64], rank: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return start and length of the ``rank``-th of ``size`` even parts of each batch."""
    base, longer = np.divmod(totals, size)
    return rank * base + np.minimum(rank, longer), base + (rank < longer)


class DividedSampler(DistributedSampler[Any]):
    """What a loader shows as its sampler: trainers leave one of this class alone, and divide others.

    The loader itself reads its :class:`EpochBatches`.
    """

    def __init__(self, batches: Batches) -> None:
        # Not that of DistributedSampler, which asks for the process group and the length once and for all.
        self._batches = batches

    def __len__(self) -> int:
        return self._batches.planned()[0]

    def __iter__(self) -> Iterator[int]:
        return (row for batch in self._batches for row in batch)

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the subsampler counts the epochs."""


class _Divided:
    """A loader that is divided among the ranks already."""

    @property
    def _is_accelerate_prepared(self) -> bool:
        """Asked by Accelerate's ``prepare``, which would divide this loader again."""
        _, size = rank_and_size()
        if size > 1:
            raise wrong_state(
                f"Accelerate must not prepare this loader on {size} processes: it would divide it again, and "
                "train on a part of each epoch.",
                "Leave it out, `model, optimizer = accelerator.prepare(model, optimizer)`, and move each "
                "batch to accelerator.device.",
            )
        return False


class EpochLoader(_Divided, DataLoader[Any]):
    """The DataLoader over the kept samples."""


def _stateful(state: tuple[Callable[[], Any], Callable[[Any], None]]) -> Any:
    """Return the class of a ``StatefulDataLoader`` whose state is that of the subsampler.

    The subsampler counts what was recorded; torchdata's own state counts what was fetched, and would skip
    the same batches again.
    """
    try:
        from torchdata.stateful_dataloader import StatefulDataLoader
    except ModuleNotFoundError:
        raise missing_extra("A stateful loader", "torchdata", "trainers") from None
    save, load = state

    class StatefulEpochLoader(_Divided, StatefulDataLoader):  # type: ignore[misc]
        """A DataLoader that is saved and loaded with the subsampler's state."""

        def state_dict(self) -> Any:
            """Return the state of the subsampler."""
            return save()

        def load_state_dict(self, state_dict: Any) -> None:
            """Load a state of the subsampler."""
            load(state_dict)

    return StatefulEpochLoader


def make_loader(
    dataset: Dataset[Any],
    n: int,
    batches: Batches,
    seed: int,
    options: dict[str, Any],
    state: tuple[Callable[[], Any], Callable[[Any], None]] | None = None,
) -> DataLoader[Any]:
    """Return a torch DataLoader that yields ``(index, batch)``.

    With ``state``, functions that save and load the subsampler, it is one of torchdata's.

    Raises:
        InvalidType: if the dataset has no length or is only iterable.
        InvalidValue: if the dataset has another length, or an option would choose samples.
    """
    check_dataset(dataset, n)
    batches.guard_length(dataset)
    for name in ("sampler", "batch_sampler"):
        if options.pop(name, None) is not None:
            raise invalid(
                f"`{name}` must not be set: the subsampler chooses the samples.",
                name,
                "Use shuffle=False for dataset order, remove(index) to leave samples out.",
            )
    collate = options.pop("collate_fn", None) or default_collate
    # Without a generator each iter() would draw the seed of the workers from torch's global one.
    options.setdefault("generator", torch.Generator().manual_seed(mix(seed, batches.ranks.rank) >> 1))
    kind: Any = EpochLoader if state is None else _stateful(state)
    loader: DataLoader[Any] = kind(
        IndexedDataset(dataset),
        batch_sampler=batches,
        collate_fn=IndexedCollate(collate),
        **options,
    )
    # Torch lets nobody set it after the loader is made.
    vars(loader)["sampler"] = DividedSampler(batches)
    return loader


def fixed_batches(
    dataset: Dataset[Any],
    index: NDArray[np.int64],
    batch_size: int,
    collate: Callable[[Any], Any],
    options: dict[str, Any],
) -> DataLoader[Any]:
    """Return a DataLoader that yields ``(index, batch)`` over the samples ``index``, in that order."""
    parts = [index[at : at + batch_size].tolist() for at in range(0, index.size, batch_size)]
    options.setdefault("generator", torch.Generator().manual_seed(0))
    return DataLoader(
        IndexedDataset(dataset), batch_sampler=parts, collate_fn=IndexedCollate(collate), **options
    )


def check_map_style(dataset: Any) -> None:
    """Raise if a dataset has no length or is only iterable."""
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise invalid_type(
            "The dataset must be map-style: `dataset[i]` and `len(dataset)`.",
            type(dataset).__name__,
            "Scores are kept by index, which a stream does not have: load it into a list or an array first.",
        )


def check_dataset(dataset: Any, n: int) -> None:
    """Raise if ``dataset`` is not a map-style dataset of ``n`` samples."""
    check_map_style(dataset)
    # A DataLoader has a length too, so it has passed the check above.
    if isinstance(dataset, DataLoader):
        raise invalid_type("`loader` takes the dataset.", "a DataLoader", "Pass its `.dataset`.")
    check_length(dataset, n)


def check_length(dataset: Any, n: int) -> None:
    """Raise if ``dataset`` does not have ``n`` samples, or its ``__len__`` fails."""
    length = _length(dataset)
    if length == n:
        return
    if length > n:
        step = (
            f"If samples were added at its end, call `subsampler.extend({length - n})` right after `step()`, "
            "and make a new loader."
        )
    else:
        step = (
            "An index must always name the same sample: put back what is missing, and leave samples out by "
            "`subsampler.remove(index)`. If the last samples are gone for good, make a Subsampler of the new "
            'length and load the state of this one with accept=("n", "labels").'
        )
    rule = f"The dataset must be the training set of {n:,} samples that the subsampler was made for."
    raise invalid(rule, f"{length:,} samples", f"{step} A validation set keeps its own DataLoader.")


def _length(dataset: Any) -> int:
    try:
        return len(dataset)
    except Exception as error:  # whatever the user's own code raises
        step = "Return the number of samples from its __len__."
        found = f"{type(error).__name__}: {error}"
        raise invalid_type("len(dataset) must be the number of samples.", found, step) from error


def _out_of_range(dataset: Any, index: int, error: IndexError) -> InvalidValue:
    length = _length(dataset)
    if index >= length:
        step = "A training set must not shrink: leave samples out by subsampler.remove(index)."
        return invalid(f"The dataset must hold sample {index:,}.", f"{length:,} samples", step)
    rule = f"The dataset must hold a sample for each index below its length, {length:,}."
    found = f"IndexError in a batch with sample {index:,}: {error}"
    return invalid(rule, found, "Check its __len__ and its __getitem__.")


def check_batch_size(batch_size: Any) -> int:
    """Return ``batch_size`` as an int of at least 1."""
    return check_integer("batch_size", batch_size, 1, "It is the number of samples per rank and step.")
