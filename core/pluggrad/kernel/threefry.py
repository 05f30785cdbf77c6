"""Threefry-2x32 with 20 rounds, as kernel nodes.

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""
from __future__ import annotations

from pluggrad import dtypes
from pluggrad.graph import ops as g
from pluggrad.ir.node import Node, Op, node
from pluggrad.kernel.kernel import const

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def _u32(op: Op, x: Node, y: Node) -> Node:
    return node(op, (x, y), None, dtypes.uint32)


def _rotate(x: Node, by: int) -> Node:
    return _u32(g.OR, _u32(g.SHL, x, const(by, dtypes.uint32)), _u32(g.SHR, x, const(32 - by, dtypes.uint32)))


def threefry(key0: Node, key1: Node, high: Node, low: Node) -> Node:
    """The xor of both words of the cipher of the counter (high, low); all uint32."""
    keys = (key0, key1, _u32(g.XOR, _u32(g.XOR, key0, key1), const(_PARITY, dtypes.uint32)))
    x, y = _u32(g.ADD, high, keys[0]), _u32(g.ADD, low, keys[1])
    for group in range(5):
        for by in _ROTATIONS[group % 2]:
            x = _u32(g.ADD, x, y)
            y = _u32(g.XOR, _rotate(y, by), x)
        x = _u32(g.ADD, x, keys[(group + 1) % 3])
        y = _u32(g.ADD, _u32(g.ADD, y, keys[(group + 2) % 3]), const(group + 1, dtypes.uint32))
    return _u32(g.XOR, x, y)
