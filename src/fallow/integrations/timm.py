"""Image networks of `timm`, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
from timm.models import get_pretrained_cfg
from torch import nn

from ..errors import invalid, unknown_name
from ..models.expected import Expected
from ..models.output_layer import begin_at_zero

FILLED_IN = (
    "num_classes",
    "in_chans",
    "pretrained",
    "checkpoint_path",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
)
"""Arguments that the data or other options set."""


def expected(name: str) -> Expected:
    """Return the images that a network was trained on, or is made for.

    Raises:
        InvalidValue: if timm has no such network.
    """
    _check(name)
    config = get_pretrained_cfg(name)
    if config is None:
        return Expected()
    return Expected(config.input_size[-1], tuple(config.mean), tuple(config.std))


def network(
    name: str, channels: int, classes: int, arguments: Mapping[str, Any], *, pretrained: bool
) -> nn.Module:
    """Return a network from images ``(B, channels, H, W)`` to logits ``(B, classes)``.

    Args:
        name: as timm knows it, such as ``resnet18`` or ``vit_tiny_patch16_224.augreg_in21k``.
        channels: of the images.
        classes: the number of classes.
        arguments: more arguments of ``timm.create_model``.
        pretrained: whether to take pretrained weights from timm's cache, or to fetch them.

    Raises:
        InvalidValue: if there is no such network, timm refuses the arguments, or there are no weights.
    """
    _check(name)
    try:
        made: nn.Module = timm.create_model(
            name, pretrained=pretrained, in_chans=channels, num_classes=classes, **arguments
        )
    except Exception as error:  # networks and the hub raise many kinds
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        step = "Check --model_args."
        if pretrained:
            step = "Check the connection, or name a file: --pretrained FILE.safetensors."
        raise invalid(f"timm must be able to make {name}.", reason, step) from None
    trained: Any = made.pretrained_cfg
    if pretrained and trained["num_classes"] != classes:  # timm has drawn the output layer anew
        begin_at_zero(made)
    return made


def _check(name: str) -> None:
    if not timm.is_model(name):
        raise unknown_name("network of timm", name, timm.list_models())
