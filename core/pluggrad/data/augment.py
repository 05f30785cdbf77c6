"""Random changes to batches of images, each image its own, computed on the images' device.

Randomness comes from the stream of `manual_seed`; gradients pass through. Inside `jit` every call draws anew.
"""
from __future__ import annotations

from pluggrad.errors import ShapeError, ValueRangeError
from pluggrad.tensor import Tensor


def random_crop(x: Tensor, size: int | tuple[int, int] | None = None, padding: int = 0) -> Tensor:
    """A part of each image of (n, channels, height, width), at a random place, as (n, channels, *size).

    size: an int for squares, (height, width), or None for that of `x`. padding: zeros around the images
    first; with size None, images move by up to so many pixels. ShapeError if the size does not fit.
    """
    n, channels, height, width = _image_shape("random_crop", x)
    rows, columns = (height, width) if size is None else (size, size) if isinstance(size, int) else size
    if padding < 0:
        raise ValueRangeError(op="random_crop", expected="padding of at least 0", got=str(padding))
    padded = x.pad((padding, padding, padding, padding))
    return padded[
        _counted(x, n).reshape(n, 1, 1, 1), _counted(x, channels).reshape(1, channels, 1, 1),
        _windows(x, n, rows, height + 2 * padding).reshape(n, 1, rows, 1),
        _windows(x, n, columns, width + 2 * padding).reshape(n, 1, 1, columns),
    ]


def random_flip(x: Tensor, p: float = 0.5) -> Tensor:
    """(n, channels, height, width), each image with probability `p` as a mirror shows it: left to right."""
    n = _image_shape("random_flip", x)[0]
    if not 0 <= p <= 1:
        raise ValueRangeError(op="random_flip", expected="a probability from 0 to 1", got=str(p))
    return (Tensor.rand(n, 1, 1, 1, device=x.device) < p).where(x.flip(3), x)


def _image_shape(op: str, x: Tensor) -> tuple[int, int, int, int]:
    if x.ndim != 4:
        raise ShapeError(op=op, expected="images, (n, channels, height, width)", got=f"shape {x.shape}")
    n, channels, height, width = x.shape
    return n, channels, height, width


def _windows(x: Tensor, n: int, length: int, dim: int) -> Tensor:
    """Positions along an axis of `dim`: (n, length), `length` neighbors from a random one on in each row."""
    if not 0 < length <= dim:
        raise ShapeError(op="random_crop", expected=f"a size of 1 to {dim}, padding included",
                         got=str(length))
    return Tensor.randint(n, 1, low=0, high=dim - length + 1, device=x.device) + _counted(x, length)


def _counted(x: Tensor, length: int) -> Tensor:
    return Tensor.arange(length, device=x.device)
