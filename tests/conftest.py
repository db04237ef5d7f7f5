"""Fixtures of several test files."""

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
