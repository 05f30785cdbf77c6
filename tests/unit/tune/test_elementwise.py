"""Kernels that transpose keep what they compute, and turn blocks of registers by lanes."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pluggrad import Tensor
from pluggrad.kernel import ops
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Kernel
from pluggrad.target import Capabilities
from pluggrad.tune import tune
from pluggrad.tune.accesses import accesses
from tests.golden.expressions import TARGET, stages, stored, value

WIDE = replace(TARGET.capabilities, vector_bytes=64, vector_registers=32)
STREAMING = replace(WIDE, streaming_line_bytes=64, shared_cache_bytes=1 << 20)  # past a small cache
# what is made, and the extents of its TILE and VECTOR axes on 32 registers of 64 bytes
EXPRESSIONS: dict[str, tuple[Callable[[], Tensor], int, int]] = {
    "square": (lambda: stored(64, 64).T.contiguous(), 16, 16),
    "tails": (lambda: stored(37, 53).T.contiguous(), 14, 16),
    "few columns": (lambda: stored(3, 200).T.contiguous(), 3, 16),
    "few rows": (lambda: stored(200, 3).T.contiguous(), 3, 16),
    "batches": (lambda: stored(5, 28, 30).permute(0, 2, 1).contiguous(), 15, 16),
    "two operands": (lambda: stored(40, 48).T + stored(48, 40), 16, 16),
    "two to transpose": (lambda: stored(40, 48).T + stored(40, 48).T + stored(48, 40), 8, 16),
    "small": (lambda: stored(2, 3).T.contiguous(), 2, 4),
}


def made(name: str) -> Kernel:
    built = stages(value(EXPRESSIONS[name][0]())).built
    assert len(built) == 1
    return built[0].kernel


def tuned(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    (phase,) = tune(kernel, capabilities).phases
    return phase.kernel


def same(before: Kernel, after: Kernel) -> None:
    want = [np.random.default_rng(1).standard_normal(b.size).astype(b.dtype.numpy) for b in before.buffers]
    got = [data.copy() for data in want]
    interpret(before, want, [2.0] * len(before.values))
    interpret(after, got, [2.0] * len(after.values))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("capabilities", [TARGET.capabilities, WIDE], ids=["32", "64"])
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_transposed_blocks_keep_what_is_computed(name: str, capabilities: Capabilities) -> None:
    kernel = made(name)
    same(kernel, tuned(kernel, capabilities))


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_blocks_are_registers_by_lanes(name: str) -> None:
    _, tile, lanes = EXPRESSIONS[name]
    extents = {a.kind: a.extent for a in tuned(made(name), WIDE).axes}
    assert (extents["TILE"], extents["VECTOR"]) == (tile, lanes)


def test_a_large_transpose_has_tasks_of_several_blocks() -> None:
    kernel = tuned(stages(value(stored(1024, 1024).T.contiguous())).built[0].kernel, STREAMING)
    tasks = np.prod([a.extent for a in kernel.axes if a.kind == "PARALLEL"])
    steps = [a.extent for a in kernel.axes if a.kind == "LOOP"]
    assert len(steps) == 2
    assert min(steps) >= 4
    assert tasks >= 8 * WIDE.cores


@pytest.mark.parametrize("shape", [(1024, 1024), (1025, 1025), (999, 2001)], ids=str)
def test_rows_far_apart_that_caches_have_to_hold_are_finished_one_by_one(shape: tuple[int, int]) -> None:
    """A task goes along rows of the output, a block of them at a time, unless these are streamed."""
    built = stages(value(stored(*shape).T.contiguous())).built[0].kernel
    kernel = tuned(built, WIDE)
    store = next(x for x in accesses(kernel) if x.node.op is ops.STORE)
    outer, inner = [a for a in kernel.axes if a.kind == "LOOP"]
    assert outer.extent == 1
    assert inner.extent > 1
    assert store.stride(inner.id) in (8, 16)
    assert kernel.tasks >= 8 * WIDE.cores
    if shape[0] < shape[1]:
        same(built, kernel)


def test_rows_that_are_near_are_transposed_in_squares() -> None:
    kernel = tuned(stages(value(stored(300, 64, 100).transpose(1, 2).contiguous())).built[0].kernel, WIDE)
    assert min(a.extent for a in kernel.axes if a.kind == "LOOP") > 1


@pytest.mark.parametrize(("make", "loads", "stores"), [
    (lambda: stored(1024, 1024).T.contiguous(), 1, 0),
    (lambda: stored(1024, 1024).T + (stored(1024, 1024) * 2).T + stored(1024, 1024), 2, 0),
    (lambda: stored(1024, 1024).T + stored(1024, 1024), 1, 1),
], ids=["one across", "most across", "as many along"])
def test_the_inner_loop_follows_most_loads(make: Callable[[], Tensor], loads: int, stores: int) -> None:
    kernel = tuned(stages(value(make())).built[0].kernel, STREAMING)
    inner = [a for a in kernel.axes if a.kind == "LOOP"][-1]
    followed = [x.node.op for x in accesses(kernel) if x.stride(inner.id) in (8, 16)]  # a block further
    assert (followed.count(ops.LOAD), followed.count(ops.STORE)) == (loads, stores)


def repeated(by: int, *shape: int) -> Tensor:
    """Each column `by` times, beside something of the result's shape."""
    x = stored(*shape)
    wide = (*shape[:-1], shape[-1] * by)
    return x.unsqueeze(-1).expand(*shape, by).reshape(wide) + stored(*wide)


@pytest.mark.parametrize("by", [2, 3, 4, 32])
@pytest.mark.parametrize("columns", [12, 16, 100])
def test_groups_of_neighbors(by: int, columns: int) -> None:
    kernel = stages(value(repeated(by, 9, columns))).built[0].kernel
    same(kernel, tuned(kernel, WIDE))


@pytest.mark.parametrize("rows", [3, 1000, 1 << 16])
def test_short_rows_share_a_task(rows: int) -> None:
    kernel = stages(value(stored(rows, 24)[:, :20] * 2)).built[0].kernel
    shared = tuned(kernel, WIDE)
    assert np.prod([a.extent for a in shared.axes if a.kind == "PARALLEL"]) <= 32 * WIDE.cores
    if rows < 1 << 16:
        same(kernel, shared)


def test_blocks_that_are_moved_element_by_element_have_few_rows():
    kernel = stages(value((stored(128, 128).transpose() + 1).contiguous())).built[0].kernel
    tiles = [[a.extent for a in tune(kernel, replace(WIDE, register_transposes=able)).phases[0].kernel.axes
              if a.kind == "TILE"] for able in (True, False)]
    assert tiles == [[16], [4]]
