"""Rewrites that give every op the meaning that graph/ops.py words, on hardware that lacks it."""
from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pluggrad import dtypes
from pluggrad.dtypes import DType, Scalar
from pluggrad.graph import ops as g
from pluggrad.ir.node import Node, Op, node
from pluggrad.ir.walk import rewrite, toposort
from pluggrad.kernel import ops
from pluggrad.kernel.kernel import cast, const
from pluggrad.target import Capabilities

Stores = tuple[Node, ...]


def _make(op: Op, *src: Node) -> Node:
    return node(op, src, None, dtypes.bool_ if op.kind == "compare" else src[-1].type)


def _where(condition: Node, x: Node, y: Node) -> Node:
    return node(g.WHERE, (condition, x, y), None, x.type)


def _like(x: Node, value: Scalar) -> Node:
    return const(value, x.type)


# ---- integers ----------------------------------------------------------------------------------------------
def safe_integers(stores: Stores, capabilities: Capabilities) -> Stores:
    """IDIV, MOD and shifts get results for every operand; float MOD and every POW become arithmetic."""
    widest = dtypes.float64 if "float64" in capabilities.arithmetic else dtypes.float32

    def rule(n: Node, src: tuple[Node, ...]) -> Node:
        if n.op is g.POW:
            return _power(src[0], src[1], widest)
        if n.op is g.MOD and n.type.is_float:
            return _float_modulo(src[0], src[1], widest)
        return _SAFE[n.op](*src) if n.op in _SAFE else node(n.op, src, n.arg, n.type)

    return rewrite(stores, rule)


def _divisor(x: Node, y: Node) -> tuple[Node, Node]:
    """Whether x // y is defined, and a divisor that never traps: 1 where y is 0 or the quotient overflows."""
    zero = _make(g.EQ, y, _like(y, 0))
    trap = zero
    if x.type.kind == "i":
        overflow = _make(g.AND, _make(g.EQ, x, _like(x, x.type.min)), _make(g.EQ, y, _like(y, -1)))
        trap = _make(g.OR, zero, overflow)
    return zero, _where(trap, _like(y, 1), y)


def _signs_differ(x: Node, y: Node) -> Node:
    """Whether x is not 0 and of another sign than y; of a rest and its divisor: C rounded the quotient up."""
    negative = [_make(g.LT, v, _like(v, 0)) for v in (x, y)]
    return _make(g.AND, _make(g.NE, x, _like(x, 0)), _make(g.NE, *negative))


def _floor_divide(x: Node, y: Node) -> Node:
    zero, divisor = _divisor(x, y)
    quotient = node(ops.CDIV, (x, divisor), None, x.type)
    if x.type.kind == "i":
        rest = node(ops.CMOD, (x, divisor), None, x.type)
        quotient = _make(g.SUB, quotient, cast(_signs_differ(rest, divisor), x.type))
    return _where(zero, _like(x, 0), quotient)


def _modulo(x: Node, y: Node) -> Node:
    zero, divisor = _divisor(x, y)
    rest = node(ops.CMOD, (x, divisor), None, x.type)
    if x.type.kind == "i":
        rest = _make(g.ADD, rest, _where(_signs_differ(rest, divisor), divisor, _like(x, 0)))
    return _where(zero, _like(x, 0), rest)


# ---- the rest of a division of floats ----------------------------------------------------------------------
_PRECISION: Final = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}  # bits of a significand
_BITS: Final = {dtypes.float32: dtypes.uint32, dtypes.float64: dtypes.uint64}


def _float_modulo(x: Node, y: Node, widest: DType) -> Node:
    """x - floor(x / y) * y, rounded once, while |x / y| < 2**22 at least; a value from 0 to y in any case."""
    wide = widest if _PRECISION[x.type.name] < _PRECISION[widest.name] else x.type
    a, b = (_make(g.ABS, cast(v, wide)) for v in (x, y))
    # a quotient of so many bits times the divisor, or half of it, is exact
    precision = _PRECISION[wide.name]
    spare = precision // 2 if wide is x.type else precision - _PRECISION[x.type.name]
    rest = a
    for scale in (2.0 ** (spare - 1), 1.0):
        divisor = _make(g.MUL, b, _like(b, scale))
        quotient = _make(g.FLOOR, _make(g.DIV, rest, divisor))
        left = rest
        for part in [divisor] if wide is not x.type else _halves(divisor):
            left = _make(g.SUB, left, _make(g.MUL, quotient, part))
        # a quotient that was rounded up to a whole number is one too large
        left = _where(_make(g.LT, left, _like(left, 0)), _make(g.ADD, left, divisor), left)
        rest = _where(_make(g.LT, rest, divisor), rest, left)  # and so for infinite divisors
    rest = _where(_make(g.LE, b, rest), _like(rest, 0), rest)
    across = _make(g.AND, _make(g.NE, rest, _like(rest, 0)), _signs_differ(x, y))
    size = cast(_where(across, _make(g.SUB, b, rest), rest), x.type)
    return _where(_make(g.LT, y, _like(y, 0)), _make(g.NEG, size), size)


def _halves(x: Node) -> tuple[Node, Node]:
    """The upper half of a significand, and what is left."""
    bits = _BITS[x.type]
    low = _PRECISION[x.type.name] - _PRECISION[x.type.name] // 2
    mask = const((1 << 8 * bits.itemsize) - (1 << low), bits)
    upper = node(g.BITCAST, (_make(g.AND, node(g.BITCAST, (x,), None, bits), mask),), None, x.type)
    return upper, _make(g.SUB, x, upper)


def _in_width(x: Node, y: Node) -> tuple[Node, Node]:
    """Whether a shift count is below the width (a negative one is not), and the count made harmless."""
    width = _like(y, x.type.bits)
    inside = _make(g.LT, y, width)
    if y.type.kind == "i":
        inside = _make(g.AND, _make(g.LE, _like(y, 0), y), inside)
    return inside, _where(inside, y, _like(y, 0))


def _shift_left(x: Node, y: Node) -> Node:
    if y.op is ops.CONST and 0 <= y.arg.bits < x.type.bits:
        return _make(g.SHL, x, y)
    inside, count = _in_width(x, y)
    return _where(inside, _make(g.SHL, x, count), _like(x, 0))


def _shift_right(x: Node, y: Node) -> Node:
    if y.op is ops.CONST and 0 <= y.arg.bits < x.type.bits:
        return _make(g.SHR, x, y)
    inside, count = _in_width(x, y)
    beyond = _make(g.SHR, x, _like(x, x.type.bits - 1)) if x.type.kind == "i" else _like(x, 0)
    return _where(inside, _make(g.SHR, x, count), beyond)


# ---- powers ------------------------------------------------------------------------------------------------
def _power(x: Node, y: Node, widest: DType) -> Node:
    if not x.type.is_float:
        return _int_power(x, y)
    # exp(y * log(x)) loses as many bits as the result's exponent has: in float64, float32 is right to an ulp;
    # a device without it is off by 1e-5 of results near the largest
    return cast(_float_power(cast(x, widest), cast(y, widest)), x.type)


def _float_power(x: Node, y: Node) -> Node:
    """C's pow from exp and log, with its special cases."""
    one, zero, infinity = _like(x, 1.0), _like(x, 0.0), _like(x, float("inf"))
    magnitude = _make(g.EXP, _make(g.MUL, y, _make(g.LOG, _make(g.ABS, x))))
    whole = _make(g.EQ, _make(g.FLOOR, y), y)
    half = _make(g.MUL, y, _like(y, 0.5))
    odd = _make(g.AND, whole, _make(g.NE, _make(g.FLOOR, half), half))
    negative = _make(g.OR, _make(g.LT, x, zero), _make(g.LT, _make(g.DIV, one, x), zero))  # -0.0 too
    undefined = _make(g.AND, _make(g.AND, _make(g.LT, x, zero), _make(g.LT, _make(g.ABS, x), infinity)),
                      _make(g.AND, _make(g.NE, _make(g.FLOOR, y), y), _make(g.EQ, y, y)))
    signed = _where(_make(g.AND, negative, odd), _make(g.NEG, magnitude), magnitude)
    result = _where(undefined, _like(x, float("nan")), signed)
    is_one = _make(g.OR, _make(g.EQ, y, zero), _make(g.EQ, x, one))
    minus_one = _make(g.AND, _make(g.EQ, x, _like(x, -1.0)), _make(g.EQ, _make(g.ABS, y), infinity))
    return _where(_make(g.OR, is_one, minus_one), one, result)


def _int_power(x: Node, y: Node) -> Node:
    """Square and multiply over every bit of the exponent; a negative exponent leaves only 1 and -1."""
    bits = y.type.bits - (1 if y.type.kind == "i" else 0)
    result, base = _like(x, 1), x
    for bit in range(bits):
        chosen = _make(g.NE, _make(g.AND, y, _like(y, 1 << bit)), _like(y, 0))
        result = _where(chosen, _make(g.MUL, result, base), result)
        base = _make(g.MUL, base, base)
    if y.type.kind != "i":
        return result
    zero, one = _like(x, 0), _like(x, 1)
    odd = _make(g.NE, _make(g.AND, y, _like(y, 1)), _like(y, 0))
    sign = _where(_make(g.EQ, x, _like(x, -1)), _where(odd, x, one), zero)
    inverse = _where(_make(g.EQ, x, one), x, sign)
    return _where(_make(g.LT, y, _like(y, 0)), inverse, result)


_SAFE: Final[dict[Op, Callable[..., Node]]] = {
    g.IDIV: _floor_divide, g.MOD: _modulo, g.SHL: _shift_left, g.SHR: _shift_right}


# ---- dtypes and ops that a target lacks --------------------------------------------------------------------
def widen(stores: Stores, capabilities: Capabilities) -> Stores:
    """Floats that the target only stores are computed in float32 and rounded after each op."""

    def stored_only(dtype: DType) -> bool:
        return dtype.is_float and dtype.name not in capabilities.arithmetic

    def rule(n: Node, src: tuple[Node, ...]) -> Node:
        narrow = next((s.type for s in (n, *n.src) if stored_only(s.type)), None)
        if narrow is None or n.op not in g.ELEMENTWISE | {ops.REDUCE, ops.SCAN} or n.op.kind == "cast":
            return node(n.op, src, n.arg, n.type)
        wide = tuple([cast(s, dtypes.float32) if s.type is narrow else s for s in src])
        made = node(n.op, wide, n.arg, dtypes.float32 if n.type is narrow else n.type)
        return cast(made, n.type)

    return rewrite(stores, rule)


def _tanh(x: Node) -> Node:
    """1 - 2 / (exp(2x) + 1): saturates without overflow."""
    doubled = _make(g.EXP, _make(g.ADD, x, x))
    return _make(g.SUB, _like(x, 1), _make(g.DIV, _like(x, 2), _make(g.ADD, doubled, _like(x, 1))))


def _dot2(a: Node, x: Node, y: Node) -> Node:
    """Each half of a pair, moved to the upper one and zeros below it, is a float32."""
    shift, mask = _like(x, 16), _like(x, 0xFFFF0000)
    for op, by in ((g.SHL, shift), (g.AND, mask)):
        factors = [node(g.BITCAST, (_make(op, v, by),), None, dtypes.float32) for v in (x, y)]
        a = _make(g.ADD, a, _make(g.MUL, *factors))
    return a


DECOMPOSED: Final[dict[Op, Callable[..., Node]]] = {
    g.EXP: lambda x: _make(g.EXP2, _make(g.MUL, x, _like(x, 1.4426950408889634))),
    g.LOG: lambda x: _make(g.MUL, _make(g.LOG2, x), _like(x, 0.6931471805599453)),
    g.COS: lambda x: _make(g.SIN, _make(g.ADD, x, _like(x, 1.5707963267948966))),
    g.TANH: _tanh,
    g.RECIP: lambda x: _make(g.DIV, _like(x, 1), x),
    g.NEG: lambda x: _make(g.SUB, _like(x, -0.0 if x.type.is_float else 0), x),
    g.ABS: lambda x: _where(_make(g.LE, x, _like(x, 0)), _make(g.SUB, _like(x, 0), x), x),  # of -0.0 is 0.0
    ops.DOT2: _dot2,
    ops.PREFETCH: lambda value, index: value,
}


def decompose(stores: Stores, capabilities: Capabilities) -> Stores:
    """Ops that the renderer does not declare are written in those that it does."""

    def lacks(n: Node) -> bool:
        return n.op in DECOMPOSED and n.op.name not in capabilities.ops

    def rule(n: Node, src: tuple[Node, ...]) -> Node:
        return DECOMPOSED[n.op](*src) if lacks(n) else node(n.op, src, n.arg, n.type)

    while any(map(lacks, toposort(stores))):  # what one is written in may be lacking too
        stores = rewrite(stores, rule)
    return stores
