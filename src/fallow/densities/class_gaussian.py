"""One Gaussian a class, each drawn towards the shape that the classes share."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..arrays.distributed import gather_rows, sum_over_ranks
from ..errors import invalid, invalid_type
from .base import Density, check_sample, check_weights
from .moments import Moments
from .shrinking import Shrunk
from .shrunk_density import AUTO, ShrunkDensity, alone, moments_of

_GRID = [10.0**power for power in range(-3, 4)]
_RIDGE = 1e-6
"""What is added to the pooled shape, as a share of its mean variance."""
_LEAST = 1e-9
"""And as a share of the variance of all rows, where there is none within groups."""


class ClassGaussian(ShrunkDensity):
    r"""A mixture of one Gaussian a class, by given labels.

    .. math:: p(x) = \sum_c \pi_c\, \mathcal{N}(x; \mu_c, \Sigma_c), \qquad
        \Sigma_c = \frac{S_c + \nu \tau_c P}{n_c + \nu}

    with the scatter :math:`S_c` of a class, the covariance P within classes, pooled over all of them, and the
    scale :math:`\tau_c` of the class. The pooled shape counts as :math:`\nu` rows; by default
    :math:`\nu / D` is the power of ten with the highest leave-one-out likelihood. Leaving a row out is
    exact for its class, with P as it is.

    Args:
        shrinkage: :math:`\nu`, or ``"auto"``.

    References:
        Regularized Gaussian discriminant analysis (Friedman, 1989);
        A simple unified framework for detecting out-of-distribution samples (Lee et al., 2018)

    >>> x = torch.tensor([[0.0], [0.2], [0.1], [5.0], [5.2], [5.1]])
    >>> density = ClassGaussian().fit(x, labels=torch.tensor([0, 0, 0, 1, 1, 1]))
    >>> (density.label_log_ratio(torch.tensor([[5.1], [5.1]]), torch.tensor([1, 0])) > -1).tolist()
    [True, False]
    """

    name: ClassVar[str] = "class-gaussian"

    def __init__(self, shrinkage: float | str = AUTO) -> None:
        super().__init__(shrinkage)
        self._ids: Tensor = torch.zeros(0, dtype=torch.int64)

    def fit(
        self,
        x: Tensor,
        *,
        labels: Tensor | None = None,
        weights: Tensor | None = None,
        index: Tensor | None = None,
        together: bool = False,
    ) -> ClassGaussian:
        """See :meth:`Density.fit`. Without labels all rows are of one class; a negative label is left out."""
        x, weights, _ = check_sample(x, weights, index, least=0 if together else 2)
        labels = check_labels(labels, x)
        weights = weights * (labels >= 0)
        total = sum_over_ranks if together else alone
        ids = _distinct(labels[labels >= 0])
        if together:
            every = [part for (part,) in gather_rows(ids.cpu().numpy())]
            ids = torch.from_numpy(np.unique(np.concatenate(every))).to(x.device)
        if not ids.numel():
            raise invalid("A class-conditional density needs a label.", "none")
        labels, classes = _numbered(labels, ids), len(ids)
        groups = torch.nn.functional.one_hot(labels.clamp_min(0), classes)
        moments = moments_of(x, weights, groups, total)
        rows = self.shrinkage
        if isinstance(rows, str):
            grid = [moments.dim * step for step in _GRID]
            shrunk = within(moments, 0.0)
            own = [labels == label for label in range(classes)]
            some = [label for label in range(classes) if bool(own[label].any())]
            parts = [shrunk.fit_left_out(x[own[label]], weights[own[label]], label, grid) for label in some]
            fits = torch.stack([x.new_zeros(len(grid)), *parts]).sum(0)
            rows = grid[int(total(fits).argmax())]
        self._take(moments, rows)
        self._ids = ids
        return self

    @staticmethod
    def _drawn(moments: Moments, rows: float) -> Shrunk:
        """Return the Gaussians, drawn towards the shape they share."""
        return within(moments, rows)

    @property
    def classes(self) -> int:
        """How many classes it was fitted on."""
        return len(self._ids)

    def merge(self, other: Density) -> ClassGaussian:
        """See :meth:`ShrunkDensity.merge`: over the classes of both."""
        if not isinstance(other, ClassGaussian) or self._moments is None or other._moments is None:
            return super().merge(other)
        ids = _distinct(torch.cat([self._ids, other._ids.to(self._ids.device)]))
        merged = super(ClassGaussian, self._spread(ids)).merge(other._spread(ids))
        merged._ids = ids
        return merged

    def _spread(self, ids: Tensor) -> ClassGaussian:
        """Return the same over more classes; the others have no rows."""
        assert self._moments is not None
        assert self._shrunk is not None
        moments, at = Moments.zeros(len(ids), self._moments.origin), torch.searchsorted(ids, self._ids)
        moments.count[at] = self._moments.count
        moments.sum[at], moments.scatter[at] = self._moments.sum, self._moments.scatter
        found = ClassGaussian(self.shrinkage)
        found._take(moments, self._shrunk.rows)
        return found

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`Density.state_dict`."""
        state = super().state_dict()
        return {**state, "ids": self._ids} if state else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`Density.load_state_dict`; older states have the classes 0 to C - 1."""
        super().load_state_dict(state)
        if state:
            self._ids = state["ids"].clone() if "ids" in state else torch.arange(len(state["count"]))

    def _known(self, labels: Tensor | None, x: Tensor) -> Tensor:
        """Return the number of each label, -1 where there is none.

        Raises:
            InvalidValue: for a class that it was not fitted on.
        """
        labels = check_labels(labels, x)
        found = _numbered(labels, self._ids)
        strange = (labels >= 0) & (found < 0)
        if bool(strange.any()):
            rule = f"Labels must be among the {self.classes} classes that it was fitted on."
            raise invalid(rule, int(labels[strange][0]))
        return found

    def log_prob(self, x: Tensor) -> Tensor:
        """See :meth:`Density.log_prob`: over all classes."""
        x = self._rows(x)
        assert self._moments is not None
        return self._joint(x).logsumexp(1) - self._moments.count.sum().log()

    def given(self, x: Tensor, labels: Tensor) -> Tensor:
        r"""Return :math:`\log p(x \mid y)`, float64 ``(B,)``; -inf for a class without rows."""
        x = self._rows(x)
        assert self._moments is not None
        labels = self._known(labels, x)
        joint = self._joint(x) - self._moments.count.log()
        return joint.nan_to_num(nan=-torch.inf).gather(1, labels[:, None])[:, 0]

    def label_log_ratio(self, x: Tensor, labels: Tensor) -> Tensor:
        r"""Return :math:`\log p(y \mid x)` by Bayes' rule, float64 ``(B,)``: low where a label looks wrong.

        .. math:: \log \pi_y p(x \mid y) - \log \sum_c \pi_c p(x \mid c)
        """
        x = self._rows(x)
        return self._ratio(self._joint(x), self._known(labels, x))

    def label_left_out(self, x: Tensor, labels: Tensor, *, weights: Tensor | None = None) -> Tensor:
        """Return :meth:`label_log_ratio` of rows it was fitted on, each without itself."""
        x = self._rows(x)
        labels = self._known(labels, x)
        return self._ratio(self._joint_left_out(x, labels, check_weights(weights, x)), labels)

    def left_out(
        self,
        x: Tensor,
        *,
        labels: Tensor | None = None,
        weights: Tensor | None = None,
        index: Tensor | None = None,
    ) -> Tensor:
        """See :meth:`Density.left_out`."""
        x = self._rows(x)
        weights = check_weights(weights, x)
        assert self._moments is not None
        labels = _numbered(
            check_labels(labels, x), self._ids
        )  # a class that it has not seen explains nothing
        joint = self._joint_left_out(x, labels, weights)
        return joint.logsumexp(1) - (self._moments.count.sum() - weights * (labels >= 0)).log()

    def _joint(self, x: Tensor) -> Tensor:
        """Return log n_c N(x; c), ``(B, C)``."""
        assert self._shrunk is not None
        return self._shrunk.log_prob(x) + self._shrunk.count.log()

    def _joint_left_out(self, x: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        assert self._shrunk is not None
        found = self._joint(x)
        for label in sorted(set(labels[labels >= 0].tolist())):
            own = (labels == label).nonzero()[:, 0]
            rest = (self._shrunk.count[label] - weights[own]).clamp_min(0)
            found[own, label] = self._shrunk.left_out(x[own], weights[own], label) + rest.log()
        return found

    @staticmethod
    def _ratio(joint: Tensor, labels: Tensor) -> Tensor:
        told = labels >= 0
        ratio = joint.gather(1, labels.clamp_min(0)[:, None])[:, 0] - joint.logsumexp(1)
        return ratio.where(told, torch.nan)


def _distinct(ids: Tensor) -> Tensor:
    """Return each id once, ascending."""
    found: Tensor = torch.unique(ids)
    return found


def _numbered(labels: Tensor, ids: Tensor) -> Tensor:
    """Return where each label stands in ``ids``, which ascend; -1 where it does not."""
    ids = ids.to(labels.device)
    at = torch.searchsorted(ids, labels).clamp_max(len(ids) - 1)
    return at.where(ids[at] == labels, -1)


def check_labels(labels: Tensor | None, x: Tensor) -> Tensor:
    """Return class ids ``(N,)`` of rows; all 0 where there are none."""
    if labels is None:
        return torch.zeros(len(x), dtype=torch.int64, device=x.device)
    if labels.shape != x.shape[:1] or labels.dtype.is_floating_point or labels.dtype.is_complex:
        raise invalid_type(
            f"`labels` must be class ids ({len(x)},).", f"{labels.dtype} {tuple(labels.shape)}"
        )
    return labels.to(x.device, torch.int64)


def within(moments: Moments, rows: float) -> Shrunk:
    """Return the Gaussian of each group, drawn towards the covariance within groups, pooled over all."""
    inner = moments.inner()
    pooled = inner.sum(0) / moments.count.sum()
    away = moments.sum.sum(0) / moments.count.sum()
    spread = moments.scatter.sum(0).diagonal().mean() / moments.count.sum() - away.square().mean()
    size = moments.origin.square().mean() + away.square().mean()
    level = _RIDGE * pooled.diagonal().mean() + _LEAST * (spread.clamp_min(0) + _LEAST * (1 + size))
    pooled = pooled + level * torch.eye(moments.dim, dtype=pooled.dtype, device=pooled.device)
    return Shrunk(moments.mean(), inner, moments.count, pooled, rows)
