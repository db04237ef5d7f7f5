"""The index of a batch, which stays where it is needed."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class HostIndex(Tensor):
    """The int64 indices of a batch, ``(B,)``: a tensor that stays on the host.

    A framework that moves the batch to an accelerator leaves it where ``record`` needs it. Everything
    computed from it is an ordinary tensor.
    """

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Compute as for a plain tensor, so that the result is one."""
        return Tensor.__torch_function__(func, (), args, kwargs)  # type: ignore[no-untyped-call]

    def to(self, *_: Any, **__: Any) -> HostIndex:
        """Return self, wherever the batch is sent."""
        return self

    cuda = to

    def pin_memory(self, *_: Any, **__: Any) -> HostIndex:
        """Return self: it is not copied to a device, so there is nothing to pin for."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> HostIndex:
        memo[id(self)] = copied = self.clone().as_subclass(HostIndex)
        return copied
