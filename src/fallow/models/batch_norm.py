"""Batch norm that also accepts a batch of one."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import batch_norm
from torch.nn.modules.batchnorm import _BatchNorm


class BatchNorm(_BatchNorm):
    """Batch norm over any number of positions, even for training on a single value per channel.

    The kept samples of an epoch can leave a last batch of one. It has no variance, so torch's own
    layers raise an error. This layer normalises such a batch by the running statistics and does not
    update them.

    Shape:
        ``(B, C)`` or ``(B, C, H, W)`` to the same.

    >>> import torch
    >>> BatchNorm(3)(torch.ones(1, 3)).shape
    torch.Size([1, 3])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return ``input``, normalised for each channel."""
        if self.training and input.numel() == self.num_features:
            return batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(input)

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept any number of dimensions; torch's abstract base class requires this method."""
