"""Which computations a realized value remembers: those that can still carry a gradient to a live leaf."""
from __future__ import annotations

from dataclasses import dataclass

from pluggrad import config
from pluggrad.graph import ops
from pluggrad.graph.leaf import Identity
from pluggrad.graph.template import RESULT
from pluggrad.ir.node import Node


@dataclass(frozen=True, slots=True)
class History:
    """Whether to keep a graph behind its value, its depth in realizations then, and whether depth cut it."""

    keep: bool
    depth: int = 0
    cut: bool = False


_NONE = History(False)
# through what no gradient passes; a RESULT that a handle holds is an update
_ENDS = frozenset({ops.DETACH, ops.LEAF, ops.BUFFER, ops.CONST, RESULT})


def judge(root: Node, always: bool = False) -> History:
    """Marked leaves keep a history without limit; unmarked ones, which every float tensor is, to a depth."""
    if not root.dtype.is_float or root.op in _ENDS:
        return _NONE
    marked = live_marked = live = cut = False
    depth = 0
    done = {root}
    stack = [root]
    while stack:
        n = stack.pop()
        if n.op is ops.DETACH:
            continue
        identity: Identity | None = None
        if n.op is ops.LEAF:
            identity = n.arg
        elif n.op is ops.BUFFER:
            version = n.arg
            identity = version.identity
            cut |= version.cut
            if version.history is not None:
                depth = max(depth, version.depth)
                if version.history not in done:
                    done.add(version.history)
                    stack.append(version.history)
        else:
            for source in n.src:
                if source not in done:
                    done.add(source)
                    stack.append(source)
            continue
        if identity is not None:
            alive = identity.live() is not None
            marked |= identity.marked
            live |= alive
            live_marked |= alive and identity.marked
    if marked:
        return History(live_marked, depth + 1, cut)
    if live and not always and depth >= config.HISTORY_LIMIT.value:
        return History(False, 0, True)
    return History(live, depth + 1, cut)
