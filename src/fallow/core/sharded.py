"""A subsampler whose samples are divided among the ranks, for very large training sets."""

from __future__ import annotations

import json
import math
import os
import warnings
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..arrays.bitset import Bitset
from ..arrays.distributed import Ranks, data_group, gather_rows, meet, send_rows
from ..arrays.no_score import NO_SCORE_FLOOR
from ..arrays.selection import blocks
from ..errors import FallowError, check_flag, check_integer, invalid, invalid_type, wrong_state
from ..policies.error_mass import ErrorMass
from ..scores.base import Score
from . import loading
from .batch_checks import check_batch, check_index, check_mean, mean_loss, scale_gradient
from .described import describe
from .epoch_scores import Pages
from .kept_steps import KeptSteps
from .memory import check_fits
from .order import Order
from .outbox import Outbox
from .plan import BAD_SHARE
from .schedule import Schedule
from .shard import GROUP, LEFT, NO_SCORE_HALF, ErrorTable, Shard, Turn, decide, zeros
from .shard_batches import Position, PositionBatches, check_length
from .shard_state import ARRAYS, VERSION, Numbers, ShardedRecord, directory_of, numbers_of, part_of

CHUNK = 1 << 20
"""About so many scores of a rank are sorted, and sent, at once."""
_ROW = 5
"""Bytes of a sample in a part."""
_NOT_HERE = ("drop_last", "full_batches", "kept_steps", "group", "stateful")
"""Options of the loader of a Subsampler that have no use here."""


class ShardedSubsampler:
    """Leaves learned samples out, as :class:`fallow.Subsampler` does, for 10^8 samples and more.

    Each of R ranks holds the scores of n / R samples, five bytes each, in memory or in a file. A decision is
    made over histograms that the ranks add up, so it is the same for any number of ranks. Every rank knows
    the samples of an epoch, a bit each and as much for their directory. The order is a keyed permutation,
    which takes no memory.

    It is a :class:`fallow.Subsampler` with fewer gifts: its policy is ErrorMass without outliers, it keeps
    steps, batches have to be recorded once each in the order of the loader, a sample has one row, and the
    history holds numbers only. It cannot be pickled if its scores are in a file.

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
            They must have met before.

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
        # A policy of one's own would be asked nothing.
        if type(policy) is not ErrorMass or policy.high is not None:
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
        self._groups = -(-self.n // GROUP)
        self._rows = -(-self._groups // self._size) * GROUP
        self._directory = directory_of(directory)
        in_memory = self.n // 4 + (self._rows * _ROW if directory is None else 0)
        step = "Pass directory=, a folder for files, or start more ranks."
        check_fits(in_memory, f"{self.n:,} samples on {self._size} ranks", step)
        start = self._ranks.rank * self._rows
        self._outbox = Outbox(self._directory, self._rows if self._size > 1 else 0)
        self.shard = Shard(min(start, self.n), min(start + self._rows, self.n), self._directory)
        self._score = score
        self._errors = ErrorTable(math.inf if score is None else score.range[1])
        self._batches: PositionBatches | None = None
        self.history: list[ShardedRecord] = []
        self._notes: dict[str, float] = {}
        self._told = False
        words = np.full(self._groups, ~np.uint64(0))
        if self.n % GROUP:
            words[-1] >>= np.uint64(GROUP - self.n % GROUP)
        self._begin(self._position(0, Bitset.of_words(words, self.n), 0))

    def _position(self, epoch: int, kept: Bitset, readmitted: int, used: int = 0) -> Position:
        return Position(epoch, self.schedule.epochs, self.n, self.seed, kept, readmitted, used)

    def _begin(self, position: Position) -> None:
        self._at = position
        if self._batches is not None:
            self._batches.position = position
        self.shard.begin()
        self._pages, self._buffered = Pages(self.n, torch.float16), 0
        self._outbox.clear()
        self._highest = 0.0, -1

    def __repr__(self) -> str:
        settings = f"{self.n}, {self.policy!r}, {self.schedule!r}, seed={self.seed}"
        return f"ShardedSubsampler({settings}: epoch={self.epoch}, kept={self.kept})"

    @property
    def epoch(self) -> int:
        """The number of the present epoch, from 0; :attr:`epochs` when all are done."""
        return self._at.epoch

    @property
    def epochs(self) -> int:
        """The number of epochs of the training."""
        return self.schedule.epochs

    @property
    def kept(self) -> int:
        """The number of samples in the present epoch."""
        return len(self._at.kept)

    @property
    def progress(self) -> float:
        """The share of the training that is done, in [0, 1]; equal on all ranks after a batch."""
        if self.epoch >= self.epochs:
            return 1.0
        return (self.epoch + self._reached(self._at.seen) / max(1, self.kept)) / self.epochs

    def _reached(self, seen: int) -> int:
        """Return how many samples of the epoch all ranks have used when this one has had ``seen``."""
        here = seen * self._size if self._batches is None else self._batches.reached(seen)
        return min(self.kept, self._at.used + here)

    @property
    def accumulate(self) -> int:
        """The number of batches to a step in this epoch."""
        steps = None if self._batches is None else self._batches.steps
        return 1 if steps is None else steps.batches_per_step(self.kept, self.n)

    def keeps(self, index: Any) -> Tensor:
        """Return which samples are in the present epoch: int64 ``(K,)`` -> bool ``(K,)``."""
        return torch.from_numpy(self._at.kept.contains(check_index(index, self.n)))

    def order(self, *, shuffle: bool = True) -> Order:
        """Return the order of the present epoch, from its beginning."""
        return self._at.order(shuffle=check_flag("shuffle", shuffle))

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
        batch_size = loading.check_batch_size(batch_size)
        accumulate = check_integer("accumulate", accumulate, 1)
        shuffle = check_flag("shuffle", shuffle)
        for name in _NOT_HERE:
            if name in options:
                rule = f"A loader of a ShardedSubsampler takes no `{name}`."
                step = "It keeps steps; pass group= to the ShardedSubsampler."
                raise invalid(rule, f"{options[name]!r:.80}", step)
        self._check_ranks()
        if self._batches is not None:
            raise wrong_state("There is a loader already.", "Make it once, and iterate it in each epoch.")
        loading.check_map_style(dataset)
        check_length(dataset, self.n)
        steps = KeptSteps(batch_size, accumulate, self._ranks)
        batches = PositionBatches(self._at, steps, shuffle=shuffle)
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
        those of :meth:`fallow.Subsampler.record`. A batch may be recorded in parts. Scores are kept as
        float16: one above 65,504 counts as not finite.

        Raises:
            InvalidType, InvalidValue: if indices or shapes are invalid; nothing is stored.
            WrongState: if all epochs are done, or this is not the next batch of the loader.
        """
        self._check_running()
        rows = check_index(index, self.n)
        check_batch(rows.size, losses, scores, None, None)
        if loss is not None:
            check_mean(loss, weighs=False)
        accumulating = check_flag("accumulating", accumulating)
        if rows.size and rows.max() >= self.n:
            check_index(np.array(rows), self.n)  # raises: that of a loader is not checked above
        if self._batches is not None:
            self._batches.check_next(rows)
            self._batches.count_next(rows)
        # A new tensor, so that the caller may reuse its own before the optimizer step.
        self._at.waiting.append((rows, _halves(losses if scores is None else scores)))
        if not accumulating:
            self._commit()
        mean = mean_loss(losses, None) if loss is None else loss
        if self._batches is not None:
            count = self._batches.steps.count(self.kept, self.n)
            scale_gradient(mean, rows.size * self._size * count / self.n)
        return mean

    def _commit(self) -> None:
        """Store the batches that waited for an optimizer step."""
        for rows, scores in self._at.waiting:
            self._pages.append(rows, scores)
            self._at.recorded += rows.size
            self._buffered += rows.size
        self._at.waiting.clear()
        if self._buffered >= CHUNK and self._pages.can_flush:
            self._sort()

    def _sort(self) -> None:
        """Take the recorded scores from their devices: store those of this rank alone, or sort by owner."""
        self._buffered = 0
        for rows, scores in self._pages.drain():
            self._note_highest(rows, scores)
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

    def _note_highest(self, rows: NDArray[np.int64], scores: NDArray[np.float16]) -> None:
        if self._score is None or math.isinf(self._score.range[1]):
            return
        finite = np.where(np.isfinite(scores), scores, np.float16(0))
        at = int(np.argmax(finite))
        if finite[at] > self._highest[0]:
            self._highest = float(finite[at]), int(rows[at])

    def _send(self) -> None:
        """Bring all recorded scores to the ranks that hold the samples; collective if there are several."""
        self._sort()
        if self._size == 1:
            return
        group = self._ranks.group
        most = max(int(part[0]) for (part,) in gather_rows(np.array([len(self._outbox)]), group=group))
        for number in range(most):
            counts, place, scores = self._outbox.take(number, self._size)
            self.shard.write(*send_rows(counts, place, scores, group=group))
        self._outbox.clear()

    def step(self) -> None:
        """End the epoch: send the scores to their ranks, decide, re-admit, plan the next epoch. Collective.

        Raises:
            WrongState: if nothing was recorded, or all epochs are done.
            InvalidValue: if scores are negative, or outside the range of the declared score. The epoch is not
                ended then.
        """
        self._check_running()
        self._commit()
        self._send()
        recorded, bad = self._arrived()
        position = self._at
        if not recorded:
            step = "Call `subsampler.record(index, losses)` for each batch before `step()`."
            raise wrong_state(f"No sample was recorded in {position.name}.", step)
        self._check_range()
        if recorded < self.kept and not self._told:
            self._told = True
            warnings.warn(
                f"{self.kept - recorded:,} of the {self.kept:,} samples of {position.name} were not "
                "recorded.",
                stacklevel=2,
            )
        record = ShardedRecord(
            position.epoch, self.kept, position.readmitted, recorded, bad, dict(self._notes)
        )
        epoch, kept, readmitted = position.epoch + 1, position.kept, 0
        if epoch < self.epochs:
            readmitted = self._plan(epoch, too_many_bad=bad > BAD_SHARE * recorded)
            kept = self._share_kept()
        self.history.append(record)
        self._begin(self._position(epoch, kept, readmitted))

    def _arrived(self) -> tuple[int, int]:
        """Return how many scores all ranks have got in this epoch, and how many were not finite."""
        recorded, bad = self._ranks.total(np.array([self.shard.recorded, self.shard.bad])).tolist()
        return recorded, bad

    def _check_range(self) -> None:
        """Raise on all ranks if a score lies outside its range."""
        extremes = np.array([[*self.shard.lowest, *self._highest]])
        found = np.concatenate([part for (part,) in gather_rows(extremes, group=self._ranks.group)])
        lowest, highest = found[np.argmin(found[:, 0]), :2], found[np.argmax(found[:, 2]), 2:]
        # Rounding may leave a divergence slightly below 0.
        if lowest[0] < -1e-3:
            raise invalid(
                "ErrorMass needs scores of at least 0: it reads them as errors.",
                f"{lowest[0]:g} at sample {lowest[1]:.0f}",
                "Load the last state, and pass non-negative `scores=` to `record`.",
            )
        if self._score is not None and highest[0] > self._score.range[1] * (1 + 2.0**-11) + 1e-3:
            raise invalid(
                f"Scores of {self._score!r} must be at most {self._score.range[1]:g}.",
                f"{highest[0]:g} at sample {highest[1]:.0f}",
                "Record that score, or make the ShardedSubsampler with the score that is recorded.",
            )

    def _plan(self, epoch: int, *, too_many_bad: bool) -> int:
        """Decide for ``epoch``; return how many samples come back."""
        schedule, seed = self.schedule, self.seed
        if schedule.warms_up(epoch):
            return int(self._ranks.total(np.array([self.shard.keep_all()]))[0])
        if too_many_bad:
            warnings.warn(
                f"More than {BAD_SHARE:.0%} of the scores of {self._at.name} are not finite: nothing is "
                "removed for the next one. Look at the loss and the inputs.",
                RuntimeWarning,
                stacklevel=3,
            )

        def in_turn(start: int, stop: int) -> NDArray[np.bool_]:
            if schedule.in_tail(epoch):
                return np.ones(stop - start, np.bool_)
            return schedule.turn(epoch, seed, start, stop)

        turn: Turn | None = None if too_many_bad else in_turn
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
        return Bitset.of_words(everyone[: self._groups], self.n)

    def _check_ranks(self) -> None:
        """Raise if the number of ranks is another one than when the samples were divided."""
        if self._ranks.size != self._size:
            raise wrong_state(
                f"The samples were divided among {self._size} ranks, and now there are {self._ranks.size}.",
                "Call torch.distributed.init_process_group() before you make the ShardedSubsampler.",
            )

    def _check_running(self) -> None:
        self._check_ranks()
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

        Scores, means and flags are copies, as tensors ``(ceil(n / 64), 64)``; with ``directory=`` these lie
        in files too. On several ranks they are ``DTensor`` shards, which torch.distributed.checkpoint saves
        and loads, on any number of ranks. Batches that wait for an optimizer step are not part of it: they
        are repeated after loading.

        Raises:
            WrongState: if the first rank has waited for the others for 20 seconds, or ranks are at different
                batches.
        """
        self._check_ranks()
        meet("state_dict()", self._ranks.group)
        used = self._used_together()
        self._send()
        recorded, bad = self._arrived()
        numbers = Numbers(
            VERSION, self._settings(), self.epoch, self.kept, self._at.readmitted, used, recorded, bad,
            self._notes, self.history,
        )  # fmt: skip
        return {name: self._copied(name) for name in ARRAYS} | {"run": msgspec.json.encode(numbers).decode()}

    def _used_together(self) -> int:
        """Return how many samples of the epoch all ranks have used together."""
        reached = self._reached(self._at.recorded)
        parts = {int(part[0]) for (part,) in gather_rows(np.array([reached]), group=self._ranks.group)}
        if len(parts) > 1:
            raise wrong_state(
                "A state must be of one batch. Ranks have recorded up to positions "
                f"{min(parts):,} and {max(parts):,}.",
                "Save after the same step on all ranks.",
            )
        return parts.pop()

    def _copied(self, name: str) -> Tensor:
        own: NDArray[Any] = getattr(self.shard, name)
        copy = zeros(own.size, own.dtype, self._directory)
        for start, stop in blocks(own.size):
            copy[start:stop] = own[start:stop]
        local = torch.from_numpy(copy).view(ARRAYS[name]).view(-1, GROUP)
        return local if self._size == 1 else self._ranks.divided(local, self._groups)

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Load a state; the order continues behind the batches that were recorded. Collective.

        Args:
            saved: a result of :meth:`state_dict`, of as many ranks or of one.

        Raises:
            InvalidValue, DamagedData: if it is another thing, or one of another training. Nothing is changed
                then.
            WrongState: if another rank could not load it.
        """
        self._check_ranks()
        error: FallowError | None = None
        try:
            numbers = numbers_of(saved, self._settings(), self.epochs)
            parts = {name: part_of(name, saved[name], self.shard, self._groups) for name in ARRAYS}
        except FallowError as refused:
            error = refused
        if self._ranks.total(np.array([error is not None], np.int64))[0]:
            raise error or wrong_state("Another rank could not load its state.", "See its error.")
        self._check_kept(parts["flags"], numbers.kept)
        for name, part in parts.items():
            own: NDArray[Any] = getattr(self.shard, name)
            own[:] = part.view(torch.from_numpy(own).dtype).numpy()
        self.history, self._notes = list(numbers.history), dict(numbers.notes)
        kept = self._share_kept()
        self._begin(self._position(numbers.epoch, kept, numbers.readmitted, numbers.used))
        if self._ranks.rank == 0:
            self.shard.recorded, self.shard.bad = numbers.recorded, numbers.bad

    def _check_kept(self, flags: Tensor, kept: int) -> None:
        """Raise on all ranks if the flags of a state keep another number of samples than it says."""
        here = sum(
            int(np.count_nonzero((flags.numpy()[start:stop] & LEFT) == 0))
            for start, stop in blocks(flags.numel())
        )
        keeps = int(self._ranks.total(np.array([here]))[0])
        if keeps != kept:
            raise invalid(f"The flags of a state must keep {kept:,} samples, the number in it.", f"{keeps:,}")


def _halves(scores: Tensor) -> Tensor:
    """Return scores as float16, with *no score* as the number that stands for it there: ``(B,)``."""
    scores = scores.detach()
    without = (scores < 0) & (scores > NO_SCORE_FLOOR)
    # One that is really infinite is not finite, and no more can be said of it.
    known = torch.where(scores == NO_SCORE_HALF, torch.nan, scores)
    return torch.where(without, NO_SCORE_HALF, known).to(torch.float16)
