"""What the schedule produces: Regions, each one kernel to be, over one outer domain."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pluggrad.graph import ops
from pluggrad.graph.types import Shape
from pluggrad.ir.node import Node

StageKind = Literal["reduce", "pointwise", "update"]


def stage_kind(root: Node) -> StageKind:
    """How a node is computed when it is the root of a stage."""
    if root.op in ops.REDUCE:
        return "reduce"
    return "update" if root.op is ops.UPDATE else "pointwise"


def domain(root: Node) -> Shape:
    """The shape that a stage ranges over, the axes it reduces left out."""
    return root.src[1].shape if root.op is ops.UPDATE else root.shape


@dataclass(frozen=True, slots=True)
class Member:
    """One stage of a region: computes `root`. Dim i of its domain is outer axis `outer[i]`, inner if None.

    `stored`: others need the value in memory; if not, it lives only inside the region.
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
