"""A normalizing flow, by zuko."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ..arrays.selection import blocks
from ..errors import check_integer, invalid, missing_extra
from .base import Density, check_sample
from .naming import chosen

MOST = 1 << 16


class Flow(Density):
    r"""A neural spline flow f of standardised rows: :math:`\log p(x) = \log p_0(f(x)) + \log |\det f'(x)|`.

    It is trained by maximum likelihood with Adam, in float32, on at most 65,536 rows drawn by name. Slow to
    fit; for shapes that no mixture has. Needs ``pip install "fallow[flow]"``.

    Args:
        epochs: over the rows.
        hidden: width of the two hidden layers.
        transforms: how many splines.
        seed: of weights and batches.

    References:
        Neural spline flows (Durkan et al., 2019)
    """

    name: ClassVar[str] = "flow"
    leaves_out: ClassVar[bool] = False

    def __init__(self, epochs: int = 30, hidden: int = 64, transforms: int = 3, *, seed: int = 0) -> None:
        self.epochs = check_integer("epochs", epochs, 1)
        self.hidden = check_integer("hidden", hidden, 1)
        self.transforms = check_integer("transforms", transforms, 1)
        self.seed = check_integer("seed", seed, 0)
        self._flow: Any = None
        self._mean, self._scale = torch.zeros(0), torch.ones(0)

    def fit(
        self,
        x: Tensor,
        *,
        labels: Tensor | None = None,
        weights: Tensor | None = None,
        index: Tensor | None = None,
        together: bool = False,
    ) -> Flow:
        """See :meth:`Density.fit`."""
        x, weights, index = check_sample(x, weights, index, least=0 if together else 2)
        x, weights = chosen((x, weights), index, MOST, self.seed, together=together)[:2]
        share = weights / weights.sum()
        mean = share @ x
        scale = (share @ (x - mean).square()).sqrt().clamp_min(1e-6)
        rows, share = ((x - mean) / scale).float(), (share * len(x)).float()
        flow = self._made(x.shape[1]).to(x.device)
        with torch.enable_grad():
            self._train(flow, rows, share)
        self._flow, self._mean, self._scale = flow.eval(), mean, scale
        self.dim, self.count = int(x.shape[1]), float(weights.sum())
        return self

    def _train(self, flow: Any, rows: Tensor, share: Tensor) -> None:
        """Climb the likelihood of rows ``(N, D)``, each counted by its share."""
        generator = torch.Generator().manual_seed(self.seed)
        optimizer = torch.optim.Adam(flow.parameters(), lr=2e-3)
        steps = self.epochs * -(-len(rows) // 256)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(self.epochs):
            order = torch.randperm(len(rows), generator=generator).to(rows.device)
            for low, high in blocks(len(rows), 256):
                batch = order[low:high]
                loss = -(share[batch] * flow().log_prob(rows[batch])).mean()
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
                optimizer.step()
                schedule.step()

    def _made(self, dim: int) -> Any:
        try:
            import zuko
        except ModuleNotFoundError:
            raise missing_extra("A flow", "zuko", "flow") from None
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            if dim == 1:
                return zuko.flows.NSF(1, transforms=1, hidden_features=(self.hidden,))
            return zuko.flows.NSF(dim, transforms=self.transforms, hidden_features=(self.hidden, self.hidden))

    def log_prob(self, x: Tensor) -> Tensor:
        """See :meth:`Density.log_prob`."""
        x = self._rows(x)
        with torch.no_grad():
            rows = ((x.double() - self._mean) / self._scale).float()
            found = rows.new_empty(len(rows))
            for start, stop in blocks(len(rows), 1 << 13):
                found[start:stop] = self._flow().log_prob(rows[start:stop])
        return found.double() - self._scale.log().sum()

    def merge(self, other: Density) -> Flow:
        """Raise: only a fit to the rows of both would do."""
        raise invalid("A flow cannot be merged.", type(other).__name__, "Fit it to the rows of both.")

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`Density.state_dict`."""
        if self._flow is None:
            return {}
        return {
            "dim": self.dim, "count": self.count, "mean": self._mean, "scale": self._scale,
            "weights": {name: value.clone() for name, value in self._flow.state_dict().items()},
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`Density.load_state_dict`."""
        if state:
            self._flow = self._made(state["dim"])
            self._flow.load_state_dict(state["weights"])
            self._flow.eval()
            self._mean, self._scale = state["mean"], state["scale"]
            self.dim, self.count = state["dim"], state["count"]
