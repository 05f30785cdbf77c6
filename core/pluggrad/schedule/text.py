"""Regions as text: what each reads, what its members compute, and where their axes lie.

    region 1: over 64, reads t0
        %0 = t0: float32[64,64]
      * %1 = rmax[1,](%0): float32[64]      axes (0): inside
        ...
      * %5 = div(%3, %4): float32[64,64]    axes (0, inner): stored as t1
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count

from pluggrad.graph import ops
from pluggrad.graph.text import node_text
from pluggrad.ir.node import Node
from pluggrad.ir.text import type_text
from pluggrad.ir.walk import toposort
from pluggrad.schedule.region import Member, Region


def schedule_text(regions: Sequence[Region], full: bool = True) -> str:
    """Every region in order. Without `full` only members are shown, not what they are computed from."""
    names: dict[Node, str] = {}
    stored = count()
    lines = []
    for number, region in enumerate(regions):
        for root in region.outputs:
            names[root] = f"t{next(stored)}"
        for read in region.reads:
            if read.op is ops.INPUT:
                names[read] = f"input {read.arg}"
            elif read.op is ops.EMPTY:
                names[read] = "nothing yet"
        lines += _region(number, region, names, full)
    return "\n".join(lines)


def _region(number: int, region: Region, names: Mapping[Node, str], full: bool) -> list[str]:
    members = {member.root: member for member in region.members}
    order = toposort(members, lambda node: () if node in region.reads else node.src)
    numbers = {node: i for i, node in enumerate(order)}
    over = " x ".join(map(str, region.outer)) or "one element"
    reads = ", ".join(names[node] for node in region.reads) or "nothing"
    lines = [f"region {number}: over {over}, reads {reads}"]
    for node in order:
        if node in members:
            lines.append(f"  * {node_text(node, numbers):<48}  {_member(members[node], names)}")
        elif full:
            line = f"%{numbers[node]} = {names[node]}: {type_text(node.type)}" if node in region.reads else ""
            lines.append(f"    {line or node_text(node, numbers)}")
    return lines


def _member(member: Member, names: Mapping[Node, str]) -> str:
    axes = ", ".join("inner" if axis is None else str(axis) for axis in member.outer)
    return f"axes ({axes}): " + (f"stored as {names[member.root]}" if member.stored else "inside")
