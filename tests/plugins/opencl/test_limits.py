"""Kernels on a device that takes few arguments and has little local memory: they are made to fit."""

from __future__ import annotations

import pytest

SMALL = """
from dataclasses import replace
import numpy as np
from pluggrad import Tensor
from pluggrad_opencl import target
from pluggrad_opencl.device import OpenCLDevice

shape, load = target.capabilities, OpenCLDevice.load
target.capabilities = lambda device: replace(shape(device), {limit})
signatures = []
def noted(self, binary, signature):
    signatures.append(signature)
    return load(self, binary, signature)
OpenCLDevice.load = noted
rng = np.random.default_rng(0)
"""

MANY_BUFFERS = """
arrays = [rng.standard_normal(50).astype(np.float32) for _ in range(9)]
total = sum(Tensor(a, device="opencl") * (i + 1) for i, a in enumerate(arrays))
expected = sum(a * (i + 1) for i, a in enumerate(arrays))
np.testing.assert_allclose(total.numpy(), expected, rtol=1e-4, atol=1e-4)
print(max(len(signature.buffers) for signature in signatures))
"""

LONG_ROWS = """
x = rng.standard_normal((6, 3000)).astype(np.float32)
e = np.exp(x - x.max(1, keepdims=True))
found = Tensor(x, device="opencl").softmax(1).numpy()
np.testing.assert_allclose(found, e / e.sum(1, keepdims=True), rtol=1e-4)
print(max(signature.group for signature in signatures))
"""


@pytest.mark.parametrize(("limit", "most"), [("max_buffers=4", 4), ("max_buffers=96", 10)])
def test_a_kernel_takes_no_more_buffers_than_the_device(backend, run_child, limit, most):
    assert int(run_child(SMALL.format(limit=limit) + MANY_BUFFERS)) == most


@pytest.mark.parametrize(("limit", "most"), [("scratch_bytes=128", 16), ("scratch_bytes=65536", 1 << 16)])
def test_a_group_is_no_larger_than_local_memory_allows(backend, run_child, limit, most):
    code = SMALL.format(limit=limit) + LONG_ROWS
    group = int(run_child(code, PLUGGRAD_OPENCL_SCHEDULE="gpu"))
    assert 1 <= group <= most
    assert most < 1 << 16 or group > 16  # there is something to limit
