"""Arithmetic on graph nodes: updates are built without Tensors between them."""
from __future__ import annotations

from pluggrad.dtypes import Scalar
from pluggrad.graph import build, ops
from pluggrad.graph.scalar import HostRead
from pluggrad.ir.node import Node


def constant(value: Scalar | HostRead, like: Node) -> Node:
    return build.const(value, like.dtype, like.device, like.shape)


def scale(x: Node, factor: Scalar | HostRead) -> Node:
    return build.binary(ops.MUL, x, constant(factor, x))


def add(x: Node, y: Node) -> Node:
    return build.binary(ops.ADD, x, y)


def subtract(x: Node, y: Node) -> Node:
    return build.binary(ops.SUB, x, y)


def multiply(x: Node, y: Node) -> Node:
    return build.binary(ops.MUL, x, y)


def divide(x: Node, y: Node) -> Node:
    return build.binary(ops.DIV, x, y)


def maximum(x: Node, y: Node) -> Node:
    return build.binary(ops.MAX, x, y)


def root(x: Node) -> Node:
    return build.unary(ops.SQRT, x)


def lerp(x: Node, y: Node, share: HostRead) -> Node:
    """From x toward y by `share` of the way."""
    return add(x, scale(subtract(y, x), share))


def norm(x: Node) -> Node:
    """The Euclidean length of all elements, as the one element of a node of rank `x`."""
    axes = tuple(range(len(x.shape)))
    return build.reshape(root(build.reduce(ops.SUM, multiply(x, x), axes)), (1,) * len(x.shape))


def repeat(x: Node, like: Node) -> Node:
    return build.expand(x, like.shape)


def where_positive(x: Node, y: Node, value: Node) -> Node:
    """`value`, or 1 where x or y is not above 0."""
    zero = constant(0.0, x)
    both = build.binary(ops.AND, build.binary(ops.LT, zero, x), build.binary(ops.LT, zero, y))
    return build.where(both, value, constant(1.0, x))
