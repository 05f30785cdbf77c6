"""Random crops and flips: every place comes up, each image has its own, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, jit, manual_seed
from pluggrad.data import random_crop, random_flip


def marked(n: int, channels: int = 2, height: int = 4, width: int = 5) -> np.ndarray:
    shape = (n, channels, height, width)
    return np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)


def windows(image: np.ndarray, height: int, width: int, padding: int) -> dict[bytes, tuple[int, int]]:
    padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
    return {
        np.ascontiguousarray(padded[:, y : y + height, x : x + width]).tobytes(): (y, x)
        for y in range(padded.shape[1] - height + 1) for x in range(padded.shape[2] - width + 1)
    }


@pytest.mark.parametrize(
    ("size", "padding", "shape", "places"),
    [(None, 1, (4, 5), 9), (3, 0, (3, 3), 6), ((2, 5), 0, (2, 5), 3), ((4, 5), 0, (4, 5), 1),
     (6, 1, (6, 6), 2)],
)
def test_each_image_is_cut_at_a_place_of_its_own(device, size, padding, shape, places):
    images = marked(60)
    manual_seed(0)
    cut = random_crop(Tensor(images), size, padding).numpy()
    assert cut.shape == (60, 2, *shape)
    found = {windows(before, *shape, padding)[after.tobytes()] for before, after in zip(images, cut)}
    assert len(found) == places


def test_flips(device):
    images = marked(200, 1, 2, 3)
    manual_seed(0)
    flipped = random_flip(Tensor(images), 0.25).numpy()
    turned = [np.array_equal(after, before[:, :, ::-1]) for before, after in zip(images, flipped)]
    same = [np.array_equal(after, before) for before, after in zip(images, flipped)]
    assert all(a != b for a, b in zip(turned, same))
    assert 25 <= sum(turned) <= 75
    np.testing.assert_array_equal(random_flip(Tensor(images), 1.0).numpy(), images[:, :, :, ::-1])
    np.testing.assert_array_equal(random_flip(Tensor(images), 0.0).numpy(), images)


def test_a_captured_function_draws_anew(device):
    change = jit(lambda x: random_flip(random_crop(x, padding=1)).realize())
    images = Tensor(marked(20))
    manual_seed(5)
    seen = [change(images).numpy().tobytes() for _ in range(4)]
    assert len(set(seen)) == 4
    manual_seed(5)
    assert [random_flip(random_crop(images, padding=1)).numpy().tobytes() for _ in range(4)] == seen


def test_dtype_gradient_and_no_images():
    image = Tensor(np.arange(8, dtype=np.uint8).reshape(1, 1, 2, 4))
    assert random_crop(image, padding=1).dtype == random_flip(image).dtype == image.dtype
    assert random_crop(Tensor.zeros(0, 1, 4, 4), 2).shape == (0, 1, 2, 2)
    x = Tensor(marked(3), requires_grad=True)
    random_flip(random_crop(x, (2, 3))).sum().backward()
    assert x.grad.sum().item() == 3 * 2 * 2 * 3
    assert set(x.grad.numpy().ravel().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: random_crop(x[0]), r"random_crop: expected images, .*got shape \(1, 4, 4\)"),
        (lambda x: random_crop(x, 5), "a size of 1 to 4, padding included, got 5"),
        (lambda x: random_crop(x, (4, 7), padding=1), "1 to 6, padding included, got 7"),
        (lambda x: random_crop(x, 0), "got 0"),
        (lambda x: random_crop(x, padding=-1), "padding of at least 0, got -1"),
        (lambda x: random_flip(x, 1.5), "a probability from 0 to 1, got 1.5"),
        (lambda x: random_flip(x[0, 0]), r"random_flip: expected images.*\(4, 4\)"),
    ],
)
def test_what_they_refuse(change, message):
    with pytest.raises(ValueError, match=message):
        change(Tensor.zeros(2, 1, 4, 4))
