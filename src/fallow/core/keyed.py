"""A subsampler for streams, whose samples have keys instead of positions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arrays.distributed import Ranks, gather_rows, meet
from ..arrays.key_store import Digests, KeyStore, digest, digests, unique
from ..errors import InvalidValue, check_integer, invalid, invalid_type, wrong_state
from ..policies.base import Policy, Reason
from ..scores.base import Score
from .batch_checks import check_batch, check_labels, mean_loss
from .history import EpochRecord
from .plan import due
from .schedule import Schedule
from .subsampler import Subsampler
from .watching import Findings

_NONE = -(1 << 63)
"""Stands for a class that was not given."""


class KeyedSubsampler:
    """Leaves samples of a stream out of the following epochs; a sample is known by its key.

    A key is a text or a whole number that names the same sample in every epoch, such as a file name. Samples
    need not be counted beforehand: those of the first epoch are the training set, and later ones join it in
    the epoch that shows them first. Put :attr:`keeps` into the stream as a filter, before samples are
    decoded.

    Each sample takes 20 bytes for its key, beside its row in the table. Texts are known by 128 bits of their
    BLAKE2 digest.

    On several ranks each reads its own part of the stream, as the stream's library divides it. Samples that
    are due to be measured again pass the filter; :meth:`record` leaves them out of the loss.

    Args:
        policy, schedule, seed, min_kept, min_kept_per_class, score: as for :class:`fallow.Subsampler`. A
            floor per class needs ``labels`` in :meth:`record`.

    Attributes:
        keeps: a function from a key to whether its sample is in this epoch. Workers and processes that get it
            when an epoch begins know that epoch.

    Example:
        >>> import fallow, torch
        >>> subsampler = fallow.KeyedSubsampler(fallow.Threshold(low=0.1), fallow.Schedule(epochs=2))
        >>> loss = subsampler.record(["cat.png", "dog.png"], torch.tensor([0.01, 2.0]))
        >>> subsampler.step()
        >>> [subsampler.keeps(key) for key in ("cat.png", "dog.png", "new.png")]
        [False, True, True]
    """

    def __init__(
        self,
        policy: Policy,
        schedule: Schedule,
        *,
        seed: int = 0,
        min_kept: int = 1,
        min_kept_per_class: int = 0,
        score: Score | None = None,
    ) -> None:
        self._arguments: dict[str, Any] = {
            "policy": policy,
            "schedule": schedule,
            "seed": seed,
            "score": score,
        }
        self._floors: dict[str, Any] = {"min_kept": min_kept, "min_kept_per_class": min_kept_per_class}
        # Checks the arguments, as if there were labels: they come with the samples.
        Subsampler(1, **self._arguments, labels=[0], min_kept_per_class=min_kept_per_class)
        check_integer("min_kept", min_kept, 1)
        self._keys, self._ranks = KeyStore(), Ranks()
        self._inner: Subsampler | None = None
        self._new: list[_New] = []
        self._begin()
        self._told = False
        self.keeps = KeptKeys(self)

    def __repr__(self) -> str:
        inner, (policy, schedule) = self._inner, (self._arguments[name] for name in ("policy", "schedule"))
        kept = len(inner.under_way.plan.kept) if inner else 0
        return f"KeyedSubsampler({policy!r}, {schedule!r}: {len(self):,} keys, {kept:,} kept)"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "keeps"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.keeps = KeptKeys(self)

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def epoch(self) -> int:
        """The number of the present epoch, from 0; :attr:`epochs` when all are done."""
        return 0 if self._inner is None else self._inner.epoch

    @property
    def epochs(self) -> int:
        """The number of epochs of the training."""
        schedule: Schedule = self._arguments["schedule"]
        return schedule.epochs if self._inner is None else self._inner.epochs

    @property
    def history(self) -> list[EpochRecord]:
        """An :class:`EpochRecord` for each finished epoch; it counts samples by their rows."""
        return [] if self._inner is None else self._inner.history

    @property
    def progress(self) -> float:
        """The share of the training that is done; 0 in the first epoch, whose length is not known."""
        inner = self._inner
        if inner is None or inner.epoch >= inner.epochs:
            return 0.0 if inner is None else 1.0
        scores, kept = inner.under_way.scores, len(inner.under_way.plan.kept)
        before = 0 if scores.resumed is None else int(np.count_nonzero(scores.resumed))
        done = before + scores.recorded * scores.ranks.size
        return (inner.epoch + min(1.0, done / (kept + int(np.count_nonzero(self._due))))) / inner.epochs

    def rows(self, keys: Any) -> NDArray[np.int64]:
        """Return the rows of keys in history, scores and reason, -1 for unknown ones: ``(K,)``.

        Keys have rows from the end of the epoch that showed them first.
        """
        return self._keys.find(digests(keys))

    @property
    def scores(self) -> Tensor:
        """The last score of each row: float32 ``(N,)``."""
        return torch.zeros(0) if self._inner is None else self._inner.scores

    @property
    def reason(self) -> Tensor:
        """The :class:`Reason` for leaving out each row: uint8 ``(N,)``; 0 is kept."""
        return torch.zeros(0, dtype=torch.uint8) if self._inner is None else self._inner.reason

    def findings(self) -> Findings:
        """Return what the finished epochs showed, in rows; see :meth:`fallow.Subsampler.findings`."""
        if self._inner is None:
            raise wrong_state("No epoch is finished yet.", "Call `findings()` after `step()`.")
        return self._inner.findings()

    def record(
        self,
        keys: Any,
        losses: Tensor,
        scores: Tensor | None = None,
        predicted: Tensor | None = None,
        labels: Any = None,
    ) -> Tensor:
        """Store the scores of a batch and return the mean of its losses.

        Args:
            keys: of the samples, ``(B,)``.
            losses: ``(B,)``, with a graph.
            scores: ``(B,)``; the losses by default.
            predicted: class ids ``(B,)``.
            labels: class ids ``(B,)``, if there are any; in every batch, or in none.

        Returns:
            A scalar to call ``backward()`` on.

        Raises:
            InvalidType, InvalidValue: if keys or shapes are invalid; nothing is stored.
            WrongState: if a sample is left out of this epoch, or all epochs are done.
        """
        found = digests(keys)
        check_batch(len(found), losses, scores, predicted, None)
        classes = check_labels(labels, len(found))
        self._check_labels(classes)
        if self._inner is not None:
            self._inner.under_way.check_running()
        rows = self._keys.find(found)
        known = rows >= 0
        self._check_kept(found, rows, keys)
        scores = (losses if scores is None else scores).detach()
        mean = None
        if known.any():
            mean = self._record_known(rows, known, losses, scores, predicted)
        if not known.all():
            new = torch.from_numpy(np.flatnonzero(~known)).to(scores.device)
            guesses = torch.full((len(new),), _NONE, device=scores.device)
            if predicted is not None:
                guesses = predicted.detach()[new.to(predicted.device)].to(scores.device, torch.int64)
            own = np.full(len(new), _NONE) if classes is None else classes[~known].astype(np.int64)
            self._new.append(_New(found[~known], scores[new].float(), guesses, own))
        return mean_loss(losses, None) if mean is None else mean

    def _record_known(
        self,
        rows: NDArray[np.int64],
        known: NDArray[np.bool_],
        losses: Tensor,
        scores: Tensor,
        predicted: Tensor | None,
    ) -> Tensor:
        inner = self._inner
        assert inner is not None
        of_known = rows[known]
        at = torch.from_numpy(np.flatnonzero(known)).to(losses.device)
        trains = np.ones(rows.size, np.bool_)
        trains[known] = ~self._due[of_known]
        inner.record(
            torch.from_numpy(of_known),
            losses.detach()[at],
            scores[at.to(scores.device)],
            None if predicted is None else predicted[at.to(predicted.device)],
            None if trains.all() else torch.from_numpy(trains[known]).to(losses.device),
        )
        if not trains.any():
            return losses.nan_to_num(0.0, 0.0, 0.0).sum() * 0.0
        own = inner.weights(of_known)
        weights = None
        if own is not None:
            weights = torch.ones(rows.size)
            weights[torch.from_numpy(known)] = own
            weights = weights[torch.from_numpy(trains)]
        if not trains.all():
            losses = losses[torch.from_numpy(np.flatnonzero(trains)).to(losses.device)]
        return mean_loss(losses, weights)

    def _check_labels(self, labels: NDArray[Any] | None) -> None:
        policy: Policy = self._arguments["policy"]
        policy.check_labels(labels is not None)
        if self._floors["min_kept_per_class"] and labels is None:
            raise invalid("`min_kept_per_class` needs `labels`.", "none", "Pass labels= to record.")
        before = bool((self._new[0].labels != _NONE).all()) if self._new else None
        if self._inner is not None:
            before = self._inner.under_way.floors.labels is not None
        if before is not None and before != (labels is not None):
            raise _labels_differ("none" if labels is None else "some after none")

    def _check_kept(self, found: Digests, rows: NDArray[np.int64], keys: Any) -> None:
        """Raise if a sample is left out of this epoch, or was recorded before it was resumed."""
        out = self._before.find(found) >= 0
        known = rows >= 0
        if known.any():
            out[known] |= ~self._lets_through(rows[known])
        if not out.any():
            return
        keys = keys.tolist() if hasattr(keys, "tolist") else list(keys)
        first = keys[int(np.argmax(out))]
        name = f"epoch 1 of {self.epochs}" if self._inner is None else self._inner.under_way.name
        raise wrong_state(
            f"A stream must not yield samples that are left out of {name}, or were recorded before it was "
            f"resumed. Found {int(out.sum()):,} in a batch of {out.size:,}, the first is {first!r:.80}.",
            "Filter the stream by subsampler.keeps, and make its iterator anew in each epoch: workers that "
            "persist know an earlier one.",
        )

    def _lets_through(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether samples with these rows, none of them -1, are to be read in this epoch."""
        inner = self._inner
        assert inner is not None
        table = inner.under_way.scores.table
        reads: NDArray[np.bool_] = (table.reason[rows] == Reason.KEPT) | self._due[rows]
        if (resumed := inner.under_way.scores.resumed) is not None:
            reads &= ~resumed[rows]
        return reads

    def _reads(self, row: int) -> bool:
        """Return :meth:`_lets_through` of one row."""
        assert self._inner is not None
        scores = self._inner.under_way.scores
        if scores.resumed is not None and scores.resumed[row]:
            return False
        return bool(scores.table.reason[row] == Reason.KEPT or self._due[row])

    def _begin(self) -> None:
        """Note what is to be measured in the epoch that begins."""
        self._before = KeyStore()
        self._due = np.zeros(len(self._keys), np.bool_)
        if (inner := self._inner) is not None and inner.epoch < inner.epochs:
            scheduled = inner.schedule.until(inner.epochs)
            table = inner.under_way.scores.table
            self._due[due(table, inner.policy, scheduled, inner.epoch + 1, inner.seed)] = True

    def step(self) -> None:
        """End the epoch: new keys join, and the next epoch is planned.

        Raises:
            WrongState: if nothing was recorded, or all epochs are done.
            InvalidValue: if the first decision would remove every sample.
        """
        new = _New.joined(self._new)
        found, labels, which = self._joining(new)
        if self._inner is None:
            if not len(found):
                step = "Call `subsampler.record(keys, losses)` for each batch before `step()`."
                raise wrong_state("No sample was recorded in the first epoch.", step)
            inner = Subsampler(len(found), **self._arguments, **self._floors_of(len(found)), labels=labels)
            keys = KeyStore()
            keys.add(found)
        else:
            inner, keys = self._inner, self._keys
            inner.under_way.check_running()
            if len(found):
                inner.join(len(found), labels)
                keys.add(found)
                least = self._floors_of(len(keys))["min_kept"]
                inner.under_way.floors = replace(inner.under_way.floors, kept=least)
        self._inner, self._keys, self._new = inner, keys, []
        self._begin()
        own = torch.from_numpy(which + len(keys) - len(found))
        guessed = new.predicted != _NONE
        for part, predicted in ((guessed, new.predicted[guessed]), (~guessed, None)):
            if part.any():
                inner.record(own[part], new.scores[part], predicted=predicted)
        # Those that were due have passed the filter.
        inner.under_way.scores.measured = True
        planned = len(inner.under_way.plan.kept)
        inner.step()
        self._warn_short(planned, inner.history[-1].backward)
        self._begin()

    def _warn_short(self, planned: int, trained: int) -> None:
        """Warn once if an epoch ends before all its samples were recorded."""
        if trained < planned and not self._told:
            self._told = True
            warnings.warn(
                f"{planned - trained:,} of the {planned:,} samples of epoch {self.epoch} of {self.epochs} "
                "were not recorded. If the stream was read to its end, a copy of its filter knows another "
                "epoch: make the stream and its workers anew in each epoch.",
                stacklevel=3,
            )

    def _floors_of(self, n: int) -> dict[str, Any]:
        """Return the floors of ``n`` samples: there may be fewer than the one asks for."""
        return self._floors | {"min_kept": min(self._floors["min_kept"], n)}

    def _joining(self, new: _New) -> tuple[Digests, NDArray[np.int64] | None, NDArray[np.int64]]:
        """Return the new keys of all ranks, ascending; their labels; and which of them each of ``new`` is."""
        parts = gather_rows(new.keys.view(np.int64), new.labels, group=self._ranks.group)
        keys = np.concatenate([part[0] for part in parts]).view(np.uint64).reshape(-1, 2)
        found, first, which = unique(keys)
        own = np.concatenate([part[1] for part in parts])[first]
        before = sum(len(part[0]) for part in parts[: self._ranks.rank])
        which = which[before : before + len(new.keys)]
        missing = own == _NONE
        if missing.any() and not missing.all():
            raise _labels_differ("some ranks without")
        return found, None if missing.all() else own, which

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state as tensors and plain values; inside an epoch all ranks must call it.

        A stream that is read from its beginning after :meth:`load_state_dict` goes on exactly: :attr:`keeps`
        lets no sample through that was recorded before.
        """
        new, inner = _New.joined(self._new), self._inner
        columns = (new.keys.view(np.int64), new.scores.numpy(), new.predicted.numpy(), new.labels)
        parts: list[tuple[NDArray[Any], ...]] = [columns]
        if len(new.keys) or (inner is not None and not inner.under_way.scores.untouched):
            meet("`state_dict()`", self._ranks.group)
            parts = gather_rows(*columns, group=self._ranks.group)
        merged = [torch.from_numpy(np.concatenate([part[at] for part in parts])) for at in range(4)]
        names = ("keys", "scores", "predicted", "labels")
        return {
            "keys": torch.from_numpy(self._keys.digests().view(np.int64)),
            "new": dict(zip(names, merged, strict=True)),
            "subsampler": None if self._inner is None else self._inner.state_dict(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Load a state, also on another number of ranks.

        Raises:
            InvalidType, InvalidValue: if it is none, or policy, schedule or seed differ. Nothing is changed
                then.
        """
        if not isinstance(saved, dict) or saved.keys() != {"keys", "new", "subsampler"}:
            rule = "A state must come from KeyedSubsampler.state_dict()."
            raise invalid_type(rule, type(saved).__name__, "Load it unchanged.")
        keys, found = KeyStore(), _checked_keys("keys", saved["keys"])
        keys.add(found)
        new = _New.of_state(saved["new"])
        if (keys.find(new.keys) >= 0).any():
            raise invalid("A state must hold each key once.", "one twice", "Load it unchanged.")
        inner = None
        if (state := saved["subsampler"]) is not None:
            inner = self._restored(state, len(found))
        elif len(found):
            raise invalid("A state with keys must hold their scores.", "none", "Load it unchanged.")
        self._keys, self._inner = keys, inner
        self._begin()
        self._before.add(unique(new.keys)[0])
        # They count once: one rank brings them to the end of the epoch.
        self._new = [new] if self._ranks.rank == 0 and len(new.keys) else []

    def _restored(self, state: dict[str, Any], n: int) -> Subsampler:
        opened = state.get("state", (None,))[0] if isinstance(state, dict) else None
        labels = opened.get("labels") if isinstance(opened, dict) else None
        if n < 1:
            raise invalid("A state must hold a key for each score.", "no key", "Load it unchanged.")
        inner = Subsampler(n, **self._arguments, **self._floors_of(n), labels=labels)
        inner.load_state_dict(state)
        return inner


@dataclass(frozen=True)
class _New:
    """Samples that have no row yet: keys ``(K, 2)``, scores, predicted classes and labels ``(K,)``.

    Scores and predicted classes are on the device until they are joined.
    """

    keys: Digests
    scores: Tensor
    predicted: Tensor
    labels: NDArray[np.int64]

    @staticmethod
    def joined(parts: Sequence[_New]) -> _New:
        """Return all parts as one, on the host."""
        if not parts:
            nothing = np.zeros(0, np.int64)
            return _New(np.zeros((0, 2), np.uint64), torch.zeros(0), torch.from_numpy(nothing), nothing)
        return _New(
            np.concatenate([part.keys for part in parts]),
            torch.cat([part.scores for part in parts]).cpu(),
            torch.cat([part.predicted for part in parts]).cpu(),
            np.concatenate([part.labels for part in parts]),
        )

    @staticmethod
    def of_state(saved: Any) -> _New:
        """Return the samples that a state holds."""
        names = {"keys", "scores", "predicted", "labels"}
        if not isinstance(saved, dict) or saved.keys() != names:
            raise invalid_type("A state must hold `new`.", repr(saved)[:80], "Load it unchanged.")
        keys = _checked_keys("new.keys", saved["keys"])
        kinds = {"scores": torch.float32, "predicted": torch.int64, "labels": torch.int64}
        for name, kind in kinds.items():
            value = saved[name]
            if not isinstance(value, Tensor) or value.dtype != kind or value.shape != (len(keys),):
                raise _wrong_array(f"new.{name}")
        return _New(keys, saved["scores"].cpu(), saved["predicted"].cpu(), saved["labels"].cpu().numpy())


def _labels_differ(found: str) -> InvalidValue:
    step = "Pass them always."
    return invalid("`labels` must be given in every batch and on every rank, or in none.", found, step)


def _checked_keys(name: str, value: Any) -> Digests:
    if not isinstance(value, Tensor) or value.dtype != torch.int64 or value.dim() != 2 or value.shape[1] != 2:
        raise _wrong_array(name)
    keys = np.ascontiguousarray(value.cpu().numpy()).view(np.uint64)
    if name == "keys" and len(unique(keys)[0]) != len(keys):
        raise invalid("A state must hold each key once.", "one twice", "Load it unchanged.")
    return keys


def _wrong_array(name: str) -> InvalidValue:
    return invalid(
        f"A state must hold `{name}` as it was saved.", "another type or shape", "Load it unchanged."
    )


class KeptKeys:
    """The filter of a stream: called with a key, it returns whether the sample is to be read.

    A copy, as a worker gets it, holds the keys that are left out of the epoch in which it was made.

    Args:
        owner: the subsampler whose samples they are.
    """

    def __init__(self, owner: KeyedSubsampler) -> None:
        self._owner: KeyedSubsampler | None = owner
        self._out = KeyStore()

    def __call__(self, key: Any) -> bool:
        """Return whether the sample of one key is in this epoch; new ones are."""
        words, owner = digest(key), self._owner
        if owner is None:
            return self._out.row(*words) < 0
        if len(owner._before) and owner._before.row(*words) >= 0:
            return False
        row = owner._keys.row(*words)
        return row < 0 or owner._reads(row)

    def each(self, keys: Any) -> NDArray[np.bool_]:
        """Return the same for several keys at once: bool ``(K,)``."""
        found = digests(keys)
        owner = self._owner
        if owner is None:
            return self._out.find(found) < 0
        reads = owner._before.find(found) < 0
        rows = owner._keys.find(found)
        known = rows >= 0
        if known.any():
            reads[known] &= owner._lets_through(rows[known])
        return reads

    def __getstate__(self) -> dict[str, Any]:
        """Return only the keys that are left out."""
        if (owner := self._owner) is None:
            return {"_owner": None, "_out": self._out}
        out = KeyStore()
        if len(owner._keys):
            refused = ~owner._lets_through(np.arange(len(owner._keys)))
            out.add(np.concatenate([owner._keys.digests()[refused], owner._before.digests()]))
        else:
            out.add(owner._before.digests())
        return {"_owner": None, "_out": out}
