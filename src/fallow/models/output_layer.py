"""The output layer of a network."""

from __future__ import annotations

from torch import nn


def output_layer(network: nn.Module) -> str:
    """Return the name of the last layer that has weights."""
    with_weights = [
        name for name, part in network.named_modules() if any(True for _ in part.parameters(False))
    ]
    return with_weights[-1] if with_weights else ""


def begin_at_zero(network: nn.Module) -> None:
    """Set the weights of the output layer to zero, below which all others are trained.

    All classes are then equally probable at first. Drawn weights would send large random gradients through
    the trained network in the first steps.
    """
    for weight in network.get_submodule(output_layer(network)).parameters():
        nn.init.zeros_(weight)
