"""Elementwise ops as expressions: tables of what is an operator or a function, and the few that are more."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.errors import CompileError
from pluggrad.render.arithmetic import Arithmetic
from pluggrad.render.casts import bitcast, cast
from pluggrad.render.source import Value

# ops that are one operator, by kind of the dtype; integers wrap
_OPERATOR: Final[dict[str, dict[str, str]]] = {
    "f": {"ADD": "+", "SUB": "-", "MUL": "*", "DIV": "/"},
    "i": {"AND": "&", "OR": "|", "XOR": "^", "SHR": ">>", "CDIV": "/", "CMOD": "%"},
    "b": {"ADD": "|", "MUL": "&", "AND": "&", "OR": "|", "XOR": "^", "MAX": "|", "MIN": "&"},
}
_OPERATOR["u"] = _OPERATOR["i"]
WRAPPING: Final = {"ADD": "+", "SUB": "-", "MUL": "*", "SHL": "<<"}
_SHIFTS: Final = frozenset({"SHL", "SHR"})
_COMPARE: Final = {"LT": "<", "LE": "<=", "EQ": "==", "NE": "!="}
_EXTREME: Final = {"MAX": ">", "MIN": "<"}

RENDERED_OPS: Final = frozenset({
    "NEG", "ABS", "RECIP", "NOT", "SQRT", "EXP", "EXP2", "LOG", "LOG2", "SIN", "COS", "TANH", "ERF",
    "FLOOR", "CEIL", "TRUNC", "ROUND", "ADD", "SUB", "MUL", "DIV", "MAX", "MIN", "AND", "OR", "XOR",
    "SHL", "SHR", "LT", "LE", "EQ", "NE", "WHERE", "CAST", "BITCAST",
})


def apply(a: Arithmetic, op: str, source: DType, target: DType, values: Sequence[Value],
          wraps: bool = True) -> Value:
    """Any elementwise op; `source` is the dtype of the last operand, `target` that of the result.

    wraps: an integer result may have to wrap.
    """
    if op == "WHERE":
        condition, yes, no = values
        # branches of masks have to be as wide as each other
        return _masks(a, _blend, condition, yes, no) if target.kind == "b" else a.select(condition, yes, no)
    if op == "CAST":
        return cast(a, values[0], source, target)
    if op == "BITCAST":
        return bitcast(a, values[0], source, target)
    if a.dialect.held(source) is not source:
        raise _missing(op, source)
    if len(values) == 1:
        return unary(a, op, source, values[0])
    x, y = values
    return binary(a, op, source, x, y, wraps)


def unary(a: Arithmetic, op: str, dtype: DType, x: Value) -> Value:
    """An op of one operand, which keeps its dtype."""
    function = _UNARY[dtype.kind].get(op)
    if function is not None:
        return function(a, x)
    if dtype.kind == "f" and op in a.dialect.functions:
        return _function(a, a.dialect.functions[op], dtype, x)
    raise _missing(op, dtype)


def binary(a: Arithmetic, op: str, dtype: DType, x: Value, y: Value, wraps: bool = True) -> Value:
    """An op of two operands of one dtype, which is also the result's save for comparisons."""
    symbol = _OPERATOR[dtype.kind].get(op)
    if op in _SHIFTS and x.is_literal:
        x = a.dialect.convert(x, dtype, a.out)  # which alone decides how wide a shift is
    if dtype.kind == "b":
        if symbol:
            return _masks(a, lambda a, x, y: a.infix(symbol, x, y), x, y)
        if op in _COMPARE:
            return a.compare(_COMPARE[op], x, y) if x.lanes == 1 else _masks(a, _COMPARE_MASKS[op], x, y)
        raise _missing(op, dtype)
    if symbol:
        return a.infix(symbol, x, y)
    if op in _COMPARE:
        return a.compare(_COMPARE[op], x, y)
    if op in _EXTREME:
        return _extreme(a, _EXTREME[op], dtype, a.let(x), a.let(y))
    if dtype.is_int and op in WRAPPING:
        return a.wrapping(WRAPPING[op], x, y) if wraps else a.infix(WRAPPING[op], x, y)
    raise _missing(op, dtype)


def _function(a: Arithmetic, functions: Mapping[str, str], dtype: DType, x: Value) -> Value:
    if dtype.name in functions:
        return a.call(functions[dtype.name], [x], dtype)
    wide = a.convert(x, dtypes.float32)  # a half in a language without functions of halves
    return a.convert(a.call(functions["float32"], [wide], dtypes.float32), dtype)


def _extreme(a: Arithmetic, symbol: str, dtype: DType, x: Value, y: Value) -> Value:
    better = a.compare(symbol, x, y)
    if dtype.is_float:  # a NaN on the right is chosen as it is, being not better than anything
        better = a.infix("|", better, a.compare("!=", x, x))
    return a.select(better, x, y)


def _negate(a: Arithmetic, x: Value) -> Value:
    return a.wrapping("-", a.constant(0, x.dtype, x.lanes), x)


def _absolute(a: Arithmetic, x: Value) -> Value:
    x = a.let(x)
    return a.select(a.compare("<", x, 0), _negate(a, x), x)


def _complement(a: Arithmetic, x: Value) -> Value:
    inverted = a.prefix("~", x)
    # a narrow scalar was promoted to int
    return a.dialect.convert(inverted, x.dtype, a.out) if x.lanes == 1 and x.dtype.itemsize < 4 else inverted


def _not(a: Arithmetic, x: Value) -> Value:
    return a.prefix("!" if x.lanes == 1 else "~", x)


def _reciprocal(a: Arithmetic, x: Value) -> Value:
    return a.infix("/", a.constant(1.0, x.dtype, x.lanes), x)


_UNARY: Final[dict[str, dict[str, Callable[[Arithmetic, Value], Value]]]] = {
    "f": {"NEG": lambda a, x: a.prefix("-", x), "RECIP": _reciprocal},
    "i": {"NEG": _negate, "ABS": _absolute, "NOT": _complement},
    "u": {"NEG": _negate, "ABS": lambda a, x: x, "NOT": _complement},
    "b": {"NOT": _not},
}


# ---- bools of lanes: masks, whose widths may differ --------------------------------------------------------
def _masks(a: Arithmetic, combine: Callable[..., Value], *masks: Value) -> Value:
    """Combine masks in the width of the widest; scalars are bools, which have one width."""
    widest = max(masks, key=lambda mask: mask.dtype.itemsize).dtype
    return combine(a, *[a.convert(mask, widest) if mask.lanes > 1 else mask for mask in masks])


def _blend(a: Arithmetic, condition: Value, yes: Value, no: Value) -> Value:
    return a.select(condition, yes, no)


_COMPARE_MASKS: Final[dict[str, Callable[[Arithmetic, Value, Value], Value]]] = {
    "LT": lambda a, x, y: a.infix("&", a.prefix("~", x), y),  # only false is below true
    "LE": lambda a, x, y: a.infix("|", a.prefix("~", x), y),
    "EQ": lambda a, x, y: a.prefix("~", a.infix("^", x, y)),
    "NE": lambda a, x, y: a.infix("^", x, y),
}


def _missing(op: str, dtype: DType) -> CompileError:
    return CompileError(f"{op} of {dtype.name} has no C form; lowering widens or decomposes it")
