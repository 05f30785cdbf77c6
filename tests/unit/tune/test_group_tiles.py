"""Products in register tiles out of panels that a group shares: what they compute, and which block."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pluggrad import Tensor
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.grammar import verify_kernel
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Kernel
from pluggrad.kernel.text import kernel_text
from pluggrad.lower import lower
from pluggrad.lower.text import program_text
from pluggrad.lower.verify import verify_program
from pluggrad.target import Capabilities, Target
from pluggrad.tune import tune
from tests.golden.expressions import TARGET, stages, stored, value
from tests.program_interpreter import run_program

GROUPS = replace(TARGET.capabilities, vector_bytes=16, vector_registers=64, max_group=256, subgroup_width=32,
                 scratch_bytes=32 << 10)
LARGE = replace(GROUPS, cores=100, scratch_bytes=48 << 10)
SCALAR = replace(GROUPS, vector_bytes=0, max_group=64)
PRODUCTS: dict[str, Callable[[], Tensor]] = {
    "whole blocks": lambda: stored(96, 64) @ stored(64, 128),
    "odd": lambda: stored(129, 33) @ stored(33, 65),
    "left transposed": lambda: stored(100, 45).T @ stored(100, 130),
    "right transposed": lambda: stored(70, 36) @ stored(66, 36).T,
    "both transposed": lambda: stored(50, 65).T @ stored(66, 50).T,
    "result transposed": lambda: (stored(70, 36) @ stored(36, 66)).T.contiguous(),
    "batches": lambda: stored(3, 70, 40) @ stored(3, 40, 60),
    "a batch of rows": lambda: stored(5, 1, 33, 40) @ stored(2, 40, 70),
    "convolution": lambda: stored(2, 16, 9, 9).conv2d(stored(32, 16, 3, 3), padding=1),
    "strided convolution": lambda: stored(2, 5, 15, 12).conv2d(stored(32, 5, 3, 3), stride=2),
    "epilogue": lambda: (stored(64, 64) @ stored(64, 70) + stored(70)).relu() * stored(64, 70),
    "long sums": lambda: stored(33, 3001) @ stored(3001, 34),
}


def kernels_of(x: Tensor) -> list[Kernel]:
    return [built.kernel for built in stages(value(x)).built]


def run(kernel: Kernel, capabilities: Capabilities) -> list[Kernel]:
    """The phases, which compute what the kernel does: as kernels, and as programs."""
    random = np.random.default_rng(3)
    inputs = [random.standard_normal(b.size).astype(b.dtype.numpy) for b in kernel.buffers]
    want = [each.copy() for each in inputs]
    interpret(kernel, want, [])
    tuned = tune(kernel, capabilities)
    sizes = {n: b for phase in tuned.phases for n, b in zip(phase.args, phase.kernel.arguments, strict=True)}
    memory = [[each.copy() for each in inputs] + [np.zeros(b.size, b.dtype.numpy) for b in tuned.temporaries]
              for _ in range(2)]
    assert len(sizes) == len(memory[0])
    for phase in tuned.phases:
        verify_kernel(phase.kernel, "tune")
        program = lower(phase.kernel, Target("groups", capabilities))
        verify_program(program, "lower")
        interpret(phase.kernel, [memory[0][n] for n in phase.args], [])
        run_program(program, [memory[1][n] for n in phase.args])
    for got in memory:
        for x, y in zip(got, want, strict=False):
            np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-3)
    return [phase.kernel for phase in tuned.phases]


STREAMS: dict[str, tuple[Callable[[], Tensor], bool]] = {
    # a matrix by few vectors, and whether its memory runs along the sum
    "rows": (lambda: stored(300, 512) @ stored(512, 1), True),
    "rows of an odd length": (lambda: stored(301, 515) @ stored(515, 3), True),
    "rows by rows": (lambda: stored(260, 512) @ stored(2, 512).T, True),
    "columns": (lambda: stored(1, 512) @ stored(512, 300), False),
    "odd columns": (lambda: stored(3, 515) @ stored(515, 301) + stored(301), False),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_matrix_by_few_vectors_is_read_side_by_side(name: str) -> None:
    make, by_rows = STREAMS[name]
    (kernel,) = kernels_of(make())
    first, *_ = run(kernel, replace(GROUPS, cores=8))
    items = {a.id for a in first.axes if a.kind == "ITEM"}
    reductions = [n for n in toposort(first.stores) if n.op is ops.REDUCE]
    assert all(items.isdisjoint(n.arg[1]) != by_rows for n in reductions)
    assert first.tasks * first.group >= 1024
    assert not first.local_bytes


def tiled(phases: list[Kernel]) -> list[Kernel]:
    return [kernel for kernel in phases if kernel.local_bytes]


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_are_what_they_were(name: str) -> None:
    for kernel in kernels_of(PRODUCTS[name]()):
        phases = run(kernel, GROUPS)
        (product,) = tiled(phases)
        assert product.group in (64, 128, 256)
        assert product.local_bytes <= GROUPS.scratch_bytes


@pytest.mark.parametrize("name", ["odd", "strided convolution", "long sums"])
def test_products_of_scalars(name: str) -> None:
    for kernel in kernels_of(PRODUCTS[name]()):
        (product,) = tiled(run(kernel, SCALAR))
        assert not any(a.kind == "VECTOR" for a in product.axes)


def phases(*shapes: tuple[int, int], capabilities: Capabilities = LARGE) -> list[Kernel]:
    x, y = [stored(*shape) for shape in shapes]
    (kernel,) = kernels_of(x @ y)
    return [phase.kernel for phase in tune(kernel, capabilities).phases]


def test_large_products_take_large_tiles_and_small_ones_enough_tasks() -> None:
    (large,) = phases((4096, 4096), (4096, 4096))
    sums = [a for a in large.axes if a.in_registers and a.id in large.stores[-1].arg[1]]
    assert np.prod([a.extent for a in sums]) == 64
    assert (large.tasks, large.group) == (1024, 256)
    small, _ = phases((512, 512), (512, 512))
    assert small.tasks >= LARGE.cores * 3 // 4


def test_a_long_sum_with_few_outputs_is_cut_into_parts() -> None:
    partial, total = phases((64, 8192), (8192, 64))
    assert partial.tasks >= LARGE.cores // 2
    assert not total.local_bytes


@pytest.mark.parametrize(("shapes", "changes"), [
    (((8, 8), (8, 8)), {}), (((4096, 512), (512, 3)), {}), (((256, 256), (256, 256)), {"scratch_bytes": 0}),
    (((256, 256), (256, 256)), {"scratch_bytes": 512})])
def test_what_is_small_or_has_no_memory_is_not_tiled(shapes, changes) -> None:
    assert not any(map(tiled, [phases(*shapes, capabilities=replace(LARGE, **changes))]))


def test_rows_of_memory_are_copied_as_vectors_where_they_begin_as_vectors_do() -> None:
    """Along columns of 128 and 64, not of 127; the other factor lies across, and is copied along the sum."""
    for columns, steps, vectors in ((128, 64, 2), (127, 64, 1), (128, 63, 1), (127, 63, 0)):
        (kernel,) = phases((96, steps), (steps, columns), capabilities=GROUPS)
        fills = [store for store in kernel.stores if kernel.buffers[store.arg[0]].role == "local"]
        found = [a for store in fills for a in kernel.axes if a.kind == "VECTOR" and a.id in store.arg[1]]
        assert len(found) == vectors


def test_text(golden: Callable[..., None]) -> None:
    (kernel,) = phases((256, 100), (100, 256), capabilities=GROUPS)
    golden(kernel_text(kernel), stage="tune", name="product_in_a_group")
    golden(program_text(lower(kernel, Target("groups", GROUPS))), stage="lower", name="product_in_a_group")
