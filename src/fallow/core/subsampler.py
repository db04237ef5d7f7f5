"""The subsampler: it records scores, asks the policy, and plans the samples of each epoch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import asdict, replace
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from ..arrays.bitset import Bitset
from ..arrays.distributed import Ranks, data_group, rank_and_size
from ..errors import check_flag, check_integer, invalid, invalid_type, wrong_state
from ..policies.base import Policy, Reason
from ..policies.watch import Watch
from ..scores.base import Score
from ..terminal.streams import complain
from . import loading, state
from .batch_checks import (
    check_batch,
    check_index,
    check_labels,
    check_mean,
    check_scores,
    count_distinct,
    masked_losses,
    mean_loss,
    scale_gradient,
)
from .class_ids import ClassIds
from .described import same
from .epoch import Ending, Epoch, Observer
from .epoch_scores import EpochScores
from .history import EpochRecord, describe
from .kept_steps import KeptSteps
from .loading import EpochBatches
from .memory import check_memory
from .order import Order
from .plan import Floors, Plan, due, plan_epoch, planned_counts
from .remeasure import ScoreBatch, measure
from .schedule import Schedule
from .table import PREDICTED, Table
from .watching import Findings, findings, watch


class Subsampler:
    """Leaves learned samples out of the following epochs, and brings them back to measure them again.

    Args:
        n: the number of samples in the training set.
        policy: decides which samples to leave out; see :mod:`fallow.policies`.
        schedule: decides when samples are left out and when they come back.
        seed: the seed of all draws and orders.
        labels: class ids ``(n,)``, any integers, for class floors, reports, and policies that read them.
        min_kept: the minimum number of samples to keep.
        min_kept_per_class: the minimum number per class (smaller classes are kept whole); needs ``labels``.
        score: the score that will be recorded. Thresholds are checked against its range.

    Attributes:
        n, policy, schedule, seed, score: the arguments. A schedule without re-admission takes the turns that
            the policy asks for, see :class:`fallow.ErrorMass`.
        history: an :class:`EpochRecord` for each finished epoch.
        under_way: the present :class:`~fallow.core.epoch.Epoch`, for loaders and integrations.
        announce: whether the first rank prints the :meth:`findings` of :class:`fallow.Watch` after the last
            epoch, to the standard error. It is not part of the state.

    Raises:
        InvalidValue, InvalidType: if an argument is invalid.

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
        # Before any array of this length is made.
        check_memory(self.n)
        if not isinstance(policy, Policy):
            raise invalid_type("`policy` must be a Policy.", repr(policy), "Try ErrorMass().")
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
        self.policy, self.schedule, self.score = policy, schedule.or_turns(policy.returns_every), score
        self.seed = check_integer("seed", seed, -(2**63))
        ids = check_labels(labels, self.n)
        class_ids = ClassIds() if ids is None else ClassIds.of(ids)
        floors = Floors(None if ids is None else class_ids.encode(ids), floor, per_class)
        everyone = Plan(0, Bitset(np.ones(self.n, np.bool_)), full=self.n)
        scores = EpochScores(self.n, class_ids, Ranks())
        self.under_way = Epoch(everyone, scores, floors, self.seed, schedule.epochs)
        self.history: list[EpochRecord] = []
        self.announce = True
        # The steps that the policy which is only watched would keep.
        self._would_keep: KeptSteps | None = None
        self._warned: set[str] = set()

    def __repr__(self) -> str:
        progress = f"epoch={self.epoch}, kept={len(self.under_way.plan.kept)}"
        return f"Subsampler({self.n}, {self.policy!r}, {self.schedule!r}, seed={self.seed}: {progress})"

    def loader(
        self,
        dataset: Dataset[Any],
        batch_size: int,
        *,
        shuffle: bool = True,
        full_batches: bool = False,
        kept_steps: bool | None = None,
        accumulate: int = 1,
        group: Any = None,
        stateful: bool = False,
        **options: Any,
    ) -> DataLoader[Any]:
        """Return a DataLoader over the kept samples of each epoch: it yields ``(index, batch)``.

        Make it once; each ``iter()`` yields what remains of the present epoch. Several loaders can be used
        side by side. Use your own loader for validation.

        Args:
            dataset: the training set, map-style, with ``n`` samples.
            batch_size: the number of samples per rank and step.
            shuffle: if False, samples come in dataset order.
            full_batches: fill each epoch up to whole global batches with the highest-scoring learned
                samples. If there are none, a last batch of less than a quarter joins the one before.
            kept_steps: make as many steps as full training in each epoch, and thin the batches by what is
                left out. The gradient of :meth:`record`'s mean is then scaled so that a sample left out as
                learned counts as one without a gradient. ``full_batches`` has no effect then, and
                ``drop_last`` is refused. By default the policy decides: :class:`fallow.ErrorMass` keeps
                steps.
            accumulate: with ``kept_steps``, the number of batches whose gradients add up to a step of full
                training; a thin epoch needs :attr:`accumulate` of them, as whole as possible.
            group: the ranks that get different samples, if these are not all ranks: a process group, or a
                ``DeviceMesh`` with a dimension named ``dp`` or ``data``. Ranks that hold parts of one
                replica, as under tensor or pipeline parallelism, then get the same samples.
            stateful: return torchdata's ``StatefulDataLoader``, whose ``state_dict`` is that of the
                subsampler: save one of the two.
            **options: options of ``torch.utils.data.DataLoader``: workers, ``collate_fn``, ``drop_last``, ...

        Raises:
            InvalidType: if the dataset has no length, or ``group`` is no group.
            InvalidValue: if the dataset has another length, a ``sampler`` or ``batch_sampler`` is given, or
                another loader has another group.
        """
        loading.check_batch_size(batch_size)
        group = self._group(group)
        shuffle, full_batches = check_flag("shuffle", shuffle), check_flag("full_batches", full_batches)
        drop_last = check_flag("drop_last", options.pop("drop_last", False))
        steps = self._kept_steps(batch_size, kept_steps, accumulate)
        if drop_last and steps is not None:
            step = "Leave it out, as no batch is much smaller than the others then; or pass kept_steps=False."
            raise invalid("`drop_last` goes with steps that are dropped.", "kept_steps", step)
        batches = EpochBatches(
            self.under_way,
            batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            full_batches=full_batches,
            kept_steps=steps,
        )
        state = (self.state_dict, self.load_state_dict) if check_flag("stateful", stateful) else None
        loader = loading.make_loader(dataset, self.n, batches, self.seed, options, state)
        # Only now: a loader that is refused changes nothing.
        self._ranks.group = group
        self.under_way.drops_steps = steps is None
        if isinstance(self.policy, Watch) and kept_steps is not False:
            self._would_keep = KeptSteps(batch_size, accumulate, self._ranks)
        if steps is not None:
            self.under_way.keep_steps(steps)
        elif full_batches:
            self.under_way.round_up(batch_size)
        self.under_way.planned, self.under_way.share_of_batch = batches.planned, batches.share
        self.under_way.reached = batches.reached if steps is not None else None
        return loader

    def _group(self, group: Any) -> Any:
        """Return the process group of a new loader; without one, that of the loaders before."""
        if group is None:
            return self._ranks.group
        group, before = data_group(group), self._ranks.group
        if before not in (None, group) or (before is None and self.under_way.planned is not None):
            step = "Pass the same group to all of them."
            raise invalid("Loaders must agree on the group.", "two groups", step)
        return group

    def _kept_steps(self, batch_size: int, kept_steps: bool | None, accumulate: int) -> KeptSteps | None:
        check_integer("accumulate", accumulate, 1)
        keeps = self.policy.keeps_steps if kept_steps is None else check_flag("kept_steps", kept_steps)
        disagree = "Loaders must agree on kept_steps.", "one with and one without"
        if keeps:
            if self.under_way.drops_steps:
                raise invalid(*disagree, "Make all loaders with kept_steps=False, or none.")
            return KeptSteps(batch_size, accumulate, self._ranks)
        if accumulate > 1:
            step = "Pass kept_steps=True, or leave it out."
            raise invalid("`accumulate` goes with kept_steps.", accumulate, step)
        if self.under_way.kept_steps is not None:
            raise invalid(*disagree, "Make all loaders with kept_steps=True, or none.")
        return None

    def record(
        self,
        index: Tensor,
        losses: Tensor,
        scores: Tensor | None = None,
        predicted: Tensor | None = None,
        backward: Tensor | None = None,
        *,
        loss: Tensor | None = None,
        accumulating: bool = False,
    ) -> Tensor:
        """Store the scores of a batch and return the mean of its losses.

        The call neither waits for the device nor communicates with other ranks. Rows without a target
        (``NO_SCORE``) are left out of the mean; if the policy weights samples, the mean is weighted. A sample
        may have several rows, such as two views: its score is their mean.

        Under kept steps the gradient of the mean is scaled, so that the batch is a part of a whole one. If a
        batch is recorded in parts, add up their means, and do not divide them. If steps are dropped, and
        ranks have different numbers of samples of a batch, it makes up for that.

        Args:
            index: int64 ``(B,)`` on the host, as the loader yields it.
            losses: ``(B,)``, with a graph unless ``loss`` has it.
            scores: ``(B,)``; the losses by default.
            predicted: class ids ``(B,)`` as in ``labels``, for reports, and for policies that read them.
            backward: bool ``(B,)``, the rows that a step rule chose to train on. The others are left out of
                the mean and count as measured only.
            loss: the mean loss of the batch ``()``, with a graph, if it is computed elsewhere, as by
                :func:`fallow.linear_kl`. It is returned in place of the mean of ``losses``.
            accumulating: whether the gradients of this batch wait for the optimizer step of a later one. A
                state saved meanwhile is that of the last step: the batches since are repeated after loading.

        Returns:
            A scalar to call ``backward()`` on.

        Raises:
            InvalidType, InvalidValue: if indices or shapes are invalid; nothing is stored.
            WrongState: if all epochs are done, or batches were skipped after a resume.
        """
        began = perf_counter()
        self.under_way.check_running()
        rows = check_index(index, self.n)
        check_batch(rows.size, losses, scores, predicted, backward)
        if loss is not None:
            check_mean(loss, weighs=self.under_way.plan.weights is not None)
        accumulating = check_flag("accumulating", accumulating)
        self.under_way.check_follows(rows)
        distinct = count_distinct(rows)
        factor = self.under_way.gradient_factor(distinct)
        try:
            scores = losses if scores is None else scores
            self.under_way.scores.record(
                rows, scores, predicted, backward, distinct, accumulating=accumulating
            )
        except IndexError:
            check_index(rows, self.n)  # raises a clear error: the index came from another subsampler's loader
            raise
        mean = loss
        if mean is None:
            trained = losses if backward is None else masked_losses(losses, backward)
            mean = mean_loss(trained, self.weights(rows))
        scale_gradient(mean, factor)
        self.under_way.scores.seconds += perf_counter() - began
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
        """Score the removed samples that are due, by forward passes only. Call it before ``step()``.

        The network keeps its mode. Gradients are off, and running statistics and random number generators are
        restored afterwards.

        Args:
            dataset: the training set.
            score_batch: ``(index, batch) -> (B,)`` scores, or a pair of scores and predicted classes.
            batch_size: the number of samples per forward pass.
            collate_fn: as for the training loader.
            **options: options of ``torch.utils.data.DataLoader``.

        Returns:
            The number of samples that this rank measured.
        """
        self.under_way.check_running()
        # All ranks know the same reasons, so they agree on the parts without communication.
        index = np.array_split(self._due(), self._ranks.size)[self._ranks.rank]
        scored, predicted = measure(dataset, self.n, index, score_batch, batch_size, collate_fn, options)
        self.under_way.scores.measure(scored, predicted)
        return int(index.size)

    def _due(self) -> NDArray[np.int64]:
        return due(self._table, self.policy, self._shortened, self.epoch + 1, self.seed)

    def step(self) -> None:
        """End the epoch: gather the scores of all ranks, decide, re-admit, plan the next epoch.

        Raises:
            WrongState: if nothing was recorded, also since a resume, or all epochs are done.
            InvalidValue: if the first decision would remove every sample; the epoch is not ended then.
        """
        ending = self.under_way
        ending.check_running()
        ending.check_followed()
        scores, table = ending.scores, ending.scores.table
        scores.commit()
        self._warn_short()
        scores.merge()
        if not table.recorded:
            raise wrong_state(
                f"No sample was recorded in {ending.name}.",
                "Call `subsampler.record(index, losses)` for each batch before `step()`.",
            )
        if not scores.measured:
            self._warn_due()
        scores.average_repeats()
        epoch, floors = self.epoch + 1, ending.rounded_floors()
        largest = math.inf if self.score is None else self.score.range[1]
        if self.score is not None:
            check_scores(table.scores, self.score)
        # Without a declared score the recorded ones must do; scores below 0 are of an unknown kind.
        elif epoch == self.schedule.warmup and not (table.scores < 0).any():
            self.policy.check_range(0.0, math.inf, "the recorded scores")
        if isinstance(self.policy, Watch):
            if self._would_keep is not None and ending.kept_steps is None:
                would = ending.thinned_floors(self._would_keep)
            else:
                would = floors
            watch(table, self.policy, self._shortened, would, epoch, self.seed, largest)
        if epoch < self.epochs:
            reason, plan = plan_epoch(table, self.policy, self._shortened, floors, epoch, self.seed, largest)
        else:
            reason, plan = table.reason, Plan(epoch, ending.plan.kept, full=ending.plan.full)
        past = ending.plan
        # Before `table.reason` is replaced: the record is that of the epoch that ends.
        self.history.append(describe(table, past.epoch, past.readmitted, scores.seconds, past.notes))
        table.reason = reason
        ending.begin(plan)
        # Of all ranks, not of the loader's group: each part of a replica has a first one.
        first = rank_and_size()[0] == 0
        if isinstance(self.policy, Watch) and self.announce and epoch == self.epochs and first:
            with suppress(OSError):  # a closed standard error must not end a training
                complain(str(self.findings()))
        for observer in self.under_way.observers:
            observer.epoch_ended()

    def observe(self, observer: Observer) -> None:
        """Tell an object when an epoch begins and when it has ended, such as a :class:`fallow.Recorder`."""
        self.under_way.observers.append(observer)

    def findings(self) -> Findings:
        """Return what the finished epochs showed of the data, under the policy :class:`fallow.Watch`.

        ``print`` it to read it; it holds the rows of the samples as well.

        Raises:
            WrongState: if another policy is in use, or no epoch is finished.
        """
        if not isinstance(self.policy, Watch):
            found = f"No findings are kept under {self.policy!r}."
            raise wrong_state(found, "Train with the policy fallow.Watch().")
        if not self.history:
            raise wrong_state("No epoch is finished yet.", "Call `findings()` after `step()`.")
        return findings(self._table, self.policy, self.history)

    def _warn_due(self) -> None:
        """Warn once if removed samples are due and were not measured."""
        waiting = 0 if "due" in self._warned else self._due().size
        if waiting:
            self._warned.add("due")
            every = self.policy.measures_removed
            kind = "removed samples" if every else "outliers"
            alternative = "" if every else ', or set Schedule(outliers="readmit") or "never"'
            coming = self.under_way.name_of(self.epoch + 1)
            warnings.warn(
                f"{waiting:,} {kind} are due to be measured before {coming} and stay as they are. "
                "Call `subsampler.remeasure(dataset, score_batch)` "
                f"before `step()`{alternative}.",
                stacklevel=3,
            )

    def _warn_short(self) -> None:
        """Warn once if an epoch ends before all its planned samples were recorded."""
        if self.under_way.planned is None or "short" in self._warned:
            return
        planned, recorded = self.under_way.planned()[0], self.under_way.scores.recorded
        if 0 < recorded < planned:
            self._warned.add("short")
            warnings.warn(
                f"{recorded:,} of {planned:,} samples planned for {self.under_way.name} were "
                "recorded; the others keep their last score. If the loop ran to its end, something drops "
                "batches: a limit of the trainer, or Accelerate's `prepare`, which must not split this "
                "loader again.",
                stacklevel=3,
            )

    def remove(self, index: Any) -> None:
        """Leave samples out until :meth:`keep`; takes effect in this epoch if nothing is recorded yet."""
        table, floors = self._table, self.under_way.floors
        # A copy, so that a removal that is refused changes nothing.
        reason = table.reason.copy()
        reason[check_index(index, self.n)] = Reason.BY_HAND
        left = int(np.count_nonzero(reason == Reason.KEPT))
        if left < floors.kept:
            raise invalid(f"At least min_kept={floors.kept} samples must stay.", left, "Remove fewer.")
        table.reason = reason
        self.under_way.replan()

    def keep(self, index: Any) -> None:
        """Give samples back, regardless of the reason; the policy may remove them again."""
        self._table.reason[check_index(index, self.n)] = Reason.KEPT
        self.under_way.replan()

    def renew(self, index: Any) -> None:
        """Reset samples whose label or content was corrected: kept, without a score or a past.

        Samples removed by hand stay out. Call it between epochs.

        Raises:
            WrongState: if the epoch is under way.
        """
        rows = check_index(index, self.n)
        self.under_way.check_untouched("renew")
        self._table.forget(rows)
        self.under_way.replan()

    def extend(self, n: int, labels: Any = None) -> None:
        """Add ``n`` new samples at the end: kept, without a score. Call it between epochs.

        Args:
            n: the number of new samples.
            labels: their class ids ``(n,)``, if the subsampler has labels.

        Raises:
            WrongState: if the epoch is under way.
        """
        check_memory(self.n + check_integer("n", n, 1))
        self.under_way.check_untouched("extend")
        self._label(n, labels)
        self.under_way.scores.grow(n)
        self.under_way.replan()

    def join(self, n: int, labels: Any = None) -> None:
        """Add ``n`` samples that this epoch has trained on, before they are recorded; see :meth:`extend`.

        It is for samples that have no place in an order, as those of a stream.
        """
        check_memory(self.n + check_integer("n", n, 1))
        self._label(n, labels)
        self.under_way.join(n)

    def _label(self, n: int, labels: Any) -> None:
        """Take the labels of ``n`` new samples, and count them."""
        epoch = self.under_way
        old = epoch.floors.labels
        if (old is None) != (labels is None):
            need = "no `labels`" if old is None else "`labels` for the new samples"
            raise invalid(f"extend() needs {need}, as at the start.", repr(labels))
        if old is not None:
            new = check_labels(labels, n)
            assert new is not None
            # By ids, as the new ones may change how classes are numbered.
            ids = np.concatenate([epoch.class_ids.decode(old), new])
            epoch.scores.renumber(ClassIds.of(ids))
            # After renumber(), which replaces `epoch.class_ids`.
            epoch.floors = replace(epoch.floors, labels=epoch.class_ids.encode(ids))
        if epoch.plan.weights is not None:
            weights = np.concatenate([epoch.plan.weights, np.ones(n, np.float32)])
            epoch.plan = replace(epoch.plan, weights=weights)
        self.n += n

    @property
    def epoch(self) -> int:
        """The number of the present epoch, from 0; :attr:`epochs` when all are done."""
        return self.under_way.plan.epoch

    @property
    def epochs(self) -> int:
        """The number of epochs of the training: ``schedule.epochs``, or fewer after :meth:`finish`."""
        return self.under_way.epochs

    @property
    def reason(self) -> Tensor:
        """The :class:`Reason` for leaving out each sample: uint8 ``(N,)``; 0 is kept."""
        return torch.from_numpy(self._table.reason.copy())

    @property
    def kept(self) -> Tensor:
        """The samples kept: bool ``(N,)``."""
        return torch.from_numpy(self._table.reason == Reason.KEPT)

    @property
    def removed(self) -> Tensor:
        """The samples left out: bool ``(N,)``."""
        return ~self.kept

    @property
    def scores(self) -> Tensor:
        """The last score of each sample: float32 ``(N,)``, NaN if it has none.

        Inside an epoch this includes what this rank has recorded so far, and waits for the device.
        """
        self.under_way.scores.flush()
        return torch.from_numpy(self._table.scores.copy())

    @property
    def last_scored(self) -> Tensor:
        """The epoch of each sample's last score: int64 ``(N,)``, -1 for never."""
        self.under_way.scores.flush()
        return torch.from_numpy(self._table.scored_in.astype(np.int64) - 1)

    @property
    def predicted(self) -> Tensor:
        """The class predicted on the last visit of each sample: int64 ``(N,)``, -1 if none was recorded.

        If ids are renumbered (see :class:`ClassIds`), classes that no sample has are -1 as well.
        """
        self.under_way.scores.flush()
        column = self._table.columns.get(PREDICTED, np.zeros(self.n, np.int32))
        return torch.from_numpy(self.under_way.class_ids.decode(column - 1))

    @property
    def labels(self) -> Tensor | None:
        """The class ids of the samples: int64 ``(N,)``, or None."""
        labels = self.under_way.floors.labels
        return None if labels is None else torch.from_numpy(self.under_way.class_ids.decode(labels))

    @property
    def min_kept(self) -> int:
        """The minimum number of samples to keep."""
        return self.under_way.floors.kept

    @property
    def min_kept_per_class(self) -> int:
        """The minimum number of samples to keep per class."""
        return self.under_way.floors.per_class

    @property
    def record_seconds(self) -> float:
        """The time spent inside ``record`` so far, in seconds."""
        return sum(epoch.record_seconds for epoch in self.history) + self.under_way.scores.seconds

    def order(self, epoch: int | None = None, *, shuffle: bool = True) -> Order:
        """Return the order of an epoch: ``len()``, and ``[a:b]`` gives int64 positions a to b.

        Args:
            epoch: by default the present epoch, without the samples used before a resume; or a past
                epoch, with the samples that it used.
            shuffle: if False, the order is ascending.

        Raises:
            InvalidValue: if the epoch is not planned yet.
        """
        check_flag("shuffle", shuffle)
        if epoch is None or epoch == self.epoch:
            return self.under_way.order(shuffle=shuffle)
        if not 0 <= epoch < self.epoch:
            step = "Epochs are numbered from 0, as `subsampler.epoch` is; later ones are not planned yet."
            raise invalid(f"`epoch` must be in [0, {self.epoch}].", epoch, step)
        return Order(Bitset(self.history[epoch].used.numpy()), self.seed, epoch, shuffle=shuffle)

    def weights(self, index: Tensor | NDArray[np.int64]) -> Tensor | None:
        """Return the loss weights of a batch, float32 ``(B,)`` on the host, or None if all are 1."""
        if self.under_way.plan.weights is None:
            return None
        return torch.from_numpy(self.under_way.plan.weights[np.asarray(index)])

    @property
    def progress(self) -> float:
        """The share of the training that is done: 0 before the first batch, 1 after the last step.

        ``(epoch + recorded / planned) / epochs``, unless :meth:`finish` was called. It is the same on all
        ranks after the same number of batches.
        """
        return self.under_way.progress

    def finish(self, epochs: int = 1) -> None:
        """End the training early: this epoch and the next ``epochs - 1`` are its last ones.

        :attr:`progress` runs evenly from where it is to 1, so that a learning rate that follows it comes down
        as it would have at the end. A full tail is that of the shorter training. Call it between epochs, and
        loop ``while subsampler.epoch < subsampler.epochs``.

        Raises:
            WrongState: if the epoch is under way, or all epochs are done.
        """
        check_integer("epochs", epochs, 1)
        self.under_way.check_running()
        self.under_way.check_untouched("finish")
        self.under_way.finish(epochs)

    @property
    def accumulate(self) -> int:
        """The number of batches to an optimizer step in this epoch, under kept steps; else 1.

        Divide each loss by it, and make a step after as many batches.
        """
        return self.under_way.accumulate

    def total_steps(self, batch_size: int, *, drop_last: bool = False, accumulate: int = 1) -> int:
        """Return the number of optimizer steps in the whole training, if the policy or kept steps fix it.

        Args:
            batch_size: the number of samples per rank and batch, as given to the loader.
            drop_last: as given to the loader.
            accumulate: the number of batches to a step, if steps are dropped; the last step of an epoch may
                have fewer. A loader that keeps steps knows it.

        Raises:
            InvalidValue: if a loader that keeps steps has another batch size.
            WrongState: if the number of kept samples depends on scores or on removals by hand.
        """
        loading.check_batch_size(batch_size)
        check_flag("drop_last", drop_last)
        check_integer("accumulate", accumulate, 1)
        if (self._table.reason == Reason.BY_HAND).any():
            raise wrong_state(
                "The number of steps is not fixed: samples were removed by hand.",
                "Drive the learning rate with `subsampler.progress`.",
            )
        if (steps := self.under_way.kept_steps) is not None:
            if batch_size != steps.batch_size:
                rule = "`batch_size` must be that of the loader."
                raise invalid(rule, f"{batch_size} and {steps.batch_size}", "Pass that of the loader.")
            past = sum(steps.steps(record.n) for record in self.history)
            return past + steps.steps(self.n) * (self.epochs - len(self.history))
        counts = planned_counts(self.policy, self._shortened, self.under_way.rounded_floors(), self.n)
        full = self.under_way.whole_batch is not None
        batches = (
            loading.count_batches(kept, batch_size, self._ranks.size, drop_last=drop_last, full_batches=full)
            for kept in counts
        )
        return sum(-(-count // accumulate) for count in batches)

    @property
    def _shortened(self) -> Schedule:
        """The schedule of a training that ends early, if it does."""
        return self.schedule.until(self.epochs)

    @property
    def _table(self) -> Table:
        return self.under_way.scores.table

    @property
    def _ranks(self) -> Ranks:
        return self.under_way.scores.ranks

    def _ids(self) -> NDArray[Any] | None:
        labels, class_ids = self.under_way.floors.labels, self.under_way.class_ids
        return class_ids.decode(labels) if labels is not None and class_ids.renumbered else labels

    def _settings(self) -> dict[str, Any]:
        floors = self.under_way.floors
        return {
            "n": self.n,
            "policy": self.policy,
            "schedule": self.schedule,
            "seed": self.seed,
            "min_kept": floors.kept,
            "min_kept_per_class": floors.per_class,
        }

    def state_dict(self, *, local: bool = False) -> dict[str, Any]:
        """Return the whole state as tensors and plain Python values; exact, also inside an epoch.

        Save it with the weights, after an optimizer step. Accumulated gradients are not part of it: record
        their batches with ``accumulating=True``, and they are repeated after loading.

        Args:
            local: return this rank's own part without communication. By default the call is collective
                inside an epoch: all ranks must make it, and each gets the whole state.

        Raises:
            WrongState: if the first rank has waited for the others for 20 seconds.
        """
        check_flag("local", local)
        epoch = self.under_way
        packed = state.pack(
            self._settings(), self._ids(), epoch.scores, epoch.plan, self.history, local=local
        )
        return state.sealed(packed if epoch.ending is None else packed | {"ending": asdict(epoch.ending)})

    def load_state_dict(
        self,
        saved: dict[str, Any],
        *,
        accept: Collection[str] = (),
        origin: NDArray[np.int64] | None = None,
    ) -> None:
        """Load a state; the order continues with the samples not yet recorded.

        Args:
            saved: a result of :meth:`state_dict`.
            accept: settings that may differ from the state: ``"policy"``, ``"schedule"``, ``"seed"``,
                ``"labels"``, ``"n"``, ``"min_kept"``, ``"min_kept_per_class"``. New samples, and those with
                another label, are kept and have no score; another policy starts without the old one's memory.
            origin: int64 ``(n,)``, if samples have moved since the state was saved: the former position of
                each, every position at most once, -1 for a new sample. Old samples keep score and reason.
                The history is not renumbered.

        Raises:
            InvalidValue: if n, policy, schedule, seed or labels of the state differ and are not accepted.
                Nothing is changed then.
            WrongState: if n or labels differ in a state from the middle of an epoch.
        """
        saved = state.opened(saved)
        # A new object: if the state is refused, the present one is unchanged.
        scores = EpochScores(self.n, self.under_way.class_ids, self._ranks)
        plan, history = state.restore(saved, self._settings(), self._ids(), scores, accept, origin)
        self.history = history
        same_end = "ending" in saved and same(saved["settings"]["schedule"], self.schedule)
        self.under_way.resume(plan, scores, Ending(**saved["ending"]) if same_end else None)
        # Only changed settings or samples can make the saved plan differ from the reasons.
        if accept or origin is not None:
            self.under_way.replan()
