"""Work items share local memory: each store by one of them, and a barrier before others read it."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.errors import VerifyError
from pluggrad.graph import ops as g
from pluggrad.ir.node import node
from pluggrad.kernel.grammar import verify_kernel
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Axis, BufferParam, Kernel, axis, const
from pluggrad.lower import lower
from pluggrad.lower.barriers import Pending
from pluggrad.lower.program import Instr, Program
from pluggrad.lower.verify import verify_program
from pluggrad.target import Capabilities, Target
from tests.program_interpreter import run_program
from tests.unit.kernel.kernels import load, op, read, reduce, store, strided, write

F32, I64, BOOL = dtypes.float32, dtypes.int64, dtypes.bool_
NAMES = frozenset(dtype.name for dtype in dtypes.ALL)
TARGET = Target("groups", Capabilities(NAMES, NAMES, max_group=8, scratch_bytes=1 << 12))
ROWS, BLOCKS, STEPS, ITEMS = 3, 4, 2, 6


def ran(kernel: Kernel) -> tuple[Program, list[np.ndarray]]:
    """The program, and the buffers after it has run, which are what the interpreter makes of the kernel."""
    verify_kernel(kernel, "test")
    program = lower(kernel, TARGET)
    verify_program(program, "test")
    random = np.random.default_rng(5)
    want = [random.normal(size=b.size).astype(np.float32) for b in kernel.arguments]
    found = [each.copy() for each in want]
    interpret(kernel, want, [])
    run_program(program, found)
    for x, y in zip(found, want, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
    return program, found


def barriers(program: Program) -> int:
    return sum(instr.op == "BARRIER" for instr in program.body)


def blocks_of_a_sum(steps: int = STEPS) -> Kernel:
    """A matmul whose group keeps a block of a row in local memory at a time; each item stores one column."""
    length = BLOCKS * steps
    x = load(0, strided(a0=length, a2=steps, a4=1))
    y = load(1, strided(a2=steps * ITEMS, a3=ITEMS, a1=1))
    total = reduce("ADD", op("MUL", load(3, axis(3)), y), 2, 3)
    stores = (store(3, (0, 2, 4), axis(4), x, node(g.LT, (axis(4), const(steps)), None, BOOL)),
              store(2, (0, 1), strided(a0=ITEMS, a1=1), total))
    axes = (Axis(0, ROWS, "PARALLEL"), Axis(1, ITEMS, "ITEM"), Axis(2, BLOCKS, "REDUCE"),
            Axis(3, steps, "REDUCE"), Axis(4, ITEMS, "ITEM"))
    buffers = (read(ROWS * length + ITEMS), read(length * ITEMS), write(ROWS * ITEMS),
               BufferParam(F32, ITEMS, "local"))
    return Kernel("blocks", buffers, (), axes, stores)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_sum_over_blocks_that_are_stored_in_its_loop(steps: int) -> None:
    program, (x, y, out) = ran(blocks_of_a_sum(steps))
    length = BLOCKS * steps
    want = x[:ROWS * length].reshape(ROWS, length) @ y.reshape(length, ITEMS)
    np.testing.assert_allclose(out.reshape(ROWS, ITEMS), want, rtol=1e-5, atol=1e-6)
    assert barriers(program) == 2
    assert sum(instr.op == "ACC" for instr in program.body) == 1, "sums stay in registers from block to block"


@pytest.mark.parametrize("stages", [2, 3, 6])
def test_what_later_blocks_need_is_loaded_before_and_stored_behind_the_sums_of_one(stages: int) -> None:
    kernel = blocks_of_a_sum()
    *others, panel = kernel.buffers
    program, _ = ran(replace(kernel, buffers=(*others, replace(panel, stages=stages))))
    ops = [i.op for i in program.body]
    loop = ops[ops.index("LOOP"):]
    assert loop.count("BARRIER") == 1
    assert loop.index("BARRIER") < loop.index("LOAD") < loop.index("SET") < loop.index("STORE")


def test_what_no_group_shares_needs_no_barrier() -> None:
    kernel = blocks_of_a_sum()
    alone = replace(kernel, axes=tuple([replace(a, kind="PARALLEL" if a.id == 1 else "TILE")
                                        if a.kind == "ITEM" else a for a in kernel.axes]))
    alone = replace(alone, stores=(store(3, (0, 1, 2, 4), *alone.stores[0].src), alone.stores[1]))
    assert barriers(ran(alone)[0]) == 0


def turned(loops: int) -> Kernel:
    """In a loop, rows that each item stores its element of, and reads from the other end; then all of it."""
    index = strided(a0=loops * ITEMS, a1=ITEMS, a2=1)
    back = op("SUB", const(ITEMS - 1), axis(2))
    stores = (store(2, (0, 1, 2), axis(2), load(0, index)), store(1, (0, 1, 2), index, load(2, back)))
    axes = (Axis(0, ROWS, "PARALLEL"), Axis(1, loops, "LOOP"), Axis(2, ITEMS, "ITEM"))
    return Kernel("turned", (read(ROWS * loops * ITEMS), write(ROWS * loops * ITEMS),
                             BufferParam(F32, ITEMS, "local")), (), axes, stores)


def test_items_wait_before_they_read_and_before_they_store_again() -> None:
    program, (x, out) = ran(turned(4))
    np.testing.assert_array_equal(out.reshape(-1, ITEMS), x.reshape(-1, ITEMS)[:, ::-1])
    assert [i.op for i in program.body if i.op in ("LOOP", "BARRIER", "LOAD", "STORE", "END")] == [
        "LOOP", "BARRIER", "LOAD", "STORE", "BARRIER", "LOAD", "STORE", "END"]


def test_items_wait_before_what_they_all_read_is_stored_over() -> None:
    """A row of local memory turned around in place."""
    kernel = turned(1)
    turn = store(2, (0, 1, 2), axis(2), kernel.stores[1].src[1])
    index = kernel.stores[1].src[0]
    stores = (kernel.stores[0], turn, store(1, (0, 1, 2), index, load(2, axis(2))))
    program, (x, out) = ran(replace(kernel, stores=stores))
    np.testing.assert_array_equal(out.reshape(-1, ITEMS), x.reshape(-1, ITEMS)[:, ::-1])
    assert barriers(program) >= 2


def test_what_all_items_have_is_stored_by_one_and_read_by_all() -> None:
    stores = (store(2, (0,), const(0), load(0, axis(0))),
              store(1, (0, 1), strided(a0=ITEMS, a1=1), load(2, const(0))))
    axes = (Axis(0, ROWS, "PARALLEL"), Axis(1, ITEMS, "ITEM"))
    kernel = Kernel("one", (read(ROWS), write(ROWS * ITEMS), BufferParam(F32, 1, "local")), (), axes, stores)
    program, (x, out) = ran(kernel)
    np.testing.assert_array_equal(out, np.repeat(x, ITEMS))
    assert barriers(program) == 1


def body(*inside: Instr, condition: Instr) -> Program:
    instructions = (Instr("ITEM", I64), Instr("TASK", I64), condition, Instr("IF", None, (2,)), *inside,
                    Instr("END", None))
    return Program("p", (), (), 2, (), instructions, Kernel("p", (), (), (), ()), group=4)


BARRIER = Instr("BARRIER", None)
OF_TASKS, OF_ITEMS = Instr("LT", BOOL, (1, 1)), Instr("LT", BOOL, (1, 0))


def test_a_barrier_is_reached_by_all_items() -> None:
    verify_program(body(BARRIER, condition=OF_TASKS), "test")
    verify_program(body(condition=OF_ITEMS), "test")
    with pytest.raises(VerifyError, match="all work items"):
        verify_program(body(BARRIER, condition=OF_ITEMS), "test")
    with pytest.raises(VerifyError, match="all work items"):
        verify_program(body(Instr("ELSE", None), BARRIER, condition=OF_ITEMS), "test")
    after = body(condition=OF_ITEMS)
    verify_program(replace(after, body=(*after.body, BARRIER)), "test")


def test_the_interpreter_of_programs_tells_of_a_barrier_that_is_missing() -> None:
    program = lower(turned(4), TARGET)
    for missing in [i for i, instr in enumerate(program.body) if instr.op == "BARRIER"]:
        without = [Instr("CONST", I64, arg=0) if i == missing else instr
                   for i, instr in enumerate(program.body)]
        with pytest.raises(AssertionError, match="no barrier"):
            run_program(replace(program, body=tuple(without)),
                        [np.zeros(b.size, np.float32) for b in program.arguments])


@pytest.mark.parametrize(("before", "later", "conflict"), [
    (Pending(), Pending(frozenset({1}), frozenset({2})), False),
    (Pending(reads=frozenset({1})), Pending(reads=frozenset({1})), False),
    (Pending(stores=frozenset({1})), Pending(reads=frozenset({1})), True),
    (Pending(stores=frozenset({1})), Pending(stores=frozenset({1})), True),
    (Pending(reads=frozenset({1})), Pending(stores=frozenset({1})), True),
    (Pending(frozenset({1}), frozenset({2})), Pending(frozenset({1}), frozenset({3})), False),
])
def test_what_waits_for_what(before, later, conflict):
    assert before.conflicts(later) is conflict
