"""How a kernel walks through memory: strides of its accesses, and the axis that vectors should follow."""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pluggrad.graph import ops as g
from pluggrad.ir.node import Node, Op
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.index_nodes import ARITHMETIC, linear
from pluggrad.kernel.kernel import Axis, Kernel
from pluggrad.target import Capabilities


@dataclass(frozen=True, slots=True)
class Access:
    """One LOAD or STORE: its element size in bytes, and its address's stride along each axis in elements.

    A stride of None means that the address does not grow by a constant along that axis. offset: the address
    where all axes are at 0; None where that is not a constant.
    """

    node: Node
    itemsize: int
    strides: dict[int, int | None]
    offset: int | None

    def stride(self, id: int) -> int | None:
        """The stride along axis `id`; 0 where the address does not depend on it."""
        return self.strides.get(id, 0)


def reduction_of(kernel: Kernel) -> Node:
    """The reduction of a kernel; of several, the one that others may need."""
    return next(n for n in toposort(kernel.stores) if n.op is ops.REDUCE)


def accesses(kernel: Kernel) -> list[Access]:
    """Every memory access of a kernel with its strides."""
    found = []
    for n in toposort(kernel.stores):
        if n.op not in (ops.LOAD, ops.STORE):
            continue
        position = linear(n.src[0])
        strides: dict[int, int | None] = dict(position.strides)
        for inner in toposort(position.rest):
            if inner.op is ops.AXIS:
                strides[inner.arg] = None
        offset = None if position.rest else position.offset
        found.append(Access(n, n.type.itemsize, strides, offset))
    return found


def position(index: Node, at: Mapping[int, int]) -> int:
    """An index where axes are at `at` and others at 0; what is looked up counts as 0."""
    found: dict[Node, int] = {}
    for n in toposort([index]):
        operands = [found[s] for s in n.src]
        if n.op is ops.AXIS:
            found[n] = at.get(n.arg, 0)
        elif n.op is ops.CONST:
            found[n] = n.arg.bits
        else:
            found[n] = _AT[n.op](*operands) if n.op in _AT else 0
    return found[index]


# an index is kept within its bounds by the last two
_AT: Final[dict[Op, Callable[[int, int], int]]] = {**ARITHMETIC, g.MIN: min, g.MAX: max}


def vector_lanes(kernel: Kernel, capabilities: Capabilities, registers: int) -> int:
    """Lanes of a vector that fills `registers` machine registers with the widest element computed."""
    widest = max([4, *[b.dtype.itemsize for b in kernel.buffers if b.role != "status"]])
    return max(capabilities.vector_bytes // widest, 1) * registers if capabilities.vector_bytes else 1


def fit_lanes(lanes: int, extent: int) -> int:
    """No wider than the next power of two above the extent."""
    while lanes > 1 and lanes // 2 >= extent:
        lanes //= 2
    return lanes


def even_tile(extent: int, most: int) -> int:
    """The tile of at most `most` that takes `extent` in least work, a step counted as one more element."""
    if extent <= most:
        return extent
    return min(range(most, most // 2 - 1, -1), key=lambda tile: -(-extent // tile) * (tile + 1))


def best_vector_axis(kernel: Kernel, kinds: tuple[str, ...] = ("PARALLEL", "LOOP", "REDUCE"), *,
                     weighted: bool = False) -> Axis | None:
    """The axis along which most memory runs; ties go to the one with the larger extent.

    weighted: an access counts by its elements, for loops from which what repeats is hoisted.
    """
    best, best_score = None, 0.0
    found = accesses(kernel)
    extents = {a.id: a.extent for a in kernel.axes}
    sizes = [math.prod([extents[id] for id in x.strides]) if weighted else 1 for x in found]
    largest = max(sizes, default=1)
    for a in kernel.axes:
        if a.kind not in kinds or a.extent < 2:
            continue
        score = 0.0
        for access, size in zip(found, sizes, strict=True):
            stride = access.stride(a.id)
            weight = (1.5 if access.node.op is ops.STORE else 1.0) * size / largest
            score += weight if stride == 1 else 0.0 if stride == 0 else -weight
        score += min(a.extent, 64) / 1000
        if score > best_score:
            best, best_score = a, score
    return best
