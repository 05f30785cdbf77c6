"""Products of matrices in every orientation and awkward size, convolutions, pooling, and their gradients."""
from __future__ import annotations

from typing import Any, Final

import numpy as np

from pluggrad import dtypes
from pluggrad.tensor import Tensor
from pluggrad.testing.conformance import reference, samples
from pluggrad.testing.conformance.reference import Array
from pluggrad.testing.conformance.registry import conformance, product
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject

SIZES: Final = tuple(map(samples.Sizes, (
    (1, 1, 1), (3, 5, 7), (17, 31, 13), (64, 64, 64), (129, 65, 33), (1, 100, 70), (100, 1, 70), (2, 2, 5000),
    (300, 4, 3), (1, 257, 1), (96, 160, 224))))

_HALF_SIZES: Final = tuple(map(samples.Sizes, ((65, 129, 129), (128, 96, 100), (17, 64, 2001),
                                               (192, 256, 320))))


def _matrices(*shapes: tuple[int, ...]) -> list[Array]:
    rng = samples.seeded("matrices", *map(str, shapes))
    return [rng.normal(0, 1, shape).astype(np.float32) for shape in shapes]


@conformance("L2", cases=product(size=SIZES, transposed=samples.TRANSPOSED),
             requires=requires(dtype="float32"), suggests="a matrix product is tiled or vectorized wrong")
def matmul(subject: Subject, size: samples.Sizes, transposed: str) -> None:
    """(m, k) by (k, n), either operand read the other way round."""
    a, b = _matrices(*samples.stored_shapes(size, transposed))
    x, y = samples.as_multiplied(subject.tensor(a), subject.tensor(b), transposed)
    a, b = samples.as_multiplied(a, b, transposed)
    subject.expect(x @ y, a.astype(np.float64) @ b, "float32", "sum", op=f"matmul {size}")


@conformance("L2", requires=requires(dtype="float32"), suggests="a batched product is wrong")
def batched(subject: Subject) -> None:
    """Batches, broadcast batches, products with vectors, and a product behind which more is computed."""
    a, b, c, v = _matrices((3, 1, 9, 20), (5, 20, 11), (20, 11), (20,))
    x, y, z, w = [subject.tensor(each) for each in (a, b, c, v)]
    wide = [each.astype(np.float64) for each in (a, b, c, v)]
    subject.expect(x @ y, wide[0] @ wide[1], "float32", "sum", op="broadcast batches")
    subject.expect(x @ z, wide[0] @ wide[2], "float32", "sum", op="one matrix for all")
    subject.expect(x @ w, wide[0] @ wide[3], "float32", "sum", op="matrix by vector")
    subject.expect(w @ z, wide[3] @ wide[2], "float32", "sum", op="vector by matrix")
    subject.expect((x @ z + 1).relu(), np.maximum(wide[0] @ wide[2] + 1, 0), "float32", "sum",
                   op="a product and what follows it")


@conformance("L2", cases=product(dtype=("float16", "bfloat16", "float64", "int32", "int8", "uint8")),
             requires=lambda dtype: requires(dtype=(dtype, "float32") if dtype.endswith("16") else dtype),
             suggests="a matrix product of {dtype} is wrong")
def matmul_dtypes(subject: Subject, dtype: str) -> None:
    """Products of other dtypes; halves add up in float32."""
    of = dtypes.by_name(dtype)
    rng = samples.seeded("matmul-dtypes", dtype)
    a, b = [rng.integers(0, 4, shape) for shape in ((33, 40), (40, 29))]
    have = subject.tensor(a, dtype).matmul(subject.tensor(b, dtype))
    want = (a @ b).astype(np.float64 if of.is_float else have.dtype.numpy)
    subject.expect(have, want, have.dtype, "sum", op=f"matmul of {dtype}")


@conformance("L2", cases=product(dtype=("float16", "bfloat16"), size=_HALF_SIZES,
                                 transposed=samples.TRANSPOSED),
             requires=lambda dtype, **_: requires(dtype=(dtype, "float32")),
             suggests="large products of {dtype}, perhaps several at a time, are added up wrong")
def matmul_halves(subject: Subject, dtype: str, size: samples.Sizes, transposed: str) -> None:
    """Products large enough to be computed by pairs or by matrices, kept in float32 or rounded."""
    a, b = [reference.rounded(x, dtypes.by_name(dtype))
            for x in _matrices(*samples.stored_shapes(size, transposed))]
    x, y = samples.as_multiplied(subject.tensor(a, dtype), subject.tensor(b, dtype), transposed)
    a, b = samples.as_multiplied(a, b, transposed)
    want = a.astype(np.float64) @ b
    subject.expect(x.float() @ y.float(), want, "float32", "sum", op=f"matmul {size} of {dtype} in float32")
    subject.expect(x @ y, want, dtype, "sum", op=f"matmul {size} of {dtype}")


def _convolved(x: Array, w: Array, stride: int, dilation: int, padding: int, groups: int) -> Array:
    """The definition, tap by tap."""
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    kh, kw = w.shape[2:]
    height = (x.shape[2] - (kh - 1) * dilation - 1) // stride + 1
    width = (x.shape[3] - (kw - 1) * dilation - 1) // stride + 1
    out = np.zeros((x.shape[0], w.shape[0], height, width))
    inputs, outputs = w.shape[1], w.shape[0] // groups
    for group in range(groups):
        channels = slice(group * inputs, (group + 1) * inputs)
        kernels = slice(group * outputs, (group + 1) * outputs)
        for i, j in np.ndindex(kh, kw):
            rows = slice(i * dilation, i * dilation + (height - 1) * stride + 1, stride)
            cols = slice(j * dilation, j * dilation + (width - 1) * stride + 1, stride)
            out[:, kernels] += np.einsum("nchw,oc->nohw", x[:, channels, rows, cols], w[kernels, :, i, j])
    return out


CONVOLUTIONS: Final = [
    dict(zip(("stride", "dilation", "padding", "groups"), options, strict=True))
    for options in ((1, 1, 0, 1), (1, 1, 1, 1), (2, 1, 1, 1), (1, 2, 2, 1), (3, 1, 0, 2), (1, 1, 1, 4))]


@conformance("L2", cases=CONVOLUTIONS, requires=requires(dtype="float32"),
             suggests="a convolution or one of its gradients is wrong")
def convolution(subject: Subject, stride: int, dilation: int, padding: int, groups: int) -> None:
    """A convolution, and its gradients by the rule that <g, conv(x, w)> is linear in x and in w."""
    x, w = _matrices((2, 4, 13, 11), (8, 4 // groups, 3, 3))
    options: dict[str, Any] = {"stride": stride, "dilation": dilation, "padding": padding, "groups": groups}
    xt, wt = subject.tensor(x), subject.tensor(w)
    have = xt.conv2d(wt, **options)
    subject.expect(have, _convolved(x, w, **options), "float32", "sum", op="conv2d")
    (g,) = _matrices(have.shape)
    loss = (have * subject.tensor(g)).sum()
    for tensor, shape in ((xt, x.shape), (wt, w.shape)):
        gradient = loss.gradient(tensor)[0].numpy().astype(np.float64)
        (direction,) = _matrices(shape)
        moved = _convolved(direction, w, **options) if tensor is xt else _convolved(x, direction, **options)
        subject.expect(np.sum(gradient * direction, keepdims=True).reshape(1),
                       np.sum(g * moved).reshape(1), "float32", "sum", op="gradient of conv2d")


@conformance("L2", requires=requires(dtype="float32"), suggests="pooling or one of its gradients is wrong")
def pooling(subject: Subject) -> None:
    """Largest and mean of windows, and what flows back to where they came from."""
    (x,) = _matrices((2, 3, 10, 12))
    windows = x.reshape(2, 3, 5, 2, 6, 2)
    xt = subject.tensor(x)
    largest, mean = xt.max_pool2d((2, 2)), xt.avg_pool2d((2, 2))
    subject.expect(largest, windows.max((3, 5)), "float32", op="max_pool2d")
    subject.expect(mean, windows.mean((3, 5), dtype=np.float64), "float32", "sum", op="avg_pool2d")
    chosen = (windows == windows.max((3, 5), keepdims=True)).reshape(x.shape)
    subject.expect(largest.sum().gradient(xt)[0], chosen.astype(np.float32), "float32",
                   op="gradient of max_pool2d")
    subject.expect(mean.sum().gradient(xt)[0], np.full_like(x, 0.25), "float32", "rounded",
                   op="gradient of avg_pool2d")
    overlapping = xt.max_pool2d((3, 3), stride=2, padding=1)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    view = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::2, ::2]
    subject.expect(overlapping, view.max((4, 5)), "float32", op="overlapping windows")


@conformance("L2", requires=requires(dtype="float32"), suggests="a transposed convolution is wrong")
def transposed_convolution(subject: Subject) -> None:
    """The adjoint of a convolution: <conv(x), y> = <x, conv_transpose(y)>."""
    x, w, y = _matrices((2, 3, 9, 9), (5, 3, 3, 3), (2, 5, 4, 4))
    back: Tensor = subject.tensor(y).conv_transpose2d(subject.tensor(w), stride=2)
    want = np.sum(_convolved(x, w, 2, 1, 0, 1) * y)
    have = np.sum(x.astype(np.float64) * back.numpy())
    subject.expect(np.array([have]), np.array([want]), "float32", "sum", op="conv_transpose2d")
