"""Region -> Kernel: expressions of the graph become loads, arithmetic and reductions over axes.

Movement ops vanish into index functions on the way; what they put around a source (padding) becomes a gate.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pluggrad import dtypes
from pluggrad.graph import ops as g
from pluggrad.graph.scalar import ValueSlot
from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.index_checks import IndexChecks
from pluggrad.kernel.index_nodes import INDEX, gate_node, index_node
from pluggrad.kernel.kernel import Axis, AxisKind, BufferParam, IndexCheck, Kernel, Role, cast, const
from pluggrad.kernel.parts import divided, index_of
from pluggrad.kernel.reductions import COMBINE
from pluggrad.kernel.threefry import threefry
from pluggrad.schedule.places import Gate, Place, counted_at, lookup, sources_at, written_at
from pluggrad.schedule.region import Member, Region, at_domain, domain, evaluated
from pluggrad.shape.dims import Shape
from pluggrad.shape.index import ZERO, Affine, AxisAtom, Index, Lookup, add, axis_index, flatten

_OF_BOOL = {"ADD": "MAX", "MUL": "MIN"}  # or, and: a sum of bytes would wrap


@dataclass(frozen=True, slots=True)
class Built:
    """A kernel, the graph nodes that its buffers hold, and the graph's value slots behind its values.

    checks: what each word of the status buffer is about, which is the last buffer where there are any.
    """

    kernel: Kernel
    params: tuple[Node, ...]
    slots: tuple[int, ...]
    checks: tuple[IndexCheck, ...] = ()


def build(region: Region) -> Built:
    """The kernel of one region. Its buffers are the region's outputs, then what it reads."""
    built = _Builder(region, {}).run()
    parts = divided(built.kernel, len(region.outer))
    return _Builder(region, parts).run() if parts else built


class _Builder:
    """`parts`: the extents that outer axes are cut into."""

    def __init__(self, region: Region, parts: Mapping[int, tuple[int, ...]]) -> None:
        self.region = region
        self.members = {m.root: m for m in region.members}
        self.reads = frozenset(region.reads)
        self.axes: list[Axis] = []
        self.outer: list[Affine] = []
        for i, extent in enumerate(region.outer):
            first = len(self.axes)
            cut = tuple(enumerate(parts.get(i, (extent,)), first))
            self.axes += [Axis(id, part, "PARALLEL") for id, part in cut]
            self.outer.append(index_of(cut))
        self.outer_axes = tuple([a.id for a in self.axes])
        self.shared_axes: dict[tuple[object, ...], tuple[int, ...]] = {}
        self.levels = self._levels()
        self.params: dict[Node, int] = {}
        self.slots: dict[int, int] = {}
        self.values: list[dtypes.DType] = []
        self.done: dict[Place, Node] = {}
        self.checks = IndexChecks()

    def _levels(self) -> dict[Node, int]:
        """Reductions of one level do not depend on each other, and share loops where their extents agree."""
        levels: dict[Node, int] = {}
        for n in toposort(self.members, lambda m: () if m in self.reads else m.src):
            below = max([levels[s] for s in n.src], default=0) if n not in self.reads else 0
            levels[n] = below + 1 if n not in self.reads and n.op in g.REDUCE else below
        return levels

    def run(self) -> Built:
        stored = [m for m in self.region.members if m.stored]
        roles: list[Role] = ["inout" if m.root.op in g.WRITES | {g.TALLY} else "out" for m in stored]
        for m in stored:
            self.params[m.root] = len(self.params)
        stores = [store for m in stored for store in self._stores(m)]
        roles += ["in"] * (len(self.params) - len(stored))
        buffers = [BufferParam(n.dtype, n.type.size, role)
                   for n, role in zip(self.params, roles, strict=True)]
        checks = self.checks.checks
        if checks:
            together = [ids for key, ids in self.shared_axes.items() if key[0] != "inner"]
            stores += self.checks.stores(len(buffers), self.axes, together)
            buffers.append(BufferParam(dtypes.int64, len(checks), "status"))
        kernel = Kernel(self._name(), tuple(buffers), tuple(self.values), tuple(self.axes), tuple(stores))
        return Built(kernel, tuple(self.params), tuple(self.slots), checks)

    def _name(self) -> str:
        """What people read in listings: the reductions and the outputs' last ops, and the domain."""
        words = [m.root.op.name.lower() for m in self.region.members][:4]
        return "_".join([*words, *map(str, self.region.outer[:4])])

    def _stores(self, member: Member) -> list[Node]:
        index, axes = self._domain_index(member)
        root = member.root
        if root.op in g.WRITES:
            return [self._write(root, index, axes)]
        if root.op is g.TALLY:
            return self._count(root, index, axes)
        position = self._position(flatten(index, domain(root)))
        stored = self._value((evaluated(root), at_domain(root, index), ()))
        return [node(ops.STORE, (position, stored), (self.params[root], axes), root.dtype)]

    def _count(self, root: Node, index: Index, axes: tuple[int, ...]) -> list[Node]:
        """The stores of a TALLY: no counts, then of each element one more, and how many there were before."""
        buffer, size = self.params[root], root.src[0].shape[-1]
        zeros = self._new_axes(("counts",), (root.arg,), "LOOP")
        first = flatten((*index[:-1], add(axis_index(zeros[0], root.arg), Affine((), size))), root.shape)
        empty = node(ops.STORE, (self._position(first), const(0, root.dtype)),
                     (buffer, (*self.outer_axes, *zeros)), root.dtype)
        self._value((root.src[0], index, ()))
        count = self._position(flatten(counted_at(root, index), root.shape))
        more = node(ops.STORE, (count, const(1, root.dtype)), (buffer, axes, "ADD"), root.dtype)
        before = node(ops.TALLY, (count,), (buffer, _axis_of(index[-1])), root.dtype)
        position = self._position(flatten(index, root.shape))
        return [empty, more, node(ops.STORE, (position, before), (buffer, axes), root.dtype)]

    def _write(self, root: Node, index: Index, axes: tuple[int, ...]) -> Node:
        """The store of an UPDATE or SCATTER, which leaves the rest of its buffer as it is."""
        arg: tuple[object, ...] = (self.params[root], axes)
        gates: tuple[Node, ...] = ()
        if root.op is g.SCATTER:
            self._value((root.src[1], index, ()))
            gates = self._check((root, index, ()))
            arg = arg if root.arg.mode == "SET" else (*arg, root.arg.mode)
        position = index_node(flatten(written_at(root, index), root.shape), self._resolve_to_write)
        return node(ops.STORE, (position, self._value((root.src[-1], index, ())), *gates), arg, root.dtype)

    # ---- indices that data decide --------------------------------------------------------------------------
    def _check(self, place: Place) -> tuple[Node, ...]:
        """The test that a GATHER or SCATTER meets an index in range there; it is reported where it fails."""
        found = lookup(place)
        return self.checks.inside(found, self._looked_up(found), self._gate(found.gate))

    def _looked_up(self, found: Lookup) -> Node:
        return self.done[found.numbers, found.at, found.gate]

    def _position(self, index: Affine) -> Node:
        return index_node(index, self._resolve)

    def _resolve(self, found: Lookup) -> Node:
        return self.checks.position(found, self._looked_up(found))

    def _resolve_to_write(self, found: Lookup) -> Node:
        return self.checks.position_if_inside(found, self._looked_up(found))

    def _gate(self, gate: Gate) -> Node | None:
        return gate_node(gate, self._resolve)

    def _domain_index(self, member: Member) -> tuple[Index, tuple[int, ...]]:
        """The index of a member's domain in outer and inner axes, and the ids of the axes it ranges over."""
        shape = domain(member.root)
        inner = tuple([d for d, outer in zip(shape, member.outer, strict=True) if outer is None and d > 1])
        ids = iter(self._new_axes(("inner", inner), inner, "LOOP"))
        index = tuple([self.outer[outer] if outer is not None else axis_index(next(ids) if d > 1 else 0, d)
                       for d, outer in zip(shape, member.outer, strict=True)])
        return index, (*self.outer_axes, *self.shared_axes[("inner", inner)])

    def _new_axes(self, key: tuple[object, ...], extents: Shape, kind: AxisKind) -> tuple[int, ...]:
        found = self.shared_axes.get(key)
        if found is not None:
            return found
        ids = tuple(range(len(self.axes), len(self.axes) + len(extents)))
        self.axes += [Axis(i, extent, kind) for i, extent in zip(ids, extents, strict=True)]
        self.shared_axes[key] = ids
        return ids

    # ---- expressions, without recursion: a place is finished once every place it depends on is -------------
    def _value(self, goal: Place) -> Node:
        stack = [goal]
        while stack:
            place = stack[-1]
            if place in self.done:
                stack.pop()
                continue
            needed = self._needs(place)
            missing = [p for p in needed if p not in self.done]
            if missing:
                stack.extend(missing)
                continue
            self.done[place] = self._combine(place, [self.done[p] for p in needed])
            stack.pop()
        return self.done[goal]

    def _param(self, n: Node) -> Node | None:
        """What is loaded for `n`: itself, or what it is a reshape of, since that lies in memory alike."""
        source = n.src[0] if n.op is g.RESHAPE and n not in self.reads else n
        if source.op is g.INPUT or (source not in self.members and source in self.reads):
            return source
        return None

    def _needs(self, place: Place) -> list[Place]:
        n, _, _ = place
        if self._param(n) is not None or n.op in (g.CONST, g.IOTA):
            return []
        if n.op in g.REDUCE:
            return [(n.src[0], self._reduce_index(place), ())]
        return sources_at(place)

    def _reduce_axes(self, n: Node) -> tuple[int, ...]:
        extents = tuple([n.src[0].shape[i] for i in n.arg if n.src[0].shape[i] > 1])
        return self._new_axes((self.levels[n], extents), extents, "REDUCE")

    def _reduce_index(self, place: Place) -> Index:
        # all rows of a member are outer axes, whatever reads it: what reads a padded value may be outside of
        # it, and nothing gates the inside of a reduction
        n, rows, _ = place
        if n in self.members:
            rows, _ = self._domain_index(self.members[n])
        kept, reduced = iter(rows), iter(self._reduce_axes(n))
        return tuple([next(kept) if i not in n.arg else axis_index(next(reduced), d) if d > 1 else ZERO
                      for i, d in enumerate(n.src[0].shape)])

    def _combine(self, place: Place, sources: list[Node]) -> Node:
        n, index, gate = place
        param = self._param(n)
        if param is not None:
            number = self.params.setdefault(param, len(self.params))
            position, test = self._position(flatten(index, n.shape)), self._gate(gate)
            return node(ops.LOAD, (position,) if test is None else (position, test), number, n.dtype)
        if n.op is g.CONST:
            return self._constant(n)
        if n.op is g.GATHER:
            self._check(place)
            return sources[0]
        if n.op is g.IOTA:
            return cast(self._position(index[0]), n.dtype)
        if n.op in g.REDUCE:
            return self._reduction(n, sources[0])
        if n.op is g.SCAN:
            return self._running(n, index[n.arg.axis], sources[0])
        if n.op in g.PADDING:
            return _padded(sources[0], self._gate(self._needs(place)[0][2]), n.dtype)
        if n.op in g.MOVEMENT or n.op.kind == "identity":
            return sources[0]
        if n.op is g.RANDOM_BITS:
            return self._random_bits(n, sources, self._position(flatten(index, n.shape)))
        return node(n.op, tuple(sources), None, n.dtype)

    def _random_bits(self, n: Node, sources: list[Node], position: Node) -> Node:
        key0, key1, high = sources
        if n.type.size > 1 << 32:  # else the upper half of every position is 0
            upper = node(g.SHR, (position, const(32)), None, INDEX)
            high = node(g.ADD, (high, cast(upper, dtypes.uint32)), None, dtypes.uint32)
        return threefry(key0, key1, high, cast(position, dtypes.uint32))

    def _constant(self, n: Node) -> Node:
        if not isinstance(n.arg, ValueSlot):
            return const(n.arg.python, n.dtype)
        if n.arg.slot not in self.slots:
            self.slots[n.arg.slot] = len(self.values)
            self.values.append(n.dtype)
        return node(ops.VALUE, (), self.slots[n.arg.slot], n.dtype)

    def _running(self, n: Node, position: Affine, source: Node) -> Node:
        return node(ops.SCAN, (source,), (n.arg.name, _axis_of(position)), n.dtype)

    def _reduction(self, n: Node, source: Node) -> Node:
        axes = self._reduce_axes(n)
        if not axes:
            return source
        inside = dtypes.uint8 if n.dtype.kind == "b" else dtypes.accumulator_dtype(n.dtype)
        if inside is dtypes.float32 and n.dtype is not inside and n.op in (g.RMAX, g.RMIN):
            inside = n.dtype  # comparing needs no wider dtype
        name = COMBINE[n.op]
        if n.dtype.kind == "b":
            name = _OF_BOOL.get(name, name)
        reduced = node(ops.REDUCE, (cast(source, inside),), (name, axes), inside)
        return cast(reduced, n.dtype)


def _axis_of(position: Affine) -> int:
    """The loop of its own that `schedule` gives an axis along which elements are ordered."""
    (atom, _), = position.terms
    assert isinstance(atom, AxisAtom)
    return atom.id


def _padded(value: Node, gate: Node | None, dtype: dtypes.DType) -> Node:
    """Zero outside the gate; a load under this very gate, widened or not, is zero there already."""
    loaded = value.src[0] if value.op is g.CAST else value
    if gate is None or (loaded.op is ops.LOAD and len(loaded.src) > 1 and loaded.src[1] is gate):
        return value
    return node(g.WHERE, (gate, value, const(0, dtype)), None, dtype)
