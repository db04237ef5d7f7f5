"""Models: the small networks for images and texts that fallow ships."""

from collections.abc import Callable

from torch import nn

from ..errors import unknown_name
from .resnet import ResNet9
from .small_autoencoder import SmallAutoencoder
from .small_conv import SmallConvNet
from .small_gpt import SmallGPT
from .small_resnet import SmallResNet
from .small_transformer import SmallTransformer

__all__ = [
    "IMAGE_MODELS",
    "ResNet9",
    "SmallAutoencoder",
    "SmallConvNet",
    "SmallGPT",
    "SmallResNet",
    "SmallTransformer",
    "image_model",
]

IMAGE_MODELS: dict[str, Callable[[int, int | tuple[int, int], int], nn.Module]] = {
    "small-conv": SmallConvNet,
    "resnet": ResNet9,
    "small-resnet": SmallResNet,
}
"""The image networks by command-line name: ``(channels, size, classes) -> module``."""


def image_model(name: str, channels: int, size: int | tuple[int, int], classes: int) -> nn.Module:
    """Return a new network from images ``(B, channels, H, W)`` to logits ``(B, classes)``.

    Its weights are drawn from torch's global generator, as in every torch module.

    Args:
        name: ``small-conv``, ``small-resnet`` or ``resnet``.
        channels: channels of the images.
        size: their side in pixels, or height and width.
        classes: the number of classes.

    Raises:
        InvalidValue: if the name is unknown, or the images are too small for the network.

    >>> type(image_model("small-conv", channels=1, size=28, classes=10)).__name__
    'SmallConvNet'
    """
    if name not in IMAGE_MODELS:
        raise unknown_name("model", name, IMAGE_MODELS)
    return IMAGE_MODELS[name](channels, size, classes)
