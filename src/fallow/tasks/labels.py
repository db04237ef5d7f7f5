"""The class ids that a dataset of the user's own offers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Subset

from ..core.batch_checks import check_labels
from ..core.class_ids import ClassIds
from ..errors import FallowError

ATTRIBUTES = ("labels", "targets")
"""Names under which datasets keep one class id a sample; torchvision's say ``targets``."""


def offered_labels(dataset: Any) -> tuple[Tensor, tuple[str, ...]] | tuple[None, None]:
    """Return the class ids of a dataset's samples and the names of the classes, where it offers ids.

    Read is the attribute ``labels``, or else ``targets``: one class id a sample, ``(N,)``, any whole number,
    as a tensor, an array or a list. One that holds anything else means something else, and is left alone. The
    names are the attribute ``classes``, or else the ids. A ``Subset`` has those of its rows.

    Args:
        dataset: map-style, with a length.

    Returns:
        The ids ``(N,)``, int64, and a name for each number that
        :class:`~fallow.core.class_ids.ClassIds` gives them; or None and None.

    >>> data = torch.utils.data.TensorDataset(torch.zeros(4, 2))
    >>> offered_labels(data)
    (None, None)
    >>> data.targets = [0, 2, 1, 0]
    >>> offered_labels(Subset(data, [1, 3]))
    (tensor([2, 0]), ('0', '1', '2'))
    """
    labels, classes = _offered(dataset)
    return (None, None) if labels is None else (labels, _names(classes, labels.numpy()))


def _offered(dataset: Any) -> tuple[Tensor, Any] | tuple[None, None]:
    """Return the class ids and what the dataset says of its classes."""
    if isinstance(dataset, Subset):
        labels, classes = _offered(dataset.dataset)
        if labels is None:
            return None, None
        return labels[torch.as_tensor(dataset.indices, dtype=torch.int64)], classes
    for name in ATTRIBUTES:
        found = _class_ids(getattr(dataset, name, None), len(dataset))
        if found is not None:
            return found, getattr(dataset, "classes", None)
    return None, None


def unused_labels(dataset: Any) -> str:
    """Return why an attribute that looks like class ids is not used as such; nothing where none is there."""
    if isinstance(dataset, Subset):
        return unused_labels(dataset.dataset)
    for name in ATTRIBUTES:
        found = getattr(dataset, name, None)
        if found is None or callable(found):
            continue
        try:
            check_labels(found, len(dataset))
        except (FallowError, TypeError, ValueError) as error:
            return f"`{name}` of the training dataset is there and not used: {error}"
    return ""


def _class_ids(found: Any, n: int) -> Tensor | None:
    """Return ``found`` as ids ``(n,)``, or None where it is something else."""
    try:
        ids = check_labels(found, n)
    except (FallowError, TypeError, ValueError):
        return None
    return None if ids is None else torch.from_numpy(ids)


def _names(found: Any, labels: NDArray[np.int64]) -> tuple[str, ...]:
    """Return the names ``found`` if there is one for each id, else the ids."""
    ids = ClassIds.of(labels).ids
    named = isinstance(found, list | tuple) and labels.min() >= 0 and len(found) > labels.max()
    if ids is None:
        return tuple(map(str, found if named else range(int(labels.max()) + 1)))
    return tuple(str(found[label] if named else label) for label in ids.tolist())
