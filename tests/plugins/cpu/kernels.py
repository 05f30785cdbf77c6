"""Small kernels written by hand in LLVM IR, in the form in which the cpu device calls them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import llvmlite.binding as llvm
import numpy as np

from pluggrad.plugin_api import BufferParam, DType, Launch, Signature, SlotRef, dtypes
from pluggrad_cpu.device import CpuDevice
from pluggrad_cpu.launcher import CpuExecutable
from pluggrad_cpu.llvm import baseline, target_machine
from pluggrad_cpu.memory import Block

_LOOP = """
define void @{name}(ptr %args, ptr %values, i64 %lo, i64 %hi) {{
entry:
  %out = load ptr, ptr %args
  %second.at = getelementptr ptr, ptr %args, i64 1
  {prologue}
  br label %loop
loop:
  %i = phi i64 [ %lo, %entry ], [ %next, %loop.end ]
  {body}
  br label %loop.end
loop.end:
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %hi
  br i1 %more, label %loop, label %done
done:
  ret void
}}
"""


def kernel(name: str, prologue: str, body: str) -> str:
    """A kernel whose body runs for each task `%i`; `%out` is its first buffer."""
    return _LOOP.format(name=name, prologue=prologue, body=body)


# out[i] = in[i] + value
ADD = kernel("add", "%in = load ptr, ptr %second.at\n  %value = load float, ptr %values", """
  %from = getelementptr float, ptr %in, i64 %i
  %to = getelementptr float, ptr %out, i64 %i
  %x = load float, ptr %from
  %y = fadd float %x, %value
  store float %y, ptr %to""")

# counts[i] += 1, so that a task that ran twice, or never, shows
COUNT = kernel("count", "", """
  %at = getelementptr i64, ptr %out, i64 %i
  %old = load i64, ptr %at
  %new = add i64 %old, 1
  store i64 %new, ptr %at""")

# each task spends values[0] steps of integer arithmetic that no compiler can shorten, then counts itself
SLOW = kernel("slow", "%steps = load i64, ptr %values", """
  br label %spin
spin:
  %k = phi i64 [ 0, %loop ], [ %k.next, %spin ]
  call void asm sideeffect "", ""()
  %k.next = add i64 %k, 1
  %again = icmp ult i64 %k.next, %steps
  br i1 %again, label %spin, label %counted
counted:
  %at = getelementptr i64, ptr %out, i64 %i
  %old = load i64, ptr %at
  %new = add i64 %old, 1
  store i64 %new, ptr %at""")

# out[0] counts the tasks that came; each waits until values[0] are there, or values[1] turns of a loop, and
# out[1] counts those that waited in vain
MEET = kernel("meet", """
  %expected = load i64, ptr %values
  %patience.at = getelementptr i64, ptr %values, i64 1
  %patience = load i64, ptr %patience.at
  %missed.at = getelementptr i64, ptr %out, i64 1""", """
  %before = atomicrmw add ptr %out, i64 1 seq_cst
  br label %look
look:
  %turn = phi i64 [ 0, %loop ], [ %turn.next, %wait ]
  %here = load atomic i64, ptr %out seq_cst, align 8
  %met = icmp uge i64 %here, %expected
  br i1 %met, label %came, label %wait
wait:
  %turn.next = add i64 %turn, 1
  %patient = icmp ult i64 %turn.next, %patience
  br i1 %patient, label %look, label %alone
alone:
  %missed = atomicrmw add ptr %missed.at, i64 1 seq_cst
  br label %came
came:""")

# out[i] = the 8 bytes of value i
SHOW = kernel("show", "", """
  %from = getelementptr i64, ptr %values, i64 %i
  %to = getelementptr i64, ptr %out, i64 %i
  %bits = load i64, ptr %from
  store i64 %bits, ptr %to""")


@cache
def compiled(*sources: str) -> bytes:
    """One object file with all the kernels."""
    module = llvm.parse_assembly("\n".join(sources))
    module.verify()
    return bytes(target_machine(baseline()).emit_object(module))


def load(
    device: CpuDevice, source: str, name: str, buffers: int, values: Sequence[DType] = (), *others: str,
) -> CpuExecutable:
    """The kernel `name` of `source`; `others` share its binary."""
    params = tuple(BufferParam(dtypes.int64, 1, "inout") for _ in range(buffers))
    return device.load(compiled(source, *others), Signature(name, params, tuple(values), 1))


def launch(executable: CpuExecutable, tasks: int, work_us: float, *slots: int) -> Launch:
    """A launch on whole slots, with the list's first values."""
    values = tuple(range(len(executable.signature.values)))
    return Launch(executable, tuple(SlotRef(slot) for slot in slots), values, tasks, work_us)


def array(device: CpuDevice, block: Block, dtype: str) -> np.ndarray:
    """A block's memory as an array."""
    return np.frombuffer(device.allocator.host_view(block), dtype)


def filled(device: CpuDevice, values: np.ndarray) -> Block:
    """A new block that holds these values."""
    block = device.allocator.alloc(values.nbytes)
    device.allocator.copyin(block, 0, memoryview(np.ascontiguousarray(values)))
    return block


def slow_steps(seconds: float) -> int:
    """Steps of SLOW that take about this long (one a cycle, at 3 to 4 GHz)."""
    return int(seconds * 3.5e9)

