"""Rendered OpenCL C, built by the driver and run beside the interpreter: every op, dtype and instruction."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyopencl as cl
import pytest

from pluggrad import dtypes
from pluggrad.dtypes import Scalar
from pluggrad.lower.program import Program
from pluggrad.plugin_api import merged
from pluggrad_opencl import driver
from pluggrad_opencl.plugin import OpenCLBackend
from pluggrad_opencl.render import OpenCLRenderer
from tests.elementwise_cases import batches
from tests.program_cases import CASES, GROUPS, ProgramCase, value_bits

PARTS = 4  # of the ops, so that no test takes long on a busy machine


class Runner:
    """Builds programs for the first device and runs them on arrays, in place."""

    def __init__(self, arithmetic: frozenset[str]) -> None:
        device = driver.device(0)
        driver.processor_name(device)
        self.context = cl.Context([device])
        self.queue = cl.CommandQueue(self.context)
        self.renderer = OpenCLRenderer(arithmetic)

    def build(self, programs: Sequence[Program]) -> Any:
        return cl.Program(self.context, merged([self.renderer.render(each) for each in programs])).build()

    def __call__(self, built: Any, program: Program, arrays: Sequence[np.ndarray],
                 values: Sequence[Scalar] = ()) -> None:
        flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
        buffers = [cl.Buffer(self.context, flags, hostbuf=array) for array in arrays]
        scalars = [value_bits(value, dtype).view(np.uint8) for value, dtype in zip(values, program.values)]
        kernel = cl.Kernel(built, program.name)
        kernel.set_args(*buffers, *scalars)
        size = (program.tasks * program.group,), (program.group,)
        cl.enqueue_nd_range_kernel(self.queue, kernel, *size)
        for array, buffer in zip(arrays, buffers):
            cl.enqueue_copy(self.queue, array, buffer)
        self.queue.finish()


@pytest.fixture(scope="module")
def run() -> Runner:
    backend = OpenCLBackend()
    found = backend.probe()
    if not found.count:
        pytest.skip(f"needs an OpenCL device: {found.reason}")
    return Runner(backend.target(0, "").capabilities.arithmetic)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("lanes", [0, 6, 16])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_op_at_every_dtype(run: Runner, lanes: int, part: int) -> None:
    computed = [dtype for dtype in dtypes.FLOATS if dtype.name in run.renderer.arithmetic]
    everything = batches(computed)[part::PARTS]
    programs = [batch.program(lanes) for batch in everything]
    built = run.build(programs)
    for batch, program in zip(everything, programs, strict=True):
        arrays = batch.arrays()
        run(built, program, arrays)
        batch.check(arrays)


def check(run: Runner, cases: Mapping[str, Callable[[], ProgramCase]], part: int = 0, parts: int = 1) -> None:
    made = {name: make() for name, make in list(cases.items())[part::parts]}
    built = run.build([case.program for case in made.values()])
    for name, case in made.items():
        arrays = case.inputs()
        run(built, case.program, arrays, case.values)
        try:
            case.check(arrays)
        except AssertionError as error:
            raise AssertionError(name) from error


@pytest.mark.parametrize("part", range(PARTS))
def test_every_form_of_an_instruction(run: Runner, part: int) -> None:
    check(run, CASES, part, PARTS)


def test_work_items_and_reductions_over_a_group(run: Runner) -> None:
    check(run, GROUPS)


def test_extensions_are_named_where_they_are_used(run: Runner) -> None:
    wide, narrow = (OpenCLRenderer(["float32", "float64"]).render(CASES[name]().program)
                    for name in ("strided float64 open", "matmul"))
    assert "cl_khr_fp64" in wide
    assert "#pragma OPENCL EXTENSION" not in narrow


def test_halves_are_computed_in_where_the_device_declares_it() -> None:
    program = CASES["strided float16 open"]().program
    with_halves, without = (OpenCLRenderer(names).render(program)
                            for names in (["float32", "float16"], ["float32"]))
    assert "cl_khr_fp16" in with_halves
    assert "half16" not in without
    assert "__global const ushort *restrict b0" in without
