"""The primitives of the graph, a row each. Meaning is written here once and holds on every device.

Elementwise rows are shared with the kernel stage, which computes exactly these on scalars or vectors of
lanes. Floats follow IEEE 754 with NaN and infinity kept; multiply-add may contract. Integers wrap.
"""
from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

from pluggrad.ir.node import Op

GRAPH_OPS: Final[dict[str, Op]] = {}


def _row(name: str, kind: str, arity: int, doc: str) -> Op:
    return GRAPH_OPS.setdefault(name, Op(name, kind, arity, doc))


# elementwise, one source
NEG = _row("NEG", "unary", 1, "-x; integers wrap")
ABS = _row("ABS", "unary", 1, "|x|; the most negative integer stays; gradient 0 at 0")
RECIP = _row("RECIP", "unary", 1, "1/x, floats; 1/0 is inf with the sign of the zero")
SQRT = _row("SQRT", "unary", 1, "square root, floats; NaN below zero")
EXP = _row("EXP", "unary", 1, "e**x, floats")
EXP2 = _row("EXP2", "unary", 1, "2**x, floats")
LOG = _row("LOG", "unary", 1, "natural logarithm, floats; -inf at 0, NaN below")
LOG2 = _row("LOG2", "unary", 1, "binary logarithm, floats; -inf at 0, NaN below")
SIN = _row("SIN", "unary", 1, "sine of radians, floats; NaN at infinity")
COS = _row("COS", "unary", 1, "cosine of radians, floats; NaN at infinity")
TANH = _row("TANH", "unary", 1, "hyperbolic tangent, floats")
ERF = _row("ERF", "unary", 1, "error function, floats")
FLOOR = _row("FLOOR", "unary", 1, "round down, floats")
CEIL = _row("CEIL", "unary", 1, "round up, floats")
TRUNC = _row("TRUNC", "unary", 1, "round toward zero, floats")
ROUND = _row("ROUND", "unary", 1, "round to nearest, ties to even, floats")
NOT = _row("NOT", "unary", 1, "bitwise complement of integers, logical of bool")
# elementwise, two sources of one dtype
ADD = _row("ADD", "binary", 2, "x+y; of bools: or")
SUB = _row("SUB", "binary", 2, "x-y; integers wrap")
MUL = _row("MUL", "binary", 2, "x*y; integers wrap; of bools: and")
DIV = _row("DIV", "binary", 2, "x/y, floats")
IDIV = _row("IDIV", "binary", 2, "integers: floor(x/y); 0 where y is 0; the most negative // -1 wraps")
MOD = _row("MOD", "binary", 2, "x - floor(x/y)*y, the sign that of y; where y is 0: 0 or, of floats, NaN; of "
           "floats rounded once, while |x/y| is below 2**22 at least")
POW = _row("POW", "binary", 2, "x**y, floats as C's pow; integers by repeated squaring, 0 for a negative "
           "exponent unless |x| is 1")
MAX = _row("MAX", "binary", 2, "larger; NaN if either is NaN; gradient split evenly between equals")
MIN = _row("MIN", "binary", 2, "smaller; NaN if either is NaN; gradient split evenly between equals")
AND = _row("AND", "binary", 2, "bitwise and, integers and bool")
OR = _row("OR", "binary", 2, "bitwise or, integers and bool")
XOR = _row("XOR", "binary", 2, "bitwise exclusive or, integers and bool")
SHL = _row("SHL", "binary", 2, "x << y, integers; 0 where y is negative or at least the width")
SHR = _row("SHR", "binary", 2, "x >> y, arithmetic for signed; 0 or the sign where y is negative or at least "
           "the width")
# comparisons: two sources of one dtype, result bool
LT = _row("LT", "compare", 2, "x < y; false if either is NaN")
LE = _row("LE", "compare", 2, "x <= y; false if either is NaN")
EQ = _row("EQ", "compare", 2, "x == y; false if either is NaN")
NE = _row("NE", "compare", 2, "x != y; true if either is NaN")
# elementwise, other
WHERE = _row("WHERE", "ternary", 3, "condition (bool), then two sources of one dtype")
CAST = _row("CAST", "cast", 1, "float to int saturates, NaN gives 0; int to int wraps; bool: x != 0")
BITCAST = _row("BITCAST", "cast", 1, "the same bits as another dtype of equal size")

# leaves; the Scalar of a CONST (graph/scalar.py) becomes a run-time value of kernels unless it is special
CONST = _row("CONST", "leaf", 0, "one value, any shape; arg: Scalar")
EMPTY = _row("EMPTY", "leaf", 0, "memory with anything in it, the base of writes that cover it; arg: a "
             "number that tells it from others")
IOTA = _row("IOTA", "leaf", 0, "0, 1, 2, ... along its single axis (integers)")
BUFFER = _row("BUFFER", "leaf", 0, "stored data; arg: a version of a storage (runtime)")
STAND_IN = _row("STAND_IN", "leaf", 0, "an element of a batch, or what a call is traced with, while a "
                "function is transformed: it has no value; arg: its identity")
INPUT = _row("INPUT", "leaf", 0, "slot `arg` of a normalized graph, bound to storage at each run")
# identity and barriers: shape and dtype of the source
LEAF = _row("LEAF", "identity", 1, "a tensor that the user made; arg: its identity, which collects gradients")
DETACH = _row("DETACH", "identity", 1, "the same value; gradients stop here")
CONTIGUOUS = _row("CONTIGUOUS", "identity", 1, "the same value in memory of its own, in row-major order")
CUSTOM_VJP = _row("CUSTOM_VJP", "identity", 2, "src (x, call): x, an output of a call whose gradient has a "
                  "rule of its own and goes to the call; arg: which output")
BARRIER = _row("BARRIER", "identity", 2, "src (x, after): x, a node of its own: what is computed from it is "
               "not merged with what is computed from x, and begins once `after` is computed")
VJP_CALL = _row("VJP_CALL", "call", -1, "no value: where the gradients of a call's outputs meet; src "
                "(*inputs, *saved), arg: VjpCall (graph/custom.py)")
COPY = _row("COPY", "copy", 1, "the same value on the device of the node's type")
EXTERN = _row("EXTERN", "extern", -1, "one result of a function that the host computes, of stacks of "
              "matrices (graph/host_functions.py); arg: HostCall")
# reductions over `arg` = a sorted tuple of axes, which disappear
SUM = _row("SUM", "reduce", 1, "sum; 0 of nothing; half and bfloat16 add up in float32; one order per target")
PROD = _row("PROD", "reduce", 1, "product; 1 of nothing")
RMAX = _row("RMAX", "reduce", 1, "largest; NaN if any is NaN; of nothing: the dtype's lowest (refused at the "
            "door); gradient split evenly between equals")
RMIN = _row("RMIN", "reduce", 1, "smallest; NaN if any is NaN; gradient split evenly between equals")
# running reductions along one axis, which stays
SCAN = _row("SCAN", "scan", 1, "arg: Scan. Element i along the axis combines the source's elements 0 to i; "
            "NaN is kept; long axes in blocks, in an order that the shape decides; of equal extremes the "
            "first gets the gradient")
# movement: pure index functions
RESHAPE = _row("RESHAPE", "movement", 1, "row-major order kept; arg: new shape")
PERMUTE = _row("PERMUTE", "movement", 1, "axis i of the result is axis arg[i] of the source")
EXPAND = _row("EXPAND", "movement", 1, "axes of size 1 repeated; arg: new shape, same rank")
SLICE = _row("SLICE", "movement", 1, "arg: (start, size, step) per axis, step >= 1")
FLIP = _row("FLIP", "movement", 1, "arg: sorted axes to reverse")
PAD = _row("PAD", "movement", 1, "zeros around; arg: (before, after) per axis")
WINDOW = _row("WINDOW", "movement", 1, "sliding windows; arg: (axis, size, stride, dilation) rows. Element o "
              "along an axis and k along the new axis appended for its row is the source's o * stride + k * "
              "dilation")
SKEW = _row("SKEW", "movement", 1, "arg: (axis, by, step, offset, size) rows. Element i along `axis`, now of "
            "`size`, where axis `by` is at j, is the source's i - j * step + offset; 0 outside of it")
# selecting; an index counts from the end where it is negative
GATHER = _row("GATHER", "gather", 2, "src (x, index) of one rank, arg: Gather. Element j is x at j with "
              "index[j] along the axis; other axes are of equal sizes. Out of range: the nearest element, "
              "and reported")
# sliding windows back
FOLD = _row("FOLD", "fold", 1, "the adjoint of WINDOW: every element is the sum over the windows that it "
            "lies in; arg: (rows of the WINDOW, shape that it was taken from)")
# counting
TALLY = _row("TALLY", "tally", 1, "int32, arg: size. Of each row (the last axis) of integers in 0..size-1: "
             "how many earlier ones in it are equal to each, then how many there are of 0, 1, ... size-1")
# random: two uint32 key sources and a uint32 pair counter, all 0-d
RANDOM_BITS = _row("RANDOM_BITS", "random", 3, "uint32 bits by threefry2x32 with key (src0, src1): element i "
                   "(row-major) is the xor of both words of the block cipher at the 64-bit counter "
                   "src2 * 2**32 + i")
# writing
UPDATE = _row("UPDATE", "update", 2, "base with `value` written at a basic view; arg: the view as movement "
              "steps ((op name, arg), ...) from base to value's shape; pure: a new version")
SCATTER = _row("SCATTER", "update", 3, "src (base, index, value), arg: Scatter. Base with each value[j] "
               "written into its view at j with index[j] along the axis, or combined with what is there, one "
               "j after another in row-major order and rounded each time (halves combine as float32 only). "
               "Out of range: nothing, and reported")


class Check(NamedTuple):
    """What errors call an op whose indices are checked, and the axis that they select along.

    axis: None where the indices are labels, none of which counts from the end.
    """

    op: str
    axis: int | None


class Gather(NamedTuple):
    """check: None where every index is known to be in range. unique: none occurs twice along the axis."""

    axis: int
    check: Check | None
    unique: bool = False


class HostCall(NamedTuple):
    """attributes: (name, value) of what is no tensor. result: which of the results; a call computes them all.
    """

    function: str
    attributes: tuple[tuple[str, Any], ...]
    result: int


Mode = Literal["SET", "ADD", "MUL", "MAX", "MIN"]


Running = Literal["ADD", "MUL", "MAX", "MIN"]


class Scan(NamedTuple):
    """name: of the binary row that combines. No bools, and halves are added or multiplied in float32 only."""

    name: Running
    axis: int


class Scatter(NamedTuple):
    """view: movement steps from the base to what is indexed. mode: SET replaces; a name of a binary row
    combines. check and unique as of `Gather`."""

    axis: int
    mode: Mode
    view: tuple[tuple[str, Any], ...]
    check: Check | None
    unique: bool = False


APART: Final = frozenset({COPY, EXTERN})  # what no kernel computes
WRITES: Final = frozenset({UPDATE, SCATTER})  # a new version of src[0], over the shape of src[1]
_ELEMENTWISE_KINDS: Final = ("unary", "binary", "compare", "ternary", "cast")
ELEMENTWISE: Final = frozenset(op for op in GRAPH_OPS.values() if op.kind in _ELEMENTWISE_KINDS)
REDUCE: Final = frozenset(op for op in GRAPH_OPS.values() if op.kind == "reduce")
RUNNING: Final = frozenset({SCAN, TALLY})  # along an axis, one element after another
PADDING: Final = frozenset({PAD, SKEW})  # movement that puts zeros around
MOVEMENT: Final = frozenset(op for op in GRAPH_OPS.values() if op.kind == "movement")
