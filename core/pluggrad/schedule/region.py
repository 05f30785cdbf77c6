"""What the schedule produces: Regions, each one kernel to be, over one outer domain."""
from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from operator import mul
from weakref import WeakKeyDictionary

from pluggrad.graph import ops
from pluggrad.ir.node import Node
from pluggrad.shape.dims import Shape
from pluggrad.shape.index import Index, source_index

_SHAPED = ops.REDUCE | {ops.EXPAND}  # whose shape says how what is computed from them is best divided
_FARTHEST = 32  # nodes that are looked at for other shapes
_domains: WeakKeyDictionary[Node, Shape] = WeakKeyDictionary()


def evaluated(root: Node) -> Node:
    """What an expression computes: a reshape is stored as its source, in the order of which it lies."""
    while root.op is ops.RESHAPE:
        root = root.src[0]
    return root


def domain(root: Node) -> Shape:
    """The shape that the expression of `root` ranges over, the axes it reduces left out.

    Elements lie in the order of `root`; axes are in parts where values were repeated, or reduced, in another
    shape.
    """
    found = _domains.get(root)
    if found is None:
        found = _domains[root] = _find_domain(root)
    return found


def _find_domain(root: Node) -> Shape:
    if root.op in ops.WRITES:
        return root.src[1].shape
    if root.op is ops.TALLY:
        return root.src[0].shape
    root = evaluated(root)
    shape = root.shape
    for source in _other_shapes(root):
        shape = _common_parts(shape, source) or shape
    return shape


def at_domain(root: Node, index: Index) -> Index:
    """The index of an element of `evaluated(root)`, from its index in the domain."""
    node, shape = evaluated(root), domain(root)
    return index if shape == node.shape else source_index("reshape", None, index, shape, node.shape)[0]


def _other_shapes(root: Node) -> list[Shape]:
    """The shapes in which the values were repeated or reduced that make up `root`, element by element."""
    found = []
    stack = [root]
    for _ in range(_FARTHEST):
        if not stack:
            break
        n = stack.pop()
        if n.op in _SHAPED and n.shape != root.shape:
            found.append(n.shape)
        elif n.op in ops.ELEMENTWISE or n.op is ops.RESHAPE:
            stack += dict.fromkeys(n.src)
    return found


def _common_parts(x: Shape, y: Shape) -> Shape | None:
    """The coarsest shape of which both are reshapes that join neighbors, if there is one."""
    cuts = sorted({*accumulate(reversed(x), mul), *accumulate(reversed(y), mul)} - {1})
    if any(high % low for low, high in pairwise(cuts)):
        return None
    return tuple([high // low for low, high in pairwise([1, *cuts])][::-1])


@dataclass(frozen=True, slots=True)
class Member:
    """One expression of a region, which computes `root`.

    outer: for each dim of its domain the outer axis that it is, None for an inner dim, which gets an
    axis of its own. stored: others need the value in memory; if not, it lives only inside the region.
    """

    root: Node
    outer: tuple[int | None, ...]
    stored: bool


@dataclass(frozen=True, slots=True)
class Region:
    """Members share the loops over `outer`; each adds its own inner or reduced axes. `reads` is loaded."""

    outer: Shape
    members: tuple[Member, ...]
    reads: tuple[Node, ...]

    @property
    def outputs(self) -> tuple[Node, ...]:
        """Roots of the members whose values go to memory."""
        return tuple([member.root for member in self.members if member.stored])
