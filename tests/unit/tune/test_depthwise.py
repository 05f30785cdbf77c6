"""Depthwise convolutions by bands of planes: any size, stride and padding computes the same."""
from __future__ import annotations

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.ir.node import Node
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.grammar import verify_kernel
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Axis, Kernel, const
from pluggrad.target import Capabilities
from pluggrad.tune import tune
from pluggrad.tune.depthwise import tune_depthwise
from tests.unit.kernel.kernels import load, op, read, reduce, store, strided, write
from tests.unit.tune.test_contraction import ALL, run

WIDE = Capabilities(ALL, ALL, vector_bytes=64, vector_registers=32, cores=4, local_bytes=1 << 19)


def convolution(planes: int, height: int, width: int, size: int, stride: int, padding: int) -> Kernel:
    """relu of a convolution of each plane by a window of its own, plus a bias of the plane."""
    rows, columns = [(n + 2 * padding - size) // stride + 1 for n in (height, width)]

    def inside(position: Node, extent: int) -> Node:
        return op("AND", op("LE", const(0), position, dtype=dtypes.bool_),
                  op("LT", position, const(extent), dtype=dtypes.bool_))

    gate = op("AND", inside(strided(-padding, a1=stride, a3=1), height),
              inside(strided(-padding, a2=stride, a4=1), width)) if padding else None
    index = strided(-padding * (width + 1), a0=height * width, a1=stride * width, a2=stride, a3=width, a4=1)
    weights = load(1, strided(a0=size * size, a3=size, a4=1))
    product = op("MUL", load(0, index, gate=gate), weights)
    biased = op("ADD", reduce("ADD", product, 3, 4), load(2, strided(a0=1)))
    value = op("MAX", biased, const(0, dtypes.float32))
    axes = (Axis(0, planes, "PARALLEL"), Axis(1, rows, "PARALLEL"), Axis(2, columns, "PARALLEL"),
            Axis(3, size, "REDUCE"), Axis(4, size, "REDUCE"))
    buffers = (read(planes * height * width), read(planes * size * size), read(planes),
               write(planes * rows * columns))
    target = strided(a0=rows * columns, a1=columns, a2=1)
    return Kernel("test", buffers, (), axes, (store(3, (0, 1, 2), target, value),))


@pytest.mark.parametrize("shape", [
    (40, 12, 24, 3, 1, 1), (40, 13, 33, 3, 1, 1), (33, 23, 25, 5, 2, 2), (3, 56, 57, 3, 1, 1),
    (36, 16, 18, 3, 1, 0), (2, 97, 90, 3, 1, 1)], ids=str)
def test_planes_of_any_shape(shape):
    kernel = convolution(*shape)
    if kernel.tasks >= 1 << 12:
        tuned = tune_depthwise(kernel, WIDE)
        assert tuned is not None
        assert len(tune(kernel, WIDE).phases) == 1
        verify_kernel(tuned, "tune")
    generator = np.random.default_rng(0)
    expected = [generator.integers(-3, 4, b.size).astype(b.dtype.numpy) for b in kernel.buffers]
    interpret(kernel, expected, [])
    np.testing.assert_array_equal(run(kernel, WIDE)[3], expected[3])


def test_a_band_is_written_in_one_run():
    tuned = tune_depthwise(convolution(64, 56, 56, 3, 1, 1), WIDE)
    assert tuned is not None
    assert len(tuned.stores) == 4, "zeros, a copy, sums, and what is written"
    assert tuned.local_bytes < 1 << 15
    last = [a.extent for a in tuned.axes if a.id in tuned.stores[-1].arg[1] and a.kind in ("LOOP", "VECTOR")]
    assert np.prod(last) == 56 * 56


def test_no_vector_is_masked_where_a_row_has_one():
    tuned = tune_depthwise(convolution(64, 56, 56, 3, 1, 1), WIDE)
    assert tuned is not None
    lanes = {a.id for a in tuned.axes if a.kind == "VECTOR"}
    nodes = toposort(tuned.stores)
    gates = [n.src[1 if n.op is ops.LOAD else 2:] for n in nodes if n.op in (ops.LOAD, ops.STORE)]
    assert any(gates), "rows above and below the plane"
    assert not any(n.op is ops.AXIS and n.arg in lanes for gate in gates for n in toposort(gate))


def test_other_contractions_are_left_alone():
    assert tune_depthwise(convolution(4, 8, 8, 3, 1, 1), WIDE) is None, "too few outputs"
    assert tune_depthwise(convolution(40, 40, 40, 7, 1, 3), WIDE) is None, "too large a window"
    assert tune_depthwise(convolution(40, 40, 40, 3, 1, 1), Capabilities(ALL, ALL, vector_bytes=64)) is None
