"""The bundled digits: complete, in the promised order and scale."""

from __future__ import annotations

import numpy as np

from pluggrad.data import digits
from pluggrad.nn import datasets


def test_shapes_types_and_scale():
    x_train, y_train, x_test, y_test = (part.numpy() for part in digits())
    assert (x_train.shape, y_train.shape) == ((1438, 1, 8, 8), (1438,))
    assert (x_test.shape, y_test.shape) == ((359, 1, 8, 8), (359,))
    assert (x_train.dtype, y_train.dtype) == (np.float32, np.int32)
    images = np.concatenate([x_train, x_test])
    assert (images.min(), images.max()) == (0, 1)
    np.testing.assert_array_equal(images * 16, np.round(images * 16))


def test_every_digit_is_there_as_often_as_in_the_source():
    split = digits()
    labels = np.concatenate([split.Y_train.numpy(), split.Y_test.numpy()])
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_the_order_is_a_seeded_permutation():
    split = digits()
    order = np.random.default_rng(0).permutation(1797)
    labels = np.concatenate([split.Y_train.numpy(), split.Y_test.numpy()])
    # the source begins with the digits 0 to 9, then 0 to 9 again
    assert labels[np.argsort(order)][:20].tolist() == [*range(10), *range(10)]
    first = np.concatenate([split.X_train.numpy(), split.X_test.numpy()])[np.argsort(order)][0, 0]
    assert (first[0] * 16).tolist() == [0, 0, 5, 13, 9, 1, 0, 0]


def test_the_same_under_nn():
    assert datasets.digits is digits
