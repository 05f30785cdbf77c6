"""Exact simplification of kernel expressions: integer constants are folded, casts to the same dtype and
neutral operands vanish. Floats are left as they are, save for what changes no bit."""
from __future__ import annotations

from pluggrad import dtypes
from pluggrad.graph import ops as g
from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import rewrite
from pluggrad.kernel import ops
from pluggrad.kernel.index_nodes import ARITHMETIC
from pluggrad.kernel.kernel import const
from pluggrad.target import Capabilities


def simplify(stores: tuple[Node, ...], capabilities: Capabilities) -> tuple[Node, ...]:
    """Fold bottom up."""
    return rewrite(stores, _fold)


def _fold(n: Node, src: tuple[Node, ...]) -> Node:
    if n.op is g.CAST and src[0].type is n.type:
        return src[0]
    if n.op is g.WHERE and src[0].op is ops.CONST:
        return src[1] if src[0].arg.bits else src[2]
    if n.type is dtypes.int64 and n.op in ARITHMETIC:
        return _fold_index(n, src[0], src[1])
    if n.op is g.MUL and n.type.is_float and src[1].op is ops.CONST and src[1].arg.of(n.type) == 1.0:
        return src[0]
    return node(n.op, src, n.arg, n.type)


def _fold_index(n: Node, x: Node, y: Node) -> Node:
    divides = n.op in (ops.CDIV, ops.CMOD)
    if x.op is ops.CONST and y.op is ops.CONST and (not divides or x.arg.bits >= 0 < y.arg.bits):
        return const(ARITHMETIC[n.op](x.arg.bits, y.arg.bits))
    if y.op is ops.CONST and y.arg.bits == (1 if n.op in (g.MUL, ops.CDIV) else 0) and n.op is not ops.CMOD:
        return x
    if x.op is ops.CONST and x.arg.bits == 0 and n.op is g.ADD:
        return y
    if n.op is g.MUL and y.op is ops.CONST and y.arg.bits == 0:
        return y
    return node(n.op, (x, y), n.arg, n.type)
