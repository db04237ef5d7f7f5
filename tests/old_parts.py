"""The network of the runs in ``tests/runs``, which an earlier version left behind."""

from torch import Tensor, nn


class Net(nn.Module):
    """One layer over the pixels of a digit."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.layer = nn.Linear(64, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(B, classes)``."""
        return self.layer(images.flatten(1))
