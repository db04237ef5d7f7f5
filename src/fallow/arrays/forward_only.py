"""Forward passes without side effects: on gradients, on running statistics, on random generators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook


@contextmanager
def forward_only() -> Iterator[None]:
    """Run forward passes that leave the modules unchanged.

    A module keeps its mode, so that scores measured in training mode compare with those of training. The
    buffers of every module that is called (running means and variances, their counters) are restored at the
    end, and so are the states of torch's random number generators.

    Example:
        >>> norm = nn.BatchNorm1d(3)
        >>> with forward_only():
        ...     _ = norm(torch.randn(8, 3) + 5)
        >>> norm.running_mean.tolist()
        [0.0, 0.0, 0.0]
    """
    values: dict[Tensor, Tensor] = {}
    buffers: dict[nn.Module, dict[str, Tensor]] = {}

    def remember(module: nn.Module, _: Any) -> None:
        if module not in buffers:
            for part in module.modules():
                # A part of two modules keeps what it held before the first of them was called.
                buffers.setdefault(part, _buffers(part))
                for buffer in part.buffers(recurse=False):
                    values.setdefault(buffer, buffer.clone())

    # Asking for the current device would start CUDA in a process that may not use it.
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    # For all modules, since only the caller knows which ones will run.
    hook = register_module_forward_pre_hook(remember)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            yield
    finally:
        hook.remove()
        with torch.no_grad():
            # A module may have replaced a buffer by another tensor: restore the object, then its values.
            for module, before in buffers.items():
                now = _buffers(module)
                for name in before.keys() | now.keys():
                    if now.get(name) is not before.get(name):
                        setattr(module, name, before.get(name))
            for buffer, value in values.items():
                buffer.copy_(value)


def _buffers(module: nn.Module) -> dict[str, Tensor]:
    # A buffer with two names is restored under both.
    return dict(module.named_buffers(recurse=False, remove_duplicate=False))
