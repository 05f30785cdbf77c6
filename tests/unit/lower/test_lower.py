"""The list of lowering passes: recorded with a trace, checked under VERIFY, free otherwise."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import pluggrad.lower
from pluggrad import dtypes
from pluggrad.config import Context
from pluggrad.errors import VerifyError
from pluggrad.graph.ops import ADD, ELEMENTWISE
from pluggrad.ir.node import Node, node
from pluggrad.ir.passes import Pass, PassList, Trace
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Axis, BufferParam, Kernel, axis, const
from pluggrad.lower import PASSES, lower, program_name
from pluggrad.lower.arithmetic import safe_integers
from pluggrad.lower.verify import verify_lowered
from pluggrad.target import Capabilities, Target

F32 = dtypes.float32
NAMES = frozenset(op.name for op in ELEMENTWISE)
TARGET = Target("test", Capabilities(frozenset({"float32"}), frozenset({"float32"}), NAMES))


def increment() -> Kernel:
    load = node(ops.LOAD, (axis(0),), 1, F32)
    total = node(ADD, (load, const(1.0, F32)), None, F32)
    buffers = (BufferParam(F32, 8, "out"), BufferParam(F32, 8, "in"))
    return Kernel("increment", buffers, (), (Axis(0, 8, "LOOP"),),
                  (node(ops.STORE, (axis(0), total), (0, (0,)), F32),))


def test_a_trace_records_each_pass_and_changes_nothing() -> None:
    trace = Trace(dump=lambda value: type(value).__name__, verify=verify_lowered)
    assert lower(increment(), TARGET, trace) == lower(increment(), TARGET)
    assert [record.name for record in trace.records] == [*[each.name for each in PASSES.passes], "linearize"]
    assert [record.text for record in trace.records] == [*["tuple"] * len(PASSES.passes), "Program"]


def test_every_pass_gives_a_reason() -> None:
    assert all(each.reason for each in PASSES.passes)


def _drop_a_source(stores: tuple[Node, ...], capabilities: Capabilities) -> tuple[Node, ...]:
    return tuple([node(ops.STORE, store.src[:1], store.arg, store.type) for store in stores])


def test_verify_names_the_pass_that_broke_the_grammar(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = PassList((*PASSES.passes, Pass("drop", "to be found", _drop_a_source)))
    monkeypatch.setattr(pluggrad.lower, "PASSES", broken)
    with Context(VERIFY=1), pytest.raises(VerifyError, match="STORE in the kernel after drop"):
        lower(increment(), TARGET)


def test_verify_checks_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    linearize = pluggrad.lower.linearize
    monkeypatch.setattr(pluggrad.lower, "linearize", lambda *given: linearize(*given)[:-1])
    with Context(VERIFY=0):
        lower(increment(), TARGET)
    with Context(VERIFY=1), pytest.raises(VerifyError, match="after linearize"):
        lower(increment(), TARGET)


def test_an_interpreting_target_gets_the_kernel_itself() -> None:
    target = Target("test", replace(TARGET.capabilities, interprets_kernels=True))
    program = lower(increment(), target, Trace(verify=verify_lowered))
    assert (program.body, program.kernel, program.name) == ((), increment(), program_name(increment()))


@pytest.mark.parametrize("name", ["IDIV", "MOD"])
def test_a_processor_is_given_no_divisor_that_traps(name: str) -> None:
    """Nor one whose quotient is out of range."""
    i32 = dtypes.int32
    sources = tuple([node(ops.LOAD, (axis(0),), slot, i32) for slot in (1, 2)])
    divided = node(ops.STORE, (axis(0), node(ops.KERNEL_OPS[name], sources, None, i32)), (0, (0,)), i32)
    [division] = {n.src for n in toposort(safe_integers((divided,), TARGET.capabilities))
                  if n.op in (ops.CDIV, ops.CMOD)}
    stores = (node(ops.STORE, (axis(0), division[1]), (0, (0,)), i32),)
    buffers = [BufferParam(i32, 4, role) for role in ("out", "in", "in")]
    divisors = np.zeros(4, np.int32)
    given = [np.int32([i32.min, i32.min, 7, -7]), np.int32([-1, -2, 0, -1])]
    interpret(Kernel("divisors", tuple(buffers), (), (Axis(0, 4, "LOOP"),), stores), [divisors, *given], [])
    assert divisors.tolist() == [1, -2, 1, -1]
