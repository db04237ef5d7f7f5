"""The conductor: it hands scores to the table, asks the policy, and gives each epoch its samples."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from ..arrays.bitset import Bitset
from ..arrays.distributed import rank_and_size
from ..errors import check_flag, check_integer, invalid, invalid_type, wrong_state
from ..policies.base import Policy
from ..scores.base import Score
from . import loading, state
from .batch_checks import check_batch, check_index, check_labels, check_scores, mean_loss, only
from .by_hand import ByHand
from .class_ids import ClassIds
from .history import describe
from .ledger import Ledger
from .loading import EpochBatches
from .memory import check_memory
from .plan import Floors, Plan, due, plan_epoch
from .remeasure import ScoreBatch, measure
from .schedule import Schedule


class Subsampler(ByHand):
    """Leaves learned samples out of the coming epochs, and brings them back to be measured again.

    Args:
        n: how many samples the training set has.
        policy: which samples to leave out; see :mod:`fallow.policies`.
        schedule: when, and when they come back.
        seed: of every draw and order; nothing else is random.
        labels: class ids ``(n,)``, any whole numbers, for class floors, reports, and policies that read them.
        min_kept: keep at least so many samples.
        min_kept_per_class: keep at least so many of each class (all of a smaller one); needs ``labels``.
        score: the score that will be recorded, so that thresholds are checked against its range.

    Attributes:
        n, policy, schedule, seed, score: as given.
        history: an :class:`EpochRecord` for each finished epoch.
        record_seconds: time spent inside ``record`` in the finished epochs.

    Raises:
        InvalidValue, InvalidType: where an argument cannot be meant.

    Example:
        >>> import torch
        >>> from fallow import Subsampler, Threshold, Schedule
        >>> s = Subsampler(4, Threshold(low=0.1), Schedule(epochs=2))
        >>> loss = s.record(torch.arange(4), torch.tensor([0.01, 2.0, 0.5, 0.02]))
        >>> s.step()
        >>> s.kept.tolist()
        [False, True, True, False]
    """

    def __init__(
        self,
        n: int,
        policy: Policy,
        schedule: Schedule,
        *,
        seed: int = 0,
        labels: Any = None,
        min_kept: int = 1,
        min_kept_per_class: int = 0,
        score: Score | None = None,
    ) -> None:
        self.n = check_integer("n", n, 1, "It is the length of the training set.")
        check_memory(self.n)
        if not isinstance(policy, Policy):
            raise invalid_type("`policy` must be a Policy.", repr(policy), "Try Threshold(low=0.05).")
        if not isinstance(schedule, Schedule):
            raise invalid_type("`schedule` must be a Schedule.", repr(schedule), "Try Schedule(epochs=9).")
        if score is not None:
            if not isinstance(score, Score):
                raise invalid_type("`score` must be a Score.", repr(score), "Try KLDivergence().")
            policy.check_range(*score.range, repr(score))
        floor = check_integer("min_kept", min_kept, 1)
        if floor > self.n:
            raise invalid(f"`min_kept` must be at most n={self.n}.", floor)
        per_class = check_integer("min_kept_per_class", min_kept_per_class, 0)
        if per_class and labels is None:
            raise invalid("`min_kept_per_class` needs `labels`.", "none", "Pass labels=(n,) class ids.")
        policy.check_labels(labels is not None)
        self.policy, self.schedule, self.score = policy, schedule, score
        self.seed = check_integer("seed", seed, -(2**63))
        ids = check_labels(labels, self.n)
        class_ids = ClassIds() if ids is None else ClassIds.of(ids)
        self._floors = Floors(None if ids is None else class_ids.encode(ids), floor, per_class)
        self._ledger = Ledger(self.n, class_ids)
        self._plan = Plan(0, Bitset(np.ones(self.n, np.bool_)))
        self._batches: EpochBatches | None = None
        self._full_batch: int | None = None
        self._orders = {}
        self._said: set[str] = set()
        self.history = []

    def loader(
        self,
        dataset: Dataset[Any],
        batch_size: int,
        *,
        shuffle: bool = True,
        full_batches: bool = False,
        **options: Any,
    ) -> DataLoader[Any]:
        """Return a DataLoader over the kept samples of each epoch: it yields ``(index, batch)``.

        Make it once; every ``iter()`` gives what is left of the epoch under way. Any number of loaders
        may stand beside each other. The validation loader is your own.

        Args:
            dataset: the training set, map-style, with ``n`` samples.
            batch_size: samples a rank and step.
            shuffle: False keeps dataset order.
            full_batches: top each epoch up to whole global batches with the highest-scoring learned
                samples; where there are none, a last one of less than a quarter joins the one before.
            **options: of ``torch.utils.data.DataLoader``: workers, ``collate_fn``, ``drop_last``, ...

        Raises:
            InvalidType: for a dataset without a length.
            InvalidValue: for a dataset of another length, a ``sampler`` or a ``batch_sampler``.
        """
        loading.check_batch_size(batch_size)
        shuffle, full_batches = check_flag("shuffle", shuffle), check_flag("full_batches", full_batches)
        drop_last = check_flag("drop_last", options.pop("drop_last", False))
        batches = EpochBatches(
            self, batch_size, shuffle=shuffle, drop_last=drop_last, full_batches=full_batches
        )
        made = loading.make_loader(dataset, self.n, batches, self.seed, options)
        if full_batches:
            self._top_up(batch_size)
        self._batches = batches
        return made

    def _top_up(self, batch_size: int) -> None:
        """Round this and every later epoch up to whole batches on all ranks."""
        if self._full_batch not in (None, batch_size):
            found = f"{self._full_batch} and {batch_size}"
            raise invalid("Loaders with full_batches must agree on the batch size.", found)
        self._full_batch = batch_size
        self._replan()

    def record(
        self,
        index: Tensor,
        losses: Tensor,
        scores: Tensor | None = None,
        predicted: Tensor | None = None,
        backward: Tensor | None = None,
        *,
        accumulating: bool = False,
    ) -> Tensor:
        """Store the scores of a batch and return the mean of its losses.

        Neither waits for the device nor talks to other ranks. A row without a target (``NO_SCORE``) is
        left out of the mean; where the policy weighs samples, the mean is weighted.

        Args:
            index: int64 ``(B,)`` on the host, as the loader gives it.
            losses: ``(B,)``, with a graph.
            scores: ``(B,)``; the losses by default.
            predicted: class ids ``(B,)`` as in ``labels``, for reports, and for policies that ask for them.
            backward: bool ``(B,)``, the rows that the step trains on, as a step rule chose them; the
                others are left out of the mean and count as measured only.
            accumulating: the gradients of this batch wait for the optimizer step of a later one. A state that
                is saved meanwhile is that of the last step: the batches since then come again.

        Returns:
            A scalar to call ``backward()`` on.

        Raises:
            InvalidType, InvalidValue: for indices or shapes that cannot be meant; nothing is stored.
            WrongState: after the last epoch.
        """
        began = perf_counter()
        self._assert_running()
        rows = check_index(index, self.n)
        check_batch(rows.size, losses, scores, predicted, backward)
        accumulating = check_flag("accumulating", accumulating)
        try:
            scores = losses if scores is None else scores
            self._ledger.record(rows, scores, predicted, backward, accumulating=accumulating)
        except IndexError:
            check_index(rows, self.n)
            raise
        mean = mean_loss(losses if backward is None else only(losses, backward), self.weights(rows))
        self._ledger.seconds += perf_counter() - began
        return mean

    def remeasure(
        self,
        dataset: Dataset[Any],
        score_batch: ScoreBatch,
        batch_size: int = 512,
        *,
        collate_fn: Callable[[Any], Any] = default_collate,
        **options: Any,
    ) -> int:
        """Score the removed samples that are due by forward passes only. Call it before ``step()``.

        The network keeps its mode; gradients are off, and running statistics and random number
        generators are put back afterwards.

        Args:
            dataset: the training set.
            score_batch: ``(index, batch) -> (B,)`` scores, or a pair of scores and predicted classes.
            batch_size: samples a forward pass.
            collate_fn: as for the training loader.
            **options: of ``torch.utils.data.DataLoader``.

        Returns:
            How many samples this rank measured.
        """
        self._assert_running()
        rank, size = rank_and_size()
        mine = np.array_split(self._due(), size)[rank]
        found = measure(dataset, self.n, mine, score_batch, batch_size, collate_fn, options)
        self._ledger.measure(*found)
        return int(mine.size)

    def _due(self) -> NDArray[np.int64]:
        return due(self._ledger.table, self.policy, self.schedule, self.epoch + 1, self.seed)

    def step(self) -> None:
        """End the epoch: gather the scores of all ranks, decide, re-admit, plan the next.

        Raises:
            WrongState: where nothing was recorded, or all epochs are done.
            InvalidValue: where the first decision would remove every sample; the epoch goes on then.
        """
        self._assert_running()
        ledger, table = self._ledger, self._ledger.table
        ledger.commit()
        self._warn_short()
        ledger.merge()
        if not table.recorded:
            raise wrong_state(
                f"No sample was recorded in {self._shown_epoch()}.",
                "Call `subsampler.record(index, losses)` for each batch before `step()`.",
            )
        if not ledger.measured:
            self._warn_due()
        ledger.settle()
        epoch = self.epoch + 1
        if self.score is not None:
            check_scores(table.scores, self.score)
        elif epoch == self.schedule.warmup and not (table.scores < 0).any():
            self.policy.check_range(0.0, math.inf, "the recorded scores")
        if epoch < self.schedule.epochs:
            reason, plan = plan_epoch(table, self.policy, self.schedule, self._floors_now(), epoch, self.seed)
        else:
            reason, plan = table.reason, Plan(epoch, self._plan.kept)
        past = self._plan
        self.history.append(describe(table, past.epoch, past.readmitted, ledger.seconds, past.notes))
        table.reason, self._plan, self._orders = reason, plan, {}
        ledger.begin(epoch)

    def _shown_epoch(self, later: int = 0) -> str:
        """Return the epoch under way, or one after it, as people count: from 1."""
        return f"epoch {self.epoch + later + 1} of {self.schedule.epochs}"

    def _warn_due(self) -> None:
        """Say once that removed samples wait to be measured and nobody measures them."""
        waiting = 0 if "due" in self._said else self._due().size
        if waiting:
            self._said.add("due")
            every = self.policy.measures_removed
            what = "removed samples" if every else "outliers"
            other = "" if every else ', or set Schedule(outliers="readmit") or "never"'
            warnings.warn(
                f"{waiting:,} {what} are due to be measured before {self._shown_epoch(1)} and stay as "
                "they are. Call `subsampler.remeasure(dataset, score_batch)` "
                f"before `step()`{other}.",
                stacklevel=3,
            )

    def _warn_short(self) -> None:
        """Say once that an epoch ended before all the samples that were planned for it came."""
        if self._batches is None or "short" in self._said:
            return
        planned, recorded = self._batches.planned()[0], self._ledger.recorded
        if 0 < recorded < planned:
            self._said.add("short")
            warnings.warn(
                f"{recorded:,} of {planned:,} samples planned for {self._shown_epoch()} were "
                "recorded; the others keep their last score. If the loop ran to its end, something drops "
                "batches: a limit of the trainer, or Accelerate's `prepare`, which must not split the "
                "loader again.",
                stacklevel=3,
            )

    def _assert_running(self) -> None:
        if self.epoch >= self.schedule.epochs:
            raise wrong_state(f"All {self.schedule.epochs} epochs are done.", "Plan more epochs.")

    def assert_open(self, planned: int) -> None:
        """Raise where all ``planned`` samples of the epoch are recorded, or all epochs are done.

        An epoch that had ended when its state was saved has nothing left: it is iterated once more in vain.
        """
        self._assert_running()
        recorded = self._ledger.recorded + self._ledger.waiting
        if recorded > self._ledger.loaded and recorded >= planned:
            raise wrong_state(
                f"{self._shown_epoch().capitalize()} has ended: all its samples are recorded.",
                "Call `subsampler.step()` before the next epoch.",
            )

    def _settings(self) -> dict[str, Any]:
        """Return what a state must have been made with."""
        floors = self._floors
        return {
            "n": self.n,
            "policy": self.policy,
            "schedule": self.schedule,
            "seed": self.seed,
            "min_kept": floors.kept,
            "min_kept_per_class": floors.per_class,
        }

    def state_dict(self, *, local: bool = False) -> dict[str, Any]:
        """Return everything, as tensors and plain Python values; exact, also inside an epoch.

        Save it with the weights after an optimizer step. Gradients that wait for one are not in it: record
        such batches with ``accumulating=True``, and they come again when the state is loaded.

        Args:
            local: this rank's own part, without talking to the others. By default the call is
                collective inside an epoch: all ranks make it, and each gets the whole.
        """
        local, labels = check_flag("local", local), self._ids()
        return state.pack(self._settings(), labels, self._ledger, self._plan, self.history, local=local)

    def load_state_dict(
        self,
        saved: dict[str, Any],
        *,
        accept: Collection[str] = (),
        origin: NDArray[np.int64] | None = None,
    ) -> None:
        """Take over a state; the order goes on with the samples not yet recorded.

        Args:
            saved: what :meth:`state_dict` returned.
            accept: what may differ from the state: ``"policy"``, ``"schedule"``, ``"seed"``, ``"labels"``,
                ``"n"``, ``"min_kept"``, ``"min_kept_per_class"``. New samples, and those with another label,
                are kept and have no score; another policy begins without the old one's memory.
            origin: int64 ``(n,)``, where each sample stood when the state was saved, -1 for a new one, if
                samples stand elsewhere now; each once. Those that were there keep score and reason. The
                history is taken as it is.

        Raises:
            InvalidValue: where the state belongs to another n, policy, schedule, seed or to other labels,
                and that is not accepted; names both. Nothing is changed then.
            WrongState: for another n or labels in a state from the middle of an epoch.
        """
        ledger = Ledger(self.n, self.class_ids)
        labels = self._ids()
        self._plan, self.history = state.restore(saved, self._settings(), labels, ledger, accept, origin)
        self._ledger, self._orders = ledger, {}
        if accept or origin is not None:
            self._replan()
