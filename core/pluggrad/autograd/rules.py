"""One row per primitive: how a gradient passes from a node to each of its sources.

A row holds one rule for each source, `(gradient of the node, the node) -> gradient of that source`, or None
where nothing passes (a condition, a key). Rules build ordinary graph nodes, so gradients of gradients come
free. A primitive without a row is piecewise constant (FLOOR, comparisons) or carries no floats: its gradient
is zero and nothing is built.

Conventions at kinks: |x| and sign have gradient 0 at 0; max and min, of two operands or over an axis, split
evenly between equals, also where a SCATTER brings them together; a running one goes to the first of them;
x**0 has gradient 0; 0**y has gradient 0 with respect to y for y >= 0.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from pluggrad import dtypes
from pluggrad.graph import build, ops
from pluggrad.graph.scans import first_met
from pluggrad.ir.node import Node, Op
from pluggrad.shape.dims import Shape

Rule = Callable[[Node, Node], Node]


# ---- arithmetic that leaves out what is exact without computing --------------------------------------------
def _number(x: Node) -> float | None:
    """The value of a float constant that no host value stands behind."""
    return float(x.arg.python) if x.op is ops.CONST and x.arg.source is None else None


def _constant(value: float, like: Node) -> Node:
    return build.const(value, like.dtype, like.device, like.shape)


def _times(x: Node, y: Node) -> Node:
    a, b = _number(x), _number(y)
    if a == 1.0:
        return y
    if b == 1.0:
        return x
    return build.binary(ops.MUL, x, y) if a is None or b is None else _constant(a * b, x)


def _over(x: Node, y: Node) -> Node:
    a, b = _number(x), _number(y)
    return _constant(a / b, x) if a is not None and b else build.binary(ops.DIV, x, y)


def _negative(x: Node) -> Node:
    a = _number(x)
    return build.unary(ops.NEG, x) if a is None else _constant(-a, x)


def _scaled(x: Node, factor: float) -> Node:
    return _times(x, _constant(factor, x))


def add(x: Node, y: Node) -> Node:
    """The sum of two contributions."""
    return build.binary(ops.ADD, x, y)


def _zero_unless(condition: Node, x: Node) -> Node:
    return build.where(condition, x, _constant(0.0, x))


# ---- elementwise -------------------------------------------------------------------------------------------
def _abs(g: Node, n: Node) -> Node:
    x = n.src[0]
    zero = _constant(0.0, x)
    return build.where(
        build.binary(ops.LT, zero, x), g, _zero_unless(build.binary(ops.LT, x, zero), _negative(g))
    )


def _recip(g: Node, n: Node) -> Node:
    return _negative(_times(g, _times(n, n)))


def _tanh(g: Node, n: Node) -> Node:
    return _times(g, build.binary(ops.SUB, _constant(1.0, n), _times(n, n)))


def _erf(g: Node, n: Node) -> Node:
    x = n.src[0]
    return _times(g, _scaled(build.unary(ops.EXP, _negative(_times(x, x))), 2 / math.sqrt(math.pi)))


def _pow_base(g: Node, n: Node) -> Node:
    x, y = n.src
    lowered = build.binary(ops.POW, x, build.binary(ops.SUB, y, _constant(1.0, y)))
    return _times(g, _zero_unless(build.binary(ops.NE, y, _constant(0.0, y)), _times(y, lowered)))


def _pow_exponent(g: Node, n: Node) -> Node:
    x, y = n.src
    zero = _constant(0.0, x)
    flat = build.binary(ops.AND, build.binary(ops.EQ, x, zero), build.binary(ops.LE, zero, y))
    log = build.unary(ops.LOG, build.where(flat, _constant(1.0, x), x))
    return _times(g, _times(n, log))


def _choice(op: Op, mine: int) -> Rule:
    """Maximum or minimum: all to the one chosen, half to each of two equals."""

    def rule(g: Node, n: Node) -> Node:
        x, other = n.src[mine], n.src[1 - mine]
        lesser, greater = (other, x) if op is ops.MAX else (x, other)
        tied = _zero_unless(build.binary(ops.EQ, x, other), _scaled(g, 0.5))
        return build.where(build.binary(ops.LT, lesser, greater), g, tied)

    return rule


# ---- reductions --------------------------------------------------------------------------------------------
def _restored(x: Node, n: Node) -> Node:
    """`x`, shaped like the reduction `n`, repeated along the axes that `n` removed."""
    source = n.src[0]
    kept = tuple([1 if axis in n.arg else dim for axis, dim in enumerate(source.shape)])
    return build.expand(build.reshape(x, kept), source.shape)


def _extreme(g: Node, n: Node) -> Node:
    x = n.src[0]
    chosen = build.binary(ops.EQ, x, _restored(n, n))
    count = build.reduce(ops.SUM, build.cast(chosen, n.dtype), n.arg)
    return _zero_unless(chosen, _restored(_over(g, count), n))


def _product(g: Node, n: Node) -> Node:
    """The product in pairs, halves at a time, and its gradient: right with zeros, at any order, in O(n)."""
    x, axes = n.src[0], n.arg
    order = (*[axis for axis in range(len(x.shape)) if axis not in axes], *axes)
    moved = build.permute(x, order)
    levels = [build.reshape(moved, (*g.shape, math.prod(x.shape[axis] for axis in axes)))]
    while levels[-1].shape[-1] > 1:
        left, right, rest = _halves(levels[-1])
        levels.append(_joined(_times(left, right), rest))
    gradient = build.expand(build.reshape(g, (*g.shape, 1)), levels[-1].shape)
    for level in reversed(levels[:-1]):
        left, right, rest = _halves(level)
        half = left.shape[-1]
        paired, single = _part(gradient, 0, half), _part(gradient, half, rest.shape[-1])
        gradient = _joined(_joined(_times(paired, right), _times(paired, left)), single)
    return build.permute(
        build.reshape(gradient, moved.shape), tuple([order.index(axis) for axis in range(len(order))])
    )


def _part(x: Node, start: int, size: int) -> Node:
    return build.slice(x, (*[(0, dim, 1) for dim in x.shape[:-1]], (start, size, 1)))


def _halves(x: Node) -> tuple[Node, Node, Node]:
    half = x.shape[-1] // 2
    return _part(x, 0, half), _part(x, half, half), _part(x, 2 * half, x.shape[-1] % 2)


def _joined(x: Node, y: Node) -> Node:
    if y.shape[-1] == 0:
        return x
    rest = ((0, 0),) * (len(x.shape) - 1)
    return add(build.pad(x, (*rest, (0, y.shape[-1]))), build.pad(y, (*rest, (x.shape[-1], 0))))


# ---- running reductions ------------------------------------------------------------------------------------
def _scan(g: Node, n: Node) -> Node:
    name, axis = n.arg
    return _SCANS[name](g, n, axis)


def _backwards(x: Node, axis: int) -> Node:
    return build.flip(x, axis)


def _scan_sum(g: Node, n: Node, axis: int) -> Node:
    return _backwards(build.scan("ADD", _backwards(g, axis), axis), axis)


def _scan_product(g: Node, n: Node, axis: int) -> Node:
    """What reaches each product, all later ones included, times the product before: right with zeros."""
    order = (*[i for i in range(len(n.shape)) if i != axis], axis)
    x, y, g = [build.permute(node, order) for node in (n.src[0], n, g)]
    size, last = x.shape[-1], len(order) - 1
    factors = _delayed(_part(_backwards(x, last), 0, size - 1))
    reached = _backwards(_recurrence(factors, _backwards(g, last)), last)
    one = _constant(1.0, _part(y, 0, 1))
    before = _joined(one, _part(y, 0, size - 1))
    return build.permute(_times(reached, before), tuple([order.index(i) for i in range(len(order))]))


def _recurrence(a: Node, b: Node) -> Node:
    """h[0] = b[0], h[i] = b[i] + a[i] * h[i - 1] along the last axis: each second one first, in O(n)."""
    size = b.shape[-1]
    if size == 1:
        return b
    half = size // 2
    (a_even, a_odd), (b_even, b_odd) = [[_every_second(x, i, half) for i in (0, 1)] for x in (a, b)]
    odd = _recurrence(_times(a_odd, a_even), add(b_odd, _times(a_odd, b_even)))
    later = size - half - 1
    rest = add(_every_second(b, 2, later), _times(_every_second(a, 2, later), _part(odd, 0, later)))
    even = _joined(_part(b, 0, 1), rest)
    return add(_apart(even, 0, size), _apart(odd, 1, size))


def _delayed(x: Node) -> Node:
    """One place later along the last axis, after a 0."""
    return build.pad(x, (*[(0, 0)] * (len(x.shape) - 1), (1, 0)))


def _every_second(x: Node, start: int, size: int) -> Node:
    return build.slice(x, (*[(0, dim, 1) for dim in x.shape[:-1]], (start, size, 2)))


def _apart(x: Node, start: int, size: int) -> Node:
    """The elements at every second place of `size` from `start` on, zeros between them."""
    none = ((0, 0),) * (len(x.shape) - 1)
    apart = build.pad(build.reshape(x, (*x.shape, 1)), (*none, (0, 0), (start, 1 - start)))
    flat = build.reshape(apart, (*x.shape[:-1], 2 * x.shape[-1]))
    missing = size - flat.shape[-1]
    return _part(flat, 0, size) if missing < 0 else build.pad(flat, (*none, (0, missing)))


def _scan_extreme(g: Node, n: Node, axis: int) -> Node:
    return build.scatter(_constant(0.0, n), first_met(n), g, axis, "ADD", (), None)


_SCANS: Final = {"ADD": _scan_sum, "MUL": _scan_product, "MAX": _scan_extreme, "MIN": _scan_extreme}


# ---- movement and writing ----------------------------------------------------------------------------------
def _expand(g: Node, n: Node) -> Node:
    source = n.src[0]
    axes = tuple([axis for axis, dim in enumerate(source.shape) if dim != n.shape[axis]])
    return build.reshape(build.reduce(ops.SUM, g, axes), source.shape)


def _permute(g: Node, n: Node) -> Node:
    return build.permute(g, tuple([n.arg.index(axis) for axis in range(len(n.arg))]))


def _slice(g: Node, n: Node) -> Node:
    source = n.src[0]
    if all(step == 1 for _, _, step in n.arg):
        ends = zip(source.shape, n.arg, strict=True)
        return build.pad(g, tuple([(start, dim - start - size) for dim, (start, size, _) in ends]))
    return build.update(_constant(0.0, source), g, (("slice", n.arg),))


def _pad(g: Node, n: Node) -> Node:
    return build.slice(
        g, tuple([(before, dim, 1) for dim, (before, _) in zip(n.src[0].shape, n.arg, strict=True)])
    )


def _skew(g: Node, n: Node) -> Node:
    """Skewed back."""
    size = n.src[0].shape
    return build.skew(g, [(axis, by, -step, -offset, size[axis]) for axis, by, step, offset, _ in n.arg])


def _update_base(g: Node, n: Node) -> Node:
    return build.update(g, _constant(0.0, n.src[1]), n.arg)


# ---- selecting ---------------------------------------------------------------------------------------------
def _gather(g: Node, n: Node) -> Node:
    x, index = n.src
    if n.arg.unique:
        return build.scatter(_constant(0.0, x), index, g, n.arg.axis, "SET", (), n.arg.check, unique=True)
    if index.shape[n.arg.axis] != 1:
        return build.scatter(_constant(0.0, x), index, g, n.arg.axis, "ADD", (), n.arg.check)
    # one along the axis: choosing it is elementwise, and joins what is computed from it
    chosen = build.binary(ops.EQ, _numbers(x.shape, n.arg.axis, n), _in_range(index, n))
    return _zero_unless(chosen, build.expand(g, x.shape))


def _numbers(shape: Shape, axis: int, n: Node) -> Node:
    """0, 1, 2, ... along an axis, repeated along the others."""
    along = tuple([dim if i == axis else 1 for i, dim in enumerate(shape)])
    places = build.iota(shape[axis], _place_dtype(shape[axis]), n.device)
    return build.expand(build.reshape(places, along), shape)


def _place_dtype(size: int) -> dtypes.DType:
    """What holds the places along an axis; narrow where it can be, for more of them in a vector."""
    return dtypes.int32 if size <= dtypes.int32.max else dtypes.int64


def _in_range(index: Node, n: Node) -> Node:
    """The index of a GATHER as positions from the start: what it takes of 0, 1, 2, ..."""
    size = n.src[0].shape[n.arg.axis]
    if n.arg.check is None:
        return build.cast(index, _place_dtype(size))
    flat = build.reshape(index, (index.type.size,))
    places = build.iota(size, _place_dtype(size), n.device)
    return build.reshape(build.gather(places, flat, 0, n.arg.check), index.shape)


def _scattered(base: Node, value: Node, n: Node, mode: ops.Mode) -> Node:
    """What the SCATTER `n` does, with another base, other values and another mode."""
    return build.scatter(base, n.src[1], value, n.arg.axis, mode, n.arg.view, n.arg.check,
                         unique=n.arg.unique)


def _selected(x: Node, n: Node) -> Node:
    """The elements of `x`, shaped like the base of the SCATTER `n`, that each of its values goes to."""
    return build.gather(build.move(x, n.arg.view), n.src[1], n.arg.axis, n.arg.check, unique=n.arg.unique)


def _stays(n: Node) -> Node:
    """Which values of a SCATTER by SET are not written over by later ones."""
    number = _numbers(n.src[1].shape, n.arg.axis, n)
    last = _scattered(build.const(0, number.dtype, n.device, n.shape), number, n, "SET")
    return build.binary(ops.EQ, _selected(last, n), number)


def _share(g: Node, n: Node) -> Node:
    """The gradient of an extreme, divided by how many values of a SCATTER, and the base, are equal to it."""
    base, _, value = n.src
    hits = build.cast(build.binary(ops.EQ, value, _selected(n, n)), n.dtype)
    return _over(g, _scattered(build.cast(build.binary(ops.EQ, base, n), n.dtype), hits, n, "ADD"))


def _product_of_others(n: Node) -> Node:
    """For each value of a SCATTER by MUL, the product of all else that meets in its element.

    Zeros are counted and left out, which is exact, but second derivatives at a zero come out as 0.
    """
    base, _, value = n.src
    zero, one = _constant(0.0, value), _constant(1.0, value)
    base_zero, is_zero = [build.binary(ops.EQ, x, _constant(0.0, x)) for x in (base, value)]
    zeros = _selected(_scattered(build.cast(base_zero, n.dtype), build.cast(is_zero, n.dtype), n, "ADD"), n)
    nonzero = build.where(is_zero, one, value)
    product = _selected(_scattered(build.where(base_zero, _constant(1.0, base), base), nonzero, n, "MUL"), n)
    others = build.where(is_zero, build.binary(ops.SUB, zeros, one), zeros)
    return build.where(build.binary(ops.EQ, others, zero), _over(product, nonzero), zero)


def _scatter_base(g: Node, n: Node) -> Node:
    base, _, value = n.src
    if n.arg.mode == "SET":
        return _scattered(g, _constant(0.0, value), n, "SET")
    if n.arg.mode == "ADD":
        return g
    if n.arg.mode == "MUL":
        return _times(g, _scattered(_constant(1.0, base), value, n, "MUL"))
    return _zero_unless(build.binary(ops.EQ, base, n), _share(g, n))


def _scatter_value(g: Node, n: Node) -> Node:
    _, index, value = n.src
    alone = n.arg.unique or index.shape[n.arg.axis] == 1
    if n.arg.mode == "ADD" or (n.arg.mode == "SET" and alone):
        return _selected(g, n)
    if n.arg.mode == "SET":
        return _zero_unless(_stays(n), _selected(g, n))
    if n.arg.mode == "MUL":
        return _times(_selected(g, n), _product_of_others(n))
    return _zero_unless(build.binary(ops.EQ, value, _selected(n, n)), _selected(_share(g, n), n))


def _same(g: Node, n: Node) -> Node:
    return g


RULES: Final[dict[Op, tuple[Rule | None, ...]]] = {
    ops.NEG: (lambda g, n: _negative(g),),
    ops.ABS: (_abs,),
    ops.RECIP: (_recip,),
    ops.SQRT: (lambda g, n: _over(_scaled(g, 0.5), n),),
    ops.EXP: (lambda g, n: _times(g, n),),
    ops.EXP2: (lambda g, n: _times(g, _scaled(n, math.log(2))),),
    ops.LOG: (lambda g, n: _over(g, n.src[0]),),
    ops.LOG2: (lambda g, n: _over(_scaled(g, 1 / math.log(2)), n.src[0]),),
    ops.SIN: (lambda g, n: _times(g, build.unary(ops.COS, n.src[0])),),
    ops.COS: (lambda g, n: _negative(_times(g, build.unary(ops.SIN, n.src[0]))),),
    ops.TANH: (_tanh,),
    ops.ERF: (_erf,),
    ops.ADD: (_same, _same),
    ops.SUB: (_same, lambda g, n: _negative(g)),
    ops.MUL: (lambda g, n: _times(g, n.src[1]), lambda g, n: _times(g, n.src[0])),
    ops.DIV: (lambda g, n: _over(g, n.src[1]), lambda g, n: _negative(_over(_times(g, n), n.src[1]))),
    ops.MOD: (
        _same,
        lambda g, n: _negative(_times(g, build.unary(ops.FLOOR, build.binary(ops.DIV, *n.src)))),
    ),
    ops.POW: (_pow_base, _pow_exponent),
    ops.MAX: (_choice(ops.MAX, 0), _choice(ops.MAX, 1)),
    ops.MIN: (_choice(ops.MIN, 0), _choice(ops.MIN, 1)),
    ops.WHERE: (
        None,
        lambda g, n: _zero_unless(n.src[0], g),
        lambda g, n: build.where(n.src[0], _constant(0.0, g), g),
    ),
    ops.CAST: (lambda g, n: build.cast(g, n.src[0].dtype),),
    ops.LEAF: (_same,),
    ops.CONTIGUOUS: (_same,),
    ops.BARRIER: (_same, None),
    ops.COPY: (lambda g, n: build.copy(g, n.src[0].device),),
    ops.SUM: (_restored,),
    ops.PROD: (_product,),
    ops.RMAX: (_extreme,),
    ops.RMIN: (_extreme,),
    ops.SCAN: (_scan,),
    ops.RESHAPE: (lambda g, n: build.reshape(g, n.src[0].shape),),
    ops.PERMUTE: (_permute,),
    ops.EXPAND: (_expand,),
    ops.SLICE: (_slice,),
    ops.FLIP: (lambda g, n: build.flip(g, n.arg),),
    ops.PAD: (_pad,),
    ops.WINDOW: (lambda g, n: build.fold(g, n.arg, n.src[0].shape),),
    ops.FOLD: (lambda g, n: build.window(g, n.arg[0]),),
    ops.SKEW: (_skew,),
    ops.UPDATE: (_update_base, lambda g, n: build.move(g, n.arg)),
    ops.GATHER: (_gather, None),
    ops.SCATTER: (_scatter_base, None, _scatter_value),
}
