r"""What a density is: log p(x) of rows of numbers, learned from rows.

Perplexity under a density is :math:`-\log p(x)`: low where the training set lies dense, high where it is
thin.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from ..errors import invalid, invalid_type, wrong_state

Self = TypeVar("Self", bound="Density")


class DensityLike(Protocol):
    """Anything that learns a density from rows: an object of your own needs no base class.

    It is fitted again and again while the network trains, each time to other rows. See
    :class:`~fallow.densities.own.OwnDensity` for what else it may have.
    """

    def fit(self, x: Tensor) -> Any:
        """Learn the density of rows, float32 ``(N, D)``; what it returns is not used."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the logarithm of the density, in nats, of any float type: ``(B, D) -> (B,)``."""


class Density(ABC):
    r"""A density over vectors of ``dim`` numbers.

    Whatever is summed over rows is summed in float64 about a shifted origin, so that float32 rows far from
    zero lose nothing. Rows may have weights; a row of weight w counts as w rows.

    Attributes:
        name: the short name on the command line.
        leaves_out: whether it has :meth:`left_out`.
        dim: how many numbers a row has; 0 before it is fitted.
        count: the weights of all rows it was fitted on, summed.
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
    ) -> Self:
        """Learn the density of rows, and return it.

        Args:
            x: floats ``(N, D)``.
            weights: ``(N,)``, at least 0; 1 each by default.
            index: int64 ``(N,)``, names of the rows that are the same wherever they lie; their places by
                default. Whatever is drawn is drawn by name.
            together: all ranks call it, each with rows of its own, and get the density of all rows.

        Raises:
            InvalidValue, InvalidType: for rows that cannot be meant; nothing is changed.
        """

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Return the logarithm of the density, in nats, float64: ``(B, D) -> (B,)``.

        Raises:
            WrongState: before it is fitted.
        """

    def left_out(
        self,
        x: Tensor,
        *,
        weights: Tensor | None = None,
        index: Tensor | None = None,
    ) -> Tensor:
        """Return the log density of rows it was fitted on, each under the density of the others.

        A row pulls the density towards itself, so that :meth:`log_prob` flatters the rows it was fitted on.

        Args:
            x: floats ``(B, D)``, rows that were given to :meth:`fit`.
            weights: ``(B,)``, as given there.
            index: ``(B,)``, as given there.

        Returns:
            float64 ``(B,)``, in nats.

        Raises:
            WrongState: where only a refit could tell (``leaves_out`` is False).
        """
        what = f"{type(self).__name__} cannot leave a row out without a refit."
        raise wrong_state(what, f"Wrap it: Halves({type(self).__name__}(...)).")

    @abstractmethod
    def merge(self: Self, other: Self) -> Self:
        """Return the density of the rows of both.

        Raises:
            InvalidValue: where they do not fit together.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return all that was learned, as tensors and plain values."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""

    def _rows(self, x: Tensor) -> Tensor:
        """Return rows to be scored, checked."""
        if not self.dim:
            raise wrong_state(f"{type(self).__name__} has not learned anything.", "Call fit(x) first.")
        x = check_rows(x)
        if x.shape[1] != self.dim:
            raise invalid(f"Rows must have {self.dim} numbers, as those it was fitted on.", x.shape[1])
        return x


def check_rows(x: Tensor) -> Tensor:
    """Return ``x`` where it is a matrix of floats, in float32 or float64."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        found = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
        raise invalid_type("Rows must be a tensor of floats.", found, "Try x.float().")
    if x.dim() != 2:
        raise invalid("Rows must be of shape (N, D).", tuple(x.shape), "Try x.flatten(1).")
    return x.detach() if x.dtype in (torch.float32, torch.float64) else x.detach().float()


def check_sample(
    x: Tensor, weights: Tensor | None, index: Tensor | None, *, least: int = 2
) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows to learn from, with their weights and names: float64, float64, int64.

    Raises:
        InvalidValue: for rows, weights or names that cannot be meant.
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
    sound = bool(((weights >= 0) & weights.isfinite()).all())
    if len(weights) and not (sound and bool((weights > 0).any())):
        raise invalid("`weights` must be finite, at least 0, and not all 0.", weights.min().item())
    return weights


def check_index(index: Tensor | None, x: Tensor) -> Tensor:
    """Return the name of each row, int64 ``(N,)``."""
    if index is None:
        return torch.arange(len(x), device=x.device)
    if index.shape != x.shape[:1] or index.dtype != torch.int64:
        found = f"{index.dtype} {tuple(index.shape)}"
        raise invalid(f"`index` must be int64 of shape ({len(x)},).", found)
    return index.to(x.device)
