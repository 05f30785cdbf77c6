"""The bundled digits: small enough to ship, real enough to learn from, and there without a network.

"Optical Recognition of Handwritten Digits", the test set as scikit-learn distributes it: 1,797 images of
8 x 8 pixels.
Source: E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository, https://doi.org/10.24432/C50P49.
License: Creative Commons Attribution 4.0 International (CC BY 4.0); stored as bytes, values and order are
unchanged.
"""
from __future__ import annotations

from importlib import resources

import numpy as np

from pluggrad.data.split import Split, as_tensors, split_last
from pluggrad.errors import FileFormatError

_LEVELS = 16  # a pixel counts the dark dots of a 4 x 4 square
_TEST_SHARE = 0.2


def digits(device: str | None = None) -> Split:
    """`X_train, Y_train, X_test, Y_test` of the 1,797 bundled digits, on `device`.

    X: float32 (n, 1, 8, 8) in [0, 1]; Y: int32 (n,), 0 to 9. The order is `numpy.random.default_rng(0)`'s
    permutation, of which the last fifth is for the test: 1,438 and 359 images.
    """
    images, labels = _read()
    order = np.random.default_rng(0).permutation(len(images))
    scaled = images[order, None].astype(np.float32) / _LEVELS
    return as_tensors(split_last(scaled, labels[order].astype(np.int32), _TEST_SHARE), device)


def _read() -> tuple[np.ndarray, np.ndarray]:
    """Images (1797, 8, 8) and labels (1797,), uint8, in the order of the source."""
    path = resources.files("pluggrad.data").joinpath("digits.npz")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return archive["images"], archive["labels"]
    except (ValueError, KeyError, EOFError) as error:
        raise FileFormatError(op=f"digits from {path}", expected="the bundled images", got=str(error),
                              hint="Install pluggrad again") from error
