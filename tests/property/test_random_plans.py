"""Random graphs, planned for many targets, computed without any device: kernels as tuned are interpreted, or
their programs are run instruction by instruction, in a random order that the barriers allow."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pluggrad import dtypes
from pluggrad.graph.ops import ELEMENTWISE
from pluggrad.ir.node import Node
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Kernel
from pluggrad.lower import lower
from pluggrad.lower.verify import verify_program
from pluggrad.plan.build import build_plan
from pluggrad.runtime.normalize import normalize, rebuild
from pluggrad.target import Capabilities, DeviceId, Target
from tests.graph_reference import evaluate
from tests.plan_executor import run_plan
from tests.program_interpreter import run_program
from tests.property.random_graphs import Drawn, Value

REF = DeviceId("ref")
NAMES = frozenset(dtype.name for dtype in dtypes.ALL)
COMPUTED = NAMES - {"float16", "bfloat16"}
SCALAR = Capabilities(NAMES, COMPUTED, frozenset(op.name for op in ELEMENTWISE))
TARGETS = {
    "scalar": SCALAR,
    "scalar, 64 cores": replace(SCALAR, cores=64),
    "128 bits": replace(SCALAR, vector_bytes=16, vector_registers=32, cores=4),
    "256 bits": replace(SCALAR, vector_bytes=32, vector_registers=16, cores=8),
    "512 bits": replace(SCALAR, vector_bytes=64, vector_registers=32, masked_memory=True),
    "512 bits, 64 cores": replace(SCALAR, vector_bytes=64, vector_registers=32, cores=64),
    "few registers": replace(SCALAR, vector_bytes=16, vector_registers=4, cores=2),
    "few ops": replace(SCALAR, vector_bytes=16,
                       ops=SCALAR.ops - {"EXP", "LOG", "TANH", "RECIP", "NEG", "ABS"}),
    "groups of 8": replace(SCALAR, vector_bytes=16, max_group=8, subgroup_width=4, scratch_bytes=1 << 15,
                           cores=2),
    "groups of 256": replace(SCALAR, vector_bytes=16, vector_registers=64, max_group=256, subgroup_width=32,
                             scratch_bytes=1 << 15, cores=8),
    "groups, little memory": replace(SCALAR, max_group=64, subgroup_width=16, scratch_bytes=64, cores=2),
    "few buffers": replace(SCALAR, vector_bytes=32, max_buffers=5),
    "slow": replace(SCALAR, vector_bytes=32, cores=16, flops_per_core=1e6, bytes_per_second=1e6),
}
SETTINGS = settings(max_examples=25, suppress_health_check=list(HealthCheck))


def host(stored: np.ndarray, value: Value) -> np.ndarray:
    """The value of a root from its bytes; bfloat16 as float32."""
    count = int(np.prod(value.shape, dtype=np.int64))
    array = stored[:count * value.dtype.itemsize].view(value.dtype.numpy).reshape(value.shape)
    return (array.astype(np.uint32) << 16).view(np.float32) if value.dtype is dtypes.bfloat16 else array


def contents(node: Node) -> np.ndarray:
    """The bytes of a leaf, copied."""
    version = node.arg if isinstance(node, Node) else node
    nbytes = version.storage.block.nbytes
    return np.array(version.storage.block.allocation[:nbytes])


def check_plan(drawn: Drawn, capabilities: Capabilities, run_kernel: object) -> None:
    """The plan of some of the values gives what NumPy gives."""
    roots = [drawn.values[-1], *[drawn.any() for _ in range(drawn.number(0, 3))]]
    normalized = normalize([root.nodes[0] for root in roots])
    plan = build_plan(rebuild(normalized), (None,) * len(roots), capabilities)
    inputs = [contents(version) for version in normalized.inputs]
    scalars = [s.python for s in normalized.scalars]
    results = run_plan(plan, inputs, scalars, seed=drawn.number(0, 99), run_kernel=run_kernel)
    for root, result in zip(roots, results, strict=True):
        expected, actual = evaluate(root.nodes[0], drawn.buffers.__getitem__), host(result, root)
        if root.error == 0.0:
            np.testing.assert_array_equal(actual, expected)
        else:
            wide = [np.asarray(array, np.float64) for array in (actual, expected)]
            np.testing.assert_allclose(*wide, 0, 2 * root.error)
    for version, before in zip(normalized.inputs, inputs, strict=True):
        np.testing.assert_array_equal(before, contents(version))


def draw_values(data: st.DataObject, largest: int, steps: int) -> Drawn:
    drawn = Drawn(data.draw, (REF,), largest)
    drawn.values.append(drawn.new_leaf())
    for _ in range(drawn.number(1, steps)):
        drawn.step()
    return drawn


@pytest.mark.parametrize("target", TARGETS)
@SETTINGS
@given(st.data())
def test_tuned_kernels_in_any_order_agree_with_numpy(target: str, data: st.DataObject) -> None:
    check_plan(draw_values(data, 1 << 14, 14), TARGETS[target], interpret)


@pytest.mark.parametrize("target", TARGETS)
@SETTINGS
@given(st.data())
def test_programs_agree_with_numpy(target: str, data: st.DataObject) -> None:
    capabilities = TARGETS[target]

    def run(kernel: Kernel, buffers: list[np.ndarray], values: list[object]) -> None:
        program = lower(kernel, Target("test", capabilities))
        verify_program(program, "linearize")
        run_program(program, buffers, values)

    check_plan(draw_values(data, 300, 8), capabilities, run)
