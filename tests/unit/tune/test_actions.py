"""Every schedule action leaves what a kernel computes as it was."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.errors import InternalError
from pluggrad.ir.node import node
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.grammar import verify_kernel
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Axis, BufferParam, Kernel, axis, const
from pluggrad.tune.actions import (
    cover,
    merge_adjacent,
    prune_buffers,
    reorder,
    share_axis,
    split,
    split_reduce,
    split_shifted,
)
from tests.unit.kernel.kernels import (
    I64,
    load,
    matmul,
    op,
    read,
    reduce,
    running,
    softmax,
    store,
    strided,
    write,
)

F32 = dtypes.float32


def kinds(kernel: Kernel) -> Kernel:
    """The kernel with the axes that reductions bind marked as such, and the others as tasks."""
    bound = {id for n in toposort(kernel.stores) if n.op is ops.REDUCE for id in n.arg[1]}
    axes = tuple(Axis(a.id, a.extent, "REDUCE" if a.id in bound else "PARALLEL") for a in kernel.axes)
    return Kernel(kernel.name, kernel.buffers, kernel.values, axes, kernel.stores)


def data(kernel: Kernel) -> list[np.ndarray]:
    generator = np.random.default_rng(1)
    return [generator.integers(-3, 4, b.size).astype(b.dtype.numpy) for b in kernel.arguments]


def same(before: Kernel, *after: Kernel, temporaries: tuple[BufferParam, ...] = ()) -> None:
    """The kernels `after`, run one after another, do what `before` does."""
    expected, actual = data(before), data(before)
    interpret(before, expected, [])
    actual += [np.full(b.size, 99).astype(b.dtype.numpy) for b in temporaries]
    for kernel in after:
        interpret(kernel, actual, [])
    for x, y in zip(actual, expected):
        np.testing.assert_allclose(x, y, rtol=1e-6)


def shifted(n: int = 13) -> Kernel:
    """out[i, j] = x[i, j - 1], 0 at the border: a gated load."""
    gate = op("LE", const(1), axis(1), dtype=dtypes.bool_)
    value = load(0, strided(-1, a0=n, a1=1), gate=gate)
    axes = (Axis(0, n, "PARALLEL"), Axis(1, n, "LOOP"))
    return Kernel("test", (read(n * n), write(n * n)), (), axes,
                  (store(1, (0, 1), strided(a0=n, a1=1), value),))


def sums() -> Kernel:
    """Two reductions over one long axis, and a value made of both."""
    x, y = load(0, strided(a0=1000, a1=1)), load(1, strided(a1=1))
    total = op("SUB", reduce("ADD", op("MUL", x, y), 1), reduce("MAX", x, 1))
    return kinds(Kernel("test", (read(3000), read(1000), write(3)), (),
                        (Axis(0, 3, "LOOP"), Axis(1, 1000, "LOOP")), (store(2, (0,), axis(0), total),)))


KERNELS = {"matmul": kinds(matmul(5, 7, 11)), "softmax": kinds(softmax(4, 13)), "shifted": shifted(),
           "sums": sums()}


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5, 8, 16, 1001])
@pytest.mark.parametrize("name", KERNELS)
def test_splitting_any_axis(name, factor):
    kernel = KERNELS[name]
    for a in kernel.axes:
        changed, outer, inner = split(kernel, a.id, factor, a.kind, "VECTOR")
        extents = {x.id: x.extent for x in changed.axes}
        assert (extents[outer], extents[inner]) == (-(-a.extent // factor), factor)
        same(kernel, changed)


@pytest.mark.parametrize("inner", ["VECTOR", "LOOP"])
@pytest.mark.parametrize("factor", [3, 4, 13, 50])
def test_splitting_from_before_the_beginning_of_each_row(inner, factor):
    """The rows of 13 are loops and tasks, and reach gated loads; both new axes are split further."""
    kernel = KERNELS["shifted"]
    shift = node(ops.CMOD, (strided(2, a0=13 % 3), const(3)), None, dtypes.int64)
    changed, outer, within = split_shifted(kernel, 1, factor, shift, 2, "LOOP", inner)
    assert [a.extent for a in changed.axes if a.id in (outer, within)] == [-(-15 // factor), factor]
    same(kernel, changed)
    same(kernel, split(changed, outer, 2, "LOOP", "TILE")[0])
    same(kernel, split(changed, within, 2, "LOOP" if inner == "LOOP" else "TILE", inner)[0])
    same(kernel, split(changed, 0, 2, "PARALLEL", "LOOP")[0])


@pytest.mark.parametrize(("first", "second"), [(4, 3), (8, 2), (5, 4), (6, 6)])
@pytest.mark.parametrize("name", KERNELS)
def test_splitting_what_was_split(name, first, second):
    """Chunks, then lanes of a chunk; and tiles of a chunk's number."""
    kernel = KERNELS[name]
    for a in kernel.axes:
        changed, outer, inner = split(kernel, a.id, first, a.kind, a.kind)
        same(kernel, split(changed, inner, second, a.kind, "VECTOR")[0])
        same(kernel, split(changed, outer, second, a.kind, "TILE")[0])


@pytest.mark.parametrize("name", KERNELS)
def test_splitting_every_axis(name):
    kernel = changed = KERNELS[name]
    for a in kernel.axes:
        changed = split(changed, a.id, 4, a.kind, "TILE")[0]
    same(kernel, changed)
    same(kernel, reorder(changed, [a.id for a in reversed(changed.axes)]))


@pytest.mark.parametrize("factor", [2, 5, 8])
def test_a_load_at_a_reduced_index_is_not_gated_by_what_was_reduced(factor):
    """out[i] = x[largest of the 13 indices in row i]."""
    largest = reduce("MAX", load(0, strided(a0=13, a1=1), dtypes.int64), 1)
    index = op("ADD", op("MAX", largest, const(-2)), const(2))
    kernel = kinds(Kernel("test", (read(39, dtypes.int64), read(6), write(3)), (),
                          (Axis(0, 3, "LOOP"), Axis(1, 13, "LOOP")),
                          (store(2, (0,), axis(0), load(1, index)),)))
    same(kernel, split(kernel, 1, factor, "REDUCE", "VECTOR")[0])


def copy_of(shape: tuple[int, ...], strides: tuple[int, ...], size: int) -> Kernel:
    """out[row-major] = x[strided] + 1 over PARALLEL axes."""
    out = [int(np.prod(shape[i + 1:])) for i in range(len(shape))]
    index = strided(**{f"a{i}": s for i, s in enumerate(strides)})
    value = op("ADD", load(0, index), load(0, index))
    axes = tuple(Axis(i, d, "PARALLEL") for i, d in enumerate(shape))
    target = strided(**{f"a{i}": s for i, s in enumerate(out)})
    return Kernel("test", (read(size), write(int(np.prod(shape)))), (), axes,
                  (store(1, tuple(range(len(shape))), target, value),))


@pytest.mark.parametrize(("shape", "strides", "left"), [
    ((3, 4, 5), (20, 5, 1), 1), ((3, 4, 5), (40, 10, 2), 1), ((3, 4, 5), (20, 1, 4), 3),
    ((3, 4, 5), (0, 5, 1), 2), ((3, 4, 5), (5, 0, 1), 3), ((3, 4, 5), (0, 0, 0), 1), ((6, 2), (2, 1), 1),
])
def test_merging_contiguous_axes(shape, strides, left):
    kernel = copy_of(shape, strides, 200)
    merged = merge_adjacent(kernel)
    assert len(merged.axes) == left
    same(kernel, merged)


@pytest.mark.parametrize("name", KERNELS)
def test_merging_changes_nothing(name):
    same(KERNELS[name], merge_adjacent(KERNELS[name]))


def test_reduced_axes_merge_with_each_other_only():
    value = reduce("ADD", load(0, strided(a0=20, a1=5, a2=1)), 1, 2)
    axes = tuple(Axis(i, d, "LOOP") for i, d in enumerate((3, 4, 5)))
    kernel = kinds(Kernel("test", (read(60), write(3)), (), axes,
                          (store(1, (0,), axis(0), value),)))
    merged = merge_adjacent(kernel)
    assert [(a.kind, a.extent) for a in merged.axes] == [("PARALLEL", 3), ("REDUCE", 20)]
    same(kernel, merged)


@pytest.mark.parametrize("chunk", [1, 7, 64, 100, 250, 999, 1000])
def test_reducing_in_two_phases(chunk):
    kernel = sums()
    first, second = split_reduce(kernel, 1, chunk)
    temporaries = first.buffers[len(kernel.buffers):]
    assert [t.size for t in temporaries] == [3 * -(-1000 // chunk)] * 2
    same(kernel, first, second, temporaries=temporaries)


def test_what_all_rows_share_is_reduced_in_two_phases_for_all():
    """As the indices that are out of range, beside sums of what was found there."""
    kernel = sums()
    shared = store(3, (), const(0), reduce("MAX", load(1, strided(a1=1)), 1))
    kernel = replace(kernel, buffers=(*kernel.buffers, write(1)), stores=(*kernel.stores, shared))
    first, second = split_reduce(kernel, 1, 100)
    temporaries = first.buffers[len(kernel.buffers):]
    assert [t.size for t in temporaries] == [3 * 10, 3 * 10, 10]
    verify_kernel(first, "split_reduce")
    verify_kernel(second, "split_reduce")
    same(kernel, first, second, temporaries=temporaries)


@pytest.mark.parametrize("chunk", [2, 3, 5])
def test_a_contraction_in_two_phases(chunk):
    kernel = KERNELS["matmul"]
    first, second = split_reduce(kernel, 2, chunk)
    temporaries = first.buffers[len(kernel.buffers):]
    same(kernel, first, second, temporaries=temporaries)
    pruned, kept = prune_buffers(first)
    assert kept == (0, 1, 3)
    assert len(pruned.buffers) == 3


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("factor", [2, 3, 4, 5, 13, 50])
def test_covering_an_axis(name, factor):
    kernel = KERNELS[name]
    for a in kernel.axes:
        same(kernel, cover(kernel, a.id, factor, a.kind, "TILE")[0])


def test_parts_that_overlap_need_no_gates():
    covered, outer, _ = cover(KERNELS["matmul"], 1, 4, "PARALLEL", "VECTOR")
    assert [a.extent for a in covered.axes if a.id == outer] == [2]
    assert not any(n.op is ops.TAIL for n in toposort(covered.stores))


def test_what_is_written_over_is_never_computed_twice():
    at = strided(a0=1)
    kernel = Kernel("test", (BufferParam(F32, 10, "inout"),), (), (Axis(0, 10, "PARALLEL"),),
                    (store(0, (0,), at, op("ADD", load(0, at), const(1, F32))),))
    same(kernel, cover(kernel, 0, 4, "PARALLEL", "VECTOR")[0])


def test_sharing_an_axis():
    kernel = KERNELS["softmax"]
    shared = share_axis(share_axis(kernel, 2, 1), 3, 1)
    assert [a.id for a in shared.axes] == [0, 1]
    assert [n.op.name for n in toposort(shared.stores)].count("EXP") == 1
    same(kernel, shared)
    same(kernel, split(shared, 1, 5, "TILE", "VECTOR")[0])
    with pytest.raises(InternalError, match="extent"):
        share_axis(kernel, 1, 0)


def test_pruning_renumbers():
    kernel = Kernel("test", (read(4), write(4), read(4), read(4)), (), (Axis(0, 4, "LOOP"),),
                    (store(1, (0,), axis(0), load(3, axis(0))),))
    pruned, kept = prune_buffers(kernel)
    assert kept == (1, 3)
    buffers = data(kernel)
    expected = [b.copy() for b in buffers]
    interpret(kernel, expected, [])
    interpret(pruned, [buffers[old] for old in kept], [])
    np.testing.assert_array_equal(buffers[1], expected[1])
    assert prune_buffers(pruned) == (pruned, (0, 1))


def test_missing_axes():
    kernel = KERNELS["matmul"]
    with pytest.raises(InternalError, match="no axis 9"):
        split(kernel, 9, 2, "LOOP", "VECTOR")


def test_what_a_partial_split_leaves_out_is_not_counted_either():
    """Every access to the counts is gated, also the one that looks how many there were."""
    index = op("CAST", load(0, strided(0, a0=4, a1=1), dtypes.int32), dtype=I64)
    earlier = node(ops.TALLY, (op("ADD", index, op("MUL", axis(0), const(8), dtype=I64), dtype=I64),), (1, 1),
                   dtypes.int32)
    rows = Kernel("test", (read(20, dtypes.int32), BufferParam(dtypes.int32, 40, "inout")), (),
                  (Axis(0, 5, "PARALLEL"), Axis(1, 4, "LOOP")),
                  (store(1, (0, 1), strided(0, a0=4, a1=1), earlier),))
    made, _, _ = split(rows, 0, 2, outer="PARALLEL", inner="ITEM")
    tally = next(n for n in toposort(made.stores) if n.op is ops.TALLY)
    assert len(tally.src) == 2
    verify_kernel(made, "split")


@pytest.mark.parametrize("along", [0, 1])
def test_a_running_sum_keeps_its_loop_apart(along):
    kernel = running(along)
    assert {a.kind for a in kernel.axes} == {"LOOP"}
    assert merge_adjacent(kernel).axes == kernel.axes


@pytest.mark.parametrize("combine", [None, "ADD"], ids=["doubled in place", "added to"])
def test_what_is_written_over_is_not_covered_twice(combine):
    value = load(0, axis(0)) if combine is None else load(1, axis(0))
    doubled = store(0, (0,), axis(0), op("ADD", value, value), combine=combine)
    buffers, axes = (BufferParam(F32, 13, "inout"), read(13)), (Axis(0, 13, "PARALLEL"),)
    kernel = Kernel("test", buffers, (), axes, (doubled,))
    covered, _, _ = cover(kernel, 0, 4, "PARALLEL", "TILE")
    same(kernel, covered)
    assert any(n.op is ops.TAIL for n in toposort(covered.stores)), "gated: parts do not overlap"
