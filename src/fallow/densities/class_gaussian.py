"""One Gaussian a class, each drawn towards the shape that the classes share."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from .._checks import invalid, invalid_type
from ..distributed import largest_over_ranks, sum_over_ranks
from .base import check_sample, check_weights
from .moments import Moments
from .shrinking import Shrunk
from .shrunk_density import ShrunkDensity, alone, moments_of

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
        total, largest = (sum_over_ranks, largest_over_ranks) if together else (alone, alone)
        classes = int(largest(torch.cat([labels, labels.new_full((1,), -1)]).max().reshape(1))) + 1
        if classes < 1:
            raise invalid("A class-conditional density needs a label.", "none")
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
        return self

    @staticmethod
    def _drawn(moments: Moments, rows: float) -> Shrunk:
        """Return the Gaussians, drawn towards the shape they share."""
        return within(moments, rows)

    @property
    def classes(self) -> int:
        """How many classes there are, with or without rows."""
        return 0 if self._moments is None else self._moments.groups

    def log_prob(self, x: Tensor) -> Tensor:
        """See :meth:`Density.log_prob`: over all classes."""
        x = self._rows(x)
        assert self._moments is not None
        return self._joint(x).logsumexp(1) - self._moments.count.sum().log()

    def given(self, x: Tensor, labels: Tensor) -> Tensor:
        r"""Return :math:`\log p(x \mid y)`, float64 ``(B,)``; -inf for a class without rows."""
        x = self._rows(x)
        assert self._moments is not None
        labels = check_labels(labels, x, self.classes)
        joint = self._joint(x) - self._moments.count.log()
        return joint.nan_to_num(nan=-torch.inf).gather(1, labels[:, None])[:, 0]

    def label_log_ratio(self, x: Tensor, labels: Tensor) -> Tensor:
        r"""Return :math:`\log p(y \mid x)` by Bayes' rule, float64 ``(B,)``: low where a label looks wrong.

        .. math:: \log \pi_y p(x \mid y) - \log \sum_c \pi_c p(x \mid c)
        """
        x = self._rows(x)
        return self._ratio(self._joint(x), check_labels(labels, x, self.classes))

    def label_left_out(self, x: Tensor, labels: Tensor, *, weights: Tensor | None = None) -> Tensor:
        """Return :meth:`label_log_ratio` of rows it was fitted on, each without itself."""
        x = self._rows(x)
        labels = check_labels(labels, x, self.classes)
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
        labels = check_labels(labels, x)
        labels = labels.where(labels < self.classes, -1)  # a class that it has not seen explains nothing
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


def check_labels(labels: Tensor | None, x: Tensor, classes: int | None = None) -> Tensor:
    """Return class ids ``(N,)`` of rows; all 0 where there are none."""
    if labels is None:
        return torch.zeros(len(x), dtype=torch.int64, device=x.device)
    if labels.shape != x.shape[:1] or labels.dtype.is_floating_point or labels.dtype.is_complex:
        raise invalid_type(
            f"`labels` must be class ids ({len(x)},).", f"{labels.dtype} {tuple(labels.shape)}"
        )
    if classes is not None and int(labels.max()) >= classes:
        raise invalid(f"Labels must be below {classes}, the classes it was fitted on.", int(labels.max()))
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
