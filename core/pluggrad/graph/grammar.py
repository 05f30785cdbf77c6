"""The grammar of the graph: which dtypes each elementwise row takes, and the type that each primitive has."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.graph import ops
from pluggrad.graph.host_functions import HOST_FUNCTIONS
from pluggrad.ir.node import Node, Op
from pluggrad.ir.opset import Grammar, Rule, anything, first_complaint
from pluggrad.shape.index import result_shape, view_shape

# the kinds of dtype that a row computes in: 'b' bool, 'i' signed, 'u' unsigned, 'f' float
_KINDS: Final = {
    "f": "RECIP SQRT EXP EXP2 LOG LOG2 SIN COS TANH ERF FLOOR CEIL TRUNC ROUND DIV",
    "iu": "IDIV SHL SHR",
    "biu": "NOT AND OR XOR",
    "iuf": "NEG ABS SUB MOD POW",
    "biuf": "ADD MUL MAX MIN LT LE EQ NE WHERE",
}
OPERAND_KINDS: Final[dict[Op, str]] = {
    ops.GRAPH_OPS[name]: kinds for kinds, names in _KINDS.items() for name in names.split()}


def elementwise_rules(dtype_of: Callable[[Node], DType]) -> dict[Op, Rule]:
    """The dtype rules of the elementwise rows, for a stage that says how to read a node's dtype."""
    def computes(node: Node) -> str:
        operands = [dtype_of(s) for s in node.src[node.op.kind == "ternary":]]
        kinds = OPERAND_KINDS[node.op]
        if any(operand is not operands[0] for operand in operands) or operands[0].kind not in kinds:
            return f"operands of one dtype, of kind {' or '.join(kinds)}"
        if node.op.kind == "ternary" and dtype_of(node.src[0]).kind != "b":
            return "a bool condition"
        result = dtypes.bool_ if node.op.kind == "compare" else operands[0]
        return "" if dtype_of(node) is result else f"a result of {result.name}"

    def reinterprets(node: Node) -> str:
        old, new = dtype_of(node.src[0]), dtype_of(node)
        fits = old.itemsize == new.itemsize and "b" not in (old.kind, new.kind)
        return "" if fits else "two dtypes of equal size, neither bool"

    special = {ops.CAST: anything, ops.BITCAST: reinterprets}
    return {op: special.get(op, computes) for op in sorted(ops.ELEMENTWISE, key=lambda op: op.name)}


# ---------------------------------------------------------------------------------------- shapes and devices


def _same_shape(node: Node) -> str:
    return "" if all(s.shape == node.shape for s in node.src) else f"sources of shape {node.shape}"


def _same_device(node: Node) -> str:
    return "" if all(s.device == node.device for s in node.src) else f"sources on {node.device}"


def _same_dtype(node: Node) -> str:
    return "" if node.src[0].dtype is node.dtype else f"a result of {node.src[0].dtype.name}"


def _reshaped(node: Node) -> tuple[int, ...]:
    return node.arg if math.prod(node.arg) == math.prod(node.src[0].shape) else ()


def _expanded(node: Node) -> tuple[int, ...]:
    old = node.src[0].shape
    fits = len(old) == len(node.arg) and all(o in (1, n) for o, n in zip(old, node.arg))
    return node.arg if fits else ()


def _moved(node: Node) -> tuple[int, ...]:
    return result_shape(node.op.name.lower(), node.arg, node.src[0].shape)


_SHAPES: Final[dict[Op, Callable[[Node], Any]]] = {
    ops.RESHAPE: _reshaped,
    ops.EXPAND: _expanded,
    **dict.fromkeys(ops.MOVEMENT - {ops.RESHAPE, ops.EXPAND}, _moved),
} | dict.fromkeys(
    sorted(ops.REDUCE, key=lambda op: op.name),
    lambda node: tuple([dim for i, dim in enumerate(node.src[0].shape) if i not in node.arg]))


def _derived_shape(node: Node) -> str:
    expected = _SHAPES[node.op](node)
    return "" if expected == node.shape else f"shape {expected} from {node.src[0].shape} with arg {node.arg}"


def _folded(node: Node) -> str:
    rows, shape = node.arg
    fits = node.shape == shape and node.src[0].shape == result_shape("window", rows, shape)
    return "" if fits else f"windows {rows} of shape {shape}"


def _slice_inside(node: Node) -> str:
    inside = len(node.arg) == len(node.src[0].shape) and all(
        start >= 0 and step >= 1 and (size == 0 or start + (size - 1) * step < dim)
        for dim, (start, size, step) in zip(node.src[0].shape, node.arg))
    return "" if inside else f"a range inside {node.src[0].shape}"


def _iota(node: Node) -> str:
    return "" if len(node.shape) == 1 and node.dtype.is_int else "one axis and an integer dtype"


def _random_bits(node: Node) -> str:
    scalars = all(s.shape == () and s.dtype is dtypes.uint32 for s in node.src)
    return "" if scalars and node.dtype is dtypes.uint32 else "0-d uint32 sources and a uint32 result"


def _update(node: Node) -> str:
    base, value = node.src
    fits = node.shape == base.shape and node.dtype is value.dtype
    return "" if fits else "the base's shape and the value's dtype"


def _barrier(node: Node) -> str:
    return "" if node.type is node.src[0].type else "its first source, unchanged"


def _custom_vjp(node: Node) -> str:
    value, call = node.src
    fits = call.op is ops.VJP_CALL and node.type is value.type is call.arg.outputs[node.arg]
    return "" if fits else "an output of a call, unchanged"


def _extern(node: Node) -> str:
    call, outer = node.arg, node.src[0].shape[:-2]
    stacks = [s.dtype is node.dtype and len(s.shape) >= 2 and s.shape[:-2] == outer for s in node.src]
    if not all(stacks) or not node.dtype.is_float:
        return "stacks of matrices of one float dtype, with equal leading axes"
    matrices = [s.shape[-2:] for s in node.src]
    found = HOST_FUNCTIONS[call.function].results(*matrices, **dict(call.attributes))[call.result]
    return "" if node.shape == (*outer, *found) else f"a result of shape {(*outer, *found)}"


def _indexes(node: Node, target: tuple[int, ...]) -> str:
    """Whether src[1] selects along the axis of something of shape `target`."""
    index, axis = node.src[1], node.arg.axis
    others = [(dim, size) for i, (dim, size) in enumerate(zip(target, index.shape)) if i != axis]
    fits = len(target) == len(index.shape) and axis in range(len(target)) and all(d == s for d, s in others)
    return "" if fits and index.dtype.is_int else f"integers of shape {target} but for axis {axis}"


def _gather(node: Node) -> str:
    alike = node.shape == node.src[1].shape
    return _indexes(node, node.src[0].shape) or ("" if alike else "the index's shape")


def _scan(node: Node) -> str:
    name, axis = node.arg
    if node.dtype.kind == "b" or axis not in range(len(node.shape)):
        return "numbers, and one of their axes"
    wide = name in ("MAX", "MIN") or dtypes.accumulator_dtype(node.dtype) is node.dtype
    return "" if wide else "halves combined in float32"


def _tally(node: Node) -> str:
    index = node.src[0]
    if not index.dtype.is_int or not index.shape or node.dtype is not dtypes.int32:
        return "rows of integers, and an int32 result"
    shape = (*index.shape[:-1], index.shape[-1] + node.arg)
    return "" if node.shape == shape else f"shape {shape}"


def _scatter(node: Node) -> str:
    base, index, value = node.src
    target = view_shape(node.arg.view, base.shape)
    if node.arg.mode != "SET" and dtypes.accumulator_dtype(node.dtype) is not node.dtype:
        return "halves combined in float32"
    if node.shape != base.shape or value.shape != index.shape or node.dtype is not value.dtype:
        return "the base's shape, the value's dtype, and a value for each index"
    return _indexes(node, target)


_derived: Final = first_complaint(_derived_shape, _same_dtype, _same_device)
_unchanged: Final = first_complaint(_same_shape, _same_dtype, _same_device)

GRAMMAR: Final = Grammar("graph", {
    **{op: first_complaint(_same_shape, _same_device, rule)
       for op, rule in elementwise_rules(lambda node: node.type.dtype).items()},
    **dict.fromkeys(_SHAPES, _derived),
    ops.SCAN: first_complaint(_same_shape, _same_dtype, _same_device, _scan),
    ops.FOLD: first_complaint(_folded, _same_dtype, _same_device),
    ops.SLICE: first_complaint(_slice_inside, _derived),
    **dict.fromkeys((ops.LEAF, ops.DETACH, ops.CONTIGUOUS), _unchanged),
    ops.CUSTOM_VJP: _custom_vjp,
    ops.BARRIER: _barrier,
    ops.STAND_IN: anything,
    ops.VJP_CALL: anything,
    ops.COPY: first_complaint(_same_shape, _same_dtype),
    ops.EXTERN: first_complaint(_extern, _same_device),
    **dict.fromkeys((ops.CONST, ops.EMPTY, ops.BUFFER, ops.INPUT), anything),
    ops.IOTA: _iota,
    ops.TALLY: first_complaint(_tally, _same_device),
    ops.RANDOM_BITS: first_complaint(_random_bits, _same_device),
    ops.UPDATE: first_complaint(_update, _same_dtype, _same_device),
    ops.GATHER: first_complaint(_gather, _same_dtype, _same_device),
    ops.SCATTER: first_complaint(_scatter, _same_dtype, _same_device),
})
