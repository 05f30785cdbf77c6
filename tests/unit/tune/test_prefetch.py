"""Rows that are walked several times ask for what comes next, and compute what they did."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pluggrad import Tensor
from pluggrad.ir.node import Node
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.grammar import verify_kernel
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Kernel
from pluggrad.lower import lower
from pluggrad.lower.verify import verify_program
from pluggrad.target import Target
from pluggrad.tune import tune
from pluggrad.tune.accesses import position
from tests.golden.expressions import TARGET, stages, stored, value
from tests.program_interpreter import run_program

# a cache that two rows of 512 floats fill, and matrices do not fit
ASKING = replace(TARGET.capabilities, vector_bytes=64, vector_registers=32, cache_bytes=1 << 12,
                 prefetch=True, ops=TARGET.capabilities.ops | {"PREFETCH"})


def tuned(result: Tensor, **changes: int) -> tuple[Kernel, Kernel]:
    (built,) = stages(value(result)).built
    (phase,) = tune(built.kernel, replace(ASKING, **changes)).phases
    return built.kernel, phase.kernel


def loops(kernel: Kernel, asked: Node) -> list[str]:
    """The kinds of the loops along whose axes memory is asked for."""
    inside = {n.arg for n in toposort([asked.src[1]]) if n.op is ops.AXIS}
    return [a.kind for a in kernel.axes if a.id in inside and a.kind in ("LOOP", "REDUCE")]


def asking(result: Tensor, **changes: int) -> list[tuple[int, str]]:
    """How far ahead of its first element each loop asks, and its kind."""
    _, kernel = tuned(result, **changes)
    found = [n for n in toposort(kernel.stores) if n.op is ops.PREFETCH]
    return sorted([(position(n.src[1], {}), *loops(kernel, n)) for n in found])


WALKS: dict[str, tuple[Callable[[], Tensor], list[tuple[int, str]]]] = {
    # the maximum alone, which waits for memory, does not ask; the last loop reads nothing but what was kept
    "softmax": (lambda: stored(64, 320).softmax(1), [(320, "LOOP"), (320, "LOOP")]),
    "softmax of odd rows": (lambda: stored(64, 333).softmax(1), [(333, "LOOP"), (333, "LOOP")]),
    "logarithms of softmax": (lambda: stored(64, 320).log_softmax(1), [(320, "LOOP"), (320, "REDUCE")]),
    "layer norm": (lambda: stored(64, 320).layernorm(), [(320, "LOOP"), (320, "REDUCE")]),
    "a quotient": (lambda: (lambda x: x / x.sum(1, keepdim=True))(stored(64, 320)), [(320, "LOOP")]),
    "four rows a task": (lambda: stored(256, 160).log_softmax(1), [(640, "LOOP"), (640, "REDUCE")]),
    "columns": (lambda: stored(64, 320).log_softmax(0), [(32, "LOOP"), (32, "REDUCE")]),
}


@pytest.mark.parametrize("name", WALKS)
def test_walks_after_the_first_ask_for_the_row_of_the_next_task(name: str) -> None:
    make, want = WALKS[name]
    assert asking(make(), cache_bytes=1 << 13) == want


@pytest.mark.parametrize("name", WALKS)
def test_what_is_asked_for_changes_no_value(name: str) -> None:
    before, after = tuned(WALKS[name][0](), cache_bytes=1 << 13)
    verify_kernel(after, "asking")
    program = lower(after, Target("asking", ASKING))
    verify_program(program, "asking")
    assert "PREFETCH" in [i.op for i in program.body]
    rng = np.random.default_rng(0)
    want = [rng.standard_normal(b.size).astype(b.dtype.numpy) for b in before.buffers]
    interpreted, run = [[data.copy() for data in want] for _ in range(2)]
    values = [320.0] * len(before.values)
    interpret(before, want, values)
    interpret(after, interpreted, values)
    run_program(program, run, values)
    for got in (interpreted, run):
        np.testing.assert_allclose(got[0], want[0], rtol=1e-5, atol=1e-5)


PAST_CACHES = {"streaming_line_bytes": 64, "shared_cache_bytes": 1 << 14}
TRANSPOSED: dict[str, Callable[[], Tensor]] = {
    "a transposition": lambda: stored(256, 272).T.contiguous(),
    "beside what lies as it is stored": lambda: stored(256, 256) + stored(256, 256).T,
    "in blocks that do not divide": lambda: stored(251, 256) * stored(256, 251).T,
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_blocks_to_transpose_are_asked_for_a_step_of_the_outer_loop_before(name: str) -> None:
    before, after = tuned(TRANSPOSED[name](), **PAST_CACHES)
    verify_kernel(after, "asking")
    (asked,) = [n for n in toposort(after.stores) if n.op is ops.PREFETCH]
    load = asked.src[0]
    outer = next(a for a in after.axes if a.kind == "LOOP")
    assert load.op is ops.LOAD
    for step in range(outer.extent):
        at, following = {outer.id: step}, {outer.id: min(step + 1, outer.extent - 1)}
        assert position(asked.src[1], at) == position(load.src[0], following)
    want = [np.arange(b.size, dtype=np.float32) for b in before.buffers]
    got = [data.copy() for data in want]
    interpret(before, want, [])
    run_program(lower(after, Target("asking", ASKING)), got)
    np.testing.assert_array_equal(got[0], want[0])


def test_blocks_that_are_near_are_not_asked_for() -> None:
    assert asking(stored(256, 272).T.contiguous(), cache_bytes=1 << 20, **PAST_CACHES) == []


def test_nobody_asks_for_what_is_near_or_would_push_out_the_row_at_hand() -> None:
    assert asking(stored(64, 320).softmax(1), prefetch=False) == []
    assert asking(stored(64, 320).softmax(1), cache_bytes=1 << 20) == []
    assert asking(stored(64, 640).softmax(1)) == []


def test_one_walk_alone_asks_for_nothing() -> None:
    assert asking(stored(64, 320).sum(1)) == []
    assert asking(stored(64, 320).exp()) == []


def test_renderers_without_the_instruction_do_not_meet_it() -> None:
    _, kernel = tuned(stored(64, 320).softmax(1))
    program = lower(kernel, Target("asking", replace(ASKING, ops=TARGET.capabilities.ops)))
    verify_program(program, "lower")
    assert "PREFETCH" not in [i.op for i in program.body]
