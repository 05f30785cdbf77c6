"""The shims can fail: kernels with a defect each, written by hand, and the same without it."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.device.contract import Signature
from pluggrad.device.seal import seal
from pluggrad.errors import KernelFault
from pluggrad.kernel.kernel import BufferParam
from tests.shims.device import Running
from tests.shims.languages import architecture
from tests.shims.libraries import Libraries

GROUP, BLOCKS = 64, 3
Run = Callable[..., np.ndarray]

CUDA = """\
extern "C" __global__ __launch_bounds__(64)
void kernel(float *__restrict__ b0, const float *__restrict__ b1, const int s0) {{
    __shared__ float row[64];
    const int item = threadIdx.x, at = blockIdx.x * 64 + item;
{body}
}}
"""
METAL = """\
[[kernel, max_total_threads_per_threadgroup(64)]]
void kernel(
    device float *b0 [[buffer(0)]],
    device const float *b1 [[buffer(1)]],
    constant ulong *values [[buffer(2)]],
    uint task_id [[threadgroup_position_in_grid]],
    uint item_id [[thread_index_in_threadgroup]]) {{
    threadgroup float row[64];
    const int item = item_id, at = task_id * 64 + item, s0 = (int)values[0];
{body}
}}
"""
WAIT = {"sm_90a": "__syncthreads();", "apple9": "threadgroup_barrier(mem_flags::mem_threadgroup);"}
TEXTS = {"sm_90a": CUDA, "apple9": METAL}


@pytest.fixture(params=sorted(TEXTS))
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """`run(body)` runs a kernel of b0 (out) and b1 (in), 192 floats each, and s0 (7); WAIT is a barrier."""
    name = request.param
    device = Running(of := architecture(name), Libraries(of.language, tmp_path)).backend.open(0, "")
    size = GROUP * BLOCKS

    def call(body: str) -> np.ndarray:
        source = TEXTS[name].format(body=body.replace("WAIT", WAIT[name]))
        buffers = (BufferParam(dtypes.float32, size, "out"), BufferParam(dtypes.float32, size, "in"))
        signature = Signature("kernel", buffers, (dtypes.int32,), BLOCKS, group=GROUP)
        memory = [device.allocator.alloc(4 * size) for _ in buffers]
        for block in memory:
            device.allocator.copyin(block, 0, np.arange(size, dtype=np.float32).data)
        device.load(seal(source.encode()), signature).launch(memory, [7], BLOCKS, GROUP, 0)
        result = np.empty(size, np.float32)
        device.allocator.copyout(result.data, memory[0], 0)
        return result

    return call


def mirrored() -> np.ndarray:
    """Each block's row, backwards."""
    return np.arange(GROUP * BLOCKS, dtype=np.float32).reshape(BLOCKS, GROUP)[:, ::-1].ravel()


def test_a_kernel_without_a_defect(run: Run) -> None:
    result = run("row[item] = b1[at]; WAIT b0[at] = row[63 - item] + s0;")
    np.testing.assert_array_equal(result, mirrored() + 7)


def test_a_missing_barrier_is_found_by_the_order_of_turns(run: Run) -> None:
    with pytest.raises(KernelFault, match="whatever order"):
        run("row[item] = b1[at]; b0[at] = row[63 - item];")


def test_blocks_that_depend_on_each_other_are_found_by_their_order(run: Run) -> None:
    with pytest.raises(KernelFault, match="whatever order"):
        run("b0[at] = at < 64 ? 1 : b0[at - 64] + 1;")


@pytest.mark.parametrize(("body", "says"), [
    ("if (item < 5) { WAIT } b0[at] = 0;", "5 of 64 threads of block 0 wait there, and 59 have ended"),
    ("if (item < 5) { WAIT }\n else {\n WAIT } b0[at] = 0;", "wait at two barriers"),
    ("if (item == 3) return; WAIT b0[at] = 0;", "63 of 64 threads"),
], ids=["some", "two", "returned"])
def test_a_barrier_that_not_all_threads_reach(run: Run, body: str, says: str) -> None:
    with pytest.raises(KernelFault, match=says):
        run(body)


@pytest.mark.parametrize(("body", "says"), [
    ("b0[at + 500] = 0;", "reads or writes what is not its own"),
    ("b0[at] = b1[at + 500];", "reads or writes what is not its own"),
    ("b0[at - 1] = b1[at];", "just outside"),
    ("row[item + s0] = b1[at]; b0[at] = 0;", "indexes beyond an array"),
], ids=["store", "load", "just-before", "array"])
def test_an_access_out_of_bounds(run: Run, body: str, says: str) -> None:
    with pytest.raises(KernelFault, match=says):
        run(body)


def test_after_a_fault_kernels_run_as_before(run: Run) -> None:
    for _ in range(2):
        with pytest.raises(KernelFault):
            run("if (item < 5) { WAIT } b0[at] = 0;")
        with pytest.raises(KernelFault):
            run("WAIT row[item + s0] = b1[at]; b0[at] = 0;")
        test_a_kernel_without_a_defect(run)


# ------------------------------------------------------------------------------------------------- warps

WARPS: Sequence[tuple[str, Callable[[np.ndarray], np.ndarray]]] = [
    ("__shfl_xor_sync(~0u, b1[at], 5)", lambda lane: lane ^ 5),
    ("__shfl_sync(~0u, b1[at], 3)", lambda lane: lane - lane % 32 + 3),
    ("__shfl_sync(~0u, b1[at], 3, 8)", lambda lane: lane - lane % 8 + 3),
    ("__shfl_down_sync(~0u, b1[at], 30)", lambda lane: np.where(lane % 32 < 2, lane + 30, lane)),
    ("__shfl_up_sync(~0u, b1[at], 2)", lambda lane: np.where(lane % 32 < 2, lane, lane - 2)),
]


@pytest.mark.parametrize("run", ["sm_90a"], indirect=True)
@pytest.mark.parametrize(("exchange", "source"), WARPS, ids=[text.partition("_sync")[0] for text, _ in WARPS])
def test_lanes_of_a_warp_read_each_other(run: Run, exchange: str,
                                         source: Callable[[np.ndarray], np.ndarray]) -> None:
    np.testing.assert_array_equal(run(f"b0[at] = {exchange};"), source(np.arange(GROUP * BLOCKS)))


@pytest.mark.parametrize("run", ["sm_90a"], indirect=True)
def test_a_shuffle_that_a_lane_of_its_mask_does_not_reach(run: Run) -> None:
    with pytest.raises(KernelFault, match="waits for lanes ffffffff of its warp, which do not all come"):
        run("if (item != 9) b0[at] = __shfl_xor_sync(~0u, b1[at], 1);")


@pytest.mark.parametrize("run", ["sm_90a"], indirect=True)
def test_two_parts_of_a_warp_each_meet(run: Run) -> None:
    result = run("""
    if (item % 2) b0[at] = __shfl_xor_sync(0xaaaaaaaau, b1[at], 2);
    else b0[at] = __shfl_xor_sync(0x55555555u, b1[at], 4);""")
    lane = np.arange(GROUP * BLOCKS)
    np.testing.assert_array_equal(result, np.where(lane % 2, lane ^ 2, lane ^ 4))
