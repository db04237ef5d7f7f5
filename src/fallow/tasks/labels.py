"""The class ids that the user's own dataset offers."""

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
"""Attributes in which datasets keep one class id per sample; torchvision uses ``targets``."""


def offered_labels(dataset: Any) -> tuple[Tensor, tuple[str, ...]] | tuple[None, None]:
    """Return the class ids of a dataset's samples and the names of the classes, if it offers ids.

    The ids are the attribute ``labels``, or else ``targets``: a tensor, array or list of one whole number per
    sample, ``(N,)``. An attribute with other content is ignored. The names are the attribute ``classes``, or
    else the ids. A ``Subset`` has the ids of its rows.

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
    """Return the class ids and the attribute ``classes``."""
    if isinstance(dataset, Subset):
        labels, classes = _offered(dataset.dataset)
        if labels is None:
            return None, None
        return labels[torch.as_tensor(dataset.indices, dtype=torch.int64)], classes
    for name in ATTRIBUTES:
        ids = _class_ids(getattr(dataset, name, None), len(dataset))
        if ids is not None:
            return ids, getattr(dataset, "classes", None)
    return None, None


def unused_labels(dataset: Any) -> str:
    """Return why an attribute called like class ids is not used; empty if there is none."""
    if isinstance(dataset, Subset):
        return unused_labels(dataset.dataset)
    for name in ATTRIBUTES:
        values = getattr(dataset, name, None)
        if values is None or callable(values):  # a method of that name
            continue
        try:
            check_labels(values, len(dataset))
        except (FallowError, TypeError, ValueError) as error:
            return f"`{name}` of the training dataset is not used: {error}"
    return ""


def _class_ids(values: Any, n: int) -> Tensor | None:
    """Return the values as ids ``(n,)``, or None if they are none."""
    try:
        ids = check_labels(values, n)
    except (FallowError, TypeError, ValueError):
        return None
    return None if ids is None else torch.from_numpy(ids)


def _names(classes: Any, labels: NDArray[np.int64]) -> tuple[str, ...]:
    """Return the names in ``classes`` if there is one for each id, else the ids."""
    ids = ClassIds.of(labels).ids
    # Ids that do not index the names would be shown with wrong ones.
    named = isinstance(classes, list | tuple) and labels.min() >= 0 and len(classes) > labels.max()
    if ids is None:
        return tuple(map(str, classes if named else range(int(labels.max()) + 1)))
    return tuple(str(classes[label] if named else label) for label in ids.tolist())
