"""Which actions a kernel gets, from its accesses and the target's Capabilities. No timing, no device name.

Three shapes of kernel are told apart by their innermost work: elementwise loops, rows (reductions along
memory), and contractions (reductions whose operands are shared between outputs).
"""
from __future__ import annotations

import math
from dataclasses import dataclass

from pluggrad.ir.node import Node
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.cost import cost, estimate_us
from pluggrad.kernel.index_nodes import linear
from pluggrad.kernel.kernel import Axis, Kernel
from pluggrad.target import Capabilities
from pluggrad.tune.actions import axis_of, merge_adjacent, reorder, split, split_reduce

_TASK_US = 8.0  # work that one task should have at least, so that taking it costs nothing beside it
_BLOCK_ROWS = 64  # rows of a transposing block: all elements of the cache lines it touches, a few times over
_LONG_TASK = 4096  # vectors: beside so many, the tail of a task costs nothing
_TASKS_PER_CORE = 8  # more tasks than cores, so that a slow core does not set the time
_ENOUGH_TASKS = 32  # outputs that need no second phase; a fixed number, so that sums do not depend on cores
_SMALLEST_SPLIT = 1 << 14  # elements of a reduction below which a second phase costs more than it gains


@dataclass(frozen=True, slots=True)
class Access:
    """One LOAD or STORE: its element size in bytes, and its address's stride along each axis in elements.

    A stride of None means that the address does not grow by a constant along that axis.
    """

    node: Node
    itemsize: int
    strides: dict[int, int | None]

    def stride(self, id: int) -> int | None:
        """The stride along axis `id`; 0 where the address does not depend on it."""
        return self.strides.get(id, 0)


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
        found.append(Access(n, n.type.itemsize, strides))
    return found


def tune_kernel(kernel: Kernel, capabilities: Capabilities) -> tuple[Kernel, ...]:
    """The kernel with its axes split and bound for this target; two where a reduction has two phases."""
    kernel = merge_adjacent(kernel)
    if capabilities.interprets_kernels:
        return (kernel,)
    phases = _split_long_reduction(kernel, capabilities)
    if len(phases) > 1:
        return tuple([_tune_one(phase, capabilities) for phase in phases])
    return (_tune_one(kernel, capabilities),)


def _split_long_reduction(kernel: Kernel, capabilities: Capabilities) -> tuple[Kernel, ...]:
    """Few outputs of long reductions keep all cores busy only in two phases."""
    outputs = math.prod([a.extent for a in kernel.axes if a.kind == "PARALLEL"])
    reductions = [n for n in toposort(kernel.stores) if n.op is ops.REDUCE]
    if not reductions or any(a.kind == "LOOP" for a in kernel.axes):
        return (kernel,)
    ids = reductions[0].arg[1]
    if any(n.arg[1] != ids or any(s.op is ops.REDUCE for s in toposort(n.src)) for n in reductions):
        return (kernel,)
    longest = max([axis_of(kernel, id) for id in ids], key=lambda a: a.extent)
    length = math.prod([axis_of(kernel, id).extent for id in ids])
    if outputs * length < _SMALLEST_SPLIT:
        return (kernel,)
    if _parallel_tasks(kernel, outputs, capabilities) >= _ENOUGH_TASKS:
        return (kernel,)
    # by the shape and a fixed share of work, never by cores or load: two phases always add up in one order
    parts = min(longest.extent // 64, max(64 // max(outputs, 1), 8), max(outputs * length >> 13, 1))
    if parts < 2:
        return (kernel,)
    chunk = -(-longest.extent // parts)
    if chunk > 64:  # whole vectors, so that only the last part has a tail
        chunk = -(-chunk // 64) * 64
    return split_reduce(kernel, longest.id, chunk)


def _parallel_tasks(kernel: Kernel, outputs: int, capabilities: Capabilities) -> int:
    """Tasks that outputs alone give: a vector of them each where memory runs along an output axis."""
    lanes = max(capabilities.vector_bytes // 4, 1)
    axis = _best_vector_axis(kernel)
    return outputs // lanes if axis is not None and axis.kind == "PARALLEL" else outputs


def _tune_one(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    reductions = [n for n in toposort(kernel.stores) if n.op is ops.REDUCE]
    if not reductions:
        return _tune_elementwise(kernel, capabilities)
    if _is_contraction(kernel, reductions):
        return _tune_contraction(kernel, capabilities)
    return _tune_rows(kernel, capabilities)


def _lanes(kernel: Kernel, capabilities: Capabilities, registers: int) -> int:
    """Lanes of a vector that fills `registers` machine registers with the widest element computed."""
    widest = max([4, *[b.dtype.itemsize for b in kernel.buffers]])
    return max(capabilities.vector_bytes // widest, 1) * registers if capabilities.vector_bytes else 1


def _fit_lanes(lanes: int, extent: int) -> int:
    """No wider than the next power of two above the extent."""
    while lanes > 1 and lanes // 2 >= extent:
        lanes //= 2
    return lanes


def _best_vector_axis(kernel: Kernel, kinds: tuple[str, ...] = ("PARALLEL", "LOOP", "REDUCE")) -> Axis | None:
    """The axis along which most memory runs; ties go to the one with the larger extent."""
    best, best_score = None, 0.0
    found = accesses(kernel)
    for a in kernel.axes:
        if a.kind not in kinds or a.extent < 2:
            continue
        score = 0.0
        for access in found:
            stride = access.stride(a.id)
            weight = 1.5 if access.node.op is ops.STORE else 1.0
            score += weight if stride == 1 else 0.0 if stride == 0 else -weight
        score += min(a.extent, 64) / 1000
        if score > best_score:
            best, best_score = a, score
    return best


# ---- elementwise -------------------------------------------------------------------------------------------
def _tune_elementwise(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    """Vectors along memory; a long axis is first cut into chunks, whole numbers of vectors, one a task."""
    vector = _best_vector_axis(kernel)
    if vector is None:
        return kernel
    lanes = _fit_lanes(_lanes(kernel, capabilities, 2), vector.extent)
    other = _transposed_axis(kernel, vector)
    if other is not None and lanes > 1:
        return _block(kernel, vector, other, lanes)
    chunk = _chunk(kernel, vector, lanes, capabilities)
    id = vector.id
    if chunk < vector.extent:
        kernel, _, id = split(kernel, id, chunk, "PARALLEL", "LOOP")
    if lanes == 1:
        return kernel
    return split(kernel, id, lanes, "LOOP", "VECTOR")[0]


def _transposed_axis(kernel: Kernel, vector: Axis) -> Axis | None:
    """The axis along which some load runs through memory that jumps along the vector axis."""
    for access in accesses(kernel):
        if access.node.op is not ops.LOAD or access.stride(vector.id) in (0, 1):
            continue
        for a in kernel.axes:
            if a.kind == "PARALLEL" and a.id != vector.id and a.extent > 1 and access.stride(a.id) == 1:
                return a
    return None


def _block(kernel: Kernel, vector: Axis, other: Axis, lanes: int) -> Kernel:
    """Blocks of one vector by as many rows as use the cache lines that its jumps have brought in."""
    kernel, columns, _ = split(kernel, vector.id, lanes, "PARALLEL", "VECTOR")
    kernel, rows, _ = split(kernel, other.id, min(_BLOCK_ROWS, other.extent), "PARALLEL", "LOOP")
    return reorder(kernel, [a.id for a in kernel.axes if a.kind == "PARALLEL" and a.id not in (columns, rows)]
                   + [rows, columns])


def _chunk(kernel: Kernel, vector: Axis, lanes: int, capabilities: Capabilities) -> int:
    """Elements of one task along the vector axis: whole vectors, or all where the rows are tasks enough."""
    rows = math.prod([a.extent for a in kernel.axes if a.kind == "PARALLEL" and a.id != vector.id])
    one_core = estimate_us(cost(kernel), capabilities)
    wanted = int(min(max(one_core / _TASK_US, 1), capabilities.cores * _TASKS_PER_CORE))
    vectors = -(-vector.extent // lanes)
    pieces = min(-(-wanted // rows), vectors)
    if pieces < 2:
        return vector.extent
    per_task = -(-vectors // pieces)
    if vector.extent % lanes == 0:
        per_task = _dividing(vectors, per_task)
    return per_task * lanes


def _dividing(extent: int, about: int) -> int:
    """A divisor of `extent` near `about`, if there is one within a factor of two: it spares the tail."""
    if about > _LONG_TASK:
        return about
    candidates = [d for d in range(max(about // 2, 1), min(about * 2, extent) + 1) if extent % d == 0]
    return min(candidates, key=lambda d: abs(d - about), default=about)


# ---- rows --------------------------------------------------------------------------------------------------
def _tune_rows(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    """Reductions along memory, and inner loops, take vectors of the row; across memory, of the outputs."""
    vector = _best_vector_axis(kernel)
    lanes = _lanes(kernel, capabilities, 4)
    if vector is None:
        return kernel
    if vector.kind == "PARALLEL":
        lanes = _fit_lanes(_lanes(kernel, capabilities, 2), vector.extent)
        return split(kernel, vector.id, lanes, "PARALLEL", "VECTOR")[0] if lanes > 1 else kernel
    found = accesses(kernel)
    for a in [a for a in kernel.axes if a.kind in ("LOOP", "REDUCE")]:
        strides = [access.stride(a.id) for access in found]
        fitting = _fit_lanes(lanes, a.extent)
        if fitting > 1 and any(s == 1 for s in strides) and _last_in_reductions(kernel, a):
            kernel, _, _ = split(kernel, a.id, fitting, a.kind, "VECTOR")
    return kernel


def _last_in_reductions(kernel: Kernel, a: Axis) -> bool:
    """One vector axis a loop nest: an axis takes lanes where no other of its reduction or store does."""
    nests = [n.arg[1] for n in toposort(kernel.stores) if n.op in (ops.REDUCE, ops.STORE)]
    return not any(axis_of(kernel, id).kind == "VECTOR" for nest in nests if a.id in nest for id in nest)


# ---- contractions ------------------------------------------------------------------------------------------
def _is_contraction(kernel: Kernel, reductions: list[Node]) -> bool:
    """One reduction whose loads each miss some axis of the outputs."""
    if len(reductions) != 1 or any(a.kind == "LOOP" for a in kernel.axes):
        return False
    reduced = set(reductions[0].arg[1])
    outputs = {a.id for a in kernel.axes if a.kind == "PARALLEL" and a.extent > 1}
    loads = [x for x in accesses(kernel) if x.node.op is ops.LOAD and reduced & set(x.strides)]
    return len(loads) >= 2 and any(outputs - set(x.strides) for x in loads)


def _tune_contraction(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    vector = _best_vector_axis(kernel)
    if vector is None or not capabilities.vector_bytes:
        return kernel
    if vector.kind == "REDUCE":
        return _tune_dot(kernel, vector, capabilities)
    return _tune_outer(kernel, vector, capabilities)


def _tune_outer(kernel: Kernel, vector: Axis, capabilities: Capabilities) -> Kernel:
    """Vectors of outputs: a tile of rows times two vectors, each row's element broadcast."""
    lanes = _fit_lanes(_lanes(kernel, capabilities, 2), vector.extent)
    kernel, columns, _ = split(kernel, vector.id, lanes, "PARALLEL", "VECTOR")
    per_row = max(lanes // _lanes(kernel, capabilities, 1), 1)
    room = max((capabilities.vector_registers - per_row - 2) // per_row, 1)
    rows = _tile_axis(kernel, {columns})
    if rows is None:
        return kernel
    kernel, tasks, _ = split(kernel, rows.id, best_tile(rows.extent, room), "PARALLEL", "TILE")
    # consecutive tasks share the panel of columns, which then stays in cache
    return _fastest_tasks(kernel, columns, tasks)


def _fastest_tasks(kernel: Kernel, *ids: int) -> Kernel:
    """The PARALLEL axes `ids` last of their kind: they change fastest from one task to the next."""
    others = [a.id for a in kernel.axes if a.kind == "PARALLEL" and a.id not in ids]
    return reorder(kernel, [*others, *ids])


def _tune_dot(kernel: Kernel, vector: Axis, capabilities: Capabilities) -> Kernel:
    """Vectors along the reduction: a square tile of outputs, each vector used for a whole row or column."""
    lanes = _fit_lanes(_lanes(kernel, capabilities, 1), vector.extent)
    kernel, _, _ = split(kernel, vector.id, lanes, "REDUCE", "VECTOR")
    first = _tile_axis(kernel, set())
    if first is None:
        return kernel
    second = _tile_axis(kernel, {first.id})
    side = 4 if capabilities.vector_registers >= 32 else 3
    kernel, a, _ = split(kernel, first.id, best_tile(first.extent, side), "PARALLEL", "TILE")
    if second is None:
        return kernel
    kernel, b, _ = split(kernel, second.id, best_tile(second.extent, side), "PARALLEL", "TILE")
    return _fastest_tasks(kernel, a, b)


def _tile_axis(kernel: Kernel, taken: set[int]) -> Axis | None:
    """The largest output axis that some load does not vary over: tiling it uses that load again."""
    loads = [x for x in accesses(kernel) if x.node.op is ops.LOAD]
    candidates = [a for a in kernel.axes if a.kind == "PARALLEL" and a.extent > 1 and a.id not in taken
                  and any(a.id not in x.strides for x in loads)]
    return max(candidates, key=lambda a: (a.extent, -a.id), default=None)


def best_tile(extent: int, most: int) -> int:
    """The tile of at most `most` that wastes least of `extent`; larger wins among equals."""
    if extent <= most:
        return max(extent, 1)
    choices = range(max(most // 2, 1), most + 1)
    return min(choices, key=lambda t: (-(-extent // t) * t / extent + 0.25 / t, -t))
