"""What runs under oclgrind, one case a process: `python -m tests.plugins.opencl.oclgrind_cases NAME`."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from pluggrad import Tensor
from pluggrad.plugin_api import SlotRef
from pluggrad.runtime import memory
from pluggrad_opencl.plugin import OpenCLBackend
from tests.plugins.opencl import kernels

Array = np.ndarray
RNG = np.random.default_rng(0)


def floats(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def on_device(array: Array) -> Tensor:
    return Tensor(array, device="opencl")


def elementwise() -> tuple[Tensor, Array]:
    x = floats(37)
    return (on_device(x) * 2 + 1).relu().exp(), np.exp(np.maximum(x * 2 + 1, 0))


def long_sum() -> tuple[Tensor, Array]:
    x = floats(3001)
    return on_device(x).sum(), x.sum(dtype=np.float64)


def softmax() -> tuple[Tensor, Array]:
    x = floats(5, 37)
    e = np.exp(x - x.max(1, keepdims=True))
    return on_device(x).softmax(1), e / e.sum(1, keepdims=True)


def matmul() -> tuple[Tensor, Array]:
    a, b = floats(17, 19), floats(19, 23)
    return on_device(a) @ on_device(b), a @ b


def matmul_of_tiles() -> tuple[Tensor, Array]:
    a, b = floats(70, 33), floats(33, 65)
    return on_device(a) @ on_device(b), a @ b


def convolution() -> tuple[Tensor, Array]:
    x, w = floats(2, 3, 9, 7), floats(4, 3, 3, 3)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
    return on_device(x).conv2d(on_device(w)), np.einsum("nchwij,ocij->nohw", windows, w)


def gather() -> tuple[Tensor, Array]:
    x, index = floats(11, 5), np.array([3, 0, 10, 3])
    return on_device(x)[on_device(index)], x[index]


def scatter() -> tuple[Tensor, Array]:
    x, index, update = floats(11), np.array([3, 0, 10, 3]), floats(4)
    found = on_device(x).scatter_add(0, on_device(index), on_device(update))
    expected = x.copy()
    np.add.at(expected, index, update)
    return found, expected


def half() -> tuple[Tensor, Array]:
    x = floats(3, 35).astype(np.float16)
    return (on_device(x) * 2).sum(1), (x * np.float16(2)).sum(1, dtype=np.float32)


CASES = (elementwise, long_sum, softmax, matmul, matmul_of_tiles, convolution, gather, scatter, half)

_HEAD = "__kernel __attribute__((reqd_work_group_size(1, 1, 1)))\n"
# kernels with a fault each; the launch is 16 tasks on a buffer of 16 floats
FAULTS = {
    "beyond_the_end": _HEAD + "void f(__global float *out) { out[get_group_id(0) + 1] = 1; }",
    "race": _HEAD + "void f(__global float *out) { out[0] = get_group_id(0); }",
    "uninitialized": _HEAD + "void f(__global float *out) { float x[2]; x[0] = 1;"
                             " if (x[get_group_id(0) & 1] > 0) out[get_group_id(0)] = 1; }",
}


def check(case: Callable[[], tuple[Tensor, Array]]) -> None:
    found, expected = case()
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-3 if case is half else 1e-4, atol=1e-5)


def commit(source: str) -> None:
    device = OpenCLBackend().open(0, "")
    out = kernels.filled(device, np.zeros(16, np.float32))
    device.submit([kernels.launch(kernels.load(device, source, "f", ("out",)), SlotRef(0))], [out], []).wait()


if __name__ == "__main__":
    memory.size_class = lambda nbytes: nbytes  # what is rounded up would hide an access just behind the end
    name = sys.argv[1]
    if name in FAULTS:
        commit(FAULTS[name])
    else:
        check(globals()[name])
