"""Kernels with reductions keep what they compute, get enough tasks, and add up in an order of their own."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pluggrad import Tensor
from pluggrad.cli.stages import Stages
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Kernel
from pluggrad.target import Capabilities
from pluggrad.tune import tune
from tests.golden.expressions import TARGET, stages, stored, value

WIDE = replace(TARGET.capabilities, vector_bytes=64, vector_registers=32)
SCALAR = replace(TARGET.capabilities, vector_bytes=0)


def softmax(*shape: int) -> Tensor:
    return stored(*shape).softmax(-1)


def columns(*shape: int) -> Tensor:
    return stored(*shape).sum(0)


def channels(*shape: int) -> Tensor:
    return stored(*shape).square().sum((0, 2, 3))


# name -> an expression of one region
EXPRESSIONS = {
    "short rows": lambda: softmax(200, 10), "rows of one vector": lambda: softmax(129, 16),
    "rows in registers": lambda: softmax(131, 61), "rows in tiles": lambda: softmax(130, 100),
    "long rows": lambda: softmax(5, 4097), "one row": lambda: softmax(1, 1000),
    "pairs": lambda: softmax(999, 2),
    "columns": lambda: columns(257, 40), "many rows, few columns": lambda: columns(5000, 3),
    "channels": lambda: channels(17, 3, 7, 7), "many channels": lambda: channels(3, 40, 5, 5),
    "everything": lambda: stored(41, 1000).sum(), "one of everything": lambda: stored(1).sum(),
    "runs of a row": lambda: stored(40, 8192).sum(1), "long odd rows": lambda: stored(130, 4099).max(1),
    "runs of parts": lambda: stored((1 << 17) + 1).sum(),
    "variance": lambda: stored(140, 33).var(1), "sum and rows": lambda: stored(150, 20).log_softmax(1),
}


def one_kernel(x: Tensor) -> Kernel:
    made = stages(value(x))
    assert len(made.built) == 1
    return made.built[0].kernel


def phases(kernel: Kernel, capabilities: Capabilities) -> list[Kernel]:
    return [phase.kernel for phase in tune(kernel, capabilities).phases]


def run(kernel: Kernel, capabilities: Capabilities | None) -> list[np.ndarray]:
    """What the buffers of `kernel` hold after it, or after what it is tuned to."""
    random = np.random.default_rng(7)
    data = [random.standard_normal(b.size).astype(b.dtype.numpy) for b in kernel.buffers]
    if capabilities is None:
        interpret(kernel, data, [1.0] * len(kernel.values))
        return data
    tuned = tune(kernel, capabilities)
    everything = data + [np.full(t.size, 99, t.dtype.numpy) for t in tuned.temporaries]
    for phase in tuned.phases:
        interpret(phase.kernel, [everything[i] for i in phase.args], [1.0] * len(kernel.values))
    return data


@pytest.mark.parametrize("capabilities", [TARGET.capabilities, WIDE, SCALAR], ids=["32", "64", "scalar"])
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_what_is_computed_stays(name: str, capabilities: Capabilities) -> None:
    kernel = one_kernel(EXPRESSIONS[name]())
    for found, expected in zip(run(kernel, capabilities), run(kernel, None)):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-4)


@pytest.mark.parametrize(("x", "sides"), [
    (lambda: stored(1 << 20).sum(), [4]), (lambda: stored((1 << 20) + 1).sum(), [4]),
    (lambda: stored(40, 8192).sum(1), [4]), (lambda: stored(130, 4099).sum(1), [4]),
    (lambda: stored(40, 8191).sum(1), []), (lambda: stored(40, 1024).sum(1), []),
    (lambda: softmax(130, 8192), [])])
def test_what_is_long_and_walked_once_is_read_as_four_streams(x, sides: list[int]) -> None:
    assert [a.extent for a in phases(one_kernel(x()), WIDE)[0].axes if a.kind == "TILE"] == sides


def tasks(kernel: Kernel) -> int:
    return int(np.prod([a.extent for a in kernel.axes if a.kind == "PARALLEL"]))


@pytest.mark.parametrize("x", [
    lambda: stored(1 << 20).sum(), lambda: columns(1 << 14, 16), lambda: channels(64, 8, 28, 28),
    lambda: channels(256, 3, 32, 32), lambda: columns(4096, 1024), lambda: stored(3, 1 << 16).max(1)])
def test_long_reductions_keep_many_cores_busy(x) -> None:
    first, second = phases(one_kernel(x()), WIDE)
    assert 32 <= tasks(first) <= 256
    assert tasks(second) <= 64


@pytest.mark.parametrize("x", [lambda: stored(100).sum(), lambda: columns(64, 64), lambda: softmax(64, 1000)])
def test_small_reductions_take_one_phase(x) -> None:
    assert len(phases(one_kernel(x()), WIDE)) == 1


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_the_order_of_a_sum_does_not_depend_on_cores(name: str) -> None:
    kernel = one_kernel(EXPRESSIONS[name]())
    assert phases(kernel, replace(WIDE, cores=2)) == phases(kernel, replace(WIDE, cores=64))


def test_a_row_in_registers_is_computed_once() -> None:
    made = stages(value(softmax(200, 32)))
    assert loops(made) == 0
    assert [instr.op for instr in made.programs[0].body].count("EXP") == 1


def loops(made: Stages) -> int:
    return sum(instr.op == "LOOP" for program in made.programs for instr in program.body)
