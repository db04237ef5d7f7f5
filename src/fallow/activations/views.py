"""The density of one layer: a subspace, a density in it, and the percentiles of a panel."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..densities import Density, GaussianMixture, Halves
from ..densities.own import check_finite
from .percentiles import Percentiles
from .subspace import Subspace, mixing_matrix

FOLLOWING = 3
"""Iterations with which a mixture follows the changes since its last fit."""
GATE = 0.995
"""The quantile of the panel's residuals that novelty is measured against."""


@dataclass
class LayerSurvey:
    """B rows under the density of one layer.

    Attributes:
        places: ``(B, p)``, the coordinates in the subspace.
        inside: ``(B,)``, the log density within the subspace.
        residual: ``(B,)``, the energy off it.
        novelty: ``(B,)``, that energy as a multiple of the panel's 99.5 % quantile.
        spread: the root mean square of the panel's places.
    """

    places: Tensor
    inside: Tensor
    residual: Tensor
    novelty: Tensor
    spread: float


class LayerDensity:
    """The density of one layer.

    Args:
        density: a copy of it is fitted.
        dim: the largest number of directions of the subspace.
        seed: of the random matrix for wide rows.

    Attributes:
        inside: the distribution over the panel of the negative log density within the subspace.
        off: the distribution over the panel of the energy off the subspace.
    """

    inside: Percentiles
    off: Percentiles

    def __init__(self, density: Density, dim: int, seed: int) -> None:
        self.density = deepcopy(density)
        self.dim = dim
        self.seed = seed
        self.subspace: Subspace | None = None
        self._edge = self._spread = 1.0
        self._index: Tensor | None = None
        self._component = torch.zeros(0, dtype=torch.int64)
        self._groups = 0

    def fit(self, rows: Tensor, index: Tensor) -> LayerSurvey:
        """Fit to a panel's rows ``(R, D)``, and return their survey, each row left out."""
        x = rows.float()
        # The same matrix for every fit; drawing it again would only take time.
        mixing = self.subspace.mixing if self.subspace else mixing_matrix(rows.shape[1], self.seed)
        mixing = None if mixing is None else mixing.to(x.device)
        self.subspace = Subspace.of(x if mixing is None else x @ mixing, self.dim, mixing)
        y, residual = self.subspace(self.subspace.mixed(x))
        self._fit(y, index)
        inside = self.density.left_out(y, index=index)
        check_finite(inside, "the density")
        self._spread = max(float(y.square().sum(1).mean().sqrt()), 1e-30)
        self._edge = max(float(residual.quantile(GATE)), 1e-30) if self._has_rest else 1.0
        self.inside, self.off = Percentiles.of(-inside), Percentiles.of(residual)
        return self._measured(y, residual, inside)

    def surprise(self, survey: LayerSurvey, *, off: bool = True) -> Tensor:
        """Return the surprise of rows within the subspace and off it, float64 ``(B,)``, in nats.

        Both parts are standard exponentials over the panel, so neither dominates, however many directions
        are left out.
        """
        surprise = self.inside.surprise(-survey.inside)
        if off and self._has_rest:
            surprise = surprise + self.off.surprise(survey.residual)
        return surprise

    def by_halves(self, survey: LayerSurvey) -> tuple[Tensor, Tensor] | None:
        """Return the surprise of rows under either half, ``(B,)`` each; None without halves."""
        if not isinstance(self.density, Halves):
            return None
        halves = (replace(survey, inside=half.log_prob(survey.places)) for half in self.density.halves)
        first, second = map(self.surprise, halves)
        return first, second

    @property
    def _has_rest(self) -> bool:
        return self.subspace is not None and self.subspace.rest > 0

    def _fit(self, y: Tensor, index: Tensor) -> None:
        """Fit the density; a mixture starts from the components of its samples in the last fit.

        So components keep their samples while the subspace turns.
        """
        halves = self.density.halves if isinstance(self.density, Halves) else ()
        if not halves or not isinstance(halves[0], GaussianMixture):
            self.density.fit(y, index=index)
            return
        assert isinstance(self.density, Halves)
        start = None
        if self._index is not None:
            at = torch.searchsorted(self._index, index).clamp_max(len(self._index) - 1)
            start = torch.nn.functional.one_hot(self._component[at], self._groups)
            # A sample that is new to the panel begins without a component.
            start = start * (self._index[at] == index)[:, None]
        self.density.fit(y, index=index, start=start, iterations=None if start is None else FOLLOWING)
        first, second = self.density.halves
        assert isinstance(first, GaussianMixture)
        assert isinstance(second, GaussianMixture)
        half = self.density.half(index)
        self._component = torch.where(half == 0, first.component(y), second.component(y))
        self._index, self._groups = index, max(len(first.shares), len(second.shares))

    def survey(self, rows: Tensor, index: Tensor | None = None) -> LayerSurvey:
        """Return the survey of rows; training samples have an ``index`` and are scored without themselves."""
        assert self.subspace is not None
        y, residual = self.subspace(self.subspace.mixed(rows))
        inside = self.density.log_prob(y) if index is None else self.density.left_out(y, index=index)
        return self._measured(y, residual, inside)

    def _measured(self, y: Tensor, residual: Tensor, inside: Tensor) -> LayerSurvey:
        return LayerSurvey(y, inside, residual, residual / self._edge, self._spread)

    def state_dict(self) -> dict[str, Any]:
        """Return everything learned."""
        if self.subspace is None:
            return {}
        return {
            "subspace": self.subspace.state_dict(),
            "wide": 0 if self.subspace.mixing is None else len(self.subspace.mixing),
            "density": self.density.state_dict(),
            "inside": self.inside.state_dict(),
            "off": self.off.state_dict(),
            "edge": self._edge,
            "spread": self._spread,
            "index": self._index,
            "component": self._component,
            "groups": self._groups,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned."""
        if not state:
            return
        mixing = mixing_matrix(state["wide"], self.seed)
        mixing = None if mixing is None else mixing.to(state["subspace"]["mean"].device)
        self.subspace = Subspace(**state["subspace"], mixing=mixing)
        self.density.load_state_dict(state["density"])
        self.inside = Percentiles(**state["inside"])
        self.off = Percentiles(**state["off"])
        self._edge = state["edge"]
        self._spread = state["spread"]
        self._index = state["index"]
        self._component = state["component"]
        self._groups = state["groups"]
