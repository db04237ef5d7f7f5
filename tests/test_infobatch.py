"""InfoBatch's own class makes the decisions of `BelowMean`. Needs a checkout: FALLOW_INFOBATCH=FOLDER."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

FOLDER = os.environ.get("FALLOW_INFOBATCH")
pytestmark = pytest.mark.skipif(not FOLDER, reason="FALLOW_INFOBATCH is not set to a checkout of InfoBatch")


@pytest.fixture(scope="module")
def benchmark():
    path = Path(__file__).parent.parent / "benchmarks" / "infobatch.py"
    spec = importlib.util.spec_from_file_location("benchmark_infobatch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("n", [7, 100, 3001])
def test_both_make_the_same_decision_of_the_same_draw(benchmark, ratio, n):
    scores = np.random.default_rng(n).exponential(size=n).astype(np.float32)
    with benchmark.original(Path(FOLDER)) as module:
        found = benchmark.side_by_side(module, scores, ratio)
    assert found["same_below_mean"]
    assert found["same_weighted"]
    assert found["same_kept"]
    assert found["our_count"] - found["their_count"] in (0, 1)
    if found["our_count"] == found["their_count"] and found["our_count"]:
        assert found["our_weight"] == pytest.approx(
            found["their_weight"], abs=ratio / found["our_count"] * 20
        )


def test_what_it_replaces_in_torch_is_put_back(benchmark):
    before, state = benchmark._BaseDataLoaderIter.__next__, np.random.get_state()[1].copy()  # noqa: NPY002
    with benchmark.original(Path(FOLDER)) as module:
        assert benchmark._BaseDataLoaderIter.__next__ is not before
        benchmark.epochs_of(module, 40, 10, drop_last=True)
    assert benchmark._BaseDataLoaderIter.__next__ is before
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
