"""Image networks of `torchvision`, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torchvision
from torch import nn
from torchvision.models import get_model, get_model_weights, list_models

from ..errors import invalid, unknown_name
from ..models.expected import Expected

FILLED_IN = ("num_classes", "weights", "weights_backbone")
"""Arguments that the data or other options set."""


def expected(name: str) -> Expected:
    """Return the images that a network was trained on.

    Raises:
        InvalidValue: if torchvision has no such classifier.
    """
    _check(name)
    weights: Any = get_model_weights(name)
    if not len(weights):
        return Expected()
    shown = weights.DEFAULT.transforms()
    return Expected(shown.crop_size[0], tuple(shown.mean), tuple(shown.std))


def network(
    name: str, channels: int, classes: int, arguments: Mapping[str, Any], *, pretrained: bool
) -> nn.Module:
    """Return a network from images ``(B, 3, H, W)`` to logits ``(B, classes)``.

    Args:
        name: as torchvision knows it, such as ``resnet18`` or ``convnext_tiny``.
        channels: of the images, which must be 3.
        classes: the number of classes.
        arguments: more arguments of the network.
        pretrained: whether to take pretrained weights from the cache, or to fetch them. The output layer is
            drawn anew.

    Raises:
        InvalidValue: if there is no such classifier, torchvision refuses the arguments, or there are no
            weights.
    """
    _check(name)
    if channels != 3:
        step = "Name a network of timm, which takes any number."
        raise invalid(f"{name} of torchvision takes images of 3 channels.", channels, step)
    try:
        made: nn.Module = get_model(name, weights=None, num_classes=classes, **arguments)
    except Exception as error:  # networks raise many kinds
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise invalid(f"torchvision must be able to make {name}.", reason, "Check --model_args.") from None
    return made


def fetched(name: str) -> Mapping[str, Any]:
    """Return the pretrained weights of a network, from the cache or fetched; their hash is checked.

    Raises:
        InvalidValue: if there are none, or they cannot be fetched.
    """
    weights: Any = get_model_weights(name)
    if not len(weights):
        raise invalid(f"torchvision must have weights of {name}.", "none", "Leave --pretrained out.")
    try:
        state: Mapping[str, Any] = weights.DEFAULT.get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
    except Exception as error:  # the network and the disk raise many kinds
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        step = "Check the connection, or name a file: --pretrained FILE.safetensors."
        raise invalid(f"The weights of {name} must be within reach.", reason, step) from None
    return state


def _check(name: str) -> None:
    known = list_models(module=torchvision.models)
    if name not in known:
        raise unknown_name("classifier of torchvision", name, known)
