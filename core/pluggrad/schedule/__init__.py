"""Graph -> Regions: what is computed into memory, and what shares a kernel."""
from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from pluggrad.graph import ops
from pluggrad.ir.node import Node
from pluggrad.schedule.fuse import fuse, together
from pluggrad.schedule.materialize import materialize
from pluggrad.schedule.region import Member, Region
from pluggrad.target import WIDE, Narrow

__all__ = ["Member", "Region", "schedule"]


def schedule(roots: Sequence[Node], most_buffers: int = 0, online: bool = False,
             narrow: Narrow = WIDE) -> tuple[Region, ...]:
    """Regions that compute `roots`, in an order that can run, each of at most so many buffers (0: any).

    The graph is normalized: it has no LEAF, DETACH or empty nodes. online: tasks have memory of their own, so
    that reductions that depend on each other, of what a contraction gives, can be one region.
    narrow: dtypes that products take as they are in memory, so that factors are not widened beforehand.
    """
    wanted = {root for root in roots if root.op is not ops.INPUT}
    expressions = materialize(list(dict.fromkeys(roots)), partial(together, most_buffers=most_buffers),
                              most_buffers, online, narrow)
    return fuse(expressions, wanted, most_buffers)
