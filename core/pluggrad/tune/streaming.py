"""Large memory: which outputs are written past the caches, and which inputs are asked for ahead of time.

An ordinary store first reads the line that it writes into. A store of a whole line need not, if it leaves no
copy of it behind: a third of the traffic of a kernel that reads one array and writes another.
"""
from __future__ import annotations

from dataclasses import replace
from typing import Final

from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.kernel import BufferParam, Kernel
from pluggrad.target import Capabilities
from pluggrad.tune.accesses import Access, accesses

_NARROWEST: Final = 16  # bytes of a store, several of which fill a line one after another


def stream_outputs(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    """The kernel with its large outputs marked `streamed` where all stores fill whole lines."""
    line, cache = capabilities.streaming_line_bytes, capabilities.shared_cache_bytes
    sizes = [b.size * b.dtype.itemsize for b in kernel.buffers]
    # half of a smaller one may still be there for who reads it next
    large = {i for i, b in enumerate(kernel.buffers) if b.role == "out" and 2 * sizes[i] >= cache}
    if not line or not large or sum(sizes) < 2 * cache:
        return kernel
    large -= {n.arg for n in toposort(kernel.stores) if n.op is ops.LOAD}
    partly = {a.node.arg[0] for a in accesses(kernel)
              if a.node.op is ops.STORE and not _fills_lines(kernel, a, line)}
    buffers = [_streamed(b) if i in large - partly else b for i, b in enumerate(kernel.buffers)]
    return replace(kernel, buffers=tuple(buffers))


def read_ahead(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    """The kernel with the inputs marked whose rows are walked several times.

    Only the first walk waits for memory, which has nothing to do while the others compute: loads that ask for
    the next task's row keep it busy. One walk alone runs through memory as fast as processors foresee.
    """
    tasks = [a for a in kernel.axes if a.kind == "PARALLEL" and a.extent > 1]
    if not capabilities.prefetch or not tasks:
        return kernel
    loads: dict[int, list[Access]] = {}
    for a in accesses(kernel):
        if a.node.op is ops.LOAD:
            loads.setdefault(a.node.arg, []).append(a)
    buffers = list(kernel.buffers)
    for slot, walks in loads.items():
        steps = {a.stride(tasks[-1].id) for a in walks}
        row = steps.pop() if len(steps) == 1 and len(walks) > 1 else None
        if row and row > 0 and _is_worth_asking(buffers[slot], row, capabilities):
            buffers[slot] = replace(buffers[slot], ahead=row)
    return replace(kernel, buffers=tuple(buffers))


def _is_worth_asking(buffer: BufferParam, row: int, capabilities: Capabilities) -> bool:
    """Whether an input is not in a core's cache anyway, and two of its rows would be."""
    size, cache = buffer.dtype.itemsize, capabilities.cache_bytes
    return buffer.role == "in" and buffer.size * size > cache and 2 * row * size <= cache


def _streamed(buffer: BufferParam) -> BufferParam:
    return replace(buffer, streamed=True)


def _fills_lines(kernel: Kernel, access: Access, line: int) -> bool:
    """Whether a store's registers fill lines, alone or from step to step of the innermost loop."""
    size = access.itemsize
    if access.offset is None or access.offset * size % line:
        return False
    inner = [a for a in kernel.axes if a.in_registers]
    loops = [a for a in kernel.axes if a.kind == "LOOP" and a.id in access.node.arg[1]]
    strides = dict(access.strides)
    run = size
    for a in [*sorted(inner, key=lambda a: strides.get(a.id) or 0), *loops[-1:]]:
        stride = strides.get(a.id)
        if stride is not None and stride * size == run and (a.in_registers or run >= _NARROWEST):
            run *= a.extent
            del strides[a.id]
    return run % line == 0 and all(s is not None and s * size % line == 0 for s in strides.values())
