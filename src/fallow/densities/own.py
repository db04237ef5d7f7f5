"""A density of the user's own: any object with ``fit(x)`` and ``log_prob(x)``."""

from __future__ import annotations

import inspect
from copy import deepcopy
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import invalid, invalid_type
from ..files.state_file import dump, parse
from .base import Density, DensityLike, check_sample
from .naming import chosen

METHODS = ("fit", "log_prob")
_EXAMPLE = "See examples/flow_density.py."
_ALL = 1 << 62
_CHECKED = 64
"""Rows for which a fitted object is asked, to see whether it does what it should."""


class OwnDensity(Density):
    """An object with ``fit(x)`` and ``log_prob(x)``, used as a :class:`Density`.

    Each fit begins with a copy of the object as it was given, with gradients on and torch's generator seeded,
    which is put back afterwards. The rows are float32 ``(N, D)``, in the order of their samples.

    If the object has ``state_dict()`` and ``load_state_dict(state)``, a saved state holds what the first
    returns. Of any other object it holds the rows, to which a resumed run fits it again.

    Args:
        density: the object; it is not changed.
        seed: of torch's generator while it is fitted.

    Raises:
        InvalidType: if it lacks a method, or is a class.
    """

    leaves_out: ClassVar[bool] = False

    def __init__(self, density: DensityLike, seed: int = 0) -> None:
        self._kind = type(density).__name__
        _check_methods(density)
        self._given: Any = density
        self._has_state = all(callable(getattr(density, m, None)) for m in ("state_dict", "load_state_dict"))
        self.seed = seed
        self._fitted: Any = None
        self._fitted_to: Tensor | None = None
        self._checked = False
        self._copy()

    def fit(
        self,
        x: Tensor,
        *,
        weights: Tensor | None = None,
        index: Tensor | None = None,
        together: bool = False,
    ) -> OwnDensity:
        """See :meth:`Density.fit`; all rows have the same weight."""
        x, weights, index = check_sample(x, weights, index, least=0 if together else 2)
        if bool((weights != 1).any()):
            raise invalid(f"{self._kind} takes rows of weight 1 only.", "other `weights`", "Leave them out.")
        rows = chosen((x,), index, _ALL, self.seed, together=together)[0].float()
        self._learn(rows)
        if not self._checked:
            self._check(rows[:_CHECKED])
        return self

    def _learn(self, rows: Tensor) -> None:
        fitted = self._copy()
        every = range(torch.cuda.device_count())
        with torch.random.fork_rng(every), torch.enable_grad():
            torch.manual_seed(self.seed)
            fitted.fit(rows.clone())
        self._fitted = fitted
        self._fitted_to = None if self._has_state else rows
        self.dim, self.count = int(rows.shape[1]), float(len(rows))

    def _copy(self) -> Any:
        try:
            return deepcopy(self._given)
        except Exception as error:  # whatever somebody else's code raises
            raise invalid(f"{self._kind} must be copyable.", f"{type(error).__name__}: {error}") from error

    def _check(self, rows: Tensor) -> None:
        """Raise if the fitted object gives no finite number a row, or another one once it was saved."""
        found = self.log_prob(rows)
        check_finite(found, self._kind)
        if self._has_state:
            rule = f"{self._kind}.load_state_dict(state) must give a new object what state_dict() returned."
            step = "Without these two methods it is fitted again when a run is resumed."
            again = OwnDensity(self._given, self.seed)
            try:
                again.load_state_dict(parse(dump(self.state_dict()), "a state"))
                same = torch.equal(again.log_prob(rows.cpu()), found.cpu())
            except Exception as error:  # whatever somebody else's code raises
                raise invalid(rule, f"{type(error).__name__}: {error}", step) from error
            if not (same or rows.is_cuda):  # on another device the last bits may differ
                raise invalid(rule, "another log_prob", step)
        self._checked = True

    def log_prob(self, x: Tensor) -> Tensor:
        """See :meth:`Density.log_prob`."""
        x = self._rows(x)
        if not len(x):
            return x.new_empty(0, dtype=torch.float64)
        if self._fitted is None:
            assert self._fitted_to is not None
            self._learn(self._fitted_to)
        with torch.no_grad():
            found = self._fitted.log_prob(x.float())
        if not isinstance(found, Tensor):
            raise invalid_type(f"{self._kind}.log_prob(x) must return a tensor.", type(found).__name__)
        if found.shape != x.shape[:1]:
            rule = f"{self._kind}.log_prob(x) must return one number a row, ({len(x)},)."
            raise invalid(rule, tuple(found.shape))
        return found.detach().to(x.device, torch.float64)

    def merge(self, other: Density) -> OwnDensity:
        """Raise: only a fit to the rows of both would do."""
        rule = f"{self._kind} cannot be merged."
        raise invalid(rule, type(other).__name__, "Fit it to the rows of both.")

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`Density.state_dict`."""
        if not self.dim:
            return {}
        state = {"dim": self.dim, "count": self.count}
        if self._fitted_to is not None:
            return {**state, "rows": self._fitted_to}
        return {**state, "own": self._fitted.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`Density.load_state_dict`; an object without a state is fitted when it is first asked."""
        if not state:
            return
        if "own" in state and not self._has_state:
            raise invalid(f"{self._kind} must have load_state_dict(state), as when it was saved.", "none")
        self._fitted, self._fitted_to = None, state.get("rows")
        if "own" in state:
            self._fitted = self._copy()
            self._fitted.load_state_dict(state["own"])
        self.dim, self.count = int(state["dim"]), float(state["count"])


def as_density(density: DensityLike | Density, seed: int = 0) -> Density:
    """Return an object as a density; one of ours as it is.

    Raises:
        InvalidType: if it has no ``fit(x)`` or no ``log_prob(x)``.
    """
    return density if isinstance(density, Density) else OwnDensity(density, seed)


def _check_methods(density: Any) -> None:
    rule = "`density` must be an object with fit(x) and log_prob(x)."
    if isinstance(density, type):
        raise invalid_type(rule, f"the class {density.__name__}", f"Pass {density.__name__}().")
    for name in METHODS:
        method = getattr(density, name, None)
        if not callable(method):
            found = f"{type(density).__name__} without {name}"
            raise invalid_type(rule, found, f"Try GaussianMixture(). {_EXAMPLE}")
        try:
            inspect.signature(method).bind(None)
        except ValueError:  # a built-in that does not say what it takes
            continue
        except TypeError as error:
            raise invalid_type(rule, f"{type(density).__name__}.{name}: {error}", _EXAMPLE) from None


def check_finite(log_prob: Tensor, name: str) -> None:
    """Raise for a log density that is not finite, of rows that are."""
    if not bool(log_prob.isfinite().all()):
        row = int((~log_prob.isfinite()).nonzero()[0, 0])
        found = f"{log_prob[row].item()} for row {row} of {len(log_prob)}"
        raise invalid(f"log_prob(x) of {name} must be finite for finite rows.", found, "Bound it from below.")
