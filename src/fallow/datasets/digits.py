"""1,797 handwritten digits, 8×8 and grey, that scikit-learn carries: nothing is fetched.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
"""

from __future__ import annotations

import numpy as np

from ..errors import missing_extra
from .images import ImageData, from_arrays


def load_digits() -> ImageData:
    """Return the digits: 1,437 to train on, 360 to test, ``(N, 1, 8, 8)`` uint8.

    The 17 levels of grey are spread over 0..255. Every fifth image of the list sorted by class is
    held out, so that the split is the same everywhere and the classes keep their shares.

    >>> data = load_digits()
    >>> len(data.train), len(data.test)
    (1437, 360)
    """
    try:
        from sklearn.datasets import load_digits as bundled
    except ModuleNotFoundError:
        raise missing_extra("The `digits` data", "scikit-learn") from None

    source = bundled()
    images = np.rint(source.images[:, None] * (255 / 16)).astype(np.uint8)
    labels = source.target
    held_out = np.zeros(len(labels), dtype=bool)
    held_out[np.argsort(labels, kind="stable")[::5]] = True
    train = images[~held_out], labels[~held_out]
    test = images[held_out], labels[held_out]
    return from_arrays("digits", train, test, [str(digit) for digit in range(10)])
