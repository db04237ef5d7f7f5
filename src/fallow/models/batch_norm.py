"""Batch norm that also takes a batch of one."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import batch_norm
from torch.nn.modules.batchnorm import _BatchNorm


class BatchNorm(_BatchNorm):
    """Batch norm over any number of positions, also while training on a single value a channel.

    The kept samples of an epoch can leave a last batch of one. It has no variance, for which
    torch's own layers raise an error; here such a batch is normalised by the running statistics
    and leaves them as they are.

    Shape:
        ``(B, C)`` or ``(B, C, H, W)`` to the same.

    >>> import torch
    >>> BatchNorm(3)(torch.ones(1, 3)).shape
    torch.Size([1, 3])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return ``input``, normalised for each channel."""
        if self.training and input.numel() == self.num_features:
            mean, variance = self.running_mean, self.running_var
            return batch_norm(input, mean, variance, self.weight, self.bias, eps=self.eps)
        return super().forward(input)

    def _check_input_dim(self, input: Tensor) -> None:
        """Allow any number of dimensions."""
