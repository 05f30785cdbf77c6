"""Large memory: which outputs are written past the caches.

An ordinary store first reads the line that it writes into. A store of a whole line need not, if it leaves no
copy of it behind: a third of the traffic of a kernel that reads one array and writes another. Rows whose
length is no whole number of lines begin within one: their vectors are shifted to where it begins.
"""
from __future__ import annotations

from dataclasses import replace
from typing import Final

from pluggrad.ir.node import Node, node
from pluggrad.kernel import ops
from pluggrad.kernel.index_nodes import INDEX, Linear, linear, weighted_sum
from pluggrad.kernel.kernel import Axis, BufferParam, Kernel, axis, const
from pluggrad.target import Capabilities
from pluggrad.tune.accesses import Access, accesses
from pluggrad.tune.actions import axis_of, split, split_shifted

_NARROWEST: Final = 16  # bytes of a store, several of which fill a line one after another
_FEWEST_STEPS: Final = 8  # of a row, beside which two with masks at its ends cost little


def stream_outputs(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    """The kernel with its large outputs marked `streamed` where all stores fill whole lines."""
    large = _large_outputs(kernel, capabilities)
    if not large:
        return kernel
    partly = {a.node.arg[0] for a in accesses(kernel)
              if a.node.op is ops.STORE and not _fills_lines(kernel, a, capabilities.streaming_line_bytes)}
    buffers = [_streamed(b) if i in large - partly else b for i, b in enumerate(kernel.buffers)]
    return replace(kernel, buffers=tuple(buffers))


def split_at_lines(kernel: Kernel, id: int, lanes: int, capabilities: Capabilities) -> Kernel:
    """An axis split into a LOOP of vectors, each of which fills whole lines of a large output, if any.

    That the buffer itself begins at a line is taken for granted; where it does not, nothing but time is lost.
    """
    a = axis_of(kernel, id)
    large = _large_outputs(kernel, capabilities) if a.extent >= _FEWEST_STEPS * lanes else set()
    stores = [x for x in accesses(kernel) if x.node.op is ops.STORE and x.node.arg[0] in large]
    shifts = {_beyond_a_line(kernel, x, a, lanes, capabilities.streaming_line_bytes) for x in stores}
    shift = shifts.pop() if len(shifts) == 1 else None
    if shift is None:
        return split(kernel, id, lanes, "LOOP", "VECTOR")[0]
    most = shift.src[1].arg.bits - 1
    return split_shifted(kernel, id, lanes, shift, most, "LOOP", "VECTOR")[0]


def _beyond_a_line(kernel: Kernel, store: Access, a: Axis, lanes: int, line: int) -> Node | None:
    """How many elements of a line lie before a row that is stored along `a`; None where that is always 0."""
    per_line = line // store.itemsize
    others = {x.id: store.stride(x.id) for x in kernel.axes if x is not a}
    outside = [x.id for x in kernel.axes if x.kind in ("PARALLEL", "LOOP")]
    if store.stride(a.id) != 1 or lanes % per_line or store.offset is None:
        return None
    terms = [(axis(id), stride % per_line) for id, stride in others.items() if stride is not None]
    if len(terms) < len(others) or any(stride and term.arg not in outside for term, stride in terms):
        return None
    begin = weighted_sum([term for term in terms if term[1]], store.offset % per_line)
    if begin.op is ops.CONST and not begin.arg.bits:
        return None
    return node(ops.CMOD, (begin, const(per_line)), None, INDEX)


def _large_outputs(kernel: Kernel, capabilities: Capabilities) -> set[int]:
    """Slots of what is written not read, and too large to be found in a cache by whoever reads it next."""
    line, cache = capabilities.streaming_line_bytes, capabilities.shared_cache_bytes
    sizes = [b.size * b.dtype.itemsize for b in kernel.buffers]
    # half of a smaller one may still be there
    large = {i for i, b in enumerate(kernel.buffers) if b.role == "out" and 2 * sizes[i] >= cache}
    return large if line and sum(sizes) >= 2 * cache else set()


def _streamed(buffer: BufferParam) -> BufferParam:
    return replace(buffer, streamed=True)


def _fills_lines(kernel: Kernel, access: Access, line: int) -> bool:
    """Whether a store's registers fill lines, alone or from step to step of the innermost loop."""
    size = access.itemsize
    position = _without_shift(linear(access.node.src[0]), line // size)
    if position.rest or position.offset * size % line:
        return False
    inner = [a for a in kernel.axes if a.in_registers]
    loops = [a for a in kernel.axes if a.kind == "LOOP" and a.id in access.node.arg[1]]
    strides = dict(position.strides)
    run = size
    for a in [*sorted(inner, key=lambda a: strides.get(a.id, 0)), *loops[-1:]]:
        if strides.get(a.id, 0) * size == run and (a.in_registers or run >= _NARROWEST):
            run *= a.extent
            del strides[a.id]
    return run % line == 0 and all(s * size % line == 0 for s in strides.values())


def _without_shift(position: Linear, per_line: int) -> Linear:
    """Of n - n % per_line, which is some number of whole lines, without n."""
    strides, rest, offset = position
    if len(rest) != 1:
        return position
    (shift, factor), = rest.items()
    if shift.op is not ops.CMOD or factor != -1 or shift.src[1] is not const(per_line):
        return position
    begin = linear(shift.src[0])
    left = {id: strides.get(id, 0) - begin.strides.get(id, 0) for id in {*strides, *begin.strides}}
    return Linear({id: s for id, s in left.items() if s}, begin.rest, offset - begin.offset)
