"""Where activations are taken from a network, and how a layer's become one row a sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import invalid, unknown_name, wrong_state

WIDE = 256
"""A layer's maps are averaged over as many squares as leave so many numbers."""
AUTO = "auto"
_SIDES = (4, 2, 1)


def pooled(activations: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return one row a sample, float32 ``(B, D)``, without a graph.

    Args:
        activations: ``(B, D)`` as they are; ``(B, T, D)``, the mean over tokens; ``(B, C, H, W)`` or ``(B, C,
            D, H, W)``, means over a grid of 4, 2 or 1 squares a side, as fine as leaves at most 256 numbers.
        mask: ``(B, T)``, which tokens count; all by default.

    Raises:
        InvalidValue: for activations of another shape.

    >>> pooled(torch.zeros(7, 64, 14, 14)).shape, pooled(torch.zeros(7, 10, 96)).shape
    (torch.Size([7, 256]), torch.Size([7, 96]))
    """
    with torch.no_grad(), torch.autocast(activations.device.type, enabled=False):
        x = activations.detach().float()
        if x.dim() == 2:
            return x.clone()  # it may be changed in place
        if x.dim() == 3:
            if mask is None:
                return x.mean(1)
            weights = mask.to(x.dtype).unsqueeze(2)
            return (x * weights).sum(1) / weights.sum(1).clamp_min(1.0)
        if x.dim() in (4, 5):
            places = x.dim() - 2
            side = next(s for s in _SIDES if s == 1 or x.shape[1] * s**places <= WIDE)
            return (x.flatten(2) @ _squares(tuple(x.shape[2:]), side, x.device)).flatten(1)
    raise invalid("Activations must be (B, D), (B, T, D) or (B, C, H, W).", tuple(activations.shape))


def _as_rows(module: nn.Module, activations: Tensor) -> Tensor:
    """Return a layer's activations with channels where :func:`pooled` looks for them.

    A linear layer has them last, whatever stands before; a convolution over sequences has them before.
    """
    if isinstance(module, nn.Linear) and activations.dim() > 3:
        return activations.flatten(1, -2)
    if isinstance(module, nn.Conv1d) and activations.dim() == 3:
        return activations.transpose(1, 2)
    return activations


@lru_cache(32)
def _squares(sides: tuple[int, ...], side: int, device: torch.device) -> Tensor:
    """Return the matrix that averages a map over a grid, ``(H W, side^2)``: one product a batch."""
    grid = torch.ones(1, 1)
    for length in sides:
        cells = min(side, length)
        at = torch.arange(length)
        low, high = torch.arange(cells) * length // cells, -(-(torch.arange(cells) + 1) * length // cells)
        part = ((at[:, None] >= low) & (at[:, None] < high)).float()
        grid = torch.kron(grid, part / part.sum(0))
    return grid.to(device)


class Taps:
    """Forward hooks that keep what some layers get, of the last forward pass.

    What counts is the input of a layer: that of the last linear layer is what people call the features. A
    layer in evaluation mode is not looked at unless ``looking`` is set, so that an evaluation inside an epoch
    leaves no trace; a pass that recomputes a layer in backward leaves what it left before.

    Args:
        model: the network.
        layers: ``"auto"``, or names of its modules as ``named_modules`` gives them, whose output counts.

    Attributes:
        names: of the layers; with ``"auto"`` known after the first forward pass.
        looking: whether layers in evaluation mode are looked at too.
    """

    def __init__(self, model: nn.Module, layers: str | Sequence[str] = AUTO) -> None:
        self.model: nn.Module = getattr(model, "_orig_mod", model)
        self.names: list[str] = []
        self.looking = False
        self._mask: Tensor | None = None
        self._parts: list[Tensor] | None = None
        self._rows: dict[str, Tensor] = {}
        self._passes: dict[str, int] = {}
        self._hooks: list[Any] = []
        self._order: list[str] = []
        self._weighed: dict[str, nn.Module] = {}
        modules = dict(self.model.named_modules())
        if layers == AUTO:
            self._weighed = {n: m for n, m in modules.items() if _weighs(m)}
            if not self._weighed:
                step = "Name layers=[...], as model.named_modules() gives them."
                raise invalid('layers="auto" needs linear or convolutional layers.', "none", step)
            for name, module in self._weighed.items():
                self._hooks.append(module.register_forward_pre_hook(self._noted(name)))
            return
        names = [layers] if isinstance(layers, str) else list(layers)
        if not names:
            raise invalid("`layers` must name a layer.", "none")
        self._check(names)
        for name in names:
            self._hooks.append(modules[name].register_forward_hook(self._kept(name)))
        self.names = names

    def expect(self, mask: Tensor | None = None, parts: list[Tensor] | None = None) -> None:
        """Say how the next batch passes.

        Args:
            mask: ``(B, T)``, which tokens count; None for all.
            parts: which rows each forward pass sees, in turn; None where one pass sees them all.
        """
        self._mask, self._parts = mask, parts
        self._passes.clear()

    def _noted(self, name: str) -> Callable[..., None]:
        """Return a hook that keeps a layer's input, and notes the order in which layers are passed."""

        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if not (module.training or self.looking) or not inputs or not isinstance(inputs[0], Tensor):
                return
            if self.names and name not in self.names:
                return
            if not self.names and name not in self._order:
                self._order.append(name)
            self._keep(name, _as_rows(module, inputs[0]))

        return hook

    def _kept(self, name: str) -> Callable[..., None]:
        """Return a hook that keeps a layer's output."""

        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if module.training or self.looking:
                found = output[0] if isinstance(output, tuple | list) else output
                if not isinstance(found, Tensor):
                    step = "Name a layer whose output is a tensor."
                    raise invalid(f"The layer {name} must return a tensor.", type(found).__name__, step)
                self._keep(name, _as_rows(module, found))

        return hook

    def _keep(self, name: str, activations: Tensor) -> None:
        """Keep what a layer gets; of a pass that sees a part of the batch, in the rows of that part."""
        if self._parts is None:
            self._rows[name] = pooled(activations, self._mask)
            return
        turn = self._passes.get(name, 0)
        if turn == len(self._parts):  # backward passes it again
            return
        self._passes[name] = turn + 1
        part = self._parts[turn]
        found = pooled(activations, None if self._mask is None else self._mask[part, : activations.shape[1]])
        if turn == 0:
            self._rows[name] = found.new_zeros(sum(map(len, self._parts)), found.shape[1])
        self._rows[name][part] = found

    def take(self, batch: int | None) -> list[Tensor]:
        """Return the rows of the last forward pass, ``(B, D)`` a layer, and forget them.

        Raises:
            WrongState: where no forward pass has left any.
            InvalidValue: where they are not of ``batch`` samples, or of different numbers of them.
        """
        if not self.names and self._order:
            self.names = chosen_layers(self._order)
            self._forget_others()
        if not self.names or any(name not in self._rows for name in self.names):
            lacking = ", ".join(name for name in self.names if name not in self._rows) or "any layer"
            raise wrong_state(
                f"No forward pass of the model left activations of {lacking}.",
                "Call model(x) in training mode before, on the model that was given to ActivationDensity.",
            )
        rows = [self._rows[name] for name in self.names]
        batch = len(rows[0]) if batch is None else batch
        for name, found in zip(self.names, rows, strict=True):
            if len(found) != batch:
                step = "Name other layers=[...], with one row a sample."
                raise invalid(f"The layer {name} must see {batch} samples.", len(found), step)
        self._rows.clear()
        return rows

    def _forget_others(self) -> None:
        """Take the hooks off the layers that were not chosen."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = [
            self._weighed[name].register_forward_pre_hook(self._noted(name)) for name in self.names
        ]

    def _check(self, names: Sequence[str]) -> None:
        """Raise for a layer that the model has not."""
        known = [name for name, _ in self.model.named_modules()]
        for name in names:
            if name not in known:
                raise unknown_name("layer", name, filter(None, known))

    def choose(self, names: Sequence[str]) -> None:
        """Look at these layers, as a state says they were chosen before."""
        if not names:  # of before the first forward pass
            return
        self._check(names)
        self.names = list(names)
        if self._weighed:
            self._forget_others()

    def remove(self) -> None:
        """Take all hooks off the network."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()


_CONVOLUTIONS = nn.Conv1d | nn.Conv2d | nn.Conv3d


def _weighs(module: nn.Module) -> bool:
    """Return whether a layer is linear or a convolution, GPT-2's linear layers of another name included."""
    if isinstance(module, nn.Linear | _CONVOLUTIONS):
        return True
    return type(module).__name__ == "Conv1D" and getattr(module, "weight", torch.zeros(0)).dim() == 2


def chosen_layers(order: Sequence[str]) -> list[str]:
    """Return two of the layers that a forward pass went through: a quarter and three quarters of the way.

    The first layer sees the sample itself; what the last ones see is the less of the sample the better they
    have learned their classes, so that a group that is missing is seen best in between.

    >>> chosen_layers(["stem", "conv1", "conv2", "head"]), chosen_layers(["only"])
    (['conv1', 'conv2'], ['only'])
    """
    last = len(order) - 1
    places = {min(last, max(1, round(len(order) / 4))), min(last, max(1, round(0.75 * last)))}
    return [order[place] for place in sorted(places)]
