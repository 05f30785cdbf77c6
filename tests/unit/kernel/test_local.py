"""Local memory: stores of a task in their order, memory of its own, in the interpreter and in programs."""
from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.errors import InternalError, VerifyError
from pluggrad.kernel.cost import cost
from pluggrad.kernel.grammar import verify_kernel
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Axis, BufferParam, Kernel, axis, const
from pluggrad.kernel.order import Group, Nest, store_order
from pluggrad.kernel.text import kernel_text, parse_kernel
from pluggrad.lower import lower
from pluggrad.lower.verify import verify_program
from pluggrad.target import Capabilities, Target
from pluggrad.tune.actions import axis_of, prune_buffers, split
from tests.program_interpreter import run_program
from tests.unit.kernel.kernels import load, op, read, reduce, store, strided, write

F32 = dtypes.float32
NAMES = frozenset(dtype.name for dtype in dtypes.ALL)
TARGET = Target("test", Capabilities(NAMES, NAMES, frozenset({"EXP2", "LOG2"})))
ROWS, BLOCKS, COLUMNS = 4, 3, 5


def local(size: int) -> BufferParam:
    return BufferParam(F32, size, "local")


def online() -> Kernel:
    """out[i] = log2 of the sum of exp2(x[i, j]), block by block: a maximum, a sum that follows it."""
    x = load(0, strided(a0=BLOCKS * COLUMNS, a1=COLUMNS, a2=1))
    best, newer, total = [load(slot, const(0)) for slot in (2, 3, 4)]
    larger = op("MAX", best, reduce("MAX", x, 2))
    sums = op("ADD", op("MUL", total, op("EXP2", op("SUB", best, newer))),
              reduce("ADD", op("EXP2", op("SUB", x, newer)), 2))
    stores = (store(2, (0,), const(0), const(float("-inf"), F32)),
              store(4, (0,), const(0), const(0.0, F32)),
              store(3, (0, 1), const(0), larger),
              store(4, (0, 1), const(0), sums),
              store(2, (0, 1), const(0), newer),
              store(1, (0,), axis(0), op("ADD", best, op("LOG2", total))))
    axes = (Axis(0, ROWS, "PARALLEL"), Axis(1, BLOCKS, "LOOP"), Axis(2, COLUMNS, "REDUCE"))
    return Kernel("online", (read(ROWS * BLOCKS * COLUMNS), write(ROWS), local(1), local(1), local(1)), (),
                  axes, stores)


def results(kernel: Kernel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Input, what the interpreter gives, and what the program does."""
    verify_kernel(kernel, "test")
    x = np.random.default_rng(1).normal(0, 4, kernel.buffers[0].size).astype(np.float32)
    found = []
    program = lower(kernel, TARGET)
    verify_program(program, "test")
    for run in (partial(interpret, kernel, values=[]), partial(run_program, program)):
        out = np.zeros(kernel.buffers[1].size, np.float32)
        run(buffers=[x, out])
        found.append(out)
    return x, found[0], found[1]


@pytest.mark.parametrize("cuts", [[], [(1, 2, "LOOP")], [(2, 2, "TILE")],
                                  [(2, 4, "VECTOR"), (1, 3, "LOOP")]])
def test_a_running_maximum_and_sum(cuts):
    kernel = online()
    for id, factor, kind in cuts:
        kernel, _, _ = split(kernel, id, factor, axis_of(kernel, id).kind, kind)
    x, interpreted, ran = results(kernel)
    want = np.log2(np.exp2(x.reshape(ROWS, -1).astype(np.float64)).sum(1))
    np.testing.assert_allclose(interpreted, want, rtol=1e-5)
    np.testing.assert_allclose(ran, want, rtol=1e-5)


def test_neighbors_share_loops_and_a_load_waits_for_the_store():
    steps = store_order(online())
    assert steps == (Group((0, 1)), Nest(1, (Group((2,)), Group((3, 4))), frozenset({2, 3, 4})), Group((5,)))


def test_what_is_stored_in_the_loop_of_a_sum_is_a_group_of_its_own():
    """Whether or not it reads what was stored before."""
    one = const(1.0, F32)
    stores = (store(0, (), const(0), one), store(1, (0,), axis(0), one), store(1, (0,), axis(0), one),
              store(0, (), const(0), one))
    axes = (Axis(0, 3, "REDUCE"),)
    kernel = Kernel("filling", (write(1), local(3)), (), axes, stores)
    assert store_order(kernel) == (Group((0,)), Group((1, 2), within=0), Group((3,)))


def test_a_value_loaded_before_a_loop_that_changes_it_is_loaded_again_inside():
    """out[0] = m before; then three times: out[1 + i] = m, m = m + 1."""
    m = load(1, const(0))
    one = const(1.0, F32)
    stores = (store(1, (), const(0), one), store(0, (), const(0), m),
              store(0, (0,), strided(1, a0=1), m), store(1, (0,), const(0), op("ADD", m, one)),
              store(0, (), const(4), m))
    kernel = Kernel("counting", (write(5), local(1)), (), (Axis(0, 3, "LOOP"),), stores)
    out = [np.zeros(5, np.float32), np.zeros(5, np.float32)]
    interpret(kernel, [out[0]], [])
    run_program(lower(kernel, TARGET), [out[1]])
    for each in out:
        np.testing.assert_array_equal(each, [1, 1, 2, 3, 4])


def test_text_and_cost_know_it():
    kernel = online()
    assert parse_kernel(kernel_text(kernel)) == kernel
    assert cost(kernel).bytes == 4 * (ROWS * BLOCKS * COLUMNS + ROWS)
    assert kernel.local_bytes == 36  # each at a multiple of 16


def test_it_is_no_argument():
    kernel = online()
    with pytest.raises(InternalError, match="2 buffers"):
        interpret(kernel, [np.zeros(b.size, np.float32) for b in kernel.buffers], [])
    pruned, numbers = prune_buffers(replace(kernel, buffers=(*kernel.buffers, read(9))))
    assert pruned == kernel
    assert numbers == (0, 1)


@pytest.mark.parametrize(("change", "complaint"), [
    (lambda k: replace(k, buffers=(k.buffers[2], k.buffers[1], k.buffers[0], *k.buffers[3:])), "behind all"),
    (lambda k: replace(k, axes=(*k.axes, Axis(9, 4, "REDUCE")), stores=(
        store(2, (0, 2, 9), const(0), const(0.0, F32)), *k.stores)), "one REDUCE axis"),
    (lambda k: replace(k, stores=(*k.stores[:-1], store(1, (0, 2), *k.stores[-1].src))), "no REDUCE axis"),
    (lambda k: replace(k, stores=(store(2, (), const(0), const(0.0, F32)), *k.stores)), "all PARALLEL axes"),
])
def test_what_tasks_would_share_is_refused(change, complaint):
    with pytest.raises(VerifyError, match=complaint):
        verify_kernel(change(online()), "test")


def test_a_value_read_before_it_is_stored_is_not_a_number():
    kernel = Kernel("early", (write(2), local(2)), (), (Axis(0, 2, "PARALLEL"),),
                    (store(0, (0,), axis(0), load(1, axis(0))),))
    out = np.zeros(2, np.float32)
    interpret(kernel, [out], [])
    assert np.isnan(out).all()
