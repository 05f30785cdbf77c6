"""What the schedule produces: Regions, each one kernel to be, over one outer domain."""
from __future__ import annotations

from dataclasses import dataclass

from pluggrad.graph import ops
from pluggrad.ir.node import Node
from pluggrad.shape.dims import Shape


def evaluated(root: Node) -> Node:
    """What an expression computes: a reshape is stored as its source, whose elements lie in the same order."""
    while root.op is ops.RESHAPE:
        root = root.src[0]
    return root


def domain(root: Node) -> Shape:
    """The shape that the expression of `root` ranges over, the axes it reduces left out."""
    return root.src[1].shape if root.op in ops.WRITES else evaluated(root).shape


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
