"""A subsampler whose samples are divided among the ranks, for very large training sets."""

from __future__ import annotations

import io
import json
import math
import os
import warnings
import weakref
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..arrays.bitset import Bitset
from ..arrays.distributed import Ranks, data_group, gather_rows, meet, send_rows
from ..arrays.keyed import mix
from ..arrays.selection import blocks
from ..errors import InvalidValue, WrongState, check_flag, check_integer, invalid, invalid_type, wrong_state
from ..policies.error_mass import ErrorMass
from ..scores.base import Score
from . import loading
from .batch_checks import check_batch, check_index, check_mean, mean_loss, scale_gradient
from .described import describe
from .epoch_scores import Pages
from .kept_steps import KeptSteps, too_few
from .loading import FETCH, Batches, KeyedBatch, read_batches
from .memory import check_fits
from .order import Order
from .plan import BAD_SHARE
from .schedule import Schedule
from .shard import GROUP, ErrorTable, Shard, decide, scratch_file

VERSION = 1
CHUNK = 1 << 20
"""About so many scores of a rank are sorted, and sent, at once."""
_ROW = 5
"""Bytes of a sample in a part."""
_ARRAYS = ("scores", "means", "flags")


@dataclass(frozen=True)
class ShardedRecord:
    """The record of one epoch.

    Attributes:
        epoch: the number of the epoch, from 0.
        kept: the number of samples in the epoch.
        readmitted: how many of them were left out of the epoch before.
        recorded: the number of scores.
        bad: how many of them were not finite.
        notes: the policy's notes from planning the epoch, see :class:`fallow.ErrorMass`.
    """

    epoch: int
    kept: int
    readmitted: int
    recorded: int
    bad: int
    notes: dict[str, float] = field(default_factory=dict)


class ShardedSubsampler:
    """Leaves learned samples out, as :class:`fallow.Subsampler` does, for 10^8 samples and more.

    Each of R ranks holds the scores of n / R samples, five bytes each, in memory or in a file. A decision is
    made over histograms that the ranks add up, so it is the same for any number of ranks. Every rank knows
    the samples of an epoch, a bit each and as much for their directory. The order is a keyed permutation,
    which takes no memory.

    It is a :class:`fallow.Subsampler` with fewer gifts: its policy is ErrorMass without outliers, it keeps
    steps, batches have to be recorded in the order of the loader, and the history holds numbers only.

    Args:
        n: the number of samples in the training set.
        policy: ``ErrorMass(high=None)``, with any ``error``.
        schedule: decides when samples are left out and when they come back.
        seed: the seed of all draws and orders.
        min_kept: the minimum number of samples to keep.
        score: the score that will be recorded; one in nats by default.
        directory: a folder for the scores of this rank, which are then in a file without a name. By default
            they are in memory.
        group: the ranks that get different samples, as for :meth:`fallow.Subsampler.loader`; all by default.
            They must have met in it.

    Attributes:
        n, policy, schedule, seed: the arguments.
        epoch: the number of the present epoch, from 0; ``schedule.epochs`` when all are done.
        history: a :class:`ShardedRecord` for each finished epoch.
        shard: the samples of this rank, a :class:`~fallow.core.shard.Shard`.

    Raises:
        InvalidValue, InvalidType: if an argument is invalid, or there is no room for the samples.

    Example:
        >>> import fallow, torch
        >>> policy = fallow.ErrorMass(high=None)
        >>> subsampler = fallow.ShardedSubsampler(1_000, policy, fallow.Schedule(epochs=9))
        >>> loader = subsampler.loader(range(1_000), batch_size=100)
        >>> for index, batch in loader:
        ...     loss = subsampler.record(index, index / 1_000)
        >>> subsampler.step()
        >>> subsampler.epoch, len(loader), subsampler.kept
        (1, 10, 1000)
    """

    def __init__(
        self,
        n: int,
        policy: ErrorMass,
        schedule: Schedule,
        *,
        seed: int = 0,
        min_kept: int = 1,
        score: Score | None = None,
        directory: str | os.PathLike[str] | None = None,
        group: Any = None,
    ) -> None:
        self.n = check_integer("n", n, 1, "It is the length of the training set.")
        if not isinstance(policy, ErrorMass) or policy.high is not None:
            rule = "The policy of a ShardedSubsampler must be ErrorMass without outliers."
            raise invalid(rule, repr(policy), "Pass fallow.ErrorMass(high=None).")
        if not isinstance(schedule, Schedule):
            raise invalid_type("`schedule` must be a Schedule.", repr(schedule), "Try Schedule(epochs=9).")
        if score is not None:
            if not isinstance(score, Score):
                raise invalid_type("`score` must be a Score.", repr(score), "Try KLDivergence().")
            policy.check_range(*score.range, repr(score))
        self._min_kept = check_integer("min_kept", min_kept, 1)
        if self._min_kept > self.n:
            raise invalid(f"`min_kept` must be at most n={self.n}.", min_kept)
        self.policy, self.schedule = policy, schedule.or_turns(policy.returns_every)
        self.seed = check_integer("seed", seed, -(2**63))
        self._ranks = Ranks()
        self._ranks.group = None if group is None else data_group(group)
        # Fixed now: a rank cannot take over the samples of another one.
        self._size = self._ranks.size
        self._blocks = -(-self.n // GROUP)
        self._rows = -(-self._blocks // self._size) * GROUP
        start = min(self._ranks.rank * self._rows, self._blocks * GROUP)
        if directory is None:
            step = "Pass directory=, a folder for files, or start more ranks."
            check_fits(self._rows * _ROW + self.n // 4, f"{self.n:,} samples on {self._size} ranks", step)
        self.shard = Shard(min(start, self.n), min(start + self._rows, self.n), directory)
        self._errors = ErrorTable(math.inf if score is None else score.range[1])
        self._batches: PositionBatches | None = None
        self.history: list[ShardedRecord] = []
        self._notes: dict[str, float] = {}
        self._outbox = Outbox(directory)
        self._told = False
        self._spoiled: WrongState | InvalidValue | None = None
        words = np.full(self._blocks, ~np.uint64(0))
        if self.n % GROUP:
            words[-1] >>= np.uint64(GROUP - self.n % GROUP)
        self._begin(0, Bitset.of_words(words, self.n), 0)

    def _begin(self, epoch: int, kept: Bitset, readmitted: int) -> None:
        self.epoch, self._kept, self._readmitted = epoch, kept, readmitted
        self.shard.recorded = self.shard.bad = 0
        self.shard.negative = 0.0
        self._pages, self._buffered = Pages(self.n, torch.float16), 0
        self._outbox.clear()
        # Samples of all ranks recorded before a resume; of this rank since; and of those, not stepped on yet.
        self._used = self._recorded = self._waiting = 0

    def __repr__(self) -> str:
        progress = f"epoch={self.epoch}, kept={self.kept}"
        return (
            f"ShardedSubsampler({self.n}, {self.policy!r}, {self.schedule!r}, seed={self.seed}: {progress})"
        )

    @property
    def epochs(self) -> int:
        """The number of epochs of the training."""
        return self.schedule.epochs

    @property
    def kept(self) -> int:
        """The number of samples in the present epoch."""
        return len(self._kept)

    @property
    def progress(self) -> float:
        """The share of the training that is done, in [0, 1]; equal on all ranks after a batch."""
        if self.epoch >= self.epochs:
            return 1.0
        done = self._used
        if self._batches is not None:
            done += self._batches.reached(self._recorded)
        return (self.epoch + done / max(1, self.kept)) / self.epochs

    @property
    def accumulate(self) -> int:
        """The number of batches to a step in this epoch."""
        steps = None if self._batches is None else self._batches.steps
        return 1 if steps is None else steps.batches_per_step(self.kept, self.n)

    def keeps(self, index: Any) -> Tensor:
        """Return which samples are in the present epoch: int64 ``(K,)`` -> bool ``(K,)``."""
        rows = check_index(index, self.n)
        return torch.from_numpy(self._kept.contains(rows))

    def order(self, *, shuffle: bool = True) -> Order:
        """Return the order of the present epoch, from its beginning."""
        return Order(self._kept, self.seed, self.epoch, shuffle=shuffle)

    def loader(
        self,
        dataset: Dataset[Any],
        batch_size: int,
        *,
        shuffle: bool = True,
        accumulate: int = 1,
        **options: Any,
    ) -> DataLoader[Any]:
        """Return a DataLoader over the samples of each epoch: it yields ``(index, batch)``.

        An epoch keeps the number of steps of full training, and what is left out thins the batches. Make the
        loader once; each ``iter()`` yields what remains of the present epoch.

        Args:
            dataset: the training set, map-style, with ``n`` samples.
            batch_size: the number of samples per rank and step of full training.
            shuffle: if False, samples come in dataset order.
            accumulate: as for :meth:`fallow.Subsampler.loader`.
            **options: options of ``torch.utils.data.DataLoader``.

        Raises:
            InvalidType, InvalidValue: if the dataset has another length, or an option chooses samples.
            WrongState: if there is a loader already.
        """
        loading.check_batch_size(batch_size)
        check_integer("accumulate", accumulate, 1)
        if self._batches is not None:
            raise wrong_state("There is a loader already.", "Make it once, and iterate it in each epoch.")
        if options.pop("drop_last", False):
            raise invalid("An epoch that keeps its steps has no last batch to drop.", "drop_last=True")
        steps = KeptSteps(batch_size, accumulate, self._ranks)
        batches = PositionBatches(self, steps, shuffle=check_flag("shuffle", shuffle))
        loader = loading.make_loader(dataset, self.n, batches, self.seed, options)
        self._batches = batches
        return loader

    def record(
        self,
        index: Tensor,
        losses: Tensor,
        scores: Tensor | None = None,
        *,
        loss: Tensor | None = None,
        accumulating: bool = False,
    ) -> Tensor:
        """Store the scores of a batch and return the mean of its losses.

        The call neither waits for the device nor communicates with other ranks. Arguments and result are
        those of :meth:`fallow.Subsampler.record`. Scores are kept as float16: one above 65,504 counts as not
        finite.

        Raises:
            InvalidType, InvalidValue: if indices or shapes are invalid; nothing is stored.
            WrongState: if all epochs are done.
        """
        self._check_running()
        rows = check_index(index, self.n)
        check_batch(rows.size, losses, scores, None, None)
        if loss is not None:
            check_mean(loss, weighs=False)
        accumulating = check_flag("accumulating", accumulating)
        if rows.size and rows.max() >= self.n:
            check_index(np.array(rows), self.n)  # raises: that of a loader is not checked above
        self._pages.append(rows, (losses if scores is None else scores).detach())
        self._recorded += rows.size
        self._waiting = self._waiting + rows.size if accumulating else 0
        self._buffered += rows.size
        if self._buffered >= CHUNK and self._pages.can_flush:
            self._sort()
        mean = mean_loss(losses, None) if loss is None else loss
        if self._batches is not None:
            count = self._batches.steps.count(self.kept, self.n)
            scale_gradient(mean, rows.size * self._size * count / self.n)
        return mean

    def _sort(self) -> None:
        """Take the recorded scores from their devices: store those of this rank alone, or sort by owner."""
        self._buffered = 0
        for rows, scores in self._pages.drain():
            if self._size == 1:
                self.shard.write(rows, scores)
                continue
            for start, stop in blocks(rows.size, CHUNK):
                index = rows[start:stop]
                owner = index // self._rows
                by_owner = np.argsort(owner, kind="stable")
                place = (index - owner * self._rows)[by_owner].astype(np.uint32)
                counts = np.bincount(owner, minlength=self._size)
                self._outbox.put(counts, place, scores[start:stop][by_owner])

    def _send(self) -> None:
        """Bring all recorded scores to the ranks that hold the samples; collective if there are several."""
        self._sort()
        if self._size == 1:
            return
        group = self._ranks.group
        (most,) = np.max(
            [part[0] for part in gather_rows(np.array([len(self._outbox)]), group=group)], axis=0
        )
        for at in range(int(most)):
            counts, place, scores = self._outbox.take(at, self._size)
            self.shard.write(*send_rows(counts, place, scores, group=group))
        self._outbox.clear()

    def step(self) -> None:
        """End the epoch: send the scores to their ranks, decide, re-admit, plan the next epoch. Collective.

        Raises:
            WrongState: if nothing was recorded, or all epochs are done.
            InvalidValue: if scores are negative.
        """
        self._check_running()
        self._send()
        recorded, bad = self._found()
        if not recorded:
            step = "Call `subsampler.record(index, losses)` for each batch before `step()`."
            raise wrong_state(f"No sample was recorded in {self._name}.", step)
        if recorded < self.kept and not self._told:
            self._told = True
            warnings.warn(
                f"{self.kept - recorded:,} of the {self.kept:,} samples of {self._name} were not recorded.",
                stacklevel=2,
            )
        record = ShardedRecord(self.epoch, self.kept, self._readmitted, recorded, bad, self._notes)
        epoch = self.epoch + 1
        kept, readmitted = self._kept, 0
        if epoch < self.epochs:
            readmitted = self._plan(epoch, too_many_bad=bad > BAD_SHARE * recorded)
            kept = self._share_kept()
        self.history.append(record)
        self._begin(epoch, kept, readmitted)

    def _found(self) -> tuple[int, int]:
        """Return how many scores all ranks have got in this epoch, and how many were not finite."""
        shard = self.shard
        found = np.array([shard.recorded, shard.bad, shard.negative])
        parts = [part[0] for part in gather_rows(found[None], group=self._ranks.group)]
        lowest = min(float(part[0, 2]) for part in parts)
        if lowest < -1e-3:
            raise invalid(
                "ErrorMass needs scores of at least 0: it reads them as errors.",
                f"{lowest:g}",
                "Pass non-negative `scores=` to `record`.",
            )
        return sum(int(part[0, 0]) for part in parts), sum(int(part[0, 1]) for part in parts)

    def _plan(self, epoch: int, *, too_many_bad: bool) -> int:
        """Decide for ``epoch``; return how many samples come back."""
        schedule, seed = self.schedule, self.seed
        if too_many_bad:
            warnings.warn(
                f"More than {BAD_SHARE:.0%} of the scores of {self._name} are not finite: nothing is removed "
                "for the next one. Look at the loss and the inputs.",
                RuntimeWarning,
                stacklevel=3,
            )
        if too_many_bad or schedule.warms_up(epoch):
            return int(self._ranks.total(np.array([self.shard.keep_all()]))[0])

        def turn(start: int, stop: int) -> NDArray[np.bool_]:
            if schedule.in_tail(epoch):
                return np.ones(stop - start, np.bool_)
            return schedule.turn(epoch, seed, start, stop)

        steps = None if self._batches is None else self._batches.steps
        least = max(self._min_kept, 0 if steps is None else steps.fewest(self.n))
        multiple = 1 if steps is None else steps.multiple(self.n)
        decision = decide(
            [self.shard], self.policy, self._errors, self._notes, turn, least, multiple, self._ranks
        )
        self._notes = decision.notes
        return decision.readmitted

    def _share_kept(self) -> Bitset:
        """Return the samples of the epoch that all ranks have planned: each sends the bits of its own."""
        words = np.zeros(self._rows // GROUP, np.uint64)
        own = self.shard.kept_bits().view(np.uint64)
        words[: own.size] = own
        everyone = self._ranks.together(words.view(np.int64)).view(np.uint64)
        return Bitset.of_words(everyone[: self._blocks], self.n)

    @property
    def _name(self) -> str:
        return f"epoch {self.epoch + 1} of {self.epochs}"

    def _check_running(self) -> None:
        if self._spoiled is not None:
            raise self._spoiled
        if self.epoch >= self.epochs:
            step = "Plan more epochs, or loop while subsampler.epoch < subsampler.epochs."
            raise wrong_state(f"All {self.epochs} epochs are done.", step)

    def _settings(self) -> dict[str, Any]:
        described = {"policy": describe(self.policy), "schedule": describe(self.schedule)}
        settings: dict[str, Any] = {"n": self.n, "seed": self.seed, "min_kept": self._min_kept}
        # Through JSON, which has no tuples.
        return dict(json.loads(json.dumps(settings | described)))

    def state_dict(self) -> dict[str, Any]:
        """Return the state, exact also inside an epoch: all ranks must make the call.

        Scores, means and flags are tensors ``(ceil(n / 64), 64)``. On several ranks they are ``DTensor``
        shards, which torch.distributed.checkpoint saves and loads, on any number of ranks. They share memory
        with the subsampler.

        Raises:
            WrongState: if the first rank has waited for the others for 20 seconds, or ranks are at different
                batches.
        """
        if self._spoiled is not None:
            raise self._spoiled
        meet("state_dict()", self._ranks.group)
        self._send()
        recorded, bad = self._found()
        run = {
            "version": VERSION,
            "settings": self._settings(),
            "epoch": self.epoch,
            "readmitted": self._readmitted,
            "used": self._position(),
            "recorded": recorded,
            "bad": bad,
            "notes": self._notes,
            "history": [asdict(record) for record in self.history],
        }
        return {name: self._tensor(name) for name in _ARRAYS} | {"run": json.dumps(run)}

    def _position(self) -> int:
        """Return how many samples of the epoch all ranks have used together."""
        here = self._recorded - self._waiting
        reached = here * self._size if self._batches is None else self._batches.reached(here)
        parts = {int(part[0]) for (part,) in gather_rows(np.array([reached]), group=self._ranks.group)}
        if len(parts) > 1:
            found = f"Ranks have recorded up to positions {min(parts):,} and {max(parts):,}."
            raise wrong_state(
                f"A state must be of one batch. {found}", "Save after the same step on all ranks."
            )
        return self._used + parts.pop()

    def _tensor(self, name: str) -> Tensor:
        local = torch.from_numpy(getattr(self.shard, name)).view(-1, GROUP)
        if name == "means":
            local = local.view(torch.bfloat16)
        return local if self._size == 1 else self._ranks.divided(local, self._blocks)

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Load a state; the order continues behind the batches that were recorded. Collective.

        torch.distributed.checkpoint writes the tensors before it makes this call.

        Args:
            saved: a result of :meth:`state_dict` on as many ranks, or of one rank.

        Raises:
            InvalidType, InvalidValue: if it is another thing, or one of another training. If its tensors are
                those of this object, they have been overwritten, and every later call raises the error too.
        """
        try:
            run, arrays = self._read(saved)
        except InvalidValue as error:
            mine = [saved.get(name) for name in _ARRAYS] if isinstance(saved, dict) else []
            if any(self._is_own(name, value) for name, value in zip(_ARRAYS, mine, strict=False)):
                self._spoiled = error
            raise
        for name, local in arrays.items():
            own = self._local(name, self._tensor(name))
            if own.data_ptr() != local.data_ptr():
                own.copy_(local)
        self._spoiled = None
        self.history = [ShardedRecord(**record) for record in run["history"]]
        self._notes = run["notes"]
        self._begin(run["epoch"], self._share_kept(), run["readmitted"])
        self._used = run["used"]
        if self._ranks.rank == 0:
            self.shard.recorded, self.shard.bad = run["recorded"], run["bad"]

    def _read(self, saved: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the checked numbers of a state, and this rank's part of its arrays."""
        rule = "A state must be a result of ShardedSubsampler.state_dict()."
        if not isinstance(saved, dict) or not {*_ARRAYS, "run"} <= set(saved):
            raise invalid(rule, f"{type(saved).__name__:.80}")
        try:
            run = dict(json.loads(saved["run"]))
            version, settings = run["version"], dict(run["settings"])
        except (TypeError, ValueError, LookupError) as error:
            raise invalid(rule, f"{type(error).__name__}: {error}"[:200]) from error
        if version != VERSION:
            raise invalid(f"The state must be of version {VERSION}.", version)
        for name, value in self._settings().items():
            if settings.get(name) != value:
                step = "Make the ShardedSubsampler with the settings of the state."
                raise invalid(
                    f"`{name}` must be that of the state, {value!r} here.", settings.get(name), step
                )
        return run, {name: self._local(name, saved[name]) for name in _ARRAYS}

    def _local(self, name: str, value: Any) -> Tensor:
        """Return this rank's part of an array of a state."""
        own = getattr(self.shard, name)
        shape = (self._blocks, GROUP)
        if not isinstance(value, Tensor) or tuple(value.shape) != shape:
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise invalid(f"`{name}` of the state must be a tensor {shape}.", found)
        local: Tensor = value.to_local() if hasattr(value, "to_local") else value
        if local is value:
            first = self._ranks.rank * self._rows // GROUP
            local = value[first : first + own.size // GROUP]
        if local.numel() != own.size:
            rule = f"A state on {self._size} ranks must be divided among as many."
            step = "Load it by torch.distributed.checkpoint, which divides it anew."
            raise invalid(rule, f"{local.numel():,} samples for the {own.size:,} of this rank", step)
        return local

    def _is_own(self, name: str, value: Any) -> bool:
        if not isinstance(value, Tensor):
            return False
        local: Tensor = value.to_local() if hasattr(value, "to_local") else value
        return local.data_ptr() == self._local(name, self._tensor(name)).data_ptr()


class Outbox:
    """Scores for other ranks, in chunks that are sorted by them; in memory, or in a file without a name.

    Args:
        directory: a folder for the file; None for memory.
    """

    def __init__(self, directory: str | os.PathLike[str] | None) -> None:
        self._file: Any = io.BytesIO() if directory is None else scratch_file(directory)
        weakref.finalize(self, self._file.close)
        self.clear()

    def clear(self) -> None:
        """Forget all chunks."""
        self._chunks: list[tuple[int, NDArray[np.int64]]] = []
        self._file.seek(0)
        self._file.truncate()

    def __len__(self) -> int:
        return len(self._chunks)

    def put(self, counts: NDArray[np.int64], place: NDArray[np.uint32], scores: NDArray[np.float16]) -> None:
        """Add a chunk: how many scores each rank gets, their places there, and the scores ``(K,)``."""
        self._chunks.append((self._file.tell(), counts))
        self._file.write(place.tobytes())
        self._file.write(scores.tobytes())

    def take(self, at: int, ranks: int) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.float16]]:
        """Return a chunk; an empty one behind the last."""
        if at >= len(self):
            return np.zeros(ranks, np.int64), np.zeros(0, np.uint32), np.zeros(0, np.float16)
        start, counts = self._chunks[at]
        size = int(counts.sum())
        self._file.seek(start)
        place = np.frombuffer(bytearray(self._file.read(4 * size)), np.uint32)
        return counts, place, np.frombuffer(bytearray(self._file.read(2 * size)), np.float16)


class PositionBatches(Batches):
    """This rank's batches of the present epoch, from where it was resumed.

    Args:
        owner: plans the epochs.
        steps: the steps of an epoch.
        shuffle: if False, samples come in dataset order.
    """

    def __init__(self, owner: ShardedSubsampler, steps: KeptSteps, *, shuffle: bool) -> None:
        self._owner, self.steps, self._shuffle = owner, steps, shuffle
        self.ranks = steps.ranks
        self._made: tuple[tuple[int, int], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None = (
            None
        )

    def __len__(self) -> int:
        return self._cuts()[0].size - 1

    def planned(self) -> tuple[int, int]:
        """Return how many samples this rank, and all ranks, get in this epoch since it was resumed."""
        cuts, _, ends = self._cuts()
        return int(ends[-1]), int(cuts[-1])

    def reached(self, recorded: int) -> int:
        """Return how many samples all ranks have used since a resume when this one has used ``recorded``."""
        cuts, _, ends = self._cuts()
        return int(cuts[np.searchsorted(ends[1:], recorded, side="right")])

    def _cuts(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return where global batches begin, this rank's parts of them, and how many samples it has by then.

        All count from the position of the resume.
        """
        owner = self._owner
        key = (owner.epoch, owner._used)
        if self._made is None or self._made[0] != key:
            if owner.kept < self.ranks.size:
                raise too_few(owner.kept, self.ranks.size)
            cuts = np.zeros(1, np.int64)
            if owner._used < owner.kept:
                cuts = self.steps.cuts(owner.kept, owner.n, owner._used)
            offsets, counts = loading.shares(np.diff(cuts), self.ranks.rank, self.ranks.size)
            ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
            self._made = key, cuts, cuts[:-1] + offsets, ends
        return self._made[1:]

    def __iter__(self) -> Iterator[list[int]]:
        # Not a generator, so that these errors are raised by iter() and not by the first batch.
        owner = self._owner
        owner._check_running()
        loading.check_length(self._dataset, owner.n)
        _, starts, ends = self._cuts()
        done = owner._recorded
        if done and done >= ends[-1]:
            step = "Call `subsampler.step()` before the next epoch."
            raise wrong_state(f"{owner._name.capitalize()} has ended: all its samples are recorded.", step)
        first = int(np.searchsorted(ends[1:], done, side="right"))
        return self._read(owner, starts[first:], np.diff(ends)[first:], done - int(ends[first]))

    def _read(
        self, owner: ShardedSubsampler, starts: NDArray[np.int64], counts: NDArray[np.int64], skipped: int
    ) -> Iterator[list[int]]:
        order = owner.order(shuffle=self._shuffle)
        epoch, seed = owner.epoch, owner.seed
        for index in read_batches(order, starts + owner._used, counts, self.steps.batch_size):
            index, skipped = index[skipped:], 0
            yield KeyedBatch.of(index, mix(seed, epoch, FETCH, int(index[0])))
