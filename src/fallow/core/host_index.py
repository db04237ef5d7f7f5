"""The index of a batch, a tensor that stays on the host."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class HostIndex(Tensor):
    """The int64 indices of a batch, ``(B,)``, on the host.

    Frameworks move whole batches to an accelerator, but ``record`` needs the index on the host. Results of
    operations on it are ordinary tensors.
    """

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return a plain tensor from every operation."""
        # On Tensor, not super(): that would make the results HostIndex again.
        return Tensor.__torch_function__(func, (), args, kwargs)  # type: ignore[no-untyped-call]

    def to(self, *_: Any, **__: Any) -> HostIndex:
        """Return self."""
        return self

    cuda = to

    def pin_memory(self, *_: Any, **__: Any) -> HostIndex:
        """Return self: pinned memory only speeds up copies to a device."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> HostIndex:
        # clone() returns a plain tensor, as every operation does.
        memo[id(self)] = copied = self.clone().as_subclass(HostIndex)
        return copied
