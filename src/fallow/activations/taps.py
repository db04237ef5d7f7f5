"""Forward hooks that take activations from a network, pooled to one row a sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from ..arrays.distributed import whole
from ..errors import invalid, unknown_name, wrong_state

WIDE = 256
"""Largest number of values of an averaged map."""
AUTO = "auto"
_SIDES = (4, 2, 1)


def pooled(activations: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return one row a sample, float32 ``(B, D)``, without a graph.

    Args:
        activations: ``(B, D)`` stay as they are; ``(B, T, D)`` become the mean over tokens; ``(B, C, H, W)``
            and ``(B, C, D, H, W)`` become means over a grid of 4, 2 or 1 cells a side, the finest with at
            most 256 values.
        mask: ``(B, T)``, the tokens that count; all by default.

    Raises:
        InvalidValue: if the activations have another shape.

    >>> pooled(torch.zeros(7, 64, 14, 14)).shape, pooled(torch.zeros(7, 10, 96)).shape
    (torch.Size([7, 256]), torch.Size([7, 96]))
    """
    with torch.no_grad(), torch.autocast(activations.device.type, enabled=False):
        x = activations.detach().float()
        if x.dim() == 2:
            return x.clone()  # the next layer may change it in place
        if x.dim() == 3:
            if mask is None:
                return x.mean(1)
            weights = mask.to(x.dtype).unsqueeze(2)
            return (x * weights).sum(1) / weights.sum(1).clamp_min(1.0)
        if x.dim() in (4, 5):
            places = x.dim() - 2
            side = next(s for s in _SIDES if s == 1 or x.shape[1] * s**places <= WIDE)
            return (x.flatten(2) @ _grid_means(tuple(x.shape[2:]), side, x.device)).flatten(1)
    raise invalid("Activations must be (B, D), (B, T, D) or (B, C, H, W).", tuple(activations.shape))


def _as_rows(module: nn.Module, activations: Tensor) -> Tensor:
    """Return a layer's activations in the layout that :func:`pooled` expects."""
    if isinstance(module, nn.Linear) and activations.dim() > 3:  # channels last after any other dimensions
        return activations.flatten(1, -2)
    if isinstance(module, nn.Conv1d) and activations.dim() == 3:  # channels before the sequence
        return activations.transpose(1, 2)
    return activations


@lru_cache(32)
def _grid_means(sides: tuple[int, ...], side: int, device: torch.device) -> Tensor:
    """Return the matrix that averages a map over a grid, ``(H W, side^2)``."""
    grid = torch.ones(1, 1)
    for length in sides:
        cells = min(side, length)
        at = torch.arange(length)
        low = torch.arange(cells) * length // cells
        high = -(-(torch.arange(cells) + 1) * length // cells)
        part = ((at[:, None] >= low) & (at[:, None] < high)).float()
        grid = torch.kron(grid, part / part.sum(0))
    return grid.to(device)


class Taps:
    """Forward hooks that record the activations of some layers in the last forward pass.

    With ``"auto"`` the input of a layer is recorded: that of the last linear layer is known as the features.
    A layer in evaluation mode is skipped unless ``in_evaluation`` is set, so an evaluation inside an epoch
    records nothing. A layer that is recomputed in backward (activation checkpointing) records the same rows.

    Args:
        model: the network.
        layers: ``"auto"``, or names of modules as in ``named_modules``, whose outputs are recorded.

    Attributes:
        names: the layers; with ``"auto"`` they are known after the first forward pass.
        in_evaluation: whether layers in evaluation mode are recorded too.
    """

    def __init__(self, model: nn.Module, layers: str | Sequence[str] = AUTO) -> None:
        self.model: nn.Module = getattr(model, "_orig_mod", model)  # inside torch.compile's wrapper
        self.names: list[str] = []
        self.in_evaluation = False
        self._mask: Tensor | None = None
        self._parts: list[Tensor] | None = None
        self._rows: dict[str, Tensor] = {}
        self._passes: dict[str, int] = {}
        self._hooks: list[Any] = []
        self._order: list[str] = []
        self._weighted: dict[str, nn.Module] = {}
        modules = dict(self.model.named_modules())
        if layers == AUTO:
            self._weighted = {n: m for n, m in modules.items() if _has_weights(m)}
            if not self._weighted:
                step = "Name layers=[...], as model.named_modules() gives them."
                raise invalid('layers="auto" needs linear or convolutional layers.', "none", step)
            for name, module in self._weighted.items():
                self._hooks.append(module.register_forward_pre_hook(self._input_hook(name)))
            return
        names = [layers] if isinstance(layers, str) else list(layers)
        if not names:
            raise invalid("`layers` must name a layer.", "none")
        self._check(names)
        for name in names:
            self._hooks.append(modules[name].register_forward_hook(self._output_hook(name)))
        self.names = names

    def expect(self, mask: Tensor | None = None, parts: list[Tensor] | None = None) -> None:
        """Describe how the next batch passes through the network.

        Args:
            mask: ``(B, T)``, the tokens that count; None for all.
            parts: the rows of each forward pass, in turn; None if one pass has the whole batch.
        """
        self._mask = mask
        self._parts = parts
        self._passes.clear()

    def _input_hook(self, name: str) -> Callable[..., None]:
        """Return a hook that records a layer's input, and the order of the layers."""

        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if not (module.training or self.in_evaluation) or not inputs or not isinstance(inputs[0], Tensor):
                return
            if self.names and name not in self.names:
                return
            if not self.names and name not in self._order:
                self._order.append(name)
            self._record(name, _as_rows(module, inputs[0]))

        return hook

    def _output_hook(self, name: str) -> Callable[..., None]:
        """Return a hook that records a layer's output."""

        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if module.training or self.in_evaluation:
                activations = output[0] if isinstance(output, tuple | list) else output
                if not isinstance(activations, Tensor):
                    step = "Name a layer whose output is a tensor."
                    raise invalid(f"The layer {name} must return a tensor.", type(activations).__name__, step)
                self._record(name, _as_rows(module, activations))

        return hook

    def _record(self, name: str, activations: Tensor) -> None:
        activations = whole(activations)
        if self._parts is None:
            self._rows[name] = pooled(activations, self._mask)
            return
        turn = self._passes.get(name, 0)
        if turn == len(self._parts):  # backward recomputes the layer
            return
        self._passes[name] = turn + 1
        part = self._parts[turn]
        # The texts of a pass are padded to the longest of them only, so its activations are shorter.
        mask = None if self._mask is None else self._mask[part, : activations.shape[1]]
        rows = pooled(activations, mask)
        if turn == 0:
            self._rows[name] = rows.new_zeros(sum(map(len, self._parts)), rows.shape[1])
        self._rows[name][part] = rows

    def take(self, batch: int | None) -> list[Tensor]:
        """Return the rows of the last forward pass, ``(B, D)`` a layer, and forget them.

        Raises:
            WrongState: if no forward pass has recorded any.
            InvalidValue: if a layer has another number of rows than ``batch``, or than the first layer.
        """
        if not self.names and self._order:
            self.names = chosen_layers(self._order)
            self._hook_chosen()
        if not self.names or any(name not in self._rows for name in self.names):
            missing = ", ".join(name for name in self.names if name not in self._rows) or "any layer"
            raise wrong_state(
                f"No forward pass of the model left activations of {missing}.",
                "First call model(x) in training mode, on the model that was given to ActivationDensity.",
            )
        rows = [self._rows[name] for name in self.names]
        batch = len(rows[0]) if batch is None else batch
        for name, layer in zip(self.names, rows, strict=True):
            if len(layer) != batch:
                step = "Name other layers=[...], with one row a sample."
                raise invalid(f"The layer {name} must see {batch} samples.", len(layer), step)
        # So that no pass is scored twice.
        self._rows.clear()
        return rows

    def _hook_chosen(self) -> None:
        """Remove the hooks of the layers that were not chosen."""
        self.remove()
        for name in self.names:
            self._hooks.append(self._weighted[name].register_forward_pre_hook(self._input_hook(name)))

    def _check(self, names: Sequence[str]) -> None:
        """Raise if the model lacks one of the layers."""
        known = [name for name, _ in self.model.named_modules()]
        for name in names:
            if name not in known:
                raise unknown_name("layer", name, filter(None, known))

    def choose(self, names: Sequence[str]) -> None:
        """Record these layers, as a saved state did."""
        if not names:  # saved before the first forward pass
            return
        self._check(names)
        self.names = list(names)
        if self._weighted:
            self._hook_chosen()

    def remove(self) -> None:
        """Remove all hooks from the network."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()


_CONVOLUTIONS = nn.Conv1d | nn.Conv2d | nn.Conv3d


def _has_weights(module: nn.Module) -> bool:
    """Return whether a layer is linear or a convolution."""
    if isinstance(module, nn.Linear | _CONVOLUTIONS):
        return True
    # transformers' GPT-2 has linear layers of a class of its own, with the weight transposed.
    return type(module).__name__ == "Conv1D" and getattr(module, "weight", torch.zeros(0)).dim() == 2


def chosen_layers(order: Sequence[str]) -> list[str]:
    """Return two layers of a forward pass, a quarter and three quarters of the way.

    The first layers see the raw sample. The last layers keep little of it beyond its class. A group of
    samples that is missing from the training set shows best in between.

    >>> chosen_layers(["stem", "conv1", "conv2", "head"]), chosen_layers(["only"])
    (['conv1', 'conv2'], ['only'])
    """
    last = len(order) - 1
    places = {min(last, max(1, round(len(order) / 4))), min(last, max(1, round(0.75 * last)))}
    return [order[place] for place in sorted(places)]
