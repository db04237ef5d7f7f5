"""Samples removed, given back, renewed and added by hand, whatever the policy says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..arrays.bitset import Bitset
from ..errors import check_integer, invalid, wrong_state
from ..policies.base import Reason
from .batch_checks import check_index, check_labels
from .class_ids import ClassIds
from .memory import check_memory
from .plan import hold
from .readings import Readings


class ByHand(Readings):
    """What a person changes in a :class:`fallow.Subsampler`."""

    def remove(self, index: Any) -> None:
        """Leave samples out by hand until :meth:`keep`: from this epoch if unbegun, else the next."""
        reason = self._ledger.table.reason.copy()
        reason[check_index(index, self.n)] = Reason.BY_HAND
        left = int(np.count_nonzero(reason == Reason.KEPT))
        if left < self._floors.kept:
            raise invalid(f"At least min_kept={self._floors.kept} samples must stay.", left, "Remove fewer.")
        self._ledger.table.reason = reason
        self._replan()

    def keep(self, index: Any) -> None:
        """Give samples back, whatever they were left out for; the policy may remove them again."""
        self._ledger.table.reason[check_index(index, self.n)] = Reason.KEPT
        self._replan()

    def renew(self, index: Any) -> None:
        """Make samples new, as those whose label or content was mended: kept, without a score or a past.

        Those removed by hand stay so. Call it between epochs.

        Raises:
            WrongState: in the middle of an epoch.
        """
        rows = check_index(index, self.n)
        if not self._ledger.unbegun:
            raise wrong_state(
                f"Epoch {self.epoch + 1} of {self.schedule.epochs} is under way.",
                "Call renew() right after step().",
            )
        self._ledger.table.forget(rows)
        self._replan()

    def extend(self, n: int, labels: Any = None) -> None:
        """Add ``n`` new samples at the end: kept, without a score. Call it between epochs.

        Args:
            n: how many more.
            labels: their class ids ``(n,)``, where the subsampler has labels.
        """
        check_memory(self.n + check_integer("n", n, 1))
        if not self._ledger.unbegun:
            raise wrong_state(
                f"Epoch {self.epoch + 1} of {self.schedule.epochs} is under way.",
                "Call extend() right after step().",
            )
        old = self._floors.labels
        if (old is None) != (labels is None):
            need = "no `labels`" if old is None else "`labels` for the new samples"
            raise invalid(f"extend() needs {need}, as at the start.", repr(labels))
        if old is not None:
            new = check_labels(labels, n)
            assert new is not None
            ids = np.concatenate([self.class_ids.decode(old), new])
            self._ledger.renumber(ClassIds.of(ids))
            self._floors = replace(self._floors, labels=self.class_ids.encode(ids))
        if self._plan.weights is not None:
            weights = np.concatenate([self._plan.weights, np.ones(n, np.float32)])
            self._plan = replace(self._plan, weights=weights)
        self.n += n
        self._ledger.grow(n)
        self._replan()

    def _replan(self) -> None:
        """Take the kept samples over into an epoch that has not begun."""
        if self._ledger.unbegun:
            hold(self._ledger.table.reason, self._ledger.table.scores, self._floors_now())
            kept = Bitset(self._ledger.table.reason == Reason.KEPT)
            self._plan, self._orders = replace(self._plan, kept=kept), {}
