"""The density of a network's activations, learned while it trains."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..arrays.distributed import Ranks, data_group, gather_rows, sum_over_ranks
from ..densities import DensityLike, GaussianMixture, Halves
from ..densities.halves import AGREE, rank_correlation
from ..densities.own import as_density
from ..errors import check_integer, invalid_type, wrong_state
from ..scores.base import NO_SCORE, Score
from .panel import Panel
from .percentiles import Percentiles
from .taps import AUTO, Taps
from .views import LayerDensity, LayerSurvey

FIRST, EVERY = 1024, 1 << 15
"""Rows before the first refresh, and the most between two refreshes."""
TIMES = 2
"""Least number of refreshes an epoch."""
STABLE = 0.8
"""Least rank correlation of two successive scores of the panel at which scores may remove samples."""
_LEAST = 64


@dataclass(frozen=True)
class Percentile(Score):
    """The score of a density: the share of the training set with a higher density."""

    name: ClassVar[str] = "density"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Raise WrongState: a density scores activations, not outputs."""
        raise wrong_state(
            "A density scores activations.",
            "Pass scores=monitor.scores(index) with monitor = ActivationDensity(model).",
        )


class ActivationDensity:
    r"""Activation monitor: scores samples by the density of a network's activations, without labels.

    Forward hooks record the activations of some layers, pooled to one row a sample. The monitor holds the
    latest rows of a fixed random part of the training set (the *panel*). At intervals that grow during
    training it fits a density to them, in the directions in which they vary. A sample's score is its
    percentile under the last fitted density,

    .. math:: s(x) = \Pr_{x' \in \text{panel}} [\log p(x') > \log p(x)],

    within the subspace and off it. Layers are combined by Fisher's sum, which becomes a percentile again:
    0 for the best covered sample, 1 for the least covered. Percentiles make scores of different epochs
    comparable, whatever the scale of the activations. A sample does not count in its own score: Gaussians
    leave it out in closed form, mixtures are fitted to two halves and score it by the other half.

    Until two successive densities agree, samples have no score and none is removed.

    Args:
        model: the network in training, not wrapped in DDP (pass ``ddp.module``). Create the monitor before
            ``torch.compile``.
        layers: ``"auto"`` for the inputs of two layers, a quarter and three quarters of the way through the
            network, or names of modules whose outputs to use.
        density: ``GaussianMixture(components=16)`` by default. Any object with ``fit(x)`` and
            ``log_prob(x)`` will do, see :class:`~fallow.densities.own.OwnDensity`. A density that cannot
            leave a row out is fitted in :class:`~fallow.densities.Halves`.
        dim: the largest number of directions of a layer.
        panel: the largest number of samples in the panel.
        every: the largest number of rows between two refreshes.
        seed: of all random draws.
        group: the ranks that get different samples, as for :meth:`fallow.Subsampler.loader`; by default all.
            Each of them needs the whole output of the layers, not the part that one rank of a replica holds.

    Attributes:
        ranks: those of ``group``.
        score: the :class:`Score` for ``Subsampler(score=monitor.score)``.
        percentile: the distribution of the surprise over the panel, all layers together.
        refreshes: the number of fits so far.
        stability: the rank correlation of the panel's last two scores.
        agreement: the rank correlation over the panel of the scores by either half; NaN without halves.

    Raises:
        InvalidValue, InvalidType: if an argument is invalid.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> monitor = ActivationDensity(network)
        >>> logits = network(torch.randn(16, 4))
        >>> monitor.scores(torch.arange(16)).shape  # to subsampler.record(index, losses, scores=...)
        torch.Size([16])
    """

    score: ClassVar[Score] = Percentile()

    def __init__(
        self,
        model: nn.Module,
        layers: str | Sequence[str] = AUTO,
        density: DensityLike | None = None,
        *,
        dim: int = 32,
        panel: int = 4096,
        every: int = EVERY,
        seed: int = 0,
        group: Any = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise invalid_type("`model` must be an nn.Module.", type(model).__name__)
        given = GaussianMixture(16, iterations=10) if density is None else as_density(density, seed)
        self.density = given if given.leaves_out else Halves(given, seed)
        self.dim = check_integer("dim", dim, 1)
        self.every = check_integer("every", every, 1)
        self.seed = check_integer("seed", seed, 0)
        self.taps = Taps(model, layers)
        self.ranks = Ranks()
        self.ranks.group = None if group is None else data_group(group)
        self.panel = Panel(check_integer("panel", panel, _LEAST), seed, self.ranks)
        self.layers: list[LayerDensity] = []
        self.refreshes = 0
        self.stability = self.agreement = float("nan")
        self.percentile = Percentiles.of(torch.zeros(1))
        self._before: tuple[Tensor, Tensor] | None = None
        self._seen = 0
        self._calls = 0
        self._period = FIRST
        self._rows_a_call = 0.0
        self._since = 0.0
        self._warned = False
        self._on_device = True

    @property
    def ready(self) -> bool:
        """Whether scores may remove samples: the last two densities agree, and so do the halves."""
        # `not <`, as the agreement is NaN for a density without halves.
        return self.refreshes >= 2 and self.stability >= STABLE and not self.agreement < AGREE

    def scores(self, index: Tensor | None = None, targets: Tensor | None = None) -> Tensor:
        """Return the percentiles of the last forward pass, float32 ``(B,)``, and add it to the panel.

        Nothing waits for the device, except for a refresh of the densities.

        Args:
            index: int64 ``(B,)`` on the host, as the loader gives it. Without it a row is scored by both
                halves, its own included.
            targets: not used; a density needs no labels.

        Returns:
            Values in [0, 1]; ``NO_SCORE`` until the densities agree; NaN for a row that is not finite.

        Raises:
            WrongState: if there was no forward pass.
        """
        rows, index = self._add_to_panel(index)
        if self._is_due(len(rows[0])):
            self.refresh()
        return self._percentiles(rows, index)

    def measure(self, index: Tensor) -> Tensor:
        """Return the percentiles of the last forward pass, and add it to the panel, as :meth:`scores` does.

        It never refreshes a density, which is collective, so ranks may measure different numbers of batches.
        """
        rows, index_on_host = self._add_to_panel(index)
        return self._percentiles(rows, index_on_host)

    def _percentiles(self, rows: list[Tensor], index: Tensor | None) -> Tensor:
        device = rows[0].device
        if not self.ready:
            return torch.full((len(rows[0]),), NO_SCORE, device=device)
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            return self.percentile(self.surprise(self._survey(rows, index)))

    def see(self, index: Tensor) -> None:
        """Add the last forward pass to the panel without scores: for samples that an epoch leaves out."""
        self._add_to_panel(index)

    def survey(self, index: Tensor | None = None) -> list[LayerSurvey]:
        """Return the survey of the last forward pass by each layer. The panel stays as it is.

        Set ``monitor.taps.in_evaluation`` for a network in evaluation mode.

        Args:
            index: int64 ``(B,)`` on the host, if the rows are training samples; None for other rows.

        Raises:
            WrongState: before the first refresh, or without a forward pass.
        """
        if not self.layers:
            raise wrong_state("There is no density yet.", "Train for an epoch, or call refresh().")
        rows = self.taps.take(None if index is None else len(index))
        self._move_to(rows[0].device)
        with torch.no_grad(), torch.autocast(rows[0].device.type, enabled=False):
            return self._survey(rows, index)

    def _survey(self, rows: list[Tensor], index: Tensor | None) -> list[LayerSurvey]:
        return [layer.survey(x, index) for layer, x in zip(self.layers, rows, strict=True)]

    def surprise(self, surveys: Sequence[LayerSurvey], *, off: bool = True) -> Tensor:
        """Return the sum over layers of the surprises, float64 ``(B,)``, in nats.

        Args:
            surveys: one of each layer.
            off: whether the energy off the subspaces counts too.
        """
        pairs = zip(self.layers, surveys, strict=True)
        return torch.stack([layer.surprise(survey, off=off) for layer, survey in pairs]).sum(0)

    def _add_to_panel(self, index: Tensor | None) -> tuple[list[Tensor], Tensor | None]:
        """Add the rows of the last forward pass to the panel; return them, and their index on the host."""
        rows = self.taps.take(None if index is None else len(index))
        count = len(rows[0])
        self._move_to(rows[0].device)
        if index is None:
            # Without an index each row counts as a new sample.
            host = np.arange(self._seen, self._seen + count)
        else:
            host = index.detach().cpu().numpy().astype(np.int64, copy=False)
        self._seen += count
        self.panel.add(host, rows)
        return rows, None if index is None else torch.from_numpy(host)

    def _move_to(self, device: torch.device) -> None:
        """Move a loaded state, which lies on the host, to the device of the activations."""
        # Only the first forward pass after load_state_dict tells which device that is.
        if not self._on_device:
            self._on_device = True
            for layer in self.layers:
                layer.load_state_dict(_tree_on(layer.state_dict(), device))
            self.percentile = Percentiles(**_tree_on(self.percentile.state_dict(), device))
            self._before = _tree_on(self._before, device)
            self.panel.rows = _tree_on(self.panel.rows, device)

    def _is_due(self, batch: int) -> bool:
        """Return whether a refresh is due."""
        # A refresh is collective. So calls are counted, which are equal on all ranks, not rows, which differ.
        if not self._rows_a_call:
            rows = torch.tensor([batch], dtype=torch.float64)
            self._rows_a_call = float(sum_over_ranks(rows, self.ranks.group))
        self._calls += 1
        return self._calls * self._rows_a_call >= self._period

    def refresh(self) -> None:
        """Fit the densities to the current panel; with several ranks, all call it."""
        self._since += self._calls * self._rows_a_call
        self._calls = 0
        self._period = min(2 * self._period, self.every)
        self.panel.settle(together=True)
        self._period = max(1, min(self._period, self.panel.population() // TIMES))
        index, rows = self.panel.finite()
        if len(index) < _LEAST:
            return
        if not self.layers:
            self.layers = [LayerDensity(self.density, self.dim, self.seed) for _ in rows]
        # Under autocast products would be in half precision, too coarse for a fit.
        with torch.no_grad(), torch.autocast(rows[0].device.type, enabled=False):
            self._fit(index, rows)
        self._check_ranks()

    def _fit(self, index: Tensor, rows: list[Tensor]) -> None:
        surveys = [layer.fit(x, index) for layer, x in zip(self.layers, rows, strict=True)]
        surprise = self.surprise(surveys)
        self.percentile = Percentiles.of(surprise)
        self._update_stability(index, surprise)
        self._update_agreement(surveys)
        self.refreshes += 1

    def _update_stability(self, index: Tensor, surprise: Tensor) -> None:
        # Two fits to nearly the same rows always agree: half a panel of rows must lie between them.
        if self._before is not None and 2 * self._since < len(index):
            return
        if self._before is not None:
            index_before, surprise_before = self._before
            at = torch.searchsorted(index_before, index).clamp_max(len(index_before) - 1)
            both = index_before[at] == index
            if int(both.sum()) >= _LEAST:
                self.stability = rank_correlation(surprise_before[at[both]], surprise[both])
        self._before = index, surprise
        self._since = 0.0

    def _update_agreement(self, surveys: Sequence[LayerSurvey]) -> None:
        """Compare the two halves of the panel, and warn once if they disagree."""
        halves = [layer.by_halves(survey) for layer, survey in zip(self.layers, surveys, strict=True)]
        if pairs := [torch.stack(pair) for pair in halves if pair is not None]:
            first, second = torch.stack(pairs).sum(0)
            self.agreement = rank_correlation(first, second)
        if self.agreement < AGREE and self.refreshes >= 4 and not self._warned:
            self._warned = True
            warnings.warn(
                f"The two halves of the panel agree by only {self.agreement:.2f}, less than {AGREE}: there "
                "are too few samples for so fine a density, and it removes none. Use a coarser one, such as "
                "density=GaussianMixture(components=4) or Gaussian(), or a smaller dim.",
                stacklevel=4,
            )

    def _check_ranks(self) -> None:
        """Raise if the ranks have different densities."""
        sums = np.array([float(layer.inside.values.sum()) for layer in self.layers])
        gathered = gather_rows(sums[None], group=self.ranks.group)
        if len({tuple(values.ravel().tolist()) for (values,) in gathered}) > 1:
            raise wrong_state(
                "The ranks have different densities.", "Use the same model and seed on all ranks."
            )

    def renumber(self, origin: NDArray[np.int64]) -> None:
        """Follow a new numbering of the samples: sample i was ``origin[i]``, -1 for a new one.

        Samples stay in the panel if they belong to it under their new number; the others are replaced as
        samples pass.
        """
        self.panel.renumber(origin)
        # Its index is in the old numbering.
        self._before = None

    def state_dict(self, *, local: bool = False) -> dict[str, Any]:
        """Return everything, as tensors and plain values; exact.

        Args:
            local: the state of this rank only. By default the call is collective.
        """
        if not local:
            self.panel.settle(together=True)
        return {
            "layers": list(self.taps.names),
            "panel": self.panel.state_dict(),
            "views": [layer.state_dict() for layer in self.layers],  # the key of version 0.1
            "percentile": self.percentile.state_dict(),
            "before": None if self._before is None else list(self._before),
            "numbers": [self.stability, self.agreement, self._rows_a_call, self._since],
            "counts": [self.refreshes, self._seen, self._calls, self._period],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned.

        Raises:
            InvalidValue: if the model lacks one of the saved layers.
        """
        self.taps.choose(state["layers"])
        self.panel.load_state_dict(state["panel"])
        self.layers = [LayerDensity(self.density, self.dim, self.seed) for _ in state["views"]]
        for layer, part in zip(self.layers, state["views"], strict=True):
            layer.load_state_dict(part)
        self.percentile = Percentiles(**state["percentile"])
        self._before = None if state["before"] is None else (state["before"][0], state["before"][1])
        self.stability, self.agreement, self._rows_a_call, self._since = state["numbers"]
        self.refreshes, self._seen, self._calls, self._period = state["counts"]
        self._on_device = False


def _tree_on(tree: Any, device: torch.device) -> Any:
    """Return a tree of plain values with its tensors on a device."""
    if isinstance(tree, Tensor):
        return tree.to(device)
    if isinstance(tree, dict):
        return {name: _tree_on(part, device) for name, part in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_tree_on(part, device) for part in tree)
    return tree
