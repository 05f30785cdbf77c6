"""One IR sequence for each elementwise op, in any number of lanes. What an op means stands in graph/ops.py.

`contract` lets a multiplication and an addition fuse. No flag reorders sums, drops NaN or the sign of a zero.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from pluggrad.plugin_api import CompileError, DType
from pluggrad_cpu import math, shuffle
from pluggrad_cpu.casts import cast
from pluggrad_cpu.emit import REGISTER, Emitter, float_literal, intrinsic, splat, vector
from pluggrad_cpu.register import Register

# binary ops that are one instruction, by kind of the dtype
_INSTRUCTION: Final[dict[str, dict[str, str]]] = {
    "f": {"ADD": "fadd contract", "SUB": "fsub contract", "MUL": "fmul contract", "DIV": "fdiv"},
    "i": {"ADD": "add", "SUB": "sub", "MUL": "mul", "AND": "and", "OR": "or", "XOR": "xor", "SHL": "shl",
          "SHR": "ashr", "CDIV": "sdiv", "CMOD": "srem"},
    "u": {"ADD": "add", "SUB": "sub", "MUL": "mul", "AND": "and", "OR": "or", "XOR": "xor", "SHL": "shl",
          "SHR": "lshr", "CDIV": "udiv", "CMOD": "urem"},
    "b": {"ADD": "or", "MUL": "and", "AND": "and", "OR": "or", "XOR": "xor", "MAX": "or", "MIN": "and"},
}
_COMPARE: Final[dict[str, dict[str, str]]] = {
    "f": {"LT": "fcmp olt", "LE": "fcmp ole", "EQ": "fcmp oeq", "NE": "fcmp une"},
    "i": {"LT": "icmp slt", "LE": "icmp sle", "EQ": "icmp eq", "NE": "icmp ne"},
    "u": {"LT": "icmp ult", "LE": "icmp ule", "EQ": "icmp eq", "NE": "icmp ne"},
}
_COMPARE["b"] = _COMPARE["u"]
_TO_INTEGER: Final = {"FLOOR": "floor", "CEIL": "ceil", "TRUNC": "trunc", "ROUND": "roundeven"}
_DOT2_LANES: Final = 16  # of the widest register

RENDERED_OPS: Final = frozenset({
    "NEG", "ABS", "RECIP", "NOT", "ADD", "SUB", "MUL", "DIV", "MAX", "MIN", "AND", "OR", "XOR", "SHL", "SHR",
    "LT", "LE", "EQ", "NE", "WHERE", "CAST", "BITCAST", "SQRT", *_TO_INTEGER, *math.FUNCTIONS,
})


def unary(out: Emitter, op: str, dtype: DType, lanes: int, value: str) -> str:
    """An op of one source that keeps its dtype."""
    kind, element = dtype.kind, REGISTER[dtype.name]
    source = vector(element, lanes)
    if op == "NOT":
        return out.op(f"xor {source} {value}, {splat('true' if kind == 'b' else '-1', element, lanes)}")
    if kind in "iu":
        if op == "NEG":
            return out.op(f"sub {source} {splat('0', element, lanes)}, {value}")
        if op == "ABS":
            return value if kind == "u" else out.call(
                source, intrinsic("abs", element, lanes), [(source, value), ("i1", "false")])
    if kind == "f" and dtype.itemsize >= 4:
        return _float_unary(out, op, element, lanes, value)
    raise _missing(op, dtype)


def _float_unary(out: Emitter, op: str, element: str, lanes: int, value: str) -> str:
    source = vector(element, lanes)
    if op == "NEG":
        return out.op(f"fneg {source} {value}")
    if op == "RECIP":
        return out.op(f"fdiv {source} {splat(float_literal(1.0, element), element, lanes)}, {value}")
    if op in math.FUNCTIONS:
        return out.call(source, math.require(out, op, element, lanes), [(source, value)])
    if op in _TO_INTEGER and not out.machine.rounding:
        return Register(out, element, lanes).to_integer(_TO_INTEGER[op], value)
    name = "fabs" if op == "ABS" else "sqrt" if op == "SQRT" else _TO_INTEGER[op]
    return out.call(source, intrinsic(name, element, lanes), [(source, value)])


def binary(out: Emitter, op: str, dtype: DType, lanes: int, a: str, b: str) -> str:
    """An op of two sources of one dtype, which is also the result's save for comparisons."""
    kind, source = dtype.kind, vector(REGISTER[dtype.name], lanes)
    if kind == "f" and dtype.itemsize < 4:
        raise _missing(op, dtype)
    instruction = _INSTRUCTION[kind].get(op) or _COMPARE[kind].get(op)
    if instruction:
        return out.op(f"{instruction} {source} {a}, {b}")
    if op not in ("MAX", "MIN"):
        raise _missing(op, dtype)
    if kind == "f":
        return _extreme(out, op, source, lanes, a, b)
    name = ("s" if kind == "i" else "u") + op.lower()
    return out.call(source, intrinsic(name, REGISTER[dtype.name], lanes), [(source, a), (source, b)])


def _extreme(out: Emitter, op: str, source: str, lanes: int, a: str, b: str) -> str:
    # two instructions on x86, an add under a mask; llvm.maximum orders zeros as well, in five
    test = out.op(f"fcmp {'ogt' if op == 'MAX' else 'olt'} {source} {a}, {b}")
    chosen = out.select(test, lanes, source, a, b)
    nan = out.op(f"fadd {source} {a}, {b}")
    return out.select(out.op(f"fcmp uno {source} {a}, {b}"), lanes, source, nan, chosen)


def bitcast(out: Emitter, value: str, source: DType, target: DType, lanes: int) -> str:
    """The same bits as another dtype of equal size."""
    old, new = REGISTER[source.name], REGISTER[target.name]
    if old == new:
        return value
    if source.kind == "b":
        return out.op(f"zext {vector('i1', lanes)} {value} to {vector(new, lanes)}")
    if target.kind == "b":
        return out.op(f"icmp ne {vector(old, lanes)} {value}, {splat('0', old, lanes)}")
    return out.op(f"bitcast {vector(old, lanes)} {value} to {vector(new, lanes)}")


def apply(out: Emitter, op: str, source: DType, target: DType, lanes: int, values: Sequence[str]) -> str:
    """Any elementwise op; `source` is the dtype of the (last) source, `target` that of the result."""
    if op == "WHERE":
        return out.select(values[0], lanes, vector(REGISTER[target.name], lanes), values[1], values[2])
    if op == "CAST":
        return cast(out, values[0], source, target, lanes)
    if op == "BITCAST":
        return bitcast(out, values[0], source, target, lanes)
    if op == "DOT2":
        return _dot2(out, lanes, *values)
    one_or_two: Callable[..., str] = unary if len(values) == 1 else binary
    return one_or_two(out, op, source, lanes, *values)


def _dot2(out: Emitter, lanes: int, total: str, x: str, y: str) -> str:
    """One machine register at a time; what does not fill one is spread over the first lanes of it."""
    padded = max(4, 1 << (lanes - 1).bit_length()) if lanes else 4
    values = [_in_lanes(out, element, lanes, value, padded)
              for element, value in (("float", total), ("i32", x), ("i32", y))]
    size = min(padded, _DOT2_LANES)
    sums, ints, pairs = vector("float", size), vector("i32", size), vector("bfloat", 2 * size)
    parts = []
    for start in range(0, padded, size):
        a, *cut = [shuffle.part(out, element, padded, value, start, size)
                   for element, value in zip(("float", "i32", "i32"), values, strict=True)]
        operands = [(pairs, out.op(f"bitcast {ints} {value} to {pairs}")) for value in cut]
        parts.append(out.call(sums, f"llvm.x86.avx512bf16.dpbf16ps.{32 * size}", [(sums, a), *operands]))
    result = shuffle.join(out, "float", size, parts)
    if not lanes:
        return out.op(f"extractelement {vector('float', padded)} {result}, i64 0")
    return shuffle.part(out, "float", padded, result, 0, lanes)


def _in_lanes(out: Emitter, element: str, lanes: int, value: str, padded: int) -> str:
    """A value in the first of `padded` lanes."""
    if not lanes:
        return out.splat(value, element, padded)
    if lanes == padded:
        return value
    return shuffle.shuffle(out, element, lanes, value, "poison", [*range(lanes), *[None] * (padded - lanes)])


def _missing(op: str, dtype: DType) -> CompileError:
    return CompileError(f"{op} of {dtype.name} has no machine code; lowering widens or decomposes it")
