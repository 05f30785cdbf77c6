"""Plans of graphs whose memory and barriers matter."""
from __future__ import annotations

import numpy as np
import pytest

from pluggrad import dtypes, runtime
from pluggrad.graph import build, ops
from pluggrad.ir.node import Node
from pluggrad.plan import Plan, PlannedCopy, PlannedLaunch
from pluggrad.plan.build import build_plan
from pluggrad.runtime.normalize import normalize, rebuild
from pluggrad.target import Capabilities, DeviceId
from tests.plan_executor import run_plan

REF = DeviceId("ref")
NAMES = frozenset(dtype.name for dtype in dtypes.ALL)
CAPABILITIES = Capabilities(NAMES, NAMES, vector_bytes=32, cores=4)
F32 = dtypes.float32


def leaf(*shape: int) -> Node:
    return runtime.upload(np.arange(np.prod(shape)).reshape(shape), F32, REF)


def plan_of(*roots: Node, donated: tuple[int | None, ...] | None = None) -> Plan:
    return build_plan(rebuild(normalize(roots)), donated or (None,) * len(roots), CAPABILITIES)


def floats(array: np.ndarray) -> np.ndarray:
    return array.view(np.float32)


def bytes_of(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32).view(np.uint8)


def total(x: Node) -> Node:
    """Stored in between: a reduction whose result is read in another order."""
    return build.contiguous(build.reduce(ops.SUM, x, 1))


@pytest.mark.parametrize("seed", range(6))
def test_independent_chains_do_not_share_temporaries(seed):
    """Two chains without a barrier between their commands: each in memory of its own, in any order."""
    roots, expected = [], []
    for rows in (40, 41, 42):
        x = build.binary(ops.ADD, leaf(rows, 3), build.const(float(rows), F32, REF, (rows, 3)))
        roots.append(build.contiguous(build.flip(total(x), (0,))))
        expected.append(np.flip((np.arange(rows * 3).reshape(rows, 3) + rows).sum(1)))
    plan = plan_of(*roots)
    normalized = normalize(roots)
    inputs = [np.array(v.storage.block.allocation[:v.storage.block.nbytes]) for v in normalized.inputs]
    results = run_plan(plan, inputs, [s.python for s in normalized.scalars], seed=seed)
    for result, values in zip(results, expected, strict=True):
        np.testing.assert_array_equal(floats(result)[:values.size], values)


def test_a_donated_base_is_written_in_place():
    x = leaf(64)
    root = build.update(x, build.const(3.0, F32, REF), (("slice", ((2, 5, 1),)),))
    plan = plan_of(root, donated=(0,))
    assert plan.outputs[0].reuses == 0
    assert not any(isinstance(c, PlannedCopy) for c in plan.commands)
    kept = plan_of(root)
    assert kept.outputs[0].reuses is None
    assert sum(isinstance(c, PlannedCopy) for c in kept.commands) == 1


def ints(*numbers: int) -> Node:
    return runtime.upload(np.array(numbers), dtypes.int64, REF)


def test_a_donated_base_is_scattered_into_in_place():
    x = leaf(64)
    root = build.scatter(x, ints(3, 5, 3), leaf(3), 0, "ADD")
    slot = normalize([root]).inputs.index(x.arg)
    plan = plan_of(root, donated=(slot,))
    assert plan.outputs[0].reuses == slot
    assert len(plan.commands) == 1
    kept = plan_of(root)
    assert kept.outputs[0].reuses is None
    assert sum(isinstance(c, PlannedCopy) for c in kept.commands) == 1


def test_every_check_has_a_status_word_of_its_own_and_needs_no_barrier():
    x, index = leaf(8), ints(1, 2)
    plan = plan_of(build.gather(x, index, 0, "first"), build.contiguous(build.flip(
        build.gather(x, index, 0, "second"), (0,))), build.gather(leaf(9), ints(0, 1, 2), 0, None))
    assert [check.op for check in plan.checks if check.op] in (["first", "second"], ["second", "first"])
    words = [ref.offset for command in plan.commands for ref in command.args if ref.place == "status"]
    assert sorted(words) == [0, 64]  # arguments are aligned
    assert not any(command.barrier for command in plan.commands[1:])


def test_a_base_read_in_another_order_is_copied_first():
    x = leaf(64)
    plan = plan_of(build.update(x, x, (("flip", (0,)),)), donated=(0,))
    assert plan.outputs[0].reuses is None
    (result,) = run_plan(plan, [bytes_of(np.arange(64))], ())
    np.testing.assert_array_equal(floats(result), np.arange(64)[::-1])


def test_an_elementwise_write_over_its_operand_is_in_place():
    x = leaf(64)
    plan = plan_of(build.binary(ops.MUL, x, x), donated=(0,))
    assert plan.outputs[0].reuses == 0
    (launch,) = plan.commands
    assert isinstance(launch, PlannedLaunch)
    assert [b.role for b in plan.kernels[launch.kernel].buffers] == ["inout"]
    (result,) = run_plan(plan, [bytes_of(np.arange(64))], ())
    np.testing.assert_array_equal(floats(result), np.arange(64) ** 2)


def test_what_is_read_within_a_border_and_written_all_over_is_in_place():
    """The border becomes zero."""
    x = leaf(8, 8)
    inner = build.slice(x, ((1, 6, 1), (1, 6, 1)))
    plan = plan_of(build.pad(inner, ((1, 1), (1, 1))), donated=(0,))
    assert plan.outputs[0].reuses == 0
    (result,) = run_plan(plan, [bytes_of(np.arange(64))], ())
    expected = np.pad(np.arange(64).reshape(8, 8)[1:7, 1:7], 1)
    np.testing.assert_array_equal(floats(result).reshape(8, 8), expected)


@pytest.mark.parametrize("value", [
    lambda x: build.flip(x, (0,)),
    lambda x: build.binary(ops.SUB, x, build.expand(build.reshape(build.reduce(ops.SUM, x, 0), (1,)), (64,))),
], ids=["flip", "sum"])
def test_other_orders_are_not_in_place(value):
    assert plan_of(value(leaf(64)), donated=(0,)).outputs[0].reuses is None


def test_a_base_that_is_read_later_is_not_written_in_place():
    x = leaf(64)
    root = build.update(x, build.const(3.0, F32, REF), (("slice", ((2, 5, 1),)),))
    other = build.reduce(ops.SUM, x, 0)
    plan = plan_of(root, other, donated=(0, None))
    results = run_plan(plan, [bytes_of(np.arange(64))], [3.0])
    assert floats(results[1])[0] == np.arange(64).sum()
    np.testing.assert_array_equal(floats(results[0])[:8], [0, 1, 3, 3, 3, 3, 3, 7])


def test_what_writes_over_an_input_goes_after_those_that_read_it():
    x = leaf(64, 8)
    plan = plan_of(build.binary(ops.MUL, x, x), build.reduce(ops.SUM, x, 0), donated=(0, None))
    assert [output.reuses for output in plan.outputs].count(0) == 1
    results = run_plan(plan, [bytes_of(np.arange(512))], ())
    np.testing.assert_array_equal(floats(results[0]), np.arange(512) ** 2)
    np.testing.assert_array_equal(floats(results[1]), np.arange(512).reshape(64, 8).sum(0))


def test_what_others_wait_for_leaves_an_input_that_is_read_later_alone():
    x = leaf(64, 8)
    squares = build.binary(ops.MUL, x, x)
    columns = build.reduce(ops.SUM, squares, 0)
    later = build.binary(ops.ADD, x, build.expand(build.reshape(columns, (1, 8)), (64, 8)))
    plan = plan_of(squares, build.flip(later, (0,)), donated=(0, None))
    results = run_plan(plan, [bytes_of(np.arange(512))], ())
    given = np.arange(512.0).reshape(64, 8)
    np.testing.assert_array_equal(floats(results[0]).reshape(64, 8), given**2)
    np.testing.assert_array_equal(floats(results[1]).reshape(64, 8), (given + (given**2).sum(0))[::-1])


def test_a_part_that_is_made_of_another_part_needs_no_copy_of_the_whole():
    x = leaf(1 << 12)
    part = build.slice(x, ((8, 4, 1),))
    root = build.update(x, build.binary(ops.MUL, part, part), (("slice", ((2, 4, 1),)),))
    plan = plan_of(root, donated=(0,))
    assert not any(isinstance(c, PlannedCopy) for c in plan.commands)
    assert (plan.outputs[0].reuses, plan.arena_bytes) == (0, 64)
    (result,) = run_plan(plan, [bytes_of(np.arange(1 << 12))], ())
    np.testing.assert_array_equal(floats(result)[:8], [0, 1, 64, 81, 100, 121, 6, 7])


def test_equal_kernels_are_one():
    """A chain that is cut into pieces compiles one kernel a kind of piece, however long it is."""
    n = leaf(16)
    for _ in range(100_000):
        n = build.binary(ops.ADD, n, build.const(1.0, F32, REF, (16,)))
    plan = plan_of(n)
    assert len(plan.commands) > 10
    assert len(plan.kernels) <= 3


def test_an_empty_root_needs_no_kernel():
    x = runtime.upload(np.zeros((0, 3)), F32, REF)
    plan = plan_of(build.binary(ops.ADD, x, x))
    assert plan.commands == ()
    assert plan.outputs[0].nbytes == 0
