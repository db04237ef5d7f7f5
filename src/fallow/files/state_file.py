"""Save a nested state as one safetensors file: its tensors, and a tree of plain values that refers to them.

The values of a ``state_dict()`` come back bit for bit: tensors, arrays, numbers (NaN and infinities, too),
text, lists, tuples, and dicts with any plain keys. Subclasses of tuple and dict other than Counter come back
as tuple and dict. Anything else is refused, and reading runs no code.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..errors import DamagedData, damaged, invalid_type

FORMAT = "fallow-state-1"
KEY = "fallow"
"""The only metadata entry of the file: JSON with ``format`` and ``tree``."""
_ARRAYS = {np.dtype(name) for name in (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32",
    "float64", "complex64")}  # fmt: skip
_PLAIN = (str, bool, int, type(None))
_UNREADABLE = (
    SafetensorError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)


def dump(tree: Any) -> bytes:
    """Return the bytes of a file that :func:`parse` reads.

    Raises:
        InvalidType: if a value is neither a tensor nor plain; the message names its path.
    """
    tensors: dict[str, Tensor] = {}
    plain = _encoded(tree, "", tensors)
    header = json.dumps({"format": FORMAT, "tree": plain}, allow_nan=False)
    return save(_unshared(tensors), metadata={KEY: header})


def parse(data: bytes, name: str) -> Any:
    """Return the tree that :func:`dump` wrote, with its tensors on the CPU.

    Args:
        data: the whole file.
        name: the name of the file, for errors.

    Raises:
        DamagedData: if it is not such a file.
    """
    step = "Look for another copy of it."
    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][KEY])
        if header["format"] != FORMAT:
            raise damaged(f"{name} must be of the format {FORMAT}.", header["format"], "Upgrade fallow.")
        return _decoded(header["tree"], tensors)
    except DamagedData:
        raise
    except _UNREADABLE as error:
        raise damaged(f"{name} must be a saved state.", f"{error!s:.200}", step) from None


def _encoded(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Return the plain tree of ``value``; its tensors go to ``tensors``, named by their path."""
    match value:
        case Tensor():
            return {"~tensor": _add_tensor(value.detach(), path, tensors)}
        case np.ndarray():
            return {"~array": _add_tensor(torch.from_numpy(_native(value, path)), path, tensors)}
        # Before float: np.float64 is one, and float() cannot read its repr.
        case np.generic():
            return _encoded(value.item(), path, tensors)
        case float():
            return value if math.isfinite(value) else {"~float": repr(value)}
        case tuple():
            return {"~tuple": [_encoded(v, f"{path}/{i}", tensors) for i, v in enumerate(value)]}
        case list():
            return [_encoded(v, f"{path}/{i}", tensors) for i, v in enumerate(value)]
        # Before dict, of which it is a subclass; torch's MultiStepLR keeps one.
        case Counter():
            return {"~counter": _pairs(value, path, tensors)}
        # Our own entries begin with ~, so a dict with such keys is written as pairs.
        case dict() if all(type(key) is str and not key.startswith("~") for key in value):
            return {key: _encoded(part, f"{path}/{key}", tensors) for key, part in value.items()}
        case dict():
            return {"~dict": _pairs(value, path, tensors)}
        case _ if type(value) in _PLAIN:
            return value
    raise invalid_type(
        "A saved state must hold tensors and plain values only.",
        f"{type(value).__name__} at {path or 'the top'}",
        "Leave it out of that state_dict(), or turn it into numbers, text, lists or dicts.",
    )


def _pairs(value: dict[Any, Any], path: str, tensors: dict[str, Tensor]) -> list[list[Any]]:
    return [
        [_encoded(key, f"{path}/key", tensors), _encoded(part, f"{path}/{key}", tensors)]
        for key, part in value.items()
    ]


def _native(array: NDArray[Any], path: str) -> NDArray[Any]:
    """Return an array as ``torch.from_numpy`` takes it: contiguous, writeable, in native byte order."""
    if array.dtype.kind not in "biufc":
        raise invalid_type("A saved state must hold numeric arrays only.", f"{array.dtype} at {path}")
    if array.dtype.newbyteorder("=") not in _ARRAYS:
        raise invalid_type("A saved state must hold arrays that torch knows.", f"{array.dtype} at {path}")
    # ascontiguousarray makes a row of a single number; reshape undoes that.
    native = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape)
    # torch.from_numpy warns if the memory is read-only.
    return native if native.flags.writeable else native.copy()


def _add_tensor(tensor: Tensor, path: str, tensors: dict[str, Tensor]) -> str:
    name = path.lstrip("/") or "value"
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.dtype == torch.complex128:
        found = f"{tensor.dtype}, {tensor.layout}, at {name}"
        raise invalid_type("A saved state must hold dense tensors that safetensors knows.", found)
    # A pending conjugation or negation does not show in the bytes that are saved.
    tensor = tensor.resolve_conj().resolve_neg()
    while name in tensors:
        name += "'"
    tensors[name] = tensor
    return name


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors on the CPU, each with its own memory: safetensors refuses shared memory."""
    seen: set[int] = set()
    unshared = {}
    for name, tensor in tensors.items():
        host = tensor.cpu().contiguous()
        memory = host.untyped_storage().data_ptr()
        if memory in seen or host.numel() * host.element_size() != host.untyped_storage().nbytes():
            host = host.clone()
        seen.add(host.untyped_storage().data_ptr())
        unshared[name] = host
    return unshared


def _decoded(tree: Any, tensors: dict[str, Tensor]) -> Any:
    match tree:
        case {"~tensor": name}:
            return tensors[name]
        case {"~array": name}:
            return tensors[name].numpy()
        case {"~float": text}:
            return float(text)
        case {"~tuple": parts}:
            return tuple(_decoded(part, tensors) for part in parts)
        case {"~counter": pairs}:
            return Counter({_decoded(key, tensors): _decoded(part, tensors) for key, part in pairs})
        case {"~dict": pairs}:
            return {_decoded(key, tensors): _decoded(part, tensors) for key, part in pairs}
        case dict():
            return {key: _decoded(part, tensors) for key, part in tree.items()}
        case list():
            return [_decoded(part, tensors) for part in tree]
    return tree
