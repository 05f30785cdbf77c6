"""What a kernel costs, roughly: arithmetic and traffic, to decide on tiles, tasks and waking a team."""
from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Final

from pluggrad.ir.node import Node
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.free import free_axes
from pluggrad.kernel.kernel import Kernel
from pluggrad.target import Capabilities

# in units of a multiply-add's half, as vectors of polynomials were measured to take; 1 where not listed
_WEIGHTS: Final = {
    "DIV": 10, "RECIP": 10, "SQRT": 10, "EXP": 30, "EXP2": 27, "LOG": 43, "LOG2": 55, "SIN": 63, "COS": 63,
    "TANH": 55, "ERF": 68, "POW": 150, "IDIV": 40, "MOD": 40, "CDIV": 20, "CMOD": 20,
}
_FREE: Final = frozenset({"AXIS", "CONST", "VALUE", "LOAD", "STORE", "TAIL", "HEAD", "PREFETCH", "BITCAST"})
# what fits into half of the last cache is likely to be there, and is read so much faster than memory
_CACHED: Final = 3.0
# a rule of thumb: this share of the cores keeps memory busy
_CORES_FOR_FULL_BANDWIDTH: Final = 0.25


@dataclass(frozen=True, slots=True)
class Cost:
    """`flops`: additions, or as many as other arithmetic is worth. `bytes`: moved, each element once.
    `operations`: arithmetic of any kind, each counted as one, as rates are quoted."""

    flops: int
    bytes: int
    operations: int = 0


def cost(kernel: Kernel) -> Cost:
    """The cost of running `kernel` once. Index arithmetic counts nothing: loops make it increments."""
    extents = {axis.id: axis.extent for axis in kernel.axes}
    order = toposort(kernel.stores)
    free = free_axes(order, kernel.local)
    read: Counter[int] = Counter()
    written: Counter[int] = Counter()
    flops = operations = 0
    for node in toposort(kernel.stores, _values):
        if not weight(node):
            continue
        # a node runs once for each position of its axes; a reduction, of those that it binds too
        axes = free[node] | free[node.src[0]] if node.op is ops.REDUCE else free[node]
        runs = math.prod(extents[a] for a in axes)
        flops += weight(node) * runs
        operations += runs
    for node in order:
        if node.op is ops.LOAD:
            read[node.arg] += math.prod(extents[a] for a in free[node.src[0]])
        elif node.op is ops.STORE:
            written[node.arg[0]] += math.prod(extents[a] for a in free[node.src[0]])
    traffic = [(slot, count) for counts in (read, written) for slot, count in counts.items()]
    params = kernel.buffers
    moved = sum(min(count, params[slot].size) * params[slot].dtype.itemsize for slot, count in traffic
                if params[slot].role != "local")  # which stays in cache
    return Cost(flops, moved, operations)


def weight(node: Node) -> int:
    """Additions that evaluating one element is worth."""
    return 0 if node.op.name in _FREE else _WEIGHTS.get(node.op.name, 1)


def _values(node: Node) -> tuple[Node, ...]:
    """The sources that are not an index or a gate."""
    if node.op is ops.LOAD:
        return ()
    if node.op is ops.PREFETCH:
        return node.src[:1]
    return node.src[1:2] if node.op is ops.STORE else node.src


def estimate_us(work: Cost, capabilities: Capabilities) -> float:
    """Microseconds on one core, without the launch: arithmetic and memory overlap, the slower counts."""
    share = 1 / max(1.0, capabilities.cores * _CORES_FOR_FULL_BANDWIDTH)
    if 2 * work.bytes <= capabilities.shared_cache_bytes:
        share *= _CACHED
    compute = work.flops / capabilities.flops_per_core
    return 1e6 * max(compute, work.bytes / (capabilities.bytes_per_second * share))
