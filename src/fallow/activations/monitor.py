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

from ..arrays.distributed import gather_rows, sum_over_ranks
from ..densities import DensityLike, GaussianMixture, Halves
from ..densities.halves import AGREE, rank_correlation
from ..densities.own import as_density
from ..errors import check_integer, invalid_type, wrong_state
from ..scores.base import NO_SCORE, Score
from .panel import Panel
from .percentiles import Percentiles
from .taps import AUTO, Taps
from .views import Look, View

FIRST, EVERY = 1024, 1 << 15
"""Rows before the first refresh, and between two of them at most."""
TIMES = 2
"""Refreshes an epoch, at least."""
STABLE = 0.8
"""Two scores of the panel after one another must be as alike, by rank, before any removes a sample."""
_LEAST = 64


@dataclass(frozen=True)
class Percentile(Score):
    """The score of a density: the share of the training set that lies denser."""

    name: ClassVar[str] = "density"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Raise: a density sees activations, not outputs."""
        raise wrong_state(
            "A density scores activations.",
            "Pass scores=watch.scores(index), watch = ActivationDensity(model).",
        )


class ActivationDensity:
    r"""Scores samples by the density of a network's activation maps, without labels.

    Forward hooks keep the activations of some layers, pooled to one row a sample. Of a fixed part of the
    training set, drawn by name (the *panel*), the latest rows are held; every so often, less often as
    training goes on, a density is fitted to them, in the directions in which they vary. A sample's score is
    its percentile under the density that was fitted last,

    .. math:: s(x) = \Pr_{x' \in \text{panel}} [\log p(x') > \log p(x)],

    within the subspace and off it, combined over layers by Fisher's sum, as a percentile again: 0 where the
    training set lies densest, 1 where it is thinnest. So scores of different epochs compare, whatever the
    scale of the activations. A sample never scores itself: Gaussians leave it out in closed form, mixtures
    are fitted in two halves and it is scored by the other.

    Before there have been two densities that agree, samples have no score, and none is removed.

    Args:
        model: the network that is trained; not wrapped in DDP (pass ``ddp.module``). Make it before
            ``torch.compile``.
        layers: ``"auto"``: the inputs of two layers, at a quarter and at three quarters of the way, or names
            of modules whose outputs count.
        density: of which kind; ``GaussianMixture(components=16)`` by default. Any object with ``fit(x)`` and
            ``log_prob(x)`` is one, as a :class:`~fallow.densities.own.OwnDensity`. One that cannot leave a
            row out is fitted in :class:`~fallow.densities.Halves`.
        dim: directions of a layer that are looked at, at most.
        panel: samples whose activations are held, at most.
        every: rows between two refreshes, at most.
        seed: of the panel and of all that is drawn.

    Attributes:
        score: the score that it is, for ``Subsampler(score=watch.score)``.
        percentile: how the surprise of all layers is distributed over the panel.
        refreshes: how many densities there have been.
        stability: the rank correlation of the panel's last two scores.
        agreement: the rank correlation of the scores by either half over the panel; NaN without halves.

    Raises:
        InvalidValue, InvalidType: for what cannot be meant.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> watch = ActivationDensity(network)
        >>> logits = network(torch.randn(16, 4))
        >>> watch.scores(torch.arange(16)).shape  # to subsampler.record(index, losses, scores=...)
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
    ) -> None:
        if not isinstance(model, nn.Module):
            raise invalid_type("`model` must be an nn.Module.", type(model).__name__)
        kind = GaussianMixture(16, iterations=10) if density is None else as_density(density, seed)
        self.density = kind if kind.leaves_out else Halves(kind, seed)
        self.dim = check_integer("dim", dim, 1)
        self.every = check_integer("every", every, 1)
        self.seed = check_integer("seed", seed, 0)
        self.taps = Taps(model, layers)
        self.panel = Panel(check_integer("panel", panel, _LEAST), seed)
        self.views: list[View] = []
        self.refreshes, self.stability, self.agreement = 0, float("nan"), float("nan")
        self.percentile = Percentiles.of(torch.zeros(1))
        self._before: tuple[Tensor, Tensor] | None = None
        self._seen, self._calls, self._period, self._a_call = 0, 0, FIRST, 0.0
        self._since = 0.0
        self._doubted, self._placed = False, True

    @property
    def ready(self) -> bool:
        """Whether scores may remove samples: two densities, the last ones alike, and halves that agree."""
        return self.refreshes >= 2 and self.stability >= STABLE and not self.agreement < AGREE

    def scores(self, index: Tensor | None = None, targets: Tensor | None = None) -> Tensor:
        """Return the percentiles of the last forward pass, float32 ``(B,)``, and learn from it.

        Nothing waits for the device, but where the densities are refreshed.

        Args:
            index: int64 ``(B,)`` on the host, as the loader gives it. Without it a row is scored by both
                halves, its own too.
            targets: not used, as a density sees no labels.

        Returns:
            In [0, 1]; ``NO_SCORE`` as long as no density is to be trusted; NaN for a row that is not finite.

        Raises:
            WrongState: where no forward pass was made.
        """
        rows, names = self._learned(index)
        if self._is_due(len(rows[0])):
            self.refresh()
        return self._scored(rows, names)

    def measure(self, index: Tensor) -> Tensor:
        """Return the percentiles of the last forward pass, and learn from it, as :meth:`scores` does.

        It never refreshes a density, so that ranks may measure other numbers of batches.
        """
        rows, names = self._learned(index)
        return self._scored(rows, names)

    def _scored(self, rows: list[Tensor], names: Tensor | None) -> Tensor:
        device = rows[0].device
        if not self.ready:
            return torch.full((len(rows[0]),), NO_SCORE, device=device)
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            looks = [view.look(layer, names) for view, layer in zip(self.views, rows, strict=True)]
            return self.percentile(self.surprise(looks))

    def see(self, index: Tensor) -> None:
        """Learn from the last forward pass and score nothing: of samples that an epoch leaves out."""
        self._learned(index)

    def look(self, index: Tensor | None = None) -> list[Look]:
        """Return how the last forward pass looks to each layer. Nothing is learned.

        Set ``watch.taps.looking`` for a network in evaluation mode.

        Args:
            index: int64 ``(B,)`` on the host, of samples of the training set; None for others.

        Raises:
            WrongState: before the first refresh, or without a forward pass.
        """
        if not self.views:
            raise wrong_state("There is no density yet.", "Train for an epoch, or call refresh().")
        rows = self.taps.take(None if index is None else len(index))
        self._place(rows[0].device)
        with torch.no_grad(), torch.autocast(rows[0].device.type, enabled=False):
            return [view.look(layer, index) for view, layer in zip(self.views, rows, strict=True)]

    def surprise(self, looks: Sequence[Look], *, off: bool = True) -> Tensor:
        """Return the sum over layers of the surprises, float64 ``(B,)``, in nats.

        Args:
            looks: a layer each.
            off: whether what lies off the subspaces counts too.
        """
        pairs = zip(self.views, looks, strict=True)
        return torch.stack([view.surprise(look, off=off) for view, look in pairs]).sum(0)

    def _learned(self, index: Tensor | None) -> tuple[list[Tensor], Tensor | None]:
        """Take the rows of the last forward pass to the panel; return them and their names."""
        rows = self.taps.take(None if index is None else len(index))
        count = len(rows[0])
        self._place(rows[0].device)
        host = np.arange(self._seen, self._seen + count)
        if index is not None:
            host = index.detach().cpu().numpy().astype(np.int64, copy=False)
        self._seen += count
        self.panel.add(host, rows)
        return rows, None if index is None else torch.from_numpy(host)

    def _place(self, device: torch.device) -> None:
        """Bring what a state held, which lies on the host, to where the activations are."""
        if not self._placed:
            self._placed = True
            for view in self.views:
                view.load_state_dict(_on(view.state_dict(), device))
            self.percentile = Percentiles(**_on(self.percentile.state_dict(), device))
            self._before = _on(self._before, device)
            self.panel.rows = _on(self.panel.rows, device)

    def _is_due(self, batch: int) -> bool:
        """Return whether it is time for a refresh: at the same call on all ranks."""
        if not self._a_call:
            self._a_call = float(sum_over_ranks(torch.tensor([batch], dtype=torch.float64)))
        self._calls += 1
        return self._calls * self._a_call >= self._period

    def refresh(self) -> None:
        """Fit the densities to the panel as it is now; with several ranks, all call it."""
        self._since += self._calls * self._a_call
        self._calls = 0
        self._period = min(2 * self._period, self.every)
        self.panel.settle(together=True)
        self._period = max(1, min(self._period, self.panel.population() // TIMES))
        index, rows = self.panel.finite()
        if len(index) < _LEAST:
            return
        if not self.views:
            self.views = [View(self.density, self.dim, self.seed) for _ in rows]
        with torch.no_grad(), torch.autocast(rows[0].device.type, enabled=False):
            self._fit(index, rows)
        self._check_ranks()

    def _fit(self, index: Tensor, rows: list[Tensor]) -> None:
        looks = [view.fit(layer, index) for view, layer in zip(self.views, rows, strict=True)]
        surprise = self.surprise(looks)
        self.percentile = Percentiles.of(surprise)
        self._compare(index, surprise, looks)
        self.refreshes += 1

    def _compare(self, index: Tensor, surprise: Tensor, looks: Sequence[Look]) -> None:
        """Note how like the last scores these are, and how far halves agree; say once where they do not.

        Two fits to nearly the same rows say nothing of what lasts: half a panel must have been seen between.
        """
        if self._before is None:
            self._before, self._since = (index, surprise), 0.0
        elif 2 * self._since >= len(index):
            names, before = self._before
            at = torch.searchsorted(names, index).clamp_max(len(names) - 1)
            both = names[at] == index
            if int(both.sum()) >= _LEAST:
                self.stability = rank_correlation(before[at[both]], surprise[both])
            self._before, self._since = (index, surprise), 0.0
        halves = [view.by_halves(look) for view, look in zip(self.views, looks, strict=True)]
        if pairs := [torch.stack(pair) for pair in halves if pair is not None]:
            first, second = torch.stack(pairs).sum(0)
            self.agreement = rank_correlation(first, second)
        if self.agreement < AGREE and self.refreshes >= 4 and not self._doubted:
            self._doubted = True
            warnings.warn(
                f"Two halves of the panel agree by {self.agreement:.2f} only, less than {AGREE}: there are "
                "too few samples for so fine a density, and none is removed by it. Name a coarser one, as "
                "density=GaussianMixture(components=4) or Gaussian(), or a smaller dim.",
                stacklevel=4,
            )

    def _check_ranks(self) -> None:
        """Raise where the ranks' densities are not the same."""
        mine = np.array([float(view.inside.values.sum()) for view in self.views])
        found = {tuple(numbers.ravel().tolist()) for (numbers,) in gather_rows(mine[None])}
        if len(found) > 1:
            raise wrong_state(
                "The ranks have different densities.", "Give all of them the same model and seed."
            )

    def renumber(self, origin: NDArray[np.int64]) -> None:
        """Take note that samples stand elsewhere now: sample i stood at ``origin[i]``, -1 for a new one.

        Of the panel those stay that belong to it under their new number; it fills up again as
        samples are seen.
        """
        self.panel.renumber(origin)
        self._before = None

    def state_dict(self, *, local: bool = False) -> dict[str, Any]:
        """Return everything, as tensors and plain values; exact.

        Args:
            local: what this rank knows, without talking to the others. By default all call it.
        """
        if not local:
            self.panel.settle(together=True)
        return {
            "layers": list(self.taps.names),
            "panel": self.panel.state_dict(),
            "views": [view.state_dict() for view in self.views],
            "percentile": self.percentile.state_dict(),
            "before": None if self._before is None else list(self._before),
            "numbers": [self.stability, self.agreement, self._a_call, self._since],
            "counts": [self.refreshes, self._seen, self._calls, self._period],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned.

        Raises:
            InvalidValue: where it looked at layers that the model has not.
        """
        self.taps.choose(state["layers"])
        self.panel.load_state_dict(state["panel"])
        self.views = [View(self.density, self.dim, self.seed) for _ in state["views"]]
        for view, part in zip(self.views, state["views"], strict=True):
            view.load_state_dict(part)
        self.percentile = Percentiles(**state["percentile"])
        self._before = None if state["before"] is None else (state["before"][0], state["before"][1])
        self.stability, self.agreement, self._a_call, self._since = state["numbers"]
        self.refreshes, self._seen, self._calls, self._period = state["counts"]
        self._placed = False


def _on(tree: Any, device: torch.device) -> Any:
    """Return a tree of plain values with its tensors on a device."""
    if isinstance(tree, Tensor):
        return tree.to(device)
    if isinstance(tree, dict):
        return {name: _on(part, device) for name, part in tree.items()}
    return type(tree)(_on(part, device) for part in tree) if isinstance(tree, list | tuple) else tree
