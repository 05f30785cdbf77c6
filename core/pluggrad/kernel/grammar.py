"""The grammar of kernels, and the checks of a whole Kernel: slots, axes and what a store may depend on."""
from __future__ import annotations

from typing import Final

from pluggrad import dtypes
from pluggrad.errors import VerifyError
from pluggrad.graph.grammar import elementwise_rules
from pluggrad.ir.node import Node
from pluggrad.ir.opset import Grammar, Rule, first_complaint
from pluggrad.ir.verify import verify, violation
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.free import free_axes
from pluggrad.kernel.kernel import ConstBits, Kernel
from pluggrad.kernel.reductions import COMBINE


def _of(dtype: dtypes.DType) -> Rule:
    return lambda node: "" if node.type is dtype else f"type {dtype.name}"


def _slot(node: Node) -> str:
    return "" if isinstance(node.arg, int) and node.arg >= 0 else "a slot number"


def _const(node: Node) -> str:
    fits = isinstance(node.arg, ConstBits) and node.arg.is_float == node.type.is_float
    return "" if fits else f"the bits of a {node.type.name}"


def _index_and_gate(node: Node, gate_at: int) -> str:
    if len(node.src) not in (gate_at, gate_at + 1):
        return f"{gate_at} sources and perhaps a gate"
    if node.src[0].type is not dtypes.int64:
        return "an int64 index"
    return "" if all(gate.type is dtypes.bool_ for gate in node.src[gate_at:]) else "a bool gate"


def _combine(node: Node) -> str:
    known = all(name in COMBINE.values() for name in node.arg[2:])
    return "" if known else f"to combine by {', '.join(COMBINE.values())}"


def _head(node: Node) -> str:
    return _slot(node) or ("" if node.src[0].type is dtypes.int64 else "an int64 position")


def _position(node: Node) -> str:
    fits = node.src[0].type is dtypes.int64 and len(node.arg) == 3
    return "" if fits else "an int64 position and (outer axis, factor, extent)"


def _reduce(node: Node) -> str:
    name, axes = node.arg
    if name not in COMBINE.values() or not axes:
        return f"one of {', '.join(COMBINE.values())} over at least one axis"
    return "" if node.src[0].type is node.type else f"type {node.src[0].type.name}"


def _scan(node: Node) -> str:
    fits = node.arg[0] in COMBINE.values() and node.src[0].type is node.type
    return "" if fits else f"one of {', '.join(COMBINE.values())} of {node.type.name}"


def _tally(node: Node) -> str:
    return "" if node.type.is_int else "an integer"


def _prefetch(node: Node) -> str:
    fits = node.src[0].type is node.type and node.src[1].type is dtypes.int64
    return "" if fits else f"a {node.type.name} and an int64 index"


def _integers(node: Node) -> str:
    fits = node.type.is_int and all(s.type is node.type for s in node.src)
    return "" if fits else "integers of one dtype"


def _dot(node: Node) -> str:
    want = (dtypes.float32, dtypes.uint32, dtypes.uint32)
    fits = node.type is dtypes.float32 and tuple([s.type for s in node.src]) == want
    return "" if fits else "a float32 and two uint32, and type float32"


GRAMMAR: Final = Grammar("kernel", {
    **elementwise_rules(lambda node: node.type),
    ops.AXIS: first_complaint(_slot, _of(dtypes.int64)),
    ops.CONST: _const,
    ops.VALUE: _slot,
    ops.LOAD: lambda node: _slot(node) or _index_and_gate(node, 1),
    ops.STORE: lambda node: _index_and_gate(node, 2) or _combine(node),
    ops.REDUCE: _reduce,
    ops.SCAN: _scan,
    ops.TALLY: lambda node: _tally(node) or _index_and_gate(node, 1),
    ops.TAIL: first_complaint(_of(dtypes.bool_), _position),
    ops.HEAD: first_complaint(_of(dtypes.bool_), _head),
    ops.PREFETCH: lambda node: _slot(node) or _prefetch(node),
    ops.CDIV: _integers,
    ops.CMOD: _integers,
    ops.DOT2: _dot,
})


def verify_kernel(kernel: Kernel, pass_name: str) -> None:
    """VerifyError unless every node follows the grammar and speaks of slots and axes that the kernel has."""
    verify(kernel.stores, GRAMMAR, pass_name)
    groups = {axis.extent for axis in kernel.axes if axis.kind == "ITEM"}
    if len(groups) > 1:
        raise VerifyError(op=f"kernel {kernel.name} after {pass_name}",
                          expected="one extent of all ITEM axes", got=str(sorted(groups)))
    complaint = _local_complaint(kernel)
    if complaint:
        raise VerifyError(op=f"kernel {kernel.name} after {pass_name}", expected=complaint,
                          got=str([b.role for b in kernel.buffers]))
    order = toposort(kernel.stores)
    free = free_axes(order, kernel.local)
    for node in order:
        complaint = _complaint(kernel, node, free)
        if complaint:
            raise violation(node, GRAMMAR.stage, pass_name, complaint)


def _local_complaint(kernel: Kernel) -> str:
    """Local memory has stores in an order that no running value crosses."""
    if not kernel.local:
        return ""
    if min(kernel.local) < len(kernel.arguments):
        return "local buffers behind all others"
    running = any(node.op in (ops.SCAN, ops.TALLY) for node in toposort(kernel.stores))
    return "no SCAN and no TALLY beside local buffers" if running else ""


def _complaint(kernel: Kernel, node: Node, free: dict[Node, frozenset[int]]) -> str:
    axes = {axis.id for axis in kernel.axes}
    if node.op is ops.VALUE:
        fits = node.arg < len(kernel.values) and kernel.values[node.arg] is node.type
        return "" if fits else f"one of the values {kernel.values}"
    if node.op is ops.REDUCE:
        items = {axis.id for axis in kernel.axes if axis.kind == "ITEM"}
        if not items.isdisjoint(node.arg[1]) and free[node] & items:
            return "a value of the whole group, as its items are combined"
        return "" if axes.issuperset(node.arg[1]) else f"axes among {sorted(axes)}"
    if node.op is ops.TALLY:
        loop = any(axis.id == node.arg[1] and axis.kind == "LOOP" for axis in kernel.axes)
        return _buffer_complaint(kernel, node.arg[0], node.type, "inout") if loop else "a LOOP axis"
    if node.op is ops.SCAN:
        return _scan_complaint(kernel, node.arg[1], free[node.src[0]])
    if node.op is ops.LOAD:
        return _buffer_complaint(kernel, node.arg, node.type, "in", "inout", "local")
    if node.op is ops.PREFETCH:
        return "" if node.arg < len(kernel.arguments) else f"an argument's slot below {len(kernel.arguments)}"
    if node.op is ops.STORE:
        slot, ranged = node.arg[:2]
        if not free[node] <= set(ranged) <= axes:
            return f"axes that hold {sorted(free[node])}, among {sorted(axes)}"
        if slot in kernel.local and not kernel.local[slot] <= set(ranged):
            return "all PARALLEL axes, as each task has memory of its own, and others' REDUCE axes"
        roles = ("inout", "local") if node.arg[2:] else ("out", "inout", "status", "local")
        complaint = _reduced_complaint(kernel, node)
        return complaint or _buffer_complaint(kernel, slot, node.src[1].type, *roles)
    return "" if free[node] <= axes else f"axes among {sorted(axes)}"


def _reduced_complaint(kernel: Kernel, store: Node) -> str:
    """What is stored in the loop of a reduction is local memory."""
    slot, ranged = store.arg[:2]
    reduced = [axis.id for axis in kernel.axes if axis.kind == "REDUCE" and axis.id in ranged]
    if reduced and slot not in kernel.local:
        return "no REDUCE axis, but in a store to local memory"
    return "one REDUCE axis at most" if len(reduced) > 1 else ""


def _scan_complaint(kernel: Kernel, id: int, reached: frozenset[int]) -> str:
    loops = [axis.id for axis in kernel.axes if axis.kind == "LOOP"]
    within = loops[loops.index(id) + 1:] if id in loops else []
    fits = id in loops and reached.isdisjoint(within)
    return "" if fits else f"a LOOP axis, and none within it that it reaches among {sorted(reached)}"


def _buffer_complaint(kernel: Kernel, slot: int, dtype: dtypes.DType, *roles: str) -> str:
    if slot >= len(kernel.buffers):
        return f"a slot below {len(kernel.buffers)}"
    param = kernel.buffers[slot]
    if param.streamed and param.role != "out":
        return f"what is streamed in role out, not {param.role}"
    if param.role not in roles:
        return f"a buffer of role {' or '.join(roles)}"
    return "" if param.dtype is dtype else f"type {param.dtype.name}"
