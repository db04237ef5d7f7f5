"""A user's density: any object with ``fit(x)`` and ``log_prob(x)``."""

from __future__ import annotations

import inspect
from copy import deepcopy
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import invalid, invalid_type
from ..files.state_file import dump, parse
from .base import Density, DensityLike, check_sample
from .row_draws import draw_rows

METHODS = ("fit", "log_prob")
_EXAMPLE = "See examples/flow_density.py."
_ALL = 1 << 62
_CHECKED = 64
"""Number of rows on which a fitted object is tested."""


class OwnDensity(Density):
    """An object with ``fit(x)`` and ``log_prob(x)``, used as a :class:`Density`.

    Each fit starts from a copy of the given object, with gradients on and torch's generators seeded; the
    state of the generators is restored afterwards. The rows are float32 ``(N, D)``, ordered by sample.

    If the object has ``state_dict()`` and ``load_state_dict(state)``, a saved state holds what the first
    returns. For any other object it holds the rows, and a resumed run fits the object to them again.

    Args:
        density: the object; it is not changed.
        seed: of torch's generators during the fit.

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
        group: Any = None,
    ) -> OwnDensity:
        """See :meth:`Density.fit`; all weights must be 1."""
        x, weights, index = check_sample(x, weights, index, least=0 if together else 2)
        if bool((weights != 1).any()):
            raise invalid(f"{self._kind} takes rows of weight 1 only.", "other `weights`", "Leave them out.")
        rows = draw_rows((x,), index, _ALL, self.seed, together=together, group=group)[0].float()
        self._learn(rows)
        if not self._checked:
            self._check(rows[:_CHECKED])
        return self

    def _learn(self, rows: Tensor) -> None:
        fitted = self._copy()
        devices = range(torch.cuda.device_count())
        with torch.random.fork_rng(devices), torch.enable_grad():
            torch.manual_seed(self.seed)
            fitted.fit(rows.clone())  # a fit may change its argument in place
        self._fitted = fitted
        self._fitted_to = None if self._has_state else rows
        self.dim = int(rows.shape[1])
        self.count = float(len(rows))

    def _copy(self) -> Any:
        try:
            return deepcopy(self._given)
        except Exception as error:  # the user's code may raise anything
            raise invalid(f"{self._kind} must be copyable.", f"{type(error).__name__}: {error}") from error

    def _check(self, rows: Tensor) -> None:
        """Raise if a log density is not finite, or differs after saving and loading the state."""
        log_prob = self.log_prob(rows)
        check_finite(log_prob, self._kind)
        if self._has_state:
            rule = f"{self._kind}.load_state_dict(state) must restore what state_dict() returned."
            step = "Without these two methods it is fitted again when a run is resumed."
            loaded = OwnDensity(self._given, self.seed)
            try:
                loaded.load_state_dict(parse(dump(self.state_dict()), "a state"))
                same = torch.equal(loaded.log_prob(rows.cpu()), log_prob.cpu())
            except Exception as error:  # the user's code may raise anything
                raise invalid(rule, f"{type(error).__name__}: {error}", step) from error
            if not (same or rows.is_cuda):  # on another device the last bits may differ
                raise invalid(rule, "a different log_prob after loading", step)
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
            log_prob = self._fitted.log_prob(x.float())
        if not isinstance(log_prob, Tensor):
            raise invalid_type(f"{self._kind}.log_prob(x) must return a tensor.", type(log_prob).__name__)
        if log_prob.shape != x.shape[:1]:
            rule = f"{self._kind}.log_prob(x) must return one number a row, ({len(x)},)."
            raise invalid(rule, tuple(log_prob.shape))
        return log_prob.detach().to(x.device, torch.float64)

    def merge(self, other: Density) -> OwnDensity:
        """Raise InvalidValue: only a fit to the rows of both gives their density."""
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
        """See :meth:`Density.load_state_dict`; an object without a state is fitted at its first use."""
        if not state:
            return
        if "own" in state and not self._has_state:
            rule = f"{self._kind} must have load_state_dict(state), as it had when the state was saved."
            raise invalid(rule, "no such method")
        self._fitted, self._fitted_to = None, state.get("rows")
        if "own" in state:
            self._fitted = self._copy()
            self._fitted.load_state_dict(state["own"])
        self.dim, self.count = int(state["dim"]), float(state["count"])


def as_density(density: DensityLike | Density, seed: int = 0) -> Density:
    """Return an object as a :class:`Density`; one that is a density already stays as it is.

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
            kind = f"{type(density).__name__} without {name}"
            raise invalid_type(rule, kind, f"Try GaussianMixture(). {_EXAMPLE}")
        try:
            # Shows whether one argument is enough, without a call.
            inspect.signature(method).bind(None)
        except ValueError:  # a built-in without a signature
            continue
        except TypeError as error:
            raise invalid_type(rule, f"{type(density).__name__}.{name}: {error}", _EXAMPLE) from None


def check_finite(log_prob: Tensor, name: str) -> None:
    """Raise if the log density of a finite row is not finite."""
    if not bool(log_prob.isfinite().all()):
        row = int((~log_prob.isfinite()).nonzero()[0, 0])
        rule = f"log_prob(x) of {name} must be finite for finite rows."
        value = f"{log_prob[row].item()} for row {row} of {len(log_prob)}"
        raise invalid(rule, value, "Bound it from below.")
