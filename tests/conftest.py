"""Fixtures of several test files."""

import importlib
import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("fallow", deadline=None)  # no test depends on a clock
settings.load_profile("fallow")


@pytest.fixture
def _seed():
    """Draw from torch's generator as from a fresh one, and leave it as it was."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def datasets():
    """The library of Hugging Face, quiet."""
    found = pytest.importorskip("datasets")
    found.disable_progress_bars()
    return found


_OPERATORS = []
"""Declared operators of torchvision; torch forgets them with their library."""


@pytest.fixture(scope="session")
def vision():
    """timm and torchvision, which lie apart: see the Makefile."""
    import torch

    folder = Path(sys.prefix, "vision")
    if not folder.exists():
        if os.environ.get("FALLOW_REQUIRE_ALL"):
            pytest.fail(f"{folder} is missing")
        pytest.skip("timm and torchvision are not installed")
    library = torch.library.Library("torchvision", "FRAGMENT")
    # Of detectors; no classifier uses them.
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    _OPERATORS.append(library)
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module("timm"), importlib.import_module("torchvision")
    finally:
        sys.path.remove(str(folder))
