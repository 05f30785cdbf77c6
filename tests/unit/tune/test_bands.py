"""Convolutions whose tasks copy their bands of a padded input: the same results, and no phase before them."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.ir.node import Node
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.grammar import verify_kernel
from pluggrad.kernel.index_nodes import linear
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Axis, Kernel, const
from pluggrad.target import Capabilities
from pluggrad.tune import tune
from tests.unit.kernel.kernels import load, op, read, reduce, store, strided, write
from tests.unit.tune.test_contraction import ALL, run

WIDE: Final = Capabilities(ALL, ALL, vector_bytes=64, vector_registers=32, cores=4, local_bytes=1 << 19)
NARROW: Final = replace(WIDE, vector_bytes=16, vector_registers=16, cores=2)


@dataclass(frozen=True)
class Shape:
    """images of channels x height x width, to `made` channels by windows of size x size."""

    images: int
    channels: int
    height: int
    width: int
    made: int
    size: int = 3
    stride: int = 1
    dilation: int = 1

    @property
    def padding(self) -> int:
        return self.size // 2 * self.dilation

    @property
    def outputs(self) -> tuple[int, int]:
        reach = (self.size - 1) * self.dilation + 1
        return ((self.height + 2 * self.padding - reach) // self.stride + 1,
                (self.width + 2 * self.padding - reach) // self.stride + 1)


def convolution(s: Shape) -> Kernel:
    """relu of a convolution, plus a bias for each channel made."""
    (rows, columns), window, plane = s.outputs, s.size * s.size, s.height * s.width

    def inside(position: Node, extent: int) -> Node:
        return op("AND", op("LE", const(0), position, dtype=dtypes.bool_),
                  op("LT", position, const(extent), dtype=dtypes.bool_))

    gate = op("AND", inside(strided(-s.padding, a2=s.stride, a5=s.dilation), s.height),
              inside(strided(-s.padding, a3=s.stride, a6=s.dilation), s.width))
    index = strided(-s.padding * (s.width + 1), a0=s.channels * plane, a4=plane, a2=s.stride * s.width,
                    a5=s.dilation * s.width, a3=s.stride, a6=s.dilation)
    weights = load(1, strided(a1=s.channels * window, a4=window, a5=s.size, a6=1))
    biased = op("ADD", reduce("ADD", op("MUL", load(0, index, gate=gate), weights), 4, 5, 6),
                load(2, strided(a1=1)))
    sizes = (s.images, s.made, rows, columns, s.channels, s.size, s.size)
    axes = tuple([Axis(id, n, "PARALLEL" if id < 4 else "REDUCE") for id, n in enumerate(sizes)])
    buffers = (read(s.images * s.channels * plane), read(s.made * s.channels * window), read(s.made),
               write(s.images * s.made * rows * columns))
    target = strided(a0=s.made * rows * columns, a1=rows * columns, a2=columns, a3=1)
    value = op("MAX", biased, const(0, dtypes.float32))
    return Kernel("test", buffers, (), axes, (store(3, (0, 1, 2, 3), target, value),))


def expected(kernel: Kernel) -> np.ndarray:
    generator = np.random.default_rng(0)
    memory = [generator.integers(-3, 4, b.size).astype(b.dtype.numpy) for b in kernel.buffers]
    interpret(kernel, memory, [])
    return memory[3]


@pytest.mark.parametrize("target", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("shape", [
    Shape(2, 16, 28, 28, 64), Shape(1, 16, 30, 29, 70), Shape(2, 16, 29, 31, 64, stride=2),
    Shape(2, 3, 45, 46, 64, size=7, stride=2), Shape(1, 16, 30, 30, 64, dilation=2),
    Shape(1, 32, 27, 27, 6)], ids=str)
def test_each_task_copies_what_it_reads(shape, target):
    kernel = convolution(shape)
    tuned = tune(kernel, target)
    for phase in tuned.phases:
        verify_kernel(phase.kernel, "tune")
    main = tuned.phases[-1]
    assert main.kernel.local, "a band of the input"
    read_by = [i for i, phase in enumerate(tuned.phases) if 0 in phase.args]
    assert read_by == [len(tuned.phases) - 1], "nobody copies the input beforehand"
    np.testing.assert_array_equal(run(kernel, target)[3], expected(kernel))


@pytest.mark.parametrize("made", [40, 64], ids=["in uneven parts", "in even parts"])
def test_tasks_that_share_a_band_copy_it_each(made):
    kernel = convolution(Shape(2, 16, 10, 11, made, stride=2))
    main = tune(kernel, WIDE).phases[-1].kernel
    verify_kernel(main, "tune")
    tasks = {a.id for a in main.axes if a.kind == "PARALLEL" and a.extent > 1}
    copies = [n for n in main.stores if n.arg[0] in main.local and n.src[1].op is ops.LOAD]
    assert any(tasks - linear(n.src[1].src[0]).strides.keys() for n in copies), "tasks that read the same"
    np.testing.assert_array_equal(run(kernel, WIDE)[3], expected(kernel))


def test_the_inner_loop_has_no_gates():
    *_, main = tune(convolution(Shape(2, 16, 28, 28, 64)), WIDE).phases
    sums, = [n for n in toposort(main.kernel.stores) if n.op is ops.REDUCE]
    assert all(len(n.src) == 1 for n in toposort(sums.src) if n.op is ops.LOAD)


def test_a_band_fits_into_local_memory():
    shape = Shape(2, 16, 28, 28, 64)
    for local_bytes in (1 << 19, 1 << 15, 1 << 13):
        *_, main = tune(convolution(shape), replace(WIDE, local_bytes=local_bytes)).phases
        assert 0 < main.kernel.local_bytes <= local_bytes
    tuned = tune(convolution(shape), replace(WIDE, local_bytes=1 << 10))
    assert not any(phase.kernel.local for phase in tuned.phases)
    assert any(phase.kernel.name.endswith("_pack") and 0 in phase.args for phase in tuned.phases)


def test_few_images_make_tasks_for_all_cores():
    *_, main = tune(convolution(Shape(1, 64, 28, 28, 64)), WIDE).phases
    assert main.kernel.local
    assert main.kernel.tasks >= 2 * WIDE.cores


def test_copies_ask_for_the_next_band():
    shape = Shape(4, 64, 28, 28, 64)
    *_, main = tune(convolution(shape), replace(WIDE, prefetch=True)).phases
    asked, = [n for n in toposort(main.kernel.stores) if n.op is ops.PREFETCH]
    assert asked.arg == main.args.index(0)
    ahead = linear(asked.src[1]).offset - linear(asked.src[0].src[0]).offset
    assert ahead > 0
    assert ahead % shape.width == 0
    *_, main = tune(convolution(shape), WIDE).phases
    assert not any(n.op is ops.PREFETCH for n in toposort(main.kernel.stores))


def test_a_long_sum_is_cut_along_channels_and_not_along_the_window():
    tuned = tune(convolution(Shape(2, 512, 7, 7, 64)), WIDE)
    partial = next(phase.kernel for phase in tuned.phases if phase.kernel.name.endswith("_partial"))
    assert sum(phase.kernel.name.endswith("_partial_pack") for phase in tuned.phases) == 1, "the weights"
    assert not any(len(n.src) > 1 for n in toposort(partial.stores) if n.op is ops.LOAD)
