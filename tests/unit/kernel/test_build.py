"""Kernels built from graphs, where a wrong one would be wrong on every device alike."""
from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, dtypes, runtime
from pluggrad.graph import build, ops
from pluggrad.target import DeviceId
from tests.graph_reference import evaluate

REF = DeviceId("ref")


@pytest.mark.parametrize("op", [ops.SUM, ops.PROD, ops.RMAX, ops.RMIN])
@pytest.mark.parametrize("n", [1, 255, 256, 512])
def test_bools_reduce_to_or_and_and(op, n):
    every = runtime.upload(np.ones(n, bool), dtypes.bool_, REF)
    assert runtime.read(build.reduce(op, every, 0))
    none = runtime.upload(np.zeros(n, bool), dtypes.bool_, REF)
    assert not runtime.read(build.reduce(op, none, 0))


@pytest.mark.parametrize("widths", [((0, 0), (1, 2)), ((2, 1), (0, 0)), ((1, 1), (1, 1))])
def test_padding_around_a_reduced_value_reads_nothing_outside(widths):
    data = np.arange(35, dtype=np.float32).reshape(5, 7, 1)
    total = build.reduce(ops.SUM, runtime.upload(data, dtypes.float32, REF), 1)
    expected = np.pad(data.sum(1), widths)
    np.testing.assert_array_equal(runtime.read(build.pad(total, widths)), expected)


@pytest.mark.parametrize("front", [0, 5])
def test_padding_around_what_is_computed_from_rows_reads_nothing_outside(front, device):
    data = np.arange(30, dtype=np.float32).reshape(3, 10)
    x = Tensor(data)
    part = x[:, :5]
    flat = (part + part.sum(1, keepdim=True)).flatten() + 1  # of a column behind the last: the next row's sum
    rows = flat.reshape(3, 5).contiguous()
    found = (rows + rows.sum(1, keepdim=True)).pad(((0, 0), (front, 5 - front))) * x
    expected = data[:, :5] + data[:, :5].sum(1, keepdims=True) + 1
    expected = np.pad(expected + expected.sum(1, keepdims=True), ((0, 0), (front, 5 - front))) * data
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_a_reduction_of_nothing_is_neutral():
    x = runtime.upload(np.zeros((3, 0)), dtypes.float32, REF)
    np.testing.assert_array_equal(runtime.read(build.reduce(ops.SUM, x, 1)), np.zeros(3))
    np.testing.assert_array_equal(runtime.read(build.reduce(ops.PROD, x, 1)), np.ones(3))


def test_one_node_read_at_many_places_is_one_kernel():
    """A stencil of a stencil: places grow with the reach, not with the number of paths."""
    data = np.arange(64, dtype=np.float64)
    n = runtime.upload(data, dtypes.float64, REF)
    buffer = n
    for _ in range(6):
        size = n.shape[0] - 1
        n = build.binary(ops.ADD, build.slice(n, ((0, size, 1),)), build.slice(n, ((1, size, 1),)))
    np.testing.assert_array_equal(runtime.read(n), evaluate(n, lambda b: {buffer: data}[b]))
