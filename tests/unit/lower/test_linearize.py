"""Programs, run instruction by instruction, do what their kernels do."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.errors import VerifyError
from pluggrad.graph.ops import ELEMENTWISE
from pluggrad.ir.node import node
from pluggrad.kernel import ops
from pluggrad.kernel.grammar import verify_kernel
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Axis, AxisKind, Kernel, axis, const
from pluggrad.lower import lower
from pluggrad.lower.program import Program
from pluggrad.lower.verify import verify_program
from pluggrad.target import Capabilities, Target
from pluggrad.tune.actions import split, split_shifted
from tests.program_interpreter import run_program
from tests.unit.kernel.kernels import elementwise, load, op, read, reduce, store, strided, write
from tests.unit.tune.test_actions import KERNELS, data

NAMES = frozenset(dtype.name for dtype in dtypes.ALL)
CAPABILITIES = Capabilities(NAMES, NAMES, frozenset(op.name for op in ELEMENTWISE))
F32, F16 = dtypes.float32, dtypes.float16


def lowered(kernel: Kernel, capabilities: Capabilities = CAPABILITIES) -> Program:
    program = lower(kernel, Target("test", capabilities))
    verify_program(program, "linearize")
    return program


def same(kernel: Kernel, capabilities: Capabilities = CAPABILITIES, *, rtol: float = 1e-5) -> Program:
    expected, actual = data(kernel), data(kernel)
    interpret(kernel, expected, [])
    program = lowered(kernel, capabilities)
    run_program(program, actual)
    for x, y in zip(actual, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-6)
    return program


def bind(kernel: Kernel, id: int, kind: AxisKind) -> Kernel:
    """The kernel with another kind for one axis."""
    return replace(kernel, axes=tuple(replace(a, kind=kind) if a.id == id else a for a in kernel.axes))


@pytest.mark.parametrize("kind", ["LOOP", "PARALLEL"])
@pytest.mark.parametrize("name", KERNELS)
def test_untuned_kernels(name, kind):
    kernel = KERNELS[name]
    for a in kernel.axes:
        same(kernel if a.kind == "REDUCE" else bind(kernel, a.id, kind))


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("inner", ["VECTOR", "TILE", "same"])
@pytest.mark.parametrize("name", ["matmul", "softmax", "shifted"])
def test_split_axes_with_tails(name, inner, factor):
    kernel = KERNELS[name]
    for a in kernel.axes:
        same(split(kernel, a.id, factor, a.kind, a.kind if inner == "same" else inner)[0])


@pytest.mark.parametrize("name", ["matmul", "shifted"])
def test_every_axis_tiled_and_one_a_vector(name):
    kernel = KERNELS[name]
    for vector in kernel.axes:
        changed = kernel
        for a in kernel.axes:
            changed = split(changed, a.id, 4, a.kind, "VECTOR" if a is vector else "TILE")[0]
        same(changed)


def test_full_steps_have_no_gates():
    """Of 13 elements in steps of 4, three steps are full: a loop without gates, then one step with them."""
    kernel = split(elementwise("NEG", 13, [F32], F32), 0, 4, "LOOP", "VECTOR")[0]
    program = same(kernel)
    depth, gates = 0, []
    for instr in program.body:
        depth += (instr.op == "LOOP") - (instr.op == "END")
        if instr.op == "LOOP":
            assert instr.arg == (0, 3)
        if instr.op == "STORE":
            gates.append((depth, len(instr.src) == 3))
    assert gates == [(1, False), (0, True)]


@pytest.mark.parametrize("kind", ["LOOP", "PARALLEL"])
@pytest.mark.parametrize("n", [1, 3, 12, 13, 18])
def test_rows_that_begin_within_a_step(kind, n):
    """Rows of n from 0 to 2 elements after a step of 4 begins, by splits of whatever is around them."""
    value = op("NEG", load(0, strided(a0=n, a1=1)))
    rows = Kernel("test", (read(5 * n), write(5 * n)), (), (Axis(0, 5, "PARALLEL"), Axis(1, n, "LOOP")),
                  (store(1, (0, 1), strided(a0=n, a1=1), value),))
    shift = node(ops.CMOD, (axis(0), const(3)), None, dtypes.int64)
    for inner in ("VECTOR", "LOOP"):
        same(split_shifted(rows, 1, 4, shift, 2, kind, inner)[0])


def test_steps_between_the_first_and_the_last_have_no_gates():
    """Of 13 elements from the third of a step of 4: one step, a loop of two without gates, and one step."""
    kernel = split_shifted(elementwise("NEG", 13, [F32], F32), 0, 4, const(2), 3, "LOOP", "VECTOR")[0]
    program = same(kernel)
    assert [instr.arg for instr in program.body if instr.op == "LOOP"] == [(1, 3)]
    assert [len(instr.src) for instr in program.body if instr.op == "STORE"] == [3, 2, 3]


def test_values_come_before_writes():
    """The first output takes over what the second reads."""
    one = op("ADD", load(1, axis(0)), const(1.0, F32))
    two = op("NEG", load(0, axis(0)))
    kernel = Kernel("test", (replace(read(9), role="inout"), read(9), write(9)), (), (Axis(0, 9, "LOOP"),),
                    (store(0, (0,), axis(0), one), store(2, (0,), axis(0), two)))
    same(kernel)


def test_what_a_loop_does_not_change_leaves_it():
    value = op("ADD", op("EXP", load(0, axis(0))), load(1, axis(1)))
    axes = (Axis(0, 5, "PARALLEL"), Axis(1, 6, "LOOP"))
    kernel = Kernel("test", (read(5), read(6), write(30)), (), axes,
                    (store(2, (0, 1), strided(a0=6, a1=1), value),))
    body = [instr.op for instr in same(kernel).body]
    assert body.index("EXP") < body.index("LOOP")


@pytest.mark.parametrize("kind", ["LOOP", "PARALLEL"])
def test_tails_of_one_axis_at_different_steps(kind):
    """out[p] = x[p] for p < 13, and y[p] for p < 6, where p is 4 * outer + inner."""
    position = strided(a0=4, a1=1)

    def tail(extent: int):
        return node(ops.TAIL, (position,), (0, 4, extent), dtypes.bool_)

    value = op("ADD", load(0, position, gate=tail(13)), load(1, position, gate=tail(6)))
    axes = (Axis(0, 4, kind), Axis(1, 4, "LOOP"))
    same(Kernel("test", (read(13), read(6), write(16)), (), axes, (store(2, (0, 1), position, value),)))


def test_a_reduction_over_the_axes_of_one_that_it_needs():
    """out[i] = sum of x[i, j] - (largest x[i, j]), both over the same j."""
    x = load(0, strided(a0=5, a1=1))
    total = reduce("ADD", op("SUB", x, reduce("MAX", x, 1)), 1)
    axes = (Axis(0, 3, "PARALLEL"), Axis(1, 5, "REDUCE"))
    same(Kernel("test", (read(15), write(3)), (), axes, (store(1, (0,), axis(0), total),)))


@pytest.mark.parametrize("lacking", [
    {"TANH"}, {"TANH", "EXP"}, {"ABS", "NEG"}, {"EXP"}, {"LOG"}, {"COS"}, {"RECIP"}])
def test_ops_that_a_target_lacks_are_written_in_others(lacking):
    capabilities = replace(CAPABILITIES, ops=CAPABILITIES.ops - lacking)
    for name in lacking:
        program = same(elementwise(name, 7, [F32], F32), capabilities, rtol=1e-4)
        assert not lacking & {instr.op for instr in program.body}


@pytest.mark.parametrize("extent", [6, 7])
def test_a_sum_of_dots_is_added_to_in_one_instruction(extent):
    """out[i] = the sum over j of dot2(0, x[i, j], y[j]), in steps of 3, where a step of 7 is partial."""
    x, y = [load(slot, at, dtypes.uint32) for slot, at in ((0, strided(a0=extent, a1=1)), (1, axis(1)))]
    dot = op("DOT2", const(0.0, F32), x, y, dtype=F32)
    axes = (Axis(0, 4, "PARALLEL"), Axis(1, extent, "REDUCE"))
    buffers = (read(4 * extent, dtypes.uint32), read(extent, dtypes.uint32), write(4))
    kernel = Kernel("test", buffers, (), axes, (store(2, (0,), axis(0), reduce("ADD", dot, 1)),))
    kernel, _, _ = split(kernel, 1, 3, "REDUCE", "UNROLL")
    given = [np.random.default_rng(0).integers(-4, 5, 2 * b.size).astype(np.float32) for b in buffers[:2]]
    pairs = [(x.view(np.uint32) >> 16).astype(np.uint16).view(np.uint32) for x in given]
    want = given[0].reshape(4, -1) @ given[1]
    for names in (CAPABILITIES.ops | {"DOT2"}, CAPABILITIES.ops):
        program, out = lowered(kernel, replace(CAPABILITIES, ops=names)), np.zeros(4, np.float32)
        run_program(program, [*pairs, out])
        np.testing.assert_array_equal(out, want)
        sums = [program.body[i.src[0]].op for i in program.body if i.op == "DOT2"]
        assert sums.count("ACC") == (3 if "DOT2" in names else 0)


def test_the_magnitude_of_minus_zero_is_zero():
    capabilities = replace(CAPABILITIES, ops=CAPABILITIES.ops - {"ABS", "NEG"})
    out = np.ones(2, np.float32)
    program = lowered(elementwise("ABS", 2, [F32], F32), capabilities)
    run_program(program, [np.array([-0.0, -3.0], np.float32), out])
    assert (out[0], np.signbit(out[0]), out[1]) == (0.0, False, 3.0)


def test_half_floats_are_computed_in_float32_where_the_target_does_not():
    capabilities = replace(CAPABILITIES, arithmetic=NAMES - {"float16"})
    program = same(elementwise("MUL", 7, [F16, F16], F16), capabilities)
    assert [instr.dtype for instr in program.body if instr.op == "MUL"] == [F32]


def test_powers_on_a_device_without_float64():
    capabilities = replace(CAPABILITIES, arithmetic=NAMES - {"float64"})
    x = np.array([2, 0.5, 9, -2, -2, 0, 0, np.inf, -1, 1, np.nan, 1.01, 7], np.float32)
    y = np.array([10, 3, 0.5, 3, 0.5, 2, -1, -1, np.inf, np.nan, 0, 8000, 45], np.float32)
    out = np.zeros_like(x)
    program = lowered(elementwise("POW", x.size, [F32, F32], F32), capabilities)
    run_program(program, [x, y, out])
    assert dtypes.float64 not in {instr.dtype for instr in program.body}
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(out, x ** y, rtol=2e-5)


INTEGERS = [dtypes.int8, dtypes.int32, dtypes.int64, dtypes.uint8, dtypes.uint32, dtypes.uint64]


@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda d: d.name)
@pytest.mark.parametrize("name", ["IDIV", "MOD", "SHL", "SHR", "POW"])
def test_integers_have_results_for_every_operand(name, dtype):
    """Division by zero and of the most negative, shifts beyond the width, negative exponents."""
    low, high = int(dtype.min), int(dtype.max)
    edges = sorted({low, low + 1, 0, 1, 2, 3, 7, dtype.bits - 1, dtype.bits, high, -1, -2, -3})
    edges = [e for e in edges if low <= e <= high]
    x, y = [np.array(v, dtype.numpy) for v in zip(*[(a, b) for a in edges for b in edges])]
    kernel = elementwise(name, x.size, [dtype, dtype], dtype)
    expected, actual = np.zeros_like(x), np.zeros_like(x)
    interpret(kernel, [x, y, expected], [])
    run_program(lowered(kernel), [x, y, actual])
    np.testing.assert_array_equal(actual, expected)


# ---- work items ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("name", ["matmul", "softmax", "shifted"])
def test_groups_of_work_items(name, factor):
    """Each axis in turn divided among the items: outputs item by item, reductions combined by the group."""
    kernel = KERNELS[name]
    for a in kernel.axes:
        outer = "PARALLEL" if a.kind == "LOOP" else a.kind
        grouped, _, _ = split(kernel, a.id, factor, outer, "ITEM")
        program = same(grouped)
        assert program.group == factor
        assert ("GREDUCE" in [i.op for i in program.body]) == (a.kind == "REDUCE")


def test_one_item_stores_what_the_group_has():
    kernel = KERNELS["matmul"]
    (reduced,) = [a for a in kernel.axes if a.kind == "REDUCE"]
    grouped, _, _ = split(kernel, reduced.id, 4, "REDUCE", "ITEM")
    (stored,) = [i for i in same(grouped).body if i.op == "STORE"]
    assert len(stored.src) == 3


def test_items_of_one_kernel_are_one_group():
    kernel = KERNELS["softmax"]
    for a, factor in zip([a for a in kernel.axes if a.kind != "PARALLEL"], (4, 8), strict=False):
        kernel, _, _ = split(kernel, a.id, factor, a.kind, "ITEM")
    with pytest.raises(VerifyError, match="one extent of all ITEM axes"):
        verify_kernel(kernel, "test")
