r"""The base of all densities: log p(x) of rows of numbers, learned from rows.

The surprise under a density is :math:`-\log p(x)`: low where the training set is dense, high where it is
sparse.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from ..errors import invalid, invalid_type, wrong_state

Self = TypeVar("Self", bound="Density")


class DensityLike(Protocol):
    """Anything that learns a density from rows; no base class is needed.

    It is fitted many times while the network trains, each time to different rows. See
    :class:`~fallow.densities.own.OwnDensity` for its optional methods.
    """

    def fit(self, x: Tensor) -> Any:
        """Learn the density of rows, float32 ``(N, D)``; the return value is ignored."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log density in nats, of any float type: ``(B, D) -> (B,)``."""


class Density(ABC):
    r"""A density over vectors of ``dim`` numbers.

    Sums over rows are taken in float64 about a shifted origin, so that float32 rows far from zero keep their
    precision. Rows may have weights; a row of weight w counts as w rows.

    Attributes:
        name: the short name on the command line.
        leaves_out: whether it has :meth:`left_out`.
        dim: the numbers in a row; 0 before it is fitted.
        count: the sum of the weights of the fitted rows.
    """

    name: ClassVar[str] = ""
    leaves_out: ClassVar[bool] = True
    dim: int = 0
    count: float = 0.0

    @abstractmethod
    def fit(
        self: Self,
        x: Tensor,
        *,
        weights: Tensor | None = None,
        index: Tensor | None = None,
        together: bool = False,
        group: Any = None,
    ) -> Self:
        """Learn the density of rows, and return it.

        Args:
            x: floats ``(N, D)``.
            weights: ``(N,)``, at least 0; 1 each by default.
            index: int64 ``(N,)``, the sample of each row; by default its position. Random draws depend on
                it, not on the order of the rows.
            together: fit one density to the rows of all ranks; all of them call it, each with its own rows.
            group: the process group of these ranks; None for all.

        Raises:
            InvalidValue, InvalidType: if an argument is invalid; nothing is changed.
        """

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log density in nats, float64: ``(B, D) -> (B,)``.

        Raises:
            WrongState: before it is fitted.
        """

    def left_out(self, x: Tensor, *, weights: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Return the log density of fitted rows, each under the density of the other rows.

        A row pulls the density towards itself, so :meth:`log_prob` is too high for fitted rows.

        Args:
            x: floats ``(B, D)``, rows that were given to :meth:`fit`.
            weights: ``(B,)``, as given to :meth:`fit`.
            index: ``(B,)``, as given to :meth:`fit`.

        Returns:
            float64 ``(B,)``, in nats.

        Raises:
            WrongState: if it would take a refit (``leaves_out`` is False).
        """
        name = type(self).__name__
        raise wrong_state(f"{name} cannot leave a row out without a refit.", f"Wrap it: Halves({name}(...)).")

    @abstractmethod
    def merge(self: Self, other: Self) -> Self:
        """Return the density of the rows of both.

        Raises:
            InvalidValue: if the two cannot be merged.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return everything learned, as tensors and plain values."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned."""

    def _rows(self, x: Tensor) -> Tensor:
        """Check rows to be scored, and return them."""
        if not self.dim:
            raise wrong_state(f"{type(self).__name__} is not fitted.", "Call fit(x) first.")
        x = check_rows(x)
        if x.shape[1] != self.dim:
            raise invalid(f"Rows must have {self.dim} numbers, like the rows of fit(x).", x.shape[1])
        return x


def check_rows(x: Tensor) -> Tensor:
    """Return the matrix of floats ``x`` in float32 or float64, without a graph."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
        raise invalid_type("Rows must be a tensor of floats.", kind, "Try x.float().")
    if x.dim() != 2:
        raise invalid("Rows must be of shape (N, D).", tuple(x.shape), "Try x.flatten(1).")
    return x.detach() if x.dtype in (torch.float32, torch.float64) else x.detach().float()


def check_sample(
    x: Tensor, weights: Tensor | None, index: Tensor | None, *, least: int = 2
) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows to learn from, their weights and their samples: float64, float64, int64.

    Raises:
        InvalidValue: if one of them is invalid, or there are fewer than ``least`` rows.
    """
    x = check_rows(x).double()
    if len(x) < least or not x.shape[1]:
        raise invalid(f"A density needs at least {least} rows of at least one number.", tuple(x.shape))
    if not bool(x.isfinite().all()):
        row = int((~x.isfinite().all(1)).nonzero()[0, 0])
        raise invalid("Rows must be finite.", f"row {row} with {x[row][~x[row].isfinite()][0].item()}")
    return x, check_weights(weights, x), check_index(index, x)


def check_weights(weights: Tensor | None, x: Tensor) -> Tensor:
    """Return the weight of each row, float64 ``(N,)``."""
    if weights is None:
        return torch.ones(len(x), dtype=torch.float64, device=x.device)
    if weights.shape != x.shape[:1]:
        raise invalid(f"`weights` must be of shape ({len(x)},).", tuple(weights.shape))
    weights = weights.detach().to(x.device, torch.float64)
    valid = bool(((weights >= 0) & weights.isfinite()).all())
    # A rank may have no rows at all if ranks fit together.
    if len(weights) and not (valid and bool((weights > 0).any())):
        raise invalid("`weights` must be finite, at least 0, and not all 0.", weights.min().item())
    return weights


def check_index(index: Tensor | None, x: Tensor) -> Tensor:
    """Return the sample of each row, int64 ``(N,)``."""
    if index is None:
        return torch.arange(len(x), device=x.device)
    if index.shape != x.shape[:1] or index.dtype != torch.int64:
        rule = f"`index` must be int64 of shape ({len(x)},)."
        raise invalid(rule, f"{index.dtype} {tuple(index.shape)}")
    return index.to(x.device)
