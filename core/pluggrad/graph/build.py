"""Checked constructors: the door of the graph. Shapes, dtypes and devices are checked here and nowhere later.

Each returns an interned node. Folding is limited to what is exact: movement of movement, casts to the same
dtype, movement of constants.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.errors import DTypeError, MixedDevices, ShapeError, TensorIndexError
from pluggrad.graph import ops
from pluggrad.graph.host_functions import HOST_FUNCTIONS
from pluggrad.graph.scalar import HostRead, scalar
from pluggrad.graph.types import tensor_type
from pluggrad.ir.node import Node, Op, node
from pluggrad.shape.broadcast import broadcast_shapes, check_axes, check_axis, check_shape, resolve_reshape
from pluggrad.shape.dims import Shape
from pluggrad.shape.index import result_shape
from pluggrad.target import DeviceId

_FLOAT_ONLY = frozenset({
    ops.RECIP, ops.SQRT, ops.EXP, ops.EXP2, ops.LOG, ops.LOG2, ops.SIN, ops.COS, ops.TANH, ops.ERF,
    ops.FLOOR, ops.CEIL, ops.TRUNC, ops.ROUND, ops.DIV})
_INT_ONLY = frozenset({ops.IDIV, ops.SHL, ops.SHR})
_INT_OR_BOOL = frozenset({ops.AND, ops.OR, ops.XOR, ops.NOT})
_NOT_BOOL = frozenset({ops.NEG, ops.SUB, ops.ABS, ops.MOD, ops.POW})


def const(value: dtypes.Scalar | HostRead, dtype: DType, device: DeviceId, shape: Shape = (), *,
          fixed: bool = False) -> Node:
    """`value` everywhere in `shape`. `fixed` makes it part of the code instead of a run-time value."""
    number = scalar(value, dtype)
    if fixed:
        number = number._replace(fixed=True)
    return node(ops.CONST, (), number, tensor_type(shape, dtype, device))


def iota(n: int, dtype: DType, device: DeviceId) -> Node:
    """0 .. n-1 as a 1-d integer node."""
    if not dtype.is_int:
        raise DTypeError(op="arange", expected="an integer dtype inside the graph", got=dtype.name)
    return node(ops.IOTA, (), None, tensor_type((n,), dtype, device))


def leaf(x: Node, identity: object) -> Node:
    """`x` as a tensor of its own: gradients are collected per identity."""
    return node(ops.LEAF, (x,), identity, x.type)


def detach(x: Node) -> Node:
    """`x`, through which no gradient flows."""
    return x if x.op is ops.DETACH else node(ops.DETACH, (x,), None, x.type)


def barrier(x: Node, after: Node) -> Node:
    """`x` as a node of its own, from which nothing is computed before `after` is."""
    return node(ops.BARRIER, (x, after), None, x.type)


def contiguous(x: Node) -> Node:
    """`x` in memory of its own."""
    return x if x.op in (ops.CONTIGUOUS, ops.BUFFER) else node(ops.CONTIGUOUS, (x,), None, x.type)


def copy(x: Node, device: DeviceId) -> Node:
    """`x` on another device."""
    if x.op is ops.CONST:
        return node(ops.CONST, (), x.arg, tensor_type(x.shape, x.dtype, device))
    return x if x.device == device else node(ops.COPY, (x,), None, tensor_type(x.shape, x.dtype, device))


def extern(function: str, *sources: Node, **attributes: Any) -> tuple[Node, ...]:
    """The results of a host function of stacks of matrices: of one float dtype, with equal leading axes."""
    call = ops.HostCall(function, tuple(attributes.items()), 0)
    device, kind = same_device(function, *sources), sources[0].type
    outer = kind.shape[:-2]
    found = HOST_FUNCTIONS[function].results(*[x.shape[-2:] for x in sources], **attributes)
    return tuple([node(ops.EXTERN, sources, call._replace(result=i),
                       tensor_type((*outer, *shape), kind.dtype, device)) for i, shape in enumerate(found)])


def results_of(n: Node) -> tuple[Node, ...]:
    """All results of the call that the EXTERN `n` is one of."""
    return extern(n.arg.function, *n.src, **dict(n.arg.attributes))


def cast(x: Node, dtype: DType) -> Node:
    """`x` converted to `dtype`, by the rules of the op CAST."""
    if x.dtype is dtype:
        return x
    if x.op is ops.CONST and x.arg.source is None:
        return const(x.arg.python, dtype, x.device, x.shape)
    return node(ops.CAST, (x,), None, tensor_type(x.shape, dtype, x.device))


def bitcast(x: Node, dtype: DType) -> Node:
    """The bits of `x` read as `dtype`, which must be as wide; DTypeError otherwise."""
    if x.dtype is dtype:
        return x
    if x.dtype.itemsize != dtype.itemsize or "b" in (x.dtype.kind, dtype.kind):
        raise DTypeError(op="bitcast", expected=f"a dtype of {x.dtype.itemsize} bytes, not bool",
                         got=dtype.name)
    return node(ops.BITCAST, (x,), None, tensor_type(x.shape, dtype, x.device))


# ---- elementwise -------------------------------------------------------------------------------------------
def _check_dtype(op: Op, dtype: DType) -> None:
    if op in _FLOAT_ONLY and not dtype.is_float:
        raise DTypeError(op=op.name.lower(), expected="a float dtype", got=dtype.name)
    if op in _INT_ONLY and not dtype.is_int:
        raise DTypeError(op=op.name.lower(), expected="an integer dtype", got=dtype.name)
    if op in _INT_OR_BOOL and dtype.is_float:
        raise DTypeError(op=op.name.lower(), expected="an integer or bool dtype", got=dtype.name)
    if op in _NOT_BOOL and dtype.kind == "b":
        raise DTypeError(op=op.name.lower(), expected="a number dtype", got="bool", hint="cast first")


def same_device(op: str, *nodes: Node) -> DeviceId:
    """The one device of all operands; MixedDevices naming both and the fix."""
    device: DeviceId = nodes[0].type.device
    for other in nodes[1:]:
        if other.type.device is not device and other.type.device != device:
            raise MixedDevices(op=op, expected="operands on one device",
                               got=f"{device} and {other.type.device}",
                               hint=f"Move one of them: x.to('{device}')")
    return device


def broadcast_to(x: Node, shape: Shape, op: str = "expand") -> Node:
    """`x` expanded to `shape` by NumPy's rule."""
    before = x.type.shape
    if before == shape:
        return x
    if broadcast_shapes(op, before, shape) != shape:
        raise ShapeError(op=op, expected=f"a shape that broadcasts to {shape}", got=str(before))
    if x.op is ops.CONST:
        return node(ops.CONST, (), x.arg, tensor_type(shape, x.dtype, x.device))
    if len(before) < len(shape):
        x = reshaped(x, (1,) * (len(shape) - len(before)) + before)
        if x.type.shape == shape:
            return x
    return _moved(ops.EXPAND, x.src[0] if x.op is ops.EXPAND else x, shape, shape)


def unary(op: Op, x: Node) -> Node:
    """`op x`; DTypeError where the op does not take the dtype."""
    _check_dtype(op, x.type.dtype)
    return node(op, (x,), None, x.type)


def binary(op: Op, x: Node, y: Node) -> Node:
    """`x op y`, promoted and broadcast; compare rows give bool."""
    if x.type is not y.type:
        x, y = _unify(op.name.lower(), x, y)
    dtype = x.type.dtype
    _check_dtype(op, dtype)
    kind = x.type if op.kind == "binary" else tensor_type(x.type.shape, dtypes.bool_, x.type.device)
    return node(op, (x, y), None, kind)


def _unify(op: str, x: Node, y: Node) -> tuple[Node, Node]:
    same_device(op, x, y)
    if x.type.dtype is not y.type.dtype:
        dtype = dtypes.promote(x.dtype, y.dtype)
        x, y = cast(x, dtype), cast(y, dtype)
    shape = broadcast_shapes(op, x.type.shape, y.type.shape)
    return broadcast_to(x, shape, op), broadcast_to(y, shape, op)


def where(condition: Node, x: Node, y: Node) -> Node:
    """`x` where the bool `condition` holds, else `y`; promoted and broadcast."""
    if condition.dtype is not dtypes.bool_:
        raise DTypeError(op="where", expected="a bool condition", got=condition.dtype.name,
                         hint="compare with != 0")
    same_device("where", condition, x, y)
    dtype = dtypes.promote(x.dtype, y.dtype)
    shape = broadcast_shapes("where", condition.shape, x.shape, y.shape)
    sources = (broadcast_to(condition, shape, "where"), broadcast_to(cast(x, dtype), shape, "where"),
               broadcast_to(cast(y, dtype), shape, "where"))
    return node(ops.WHERE, sources, None, tensor_type(shape, dtype, x.device))


# ---- reductions --------------------------------------------------------------------------------------------
_REDUCTIONS: Final = {ops.SUM: "sum", ops.PROD: "prod", ops.RMAX: "max", ops.RMIN: "min"}


def reduce(op: Op, x: Node, axes: object = None, name: str = "") -> Node:
    """Reduce over `axes` (None: all), which disappear. No dtype is widened here: cast first.

    name: what errors call it, if not by the op.
    """
    name = name or _REDUCTIONS[op]
    checked = check_axes(name, axes, len(x.shape))
    if not checked:
        return x
    shape = () if axes is None else tuple([dim for i, dim in enumerate(x.shape) if i not in checked])
    if op in (ops.RMAX, ops.RMIN) and 0 in [x.shape[i] for i in checked] and math.prod(shape) > 0:
        raise ShapeError(op=name, expected="at least one element to reduce",
                         got=f"shape {x.shape} over axes {checked}",
                         hint=f"The {name} of nothing is undefined: test for it, or pad with a value for it")
    return node(op, (x,), checked, tensor_type(shape, x.dtype, x.device))


def scan(name: ops.Running, x: Node, axis: int) -> Node:
    """What the elements of `x` up to each place along `axis` give, combined by `name`.

    Halves are added and multiplied in float32 and rounded once. DTypeError for bool.
    """
    if x.dtype.kind == "b":
        raise DTypeError(op="scan", expected="a number dtype", got="bool", hint="cast first")
    if x.shape[axis] < 2:
        return x
    wide = x.dtype if name in ("MAX", "MIN") else dtypes.accumulator_dtype(x.dtype)
    made = node(ops.SCAN, (cast(x, wide),), ops.Scan(name, axis), tensor_type(x.shape, wide, x.device))
    return cast(made, x.dtype)


# ---- movement ----------------------------------------------------------------------------------------------
def _moved(op: Op, x: Node, arg: Any, shape: Shape) -> Node:
    kind = x.type
    kind = tensor_type(shape, kind.dtype, kind.device)
    if x.op is ops.CONST and op not in ops.PADDING:
        return node(ops.CONST, (), x.arg, kind)
    return node(op, (x,), arg, kind)


def reshape(x: Node, shape: Sequence[object]) -> Node:
    """The same elements in row-major order as `shape`; one -1 is worked out."""
    return reshaped(x, resolve_reshape("reshape", x.shape, shape))


def reshaped(x: Node, shape: Shape) -> Node:
    """As `reshape`, to a shape that is known to fit."""
    if x.op is ops.RESHAPE:
        x = x.src[0]
    return x if shape == x.type.shape else _moved(ops.RESHAPE, x, shape, shape)


def permute(x: Node, order: Sequence[object]) -> Node:
    """Axis i of the result is axis order[i] of `x`."""
    axes = tuple([check_axis("permute", axis, len(x.shape)) for axis in order]) if x.shape else ()
    if sorted(axes) != list(range(len(x.shape))):
        raise ShapeError(op="permute", expected=f"each of {len(x.shape)} axes once", got=str(tuple(order)),
                         hint="To exchange two axes: x.transpose(i, j)")
    return permuted(x, axes)


def permuted(x: Node, axes: tuple[int, ...]) -> Node:
    """As `permute`, by axes that are known to be each once."""
    if x.op is ops.PERMUTE:
        inner = x.arg
        x, axes = x.src[0], tuple([inner[axis] for axis in axes])
    if axes == tuple(range(len(axes))):
        return x
    shape = x.type.shape
    return _moved(ops.PERMUTE, x, axes, tuple([shape[axis] for axis in axes]))


def expand(x: Node, shape: Sequence[object], op: str = "expand") -> Node:
    """Axes of size 1 repeated to `shape` (same rank); -1 keeps a size."""
    if len(shape) != len(x.shape):
        raise ShapeError(op=op, expected=f"{len(x.shape)} dimensions, as {x.shape} has",
                         got=str(tuple(shape)))
    new = check_shape(op, [old if dim == -1 else dim for old, dim in zip(x.shape, shape, strict=True)])
    if any(old not in (1, dim) for old, dim in zip(x.shape, new, strict=True)):
        raise ShapeError(op=op, expected=f"a shape to which {x.shape} broadcasts", got=str(new))
    if new == x.shape:
        return x
    if x.op is ops.EXPAND:
        x = x.src[0]
    return _moved(ops.EXPAND, x, new, new)


def slice(x: Node, parts: Sequence[tuple[int, int, int]]) -> Node:
    """(start, size, step) per axis, already in range; step >= 1."""
    if len(parts) != len(x.shape):
        raise ShapeError(op="slice", expected=f"{len(x.shape)} slices", got=str(len(parts)))
    for dim, (start, size, step) in zip(x.shape, parts, strict=True):
        if start < 0 or size < 0 or step < 1 or (size and start + (size - 1) * step >= dim):
            raise ShapeError(op="slice", expected=f"a slice within {x.shape}", got=str(tuple(parts)))
    checked = tuple([(start, size, step) if size > 1 else (start if size else 0, size, 1)
                     for start, size, step in parts])
    shape = tuple([size for _, size, _ in checked])
    return x if shape == x.shape else _moved(ops.SLICE, x, checked, shape)


def flip(x: Node, axes: object) -> Node:
    """`x` reversed along `axes` (None: all)."""
    checked = tuple([axis for axis in check_axes("flip", axes, len(x.shape)) if x.shape[axis] > 1])
    return _moved(ops.FLIP, x, checked, x.shape) if checked else x


def pad(x: Node, widths: Sequence[tuple[int, int]]) -> Node:
    """Zeros around: (before, after) per axis, none negative."""
    checked = tuple([(int(before), int(after)) for before, after in widths])
    if len(checked) != len(x.shape) or any(before < 0 or after < 0 for before, after in checked):
        raise ShapeError(op="pad", expected=f"(before, after) of at least 0 for each of {len(x.shape)} axes",
                         got=str(checked))
    if not any(before or after for before, after in checked):
        return x
    shape = tuple([dim + before + after for dim, (before, after) in zip(x.shape, checked, strict=True)])
    return _moved(ops.PAD, x, checked, shape)


def window(x: Node, rows: Sequence[tuple[int, int, int, int]], op: str = "window") -> Node:
    """Sliding windows along axes: rows of (axis, size, stride, dilation), each axis once.

    An axis of n becomes one of (n - (size - 1) * dilation - 1) // stride + 1 positions; the windows' own axes
    are appended in the order of the rows.
    """
    checked = tuple([(int(axis), int(size), int(stride), int(dilation))
                     for axis, size, stride, dilation in rows])
    if len({axis for axis, _, _, _ in checked}) != len(checked):
        raise ShapeError(op=op, expected="each axis once", got=str([axis for axis, _, _, _ in checked]))
    for axis, size, stride, dilation in checked:
        if size < 1 or stride < 1 or dilation < 1:
            raise ShapeError(op=op, expected="a size, a stride and a dilation of at least 1",
                             got=f"size {size}, stride {stride}, dilation {dilation} along axis {axis}")
        reach = (size - 1) * dilation + 1
        if reach > x.shape[axis]:
            raise ShapeError(op=op, got=f"shape {x.shape}",
                             expected=f"at least {reach} elements along axis {axis}: a window of {size} with "
                                      f"dilation {dilation} covers as many",
                             hint="Use a smaller window, or pad the input")
    if not checked:
        return x
    return _moved(ops.WINDOW, x, checked, result_shape("window", checked, x.shape))


def fold(x: Node, rows: Sequence[tuple[int, int, int, int]], shape: Shape) -> Node:
    """Windows, as `window(y, rows)` has them of a `y` of this shape, summed back into that shape."""
    if x.shape != result_shape("window", rows, shape):
        raise ShapeError(op="fold", expected=f"windows {tuple(rows)} of shape {shape}", got=str(x.shape))
    return node(ops.FOLD, (x,), (tuple(rows), shape), tensor_type(shape, x.dtype, x.device)) if rows else x


def skew(x: Node, rows: Sequence[tuple[int, int, int, int, int]]) -> Node:
    """Axes read along others: rows of (axis, by, step, offset, size); see the op."""
    checked = tuple([(int(axis), int(by), int(step), int(offset), int(size))
                     for axis, by, step, offset, size in rows])
    axes, by = {row[0] for row in checked}, {row[1] for row in checked}
    if len(axes) != len(checked) or axes & by or any(row[4] < 0 for row in checked):
        raise ShapeError(op="skew", expected="each axis once, none by a skewed one, sizes of at least 0",
                         got=str(checked))
    return _moved(ops.SKEW, x, checked, result_shape("skew", checked, x.shape)) if checked else x


Step = tuple[str, Any]
_MOVES: Final[dict[str, Callable[..., Node]]] = {
    "reshape": reshape, "permute": permute, "expand": expand, "slice": slice, "flip": flip, "pad": pad,
    "window": window, "skew": skew}


def move(x: Node, steps: Sequence[Step]) -> Node:
    """Apply movement steps ((name, argument), ...) one after another."""
    for name, arg in steps:
        x = _MOVES[name](x, arg)
    return x


def update(base: Node, value: Node, view: tuple[Step, ...], op: str = "setitem") -> Node:
    """`base` with `value` (cast and broadcast) written at the basic view `view` of it."""
    target = move(base, view)
    same_device(op, base, value)
    value = broadcast_to(cast(value, base.dtype), target.shape, op)
    return node(ops.UPDATE, (base, value), view, base.type)


def gather(x: Node, index: Node, axis: int, check: ops.Check | str | None = "gather", *,
           unique: bool = False) -> Node:
    """`x` at the positions `index` along `axis`; ranks and the sizes of other axes are equal.

    check: what errors call it, and perhaps the axis; None where every index is known to be in range.
    unique: no index occurs twice along the axis.
    """
    check = ops.Check(check, axis) if isinstance(check, str) else check
    _check_index(check.op if check else "gather", x, index, axis)
    arg = ops.Gather(axis, check, unique)
    return node(ops.GATHER, (x, index), arg, tensor_type(index.shape, x.dtype, x.device))


def _check_index(op: str, x: Node, index: Node, axis: int) -> None:
    """`index` selects along `axis` of what has the shape and device of `x`."""
    same_device(op, x, index)
    if not index.dtype.is_int:
        raise DTypeError(op=op, expected="integer indices", got=index.dtype.name)
    expected = (*x.shape[:axis], *index.shape[axis:axis + 1], *x.shape[axis + 1:])
    if index.shape != expected:
        raise ShapeError(op=op, expected=f"indices of shape {x.shape} but for axis {axis}",
                         got=str(index.shape))
    if x.shape[axis] == 0 and index.type.size:
        raise TensorIndexError(op=op, expected=f"no index on axis {axis} of size 0", got=str(index.shape))


def scatter(base: Node, index: Node, value: Node, axis: int, mode: ops.Mode = "SET",
            view: tuple[Step, ...] = (), check: ops.Check | str | None = "scatter", *,
            unique: bool = False) -> Node:
    """`base` with `value` (cast and broadcast) written, or combined by `mode`, at `index` along `axis` of its
    basic view `view`. Halves are combined in float32 and rounded once. check, unique: as in `gather`."""
    check = ops.Check(check, axis) if isinstance(check, str) else check
    op, target = check.op if check else "scatter", move(base, view)
    _check_index(op, target, index, axis)
    same_device(op, base, value)
    value = broadcast_to(cast(value, base.dtype), index.shape, op)
    wide = base.dtype if mode == "SET" else dtypes.accumulator_dtype(base.dtype)
    arg = ops.Scatter(axis, mode, view, check, unique)
    made = node(ops.SCATTER, (cast(base, wide), index, cast(value, wide)), arg,
                tensor_type(base.shape, wide, base.device))
    return cast(made, base.dtype)


def tally(index: Node, size: int) -> Node:
    """Of integers in 0..size-1 (nothing checks that), row by row along the last axis: see the op."""
    *rows, length = index.shape
    if length == 1:
        alone = cast(binary(ops.EQ, index, iota(size, index.dtype, index.device)), dtypes.int32)
        return pad(alone, (*[(0, 0) for _ in rows], (1, 0)))
    shape = (*rows, length + size)
    return node(ops.TALLY, (index,), size, tensor_type(shape, dtypes.int32, index.device))


def random_bits(shape: Shape, key0: Node, key1: Node, counter: Node) -> Node:
    """uint32 random bits; `key0`, `key1` and `counter` are 0-d uint32 nodes."""
    return node(ops.RANDOM_BITS, (key0, key1, counter), None, tensor_type(shape, dtypes.uint32, key0.device))
