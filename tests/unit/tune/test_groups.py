"""Work items share rows, or take an output each; group sizes keep to what a device takes."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pluggrad import Tensor
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Kernel
from pluggrad.lower import lower
from pluggrad.target import Capabilities, Target
from pluggrad.tune import tune
from pluggrad.tune.actions import join, split
from tests.golden.expressions import TARGET, stages, stored, value
from tests.program_interpreter import run_program

GROUPS = replace(TARGET.capabilities, vector_bytes=16, vector_registers=64, max_group=256, subgroup_width=32,
                 scratch_bytes=32 << 10)
# what is computed, and whether a group shares its rows
EXPRESSIONS: dict[str, tuple[Callable[[], Tensor], bool]] = {
    "elementwise": (lambda: stored(1000, 30) * 2 + 1, False),
    "odd": (lambda: stored(7, 13).exp(), False),
    "transposed": (lambda: (stored(60, 50).transpose() + 1).contiguous(), False),
    "rows": (lambda: stored(50, 1000).softmax(1), True),
    "rows of an odd length": (lambda: stored(5, 261).softmax(1), True),
    "short rows": (lambda: stored(3000, 9).softmax(1), False),
    "columns": (lambda: stored(300, 70).sum(0), False),
    "everything": (lambda: stored(41, 1000).sum(), True),
    "matmul": (lambda: stored(100, 64) @ stored(64, 90), False),
    "convolution": (lambda: stored(2, 3, 12, 12).conv2d(stored(8, 3, 3, 3), padding=1), False),
    "pooling": (lambda: stored(3, 2, 24, 24).max_pool2d((2, 2)), False),
    "norm": (lambda: stored(20, 128).layernorm(), True),
}


def phases(kernel: Kernel, capabilities: Capabilities) -> list[Kernel]:
    return [phase.kernel for phase in tune(kernel, capabilities).phases]


def one_kernel(x: Tensor) -> Kernel:
    (built,) = stages(value(x)).built
    return built.kernel


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_groups_compute_what_the_kernel_does(name: str) -> None:
    expression, shares = EXPRESSIONS[name]
    kernel = one_kernel(expression())
    tuned = tune(kernel, GROUPS)
    random = np.random.default_rng(3)
    want = [random.standard_normal(b.size).astype(b.dtype.numpy) for b in kernel.buffers]
    memory = {i: data.copy() for i, data in enumerate(want)}
    interpret(kernel, want, [0.5] * len(kernel.values))
    combined = False
    for phase in tuned.phases:
        for number, param in zip(phase.args, phase.kernel.arguments, strict=True):
            memory.setdefault(number, np.zeros(param.size, param.dtype.numpy))
        program = lower(phase.kernel, Target("groups", GROUPS))
        assert program.group <= 256
        assert program.group.bit_count() == 1
        combined |= any(i.op == "GREDUCE" for i in program.body)
        run_program(program, [memory[number] for number in phase.args], [0.5] * len(kernel.values))
    assert combined == shares
    for i, expected in enumerate(want):
        np.testing.assert_allclose(memory[i], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_groups_are_no_larger_than_the_device_takes(name: str) -> None:
    kernel = one_kernel(EXPRESSIONS[name][0]())
    for most in (1, 48, 64):
        small = replace(GROUPS, max_group=most, subgroup_width=16)
        assert all(phase.group <= most for phase in phases(kernel, small))


def test_rows_are_shared_by_as_many_items_as_local_memory_has_room_for() -> None:
    kernel = one_kernel(stored(50, 1000).softmax(1))
    (roomy,) = phases(kernel, GROUPS)
    (tight,) = phases(kernel, replace(GROUPS, scratch_bytes=1024))
    assert (roomy.group, tight.group) == (256, 128)
    (none,) = phases(kernel, replace(GROUPS, scratch_bytes=0))
    assert not any(i.op == "GREDUCE" for i in lower(none, Target("groups", GROUPS)).body)


def test_neighbors_in_memory_are_neighbors_in_the_group() -> None:
    (kernel,) = phases(one_kernel((stored(60, 50).transpose() + 1).contiguous()), GROUPS)
    assert kernel.axes[-1].kind in ("ITEM", "VECTOR")


def test_joining_undoes_splitting() -> None:
    kernel = one_kernel(stored(6, 35).transpose().contiguous() + 1)
    first = kernel.axes[0]
    cut, outer, inner = split(kernel, first.id, 5, "PARALLEL", "PARALLEL")
    joined, axis = join(cut, outer, inner)
    assert axis.extent == -(-first.extent // 5) * 5
    data = [np.arange(b.size).astype(b.dtype.numpy) for b in kernel.buffers]
    again = [d.copy() for d in data]
    interpret(kernel, data, [1.0] * len(kernel.values))
    interpret(joined, again, [1.0] * len(kernel.values))
    for a, b in zip(again, data, strict=True):
        np.testing.assert_array_equal(a, b)
