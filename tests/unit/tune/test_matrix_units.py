"""Contractions by matrix units: the same sums out of panels that a group fills ahead of time."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from pluggrad import Tensor, dtypes
from pluggrad.cli.stages import run_stages, verify_stage
from pluggrad.config import Context
from pluggrad.graph import products
from pluggrad.graph.ops import LE
from pluggrad.ir.passes import Trace
from pluggrad.ir.walk import toposort
from pluggrad.kernel.boxes import boxes_of
from pluggrad.kernel.cost import cost
from pluggrad.kernel.grammar import verify_kernel
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Kernel
from pluggrad.kernel.text import kernel_text, parse_kernel
from pluggrad.lower import lower
from pluggrad.lower.program import Instr
from pluggrad.lower.text import program_text
from pluggrad.lower.verify import verify_program
from pluggrad.runtime.normalize import normalize
from pluggrad.target import BoxEngine, Capabilities, MatrixUnit, Target
from pluggrad.tune import matrix_units, tune
from pluggrad.tune.heuristics import tune_kernel
from pluggrad.tune.matrix_units import multiply_matrices
from tests.matrix_products import Convolution, MatrixProduct, arguments, expected, kernels_of, leaf
from tests.program_interpreter import run_program

F16, BF16, F32 = dtypes.float16, dtypes.bfloat16, dtypes.float32
UNITS = (MatrixUnit(16, 16, 16, "float16"), MatrixUnit(16, 16, 16, "bfloat16"),
         MatrixUnit(16, 16, 8, "float32"))
GROUPS = Capabilities(
    dtypes=frozenset(d.name for d in dtypes.ALL), arithmetic=frozenset({"float32"}), vector_bytes=16,
    vector_registers=32, cores=4, max_group=256, subgroup_width=32, scratch_bytes=160 << 10,
    copies_ahead=True, matrix_units=UNITS)
AT_ONCE = replace(GROUPS, copies_ahead=False)
IN_FLIGHT = replace(GROUPS, matrix_units=tuple([unit._replace(in_flight=1) for unit in UNITS]))
ENGINE = BoxEngine(span_bytes=128, alignment=16, most=256, dims=5)
BOXES = replace(IN_FLIGHT, cores=1, matrix_units=tuple([
    unit._replace(engine=ENGINE if unit.inputs != "float32" else None) for unit in IN_FLIGHT.matrix_units]))
BY_ROWS = replace(AT_ONCE, matrix_units=tuple([unit._replace(piece_bytes=0) for unit in UNITS]))
PRODUCTS = [
    MatrixProduct(128, 128, 128, F16), MatrixProduct(170, 100, 150, F16, (True, True), out=F16),
    MatrixProduct(129, 164, 65, BF16, (False, True)), MatrixProduct(96, 60, 80, BF16, (True, False), stack=3),
    MatrixProduct(64, 133, 180, F32), MatrixProduct(96, 128, 128, F32, (True, True))]


def tuned(product: MatrixProduct, capabilities: Capabilities = GROUPS) -> Kernel:
    with Context(MATMUL_PRECISION="tf32"):
        (kernel,) = tune_kernel(product.kernel(), capabilities)
    assert {"MATRIX"} <= {axis.kind for axis in kernel.axes}
    return kernel


@pytest.mark.parametrize("capabilities", [GROUPS, AT_ONCE, IN_FLIGHT, BY_ROWS],
                         ids=["ahead", "at once", "in flight", "by rows"])
@pytest.mark.parametrize("product", PRODUCTS, ids=str)
def test_panels_hold_what_is_multiplied(product, capabilities):
    kernel = tuned(product, capabilities)
    verify_kernel(kernel, "tune")
    assert parse_kernel(kernel_text(kernel)) == kernel
    assert kernel.local_bytes <= capabilities.scratch_bytes
    arrays = arguments(kernel)
    want = expected(product.kernel(), arrays)
    interpret(kernel, arrays, [])
    np.testing.assert_array_equal(arrays[0], want[0])


@pytest.mark.parametrize("capabilities", [GROUPS, AT_ONCE, IN_FLIGHT], ids=["ahead", "at once", "in flight"])
@pytest.mark.parametrize("product", PRODUCTS[:5:2], ids=str)
def test_programs_copy_in_time_and_wait_for_each_other(product, capabilities):
    kernel = tuned(product, capabilities)
    program = lower(kernel, Target("x", capabilities))
    verify_program(program, "lower")
    written = {instr.op for instr in program.body}
    assert {"MMA_ACC", "MMA", "MMA_STORE", "BARRIER"} <= written
    assert ({"COPY", "COMMIT", "WAIT"} <= written) == capabilities.copies_ahead
    arrays = arguments(kernel)
    want = expected(product.kernel(), arrays)
    run_program(program, arrays)
    np.testing.assert_array_equal(arrays[0], want[0])


def test_a_product_is_under_way_where_its_panels_may_be_kept():
    for length, capabilities, in_flight in ((512, IN_FLIGHT, 1), (512, GROUPS, 0), (128, IN_FLIGHT, 0)):
        kernel = tuned(MatrixProduct(128, length, 128, F16), capabilities)
        assert {b.kept for b in kernel.buffers if b.stages > 1} == {in_flight}
        program = lower(kernel, Target("x", capabilities))
        assert {instr.arg.in_flight for instr in program.body if instr.op == "MMA"} == {in_flight}


def test_panels_that_products_read_are_left_alone():
    kernel = tuned(MatrixProduct(128, 512, 128, F16), IN_FLIGHT)
    program = lower(kernel, Target("x", IN_FLIGHT))
    body = tuple([replace(instr, arg=instr.arg._replace(in_flight=2)) if instr.op == "MMA" else instr
                  for instr in program.body])
    run_program(program, arguments(kernel))
    with pytest.raises(AssertionError, match="while products read there"):
        run_program(replace(program, body=body), arguments(kernel))


BOXED = [
    MatrixProduct(128, 512, 128, F16), MatrixProduct(168, 104, 150, F16, (True, True), out=F16),
    MatrixProduct(129, 168, 67, BF16, (False, True)), MatrixProduct(30, 1000, 136, F16),
    MatrixProduct(256, 64, 264, BF16, (True, False), stack=3)]


@pytest.mark.parametrize("product", BOXED, ids=str)
def test_boxes_are_copied_in_time_with_zeros_beyond_their_ends(product):
    kernel = tuned(product, BOXES)
    verify_kernel(kernel, "tune")
    assert parse_kernel(kernel_text(kernel)) == kernel
    assert kernel.local_bytes <= BOXES.scratch_bytes
    program = lower(kernel, Target("x", BOXES))
    verify_program(program, "lower")
    assert {"ARRIVALS", "COPY_BOX", "WAIT_BOX"} <= {instr.op for instr in program.body}
    assert {"COPY", "WAIT", "COMMIT"}.isdisjoint({instr.op for instr in program.body})
    arrays = arguments(kernel)
    want = expected(product.kernel(), arrays)
    for run in (lambda found: interpret(kernel, found, []), lambda found: run_program(program, found)):
        found = [array.copy() for array in arrays]
        run(found)
        np.testing.assert_array_equal(found[0], want[0])


@pytest.mark.parametrize("product", [
    MatrixProduct(128, 132, 128, F16), MatrixProduct(128, 128, 132, F16), MatrixProduct(64, 128, 180, F32),
    MatrixProduct(36, 512, 128, F16, (True, False))], ids=str)
def test_what_does_not_lie_as_boxes_do_is_copied_by_items(product):
    program = lower(tuned(product, BOXES), Target("x", BOXES))
    assert "COPY" in {instr.op for instr in program.body}
    assert program.boxes == ()


def test_boxes_come_only_where_all_are_done():
    kernel = tuned(MatrixProduct(128, 512, 128, F16), BOXES)
    program = lower(kernel, Target("x", BOXES))
    order = [instr.op for instr in program.body]
    barrier = order.index("BARRIER", order.index("LOOP"))
    assert barrier < order.index("COPY_BOX", barrier) < order.index("WAIT_BOX") < order.index("MMA")
    body = (*program.body[:barrier], nothing(program.body[barrier]), *program.body[barrier + 1:])
    with pytest.raises(AssertionError, match="no barrier before"):
        run_program(replace(program, body=body), arguments(kernel))


def test_a_program_says_what_it_copies():
    text = program_text(lower(tuned(MatrixProduct(128, 512, 128, F16), BOXES), Target("x", BOXES)))
    assert re.search(r"^box 0: of buffer 3 from 0 on, 64 of 512 at stride 1, \d+ of 128 at stride 512, "
                     r"in spans of 64$", text, re.MULTILINE)
    assert "ARRIVALS of 2 boxes in each of 4 stages" in text
    assert re.search(r"  COPY_BOX 1 from %\d+, %\d+ to buffer 5 at %\d+ for step %\d+$", text, re.MULTILINE)
    assert re.search(r"  WAIT_BOX for step %\d+$", text, re.MULTILINE)


def halves(*shape: int) -> Tensor:
    return leaf(F16, *shape)


VIEWS = {
    "rows and columns left out": (lambda: halves(136, 144)[8:, 16:].float() @ halves(128, 128).float(), True),
    "both factors in one buffer": (lambda: (x := halves(128, 128).float()) @ x.transpose(0, 1), True),
    "heads between rows": (lambda: halves(2, 128, 3, 64).permute(0, 2, 1, 3).float()
                           @ halves(2, 128, 3, 64).permute(0, 2, 3, 1).float(), True),
    "one matrix for a stack": (lambda: halves(3, 128, 128).float() @ halves(128, 128).float(), True),
    "a first column that is not aligned": (lambda: halves(128, 144)[:, 4:132].float()
                                           @ halves(128, 128).float(), False),
    "every other row": (lambda: halves(256, 128)[::2].float() @ halves(128, 128).float(), True),
    "backwards": (lambda: halves(128, 128).flip(0).float() @ halves(128, 128).float(), False),
    "every other column": (lambda: halves(128, 256)[:, ::2].float() @ halves(128, 128).float(), False)}


@pytest.mark.parametrize("view", VIEWS)
def test_views_are_boxes_where_their_strides_are(view):
    make, boxed = VIEWS[view]
    (untuned,) = kernels_of(make())
    (kernel,) = tune_kernel(untuned, BOXES)
    assert bool(boxes_of(kernel)) == boxed
    program = lower(kernel, Target("x", BOXES))
    verify_program(program, "lower")
    arrays = arguments(kernel)
    want = expected(untuned, arrays)
    run_program(program, arrays)
    np.testing.assert_array_equal(arrays[0], want[0])


def test_a_long_sum_of_boxes_is_cut_into_parts(monkeypatch):
    monkeypatch.setattr(matrix_units, "_PHASE", 0.0)
    monkeypatch.setattr(matrix_units, "_PARTS", (3,))
    partial, _ = run_phases(MatrixProduct(128, 2040, 128, BF16, (False, True)).kernel(),
                            replace(BOXES, cores=12))
    assert next(axis.extent for axis in partial.axes if axis.kind == "PARALLEL") == 3
    dims = [copy.box.dims for copy in boxes_of(partial).values()]
    assert [2040 in {dim.extent for dim in each} for each in dims] == [True, True]


CONVOLUTIONS = [
    *[Convolution(of, BF16, 2, 32, 32, (8, 8), (3, 3), padding=1) for of in "yxw"],
    *[Convolution(of, F16, 4, 20, 36, (13, 7), (3, 2)) for of in "yxw"],
    *[Convolution(of, F16, 8, 32, 32, (14, 12), (3, 3), stride=2, padding=1) for of in "yxw"],
    *[Convolution(of, BF16, 2, 64, 64, (8, 8), (3, 3), padding=2, dilation=2, groups=2) for of in "yxw"],
    Convolution("y", F16, 4, 64, 64, (10, 8), (1, 1))]


def run_phases(untuned: Kernel, capabilities: Capabilities) -> list[Kernel]:
    """The kernels that a kernel is tuned to, whose results are compared with its own."""
    found = tune(untuned, capabilities)
    arrays = arguments(untuned)
    want = expected(untuned, arrays)
    arrays += [np.full(b.size, 0xFF, np.uint8).repeat(b.dtype.itemsize).view(b.dtype.numpy)
               for b in found.temporaries]
    for phase in found.phases:
        verify_kernel(phase.kernel, "tune")
        interpret(phase.kernel, [arrays[arg] for arg in phase.args], [])
    np.testing.assert_array_equal(arrays[0], want[0])
    return [phase.kernel for phase in found.phases]


@pytest.mark.parametrize("capabilities", [GROUPS, BY_ROWS], ids=["ahead", "by rows"])
@pytest.mark.parametrize("convolution", CONVOLUTIONS, ids=str)
def test_panels_are_gathered_from_windows_and_what_is_around_them(convolution, capabilities):
    for untuned in convolution.kernels():
        kinds = {axis.kind for kernel in run_phases(untuned, capabilities) for axis in kernel.axes}
        assert "MATRIX" in kinds


@pytest.mark.parametrize("product", [*CONVOLUTIONS[:6], MatrixProduct(67, 129, 131, F16)], ids=str)
def test_what_is_too_short_to_be_copied_is_on_its_way_in_registers(product):
    (untuned,) = product.kernels() if isinstance(product, Convolution) else [product.kernel()]
    (kernel,) = tune_kernel(untuned, GROUPS)
    program = lower(kernel, Target("x", GROUPS))
    verify_program(program, "lower")
    order = [instr.op for instr in program.body]
    multiplied = order.index("MMA")
    start = max([i for i, op in enumerate(order[:multiplied]) if op == "LOOP"])
    assert "LOAD" in order[start:multiplied]
    assert "STORE" in order[multiplied:order.index("END", multiplied)]
    assert "STORE" not in order[start:multiplied]
    arrays = arguments(kernel)
    want = expected(untuned, arrays)
    run_program(program, arrays)
    np.testing.assert_array_equal(arrays[0], want[0])


def test_blocks_of_steps_lie_along_channels_so_that_one_gate_serves_an_item():
    (untuned,) = Convolution("y", BF16, 8, 64, 64, (28, 28), (3, 3), padding=1).kernels()
    (kernel,) = tune_kernel(untuned, GROUPS)
    program = lower(kernel, Target("x", GROUPS))
    gates = {instr.src[1] for instr in program.body if instr.op == "LOAD" and len(instr.src) > 1}
    assert {program.body[gate].axes for gate in gates} == {()}


def nothing(instr: Instr) -> Instr:
    return Instr("CONST", dtypes.int64, arg=0)


WRONG = {
    "COPY": nothing, "COMMIT": nothing, "WAIT": lambda instr: replace(instr, arg=instr.arg + 9),
    "MMA": nothing, "MMA_STORE": nothing,
    "MMA_ACC": lambda instr: replace(instr, arg=instr.arg._replace(rows=instr.arg.rows - 1))}


WRONG_ON_BOXES = {
    "ARRIVALS": lambda instr: replace(instr, arg=(instr.arg[0], instr.arg[1] + 1)), "COPY_BOX": nothing,
    "WAIT_BOX": nothing}


@pytest.mark.parametrize("op", [*WRONG, *WRONG_ON_BOXES])
def test_a_program_that_is_wrong_on_one_instruction_is_found(op):
    capabilities = BOXES if op in WRONG_ON_BOXES else GROUPS
    kernel = tuned(PRODUCTS[0], capabilities)
    program = lower(kernel, Target("x", capabilities))
    body = tuple([(WRONG | WRONG_ON_BOXES)[op](instr) if instr.op == op else instr for instr in program.body])
    assert body != program.body
    arrays = arguments(kernel)
    want = expected(PRODUCTS[0].kernel(), arrays)
    try:
        run_program(replace(program, body=body), arrays)
    except (AssertionError, ValueError):
        return
    assert not np.array_equal(arrays[0], want[0])


def test_sums_take_the_place_of_panels():
    kernel = tuned(PRODUCTS[0])
    panels = sum(b.nbytes for b in kernel.buffers[-3:-1])
    assert kernel.local_bytes == max(panels, kernel.buffers[-1].nbytes) < panels + kernel.buffers[-1].nbytes


def test_float32_is_not_rounded_unless_it_is_asked_for():
    kernel = PRODUCTS[4].kernel()
    assert multiply_matrices(kernel, GROUPS) is None
    with Context(MATMUL_PRECISION="tf32"):
        assert multiply_matrices(kernel, GROUPS) is not None


@pytest.mark.parametrize("capabilities", [
    replace(GROUPS, matrix_units=UNITS[1:]), replace(GROUPS, max_group=1), replace(GROUPS, scratch_bytes=0),
    replace(GROUPS, scratch_bytes=4 << 10)], ids=["dtype", "group", "none", "room"])
def test_what_a_device_lacks_is_not_used(capabilities):
    assert multiply_matrices(PRODUCTS[0].kernel(), capabilities) is None


def test_a_short_sum_would_leave_the_unit_idle():
    assert multiply_matrices(MatrixProduct(1024, 8, 1024, F16).kernel(), GROUPS) is None


def test_a_long_sum_of_few_outputs_is_cut_into_parts(monkeypatch):
    monkeypatch.setattr(matrix_units, "_PHASE", 0.0)
    partial, _ = run_phases(MatrixProduct(100, 1090, 96, BF16).kernel(), replace(GROUPS, cores=64))
    assert next(axis.extent for axis in partial.axes if axis.kind == "PARALLEL") > 1
    assert len(tune_kernel(MatrixProduct(100, 1090, 96, BF16).kernel(), replace(GROUPS, cores=1))) == 1


@pytest.mark.parametrize("convolution", [
    Convolution("w", BF16, 4, 32, 32, (10, 8), (3, 3), padding=1),
    Convolution("w", F16, 8, 20, 36, (13, 7), (3, 2))], ids=str)
def test_the_gradient_of_weights_is_cut_into_parts_and_reads_an_input_with_zeros_around(
        monkeypatch, convolution):
    monkeypatch.setattr(matrix_units, "_PHASE", 0.0)
    (untuned,) = convolution.kernels()
    *fills, partial, _ = run_phases(untuned, replace(GROUPS, cores=256))
    assert len(fills) == (convolution.padding > 0)
    assert LE not in {n.op for n in toposort(partial.stores)}  # but for the ends of sums nothing is gated


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_both_products_of_attention_are_a_unit_s(dtype):
    q, k, v = [Tensor.empty(2, length, 64, dtype=dtype, device="ref").contiguous() + i
               for i, length in enumerate((128, 256, 256))]
    graph = normalize([q.scaled_dot_product_attention(k, v).node])
    stages = run_stages(graph, (None,), Target("x", GROUPS), Trace(verify=verify_stage))
    by_unit = [p for p in stages.programs if any(instr.op == "MMA" for instr in p.body)]
    assert [[b.dtype.name for b in p.arguments] for p in by_unit] == [
        ["float32", dtype, dtype], [dtype, dtype, dtype]]


@pytest.mark.parametrize("many", [1 << 16, 1 << 30], ids=["scores again", "scores kept"])
def test_all_products_of_a_training_step_of_attention_are_a_unit_s(monkeypatch, many):
    monkeypatch.setattr(products, "MANY", many)
    x = [Tensor.empty(2, 256, 64, dtype="float16", device="ref").contiguous() + i for i in range(3)]
    out = x[0].scaled_dot_product_attention(*x[1:], is_causal=True)
    steps = [out, *out.float().square().sum().gradient(*x)]
    stages = run_stages(normalize([each.node for each in steps]), (None,) * 4, Target("x", GROUPS), Trace())
    least = 2 * 2 * 256 * 256 * 64  # operations of a product
    by_unit = [any(instr.op == "MMA" for instr in program.body) for program in stages.programs]
    assert by_unit == [cost(program.kernel).flops >= least for program in stages.programs]
    assert sum(by_unit) >= 4  # some of the six are alike


def test_blocks_are_larger_where_there_are_tasks_enough():
    few, many = (tuned(MatrixProduct(size, size, size, F16)) for size in (256, 4096))
    assert (few.tasks, few.group) == (4, 128)
    assert (many.tasks, many.group) == (512, 256)
