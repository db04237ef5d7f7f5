"""Save and restore the states of a process's global random number generators."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def generator_states() -> dict[str, Any]:
    """Return the states of the generators of torch (CPU and current GPU), numpy and Python."""
    kind, words, place, has_normal, normal = np.random.get_state(legacy=True)  # noqa: NPY002 - others draw there
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "numpy": (str(kind), np.asarray(words), int(place), int(has_normal), float(normal)),
        "python": random.getstate(),
    }


def put_back(states: dict[str, Any]) -> None:
    """Restore the states that :func:`generator_states` returned; the GPU's only if there is a GPU."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
    random.setstate(states["python"])
