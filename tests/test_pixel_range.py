"""Ranges of deep pixels: rounded outwards, stable, and scaled without losing levels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.datasets import pixel_range
from fallow.datasets.pixel_range import NO_RANGES, PixelRange, PixelRanges

WHOLE = st.integers(-(2**31), 2**32 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(st.one_of(st.tuples(WHOLE, WHOLE, st.just("whole")), st.tuples(FLOATS, FLOATS, st.just("floats"))))
def test_a_range_holds_the_values_and_is_not_much_wider(case):
    low, high, depth = min(case[:2]), max(case[:2]), case[2]
    found = PixelRange.around(low, high, depth)
    assert found.low <= low
    assert high <= found.high
    assert found.low < found.high
    eight_bits = depth == "whole" and low >= 0 and high <= 255
    if high > low and not eight_bits and high - low > 1e-300:
        assert high - low >= 0.24 * (found.high - found.low) or (depth == "whole" and high - low < 8)


@given(st.lists(st.integers(0, 2**16 - 1), min_size=2, max_size=9))
def test_the_range_of_a_part_changes_only_if_a_value_lies_outside_of_it(values):
    low, high = min(values[:-1]), max(values[:-1])
    found = PixelRange.around(low, high, "whole")
    both = PixelRange.around(min(values), max(values), "whole")
    if low == 0 and found.low <= values[-1] <= found.high:
        assert both == found


@pytest.mark.parametrize(
    ("low", "high", "depth", "wanted"),
    [
        (0, 255, "whole", (0, 255)),
        (3, 9, "whole", (0, 255)),
        (0, 256, "whole", (0, 1023)),
        (0, 1024, "whole", (0, 4095)),
        (0, 5000, "whole", (0, 16383)),
        (0, 65535, "whole", (0, 65535)),
        (-1024, 3071, "whole", (-1024, 3072)),
        (-128, 127, "whole", (-128, 128)),
        (-5, -5, "whole", (-5, 255)),
        (40_000, 40_000, "whole", (0, 65535)),
        (40_000, 40_003, "whole", (40_000, 40_003)),
        (0, 1, "floats", (0, 1)),
        (0.0, 1.04, "floats", (0, 1.25)),
        (0, 0.01, "floats", (0, 0.01171875)),
        (-1, 1, "floats", (-1, 1)),
        (0, 255, "floats", (0, 255)),
        (0, 0, "floats", (0, 1)),
        (1e30, 1e30, "floats", (0, 1e30)),
    ],
)
def test_ranges(low, high, depth, wanted):
    found = PixelRange.around(low, high, depth)
    assert (found.low, found.high) == wanted


def test_blocks_are_scaled_as_the_whole(monkeypatch):
    values = np.random.default_rng(0).integers(0, 4096, (37, 11, 3))
    whole = PixelRange(0, 4095).scaled(values)
    monkeypatch.setattr(pixel_range, "BLOCK", 70)
    assert np.array_equal(PixelRange(0, 4095).scaled(values), whole)
    assert np.array_equal(whole, np.rint(values * (255 / 4095)))


@pytest.mark.parametrize("kind", [np.uint16, ">u2", np.int32, np.uint32, np.float32])
def test_every_type_is_scaled_and_clipped(kind):
    values = np.array([[0, 100, 200, 300]]).astype(kind)
    assert PixelRange(100, 200).scaled(values).tolist() == [[0, 0, 255, 255]]


def test_what_no_training_image_tells_is_an_error():
    with pytest.raises(ValueError, match="more than 8 bits deep, and no training image tells"):
        NO_RANGES.of("whole")
    with pytest.raises(ValueError, match="floats, and no training image tells"):
        PixelRanges(whole=PixelRange(0, 255)).of("floats")
